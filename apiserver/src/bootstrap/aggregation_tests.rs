//! Whatever happens to cluster roles, and however old the list that is gone by: aggregated roles come to hold the rules of all
//! that they select, each once, in an order that follows from the roles alone, and then nothing is written.

use super::gathering;
use auth::aggregate;
use proptest::prelude::*;
use schema::Object;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// By name.
type Roles = BTreeMap<String, Value>;

fn rule(number: usize) -> Value {
    json!({"apiGroups": [""], "resources": [format!("r{number}")], "verbs": ["get"]})
}

/// The roles that have rules of their own.
fn plain(roles: &Roles) -> Vec<Value> {
    let plain = roles
        .values()
        .filter(|role| !aggregate::is_aggregated(role));
    plain.cloned().collect()
}

/// The writes of a round over such a list, or so many of them: what was deleted meanwhile stays so, and what is a plain role
/// by now keeps its rules.
fn look(roles: &mut Roles, seen: &[Value], writes: usize) {
    let before = plain(roles);
    for (name, rules) in aggregate::due(seen).iter().take(writes) {
        if let Some(role) = roles.get_mut(*name) {
            let present = Object::new(role.take()).unwrap();
            *role = gathering(&present, rules).into_value();
        }
    }
    assert_eq!(plain(roles), before);
}

fn selected<'a>(roles: &'a Roles, role: &Value) -> Vec<&'a Value> {
    let selectors = role.pointer("/aggregationRule/clusterRoleSelectors");
    let selectors = selectors.and_then(Value::as_array).into_iter().flatten();
    let mut found = Vec::new();
    for selector in selectors {
        let label = selector["matchLabels"].as_object().unwrap();
        let (key, _) = label.iter().next().unwrap();
        found.extend(roles.values().filter(|other| {
            other["metadata"]["name"] != role["metadata"]["name"]
                && !other["metadata"]["labels"][key].is_null()
        }));
    }
    found
}

/// The rules of all plain roles that can be reached from this one.
fn reachable(roles: &Roles, role: &Value) -> BTreeSet<String> {
    let (mut rules, mut known) = (BTreeSet::new(), BTreeSet::new());
    let mut open = selected(roles, role);
    while let Some(next) = open.pop() {
        if !known.insert(next["metadata"]["name"].as_str().unwrap()) {
            continue;
        }
        if next["aggregationRule"].is_null() {
            let own = next["rules"].as_array().unwrap().iter();
            rules.extend(own.map(ToString::to_string));
        } else {
            open.extend(selected(roles, next));
        }
    }
    rules
}

fn act(roles: &mut Roles, old: &mut Vec<Value>, (what, who, how): (u8, usize, usize)) {
    let name = format!("c{who}");
    let label = |number: usize| {
        let key = format!("l{}", number % 4);
        json!({ key: "true" })
    };
    let metadata = json!({"name": name, "labels": label(how)});
    match what {
        0 => {
            let rules = json!([rule(how % 7), rule(how % 5)]);
            roles.insert(name, json!({"metadata": metadata, "rules": rules}));
        }
        1 => {
            let (one, other) = (label(how / 4), label(how / 5));
            let selectors = json!([{"matchLabels": one}, {"matchLabels": other}]);
            let aggregation = json!({"clusterRoleSelectors": selectors});
            let role =
                json!({"metadata": metadata, "aggregationRule": aggregation, "rules": [rule(9)]});
            roles.insert(name, role);
        }
        2 => {
            roles.remove(&name);
        }
        3 => *old = roles.values().cloned().collect(),
        4 => look(roles, old, usize::MAX),
        _ => {
            let seen: Vec<Value> = roles.values().cloned().collect();
            look(roles, &seen, how % 3);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn aggregated_roles_come_to_hold_what_they_select(
        acts in prop::collection::vec((0_u8..6, 0_usize..7, 0_usize..40), 0..60),
    ) {
        let (mut roles, mut old) = (Roles::new(), Vec::new());
        for next in acts {
            act(&mut roles, &mut old, next);
        }
        let seen: Vec<Value> = roles.values().cloned().collect();
        look(&mut roles, &seen, usize::MAX);
        let seen: Vec<Value> = roles.values().cloned().collect();
        prop_assert!(aggregate::due(&seen).is_empty(), "it does not come to rest");
        for role in seen.iter().filter(|role| !role["aggregationRule"].is_null()) {
            let held: Vec<String> = role["rules"].as_array().unwrap().iter().map(ToString::to_string).collect();
            let distinct: BTreeSet<String> = held.iter().cloned().collect();
            prop_assert_eq!(distinct.len(), held.len(), "each once");
            prop_assert_eq!(distinct, reachable(&roles, role));
        }
    }
}
