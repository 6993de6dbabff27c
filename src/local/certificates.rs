//! Which certificates a cluster has, and of which authority each is.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{
    ADMIN, Home, KUBELET_CLIENT, KUBERNETES_SERVICE_IP, Member, Plan, kubeconfig, node_dir,
};
use crate::encryption;
use crate::hollow;
use crate::pki::{self, Authority, Leaf, Pair, Renew, Usage};

/// What of the cluster's certificates and keys each member has.
pub(crate) const SHARED: [&str; 8] = [
    "ca.crt",
    "peer-ca.crt",
    STORE_CA,
    "sa.key",
    encryption::FILE,
    FRONT_PROXY_CA,
    "front-proxy-client.crt",
    "front-proxy-client.key",
];

/// Whose certificates servers of other API versions believe about who asks.
pub(crate) const FRONT_PROXY_CA: &str = "front-proxy-ca.crt";

/// The certificate with which members pass requests on to them.
pub(crate) const FRONT_PROXY_CLIENT: &str = "front-proxy-client";

/// Whose certificates open the store's own port.
pub(crate) const STORE_CA: &str = "store-ca.crt";

/// Makes every certificate of the plan that is missing or about to expire, or all of them, and the administrator's
/// kubeconfig.
pub(crate) fn ensure_pki(home: &Home, plan: &Plan, node_ip: &str, renew: Renew) -> Result<()> {
    let dir = home.pki();
    let authority = Authority::open_or_create(&dir, "ca", "kontiki-ca")?.renewing(renew);
    let peers = Authority::open_or_create(&dir, "peer-ca", "kontiki-peer-ca")?.renewing(renew);
    store_port_certificates(&dir, renew)?;
    front_proxy_certificates(&dir, renew)?;
    pki::ensure_signing_key(&dir.join("sa.key"))?;
    let members = plan.members.iter();
    let copies = members.map(|member| home.process_dir(&member.name).join("pki"));
    encryption::ensure(&dir, copies)?;
    let admin = home.admin();
    authority.ensure(&admin, &client(ADMIN, Some("system:masters")))?;
    for member in &plan.members {
        let member_pki = home.process_dir(&member.name).join("pki");
        member_certificates(
            &authority,
            &peers,
            &member_pki,
            member,
            plan.cluster_id,
            &[node_ip.to_string()],
        )?;
        for shared in SHARED {
            let content =
                fs::read(dir.join(shared)).with_context(|| format!("cannot read {shared}"))?;
            if fs::read(member_pki.join(shared)).ok().as_ref() != Some(&content) {
                pki::write_secret(&member_pki.join(shared), &content)?;
            }
        }
        signing_key(&dir, &member_pki)?;
    }
    let node_pki = home.process_dir(&node_dir(&plan.node.name)).join("pki");
    node_certificates(
        &authority,
        &node_pki,
        &plan.node.name,
        &[node_ip.to_string(), "127.0.0.1".into()],
    )?;
    let ca = pki::read(&authority.pair.cert)?;
    pki::write_secret(&node_pki.join("ca.crt"), ca.as_bytes())?;
    if plan.hollow.is_some() {
        let dir = hollow::pki_dir(home);
        hollow_certificates(&authority, &dir, &[node_ip.to_string()])?;
        pki::write_secret(&dir.join("ca.crt"), ca.as_bytes())?;
    }
    pki::write_secret(
        &home.kubeconfig(),
        kubeconfig(&plan.servers(), &ca, &admin)?.as_bytes(),
    )
}

/// Members on this machine sign the certificates of approved requests: whoever can read their files can read the authority's
/// as well. Those on other machines are given no such power by themselves.
fn signing_key(dir: &Path, member_pki: &Path) -> Result<()> {
    let key = pki::read(&dir.join("ca.key"))?;
    let copy = member_pki.join("ca.key");
    match fs::read_to_string(&copy) {
        Ok(present) if present == key => Ok(()),
        _ => pki::write_secret(&copy, key.as_bytes()),
    }
}

pub(crate) fn client<'a>(common_name: &'a str, organization: Option<&'a str>) -> Leaf<'a> {
    Leaf {
        common_name,
        organization,
        names: vec![],
        uris: vec![],
        usage: Usage::Client,
    }
}

