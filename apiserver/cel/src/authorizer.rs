//! The hook by which expressions ask what a user may do.

/// A question of an expression.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Check {
    /// A path that is no resource; empty for a resource.
    pub path: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub verb: String,
    pub field_selector: String,
    pub label_selector: String,
    /// Namespace and name of the service account that is asked about, instead of the user of the request.
    pub service_account: Option<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    /// Empty when the question could be answered.
    pub error: String,
}

pub trait Authorizer {
    fn decide(&self, check: &Check) -> Decision;
}
