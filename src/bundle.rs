//! `kontiki pki`: certificates and environment files for a cluster on several machines, one folder a machine. The
//! folder goes to `/etc/kontiki` there, and the systemd units of `deploy/systemd` read it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::authorities::Rotation;
use crate::pki::{self, Authority, Pair};
use crate::up::{say, shell_word};
use crate::{cli, encryption, local};

const API_PORT: u16 = 6443;
const PEER_PORT: u16 = 6480;
/// Where the folder is on its machine.
const INSTALLED: &str = "/etc/kontiki";
/// Not `pki`: a machine may be a member and a node, and has both folders in one place.
const NODE_PKI: &str = "node-pki";

/// The ids that were given out, so that a second call adds machines to the same cluster.
#[derive(Serialize, Deserialize)]
struct Ids {
    cluster_id: u64,
    members: Vec<(String, String, u64)>,
}

/// A `NAME=HOST` argument.
fn machine(text: &str) -> Result<(String, String)> {
    let form = || anyhow!("`{text}` is not NAME=HOST");
    let (name, host) = text.split_once('=').ok_or_else(form)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:_".contains(c);
    if host.is_empty() || !host.chars().all(plain) {
        return Err(form());
    }
    Ok((cli::name(name).map_err(Error::msg)?, host.into()))
}

fn machines(texts: &[String]) -> Result<Vec<(String, String)>> {
    let machines: Vec<_> = texts
        .iter()
        .map(|text| machine(text))
        .collect::<Result<_>>()?;
    let mut names = BTreeSet::new();
    match machines.iter().find(|(name, _)| !names.insert(name)) {
        Some((twice, _)) => bail!("{twice} is named twice"),
        None => Ok(machines),
    }
}

