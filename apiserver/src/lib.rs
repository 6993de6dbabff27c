//! The API server: Kubernetes' REST API over any [`kv::Store`].
//!
//! A request goes through one pipeline (`handler`), reads come from caches that one watch of the store feeds (`world`,
//! `cache`), writes are optimistic transactions (`write`), and everything that is known about kinds stands in the
//! crate `resources`. Nothing here knows how the store replicates, and nothing but `serve` knows sockets: the server
//! is a plain service (`front`), so tests and the agents of the same process call it directly.
//!
//! ```text
//! serve ─► handler ─► authenticate ─► authorize ─► flow ─► verbs/* ─► admission ─► write ─► kv::Store
//!                                                            ▲                                  │
//!                                                            └──────── world/cache ◄── watch ───┘
//! ```

mod account_secret;
mod account_tokens;
mod admission;
mod aggregation;
mod as_of;
mod audit;
mod authenticate;
mod authorities;
mod authorize;
mod binding_batch;
mod body;
mod bootstrap;
mod cache;
mod chance;
mod claim_rights;
mod client_certificate;
mod clock;
mod codec;
mod compaction;
mod config;
mod config_file;
mod context;
mod conversion;
mod customs;
mod decode;
mod definitions;
mod discovery;
mod encryption;
mod endpoints;
mod entry;
mod event_ttl;
mod facts;
mod flow;
mod foreseen;
mod front;
mod handler;
mod health;
mod held;
mod interest;
mod key_pair;
mod kubelet;
mod managed;
mod message_bytes;
mod metrics;
mod negotiate;
mod oidc;
mod openapi;
mod outgoing;
mod packed;
mod port_forward;
mod prefer;
mod protobuf;
mod proxy;
mod quota_status;
mod read_version;
mod recent;
mod request;
mod requester;
mod rest;
mod reviews;
mod selection;
mod serve;
mod service_allocation;
mod spdy;
mod status;
mod subresources;
mod told;
mod tree;
mod trees;
mod usage;
mod verbs;
mod websocket;
mod world;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use audit::{AuditBatches, AuditPolicy, AuditPolicyError, AuditSink, Auditing};
/// The body type of requests to [`ApiServer::front`].
pub use axum::body::Body;
pub use client_certificate::{PeerCertificate, ask_client_certificate};
pub use config::{
    Config, FrontProxy, HISTORY, KubeletIdentity, RequestHeaderConfig, VERSION_MINOR, git_version,
};
pub use encryption::{Encryption, EncryptionError};
pub use front::Front;
pub use serve::{ServeLimits, serve_tls};
pub use service_allocation::check_service_cidr;

/// One API server over one member of the store. Shared by its service and its background tasks.
pub struct ApiServer {
    pub(crate) store: Arc<dyn kv::Store>,
    pub(crate) config: Config,
    pub(crate) world: Arc<world::World>,
    pub(crate) authenticator: authenticate::Authenticator,
    pub(crate) authorizer: authorize::Authorizer,
    pub(crate) webhooks: admission::Webhooks,
    pub(crate) policies: admission::Policies,
    pub(crate) quotas: admission::Queues,
    pub(crate) facts: admission::Facts,
    pub(crate) conversions: conversion::Conversions,
    pub(crate) account_tokens: account_tokens::AccountTokens,
    pub(crate) authorities: authorities::Authorities,
    pub(crate) auditors: audit::Auditors,
    audit_webhook: OnceLock<Arc<audit::AuditWebhook>>,
    pub(crate) metrics: metrics::Metrics,
    pub(crate) flow: flow::FlowControl,
    pub(crate) bodies: body::Budget,
    pub(crate) openapi: openapi::Documents,
    pub(crate) discovery: discovery::Documents,
    pub(crate) kubelets: kubelet::Kubelets,
    pub(crate) usage: usage::Scraper,
    pub(crate) aggregation: aggregation::Aggregation,
    pub(crate) leases: event_ttl::Leases,
    /// What was written last.
    pub(crate) trees: trees::Trees,
    /// Pods that were created last, for those that are like them.
    pub(crate) twins: verbs::create::Twins,
    /// Room for the deletion of the objects of definitions.
    pub(crate) emptying: Semaphore,
    pub(crate) started: health::Started,
    pub(crate) stopping: CancellationToken,
}

/// The background tasks of a server. Dropping it ends them.
pub struct Tasks {
    tasks: JoinSet<()>,
    stopping: CancellationToken,
    world: Arc<world::World>,
}

impl Tasks {
    /// Ends open watches, then the tasks.
    pub async fn stop(mut self) {
        self.end_requests();
        self.tasks.shutdown().await;
    }

