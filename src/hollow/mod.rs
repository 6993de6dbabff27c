//! Hollow nodes: the flags of `kontiki up --hollow` and `kontiki hollow`, and what a cluster's plan keeps of them.

pub(crate) mod grants;
pub(crate) mod process;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use agents::ServerIdentity;
use agents::hollow::{HollowNodes, NODES_MAX, Stages, Tainting, Watches};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::local::{Home, Plan};

/// What the hollow nodes of a cluster on this machine are called towards the API, and their group.
pub(crate) const USER: &str = "kontiki:hollow-nodes";
/// Their directory in a home, and the second word of their process's command line.
pub(crate) const ROLE: &str = "hollow";

const ABOUT: &str =
    "Stages files, behaviours, and what the nodes may do: docs/guide/hollow-clusters.md.";

/// `kontiki hollow`
#[derive(Args, Clone)]
#[command(after_help = ABOUT)]
pub(crate) struct HollowArgs {
    /// How many nodes
    #[arg(long, env = "KONTIKI_HOLLOW", default_value_t = 10)]
    pub(crate) nodes: u32,
    /// How to reach the API server, and who to be there; its current context counts [default: ~/.kube/config]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// API servers, https://HOST:PORT, separated by commas, instead of a kubeconfig; who to be there is in --pki-dir
    #[arg(
        long,
        value_name = "URL",
        env = "KONTIKI_SERVERS",
        value_delimiter = ',',
        requires = "pki_dir"
    )]
    pub(crate) servers: Vec<String>,
    /// Directory with ca.crt, server.* for logs, exec and figures and, for --servers, client.*; without it nothing is served
    #[arg(long, env = "KONTIKI_PKI_DIR", value_name = "DIR")]
    pub(crate) pki_dir: Option<PathBuf>,
    /// Address of this machine [default: that of the default route]
    #[arg(long, value_name = "IP", env = "KONTIKI_NODE_IP")]
    pub(crate) node_ip: Option<String>,
    /// HTTPS port that serves logs, exec and figures of all the nodes
    #[arg(long, env = "KONTIKI_HOLLOW_PORT", default_value_t = 10350)]
    pub(crate) port: u16,
    #[command(flatten)]
    pub(crate) shape: HollowShape,
}

/// `kontiki up --hollow`
#[derive(Args, Clone)]
#[command(next_help_heading = "Hollow nodes: all that is said replaces what was said before")]
pub(crate) struct UpHollow {
    /// Simulate so many nodes in one process, beside the cluster's own; 0 stops it. Without --runtime, that of a new
    /// cluster's own node is `hollow` then, too
    #[arg(long = "hollow", env = "KONTIKI_HOLLOW", value_name = "NODES")]
    nodes: Option<u32>,
    /// HTTPS port of that process [default: 100 above that of the node agent]
    #[arg(long = "hollow-port", env = "KONTIKI_HOLLOW_PORT", value_name = "PORT")]
    port: Option<u16>,
    #[command(flatten)]
    shape: HollowShape,
}

