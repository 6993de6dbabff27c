//! The API that is measured: Kontiki's, started here with TLS and RBAC, or that of any other cluster.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_runtime::client::{ClientConfig, Identity};
use anyhow::{Context, Result, bail};
use futures::FutureExt;
use futures::future::BoxFuture;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use serde_json::json;

use super::http::{Connection, Endpoint, Request};
use super::objects::{GROUP, MARK, Template, definition_name, padding, pod};
use super::report::Row;
use crate::Setting;
use crate::cluster::{Cluster, System};
use crate::store::load::{Load, Span, drive_at};
use crate::store::process::Memory;
use crate::store::wire::Failure;

/// The namespaces of pods that are read, that are written, and that only fill a server.
pub(super) const READ: &str = "kontiki-bench-read";
pub(super) const WRITTEN: &str = "kontiki-bench-write";
pub(super) const MANY: &str = "kontiki-bench-many";
const NAMESPACES: [&str; 3] = [READ, WRITTEN, MANY];
/// Connections that clients share.
const CONNECTIONS: usize = 4;
/// Clients where objects are only prepared.
const FILLERS: usize = 32;
/// Until what a load needed has been given back: allocators keep it for ten seconds.
const SETTLE: Duration = Duration::from_secs(15);

/// Where another cluster is, and who we are there.
#[derive(clap::Args)]
pub(super) struct ForeignArgs {
    /// Measure the cluster of this kubeconfig's current context, instead of servers of our own
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    kubeconfig: Option<PathBuf>,
    /// Measure the API at this address
    #[arg(long, requires = "ca")]
    url: Option<String>,
    /// Authority of its certificate, PEM
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
    /// Our certificate there, PEM
    #[arg(long, value_name = "FILE", requires_all = ["url", "key"])]
    cert: Option<PathBuf>,
    /// The certificate's key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Processes of its servers on this machine: without them there are no figures of CPU and memory
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pid: Vec<u32>,
}

impl ForeignArgs {
    pub(super) fn is_given(&self) -> bool {
        self.kubeconfig.is_some() || self.url.is_some()
    }

    /// None where servers of our own are to be measured.
    fn config(&self) -> Result<Option<ClientConfig>> {
        if let Some(file) = &self.kubeconfig {
            let config = agent_runtime::kubeconfig::load(file);
            return config.map(Some).map_err(anyhow::Error::msg);
        }
        let Some(url) = &self.url else {
            return Ok(None);
        };
        let read = |file: &Option<PathBuf>| -> Result<String> {
            let file = file.as_ref().context("no file is named")?;
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
        };
        let identity = match self.cert {
            Some(_) => Identity::Certificate {
                cert_pem: read(&self.cert)?,
                key_pem: read(&self.key)?,
            },
            None => Identity::Anonymous,
        };
        let config = ClientConfig::new(vec![url.clone()], read(&self.ca)?, identity);
        Ok(Some(config))
    }
}

pub(super) struct Plane {
    /// In the table.
    pub(super) name: String,
    pub(super) endpoints: Vec<Endpoint>,
    pids: Vec<u32>,
    pub(super) own: Option<Cluster>,
}

/// The request of a client, as number so and so of all.
pub(super) type Make = Arc<dyn Fn(usize, u64) -> Request + Send + Sync>;

/// One client of a load.
struct Worker {
    connection: Connection,
    client: usize,
    make: Make,
    received: Arc<Received>,
}

#[derive(Default)]
struct Received {
    bytes: AtomicU64,
    answers: AtomicU64,
}

fn work(worker: &mut Worker, number: u64) -> BoxFuture<'_, Result<(), Failure>> {
    async move {
        let request = (worker.make)(worker.client, number);
        let answer = worker.connection.ask(&request).await?;
        let received = &worker.received;
        received
            .bytes
            .fetch_add(answer.len() as u64, Ordering::Relaxed);
        received.answers.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    .boxed()
}

impl Plane {
    /// The cluster that the arguments name.
    pub(super) fn foreign(args: &ForeignArgs) -> Result<Option<Plane>> {
        let Some(config) = args.config()? else {
            return Ok(None);
        };
        let endpoint = Endpoint::new(&config)?;
        Ok(Some(Plane {
            name: endpoint.address(),
            endpoints: vec![endpoint],
            pids: args.pid.clone(),
            own: None,
        }))
    }

