//! A road between members on which packets overtake each other, or come twice. The kernel of many machines has no means for
//! that (netem), so a small program in the bridge's namespace carries them: it hears each port of the bridge, and the
//! packets that it carries are dropped where the bridge would have taken them. They are packets as TCP sent them, checksums
//! and all; TCP at the other end brings them into order again, and takes what comes twice once.
//!
//! Python is there for it because packet sockets are not safe Rust.

use super::links::Links;
use super::program;
use super::space::Space;
use super::topology::{address, port};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const PROGRAM: &str = include_str!("road.py");

/// How packets fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Each is late by up to so much.
    pub late: Duration,
    /// So many of a hundred come twice.
    pub twice_percent: u8,
}

/// As long as it lives the links lead over it.
pub struct Road {
    bridge: Arc<Space>,
    program: Child,
}

impl Road {
    pub fn open(bridge: &Arc<Space>, links: &Links, manner: Manner, seed: u64) -> Result<Road> {
        let words = arguments(links, manner, seed);
        let program = bridge.within(move || {
            Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--", "python3", "-c", PROGRAM])
                .args(words)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
        })??;
        let mut road = Road {
            bridge: bridge.clone(),
            program,
        };
        let mut said = String::new();
        if let Some(out) = road.program.stdout.take() {
            BufReader::new(out).read_line(&mut said)?;
        }
        if said != "ready\n" {
            bail!("the road is not ready: {}", road.program.wait()?);
        }
        filter(bridge, ruleset(links))?;
        Ok(road)
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        // The bridge first, so that no more is lost than what is on the way.
        if let Err(error) = filter(&self.bridge, ruleset(&Links::new())) {
            eprintln!("the bridge stays closed: {error:#}");
        }
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn filter(bridge: &Arc<Space>, text: String) -> Result<()> {
    bridge.within(move || program::run_with("nft", &["-f", "-"], &text).map(|_| ()))?
}

fn arguments(links: &Links, manner: Manner, seed: u64) -> Vec<String> {
    let mut words = vec![
        seed.to_string(),
        manner.late.as_millis().to_string(),
        manner.twice_percent.to_string(),
    ];
    let link =
        |(from, to): &(usize, usize)| format!("{},{},{}", port(*from), port(*to), address(*to));
    words.extend(links.iter().map(link));
    words
}

/// What the bridge itself does not take any more, in the words of `nft -f`.
fn ruleset(links: &Links) -> String {
    let mut closed: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (from, to) in links {
        closed
            .entry(*from)
            .or_default()
            .push(format!("    ip daddr {} drop\n", address(*to)));
    }
    let chain = |(from, rules): (usize, Vec<String>)| {
        let port = port(from);
        format!(
            "  chain {port} {{\n    type filter hook ingress device {port} priority 0; policy accept;\n{}  }}\n",
            rules.concat()
        )
    };
    let chains: String = closed.into_iter().map(chain).collect();
    // Adding it first makes the deletion right whether it is there or not.
    format!("add table netdev road\ndelete table netdev road\ntable netdev road {{\n{chains}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_carries_is_what_the_bridge_drops() {
        let links = Links::from([(0, 1), (0, 2), (2, 0)]);
        let manner = Manner {
            late: Duration::from_millis(30),
            twice_percent: 5,
        };
        let words = [
            "7",
            "30",
            "5",
            "p0,p1,10.77.0.2",
            "p0,p2,10.77.0.3",
            "p2,p0,10.77.0.1",
        ];
        assert_eq!(arguments(&links, manner, 7), words);
        let text = ruleset(&links);
        for (device, rules) in [("p0", 2), ("p2", 1)] {
            let chain = text
                .split("chain ")
                .find(|chain| chain.starts_with(device))
                .unwrap();
            assert!(chain.contains(&format!("device {device} ")));
            assert_eq!(chain.matches(" drop").count(), rules, "{text}");
        }
        assert!(!text.contains("chain p1"));
        assert!(!ruleset(&Links::new()).contains("chain"));
    }
}