    /// Ends whatever may take long.
    fn end_requests(&self) {
        self.stopping.cancel();
        // Watches look at the token when they are woken, and do not wait for it.
        self.world.caches().for_each(|cache| cache.rouse());
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.end_requests();
    }
}

/// The files that the kubeconfig of a webhook names, where `file` says `text`: certificates and tokens change without it. Reads
/// nothing.
pub fn files_of_kubeconfig(file: &Path, text: &str) -> Vec<PathBuf> {
    let directory = file.parent().unwrap_or(Path::new("."));
    outgoing::kubeconfig::files(text, directory)
}

/// The kubeconfigs that an AuthorizationConfiguration names, and the files that those name. Blocks while it reads the
/// kubeconfigs; what cannot be read names nothing.
pub fn files_of_authorization(text: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for file in authorize::config::kubeconfigs(text) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let named = files_of_kubeconfig(&file, &text);
        all.push(file);
        all.extend(named);
    }
    all
}

impl ApiServer {
    /// Nothing runs until [`ApiServer::start`].
    pub fn new(store: Arc<dyn kv::Store>, mut config: Config) -> Arc<ApiServer> {
        let encryption = std::mem::take(&mut config.encryption);
        let world = Arc::new(world::World::new(&resources::ALL, encryption));
        let metrics = metrics::Metrics::new(&world);
        Arc::new(ApiServer {
            authenticator: authenticate::Authenticator::new(&config),
            account_tokens: account_tokens::AccountTokens::new(&config),
            authorities: authorities::Authorities::new(&config),
            authorizer: authorize::Authorizer::new(&world),
            webhooks: admission::Webhooks::new(&world),
            policies: admission::Policies::new(&world),
            quotas: admission::Queues::default(),
            facts: admission::Facts::default(),
            auditors: audit::Auditors::new(config.auditing.take()),
            audit_webhook: OnceLock::new(),
            conversions: conversion::Conversions::default(),
            flow: flow::FlowControl::new(&world, config.seats, metrics.registry()),
            metrics,
            bodies: body::Budget::default(),
            openapi: openapi::Documents::default(),
            discovery: discovery::Documents::default(),
            kubelets: kubelet::Kubelets::new(&config),
            usage: usage::Scraper::default(),
            aggregation: aggregation::Aggregation::new(&world, config.front_proxy.clone()),
            leases: event_ttl::Leases::default(),
            trees: trees::Trees::default(),
            twins: verbs::create::Twins::new(&world),
            emptying: Semaphore::new(definitions::EMPTYING_MAX),
            started: health::Started::default(),
            stopping: CancellationToken::new(),
            store,
            config,
            world,
        })
    }

    /// Starts the caches, the bootstrap objects, the endpoints of the `kubernetes` Service, compaction, the counting of
    /// quotas and flow control. Returns at once; [`ApiServer::ready`] tells when clients can be served.
    pub fn start(self: &Arc<Self>) -> Tasks {
        let mut tasks = JoinSet::new();
        tasks.spawn(host::here(self.world.clone().follow(self.store.clone())));
        tasks.spawn(host::here(bootstrap::run(self.clone())));
        tasks.spawn(host::here(endpoints::run(self.clone())));
        tasks.spawn(host::here(compaction::run(self.clone())));
        tasks.spawn(host::here(rest::run(self.clone())));
        tasks.spawn(host::here(definitions::run(self.clone())));
        tasks.spawn(host::here(quota_status::run(self.clone())));
        tasks.spawn(host::here(aggregation::run(self.clone())));
        tasks.spawn(host::here(flow::run(self.clone())));
        Tasks {
            tasks,
            stopping: self.stopping.clone(),
            world: self.world.clone(),
        }
    }

    /// From now on certificates of these authorities name users, those of open connections included. An error where `ca_pem`
    /// has none that is usable: the former stay.
    pub fn trust_clients_of(&self, ca_pem: &str) -> Result<(), String> {
        self.authenticator.trust_clients_of(ca_pem)?;
        self.authorities.name_clients(ca_pem);
        Ok(())
    }

    /// From now on requests are passed on to servers of other API versions with this certificate, and those are told its
    /// authority. An error where it is not usable: the former stays.
    pub fn pass_on_as(&self, identity: &FrontProxy) -> Result<(), String> {
        self.aggregation.pass_on_as(identity)?;
        self.authorities.name_proxies(&identity.ca_pem);
        Ok(())
    }

    /// From now on tokens of service accounts are signed with the first key of this PEM. Its other keys, and those that were
    /// in use before, go on being accepted. On an error nothing changes.
    pub fn sign_tokens_with(&self, keys_pem: &str) -> Result<(), String> {
        self.account_tokens.take(keys_pem)
    }

