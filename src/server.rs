//! One member: store, API server, and the agents that belong to a control plane, in one process; started in that order,
//! stopped in the reverse one, each stop with a deadline.

mod running;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agents::{ControllerOptions, Signing};
use anyhow::{Context, Result, anyhow, bail};
use apiserver::{
    ApiServer, Auditing, Encryption, FrontProxy, KubeletIdentity, RequestHeaderConfig,
};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::audit_log::AuditLog;
use crate::cli::ServerArgs;
use crate::local::{FRONT_PROXY_CA, FRONT_PROXY_CLIENT, STORE_CA};
use crate::pki::{self, Pair};
use crate::{access, audit_log, certificates, control_plane, encryption, node};
use running::Running;

/// Certificates and keys of this member, PEM.
struct Pems {
    ca: String,
    server: (String, String),
    kubelet_client: (String, String),
    peer_ca: String,
    peer: (String, String),
    signing_key: String,
    /// The authority, the certificate and the key towards servers of other API versions. None in a directory of before
    /// there was one, until `kontiki up` or `kontiki pki` makes it.
    front_proxy: Option<(String, String, String)>,
}

impl Pems {
    fn read(dir: &Path) -> Result<Pems> {
        let pair = |name: &str| -> Result<(String, String)> {
            let pair = Pair::in_dir(dir, name);
            Ok((pki::read(&pair.cert)?, pki::read(&pair.key)?))
        };
        Ok(Pems {
            ca: pki::read(&dir.join("ca.crt"))?,
            server: pair("server")?,
            kubelet_client: pair("kubelet-client")?,
            peer_ca: pki::read(&dir.join("peer-ca.crt"))?,
            peer: pair("peer")?,
            signing_key: pki::read(&dir.join("sa.key"))?,
            front_proxy: match dir.join(FRONT_PROXY_CA) {
                authority if authority.exists() => {
                    let (certificate, key) = pair(FRONT_PROXY_CLIENT)?;
                    Some((pki::read(&authority)?, certificate, key))
                }
                _ => None,
            },
        })
    }
}

/// What shows a certificate, which may be replaced.
type TlsSender = watch::Sender<Arc<rustls::ServerConfig>>;

/// What is read and opened before any state is touched.
struct Prepared {
    pems: Pems,
    advertise: SocketAddr,
    api_listener: TcpListener,
    /// The port for etcd clients, where there is one.
    etcd_listener: Option<(TlsSender, TcpListener)>,
    tls: TlsSender,
    request_header: Option<RequestHeaderConfig>,
    scheduler_config: Arc<str>,
    encryption: encryption::Source,
    /// Those of the encryption at rest, and the text that they were read from.
    keys: (Encryption, Option<String>),
    audit: (Option<Auditing>, Option<Arc<AuditLog>>),
    signing: Signing,
    controllers: ControllerOptions,
}

/// Runs until SIGTERM or SIGINT, or until the store fails.
pub(crate) async fn run(args: ServerArgs) -> Result<()> {
    let prepared = prepare(&args).await?;
    let mut running = Running::start(&args, prepared).await?;
    let failure = running.until_end().await;
    running.stop().await;
    match failure {
        None => {
            info!("stopped");
            Ok(())
        }
        Some(reason) => {
            error!(%reason, "this member cannot go on");
            bail!(reason)
        }
    }
}