/// What the nodes and their pods are like.
#[derive(Args, Clone, Default)]
pub(crate) struct HollowShape {
    /// What pods do: a file with stages [default: they run at once, and those of Jobs end after a second]
    #[arg(long, env = "KONTIKI_HOLLOW_STAGES", value_name = "FILE")]
    hollow_stages: Option<PathBuf>,
    /// How they learn of their pods: by one watch, or by one for each node as real nodes do [default: shared]
    #[arg(long, value_name = "HOW", env = "KONTIKI_HOLLOW_WATCH", value_enum)]
    hollow_watch: Option<Fidelity>,
    /// Spread them over so many zones [default: 0]
    #[arg(long, value_name = "COUNT", env = "KONTIKI_HOLLOW_ZONES")]
    hollow_zones: Option<u32>,
    /// What their names begin with [default: hollow]
    #[arg(long, value_name = "PREFIX", env = "KONTIKI_HOLLOW_PREFIX", value_parser = prefix)]
    hollow_prefix: Option<String>,
    /// Processors of each [default: 32]
    #[arg(long, value_name = "COUNT", env = "KONTIKI_HOLLOW_CPUS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    hollow_cpus: Option<u32>,
    /// Memory of each in GiB [default: 256]
    #[arg(long, value_name = "GIB", env = "KONTIKI_HOLLOW_MEMORY_GIB", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    hollow_memory_gib: Option<u64>,
    /// At most so many pods run on each; up to 254 [default: 110]
    #[arg(long, value_name = "COUNT", env = "KONTIKI_HOLLOW_PODS_MAX", value_parser = clap::value_parser!(u32).range(1..=254))]
    hollow_pods_max: Option<u32>,
    /// So many, the last ones, say nothing, as if they were switched off [default: 0]
    #[arg(long, value_name = "NODES", env = "KONTIKI_HOLLOW_SILENT")]
    hollow_silent: Option<u32>,
    /// So many are slow: everything takes longer on them [default: 0]
    #[arg(long, value_name = "NODES", env = "KONTIKI_HOLLOW_SLOW")]
    hollow_slow: Option<u32>,
    /// How many times longer it takes on the slow ones [default: 10]
    #[arg(long, value_name = "FACTOR", env = "KONTIKI_HOLLOW_SLOW_FACTOR", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    hollow_slow_factor: Option<u32>,
    /// So many are ready and not ready in turns of a minute [default: 0]
    #[arg(long, value_name = "NODES", env = "KONTIKI_HOLLOW_FLAPPING")]
    hollow_flapping: Option<u32>,
    /// Whether they have the taint kontiki.io/hollow:NoSchedule: `auto` where the cluster has nodes of other kinds [default: auto]
    #[arg(long, value_name = "WHEN", env = "KONTIKI_HOLLOW_TAINT", value_enum)]
    hollow_taint: Option<Taint>,
    /// At most so many requests are under way at the same time [default: 64]
    #[arg(long, value_name = "COUNT", env = "KONTIKI_HOLLOW_WRITES", value_parser = clap::value_parser!(u32).range(2..=1000))]
    hollow_writes: Option<u32>,
    /// At most so many events are recorded in a second, of all nodes together; more are dropped [default: 20]
    #[arg(long, value_name = "COUNT", env = "KONTIKI_HOLLOW_EVENTS")]
    hollow_events: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Fidelity {
    Shared,
    PerNode,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Taint {
    Auto,
    Always,
    Never,
}

/// The name of a node is this, a `-` and five digits, and it is the value of a label.
fn prefix(text: &str) -> Result<String, String> {
    let name = crate::cli::name(text)?;
    match name.len() <= 57 {
        true => Ok(name),
        false => Err(format!("`{text}` is longer than 57 characters")),
    }
}

impl HollowShape {
    /// The flags that are given, as a command line has them.
    fn words(&self) -> Vec<String> {
        fn text(value: &impl ToString) -> String {
            value.to_string()
        }
        fn choice(value: &impl ValueEnum) -> String {
            let named = value.to_possible_value();
            named.map_or_else(String::new, |value| value.get_name().to_owned())
        }
        let stages = self.hollow_stages.as_ref().map(|file| {
            // The process has another working directory, perhaps.
            let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            file.display().to_string()
        });
        let all = [
            ("stages", stages),
            ("watch", self.hollow_watch.as_ref().map(choice)),
            ("zones", self.hollow_zones.as_ref().map(text)),
            ("prefix", self.hollow_prefix.clone()),
            ("cpus", self.hollow_cpus.as_ref().map(text)),
            ("memory-gib", self.hollow_memory_gib.as_ref().map(text)),
            ("pods-max", self.hollow_pods_max.as_ref().map(text)),
            ("silent", self.hollow_silent.as_ref().map(text)),
            ("slow", self.hollow_slow.as_ref().map(text)),
            ("slow-factor", self.hollow_slow_factor.as_ref().map(text)),
            ("flapping", self.hollow_flapping.as_ref().map(text)),
            ("taint", self.hollow_taint.as_ref().map(choice)),
            ("writes", self.hollow_writes.as_ref().map(text)),
            ("events", self.hollow_events.as_ref().map(text)),
        ];
        let given = all
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        given
            .flat_map(|(name, value)| [format!("--hollow-{name}"), value])
            .collect()
    }

    /// The nodes that are meant.
    pub(crate) fn nodes(&self, count: u32) -> Result<HollowNodes> {
        let mut nodes = HollowNodes::new(count);
        if let Some(file) = &self.hollow_stages {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let read = Stages::read(&text).map_err(anyhow::Error::msg);
            nodes.stages = read.with_context(|| format!("{} says no stages", file.display()))?;
        }
        if self.hollow_watch == Some(Fidelity::PerNode) {
            nodes.watches = Watches::PerNode;
        }
        nodes.taint = match self.hollow_taint {
            None | Some(Taint::Auto) => Tainting::Auto,
            Some(Taint::Always) => Tainting::Always,
            Some(Taint::Never) => Tainting::Never,
        };
        fn set<T>(field: &mut T, given: Option<T>) {
            if let Some(given) = given {
                *field = given;
            }
        }
        set(&mut nodes.zones, self.hollow_zones);
        set(&mut nodes.prefix, self.hollow_prefix.clone());
        set(&mut nodes.cpu_count, self.hollow_cpus);
        set(
            &mut nodes.memory_bytes,
            self.hollow_memory_gib.map(|gib| gib << 30),
        );
        set(&mut nodes.max_pods, self.hollow_pods_max);
        set(&mut nodes.silent, self.hollow_silent);
        set(&mut nodes.slow, self.hollow_slow);
        set(&mut nodes.slow_factor, self.hollow_slow_factor);
        set(&mut nodes.flapping, self.hollow_flapping);
        set(&mut nodes.events_per_second, self.hollow_events);
        let writes = self
            .hollow_writes
            .and_then(|writes| usize::try_from(writes).ok());
        set(&mut nodes.writes_max, writes);
        nodes.check()?;
        Ok(nodes)
    }
}

impl UpHollow {
    /// What is wished; an error where it cannot be.
    pub(crate) fn wish(&self) -> Result<HollowWish> {
        // Mistakes are told before anything is started.
        if self.nodes != Some(0) {
            // How many there are already is not known here.
            self.shape.nodes(self.nodes.unwrap_or(NODES_MAX))?;
        }
        Ok(HollowWish {
            nodes: self.nodes,
            port: self.port,
            words: self.shape.words(),
        })
    }
}

/// What the user chose of a cluster's hollow nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HollowWish {
    pub(crate) nodes: Option<u32>,
    pub(crate) port: Option<u16>,
    pub(crate) words: Vec<String>,
}

/// The hollow nodes of a cluster on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hollow {
    pub(crate) nodes: u32,
    pub(crate) port: u16,
    /// Flags of their process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) words: Vec<String>,
}