/// That port bypasses RBAC, so it has an authority of its own, which issues one certificate: no certificate for the
/// API, whoever it is of, opens it.
pub(crate) fn store_port_certificates(dir: &Path, renew: Renew) -> Result<()> {
    let authority = Authority::open_or_create(dir, "store-ca", "kontiki-store-ca")?;
    let authority = authority.renewing(renew);
    authority.ensure(
        &Pair::in_dir(dir, "store-admin"),
        &client("store-admin", None),
    )
}

/// Whoever has a certificate of this authority may claim to be anybody towards servers of other API versions, so it issues
/// nothing else.
pub(crate) fn front_proxy_certificates(dir: &Path, renew: Renew) -> Result<()> {
    let authority = Authority::open_or_create(dir, "front-proxy-ca", "kontiki-front-proxy-ca")?;
    let authority = authority.renewing(renew);
    authority.ensure(
        &Pair::in_dir(dir, FRONT_PROXY_CLIENT),
        &client(FRONT_PROXY_CLIENT, None),
    )
}

/// The certificates of one member: its API port, its peer identity, and its client certificate towards node agents.
pub(crate) fn member_certificates(
    authority: &Authority,
    peers: &Authority,
    dir: &Path,
    member: &Member,
    cluster_id: u64,
    extra_names: &[String],
) -> Result<()> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1", KUBERNETES_SERVICE_IP]
        .into_iter()
        .chain([
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ])
        .map(String::from)
        .collect();
    names.extend(extra_names.iter().filter(|name| !name.is_empty()).cloned());
    names.dedup();
    let server = Leaf {
        common_name: "kube-apiserver",
        organization: None,
        names,
        uris: vec![],
        usage: Usage::Server,
    };
    authority.ensure(&Pair::in_dir(dir, "server"), &server)?;
    authority.ensure(
        &Pair::in_dir(dir, "kubelet-client"),
        &client(KUBELET_CLIENT, Some("system:masters")),
    )?;
    let peer = Leaf {
        common_name: &member.name,
        organization: None,
        names: vec!["127.0.0.1".into(), "localhost".into()],
        uris: vec![peer_identity(cluster_id, member.id)],
        usage: Usage::Both,
    };
    peers.ensure(&Pair::in_dir(dir, "peer"), &peer)
}

/// What a member's peer certificate says of it; both ends of a peer connection check it.
pub(crate) fn peer_identity(cluster_id: u64, member_id: u64) -> String {
    format!("spiffe://kontiki/{cluster_id:016x}/member/{member_id:016x}")
}

/// The certificates of a node agent: its identity towards the API, and its own HTTPS port.
pub(crate) fn node_certificates(
    authority: &Authority,
    dir: &Path,
    node: &str,
    addresses: &[String],
) -> Result<()> {
    let user = format!("system:node:{node}");
    authority.ensure(
        &Pair::in_dir(dir, "client"),
        &client(&user, Some("system:nodes")),
    )?;
    let mut names = vec![node.to_string(), "localhost".to_string()];
    names.extend(addresses.iter().filter(|name| !name.is_empty()).cloned());
    names.dedup();
    let server = Leaf {
        common_name: &user,
        organization: Some("system:nodes"),
        names,
        uris: vec![],
        usage: Usage::Server,
    };
    authority.ensure(&Pair::in_dir(dir, "server"), &server)
}

/// The certificates of the hollow nodes: one user towards the API for all of them, and one server.
fn hollow_certificates(authority: &Authority, dir: &Path, addresses: &[String]) -> Result<()> {
    let user = hollow::USER;
    authority.ensure(&Pair::in_dir(dir, "client"), &client(user, Some(user)))?;
    let local = ["localhost".to_string(), "127.0.0.1".to_string()];
    let mut names: Vec<String> = local.into_iter().chain(addresses.iter().cloned()).collect();
    names.dedup();
    let server = Leaf {
        common_name: user,
        organization: None,
        names,
        uris: vec![],
        usage: Usage::Server,
    };
    authority.ensure(&Pair::in_dir(dir, "server"), &server)
}
