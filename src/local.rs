//! The cluster on this machine that `kontiki up` makes: which processes it has, where their files and ports are,
//! and the command line of each. The plan is made once and kept, so that a second `up` means the same cluster.

mod certificates;
mod command_line;
mod home;
mod kubeconfig;

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::cli::host_name;
use crate::hollow::{Hollow, HollowWish};
pub(crate) use certificates::{
    FRONT_PROXY_CA, FRONT_PROXY_CLIENT, SHARED, STORE_CA, client, ensure_pki,
    front_proxy_certificates, member_certificates, node_certificates, store_port_certificates,
};
pub(crate) use command_line::{agent_command, server_command};
pub(crate) use home::Home;
pub(crate) use kubeconfig::kubeconfig;

/// First port for etcd clients. Not etcd's own 2379: Debian's etcd may run on the same machine.
pub(crate) const ETCD_PORT: u16 = 6490;
pub(crate) const SERVICE_CIDR: &str = "10.96.0.0/12";
/// The first address of the service range: the `kubernetes` Service.
pub(crate) const KUBERNETES_SERVICE_IP: &str = "10.96.0.1";
/// Who the API server is towards node agents.
pub(crate) const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";
/// Who may do anything.
pub(crate) const ADMIN: &str = "kubernetes-admin";
/// Above the node agent's port is that of the hollow nodes.
const HOLLOW_PORT_ABOVE: u16 = 100;

/// Everything that is decided once about a local cluster; `<home>/cluster.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) cluster_id: u64,
    pub(crate) members: Vec<Member>,
    pub(crate) node: Node,
    /// Simulated nodes beside that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hollow: Option<Hollow>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) id: u64,
    pub(crate) api_port: u16,
    pub(crate) peer_port: u16,
    /// For etcd clients, on loopback. 0 in a plan of before there was one, until [`Plan::complete`] chooses.
    #[serde(default)]
    pub(crate) etcd_port: u16,
    /// It is being removed from the store, or is removed already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) leaving: bool,
}

impl Member {
    /// Where etcd clients reach it.
    pub(crate) fn etcd_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.etcd_port)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// `docker` or `hollow`.
    pub(crate) runtime: String,
    pub(crate) port: u16,
    /// It has a process of its own even beside a single member: the cluster had several.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) apart: bool,
}

/// What the user chose on the command line. What is absent stays as the cluster has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) members: Option<usize>,
    pub(crate) runtime: Option<String>,
    pub(crate) api_port: Option<u16>,
    pub(crate) peer_port: Option<u16>,
    pub(crate) etcd_port: Option<u16>,
    pub(crate) node_port: Option<u16>,
    pub(crate) node_name: Option<String>,
    pub(crate) hollow: HollowWish,
}

impl Plan {
    /// A new plan: consecutive ports from the first ones, random ids (an id is never used again, even after a reset).
    pub(crate) fn new(wishes: &Wishes, random: &mut dyn FnMut() -> u64) -> Result<Plan> {
        let count = wishes.members.unwrap_or(1);
        let api_ports = neighbours(wishes.api_port.unwrap_or(6443), count)?;
        let peer_ports = neighbours(wishes.peer_port.unwrap_or(6480), count)?;
        let node = Node {
            name: wishes.node_name.clone().unwrap_or_else(host_name),
            runtime: wishes.runtime.clone().unwrap_or_else(|| {
                // Who asks for simulated nodes needs no Docker.
                let simulated = wishes.hollow.is_any();
                if simulated { "hollow" } else { "docker" }.into()
            }),
            port: wishes.node_port.unwrap_or(10250),
            apart: false,
        };
        let ports = api_ports.into_iter().zip(peer_ports).enumerate();
        let members = ports.map(|(index, (api_port, peer_port))| Member {
            name: format!("m{}", index + 1),
            id: random() | 1,
            api_port,
            peer_port,
            etcd_port: 0,
            leaving: false,
        });
        let plan = Plan {
            members: members.collect(),
            cluster_id: random() | 1,
            node,
            hollow: None,
        };
        plan.with_hollow(&wishes.hollow)?.complete(wishes.etcd_port)
    }

