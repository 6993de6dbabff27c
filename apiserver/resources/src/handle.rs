//! How everything else holds a kind: built-in kinds live as long as the program, others as long as they are held.

use std::ops::Deref;
use std::sync::Arc;

use crate::resource::Resource;

/// A [`Resource`] that is held. Cheap to clone; nothing is counted for built-in kinds.
#[derive(Clone)]
pub struct Handle(Held);

#[derive(Clone)]
enum Held {
    BuiltIn(&'static Resource),
    Custom(Arc<Resource>),
}

impl Deref for Handle {
    type Target = Resource;

    fn deref(&self) -> &Resource {
        match &self.0 {
            Held::BuiltIn(resource) => resource,
            Held::Custom(resource) => resource,
        }
    }
}

impl From<&'static Resource> for Handle {
    fn from(resource: &'static Resource) -> Handle {
        Handle(Held::BuiltIn(resource))
    }
}

impl From<Resource> for Handle {
    fn from(resource: Resource) -> Handle {
        Handle(Held::Custom(Arc::new(resource)))
    }
}
