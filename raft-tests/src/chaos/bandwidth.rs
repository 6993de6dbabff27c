//! A narrow line to one member: a token bucket in front of what it says, and another one in front of what it hears. More than
//! that waits in a queue, and is lost where the queue is full.

use super::program;
use super::space::Space;
use super::topology::port;
use anyhow::Result;
use std::sync::Arc;

/// Its ends: a namespace and a device in it.
pub struct Narrow {
    ends: [(Arc<Space>, String); 2],
}

impl Narrow {
    /// So many kilobits a second, each way.
    pub fn make(
        own: &Arc<Space>,
        bridge: &Arc<Space>,
        index: usize,
        rate_kbit: u64,
    ) -> Result<Narrow> {
        let ends = [
            (own.clone(), "eth0".to_string()),
            (bridge.clone(), port(index)),
        ];
        let narrow = Narrow { ends };
        for (space, device) in &narrow.ends {
            let rate = format!("{rate_kbit}kbit");
            tc(
                space,
                &[
                    "qdisc", "replace", "dev", device, "root", "tbf", "rate", &rate, "burst",
                    "16kb", "latency", "400ms",
                ],
            )?;
        }
        Ok(narrow)
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        for (space, device) in &self.ends {
            // Where making it failed there is none.
            let _ = tc(space, &["qdisc", "delete", "dev", device, "root"]);
        }
    }
}

fn tc(space: &Arc<Space>, words: &[&str]) -> Result<()> {
    let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
    space.within(move || {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        program::run("tc", &words).map(|_| ())
    })?
}