impl HollowWish {
    /// Whether there shall be any, as far as it is said.
    pub(crate) fn is_any(&self) -> bool {
        self.nodes.is_some_and(|nodes| nodes > 0)
    }

    /// What a cluster has from now on that has had these; `port` is the one where none was chosen.
    pub(crate) fn on(&self, kept: Option<&Hollow>, port: u16) -> Result<Option<Hollow>> {
        let nodes = self.nodes.or(kept.map(|kept| kept.nodes)).unwrap_or(0);
        if nodes == 0 {
            let said = !self.words.is_empty() || self.port.is_some();
            if said && self.nodes.is_none() {
                bail!("the cluster has no hollow nodes: say how many with --hollow NODES");
            }
            return Ok(None);
        }
        let words = match self.words.is_empty() {
            true => kept.map(|kept| kept.words.clone()).unwrap_or_default(),
            false => self.words.clone(),
        };
        Ok(Some(Hollow {
            nodes,
            port: self.port.or(kept.map(|kept| kept.port)).unwrap_or(port),
            words,
        }))
    }
}

/// The command line of their process, without the program.
pub(crate) fn command(home: &Home, plan: &Plan, hollow: &Hollow, node_ip: &str) -> Vec<String> {
    let mut line: Vec<String> = vec![ROLE.into()];
    let mut flag = |name: &str, value: String| line.extend([format!("--{name}"), value]);
    flag("nodes", hollow.nodes.to_string());
    flag("servers", plan.servers().join(","));
    flag("pki-dir", pki_dir(home).display().to_string());
    flag("node-ip", node_ip.to_string());
    flag("port", hollow.port.to_string());
    if plan.node.runtime != "hollow" && !hollow.words.iter().any(|word| word == "--hollow-taint") {
        // A real node may come later than they do.
        flag("hollow-taint", "always".into());
    }
    line.extend(hollow.words.iter().cloned());
    line
}

