//! A member that runs: its parts are started in order, and stopped in the reverse one.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use apiserver::ApiServer;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Prepared, api_config, run_agents, stop_signal, store_config};
use crate::audit_log::AuditLog;
use crate::cli::ServerArgs;
use crate::{access, certificates, control_plane, pki};

/// How long agents and open requests may take to end, and then the store to hand over and flush.
const DRAIN: Duration = Duration::from_secs(5);
const STORE_STOP: Duration = Duration::from_secs(15);

/// The parts of a member, to be stopped by [`Running::stop`].
pub(super) struct Running {
    store: Arc<store::Node>,
    api: Arc<ApiServer>,
    stop: CancellationToken,
    agents: JoinHandle<Result<()>>,
    api_tasks: apiserver::Tasks,
    serving: JoinHandle<()>,
    etcd: Option<JoinHandle<()>>,
    /// Follows the keys of the encryption at rest.
    reading: JoinHandle<()>,
    /// Follows the certificates.
    following: JoinHandle<()>,
    audit_log: Option<Arc<AuditLog>>,
}

impl Running {
    /// Starts the store, the API, and then what is a client of it. An error where one of them cannot.
    pub(super) async fn start(args: &ServerArgs, prepared: Prepared) -> Result<Running> {
        let Prepared {
            pems,
            advertise,
            api_listener,
            etcd_listener,
            tls,
            request_header,
            scheduler_config,
            encryption,
            keys: (holds, text),
            audit: (auditing, audit_log),
            signing,
            controllers,
        } = prepared;
        // Before the store, which an error shall not leave behind.
        let config = apiserver::Config {
            request_header,
            encryption: holds,
            auditing,
            ..api_config(args, &pems, advertise)?
        };
        // Every Secret is in it.
        pki::create_private_dir(&args.data_dir)?;
        let store = store::Node::start(store_config(args, &pems))
            .await
            .context("the store does not start")?;
        let stop = CancellationToken::new();
        let api = start_api(args, &store, config).await?;
        let api_tasks = api.start();
        let reading = tokio::spawn(encryption.follow(text, api.clone(), stop.clone()));
        let serving = tokio::spawn(apiserver::serve_tls(
            api_listener,
            tls.subscribe(),
            api.front(),
            apiserver::ServeLimits::default(),
            stop.clone(),
        ));
        let (etcd_tls, etcd_listener) = etcd_listener.unzip();
        let etcd = etcd_listener.zip(etcd_tls.as_ref()).map(|(listener, tls)| {
            tokio::spawn(store::etcd::serve(
                listener,
                tls.subscribe(),
                store.clone(),
                stop.clone().cancelled_owned(),
            ))
        });
        info!(name = %args.name, api = %args.api_listen, peers = %args.peer_listen, "member started");
        let ca = watch::Sender::new(pems.ca.clone());
        let agents = tokio::spawn(run_agents(
            args.clone(),
            api.clone(),
            ca.subscribe(),
            control_plane::Settings {
                scheduler_config,
                controllers: Arc::new(controllers),
            },
            stop.clone(),
        ));
        let in_use = certificates::InUse {
            api: api.clone(),
            store: store.clone(),
            tls,
            etcd_tls,
            ca,
            signing: (args.controllers.signing_files(&args.pki_dir), signing),
            audit_policy: args.audit.audit_policy_file.clone(),
            audit_webhook: args.audit.webhook.audit_webhook_config_file.clone(),
        };
        let following = tokio::spawn(certificates::follow(
            args.pki_dir.clone(),
            args.access.clone(),
            in_use,
            stop.clone(),
        ));
        Ok(Running {
            store,
            api,
            stop,
            agents,
            api_tasks,
            serving,
            etcd,
            reading,
            following,
            audit_log,
        })
    }

    /// Waits for the wish to stop, or for the reason why this member cannot go on.
    pub(super) async fn until_end(&mut self) -> Option<String> {
        tokio::select! {
            biased;
            name = stop_signal() => {
                info!(signal = name, "stopping");
                None
            }
            reason = self.store.failed() => Some(format!("the store failed: {reason}")),
            ended = &mut self.agents => Some(match ended {
                Ok(Err(error)) => format!("{error:#}"),
                Ok(Ok(())) => "the agents ended".into(),
                Err(error) => format!("the agents failed: {error}"),
            }),
        }
    }

    /// Ends everything, each part within its time.
    pub(super) async fn stop(self) {
        let (store, agents, etcd) = (self.store, self.agents, self.etcd);
        // First of all: whoever writes through the others shall not wait for what ends here.
        if !store.hand_over().await {
            info!("no other member can lead");
        }
        self.stop.cancel();
        let agents_end = async {
            if !agents.is_finished() {
                within(DRAIN, "the agents", agents).await;
            }
        };
        let etcd_end = async {
            if let Some(etcd) = etcd {
                within(DRAIN, "etcd clients", etcd).await;
            }
        };
        // Side by side, so that a process that hangs everywhere still ends before its supervisor loses patience.
        tokio::join!(
            agents_end,
            within(DRAIN, "the API's tasks", self.api_tasks.stop()),
            within(DRAIN, "open requests", self.serving),
            within(DRAIN, "the certificates", self.following),
            within(DRAIN, "the keys' reader", self.reading),
            etcd_end,
        );
        within(DRAIN, "the audit webhook", self.api.close_audit()).await;
        if let Some(log) = self.audit_log {
            let closing = tokio::task::spawn_blocking(move || log.close());
            within(DRAIN, "the audit log", closing).await;
        }
        within(STORE_STOP, "the store", store.shutdown()).await;
    }
}

/// The API server, which knows who may what and whom it tells of requests. The store is stopped where files do not say it.
async fn start_api(
    args: &ServerArgs,
    store: &Arc<store::Node>,
    config: apiserver::Config,
) -> Result<Arc<ApiServer>> {
    let api = ApiServer::new(store.clone(), config);
    if let Err(error) = take_files(&api, args) {
        within(STORE_STOP, "the store", store.shutdown()).await;
        return Err(error);
    }
    Ok(api)
}

fn take_files(api: &ApiServer, args: &ServerArgs) -> Result<()> {
    access::take(api, &args.access)?;
    let webhook = &args.audit.webhook;
    if let Some(file) = &webhook.audit_webhook_config_file {
        api.audit_to(file, webhook.batches())
            .map_err(|error| anyhow!("--audit-webhook-config-file: {error}"))?;
    }
    Ok(())
}

async fn within<F: Future>(patience: Duration, what: &str, stopping: F) {
    if tokio::time::timeout(patience, stopping).await.is_err() {
        warn!(what, seconds = patience.as_secs(), "did not stop in time");
    }
}
