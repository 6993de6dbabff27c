//! The ranges of Services' addresses: told to be ready, and kept while an address would be left in none of them.

use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::kinds::ServiceCidr;
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::SERVICE_CIDRS;
use agent_runtime::timestamp::{self, Micros};
use agent_runtime::{Cache, Cidr, Key, Queue};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "service-cidr-controller",
    help: "keeps the ranges of services' addresses that are in use",
    workers: 5,
    body: Body::Keyed { wire, reconcile },
};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// Who made the address: of others nothing is known.
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
/// A server that has not heard yet that a range goes may take an address of it for so long.
const GRACE: Micros = timestamp::seconds(10);
const READY: &str = "Kubernetes Service CIDR is ready";
const IN_USE: &str = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let (ranges, keys) = (Arc::downgrade(&caches.service_cidrs), queue.clone());
    caches.service_cidrs.subscribe(move |change| {
        let changed = change.latest();
        keys.add(Key::of(&changed.metadata));
        // A range that comes may set others free, and one that goes may have to stay for it.
        let is_first = change.old.is_none() || change.new.is_none();
        if let Some(ranges) = ranges.upgrade().filter(|_| is_first) {
            let theirs = cidrs(changed);
            enqueue(&ranges, &keys, |cidr| {
                theirs.iter().any(|other| other.overlaps(cidr))
            });
        }
    });
    let (ranges, keys) = (caches.service_cidrs.clone(), queue.clone());
    caches.ip_addresses.subscribe(move |change| {
        let is_changed = change.old.is_some() && change.new.is_some();
        if let Ok(address) = change.latest().metadata.name.parse()
            && !is_changed
        {
            enqueue(&ranges, &keys, |cidr: &Cidr| cidr.serves(address));
        }
    });
}

/// Those that are being deleted and have such a part: nothing of the others depends on anything else.
fn enqueue(ranges: &Cache<ServiceCidr>, keys: &Queue<Key>, matches: impl Fn(&Cidr) -> bool) {
    for range in ranges.list() {
        if range.metadata.is_deleting() && cidrs(&range).iter().any(&matches) {
            keys.add(Key::of(&range.metadata));
        }
    }
}

fn cidrs(range: &ServiceCidr) -> Vec<Cidr> {
    let cidrs = range.spec.cidrs.iter();
    cidrs.filter_map(|cidr| cidr.parse().ok()).collect()
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(range) = world.caches.service_cidrs.by_key(key) else {
        return Plan::none();
    };
    let meta = &range.metadata;
    let holds = meta.finalizers.iter().any(|name| name == FINALIZER);
    let mut plan = Plan::none();
    let Some(deleted) = &meta.deletion_timestamp else {
        let ready = told(&range, ("True", "", READY), world.now);
        let all = meta.finalizers.iter().map(String::as_str);
        let held = (!holds).then(|| finalizers(&range, all.chain([FINALIZER])));
        plan.ops.extend(match (held, ready) {
            (Some(first), Some(then)) => Some(Op::Follow {
                first: Box::new(first),
                then: Box::new(then),
            }),
            (held, ready) => held.or(ready),
        });
        return plan;
    };
    if is_needed(&range, world) {
        let condition = ("False", "Terminating", IN_USE);
        plan.ops.extend(told(&range, condition, world.now));
    } else if holds {
        let since = timestamp::parse(deleted).unwrap_or(0);
        let left = since.saturating_add(GRACE).saturating_sub(world.now);
        match u64::try_from(left) {
            Ok(left) if left > 0 => plan.again(Duration::from_micros(left)),
            _ => {
                let all = meta.finalizers.iter().map(String::as_str);
                plan.push(finalizers(&range, all.filter(|name| *name != FINALIZER)));
            }
        }
    }
    plan
}

/// Replaces the list. The version makes sure that no finalizer of somebody else is lost.
fn finalizers<'a>(range: &ServiceCidr, all: impl Iterator<Item = &'a str>) -> Op {
    let meta = &range.metadata;
    let all: Vec<&str> = all.collect();
    let body = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": all}});
    Op::merge(&SERVICE_CIDRS, meta, body)
}

