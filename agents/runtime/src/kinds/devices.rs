//! Claims on devices.

use super::{ObjectMeta, fields, kind};
use crate::resource_ref::{RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS};
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
}
kind!(ResourceClaim, RESOURCE_CLAIMS);
kind!(ResourceClaimTemplate, RESOURCE_CLAIM_TEMPLATES);

impl ResourceClaim {
    /// Whether a consumer of this uid may use the devices.
    pub fn is_reserved_for(&self, uid: &str) -> bool {
        let mut consumers = self.status.reserved_for.iter();
        consumers.any(|consumer| consumer["uid"] == uid)
    }
}
