//! What is sent to extenders, and how their answers read. The fields are named as in Go, where they have no other names;
//! in answers, as there, the case of their letters means nothing.

use crate::object::Pod;
use crate::plugins::Rejection;
use crate::preempt::Candidate;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

/// Of an error so many characters are passed on, since it ends up in events and conditions,
const ERROR_MAX: usize = 1000;
/// and of the reason against a node so many.
const REASON_MAX: usize = 256;

/// Nodes, as an extender wants to see them.
pub(super) enum Nodes<'a> {
    /// By their names.
    Names(&'a [String]),
    /// Each as JSON.
    Whole(Vec<Arc<str>>),
}

/// The question which nodes will do, or what they are worth. The pod is JSON.
pub(super) fn about_nodes(pod: &str, nodes: &Nodes<'_>) -> String {
    let (nodes, names) = match nodes {
        Nodes::Names(names) => ("null".to_owned(), json!(names).to_string()),
        Nodes::Whole(whole) => {
            let items = whole.join(",");
            let list = format!("{{\"metadata\":{{}},\"items\":[{items}]}}");
            (list, "null".to_owned())
        }
    };
    format!("{{\"Pod\":{pod},\"Nodes\":{nodes},\"NodeNames\":{names}}}")
}

/// The question which of these pods may leave which node. `whole` are the victims as JSON, by uid; without it they are told by
/// their uids.
pub(super) fn about_victims(
    pod: &str,
    candidates: &[Candidate],
    whole: Option<&BTreeMap<String, Arc<str>>>,
) -> String {
    let of_candidate = |candidate: &Candidate| {
        let victims = candidate.victims.iter().map(|victim| match whole {
            Some(whole) => match whole.get(&victim.uid) {
                Some(victim) => victim.to_string(),
                None => stub(victim).to_string(),
            },
            None => json!({"UID": victim.uid}).to_string(),
        });
        let victims: Vec<String> = victims.collect();
        format!(
            "{}:{{\"Pods\":[{}],\"NumPDBViolations\":{}}}",
            json!(candidate.node),
            victims.join(","),
            candidate.violations
        )
    };
    let candidates: Vec<String> = candidates.iter().map(of_candidate).collect();
    let map = format!("{{{}}}", candidates.join(","));
    let (full, meta) = match whole {
        Some(_) => (&*map, "null"),
        None => ("null", &*map),
    };
    format!("{{\"Pod\":{pod},\"NodeNameToVictims\":{full},\"NodeNameToMetaVictims\":{meta}}}")
}

/// What is known of a pod without its object.
fn stub(pod: &Pod) -> Value {
    json!({
        "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "spec": {"nodeName": pod.node_name, "priority": pod.priority},
    })
}

/// The order to bind a pod.
pub(super) fn binding(pod: &Pod, node: &str) -> String {
    json!({
        "PodName": pod.name, "PodNamespace": pod.namespace, "PodUID": pod.uid, "Node": node,
    })
    .to_string()
}

/// What an extender leaves of the nodes that it was asked about.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sifted {
    pub(super) left: Vec<String>,
    /// What it says of others.
    pub(super) refused: BTreeMap<String, Rejection>,
}

/// Reads what became of these nodes.
pub(super) fn sifted(
    answer: &Value,
    asked: &[String],
    by_name: bool,
    url_prefix: &str,
) -> Result<Sifted, String> {
    let answer = object(answer)?;
    said_error(answer)?;
    let names = match (names(answer)?, nodes(answer)?) {
        (Some(names), _) if by_name => names,
        (_, Some(nodes)) => nodes,
        _ => Vec::new(),
    };
    let known: BTreeSet<&String> = asked.iter().collect();
    let mut left: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    for name in names {
        if !known.contains(&name) {
            return Err(format!(
                "extender {url_prefix:?} claims a filtered node {name:?} which is not found in the input node list"
            ));
        }
        if seen.insert(name.clone()) {
            left.push(name);
        }
    }
    let mut refused = BTreeMap::new();
    // Those that nobody's going would help come last, and so count.
    for (field, resolvable) in [("FailedNodes", true), ("FailedAndUnresolvableNodes", false)] {
        for (name, words) in map_of(answer, field)?.into_iter().flatten() {
            let words = words.as_str().ok_or_else(|| unreadable(field))?;
            let rejection = Rejection {
                reasons: vec![at_most(words, REASON_MAX).into()],
                resolvable,
            };
            refused.insert(name.clone(), rejection);
        }
    }
    Ok(Sifted { left, refused })
}

fn names(answer: &Map<String, Value>) -> Result<Option<Vec<String>>, String> {
    let Some(names) = list_of(answer, "NodeNames")? else {
        return Ok(None);
    };
    let names = names.iter().map(|name| name.as_str().map(str::to_owned));
    let names: Option<Vec<String>> = names.collect();
    names.map(Some).ok_or_else(|| unreadable("NodeNames"))
}

