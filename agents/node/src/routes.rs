//! Routes to the pods of other nodes, in this machine's own table, as the cluster's table has them (see
//! [`agent_runtime::pod_routes`]). The machine is asked and told by `ip`; only routes that carry a number of our own are touched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use agent_runtime::pod_routes::{self, NAMESPACE, REPORT, Report, Route, TABLE};
use agent_runtime::resource_ref::{CONFIG_MAPS, NODES};
use agent_runtime::{ApiError, Cidr, PatchType};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::source::{Change, reflect};

/// By which the kernel's table tells who made a route; nobody that is listed in iproute2 has this number.
const PROTOCOL: &str = "143";
/// The machine is looked at, and the node told, so often although nothing has changed: somebody may have taken a route away.
const CHECK: Duration = Duration::from_secs(60);
/// Before another try at what has failed.
const RETRY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(10);

/// Entries of the table by node.
type Table = BTreeMap<String, String>;

/// Keeps the machine's routes as the table says, and the node's report true; runs until dropped.
pub(crate) async fn keep(agent: Arc<Agent>) {
    if !agent.config.pod_routes {
        withdraw(&agent).await;
        return std::future::pending().await;
    }
    let (sender, mut table) = watch::channel(None);
    let selector = format!("metadata.name={TABLE}");
    let (client, namespace) = (agent.client.clone(), NAMESPACE.to_owned());
    let following = reflect(client, CONFIG_MAPS, namespace, selector, move |change| {
        let map = match change {
            Change::Replaced(all) => all.into_iter().next(),
            Change::Applied(map) => Some(map),
            Change::Deleted(_) => None,
        };
        sender.send_replace(map.map(|map| entries(&map)));
    });
    let keeping = async {
        let mut told: Option<(Report, Instant)> = None;
        loop {
            let now = table.borrow_and_update().clone();
            let report = settle(&agent, now.as_ref()).await;
            let is_due = told
                .as_ref()
                .is_none_or(|(known, at)| *known != report || at.elapsed() >= CHECK);
            if is_due {
                if let Report::Failed(why) = &report {
                    tracing::warn!(why, "the machine does not route to the pods of other nodes");
                }
                told = match tell(&agent, Some(&report)).await {
                    Ok(()) => Some((report.clone(), Instant::now())),
                    Err(error) => {
                        tracing::debug!(error = %error.message, "cannot tell how the routes are yet");
                        None
                    }
                };
            }
            let is_well = told.is_some() && !matches!(report, Report::Failed(_));
            let pause = if is_well { CHECK } else { RETRY };
            tokio::select! {
                biased;
                changed = table.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
        }
    };
    tokio::select! {
        biased;
        () = following => {}
        () = keeping => {}
    }
}

/// Takes back what an agent of this node has done and said that took part.
async fn withdraw(agent: &Agent) {
    let name = &agent.config.node_name;
    loop {
        let done = match agent.client.get(&NODES, "", name).await {
            Ok(node) if node["metadata"]["annotations"][REPORT].is_string() => {
                // Nobody would change them when other nodes come and go.
                if !agent.is_hollow()
                    && let Err(why) = program(&BTreeMap::new()).await
                {
                    tracing::warn!(
                        why,
                        "cannot take back the routes to the pods of other nodes"
                    );
                }
                tell(agent, None).await
            }
            other => other.map(drop),
        };
        match done {
            Err(error) if !error.is_not_found() => tokio::time::sleep(RETRY).await,
            _ => return,
        }
    }
}

fn entries(map: &Value) -> Table {
    let data = map["data"].as_object().into_iter().flatten();
    let entry = |(name, text): (&String, &Value)| Some((name.clone(), text.as_str()?.to_owned()));
    data.filter_map(entry).collect()
}

/// Brings the machine to what the table says, if it knows this node.
async fn settle(agent: &Agent, table: Option<&Table>) -> Report {
    let own = &agent.config.node_name;
    let Some(table) = table.filter(|table| table.contains_key(own)) else {
        return Report::Pending;
    };
    if agent.is_hollow() {
        // There is no machine behind it; its pods reach the others' as much as they do anything.
        return Report::Programmed;
    }
    let done = program(&wanted(table, own)).await;
    done.map_or_else(Report::Failed, |()| Report::Programmed)
}

/// Routes to all nodes but this one. Of two to the same range the one of the first node by name counts. A node may claim any range:
/// one that would lead away what is for this machine, for its pods, for the node itself, or for the rest of the world gets no route.
fn wanted(table: &Table, own: &str) -> BTreeMap<Cidr, IpAddr> {
    let ours = table
        .get(own)
        .map(|text| pod_routes::read(text))
        .unwrap_or_default();
    let leads_to = |range: &Cidr, via| alone(via).is_some_and(|node| range.contains(&node));
    // Of other nodes' addresses nothing is believed here: whoever claims one in somebody's range must not take away its route.
    let is_harmless = |route: &Route| {
        let range = &route.range;
        let takes = |own: &Route| own.range.overlaps(range) || leads_to(range, own.via);
        range.prefix() > 0 && !leads_to(range, route.via) && !ours.iter().any(takes)
    };
    let mut wanted = BTreeMap::new();
    let others = table.iter().filter(|(name, _)| *name != own);
    let routes = others.flat_map(|(_, text)| pod_routes::read(text));
    for route in routes.filter(is_harmless) {
        wanted.entry(route.range).or_insert(route.via);
    }
    wanted
}

/// The range that is only this address.
fn alone(address: IpAddr) -> Option<Cidr> {
    Cidr::new(address, if address.is_ipv6() { 128 } else { 32 })
}

/// What there is to do on the machine.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// There is such a route. One that somebody else has made to the same range stays, and this fails.
    Add(Route),
    /// Ours to the same range leads there.
    Move(Route),
    /// There is none to this range.
    Drop(Route),
}