    /// So many members of Kontiki with empty data, and a user who may do what is measured and no more.
    pub(super) async fn start(setting: &Setting, members: usize, agents: bool) -> Result<Plane> {
        let cluster = Cluster::start_members(setting, System::Kontiki, agents, members).await?;
        let pki = cluster.pki();
        let read =
            |name: &str| std::fs::read_to_string(pki.join(name)).with_context(|| name.to_owned());
        let ca = read("ca.crt")?;
        let at = |index: usize, identity: &Identity| {
            let server = format!("https://127.0.0.1:{}", cluster.api_port(index));
            Endpoint::new(&ClientConfig::new(
                vec![server],
                ca.clone(),
                identity.clone(),
            ))
        };
        let user = user_certificate(&ca, &read("ca.key")?)?;
        let admin = Identity::Certificate {
            cert_pem: read("admin.crt")?,
            key_pem: read("admin.key")?,
        };
        let plane = Plane {
            name: match members {
                1 => "1 member".into(),
                _ => format!("{members} members"),
            },
            endpoints: (0..members)
                .map(|index| at(index, &user))
                .collect::<Result<_>>()?,
            pids: cluster.pids(),
            own: None,
        };
        for index in 0..members {
            wait_ready(&at(index, &admin)?).await?;
        }
        let admin = Connection::open(&at(0, &admin)?).await?;
        for (path, object) in rights() {
            ensure(&admin, &path, &object.to_string()).await?;
        }
        Ok(Plane {
            own: Some(cluster),
            ..plane
        })
    }

    /// Kills its first member, starts it again, and waits until it serves; how long that took. Own servers only.
    pub(super) async fn restart(&mut self) -> Result<Duration> {
        let cluster = self.own.as_mut().context("the servers are not ours")?;
        cluster.kill(0)?;
        let began = std::time::Instant::now();
        cluster.start_member(0, false)?;
        wait_ready(&self.endpoints[0]).await?;
        let took = began.elapsed();
        self.pids = self.own.as_ref().map(Cluster::pids).unwrap_or_default();
        Ok(took)
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.pids.clone()
    }

    pub(super) fn knows_processes(&self) -> bool {
        !self.pids.is_empty()
    }

    /// Of the first server, after what was needed for a moment has been given back.
    pub(super) async fn settled_memory(&self) -> Result<f64> {
        tokio::time::sleep(SETTLE).await;
        self.memory()
    }

    pub(super) fn memory(&self) -> Result<f64> {
        match self.pids.first() {
            Some(pid) => Ok(Memory::of(*pid)?.resident_bytes as f64),
            None => Ok(f64::NAN),
        }
    }

    pub(super) async fn connect(&self) -> Result<Connection> {
        Connection::open(&self.endpoints[0]).await
    }

    /// So many clients that each wait for an answer before they ask again.
    pub(super) async fn load(&self, clients: usize, span: Span, make: Make) -> Result<(Load, f64)> {
        let mut connections = Vec::new();
        for number in 0..CONNECTIONS.min(clients) {
            let endpoint = &self.endpoints[number % self.endpoints.len()];
            connections.push(Connection::open(endpoint).await?);
        }
        let received = Arc::new(Received::default());
        let workers = (0..clients).map(|client| Worker {
            connection: connections[client % connections.len()].clone(),
            client,
            make: make.clone(),
            received: received.clone(),
        });
        let load = drive_at(self.pids(), span, workers.collect(), work).await?;
        load.complete()?;
        if let Some(first) = &load.errors.first {
            bail!("{} requests failed: {first}", load.errors.count);
        }
        let bytes = received.bytes.load(Ordering::Relaxed) as f64;
        Ok((
            load,
            bytes / received.answers.load(Ordering::Relaxed) as f64,
        ))
    }

    /// The same as a line of the table.
    pub(super) async fn row(
        &self,
        operation: &str,
        clients: usize,
        span: Span,
        make: Make,
    ) -> Result<Row> {
        let (load, bytes) = self
            .load(clients, span, make)
            .await
            .with_context(|| operation.to_owned())?;
        Ok(Row::of_load(
            &self.name,
            operation,
            &load,
            bytes,
            self.knows_processes(),
        ))
    }

