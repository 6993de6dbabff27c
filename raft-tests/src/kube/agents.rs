//! The scheduler and the controllers, in each member's process as in the product: clients of the API by a call.

use std::sync::Arc;

use agents::{AgentContext, BoxError, Client, InProcessService};
use apiserver::ApiServer;
use auth::User;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::history::Deed;
use super::scribe::Scribe;

/// Runs every agent of the control plane from when the API serves until `stop`. To be called on the member's machine.
pub async fn run(api: Arc<ApiServer>, member: u64, scribe: Arc<Scribe>, stop: CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => return,
        () = api.ready() => {}
    }
    let running = agents::ALL.iter().map(|agent| {
        let identity = format!("m{member}_{:016x}", host::random::<u64>());
        let watcher = Watcher {
            scribe: scribe.clone(),
            member,
            who: identity.clone(),
        };
        let context = AgentContext {
            client: client(&api, agent.user, watcher),
            identity,
            cluster_ca_pem: "CA".into(),
            scheduler_config: "".into(),
            controllers: Default::default(),
            stop: stop.clone(),
        };
        (agent.run)(context)
    });
    futures::future::join_all(running).await;
}

/// As the server of the product makes it, and with a look at what the controllers write.
fn client(api: &Arc<ApiServer>, user: &'static str, watcher: Watcher) -> Client {
    let controls = user == "system:kube-controller-manager";
    let groups: &[&str] = match controls {
        true => &[auth::user::GROUP_MASTERS],
        false => &[],
    };
    let user = User::new(user, groups.iter().copied()).authenticated();
    let front = api.front();
    let watcher = Arc::new(watcher);
    let service = tower::service_fn(move |request: Request<agents::Body>| {
        let (front, user, watcher) = (front.clone(), user.clone(), watcher.clone());
        async move {
            let mut request = request.map(apiserver::Body::new);
            request.extensions_mut().insert(user);
            let called = watcher.scribe.now();
            let path = request.uri().path();
            let what = format!("{} {path}", request.method());
            let is_deed = controls
                && *request.method() != Method::GET
                && !path.contains("/leases")
                && !path.contains("/events");
            let response = front.oneshot(request).await?;
            let response = response.map(|body| body.map_err(BoxError::from).boxed_unsync());
            match is_deed && response.status().is_success() {
                true => watcher.take(called, what, response).await,
                false => Ok::<Response<agents::Body>, BoxError>(response),
            }
        }
    });
    Client::in_process(InProcessService::new(service))
}

/// Writes down what one life of the controllers does.
struct Watcher {
    scribe: Arc<Scribe>,
    member: u64,
    who: String,
}

impl Watcher {
    async fn take(
        &self,
        called: u64,
        what: String,
        response: Response<agents::Body>,
    ) -> Result<Response<agents::Body>, BoxError> {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let object: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let version = object["metadata"]["resourceVersion"].as_str();
        if let Some(revision) = version.and_then(|text| text.parse().ok()) {
            let deed = Deed {
                who: self.who.clone(),
                member: self.member,
                called,
                returned: self.scribe.now(),
                revision,
                what,
            };
            self.scribe.change(|history| history.deeds.push(deed));
        }
        let body = Full::new(bytes).map_err(|never| match never {});
        Ok(Response::from_parts(parts, body.boxed_unsync()))
    }
}