fn nodes(answer: &Map<String, Value>) -> Result<Option<Vec<String>>, String> {
    let Some(list) = map_of(answer, "Nodes")? else {
        return Ok(None);
    };
    let items = list_of(list, "items")?.map_or(&[][..], Vec::as_slice);
    let names = items.iter().map(|node| {
        let name = node.pointer("/metadata/name").and_then(Value::as_str);
        name.map(str::to_owned)
    });
    let names: Option<Vec<String>> = names.collect();
    names.map(Some).ok_or_else(|| unreadable("Nodes"))
}

/// Reads what nodes are worth. What is said twice of a node counts twice.
pub(super) fn worths(answer: &Value) -> Result<BTreeMap<String, i64>, String> {
    let list = match answer {
        Value::Null => &[][..],
        Value::Array(list) => list.as_slice(),
        _ => return Err(unreadable("HostPriorityList")),
    };
    let mut worths: BTreeMap<String, i64> = BTreeMap::new();
    for item in list {
        let item = object(item)?;
        let host = field(item, "Host").map_or(Some(""), Value::as_str);
        let host = host.ok_or_else(|| unreadable("Host"))?;
        let score = field(item, "Score").map_or(Some(0), Value::as_i64);
        let score = score.ok_or_else(|| unreadable("Score"))?;
        let worth = worths.entry(host.to_owned()).or_default();
        *worth = worth.saturating_add(score);
    }
    Ok(worths)
}

/// Whom an extender lets leave a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Leaving {
    pub(super) uids: Vec<String>,
    pub(super) violations: usize,
}

/// Reads who may leave which node.
pub(super) fn leaving(answer: &Value) -> Result<BTreeMap<String, Leaving>, String> {
    const FIELD: &str = "NodeNameToMetaVictims";
    let answer = object(answer)?;
    let mut nodes = BTreeMap::new();
    for (node, victims) in map_of(answer, FIELD)?.into_iter().flatten() {
        if victims.is_null() {
            nodes.insert(node.clone(), Leaving::default());
            continue;
        }
        let victims = object(victims)?;
        let mut uids = Vec::new();
        for victim in list_of(victims, "Pods")?.into_iter().flatten() {
            let uid = field(object(victim)?, "UID").and_then(Value::as_str);
            uids.push(uid.unwrap_or_default().to_owned());
        }
        let violations = field(victims, "NumPDBViolations").map_or(Some(0), Value::as_i64);
        let violations = violations.ok_or_else(|| unreadable("NumPDBViolations"))?;
        let violations = usize::try_from(violations).unwrap_or(0);
        nodes.insert(node.clone(), Leaving { uids, violations });
    }
    Ok(nodes)
}

/// Reads whether a pod was bound.
pub(super) fn bound(answer: &Value) -> Result<(), String> {
    said_error(object(answer)?)
}

/// An error that the answer itself speaks of.
fn said_error(answer: &Map<String, Value>) -> Result<(), String> {
    match field(answer, "Error") {
        None => Ok(()),
        Some(Value::String(error)) if error.is_empty() => Ok(()),
        Some(Value::String(error)) => Err(bounded(error)),
        Some(_) => Err(unreadable("Error")),
    }
}

/// Null is as good as an object without fields.
fn object(value: &Value) -> Result<&Map<String, Value>, String> {
    static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    match value {
        Value::Null => Ok(&EMPTY),
        value => value.as_object().ok_or_else(|| unreadable("the fields")),
    }
}

/// A field that is there and not null, whatever the case of its letters.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let exact = object.get(name);
    let any = || {
        let mut all = object.iter();
        all.find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    exact.or_else(any).filter(|value| !value.is_null())
}

fn map_of<'a>(
    object: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a Map<String, Value>>, String> {
    match field(object, name) {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(unreadable(name)),
    }
}

fn list_of<'a>(
    object: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a Vec<Value>>, String> {
    match field(object, name) {
        None => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(_) => Err(unreadable(name)),
    }
}

fn unreadable(field: &str) -> String {
    format!("json: cannot read {field} of an extender's answer")
}

/// As much of an error as is passed on.
pub(super) fn bounded(text: &str) -> String {
    at_most(text, ERROR_MAX)
}