    /// Makes the namespaces, with the account that pods have there.
    pub(super) async fn prepare(&self) -> Result<()> {
        let connection = self.connect().await?;
        for name in NAMESPACES {
            let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
                "metadata": { "name": name, "labels": { "made-by": MARK } } });
            ensure(&connection, "/api/v1/namespaces", &namespace.to_string()).await?;
            let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
            let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
            ensure(&connection, &path, &account.to_string()).await?;
        }
        Ok(())
    }

    /// A pod that is as long as all others when it is answered.
    pub(super) async fn pod(&self, app: &str) -> Result<Template> {
        let connection = self.connect().await?;
        let bare = Template::new(&pod(app, 0)).named("bare-0000000");
        let path = format!("{}?dryRun=All", pods(WRITTEN));
        let answer = connection.ask(&Request::post(path, bare)).await?;
        Ok(Template::new(&pod(app, padding(answer.len()))))
    }

    /// Creates pods number `from` to `to`.
    pub(super) async fn fill(&self, namespace: &'static str, from: u64, to: u64) -> Result<()> {
        if to <= from {
            return Ok(());
        }
        let template = self.pod("filled").await?;
        let make = move |_: usize, number: u64| {
            Request::post(pods(namespace), template.named(&numbered(from + number)))
        };
        let span = Span::Operations(to - from);
        self.load(FILLERS, span, Arc::new(make)).await?;
        Ok(())
    }

    /// Removes everything that was made. Of our own servers the whole directory goes.
    pub(super) async fn clean_up(&self, definitions: u64) -> Result<()> {
        if self.own.is_some() {
            return Ok(());
        }
        let connection = self.connect().await?;
        for namespace in NAMESPACES {
            let path = format!("{}?gracePeriodSeconds=0", pods(namespace));
            connection.call(&Request::delete(path)).await?;
            let path = format!("/api/v1/namespaces/{namespace}");
            connection.call(&Request::delete(path)).await?;
        }
        for number in 0..definitions {
            let path = format!("{DEFINITIONS}/{}", definition_name(number));
            connection.call(&Request::delete(path)).await?;
        }
        Ok(())
    }
}

pub(super) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

pub(super) fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

pub(super) fn numbered(number: u64) -> String {
    format!("pod-{number:07}")
}

/// Creates it where it is not there.
async fn ensure(connection: &Connection, path: &str, object: &str) -> Result<()> {
    let answer = connection
        .call(&Request::post(path, object.to_owned()))
        .await?;
    match answer.status {
        409 => Ok(()),
        _ => answer
            .accepted()
            .map(|_| ())
            .with_context(|| format!("creating {path}")),
    }
}

/// A certificate of the cluster's authority for a user without any rights of its own.
fn user_certificate(ca: &str, ca_key: &str) -> Result<Identity> {
    let authority = Issuer::from_ca_cert_pem(ca, KeyPair::from_pem(ca_key)?)?;
    let mut leaf = CertificateParams::new(Vec::new())?;
    leaf.distinguished_name = rcgen::DistinguishedName::new();
    leaf.distinguished_name.push(DnType::CommonName, "bench");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    Ok(Identity::Certificate {
        cert_pem: leaf.signed_by(&key, &authority)?.pem(),
        key_pem: key.serialize_pem(),
    })
}

/// What that user may do.
fn rights() -> [(String, serde_json::Value); 2] {
    let rbac = "rbac.authorization.k8s.io";
    let rule = |group: &str, resources: &[&str]| json!({ "apiGroups": [group], "resources": resources, "verbs": ["*"] });
    let role = json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": { "name": MARK },
        "rules": [
            rule("", &["namespaces", "serviceaccounts"]),
            rule("", &["pods"]),
            rule("apiextensions.k8s.io", &["customresourcedefinitions"]),
            rule(GROUP, &["*"]),
            { "nonResourceURLs": ["*"], "verbs": ["get"] },
        ],
    });
    let binding = json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": { "name": MARK },
        "roleRef": { "apiGroup": rbac, "kind": "ClusterRole", "name": MARK },
        "subjects": [{ "apiGroup": rbac, "kind": "User", "name": "bench" }],
    });
    let path = |plural: &str| format!("/apis/{rbac}/v1/{plural}");
    [
        (path("clusterroles"), role),
        (path("clusterrolebindings"), binding),
    ]
}

/// Waits until a server says that it is ready.
pub(crate) async fn wait_ready(endpoint: &Endpoint) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(120);
    const PAUSE: Duration = Duration::from_millis(5);
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let attempt = async {
            let connection = Connection::open(endpoint).await?;
            anyhow::Ok(connection.ask(&Request::get("/readyz")).await?)
        };
        let error = match attempt.await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if std::time::Instant::now() > deadline {
            return Err(error.context(format!("{} is not ready", endpoint.address())));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_has_no_group_with_rights() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        let identity = user_certificate(&ca, &key.serialize_pem()).unwrap();
        let config = ClientConfig::new(vec!["https://127.0.0.1:1".into()], ca, identity);
        Endpoint::new(&config).unwrap();
        let [_, (_, binding)] = rights();
        assert_eq!(binding["subjects"][0]["name"], "bench");
    }

    #[test]
    fn names_are_in_order() {
        assert!(numbered(9) < numbered(10));
        assert_eq!(pods("a"), "/api/v1/namespaces/a/pods");
    }
}
