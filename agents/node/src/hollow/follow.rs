//! Hands what hollow nodes follow on to their engine, one by one, since there may be a hundred thousand, and waits while the
//! engine is busy.

use tokio::sync::mpsc;

use crate::follow::{Listener, Object, Step};

/// What becomes of a step for whom the engine sees.
type Convert<T, O> = Box<dyn Fn(Step<O>) -> Option<T> + Send>;

/// Who takes the steps, in which form.
pub(super) struct Sink<T, O> {
    pub(super) sender: mpsc::Sender<T>,
    pub(super) convert: Convert<T, O>,
}

impl<T: Send, O: Object> Listener for Sink<T, O> {
    type Object = O;

    fn take(&mut self, step: Step<O>) -> impl Future<Output = bool> + Send {
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
