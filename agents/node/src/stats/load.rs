//! What simulated containers pretend to use: a share of what they ask for, which follows from the pod's UID and the name
//! of the container, or what annotations of the pod say. An annotation may change while the pod runs.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;

use super::machine::of_machine;
use super::{Memory, Rate, Used};
use crate::quantity;

/// For every container of the pod, such as `250m`.
pub(crate) const CPU: &str = "kontiki.io/usage-cpu";
/// For every container of the pod, such as `64Mi`.
pub(crate) const MEMORY: &str = "kontiki.io/usage-memory";

const MIB: u64 = 1 << 20;
/// What is pretended without requests: so many thousandths of a core, so many MiB, and up to so many more.
const CPU_MILLI: (u64, u64) = (5, 45);
const MEMORY_MIB: (u64, u64) = (16, 112);
/// Shares of requests in thousandths, and up to so many more.
const SHARE: (u64, u64) = (300, 400);
/// The pretended node's own part.
const NODE_NANOCORES: u64 = 100_000_000;
const NODE_MEMORY: u64 = 512 * MIB;
/// The time that a rate is said to be of.
const WINDOW: Duration = Duration::from_secs(10);

/// A steady use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) nanocores: u64,
    pub(crate) memory_bytes: u64,
}

impl Load {
    /// Of a container of the pod; without the pod, of one that asks for nothing.
    pub(crate) fn of(pod: Option<&Value>, uid: &str, container: &str) -> Load {
        let annotation = |name: &str| pod?.pointer("/metadata/annotations")?.get(name);
        let request = |name: &str| {
            let all = pod?.pointer("/spec/containers")?.as_array()?;
            let own = all.iter().find(|one| one["name"] == container)?;
            let milli = quantity::milli_of(own.pointer("/resources/requests")?.get(name)?)?;
            u64::try_from(milli).ok().filter(|milli| *milli > 0)
        };
        let said = |name: &str| u64::try_from(quantity::milli_of(annotation(name)?)?).ok();
        let chance = |what: &str, (least, more): (u64, u64)| {
            least + hash((uid, container, what)) % (more + 1)
        };
        let cpu_milli = said(CPU).unwrap_or_else(|| match request("cpu") {
            Some(milli) => share(milli, chance("cpu", SHARE)),
            None => chance("cpu", CPU_MILLI),
        });
        let memory_bytes = said(MEMORY).map(|milli| milli / 1000);
        let memory_bytes = memory_bytes.unwrap_or_else(|| match request("memory") {
            Some(milli) => share(milli / 1000, chance("memory", SHARE)),
            None => chance("memory", MEMORY_MIB) * MIB,
        });
        Load {
            nanocores: cpu_milli.saturating_mul(1_000_000),
            memory_bytes,
        }
    }

    pub(crate) fn rate(&self) -> Rate {
        Rate {
            nanocores: self.nanocores,
            window: WINDOW,
        }
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory {
            usage: self.memory_bytes,
            working_set: self.memory_bytes,
            rss: self.memory_bytes / 2,
            ..Memory::default()
        }
    }

    /// What a load adds to the counter in some time.
    pub(crate) fn spent(&self, time: Duration) -> u64 {
        let product = u128::from(self.nanocores).saturating_mul(time.as_nanos());
        let nanos = product / 1_000_000_000;
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

fn share(amount: u64, thousandths: u64) -> u64 {
    u64::try_from(u128::from(amount) * u128::from(thousandths) / 1000).unwrap_or(u64::MAX)
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A simulated node uses what its containers do, and a little itself.
pub(crate) fn of_node(used: &[Used], now: OffsetDateTime) -> Used {
    let sum =
        |of: &dyn Fn(&Used) -> u64, own: u64| used.iter().map(of).fold(own, u64::saturating_add);
    let rates = |one: &Used| one.rate.map_or(0, |rate| rate.nanocores);
    let working_set = sum(&|one| one.memory.working_set, NODE_MEMORY);
    let memory = Memory {
        usage: working_set,
        working_set,
        rss: working_set / 2,
        ..Memory::default()
    };
    let cpu_nanos = sum(&|one| one.cpu_nanos, 0);
    let rate = Rate {
        nanocores: sum(&rates, NODE_NANOCORES),
        window: WINDOW,
    };
    Used {
        rate: Some(rate),
        ..of_machine(now, cpu_nanos, memory, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_load_is_steady_and_follows_from_uid_and_name() {
        let pod = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "100Mi"}}}]}});
        let first = Load::of(Some(&pod), "u", "c");
        assert_eq!(first, Load::of(Some(&pod), "u", "c"));
        assert!(
            (300_000_000..=700_000_000).contains(&first.nanocores),
            "{first:?}"
        );
        assert!(
            (30 * MIB..=70 * MIB).contains(&first.memory_bytes),
            "{first:?}"
        );
        let differs = (0..20).any(|uid| Load::of(Some(&pod), &uid.to_string(), "c") != first);
        assert!(differs);
        let without = Load::of(None, "u", "c");
        assert!((5_000_000..=50_000_000).contains(&without.nanocores));
    }

    #[test]
    fn annotations_say_otherwise_where_they_can_be_read() {
        let load = |cpu: &str, memory: &str| {
            let pod = json!({"metadata": {"annotations": {CPU: cpu, MEMORY: memory}}});
            Load::of(Some(&pod), "u", "c")
        };
        let expected = Load {
            nanocores: 250_000_000,
            memory_bytes: 64 * MIB,
        };
        assert_eq!(load("250m", "64Mi"), expected);
        assert_eq!(
            load("0", "0"),
            Load {
                nanocores: 0,
                memory_bytes: 0
            }
        );
        assert_eq!(load("much", "-1"), Load::of(None, "u", "c"));
    }

    #[test]
    fn counters_grow_with_the_load() {
        let load = Load {
            nanocores: 500_000_000,
            memory_bytes: 0,
        };
        assert_eq!(load.spent(Duration::from_secs(3)), 1_500_000_000);
        assert_eq!(
            Load {
                nanocores: u64::MAX,
                memory_bytes: 0
            }
            .spent(Duration::MAX),
            u64::MAX
        );
    }
}
