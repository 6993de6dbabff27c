//! A setting that is replaced while requests use it: certificates, authorities, and what files say of users and rights.

use std::sync::{Arc, PoisonError, RwLock};

/// The newest value. Whoever has taken one goes on with it.
pub(crate) struct Held<T>(RwLock<Arc<T>>);

impl<T> Held<T> {
    pub(crate) fn new(value: T) -> Held<T> {
        Held(RwLock::new(Arc::new(value)))
    }

    pub(crate) fn get(&self) -> Arc<T> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

impl<T: Default> Default for Held<T> {
    fn default() -> Held<T> {
        Held::new(T::default())
    }
}
