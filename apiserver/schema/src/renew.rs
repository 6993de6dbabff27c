//! A tree of an object's past made into a copy of the object: nearly all of it is there already, and to see that takes less
//! than to make a new tree and to free the old one.

use serde_json::{Map, Value};

/// Makes `tree` a copy of `like`, down to the spelling of its numbers. What is equal keeps its place in memory.
pub fn renew(tree: &mut Value, like: &Value) {
    match (tree, like) {
        (Value::Object(tree), Value::Object(like)) => renew_map(tree, like),
        (Value::Array(tree), Value::Array(like)) => {
            tree.truncate(like.len());
            for (item, like) in tree.iter_mut().zip(like) {
                renew(item, like);
            }
            let missing = like.iter().skip(tree.len());
            tree.extend(missing.cloned());
        }
        (Value::String(tree), Value::String(like)) => {
            if tree != like {
                tree.clone_from(like);
            }
        }
        (tree, like) => *tree = like.clone(),
    }
}

fn renew_map(tree: &mut Map<String, Value>, like: &Map<String, Value>) {
    if renew_members(tree, like) {
        return;
    }
    tree.retain(|key, _| like.contains_key(key));
    for (key, value) in like {
        if !tree.contains_key(key) {
            tree.insert(key.clone(), value.clone());
        }
    }
    renew_members(tree, like);
}

/// Renews the members one after the other, in one walk: both maps are in the order of their keys. False where the keys are not
/// the same; then some members may be as they have to be already.
fn renew_members(tree: &mut Map<String, Value>, like: &Map<String, Value>) -> bool {
    if tree.len() != like.len() {
        return false;
    }
    for ((key, value), (like_key, like)) in tree.iter_mut().zip(like) {
        if key != like_key {
            return false;
        }
        renew(value, like);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            prop::sample::select(vec![
                json!(0),
                json!(0.0),
                json!(-0.0),
                json!(1),
                json!(1.0)
            ]),
            "[a-c]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_renewed_tree_is_a_copy(trees in prop::collection::vec(values(), 2..5)) {
            let mut tree = trees[0].clone();
            for like in &trees {
                renew(&mut tree, like);
                prop_assert_eq!(&tree, like);
                prop_assert_eq!(tree.to_string(), like.to_string());
            }
        }
    }

    #[test]
    fn what_is_equal_stays_where_it_is() {
        let mut tree = json!({"spec": {"a": "text", "gone": 1}, "status": {}});
        let at = |tree: &Value| tree["spec"]["a"].as_str().map(str::as_ptr);
        let before = at(&tree);
        let like = json!({"spec": {"a": "text", "b": [1]}, "status": {"phase": "x"}});
        renew(&mut tree, &like);
        assert_eq!(tree, like);
        assert_eq!(at(&tree), before);
    }
}