    /// With the hollow nodes that are wished.
    fn with_hollow(mut self, wish: &HollowWish) -> Result<Plan> {
        let port = self.node.port.saturating_add(HOLLOW_PORT_ABOVE);
        self.hollow = wish.on(self.hollow.as_ref(), port)?;
        Ok(self)
    }

    /// With ports for etcd clients where it has none yet: from the wished one on, else from the first ten of which
    /// none is taken by the plan itself.
    fn complete(mut self, wished: Option<u16>) -> Result<Plan> {
        if self.members.iter().any(|member| member.etcd_port == 0) {
            let others = self.ports();
            let free = |first: &u16| {
                let mut own = *first..first.saturating_add(10);
                own.all(|port| !others.contains(&port))
            };
            let first = wished.or_else(|| (ETCD_PORT..u16::MAX).step_by(10).find(free));
            let first = first.unwrap_or(ETCD_PORT);
            let ports = neighbours(first, self.members.len())?;
            for (member, port) in self.members.iter_mut().zip(ports) {
                member.etcd_port = port;
            }
        }
        let mut taken = BTreeSet::new();
        match self.ports().into_iter().find(|port| !taken.insert(*port)) {
            None => Ok(self),
            Some(twice) => bail!(
                "port {twice} would be used twice: choose --api-port, --peer-port, --etcd-port, --node-port and \
                 --hollow-port further apart"
            ),
        }
    }

    /// All ports that are chosen.
    fn ports(&self) -> Vec<u16> {
        let members = self.members.iter();
        let of_members = members.flat_map(|m| [m.api_port, m.peer_port, m.etcd_port]);
        let hollow = self.hollow.as_ref().map(|hollow| hollow.port);
        let all = of_members.chain([self.node.port]).chain(hollow);
        all.filter(|port| *port != 0).collect()
    }

    /// One more member, without an id yet: the lowest name that is not taken, and of each sort the lowest port that is
    /// neither taken by the plan nor otherwise.
    pub(crate) fn another(&self, is_free: &dyn Fn(u16) -> bool) -> Result<Member> {
        let first = self.members.first().context("the plan has no member")?;
        let mut taken = self.ports();
        let mut port = |from: u16| {
            let mut free = (from..=u16::MAX).filter(|port| !taken.contains(port) && is_free(*port));
            let port = free.next();
            let port = port.with_context(|| format!("no port is free from {from} on"))?;
            taken.push(port);
            anyhow::Ok(port)
        };
        let names = (1..).map(|number| format!("m{number}"));
        let mut unused =
            names.filter(|name| self.members.iter().all(|member| member.name != *name));
        Ok(Member {
            name: unused.next().context("no name is left")?,
            id: 0,
            api_port: port(first.api_port)?,
            peer_port: port(first.peer_port)?,
            etcd_port: port(first.etcd_port)?,
            leaving: false,
        })
    }

    pub(crate) fn member(&self, name: &str) -> Result<&Member> {
        let found = self.members.iter().find(|member| member.name == name);
        found.with_context(|| {
            let names: Vec<&str> = self.members.iter().map(|it| it.name.as_str()).collect();
            format!("there is no member {name}: there are {}", names.join(", "))
        })
    }

    /// The first wish that this cluster does not fulfil, but for the number of members, which can be changed: the flag, what the cluster has, and what was wished.
    fn contradiction(&self, wishes: &Wishes) -> Option<(&'static str, String, String)> {
        fn differ<T: PartialEq + ToString>(
            flag: &'static str,
            kept: T,
            wished: &Option<T>,
        ) -> Option<(&'static str, String, String)> {
            let wished = wished.as_ref().filter(|wished| **wished != kept)?;
            Some((flag, kept.to_string(), wished.to_string()))
        }
        let first = self.members.first()?;
        differ("--runtime", self.node.runtime.clone(), &wishes.runtime)
            .or_else(|| differ("--api-port", first.api_port, &wishes.api_port))
            .or_else(|| differ("--peer-port", first.peer_port, &wishes.peer_port))
            .or_else(|| differ("--etcd-port", first.etcd_port, &wishes.etcd_port))
            .or_else(|| differ("--node-port", self.node.port, &wishes.node_port))
            .or_else(|| differ("--node-name", self.node.name.clone(), &wishes.node_name))
    }