/// `host:port`, with the brackets that an IPv6 address needs.
fn address(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// What is wanted of the bundle.
#[derive(Default)]
pub(crate) struct Orders {
    /// NAME=HOST, as `nodes`.
    pub(crate) members: Vec<String>,
    pub(crate) nodes: Vec<String>,
    pub(crate) change: Option<Change>,
    pub(crate) rotation: Rotation,
}

/// How the store's members have changed, which the bundle does not know by itself.
pub(crate) enum Change {
    /// A member, as NAME=HOST, with its id: a new one, or one that takes the place of an earlier one of its name.
    Added(String, u64),
    Removed(String),
    /// The only member of a cluster with this id.
    Recovered(String, u64),
}

impl Orders {
    pub(crate) fn of(args: &cli::PkiArgs) -> Orders {
        let added = args.add_member.clone().zip(args.member_id);
        let added = added.map(|(member, id)| Change::Added(member, id));
        let recovered = args.recovered.clone().zip(args.cluster_id);
        let recovered = recovered.map(|(name, id)| Change::Recovered(name, id));
        let removed = args.remove_member.clone().map(Change::Removed);
        Orders {
            members: args.members.clone(),
            nodes: args.nodes.clone(),
            change: added.or(removed).or(recovered),
            rotation: args.rotation.wanted(),
        }
    }
}

/// The bundle's members after a change.
fn changed(mut ids: Ids, change: &Change) -> Result<Ids> {
    let unknown = |name: &str| anyhow!("{name} is not among the members of this bundle");
    match change {
        Change::Added(member, id) => {
            let (name, host) = machine(member)?;
            let added = (name, host, *id);
            match ids.members.iter_mut().find(|known| known.0 == added.0) {
                Some(known) => *known = added,
                None => ids.members.push(added),
            }
        }
        Change::Removed(name) => {
            let before = ids.members.len();
            ids.members.retain(|known| known.0 != *name);
            if ids.members.len() == before {
                return Err(unknown(name));
            }
            if ids.members.is_empty() {
                bail!("{name} is the last member");
            }
        }
        Change::Recovered(name, cluster_id) => {
            ids.members.retain(|known| known.0 == *name);
            if ids.members.is_empty() {
                return Err(unknown(name));
            }
            ids.cluster_id = *cluster_id;
        }
    }
    Ok(ids)
}

pub(crate) fn make(dir: &Path, orders: &Orders) -> Result<()> {
    let (members, nodes) = (machines(&orders.members)?, machines(&orders.nodes)?);
    pki::create_private_dir(dir)?;
    let mut ids = ids(dir, &members)?;
    if let Some(change) = &orders.change {
        ids = changed(ids, change)?;
        pki::write_secret(&ids_file(dir), &serde_json::to_vec_pretty(&ids)?)?;
    }
    orders.rotation.turn(dir)?;
    let renew = orders.rotation.renew;
    let authority = Authority::open_or_create(dir, "ca", "kontiki-ca")?.renewing(renew);
    let peers = Authority::open_or_create(dir, "peer-ca", "kontiki-peer-ca")?.renewing(renew);
    local::store_port_certificates(dir, renew)?;
    local::front_proxy_certificates(dir, renew)?;
    pki::ensure_signing_key(&dir.join("sa.key"))?;
    let names = ids.members.iter().map(|(name, ..)| member_dir(name));
    encryption::ensure(dir, names.map(|name| dir.join(name).join("pki")))?;
    let admin = Pair::in_dir(dir, "admin");
    authority.ensure(
        &admin,
        &local::client("kubernetes-admin", Some("system:masters")),
    )?;

    for member in &ids.members {
        make_member(dir, &ids, member, (&authority, &peers))?;
    }
    let servers: Vec<String> = ids
        .members
        .iter()
        .map(|(_, host, _)| format!("https://{}", address(host, API_PORT)))
        .collect();
    for node in &nodes {
        make_node(dir, node, &servers, &authority)?;
    }
    let ca = pki::read(&authority.pair.cert)?;
    pki::write_secret(
        &dir.join("kubeconfig"),
        local::kubeconfig(&servers, &ca, &admin)?.as_bytes(),
    )?;
    say_all(dir, &ids, &nodes)
}

/// The folder of a member: its certificates, what all members share, and its environment file.
fn make_member(
    dir: &Path,
    ids: &Ids,
    (name, host, id): &(String, String, u64),
    (authority, peers): (&Authority, &Authority),
) -> Result<()> {
    let folder = dir.join(member_dir(name));
    let member = local::Member {
        name: name.clone(),
        id: *id,
        api_port: API_PORT,
        peer_port: PEER_PORT,
        etcd_port: local::ETCD_PORT,
        leaving: false,
    };
    local::member_certificates(
        authority,
        peers,
        &folder.join("pki"),
        &member,
        ids.cluster_id,
        std::slice::from_ref(host),
    )?;
    for shared in local::SHARED {
        copy(dir, &folder.join("pki"), shared)?;
    }
    pki::write_secret(
        &folder.join("server.env"),
        server_env(ids, name, host, *id).as_bytes(),
    )
}

/// The folder of a node: its certificates and its environment file.
fn make_node(
    dir: &Path,
    (name, host): &(String, String),
    servers: &[String],
    authority: &Authority,
) -> Result<()> {
    let folder = dir.join(local::node_dir(name));
    local::node_certificates(
        authority,
        &folder.join(NODE_PKI),
        name,
        std::slice::from_ref(host),
    )?;
    copy(dir, &folder.join(NODE_PKI), "ca.crt")?;
    pki::write_secret(
        &folder.join("agent.env"),
        agent_env(servers, name, host).as_bytes(),
    )
}

/// Tells where each folder goes.
fn say_all(dir: &Path, ids: &Ids, nodes: &[(String, String)]) -> Result<()> {
    for (name, host, _) in &ids.members {
        say_where(&dir.join(member_dir(name)), host, "kontiki-server");
    }
    for (name, host) in nodes {
        say_where(&dir.join(local::node_dir(name)), host, "kontiki-agent");
    }
    say(&format!(
        "export KUBECONFIG={}",
        shell_word(&std::path::absolute(dir.join("kubeconfig"))?)
    ));
    Ok(())
}

fn say_where(folder: &Path, host: &str, unit: &str) {
    say(&format!(
        "{}/  ->  {host}:{INSTALLED}/   then there: systemctl enable --now {unit}",
        folder.display()
    ));
}

fn member_dir(name: &str) -> String {
    format!("member-{name}")
}

fn ids_file(dir: &Path) -> std::path::PathBuf {
    dir.join("ids.json")
}

fn ids(dir: &Path, members: &[(String, String)]) -> Result<Ids> {
    let file = ids_file(dir);
    if file.exists() {
        let ids: Ids = serde_json::from_str(&pki::read(&file)?)
            .with_context(|| format!("{} is damaged", file.display()))?;
        let known = |(name, host): &&(String, String)| {
            let mut all = ids.members.iter();
            all.any(|(known, at, _)| (known, at) == (name, host))
        };
        if let Some((name, host)) = members.iter().find(|member| !known(member)) {
            bail!(
                "{name}={host} is not among the members that this cluster was made with ({} has them)",
                file.display()
            );
        }
        return Ok(ids);
    }
    if members.is_empty() {
        bail!("a new cluster needs --members NAME=HOST,...");
    }
    if members.len().is_multiple_of(2) {
        bail!(
            "{} members survive no more failures than {}: choose an odd number",
            members.len(),
            members.len() - 1
        );
    }
    let random = || rand::random::<u64>() | 1;
    let ids = Ids {
        cluster_id: random(),
        members: members
            .iter()
            .map(|(name, host)| (name.clone(), host.clone(), random()))
            .collect(),
    };
    pki::write_secret(&file, &serde_json::to_vec_pretty(&ids)?)?;
    Ok(ids)
}

fn copy(from: &Path, to: &Path, name: &str) -> Result<()> {
    pki::write_secret(
        &to.join(name),
        &fs::read(from.join(name)).with_context(|| format!("cannot read {name}"))?,
    )
}

fn server_env(ids: &Ids, name: &str, host: &str, id: u64) -> String {
    let members: Vec<String> = ids
        .members
        .iter()
        .map(|(name, host, id)| format!("{name}={id:x}@{}", address(host, PEER_PORT)))
        .collect();
    [
        ("NAME", name.to_string()),
        ("MEMBER_ID", format!("{id:x}")),
        ("CLUSTER_ID", format!("{:x}", ids.cluster_id)),
        ("INITIAL_MEMBERS", members.join(",")),
        ("DATA_DIR", "/var/lib/kontiki/server".into()),
        ("PKI_DIR", format!("{INSTALLED}/pki")),
        ("API_LISTEN", format!("0.0.0.0:{API_PORT}")),
        ("API_ADVERTISE", address(host, API_PORT)),
        ("PEER_LISTEN", format!("0.0.0.0:{PEER_PORT}")),
        ("PEER_ADVERTISE", address(host, PEER_PORT)),
        ("ETCD_LISTEN", format!("127.0.0.1:{}", local::ETCD_PORT)),
    ]
    .map(|(key, value)| format!("KONTIKI_{key}={value}\n"))
    .concat()
}

fn agent_env(servers: &[String], name: &str, host: &str) -> String {
    let mut lines = vec![
        ("NODE_NAME", name.to_string()),
        ("SERVERS", servers.join(",")),
        ("DATA_DIR", "/var/lib/kontiki/node".into()),
        ("PKI_DIR", format!("{INSTALLED}/{NODE_PKI}")),
    ];
    // A node says its address, not its name; where a name was given, it is that of its default route.
    if host.parse::<std::net::IpAddr>().is_ok() {
        lines.push(("NODE_IP", host.to_string()));
    }
    let lines = lines.iter();
    lines
        .map(|(key, value)| format!("KONTIKI_{key}={value}\n"))
        .collect()
}

#[cfg(test)]
mod tests;
