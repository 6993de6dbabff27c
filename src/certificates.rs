//! Which of a member's files become which of its connections, at start and whenever they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agents::{Signing, SigningPair};
use anyhow::{Context, Result};
use apiserver::{ApiServer, FrontProxy, KubeletIdentity, files_of_kubeconfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::access;
use crate::cli::AccessArgs;
use crate::local::{FRONT_PROXY_CA, FRONT_PROXY_CLIENT, STORE_CA};
use crate::pki::Pair;
use crate::reload::{self, Followed, Named};

/// What the certificates of a running member are in.
pub(crate) struct InUse {
    pub(crate) api: Arc<ApiServer>,
    pub(crate) store: Arc<store::Node>,
    /// Of the API's listener.
    pub(crate) tls: watch::Sender<Arc<rustls::ServerConfig>>,
    /// Of the port for etcd clients, where there is one.
    pub(crate) etcd_tls: Option<watch::Sender<Arc<rustls::ServerConfig>>>,
    /// The cluster's authorities, as namespaces are told.
    pub(crate) ca: watch::Sender<String>,
    /// The files of the authority that signs requests, and that authority.
    pub(crate) signing: (Pair, Signing),
    /// What is told of which requests, where a file says it.
    pub(crate) audit_policy: Option<PathBuf>,
    /// The kubeconfig of the webhook that is told, too.
    pub(crate) audit_webhook: Option<PathBuf>,
}

/// Takes the files of `pki_dir`, and those about users and rights, anew when they change, until `stop`.
pub(crate) async fn follow(
    pki_dir: PathBuf,
    access: AccessArgs,
    in_use: InUse,
    stop: CancellationToken,
) {
    let api = in_use.api.clone();
    let mut all = followed(&pki_dir, &access, in_use);
    all.extend(access::followed(&api, &access));
    reload::follow(all, Some(api), stop).await;
}

fn followed(dir: &Path, access: &AccessArgs, in_use: InUse) -> Vec<Followed> {
    let InUse {
        api,
        store,
        tls,
        etcd_tls,
        ca,
        signing: (signing_files, signing),
        audit_policy,
        audit_webhook,
    } = in_use;
    let ca_file = dir.join("ca.crt");
    let named: Vec<PathBuf> = [ca_file.clone()]
        .into_iter()
        .chain(access.requestheader_client_ca_file.clone())
        .collect();
    let pair = |name: &str| Pair::in_dir(dir, name);
    let (trusting, calling) = (api.clone(), api.clone());
    let mut all = vec![
        // Before the others: who is trusted must be so when certificates of it come.
        Followed::file("ca", ca_file.clone(), move |pem| {
            trusting.trust_clients_of(pem).map_err(anyhow::Error::msg)?;
            ca.send_replace(pem.to_owned());
            Ok(())
        }),
        Followed::pair("server", &named, pair("server"), move |ca, cert, key| {
            tls.send_replace(api_tls(ca, cert, key)?);
            Ok(())
        }),
        Followed::pair(
            "kubelet-client",
            std::slice::from_ref(&ca_file),
            pair("kubelet-client"),
            move |ca, cert, key| {
                let identity = KubeletIdentity {
                    certificate_pem: cert.to_owned(),
                    key_pem: key.to_owned(),
                };
                calling
                    .call_nodes_as(ca, &identity)
                    .map_err(anyhow::Error::msg)
            },
        ),
        Followed::pair(
            "peer",
            &[dir.join("peer-ca.crt")],
            pair("peer"),
            move |ca, cert, key| {
                let identity = store::TlsIdentity {
                    ca_pem: ca.as_bytes().to_vec(),
                    cert_pem: cert.as_bytes().to_vec(),
                    key_pem: key.as_bytes().to_vec(),
                };
                Ok(store.replace_tls(&identity)?)
            },
        ),
        Followed::pair("signing", &[], signing_files, move |_, cert, key| {
            let pair = SigningPair {
                certificate_pem: cert.to_owned(),
                key_pem: key.to_owned(),
            };
            signing.replace(pair);
            Ok(())
        }),
    ];
    all.extend(audit_files(&api, audit_policy, audit_webhook));
    let signing = api.clone();
    all.push(Followed::file("sa", dir.join("sa.key"), move |keys| {
        signing.sign_tokens_with(keys).map_err(anyhow::Error::msg)
    }));
    let passing = api;
    all.push(Followed::pair(
        "front-proxy-client",
        &[dir.join(FRONT_PROXY_CA)],
        pair(FRONT_PROXY_CLIENT),
        move |ca, cert, key| {
            let identity = FrontProxy {
                ca_pem: ca.to_owned(),
                certificate_pem: cert.to_owned(),
                key_pem: key.to_owned(),
            };
            passing.pass_on_as(&identity).map_err(anyhow::Error::msg)
        },
    ));
    if let Some(tls) = etcd_tls {
        all.push(Followed::pair(
            "etcd-server",
            &[dir.join(STORE_CA)],
            pair("server"),
            move |client_ca, cert, key| {
                let front = store::etcd::FrontTls {
                    client_ca: client_ca.to_owned(),
                    cert: cert.to_owned(),
                    key: key.to_owned(),
                };
                tls.send_replace(front.server_config()?);
                Ok(())
            },
        ));
    }
    all
}

/// What says what is told of requests, and to whom.
fn audit_files(
    api: &Arc<ApiServer>,
    policy: Option<PathBuf>,
    webhook: Option<PathBuf>,
) -> Vec<Followed> {
    let auditing = api.clone();
    let policy = policy.map(|file| {
        Followed::file("audit-policy-file", file, move |text| {
            auditing.take_audit_policy(text).map_err(anyhow::Error::msg)
        })
    });
    let auditing = api.clone();
    let webhook = webhook.map(|file| {
        let (name, of_take) = ("audit-webhook-config-file", file.clone());
        let named: Named = files_of_kubeconfig;
        Followed::naming(name, file, Some(named), move |_| {
            auditing.audit_anew_to(&of_take).map_err(anyhow::Error::msg)
        })
    });
    policy.into_iter().chain(webhook).collect()
}

/// Clients may show a certificate of the cluster's CA, or of the one of front proxies: some choose by the names of those in
/// `ca`. Those without one authenticate by token, or are anonymous.
pub(crate) fn api_tls(ca: &str, cert: &str, key: &str) -> Result<Arc<rustls::ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(authority.context("ca.crt is not a certificate")?)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .context("ca.crt")?;
    let chain = CertificateDer::pem_slice_iter(cert.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .context("server.crt is not a certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("server.key is not a key")?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(apiserver::ask_client_certificate(verifier))
        .with_single_cert(chain, key)
        .context("server.crt and server.key do not belong together")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