/// What is not wanted goes first: where a node's range is another's now, the new route must not be taken away with the old.
fn steps(wanted: &BTreeMap<Cidr, IpAddr>, present: &BTreeSet<Route>) -> Vec<Step> {
    let is_stale = |route: &&Route| !wanted.contains_key(&route.range);
    let stale = present
        .iter()
        .filter(is_stale)
        .map(|route| Step::Drop(*route));
    let all = wanted.iter().map(|(range, via)| Route {
        range: *range,
        via: *via,
    });
    let missing = all.filter(|route| !present.contains(route));
    let ours: BTreeSet<Cidr> = present.iter().map(|route| route.range).collect();
    let take = |route: Route| match ours.contains(&route.range) {
        true => Step::Move(route),
        false => Step::Add(route),
    };
    stale.chain(missing.map(take)).collect()
}

/// All that can be done is done.
async fn program(wanted: &BTreeMap<Cidr, IpAddr>) -> Result<(), String> {
    let mut present = BTreeSet::new();
    for family in ["-4", "-6"] {
        let shown = ip(&[family, "route", "show", "proto", PROTOCOL]).await?;
        present.extend(shown.lines().filter_map(shown_route));
    }
    let (mut refused, mut first) = (0, None);
    for step in steps(wanted, &present) {
        let arguments = arguments(&step);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if let Err(why) = ip(&arguments).await {
            refused += usize::from(!matches!(step, Step::Drop(_)));
            first.get_or_insert(why);
        }
    }
    let Some(why) = first else {
        return Ok(());
    };
    if is_own_fault(refused, wanted.len()) {
        return Err(why);
    }
    tracing::warn!(refused, why, "the machine does not take some routes");
    Ok(())
}

/// Whether it is this machine that cannot, and not some other nodes that cannot be reached: one of those with a wrong address must
/// not make all the others say that they are unavailable.
fn is_own_fault(refused: usize, wanted: usize) -> bool {
    refused > wanted / 2
}

fn arguments(step: &Step) -> Vec<String> {
    let (verb, Route { range, via }) = match step {
        Step::Add(route) => ("add", route),
        Step::Move(route) => ("replace", route),
        Step::Drop(route) => ("del", route),
    };
    let family = if range.is_v6() { "-6" } else { "-4" };
    let (range, via) = (range.to_string(), via.to_string());
    let all = [
        family,
        "route",
        verb,
        range.as_str(),
        "via",
        via.as_str(),
        "proto",
        PROTOCOL,
    ];
    all.map(str::to_owned).to_vec()
}

/// A line of `ip route show`, such as `10.128.2.0/24 via 10.0.0.3 dev eth0`. A range of one address is shown without its length.
fn shown_route(line: &str) -> Option<Route> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let range = match first.parse::<IpAddr>() {
        Ok(address) => alone(address),
        Err(_) => first.parse().ok(),
    };
    words.find(|word| *word == "via")?;
    let via = words.next()?.parse().ok()?;
    Some(Route { range: range?, via })
}

/// What `ip` says, or why it does not do it.
async fn ip(arguments: &[&str]) -> Result<String, String> {
    let told = format!("ip {}", arguments.join(" "));
    let running = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(PATIENCE, running).await {
        Err(_) => Err(format!("{told}: no end in time")),
        Ok(Err(error)) => Err(format!("{told}: {error}")),
        Ok(Ok(output)) if !output.status.success() => {
            let text = String::from_utf8_lossy(&output.stderr);
            Err(format!("{told}: {}", text.trim()))
        }
        Ok(Ok(output)) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
    }
}

