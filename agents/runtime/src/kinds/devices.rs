//! Devices, and claims on them.

use super::{Kind, ObjectMeta, Taint, fields, kind};
use crate::resource_ref::{
    RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS, RESOURCE_SLICES, ResourceRef,
};
use serde_json::Value;

fields! {
    /// A claim on devices.
    pub struct ResourceClaim {
        pub metadata: ObjectMeta,
        pub status: ResourceClaimStatus,
    }
    /// Which devices the claim has got, and who may use them.
    pub struct ResourceClaimStatus {
        pub allocation: Option<Value>,
        pub reserved_for: Vec<Value>,
    }
    /// What claims are made from: `metadata` and `spec` of each.
    pub struct ResourceClaimTemplate {
        pub metadata: ObjectMeta,
        pub spec: Value,
    }
    /// Devices that a driver offers.
    pub struct ResourceSlice {
        pub metadata: ObjectMeta,
        pub spec: ResourceSliceSpec,
    }
    /// Whose devices, and which.
    pub struct ResourceSliceSpec {
        pub driver: String,
        pub pool: ResourcePool,
        pub devices: Vec<SliceDevice>,
    }
    /// What the slice is a part of; only its slices of the newest generation count.
    pub struct ResourcePool {
        pub name: String,
        pub generation: i64,
    }
    /// A device.
    pub struct SliceDevice {
        pub name: String,
        pub taints: Vec<Taint>,
    }
}
kind!(ResourceClaim, RESOURCE_CLAIMS);
kind!(ResourceClaimTemplate, RESOURCE_CLAIM_TEMPLATES);

impl Kind for ResourceSlice {
    fn resource() -> ResourceRef {
        RESOURCE_SLICES
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    /// The pool: who asks about a device knows that, and a pool is of one node or of several.
    fn node_name(&self) -> &str {
        &self.spec.pool.name
    }
}

impl ResourceClaim {
    /// Whether a consumer of this uid may use the devices.
    pub fn is_reserved_for(&self, uid: &str) -> bool {
        let mut consumers = self.status.reserved_for.iter();
        consumers.any(|consumer| consumer["uid"] == uid)
    }
}