fn at_most(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn read(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn questions_are_named_as_in_go() {
        let names = strings(&["a", "b"]);
        let asked = read(&about_nodes("{\"spec\":{}}", &Nodes::Names(&names)));
        let expected = json!({"Pod": {"spec": {}}, "Nodes": null, "NodeNames": ["a", "b"]});
        assert_eq!(asked, expected);
        let whole = vec!["{\"x\":1}".into(), "{\"x\":2}".into()];
        let asked = read(&about_nodes("{}", &Nodes::Whole(whole)));
        let list = json!({"metadata": {}, "items": [{"x": 1}, {"x": 2}]});
        assert_eq!(asked, json!({"Pod": {}, "Nodes": list, "NodeNames": null}));
        let pod = Pod::compile(&json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"}}));
        assert_eq!(
            read(&binding(&pod, "n")),
            json!({"PodName": "p", "PodNamespace": "d", "PodUID": "u", "Node": "n"})
        );
        let candidates = [Candidate {
            node: "n".into(),
            victims: vec![Arc::new(pod)],
            violations: 2,
        }];
        let asked = read(&about_victims("{}", &candidates, None));
        let victims = json!({"n": {"Pods": [{"UID": "u"}], "NumPDBViolations": 2}});
        assert_eq!(
            asked,
            json!({"Pod": {}, "NodeNameToVictims": null, "NodeNameToMetaVictims": victims})
        );
        let whole = BTreeMap::from([("u".to_owned(), "{\"x\":1}".into())]);
        let asked = read(&about_victims("{}", &candidates, Some(&whole)));
        let victims = json!({"n": {"Pods": [{"x": 1}], "NumPDBViolations": 2}});
        assert_eq!(
            asked,
            json!({"Pod": {}, "NodeNameToVictims": victims, "NodeNameToMetaVictims": null})
        );
    }

    #[test]
    fn what_is_left_of_nodes() {
        let asked = strings(&["a", "b", "c"]);
        let left = |answer: Value, by_name| {
            let sifted = sifted(&answer, &asked, by_name, "http://e");
            sifted.map(|sifted| sifted.left.join(" "))
        };
        let ok = |text: &str| Ok(text.to_owned());
        // As Go reads it, the case of names means nothing.
        assert_eq!(left(json!({"nodenames": ["b", "a", "b"]}), true), ok("b a"));
        let list = json!({"items": [{"metadata": {"name": "c"}}]});
        assert_eq!(left(json!({"Nodes": list}), false), ok("c"));
        // Who was sent names may answer with nodes all the same, but not the other way round.
        assert_eq!(left(json!({"Nodes": list}), true), ok("c"));
        assert_eq!(left(json!({"NodeNames": ["a"]}), false), ok(""));
        assert_eq!(left(json!({"NodeNames": null}), true), ok(""));
        assert_eq!(left(json!(null), true), ok(""));
        let told = |answer, by_name| left(answer, by_name).unwrap_err();
        assert_eq!(
            told(json!({"NodeNames": ["x"]}), true),
            "extender \"http://e\" claims a filtered node \"x\" which is not found in the input node list"
        );
        assert_eq!(told(json!({"NodeNames": ["a"], "Error": "no"}), true), "no");
        for odd in [
            json!([]),
            json!({"NodeNames": 5}),
            json!({"NodeNames": [5]}),
            json!({"Nodes": []}),
            json!({"Nodes": {"items": [{}]}}),
            json!({"FailedNodes": {"a": 5}}),
            json!({"Error": 5}),
        ] {
            assert!(left(odd.clone(), true).is_err(), "{odd}");
        }
    }

    #[test]
    fn who_can_never_do_is_not_taken_for_one_who_might() {
        let answer = json!({"FailedNodes": {"a": "full", "b": "full"},
            "FailedAndUnresolvableNodes": {"b": "never"}});
        let refused = sifted(&answer, &strings(&["a", "b"]), true, "e");
        let refused = refused.unwrap().refused;
        let told = |name: &str| (&*refused[name].reasons[0], refused[name].resolvable);
        assert_eq!((told("a"), told("b")), (("full", true), ("never", false)));
        let long = "é".repeat(5_000);
        assert_eq!(bounded(&long).chars().count(), ERROR_MAX + 4);
    }

    #[test]
    fn what_nodes_are_worth() {
        let answer = json!([{"Host": "a", "Score": 3}, {"host": "b", "score": 4}, {"Host": "a", "Score": 2}]);
        let expected = BTreeMap::from([("a".to_owned(), 5), ("b".to_owned(), 4)]);
        assert_eq!(worths(&answer).unwrap(), expected);
        assert!(worths(&json!(null)).unwrap().is_empty());
        for odd in [json!({}), json!([5]), json!([{"Host": "a", "Score": "3"}])] {
            assert!(worths(&odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn who_may_leave() {
        let answer = json!({"NodeNameToMetaVictims": {
            "a": {"Pods": [{"UID": "1"}, {"uid": "2"}], "NumPDBViolations": 1}, "b": null}});
        let read = leaving(&answer).unwrap();
        assert_eq!(
            read["a"],
            Leaving {
                uids: strings(&["1", "2"]),
                violations: 1
            }
        );
        assert_eq!(read["b"], Leaving::default());
        assert!(leaving(&json!({})).unwrap().is_empty());
        assert!(leaving(&json!({"NodeNameToMetaVictims": {"a": {"Pods": 5}}})).is_err());
        assert_eq!(bound(&json!({"Error": "taken"})), Err("taken".to_owned()));
        assert_eq!(bound(&json!({})), Ok(()));
        assert_eq!(bound(&json!(null)), Ok(()));
        assert!(bound(&json!("yes")).is_err());
    }
}