/// Says in the node's annotation how it is, or nothing.
async fn tell(agent: &Agent, report: Option<&Report>) -> Result<(), ApiError> {
    let annotations = json!({ REPORT: report.map(Report::tell) });
    let body = json!({"metadata": {"annotations": annotations}});
    let (name, form) = (&agent.config.node_name, PatchType::Merge);
    agent
        .client
        .patch_blindly(&NODES, "", name, form, &body)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(range: &str, via: &str) -> Route {
        Route {
            range: range.parse().unwrap(),
            via: via.parse().unwrap(),
        }
    }

    fn table(entries: &[(&str, &str)]) -> Table {
        let owned = entries
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        owned.collect()
    }

    #[test]
    fn routes_lead_to_all_nodes_but_this_one() {
        let table = table(&[
            ("a", "10.1.1.0/24=10.0.0.1"),
            ("b", "10.1.2.0/24=10.0.0.2,fd00:0:0:2::/64=fd01::2"),
            ("c", "10.1.2.0/24=10.0.0.3"),
        ]);
        let wanted = wanted(&table, "a");
        let b = route("10.1.2.0/24", "10.0.0.2");
        let six = route("fd00:0:0:2::/64", "fd01::2");
        assert_eq!(
            wanted,
            BTreeMap::from([(b.range, b.via), (six.range, six.via)]),
            "of two to one range the first counts"
        );
    }

    #[test]
    fn nobody_draws_what_is_for_this_machine_or_for_the_world() {
        let table = table(&[
            ("a", "10.1.1.0/24=10.0.0.1"),
            ("b", "10.1.1.128/25=10.0.0.2"),
            ("c", "10.0.0.0/24=10.0.0.3"),
            ("d", "0.0.0.0/0=10.0.0.4,::/0=fd01::4"),
            ("e", "10.0.0.1/32=10.0.0.5"),
            ("f", "10.1.2.0/24=10.0.0.6"),
            ("g", "10.1.9.0/24=10.1.2.7"),
        ]);
        let (f, g) = (
            route("10.1.2.0/24", "10.0.0.6"),
            route("10.1.9.0/24", "10.1.2.7"),
        );
        assert_eq!(
            wanted(&table, "a"),
            BTreeMap::from([(f.range, f.via), (g.range, g.via)])
        );
    }

    #[test]
    fn a_node_that_cannot_be_reached_is_no_fault_of_the_others() {
        for (refused, wanted, expected) in [
            (0, 0, false),
            (1, 1, true),
            (1, 2, false),
            (2, 3, true),
            (3, 6, false),
        ] {
            assert_eq!(
                is_own_fault(refused, wanted),
                expected,
                "{refused} of {wanted}"
            );
        }
    }

    #[test]
    fn only_what_differs_is_done_and_what_is_stale_goes_first() {
        let (kept, moved) = (
            route("10.1.2.0/24", "10.0.0.2"),
            route("10.1.3.0/24", "10.0.0.3"),
        );
        let (before, gone) = (
            route("10.1.3.0/24", "10.0.0.9"),
            route("10.1.9.0/24", "10.0.0.9"),
        );
        let wanted = BTreeMap::from([(kept.range, kept.via), (moved.range, moved.via)]);
        let present = BTreeSet::from([kept, before, gone]);
        assert_eq!(
            steps(&wanted, &present),
            [Step::Drop(gone), Step::Move(moved)]
        );
        // Only what is ours is replaced.
        let nothing = BTreeSet::new();
        assert_eq!(
            steps(&wanted, &nothing),
            [Step::Add(kept), Step::Add(moved)]
        );
        assert!(steps(&wanted, &BTreeSet::from([kept, moved])).is_empty());
    }

    #[test]
    fn what_the_machine_shows_is_read_and_what_it_is_told_names_the_family() {
        let shown = "10.128.2.0/24 via 10.0.0.3 dev eth0 \n10.9.9.9 via 10.0.0.3 dev eth0\nfd00:1::/64 via fd01::1 dev eth0 metric 1024 pref medium\n10.0.0.0/24 dev eth0 scope link\ndefault via 10.0.0.1 dev eth0\n\n";
        let routes: Vec<Route> = shown.lines().filter_map(shown_route).collect();
        assert_eq!(
            routes,
            [
                route("10.128.2.0/24", "10.0.0.3"),
                route("10.9.9.9/32", "10.0.0.3"),
                route("fd00:1::/64", "fd01::1"),
            ]
        );
        let line = |step: Step| arguments(&step).join(" ");
        assert_eq!(
            line(Step::Add(routes[0])),
            "-4 route add 10.128.2.0/24 via 10.0.0.3 proto 143"
        );
        assert_eq!(
            line(Step::Move(routes[0])),
            "-4 route replace 10.128.2.0/24 via 10.0.0.3 proto 143"
        );
        assert_eq!(
            line(Step::Drop(routes[2])),
            "-6 route del fd00:1::/64 via fd01::1 proto 143"
        );
    }

    #[test]
    fn the_table_is_what_the_config_map_says() {
        let map = json!({"data": {"a": "x", "b": 1}});
        assert_eq!(entries(&map), table(&[("a", "x")]));
        assert!(entries(&json!({})).is_empty());
    }
}
