//! An explanation for people, and for programs.

use std::collections::BTreeMap;

use agents::explain::{Explanation, OfGroup, OfNode, OfScore};
use anyhow::Result;

use crate::store_cli::table;

/// Nodes that were refused for the same reason are named up to so many.
const NAMES_SHOWN: usize = 10;

/// What an explanation rests on.
pub(super) struct Basis {
    /// The revision of the state.
    pub(super) revision: String,
    /// In which sense.
    pub(super) words: &'static str,
    /// The objects that are not there.
    pub(super) with: Vec<String>,
    /// What else one has to know.
    pub(super) notes: Vec<String>,
}

pub(super) fn json(explanation: &Explanation, basis: &Basis) -> Result<String> {
    let mut value = serde_json::to_value(explanation)?;
    value["revision"] = basis.revision.as_str().into();
    value["basis"] = basis.words.into();
    value["whatIf"] = basis.with.as_slice().into();
    value["notes"] = basis.notes.as_slice().into();
    Ok(format!("{}\n", serde_json::to_string_pretty(&value)?))
}

pub(super) fn text(explanation: &Explanation, basis: &Basis) -> String {
    let mut text = head(explanation, basis);
    text += &outcome(explanation);
    let (feasible, refused): (Vec<_>, Vec<_>) = explanation.nodes.iter().partition(|n| n.feasible);
    if !feasible.is_empty() {
        text += "\nNodes that every filter passes, with what each score says: raw > normalized x weight = what it adds\n";
        text += &scores(feasible);
    }
    if !refused.is_empty() {
        text += "\nRefusals, of each filter whose turn it would be; what is not named passes\n";
        text += &refusals(&refused);
    }
    // Extenders are asked only about nodes that all plugins pass.
    let asked = explanation.nodes.iter().max_by_key(|n| n.filters.len());
    let asked = asked.map_or(&[][..], |n| &n.filters);
    let asked: Vec<&str> = asked.iter().map(|filter| &*filter.plugin).collect();
    if !asked.is_empty() {
        text += &format!("\nFilters in their order: {}\n", asked.join(", "));
    }
    text
}

fn head(explanation: &Explanation, basis: &Basis) -> String {
    let Explanation {
        namespace,
        name,
        scheduler_name,
        ..
    } = explanation;
    let Basis {
        revision, words, ..
    } = basis;
    let mut text = format!(
        "Pod {namespace}/{name}, scheduled by {scheduler_name}\nAs of revision {revision}: {words}.\n"
    );
    if !basis.with.is_empty() {
        text += &format!("As if there were: {}.\n", basis.with.join(", "));
    }
    for note in &basis.notes {
        text += &format!("{note}\n");
    }
    text
}

/// Where it goes, or why it does not.
fn outcome(explanation: &Explanation) -> String {
    let mut text = String::from("\n");
    for gate in &explanation.gates {
        text += &format!(
            "{} keeps it out of the queue: {}\n",
            gate.plugin, gate.message
        );
    }
    if let Some(queue) = &explanation.queue {
        text += &format!("{}: {}.\n", queue.plugin, queue.message);
    }
    if let Some(group) = &explanation.group {
        text += &of_group(group);
    }
    let best = explanation.best.join(", ");
    match explanation.best.len() {
        0 => {}
        1 => text += &format!("The best node is {best}.\n"),
        _ => text += &format!("The best nodes, of which chance picks one, are {best}.\n"),
    }
    if let Some(node) = &explanation.node {
        text += &format!("It is on {node}.\n");
    }
    for error in &explanation.extender_errors {
        text += &format!("{error}\n");
    }
    let message = explanation.message.as_ref();
    if let Some(message) = message.filter(|m| !explanation.extender_errors.contains(m)) {
        text += &format!("{message}\n");
    }
    if let Some(room) = &explanation.preemption {
        let (node, victims) = (&room.node, room.victims.join(", "));
        text +=
            &format!("Preemption would make room on {node}; these would have to go: {victims}.\n");
    }
    if explanation.nodes.is_empty() {
        text += "There are no nodes.\n";
    }
    text
}

/// The group that it is placed with.
fn of_group(group: &OfGroup) -> String {
    let OfGroup {
        plugin,
        name,
        min_count,
        there,
        placed,
        ..
    } = group;
    let mut text = format!(
        "{plugin}: pod group {name:?} needs {min_count} pods; {there} are there, of which {placed} have a node"
    );
    if let Some(fit) = group.fit {
        text += &format!(" and {fit} find one");
    }
    text += ".\n";
    if let Some(message) = &group.message {
        text += &format!("{message}\n");
    }
    if !group.victims.is_empty() {
        let victims = group.victims.join(", ");
        text += &format!(
            "Preemption would make room for the group; these would have to go: {victims}.\n"
        );
    }
    text
}

/// A line for each node, the best first.
fn scores(mut nodes: Vec<&OfNode>) -> String {
    nodes.sort_by_key(|node| (std::cmp::Reverse(node.total), &node.node));
    let plugins = nodes.first().map_or(&[][..], |node| &node.scores);
    let mut head = vec!["NODE".to_owned(), "TOTAL".to_owned()];
    head.extend(plugins.iter().map(|score| score.plugin.to_string()));
    let mut lines = vec![head];
    for node in nodes {
        let mut line = vec![node.node.clone(), node.total.unwrap_or(0).to_string()];
        line.extend(node.scores.iter().map(score));
        lines.push(line);
    }
    table(&lines)
}