async fn prepare(args: &ServerArgs) -> Result<Prepared> {
    let pems = Pems::read(&args.pki_dir)?;
    // Ports first: one in use is the commonest mistake, and cheap to find before any state is touched.
    let api_listener = listen(&args.api_listen, "--api-listen").await?;
    let etcd_listener = match args.etcd_listen {
        Some(address) => Some((
            watch::Sender::new(store_port_tls(&args.pki_dir, &pems)?.server_config()?),
            store::etcd::bind(address).await?,
        )),
        None => None,
    };
    let advertise = resolve(&args.api_advertise).await?;
    let request_header = access::request_header(&args.access)?;
    let proxies = request_header.as_ref().map_or("", |it| &it.ca_pem);
    let tls = watch::Sender::new(certificates::api_tls(
        &[&pems.ca, proxies].join("\n"),
        &pems.server.0,
        &pems.server.1,
    )?);
    let scheduler_config = scheduler_config(args)?;
    let encryption = encryption::Source::of(args);
    let keys = encryption.read()?;
    let audit = audit_log::of(&args.audit)?;

    apiserver::check_service_cidr(&args.service_cidr, advertise.ip())
        .map_err(|error| anyhow!("--service-cidr: {error}"))?;
    let signing = Signing::by(args.controllers.signing_pair(&args.pki_dir)?);
    let controllers =
        args.controllers
            .options(signing.clone(), &args.service_cidr, &args.api_advertise)?;
    Ok(Prepared {
        pems,
        advertise,
        api_listener,
        etcd_listener,
        tls,
        request_header,
        scheduler_config,
        encryption,
        keys,
        audit,
        signing,
        controllers,
    })
}

/// Everything in this process that is a client of the API, until `stop`. An error if the node agent cannot run: whoever
/// asked for one would wait for it in vain.
async fn run_agents(
    args: ServerArgs,
    api: Arc<ApiServer>,
    ca_pem: watch::Receiver<String>,
    settings: control_plane::Settings,
    stop: CancellationToken,
) -> Result<()> {
    let control_plane = async {
        if !args.no_agents {
            control_plane::run(&api, &args.name, ca_pem, &settings, &stop).await;
        }
        stop.cancelled().await;
        Ok(())
    };
    let node = async {
        if let Some(dir) = &args.with_node {
            run_node(&args, api.clone(), dir, &stop).await?;
        }
        Ok(())
    };
    tokio::try_join!(control_plane, node).map(|_| ())
}

/// The text of the scheduler's configuration, which is looked through here: a server that does not schedule as it was told
/// shall not start.
fn scheduler_config(args: &ServerArgs) -> Result<Arc<str>> {
    let Some(file) = &args.scheduler_config else {
        return Ok("".into());
    };
    let text = pki::read(file).context("--scheduler-config")?;
    agents::SchedulerConfig::parse(&text)
        .and_then(|config| config.check_extenders())
        .map_err(|error| anyhow!("--scheduler-config {}: {error}", file.display()))?;
    Ok(text.into())
}

async fn run_node(
    args: &ServerArgs,
    api: Arc<ApiServer>,
    dir: &Path,
    stop: &CancellationToken,
) -> Result<()> {
    let port = args.api_listen.rsplit(':').next().unwrap_or_default();
    let servers = vec![format!("https://127.0.0.1:{port}")];
    node::run(
        &args.node,
        servers,
        &dir.join("data"),
        &dir.join("pki"),
        &args.cluster_domain,
        Some(api),
        stop.clone(),
    )
    .await
}

async fn listen(address: &str, flag: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let port = address.rsplit(':').next().unwrap_or_default();
        let who = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("; `ss -ltnp 'sport = :{port}'` shows by whom")
            }
            _ => String::new(),
        };
        anyhow!("cannot listen on {address} ({flag}): {error}{who}")
    })
}

async fn resolve(address: &str) -> Result<SocketAddr> {
    let mut found = tokio::net::lookup_host(address).await.with_context(|| {
        format!("--api-advertise {address} is not HOST:PORT, or has no address")
    })?;
    found
        .next()
        .with_context(|| format!("--api-advertise {address} has no address"))
}

/// Clients of the store's own port get past RBAC: none but those of its own authority may.
fn store_port_tls(pki_dir: &Path, pems: &Pems) -> Result<store::etcd::FrontTls> {
    let (cert, key) = pems.server.clone();
    let client_ca = pki::read(&pki_dir.join(STORE_CA)).context(
        "--etcd-listen needs the authority of the store's clients: `kontiki up` and `kontiki pki` make it where it is \
         missing",
    )?;
    Ok(store::etcd::FrontTls {
        client_ca,
        cert,
        key,
    })
}

