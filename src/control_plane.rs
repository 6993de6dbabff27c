//! The scheduler and the controllers inside a server process: clients of the API like any other, but by a call instead
//! of a connection, with the identity that their certificates would give them.

use std::sync::Arc;

use agents::{AgentContext, Body, BoxError, Client, ControllerOptions, InProcessService};
use apiserver::ApiServer;
use auth::User;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// What the agents are told besides where the API is.
pub(crate) struct Settings {
    /// The text of a KubeSchedulerConfiguration; empty for the default.
    pub(crate) scheduler_config: Arc<str>,
    pub(crate) controllers: Arc<ControllerOptions>,
}

/// Runs every agent until `stop`. They start when the API can serve them, and begin anew when the cluster's authorities
/// are others: it is they who tell the namespaces.
pub(crate) async fn run(
    api: &Arc<ApiServer>,
    member: &str,
    mut ca_pem: watch::Receiver<String>,
    settings: &Settings,
    stop: &CancellationToken,
) {
    tokio::select! {
        biased;
        () = stop.cancelled() => return,
        () = api.ready() => {}
    }
    while !stop.is_cancelled() {
        let pem = ca_pem.borrow_and_update().clone();
        let round = stop.child_token();
        let agents = run_agents(api, member, &pem, settings, &round);
        tokio::pin!(agents);
        tokio::select! {
            biased;
            Ok(()) = ca_pem.changed() => {
                tracing::info!("the cluster's authorities have changed: the agents begin anew");
                round.cancel();
                agents.await;
            }
            () = &mut agents => return,
        }
    }
}

/// One round, until `stop`.
async fn run_agents(
    api: &Arc<ApiServer>,
    member: &str,
    ca_pem: &str,
    settings: &Settings,
    stop: &CancellationToken,
) {
    let running = agents::ALL.iter().map(|agent| {
        let context = AgentContext {
            client: client(api, agent.user),
            identity: format!("{member}_{:016x}", rand::random::<u64>()),
            cluster_ca_pem: ca_pem.to_owned(),
            scheduler_config: settings.scheduler_config.clone(),
            controllers: settings.controllers.clone(),
            stop: stop.clone(),
        };
        (agent.run)(context)
    });
    futures::future::join_all(running).await;
}

/// A client that reaches the API by a call, as `user`.
fn client(api: &Arc<ApiServer>, user: &'static str) -> Client {
    // The controllers do what dozens of service accounts do in Kubernetes; here they are one trusted part of the server.
    let groups: &[&str] = if user == "system:kube-controller-manager" {
        &["system:masters"]
    } else {
        &[]
    };
    let user = Arc::new(User::new(user, groups.iter().copied()).authenticated());
    let front = api.front();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (front, user) = (front.clone(), user.clone());
        async move {
            let mut request = request.map(axum_body);
            request.extensions_mut().insert(user);
            let response = front.oneshot(request).await?;
            Ok::<Response<Body>, BoxError>(
                response.map(|body| body.map_err(BoxError::from).boxed_unsync()),
            )
        }
    });
    Client::in_process(InProcessService::new(service))
}

fn axum_body(body: Body) -> apiserver::Body {
    apiserver::Body::new(body)
}