    /// A single member has the node agent in its own process: a laptop runs one program.
    pub(crate) fn one_process(&self) -> bool {
        self.members.len() == 1 && !self.node.apart
    }

    pub(crate) fn servers(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| format!("https://127.0.0.1:{}", member.api_port))
            .collect()
    }

    /// Where etcd clients reach the members.
    pub(crate) fn etcd_urls(&self) -> Vec<String> {
        self.members.iter().map(Member::etcd_url).collect()
    }

    /// The `--initial-members` value: `name=id@peer-address` for each.
    pub(crate) fn initial_members(&self) -> String {
        let members = self.members.iter();
        let parts = members.map(|m| format!("{}={:x}@127.0.0.1:{}", m.name, m.id, m.peer_port));
        parts.collect::<Vec<_>>().join(",")
    }
}

/// As many ports, from the first one on.
fn neighbours(first: u16, count: usize) -> Result<Vec<u16>> {
    let ports: Vec<u16> = (first..=u16::MAX).take(count).collect();
    if first == 0 || ports.len() < count {
        bail!("there are no {count} ports from {first} on");
    }
    Ok(ports)
}

pub(crate) fn node_dir(name: &str) -> String {
    format!("node-{name}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::pki::{self, Renew};

    fn wishes(members: usize) -> Wishes {
        Wishes {
            members: Some(members),
            runtime: Some("hollow".into()),
            node_name: Some("here".into()),
            ..Wishes::default()
        }
    }

    fn counter() -> impl FnMut() -> u64 {
        let mut next = 10;
        move || {
            next += 10;
            next
        }
    }

    #[test]
    fn members_get_ports_and_ids_of_their_own() {
        let plan = Plan::new(&wishes(3), &mut counter()).unwrap();
        assert_eq!(
            plan.initial_members(),
            "m1=15@127.0.0.1:6480,m2=1f@127.0.0.1:6481,m3=29@127.0.0.1:6482"
        );
        assert_eq!(plan.servers()[2], "https://127.0.0.1:6445");
    }

    #[test]
    fn a_kept_plan_is_used_again_and_contradictions_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home(dir.path().join("home"));
        let first = home.plan(&wishes(3), &mut counter()).unwrap();
        home.save(&first).unwrap();
        assert_eq!(home.plan(&wishes(3), &mut || 99).unwrap(), first);
        // Who says nothing gets what there is.
        assert_eq!(home.plan(&Wishes::default(), &mut || 99).unwrap(), first);
        let other_port = Wishes {
            node_port: Some(1),
            ..Wishes::default()
        };
        // How many members there are can be changed.
        assert_eq!(home.plan(&wishes(5), &mut || 99).unwrap(), first);
        let other_runtime = Wishes {
            runtime: Some("docker".into()),
            ..Wishes::default()
        };
        let other_etcd_port = Wishes {
            etcd_port: Some(1),
            ..Wishes::default()
        };
        for (wishes, why) in [
            (other_runtime, "has --runtime hollow, not docker"),
            (other_etcd_port, "has --etcd-port 6490, not 1"),
            (other_port, "has --node-port 10250, not 1"),
        ] {
            let error = home.plan(&wishes, &mut || 99).unwrap_err().to_string();
            assert!(
                error.contains(why) && error.contains("kontiki reset"),
                "{error}"
            );
        }
    }

    /// Homes outlive versions: this is what the first one wrote.
    #[test]
    fn a_plan_of_before_the_ports_for_etcd_clients_gets_them() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home(dir.path().into());
        let old = r#"{"cluster_id": 7, "node": {"name": "here", "runtime": "hollow", "port": 10250}, "members": [
            {"name": "m1", "id": 1, "api_port": 6443, "peer_port": 6491},
            {"name": "m2", "id": 3, "api_port": 6444, "peer_port": 6492}]}"#;
        fs::write(home.plan_file(), old).unwrap();
        let plan = home.plan(&Wishes::default(), &mut || 99).unwrap();
        // Not 6490, which is among the peer ports' neighbours.
        assert_eq!(
            plan.etcd_urls(),
            ["https://127.0.0.1:6500", "https://127.0.0.1:6501"]
        );
        let wished = |etcd_port| {
            let wishes = Wishes {
                etcd_port: Some(etcd_port),
                ..Wishes::default()
            };
            home.plan(&wishes, &mut || 99)
        };
        assert_eq!(wished(7000).unwrap().members[1].etcd_port, 7001);
        assert!(wished(6491).is_err());
        home.save(&plan).unwrap();
        assert_eq!(home.plan(&Wishes::default(), &mut || 99).unwrap(), plan);
    }

    #[test]
    fn ports_that_do_not_exist_or_overlap_are_refused() {
        let with = |api_port: u16, node_port: u16| {
            let wishes = Wishes {
                api_port: Some(api_port),
                node_port: Some(node_port),
                ..wishes(3)
            };
            Plan::new(&wishes, &mut counter()).map(|plan| plan.members[2].api_port)
        };
        assert_eq!(with(65533, 10250).unwrap(), 65535);
        for (api, node) in [(65534, 10250), (0, 10250), (6479, 10250), (7000, 7002)] {
            assert!(with(api, node).is_err(), "{api} {node}");
        }
    }

    #[test]
    fn one_more_member_takes_what_is_free() {
        let mut plan = Plan::new(&wishes(3), &mut counter()).unwrap();
        // The next API port is in use, and m2 has gone.
        let another = |plan: &Plan| plan.another(&|port| port != 6446).unwrap();
        plan.members.remove(1);
        let second = another(&plan);
        assert_eq!((second.name.as_str(), second.id), ("m2", 0));
        assert_eq!(
            (second.api_port, second.peer_port, second.etcd_port),
            (6444, 6481, 6491)
        );
        plan.members.push(second);
        let fourth = another(&plan);
        assert_eq!((fourth.name.as_str(), fourth.api_port), ("m4", 6447));
        assert!(plan.another(&|_| false).is_err());
    }

    #[test]
    fn a_wipe_takes_what_is_the_clusters_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home(dir.path().join("home"));
        let plan = home.plan(&wishes(3), &mut counter()).unwrap();
        ensure_pki(&home, &plan, "10.0.0.5", Renew::WhereNeeded).unwrap();
        let letter = home.0.join("letter");
        fs::write(&letter, "mine").unwrap();
        assert!(!home.wipe(&plan).unwrap());
        let left: Vec<_> = fs::read_dir(&home.0).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        fs::remove_file(&letter).unwrap();
        assert!(home.wipe(&plan).unwrap());
        assert!(!home.0.exists());
    }

    #[test]
    fn kubeconfig_has_a_context_for_each_member() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home(dir.path().join("home"));
        let plan = home.plan(&wishes(3), &mut counter()).unwrap();
        ensure_pki(&home, &plan, "10.0.0.5", Renew::WhereNeeded).unwrap();
        let config: serde_json::Value =
            serde_json::from_str(&pki::read(&home.kubeconfig()).unwrap()).unwrap();
        assert_eq!(config["contexts"].as_array().unwrap().len(), 3);
        assert_eq!(config["current-context"], "kontiki");
        assert_eq!(
            config["clusters"][1]["cluster"]["server"],
            "https://127.0.0.1:6444"
        );
    }
}