/// Says whether the range is ready, where that is not said yet.
fn told(
    range: &ServiceCidr,
    (status, reason, message): (&str, &str, &str),
    now: Micros,
) -> Option<Op> {
    let conditions = &range.status.conditions;
    let is_ready = |condition: &&Value| condition["type"] == "Ready";
    let present = conditions.iter().find(is_ready);
    let says = |present: &Value, field: &str, text: &str| {
        present[field].as_str().unwrap_or_default() == text
    };
    let is_told = present.is_some_and(|present| {
        says(present, "status", status)
            && says(present, "reason", reason)
            && says(present, "message", message)
    });
    if is_told {
        return None;
    }
    let others = conditions.iter().filter(|condition| !is_ready(condition));
    let mut all: Vec<Value> = others.cloned().collect();
    // Unlike elsewhere, the reason is written also where it is empty, as Kubernetes does.
    all.push(
        json!({"type": "Ready", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": timestamp::time(now)}),
    );
    let status = json!({ "conditions": all });
    Some(Op::status(&SERVICE_CIDRS, &range.metadata, status))
}

/// Whether an address would be in no range any more without this one. Ranges that are being deleted, too, do not count:
/// two of them would else let each other go.
fn is_needed(range: &ServiceCidr, world: &World) -> bool {
    let others: Vec<Cidr> = world
        .caches
        .service_cidrs
        .list()
        .iter()
        .filter(|other| other.metadata.name != range.metadata.name && !other.metadata.is_deleting())
        .flat_map(|other| cidrs(other))
        .collect();
    let mut left = cidrs(range);
    left.retain(|cidr| !others.iter().any(|other| other.contains(cidr)));
    if left.is_empty() {
        return false;
    }
    let serves = |ranges: &[Cidr], address: IpAddr| ranges.iter().any(|cidr| cidr.serves(address));
    world.caches.ip_addresses.list().iter().any(|address| {
        let meta = &address.metadata;
        let is_service = meta
            .labels
            .get(MANAGED_BY)
            .is_some_and(|by| by == ALLOCATOR);
        let address = meta.name.parse::<IpAddr>();
        is_service && address.is_ok_and(|ip| serves(&left, ip) && !serves(&others, ip))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{Dice, Simulation};
    use crate::testing::{NOW, world};

    /// A range that is being deleted since `at`, or lives where that is empty.
    fn range(name: &str, cidrs: &str, at: &str) -> String {
        let deleted = match at {
            "" => String::new(),
            at => format!(", deletionTimestamp: '{at}'"),
        };
        format!(
            "---\nkind: ServiceCIDR\nmetadata: {{name: {name}, uid: {name}, resourceVersion: '7', finalizers: [x/y, networking.k8s.io/service-cidr-finalizer]{deleted}}}\nspec: {{cidrs: [{cidrs}]}}\n"
        )
    }

    fn address(name: &str) -> String {
        format!(
            "---\nkind: IPAddress\nmetadata: {{name: '{name}', labels: {{ipaddress.kubernetes.io/managed-by: ipallocator.k8s.io}}}}\n"
        )
    }

    fn plan(parts: &[&str]) -> Vec<String> {
        reconcile(&Key::new("", "r"), &world(&parts.concat())).lines()
    }

    const LONG_AGO: &str = "2026-01-01T09:00:00Z";
    const FREED: &str =
        r#"patch servicecidrs.networking.k8s.io r {"metadata":{"finalizers":["x/y"]}}"#;

    #[test]
    fn a_range_is_protected_and_told_to_be_ready() {
        let bare = "kind: ServiceCIDR\nmetadata: {name: r, finalizers: [x/y]}\nspec: {cidrs: [10.0.0.0/24]}\n";
        let ready = format!(
            r#"patch servicecidrs.networking.k8s.io/status r {{"status":{{"conditions":[{{"lastTransitionTime":"{NOW}","message":"Kubernetes Service CIDR is ready","reason":"","status":"True","type":"Ready"}}]}}}}"#
        );
        let held = r#"patch servicecidrs.networking.k8s.io r {"metadata":{"finalizers":["x/y","networking.k8s.io/service-cidr-finalizer"]}}"#;
        assert_eq!(plan(&[bare]), [held, &*ready]);
        let living = range("r", "10.0.0.0/24", "");
        assert_eq!(plan(&[&living]), [&*ready]);
        let other = "status: {conditions: [{type: Other, status: 'True'}, {type: Ready, status: 'True', message: Kubernetes default Service CIDR is ready}]}\n";
        let told = plan(&[&living, other]);
        assert!(
            told.len() == 1 && told[0].contains(r#"{"status":"True","type":"Other"}"#),
            "{told:?}"
        );
        for reason in ["", "reason: '', "] {
            let status = format!(
                "status: {{conditions: [{{type: Ready, status: 'True', {reason}message: Kubernetes Service CIDR is ready}}]}}\n"
            );
            assert!(plan(&[&living, &status]).is_empty());
        }
        assert!(plan(&[]).is_empty());
    }

    #[test]
    fn a_range_stays_while_an_address_would_be_left_alone() {
        let going = range("r", "10.0.0.0/24", LONG_AGO);
        assert_eq!(plan(&[&going]), [FREED]);
        let waits = plan(&[&going, &address("10.0.0.5")]);
        assert_eq!(
            waits,
            [format!(
                r#"patch servicecidrs.networking.k8s.io/status r {{"status":{{"conditions":[{{"lastTransitionTime":"{NOW}","message":"There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR","reason":"Terminating","status":"False","type":"Ready"}}]}}}}"#
            )]
        );
        for (other, stays, what) in [
            (range("o", "10.0.0.0/16", ""), false, "a larger one"),
            (range("o", "10.0.0.0/24", ""), false, "the same"),
            (range("o", "10.0.0.4/30", ""), false, "one that holds it"),
            (range("o", "10.0.0.8/30", ""), true, "one that does not"),
            (
                range("o", "10.0.0.5/32", ""),
                true,
                "one that cannot give it",
            ),
            (
                range("o", "10.0.0.0/16", LONG_AGO),
                true,
                "one that goes, too",
            ),
        ] {
            let lines = plan(&[&going, &other, &address("10.0.0.5")]);
            assert_eq!(lines == [FREED], !stays, "{what}: {lines:?}");
        }
        for other in [
            address("10.0.1.5"),
            address("10.0.0.0"),
            address("10.0.0.255"),
            address("fd00::5"),
            address("10.0.0.5").replace("ipallocator.k8s.io", "somebody.example.com"),
        ] {
            assert_eq!(plan(&[&going, &other]), [FREED], "{other}");
        }
        let both = range("r", "'fd00::/112', 10.0.0.0/24", LONG_AGO);
        let parent = range("o", "10.0.0.0/16", "");
        let six = address("fd00::5");
        assert!(plan(&[&both, &parent, &six])[0].contains("Terminating"));
        assert_eq!(plan(&[&both, &parent, &address("10.0.0.5")]), [FREED]);
    }

    #[test]
    fn servers_have_some_seconds_to_hear_that_a_range_goes() {
        assert_eq!(plan(&[&range("r", "10.0.0.0/24", NOW)]), ["again in 10s"]);
        let soon = range("r", "10.0.0.0/24", "2026-01-01T09:59:57Z");
        assert_eq!(plan(&[&soon]), ["again in 7s"]);
        let done = soon.replace(", networking.k8s.io/service-cidr-finalizer", "");
        assert!(plan(&[&done]).is_empty());
    }

    #[test]
    fn what_may_set_a_range_free_wakes_it() {
        let going = range("r", "10.0.0.0/24", LONG_AGO);
        let text = [
            &*going,
            &*range("s", "10.0.0.0/24", ""),
            &*address("10.0.0.5"),
            &*address("10.0.9.5"),
        ]
        .concat();
        let world = world(&text);
        let wired = |wire: &dyn Fn(&Arc<Queue<Key>>)| {
            let queue = Arc::new(Queue::new());
            wire(&queue);
            queue.len()
        };
        assert_eq!(wired(&|queue| wire(&world.caches, queue)), 2, "each range");
        let ranges = &world.caches.service_cidrs;
        let woken = |address: &str| {
            wired(&|queue| {
                let address = address.parse().unwrap();
                enqueue(ranges, queue, |cidr| cidr.serves(address));
            })
        };
        assert_eq!((woken("10.0.0.5"), woken("10.0.9.5")), (1, 0));
    }

    fn disturb(cluster: &mut Simulation, dice: &mut Dice) {
        let cidrs = [["10.0.0.0/24"], ["10.0.0.0/28"], ["10.0.0.64/28"]];
        let name = ["a", "b", "c"][usize::try_from(dice.roll(3)).unwrap()];
        let there = cluster.get("ServiceCIDR", name);
        let ip = format!("10.0.0.{}", 1 + dice.roll(100));
        match (dice.roll(6), there) {
            (0, None) => {
                let cidrs = cidrs[usize::try_from(dice.roll(3)).unwrap()];
                cluster.put(json!({"kind": "ServiceCIDR", "metadata": {"name": name, "uid": name}, "spec": {"cidrs": cidrs}}));
            }
            // Before it is protected nobody can be sure of anything.
            (1 | 2, Some(range)) if range["metadata"]["finalizers"].is_null() => {}
            (1, Some(_)) => {
                let mark = json!({"metadata": {"deletionTimestamp": NOW}});
                cluster.patch("ServiceCIDR", name, &mark);
            }
            (2, Some(range)) if range["metadata"]["deletionTimestamp"].is_null() => {
                let cidr: Cidr = range["spec"]["cidrs"][0].as_str().unwrap().parse().unwrap();
                if cidr.serves(ip.parse().unwrap()) {
                    let labels = json!({ MANAGED_BY: ALLOCATOR });
                    cluster.put(json!({"kind": "IPAddress", "metadata": {"name": ip, "uid": ip, "labels": labels}}));
                }
            }
            (3, _) => {
                if let Some(ip) = cluster.names("IPAddress").first() {
                    cluster.remove("IPAddress", ip);
                }
            }
            _ => {
                cluster.seconds += 3;
                cluster.cut_off(&Key::new("", name), reconcile, dice.roll(3));
            }
        }
    }

    #[test]
    fn no_address_is_ever_left_alone_and_ranges_that_nobody_needs_go() {
        for seed in 0..200 {
            let (mut cluster, mut dice) = (Simulation::new(""), Dice(seed));
            for _ in 0..120 {
                disturb(&mut cluster, &mut dice);
            }
            let mut is_busy = true;
            for _ in 0..10 {
                cluster.seconds += 11;
                is_busy = false;
                for name in cluster.names("ServiceCIDR") {
                    is_busy |= cluster.step(&Key::new("", &name), reconcile);
                }
            }
            assert!(!is_busy, "seed {seed}: it does not come to rest");
            let ranges = cluster.all("ServiceCIDR");
            for range in &ranges {
                let is_going = !range["metadata"]["deletionTimestamp"].is_null();
                let ready = &range["status"]["conditions"][0]["status"];
                assert_eq!(
                    ready,
                    if is_going { "False" } else { "True" },
                    "seed {seed}"
                );
            }
            for ip in cluster.names("IPAddress") {
                let mut cidrs = ranges
                    .iter()
                    .map(|range| range["spec"]["cidrs"][0].as_str());
                let serves = |cidr: Option<&str>| {
                    cidr.unwrap()
                        .parse::<Cidr>()
                        .unwrap()
                        .serves(ip.parse().unwrap())
                };
                assert!(cidrs.any(serves), "seed {seed}: {ip}");
            }
        }
    }
}