    /// From now on these proxies name users. On an error nothing changes.
    pub fn trust_front_proxies(&self, config: &RequestHeaderConfig) -> Result<(), String> {
        self.authenticator.trust_front_proxies(config)
    }

    /// From now on this policy says what is told of which requests, in YAML. On an error the former does.
    pub fn take_audit_policy(&self, text: &str) -> Result<(), String> {
        let policy = AuditPolicy::parse(text).map_err(|error| error.to_string())?;
        let told = policy.tells_secrets();
        if !told.is_empty() {
            tracing::warn!(
                resources = told.join(","),
                "the audit policy has bodies of secret objects told: give them the level Metadata"
            );
        }
        self.auditors.take_policy(policy);
        Ok(())
    }

    /// From now on events go to the webhook that a kubeconfig file names, too. To be called once, of a server that tells of
    /// requests.
    pub fn audit_to(&self, file: &Path, batches: AuditBatches) -> Result<(), String> {
        let peer = outgoing::kubeconfig::Target::read(file)?.peer(&self.world)?;
        let webhook = audit::AuditWebhook::start(peer, batches);
        if self.audit_webhook.set(webhook.clone()).is_ok() {
            self.auditors.add("webhook", webhook);
        }
        Ok(())
    }

    /// From now on events go to the webhook that the kubeconfig names now. On an error they go on as before.
    pub fn audit_anew_to(&self, file: &Path) -> Result<(), String> {
        let peer = outgoing::kubeconfig::Target::read(file)?.peer(&self.world)?;
        if let Some(webhook) = self.audit_webhook.get() {
            webhook.send_to(peer);
        }
        Ok(())
    }

    /// Sends the events that wait, and no more. To be called when no requests are served any more.
    pub async fn close_audit(&self) {
        if let Some(webhook) = self.audit_webhook.get() {
            webhook.close().await;
        }
    }

    /// From now on these are the static tokens: the lines of `--token-auth-file`.
    pub fn take_token_file(&self, text: &str) -> Result<(), String> {
        let tokens = auth::static_tokens::StaticTokens::from_csv(text);
        self.authenticator
            .take_tokens(tokens.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// From now on this AuthenticationConfiguration holds, in YAML. On an error the former does.
    pub fn take_authentication_config(&self, text: &str) -> Result<(), String> {
        let keys = self.account_tokens.now();
        let own_issuers = keys.verifier.issuers();
        self.authenticator.take_file(text, &self.world, own_issuers)
    }

    /// From now on this AuthorizationConfiguration holds, in YAML. On an error the former does.
    pub fn take_authorization_config(&self, text: &str) -> Result<(), String> {
        self.authorizer.take_file(text, &self.world)
    }

    /// From now on tokens that nobody else knows are put to the webhook that a kubeconfig file names, in TokenReviews of
    /// this version; its answers hold for `time`. On an error nothing changes.
    pub fn ask_about_tokens(
        &self,
        file: &Path,
        version: &str,
        time: Duration,
    ) -> Result<(), String> {
        let webhook = authenticate::TokenWebhook::read(&self.world, file, version, time)?;
        self.authenticator.take_webhook(webhook);
        Ok(())
    }

    /// From now on node agents are called with this certificate, and theirs are checked against `ca_pem`. On an error both
    /// stay as they were.
    pub fn call_nodes_as(&self, ca_pem: &str, identity: &KubeletIdentity) -> Result<(), String> {
        self.kubelets.call_as(ca_pem, identity)
    }

    /// Counts in `/metrics` that a file's new content was taken, or was not usable.
    pub fn count_reload(&self, what: &str, taken: bool) {
        self.metrics.count_reload(what, taken);
    }

    /// Shows in `/metrics` until when a certificate is valid, in seconds since 1970.
    pub fn show_expiry(&self, what: &str, seconds: i64) {
        self.metrics.show_expiry(what, seconds);
    }

    /// From now on what is written is encrypted by this configuration, and what is stored is read with its keys.
    pub fn encrypt_by(&self, encryption: Encryption) {
        self.world.encrypt_by(encryption);
    }

    /// Waits until the caches are loaded and the bootstrap objects are there.
    pub async fn ready(&self) {
        self.started.wait().await;
    }

    /// Whether the caches are loaded and the bootstrap objects are there.
    pub fn is_ready(&self) -> bool {
        self.started.is_done()
    }

    /// The service.
    pub fn front(self: &Arc<Self>) -> Front {
        Front::new(self.clone())
    }
}
