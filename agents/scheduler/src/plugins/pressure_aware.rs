//! PressureAware: keeps pods away from nodes where work has to wait, by the figures that nodes tell of the last minute.
//!
//! A node of which nothing is known, or nothing recent, or something that cannot be, is neither better nor worse than the others
//! are on average, and no filter refuses it: so a node gains nothing by telling nothing.

use super::node_affinity::pinned_names;
use super::{
    Args, Change, ChangeKind, Filter, Near, Prepared, Reads, Rejection, SCORE_MAX, SYSTEM_CRITICAL,
    Score, Scores, UNKNOWN, Values, or_mean,
};
use crate::object::Pod;
use crate::snapshot::{NodeInfo, Snapshot};
use agent_runtime::pressure::Pressure;

pub(crate) const NAME: &str = "PressureAware";

pub(super) const FILTER: Filter = Filter {
    name: NAME,
    reads: Reads::Node,
    prepare,
    hears: &[
        (ChangeKind::NodeAdded, Near::Anywhere),
        (ChangeKind::NodeUpdated, Near::Anywhere),
    ],
    wakes_on,
};

pub(super) const SCORE: Score = Score {
    name: NAME,
    weight: 1,
    values: Values::Known,
    score,
};

/// In the order of the figures.
const REASONS: [&str; 3] = [
    "node(s) had too much cpu pressure",
    "node(s) had too much memory pressure",
    "node(s) had too much io pressure",
];

/// How much the pod minds each of the figures: as it says, or else as the profile does.
fn weights(pod: &Pod, args: &Args) -> [i64; 3] {
    match pod.pressure_sensitivity {
        Some(weights) => weights.map(i64::from),
        None => args.pressure.weights,
    }
}

/// Whether the pod has to run where it has to run: what keeps the cluster going, and the daemons of a node.
fn is_exempt(pod: &Pod) -> bool {
    pod.priority >= SYSTEM_CRITICAL || pinned_names(pod).is_some()
}

fn prepare<'a>(pod: &'a Pod, _: &'a Snapshot, args: &'a Args) -> Prepared<'a> {
    let minds = weights(pod, args).map(|weight| weight > 0);
    let most = args.pressure.most;
    let asks = minds
        .iter()
        .zip(most)
        .any(|(minds, most)| *minds && most.is_some());
    if !asks || is_exempt(pod) {
        return Prepared::Pass;
    }
    Prepared::Each(Box::new(move |info| {
        let Some(pressure) = pressure(info) else {
            return Ok(());
        };
        let figures = pressure.figures().into_iter().zip(most).zip(minds);
        let too_much = figures.zip(REASONS).filter(|(((figure, most), minds), _)| {
            *minds && most.is_some_and(|most| *figure > most)
        });
        let reasons: Vec<_> = too_much.map(|(_, reason)| reason.into()).collect();
        if reasons.is_empty() {
            return Ok(());
        }
        // Who would have to go for it to fall, nobody knows.
        Err(Rejection {
            reasons,
            resolvable: false,
        })
    }))
}

fn wakes_on(_: &Pod, change: &Change, _: &Args) -> bool {
    change.node_part_changed(|node| &node.pressure)
}

fn pressure(info: &NodeInfo) -> Option<Pressure> {
    Some(info.node.as_ref()?.pressure?.pressure)
}