fn store_config(args: &ServerArgs, pems: &Pems) -> store::Config {
    let tls = store::TlsIdentity {
        ca_pem: pems.peer_ca.clone().into_bytes(),
        cert_pem: pems.peer.0.clone().into_bytes(),
        key_pem: pems.peer.1.clone().into_bytes(),
    };
    let member = |member: &crate::cli::InitialMember| store::InitialMember {
        id: member.id,
        name: member.name.clone(),
        peer_address: member.peer_address.clone(),
    };
    store::Config {
        name: args.name.clone(),
        peer_listen: args.peer_listen.clone(),
        peer_advertise: args.peer_advertise.clone(),
        client_address: args.api_advertise.clone(),
        etcd_url: args
            .etcd_listen
            .map(|address| format!("https://{address}"))
            .unwrap_or_default(),
        initial_members: args.initial_members.iter().map(member).collect(),
        limits: store::Limits {
            snapshot_entries: args.snapshot_entries,
            log_entries_kept: args.log_entries_kept,
            scrub_interval: Duration::from_secs(args.scrub_seconds),
            ..store::Limits::default().with_heartbeat(Duration::from_millis(args.heartbeat_ms))
        },
        ..store::Config::new(args.data_dir.clone(), args.cluster_id, args.member_id, tls)
    }
}

fn api_config(args: &ServerArgs, pems: &Pems, advertise: SocketAddr) -> Result<apiserver::Config> {
    let issuer = format!("https://kubernetes.default.svc.{}", args.cluster_domain);
    let (signer, accepted) = auth::token::signing_keys(&pems.signing_key, &issuer)
        .map_err(|error| anyhow!("sa.key: {error}"))?;
    let mut config = apiserver::Config::new(
        Arc::new(signer),
        &issuer,
        pems.ca.clone(),
        advertise.ip(),
        advertise.port(),
    );
    let keys = std::iter::once(config.signer.public_key().clone());
    config.verifier = config.verifier.led_by(keys.chain(accepted).collect());
    config.service_cidr = args.service_cidr.clone();
    config.history = Duration::from_secs(60 * args.history_minutes);
    config.cluster_domain = args.cluster_domain.clone();
    let (certificate_pem, key_pem) = pems.kubelet_client.clone();
    config.kubelet_identity = Some(KubeletIdentity {
        certificate_pem,
        key_pem,
    });
    let front_proxy = pems.front_proxy.clone();
    config.front_proxy = front_proxy.map(|(ca_pem, certificate_pem, key_pem)| FrontProxy {
        ca_pem,
        certificate_pem,
        key_pem,
    });
    Ok(config)
}

/// Waits for the wish to stop; a hang-up of the terminal that started the process is none.
pub(crate) async fn stop_signal() -> &'static str {
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    ) else {
        warn!("signals cannot be caught: only SIGKILL stops this process");
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => return "SIGTERM",
            _ = interrupt.recv() => return "SIGINT",
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, UnixTime};
    use rustls::server::WebPkiClientVerifier;

    use super::*;

    #[test]
    fn no_certificate_for_the_api_opens_the_stores_port() {
        let dir = tempfile::tempdir().unwrap();
        let orders = crate::bundle::Orders {
            members: vec!["a=10.0.0.1".into()],
            nodes: vec!["w=10.0.0.2".into()],
            change: None,
            rotation: Default::default(),
        };
        crate::bundle::make(dir.path(), &orders).unwrap();
        let member = dir.path().join("member-a/pki");
        let front = store_port_tls(&member, &Pems::read(&member).unwrap()).unwrap();

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(front.client_ca.as_bytes()) {
            roots.add(authority.unwrap()).unwrap();
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier.build().unwrap();
        let opens = |path: &str| {
            let pem = std::fs::read(dir.path().join(path)).unwrap();
            let cert = CertificateDer::from_pem_slice(&pem).unwrap();
            verifier
                .verify_client_cert(&cert, &[], UnixTime::now())
                .is_ok()
        };
        assert!(opens("store-admin.crt"));
        for client in [
            "admin.crt",
            "member-a/pki/kubelet-client.crt",
            "member-a/pki/peer.crt",
            "node-w/node-pki/client.crt",
        ] {
            assert!(!opens(client), "{client}");
        }
    }
}