fn score(score: &OfScore) -> String {
    match (score.raw, score.normalized) {
        (Some(raw), Some(normalized)) => {
            let (weight, adds) = (score.weight, score.weighted);
            format!("{raw} > {normalized} x {weight} = {adds}")
        }
        // It has nothing to say about this pod.
        _ => "-".into(),
    }
}

/// A line for each refusal, with the nodes that it holds for.
fn refusals(nodes: &[&OfNode]) -> String {
    let mut by_reason: BTreeMap<(usize, &str, String), Vec<&str>> = BTreeMap::new();
    for node in nodes {
        let refused = node.filters.iter().enumerate();
        for (at, filter) in refused.filter(|(_, filter)| !filter.reasons.is_empty()) {
            let mut reasons = filter.reasons.join(", ");
            if filter.for_nominated_pods {
                reasons += " (room is kept for pods that will come)";
            }
            let key = (at, &*filter.plugin, reasons);
            by_reason.entry(key).or_default().push(&node.node);
        }
    }
    let head = ["FILTER", "NODES", "REASON", "WHICH"].map(String::from);
    let mut lines = vec![head.to_vec()];
    for ((_, plugin, reasons), names) in by_reason {
        let mut which = names[..names.len().min(NAMES_SHOWN)].join(",");
        if names.len() > NAMES_SHOWN {
            which += &format!(" and {} more", names.len() - NAMES_SHOWN);
        }
        let count = names.len().to_string();
        lines.push(vec![plugin.to_owned(), count, reasons, which]);
    }
    table(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agents::SchedulerConfig;
    use agents::explain::Picture;
    use agents::resource_ref::NODES;
    use serde_json::json;

    fn explanation(nodes: &[(&str, &str)]) -> Explanation {
        let mut picture = Picture::new(SchedulerConfig::default());
        for (name, cpu) in nodes {
            let node = json!({"metadata": {"name": name},
                "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}}});
            picture.add(&NODES, &node);
        }
        let pod = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u"},
            "spec": {"containers": [{"resources": {"requests": {"cpu": "2"}}}]}});
        picture.explain(&pod).unwrap()
    }

    fn basis() -> Basis {
        Basis {
            revision: "7".into(),
            words: "now",
            with: vec!["Node b".into()],
            notes: vec!["A note.".into()],
        }
    }

    #[test]
    fn the_best_node_comes_first_and_the_refused_have_reasons() {
        let text = text(
            &explanation(&[("a", "4"), ("b", "8"), ("small", "1")]),
            &basis(),
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..6],
            [
                "Pod shop/web, scheduled by default-scheduler",
                "As of revision 7: now.",
                "As if there were: Node b.",
                "A note.",
                "",
                "The best node is b."
            ]
        );
        let at = lines.iter().position(|l| l.starts_with("NODE ")).unwrap();
        assert!(lines[at + 1].starts_with("b  ") && lines[at + 2].starts_with("a  "));
        // Cpu 75 %, memory 97 % left, once each.
        assert!(lines[at + 1].contains("86 > 86 x 1 = 86"), "{text}");
        assert!(
            text.contains("NodeResourcesFit  1      Insufficient cpu  small"),
            "{text}"
        );
        let ends = "PodTopologySpread, InterPodAffinity, DynamicResources\n";
        assert!(text.ends_with(ends), "{text}");
    }

    #[test]
    fn turns_and_groups_are_told_before_the_outcome() {
        let mut told = explanation(&[("a", "4")]);
        told.queue = Some(agents::explain::OfQueue {
            plugin: "EarliestDeadline",
            message: "its deadline is tomorrow".into(),
        });
        told.group = Some(OfGroup {
            plugin: "GangScheduling",
            name: "g".into(),
            min_count: 3,
            there: 4,
            placed: 1,
            fit: Some(1),
            message: Some("1 of 2.".into()),
            victims: vec!["d/low".into()],
        });
        let text = text(&told, &basis());
        let expected = "\nEarliestDeadline: its deadline is tomorrow.\n\
            GangScheduling: pod group \"g\" needs 3 pods; 4 are there, of which 1 have a node and 1 find one.\n\
            1 of 2.\nPreemption would make room for the group; these would have to go: d/low.\nThe best node is a.\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn who_has_no_nodes_is_told_so() {
        let text = text(&explanation(&[]), &basis());
        assert!(
            text.contains("no nodes available to schedule pods"),
            "{text}"
        );
        assert!(text.ends_with("There are no nodes.\n"), "{text}");
    }

    #[test]
    fn names_of_many_are_not_all_shown() {
        let names: Vec<String> = (0..12).map(|at| format!("n{at:02}")).collect();
        let nodes: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let text = text(&explanation(&nodes), &basis());
        assert!(text.contains("n08,n09 and 2 more"), "{text}");
    }

    #[test]
    fn programs_get_every_filter_of_every_node() {
        let explanation = explanation(&[("a", "4"), ("b", "8"), ("small", "1")]);
        let json = json(&explanation, &basis()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["revision"], "7");
        assert_eq!(value["whatIf"], json!(["Node b"]));
        assert_eq!(value["best"], json!(["b"]));
        assert_eq!(value["nodes"][2]["feasible"], false);
        assert_eq!(value["nodes"][0]["filters"].as_array().unwrap().len(), 13);
        assert_eq!(value["nodes"][0]["scores"][0]["plugin"], "TaintToleration");
    }
}
