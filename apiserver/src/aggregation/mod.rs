//! Group versions that other servers serve: an APIService names the Service, and this server passes on what is asked of
//! the version, says who asks, and shows in its own discovery and OpenAPI what the other server says of itself.
//!
//! Who asks is in headers that the other server believes because of the certificate on the connection: it is of an
//! authority that issues nothing else, and which the other server finds in `kube-system/extension-apiserver-authentication`.

mod answer;
mod availability;
pub(crate) mod discovered;
mod pass;
mod registered;
mod remote;
mod state;

use std::sync::Arc;

use crate::ApiServer;
use crate::request::RequestInfo;

pub(crate) use discovered::Discovered;
pub(crate) use pass::pass;
pub(crate) use state::{Aggregation, Served};

pub(crate) const GROUP: &str = "apiregistration.k8s.io";
pub(crate) const PLURAL: &str = "apiservices";

/// Whether a group version stays with this server whatever is registered for it: it cannot do without.
fn is_own(group: &str, version: &str) -> bool {
    if resources::may_be_taken_over(group) {
        return false;
    }
    let mut groups = resources::groups().into_iter();
    groups.any(|one| one.name == group && one.versions.contains(&version))
}

/// Who serves a request, where it is not this server.
pub(crate) fn server_of(server: &ApiServer, info: &RequestInfo) -> Option<Arc<Served>> {
    if info.is_resource {
        return server.aggregation.find(&info.group, &info.version);
    }
    let segments: Vec<&str> = info.path.split('/').filter(|one| !one.is_empty()).collect();
    match segments.as_slice() {
        ["apis", group, version] => server.aggregation.find(group, version),
        _ => None,
    }
}

/// Keeps APIServices in step with what is served, and asks other servers how they are.
pub(crate) async fn run(server: Arc<ApiServer>) {
    server.ready().await;
    tokio::join!(registered::run(&server), availability::run(&server));
}
