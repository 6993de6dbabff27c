//! What a pod shall be, as the API last said.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::Notify;

/// What the pod shall be, as the watch last said; shared between the agent and the pod's task.
pub(crate) struct Desired {
    latest: Mutex<Latest>,
    pub(crate) wake: Arc<Notify>,
}

#[derive(Clone)]
struct Latest {
    object: Arc<Value>,
    /// The object is gone from the API.
    removed: bool,
    /// The node ends it for a more important one.
    preempted: bool,
}

impl Desired {
    pub(crate) fn new(object: Value) -> Desired {
        let latest = Latest {
            object: Arc::new(object),
            removed: false,
            preempted: false,
        };
        Desired {
            latest: Mutex::new(latest),
            wake: Arc::new(Notify::new()),
        }
    }

    /// Takes a version of the pod, unless a newer one is known already.
    pub(crate) fn set(&self, object: Value) {
        if self.keep(object) {
            self.wake.notify_one();
        }
    }

    pub(super) fn keep(&self, object: Value) -> bool {
        let mut latest = self.latest.lock().expect("no panic while locked");
        let newer = version(&object) > version(&latest.object);
        if newer {
            latest.object = Arc::new(object);
        }
        newer
    }

    pub(crate) fn remove(&self) {
        self.latest.lock().expect("no panic while locked").removed = true;
        self.wake.notify_one();
    }

    /// The node ends the pod for a more important one.
    pub(crate) fn preempt(&self) {
        self.latest.lock().expect("no panic while locked").preempted = true;
        self.wake.notify_one();
    }

    pub(super) fn is_preempted(&self) -> bool {
        self.latest.lock().expect("no panic while locked").preempted
    }

    /// The pod as the API has it.
    pub(crate) fn object(&self) -> Arc<Value> {
        self.latest
            .lock()
            .expect("no panic while locked")
            .object
            .clone()
    }

    pub(super) fn is_leaving(&self) -> bool {
        let latest = self.latest.lock().expect("no panic while locked");
        latest.removed
            || latest
                .object
                .pointer("/metadata/deletionTimestamp")
                .is_some_and(|at| !at.is_null())
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.latest.lock().expect("no panic while locked").removed
    }
}

pub(crate) fn version(object: &Value) -> u64 {
    object
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}
