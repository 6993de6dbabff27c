//! `kontiki pki`: certificates and environment files for a cluster on several machines, one folder a machine. The
//! folder goes to `/etc/kontiki` there, and the systemd units of `deploy/systemd` read it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::local;
use crate::pki::{self, Authority, Pair};
use crate::up::say;

const API_PORT: u16 = 6443;
const PEER_PORT: u16 = 6480;
/// Where the folder is on its machine.
const INSTALLED: &str = "/etc/kontiki";

/// The ids that were given out, so that a second call adds machines to the same cluster.
#[derive(Serialize, Deserialize)]
struct Ids {
    cluster_id: u64,
    members: Vec<(String, String, u64)>,
}

/// A `NAME=HOST` argument.
fn machine(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, host)) if !name.is_empty() && !host.is_empty() && !name.contains('/') => {
            Ok((name.into(), host.into()))
        }
        _ => bail!("`{text}` is not NAME=HOST"),
    }
}

pub(crate) fn make(dir: &Path, members: &[String], nodes: &[String]) -> Result<()> {
    let members = members
        .iter()
        .map(|text| machine(text))
        .collect::<Result<Vec<_>>>()?;
    let nodes = nodes
        .iter()
        .map(|text| machine(text))
        .collect::<Result<Vec<_>>>()?;
    pki::create_private_dir(dir)?;
    let ids = ids(dir, &members)?;
    let authority = Authority::open_or_create(dir, "ca", "kontiki-ca")?;
    let peers = Authority::open_or_create(dir, "peer-ca", "kontiki-peer-ca")?;
    pki::ensure_signing_key(&dir.join("sa.key"))?;
    let admin = Pair::in_dir(dir, "admin");
    authority.ensure(
        &admin,
        &local::client("kubernetes-admin", Some("system:masters")),
    )?;

    for (name, host, id) in &ids.members {
        let folder = dir.join(name);
        let member = local::Member {
            name: name.clone(),
            id: *id,
            api_port: API_PORT,
            peer_port: PEER_PORT,
        };
        local::member_certificates(
            &authority,
            &peers,
            &folder.join("pki"),
            &member,
            ids.cluster_id,
            std::slice::from_ref(host),
        )?;
        for shared in ["ca.crt", "peer-ca.crt", "sa.key"] {
            copy(dir, &folder.join("pki"), shared)?;
        }
        pki::write_secret(
            &folder.join("server.env"),
            server_env(&ids, name, host, *id).as_bytes(),
        )?;
    }
    let servers: Vec<String> = ids
        .members
        .iter()
        .map(|(_, host, _)| format!("https://{host}:{API_PORT}"))
        .collect();
    for (name, host) in &nodes {
        let folder = dir.join(local::node_dir(name));
        local::node_certificates(
            &authority,
            &folder.join("pki"),
            name,
            std::slice::from_ref(host),
        )?;
        copy(dir, &folder.join("pki"), "ca.crt")?;
        pki::write_secret(
            &folder.join("agent.env"),
            agent_env(&servers, name, host).as_bytes(),
        )?;
    }
    let ca = pki::read(&authority.pair.cert)?;
    pki::write_secret(
        &dir.join("kubeconfig"),
        local::kubeconfig(&servers, &ca, &admin)?.as_bytes(),
    )?;
    for (name, host, _) in &ids.members {
        say(&format!(
            "{}/  ->  {host}:{INSTALLED}/   then: systemctl enable --now kontiki-server",
            dir.join(name).display()
        ));
    }
    for (name, host) in &nodes {
        let folder = dir.join(local::node_dir(name));
        say(&format!(
            "{}/  ->  {host}:{INSTALLED}/   then: systemctl enable --now kontiki-agent",
            folder.display()
        ));
    }
    say(&format!(
        "export KUBECONFIG={}",
        dir.join("kubeconfig").display()
    ));
    Ok(())
}

fn ids(dir: &Path, members: &[(String, String)]) -> Result<Ids> {
    let file = dir.join("ids.json");
    if file.exists() {
        let ids: Ids = serde_json::from_str(&pki::read(&file)?)
            .with_context(|| format!("{} is damaged", file.display()))?;
        let known = |name: &String| ids.members.iter().any(|(known, _, _)| known == name);
        if let Some((name, _)) = members.iter().find(|(name, _)| !known(name)) {
            bail!(
                "{name} is not among the initial members in {}",
                file.display()
            );
        }
        return Ok(ids);
    }
    if members.is_empty() {
        bail!("a new cluster needs --members NAME=HOST,...");
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
        .map(|(name, host, id)| format!("{name}={id:x}@{host}:{PEER_PORT}"))
        .collect();
    [
        ("NAME", name.to_string()),
        ("MEMBER_ID", format!("{id:x}")),
        ("CLUSTER_ID", format!("{:x}", ids.cluster_id)),
        ("INITIAL_MEMBERS", members.join(",")),
        ("DATA_DIR", "/var/lib/kontiki/server".into()),
        ("PKI_DIR", format!("{INSTALLED}/pki")),
        ("API_LISTEN", format!("0.0.0.0:{API_PORT}")),
        ("API_ADVERTISE", format!("{host}:{API_PORT}")),
        ("PEER_LISTEN", format!("0.0.0.0:{PEER_PORT}")),
        ("PEER_ADVERTISE", format!("{host}:{PEER_PORT}")),
    ]
    .map(|(key, value)| format!("KONTIKI_{key}={value}\n"))
    .concat()
}

fn agent_env(servers: &[String], name: &str, host: &str) -> String {
    [
        ("NODE_NAME", name.to_string()),
        ("NODE_IP", host.to_string()),
        ("SERVERS", servers.join(",")),
        ("DATA_DIR", "/var/lib/kontiki/node".into()),
        ("PKI_DIR", format!("{INSTALLED}/pki")),
    ]
    .map(|(key, value)| format!("KONTIKI_{key}={value}\n"))
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_call_adds_a_node_to_the_same_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        make(
            dir,
            &[
                "a=10.0.0.1".into(),
                "b=10.0.0.2".into(),
                "c=10.0.0.3".into(),
            ],
            &[],
        )
        .unwrap();
        let env = pki::read(&dir.join("a/server.env")).unwrap();
        assert!(env.contains("KONTIKI_API_ADVERTISE=10.0.0.1:6443"), "{env}");
        make(dir, &[], &["w1=10.0.0.9".into()]).unwrap();
        assert_eq!(pki::read(&dir.join("a/server.env")).unwrap(), env);
        let agent = pki::read(&dir.join("node-w1/agent.env")).unwrap();
        assert!(
            agent.contains("KONTIKI_SERVERS=https://10.0.0.1:6443,https://10.0.0.2:6443"),
            "{agent}"
        );
        assert!(make(dir, &["d=10.0.0.4".into()], &[]).is_err());
    }

    #[test]
    fn a_machine_is_a_name_and_a_host() {
        for bad in ["a", "=h", "a=", "../x=h"] {
            assert!(machine(bad).is_err(), "{bad}");
        }
    }
}
