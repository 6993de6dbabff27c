//! What a call may be asked with.

use serde_json::Value;

/// Form of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 7386.
    Merge,
    /// Kubernetes' strategic merge.
    Strategic,
    /// RFC 6902.
    Json,
}

impl PatchType {
    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Json => "application/json-patch+json",
        }
    }
}

/// What happens to dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents go after the object.
    Background,
    /// Dependents go before the object.
    Foreground,
    /// Dependents stay.
    Orphan,
}

impl Propagation {
    /// The name in `DeleteOptions`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

/// Options of a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteParams {
    /// Seconds of grace; 0 removes at once.
    pub grace_seconds: Option<i64>,
    /// Only this incarnation.
    pub uid: Option<String>,
    /// Only this version.
    pub resource_version: Option<String>,
    /// Dependents.
    pub propagation: Option<Propagation>,
}

impl DeleteParams {
    /// Only the incarnation `uid`.
    pub fn uid(uid: impl Into<String>) -> Self {
        Self {
            uid: Some(uid.into()),
            ..Self::default()
        }
    }

    pub(super) fn body(&self) -> Value {
        let mut body = serde_json::json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(seconds) = self.grace_seconds {
            body["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(policy) = self.propagation {
            body["propagationPolicy"] = policy.as_str().into();
        }
        if let Some(uid) = &self.uid {
            body["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(version) = &self.resource_version {
            body["preconditions"]["resourceVersion"] = version.as_str().into();
        }
        body
    }
}

/// Options of a list.
#[derive(Clone, Debug, Default)]
pub struct ListParams {
    /// Label selector text.
    pub label_selector: String,
    /// Field selector text.
    pub field_selector: String,
    /// Page size; 0 for everything at once.
    pub limit: u32,
    /// Token of the next page.
    pub continue_token: String,
    /// `None` for most recent (a quorum read), `0` for any.
    pub resource_version: Option<String>,
    /// Ask for `PartialObjectMetadata` only.
    pub metadata_only: bool,
}

/// Options of a watch.
#[derive(Clone, Debug, Default)]
pub struct WatchParams {
    /// Label selector text.
    pub label_selector: String,
    /// Field selector text.
    pub field_selector: String,
    /// Where to start; `None` from now on.
    pub resource_version: Option<String>,
    /// Stream the present state first, closed by a marked bookmark.
    pub send_initial_events: bool,
    /// Server side end of the watch, seconds.
    pub timeout_seconds: u32,
    /// Ask for `PartialObjectMetadata` only.
    pub metadata_only: bool,
}