/// Nothing for pods that do not mind; otherwise there is a value for every node, whatever is known of the others.
fn score(pod: &Pod, _: &Snapshot, args: &Args, nodes: &[&NodeInfo]) -> Option<Scores> {
    let weights = weights(pod, args);
    let all: i64 = weights.iter().sum();
    if all == 0 {
        return None;
    }
    let value = |info: &&NodeInfo| match pressure(info) {
        Some(pressure) => {
            let figures = pressure.figures().map(i64::from);
            let sum: i64 = figures.iter().zip(weights).map(|(f, w)| f * w).sum();
            SCORE_MAX - sum / all
        }
        None => UNKNOWN,
    };
    let raw: Vec<i64> = nodes.iter().map(value).collect();
    Some(Scores {
        normalized: or_mean(raw.clone()),
        raw,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, scores_with, snapshot, verdict_with};
    use super::*;
    use crate::config::Config;
    use crate::object::{Node, Told};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    /// Arguments as a file gives them.
    fn args(text: &str) -> Args {
        let config = Config::parse(&format!(
            "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n- pluginConfig: \
             [{{name: PressureAware, args: {text}}}]\n"
        ));
        let config = config.unwrap();
        config.profiles().next().unwrap().args.clone()
    }

    fn pressed(name: &str, figures: Option<[u8; 3]>) -> Node {
        Node {
            pressure: figures.map(|figures| Told {
                pressure: Pressure::of(figures),
                at: 0,
            }),
            ..node(name, json!({}), json!({}))
        }
    }

    fn minding(text: Value) -> Pod {
        let mut pod = pod(json!({"containers": [{}]}));
        let annotations = json!({"scheduling.kontiki.io/pressure-sensitivity": text});
        let object = json!({"metadata": {"annotations": annotations}});
        pod.pressure_sensitivity = Pod::compile(&object).pressure_sensitivity;
        pod
    }

    fn cluster(figures: &[Option<[u8; 3]>]) -> Snapshot {
        let nodes = figures.iter().enumerate();
        let nodes = nodes.map(|(at, figures)| pressed(&format!("n{at:02}"), *figures));
        snapshot(nodes.collect(), vec![])
    }

    #[test]
    fn calmer_is_better_by_what_the_pod_or_else_the_profile_minds() {
        let cluster = cluster(&[Some([90, 0, 0]), Some([0, 0, 60]), None]);
        let usual = args("{}");
        let of = |pod: &Pod, args: &Args| scores_with(&SCORE, pod, &cluster, args);
        let plain = minding(json!(null));
        assert_eq!(of(&plain, &usual), Some(vec![70, 80, 75]));
        let io = args("{resources: [{name: io, weight: 7}]}");
        assert_eq!(of(&plain, &io), Some(vec![100, 40, 70]));
        assert_eq!(
            of(&minding(json!("cpu=2,io=1")), &io),
            Some(vec![40, 80, 60])
        );
        assert_eq!(of(&minding(json!("none")), &io), None);
    }

    #[test]
    fn a_node_above_the_limit_is_refused_to_pods_that_mind_and_is_free_to_go() {
        let cluster = cluster(&[Some([81, 20, 90]), Some([80, 21, 0]), None]);
        let limits = args("{maxPressure: {cpu: 80, memory: 20}}");
        let of = |pod: &Pod, node: &str| verdict_with(&FILTER, pod, &cluster, &limits, node);
        let plain = minding(json!(null));
        assert_eq!(of(&plain, "n00").unwrap(), REASONS[0]);
        assert_eq!(of(&plain, "n01").unwrap(), REASONS[1]);
        assert_eq!(of(&plain, "n02"), None, "nothing is known of it");
        assert_eq!(of(&minding(json!("memory")), "n00"), None);
        assert_eq!(of(&minding(json!("none")), "n01"), None);
        let mut critical = plain.clone();
        critical.priority = SYSTEM_CRITICAL;
        assert_eq!(of(&critical, "n00"), None);
        let term =
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n00"]}]});
        let daemon = pod(json!({"containers": [{}], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}));
        assert_eq!(of(&daemon, "n00"), None);
        assert_eq!(
            verdict_with(&FILTER, &plain, &cluster, &args("{}"), "n00"),
            None
        );
    }

    #[test]
    fn a_pod_that_was_refused_looks_again_when_a_figure_changes() {
        let change = |old, new| Change::NodeUpdated {
            old: Arc::new(pressed("n", old)),
            new: Arc::new(pressed("n", new)),
        };
        let plain = minding(json!(null));
        let wakes = |change| wakes_on(&plain, &change, &Args::default());
        assert!(wakes(change(Some([9, 0, 0]), Some([8, 0, 0]))));
        assert!(wakes(change(Some([9, 0, 0]), None)));
        assert!(!wakes(change(Some([9, 0, 0]), Some([9, 0, 0]))));
    }

    fn figures() -> impl Strategy<Value = Option<[u8; 3]>> {
        prop::option::weighted(0.8, prop::array::uniform3(0..=100_u8))
    }

    proptest! {
        #[test]
        fn the_laws_of_pressure(
            all in prop::collection::vec(figures(), 1..12),
            more in prop::array::uniform3(0..=100_u8),
            weights in prop::option::of(prop::array::uniform3(0..=100_u8)),
        ) {
            let mut pod = pod(json!({"containers": [{}]}));
            pod.pressure_sensitivity = weights;
            let of = |all: &[Option<[u8; 3]>]| {
                scores_with(&SCORE, &pod, &cluster(all), &Args::default())
            };
            let Some(values) = of(&all) else {
                prop_assert_eq!(weights, Some([0; 3]), "only who does not mind has nothing said of it");
                return Ok(());
            };
            prop_assert!(values.iter().all(|value| (0..=SCORE_MAX).contains(value)));
            // Who tells nothing is between those who tell something.
            let known = |values: &[i64]| -> Vec<i64> {
                let known = all.iter().zip(values).filter(|(figures, _)| figures.is_some());
                known.map(|(_, value)| *value).collect()
            };
            let told = known(&values);
            if let (Some(least), Some(most)) = (told.iter().min(), told.iter().max()) {
                prop_assert!(values.iter().all(|value| (least..=most).contains(&value)));
            }
            // Silence of one changes nothing between the others that tell.
            let mut wider = all.clone();
            wider.push(None);
            let widened = of(&wider).unwrap();
            prop_assert_eq!(&widened[..all.len()], &values[..]);
            // More pressure is never better, and no worse for another node that tells.
            if let Some(first) = all[0] {
                let mut worse = all.clone();
                let sum: Vec<u8> = first.iter().zip(more).map(|(a, b)| (a + b).min(100)).collect();
                worse[0] = sum.try_into().ok();
                let worse = of(&worse).unwrap();
                prop_assert!(worse[0] <= values[0]);
                prop_assert_eq!(&known(&worse)[1..], &told[1..]);
            }
            // Where all are alike, nothing is said.
            let alike = of(&vec![all[0]; all.len()]).unwrap();
            prop_assert!(alike.iter().all(|value| *value == alike[0]));
        }
    }
}