pub(crate) fn pki_dir(home: &Home) -> PathBuf {
    home.process_dir(ROLE).join("pki")
}

/// Where the server of the nodes listens, and who it is.
pub(crate) fn server(
    nodes: &mut HollowNodes,
    ip: IpAddr,
    port: u16,
    identity: Option<watch::Receiver<ServerIdentity>>,
) {
    nodes.node_ip = ip;
    let unspecified = std::net::Ipv4Addr::UNSPECIFIED;
    nodes.server = identity.map(|it| (SocketAddr::new(unspecified.into(), port), it));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        up: UpHollow,
    }

    fn wish(words: &[&str]) -> Result<HollowWish> {
        let line = std::iter::once(&"up").chain(words);
        Line::try_parse_from(line).unwrap().up.wish()
    }

    #[test]
    fn what_is_said_reaches_the_process_and_what_is_not_stays() {
        let first = wish(&[
            "--hollow",
            "50",
            "--hollow-zones",
            "3",
            "--hollow-watch=per-node",
        ]);
        let kept = first.unwrap().on(None, 10350).unwrap().unwrap();
        assert_eq!((kept.nodes, kept.port), (50, 10350));
        assert_eq!(
            kept.words,
            ["--hollow-watch", "per-node", "--hollow-zones", "3"]
        );
        assert_eq!(
            wish(&[]).unwrap().on(Some(&kept), 1).unwrap(),
            Some(kept.clone())
        );
        let more = wish(&["--hollow", "60"])
            .unwrap()
            .on(Some(&kept), 1)
            .unwrap()
            .unwrap();
        assert_eq!((more.nodes, more.words.len()), (60, 4));
        let other = wish(&["--hollow-silent", "2"])
            .unwrap()
            .on(Some(&kept), 1)
            .unwrap()
            .unwrap();
        assert_eq!(other.words, ["--hollow-silent", "2"]);
        assert_eq!(
            wish(&["--hollow", "0"])
                .unwrap()
                .on(Some(&kept), 1)
                .unwrap(),
            None
        );
    }

    #[test]
    fn what_cannot_be_is_said_before_anything_is_started() {
        for (words, expected) in [
            (
                &["--hollow", "5", "--hollow-silent", "6"][..],
                "there are only 5",
            ),
            (&["--hollow", "99999"], "1 to 16384 hollow nodes"),
            (
                &["--hollow", "5", "--hollow-stages", "/nowhere/x.yaml"],
                "cannot read /nowhere/x.yaml",
            ),
        ] {
            let error = format!("{:#}", wish(words).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
        let error = wish(&["--hollow-zones", "3"])
            .unwrap()
            .on(None, 1)
            .unwrap_err();
        assert!(error.to_string().contains("--hollow NODES"), "{error}");
        assert!(Line::try_parse_from(["up", "--hollow-prefix", "Big"]).is_err());
    }
}
