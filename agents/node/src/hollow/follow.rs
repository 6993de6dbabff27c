//! Hands what hollow nodes follow on to their engine, one by one, since there may be a hundred thousand, and waits while the
//! engine is busy.

use tokio::sync::mpsc;

use crate::follow::{Listener, Step};

/// Who takes the steps, in which form.
pub(super) struct Sink<T, F> {
    pub(super) sender: mpsc::Sender<T>,
    pub(super) convert: F,
}

impl<T: Send, F: Fn(Step) -> Option<T> + Send> Listener for Sink<T, F> {
    const READS_MANAGED_FIELDS: bool = false;

    fn take(&mut self, step: Step) -> impl Future<Output = bool> + Send {
        let told = (self.convert)(step);
        let sender = &self.sender;
        async move {
            match told {
                Some(told) => sender.send(told).await.is_ok(),
                None => !sender.is_closed(),
            }
        }
    }
}
