//! etcd's rules as it documents them, each with the smallest story that shows it.

use super::*;
use crate::recording::Delete;

fn put(key: &str, value: &str) -> Step {
    Step::Put(Put {
        key: key.into(),
        value: value.into(),
        ..Put::default()
    })
}

fn delete(key: &str, end: &str) -> Step {
    Step::Delete(Delete {
        key: key.into(),
        end: end.into(),
        prev: false,
    })
}

fn then(steps: Vec<Step>) -> Txn {
    Txn {
        then: steps,
        ..Txn::default()
    }
}

fn all(revision: i64) -> Range {
    Range {
        key: "\0".into(),
        end: "\0".into(),
        revision,
        ..Range::default()
    }
}

fn with(steps: &[&str]) -> Model {
    let mut model = Model::default();
    for key in steps {
        model.txn(&then(vec![put(key, "v")])).unwrap();
    }
    model
}

#[test]
fn the_first_write_is_revision_two_and_what_changes_nothing_makes_none() {
    let mut model = Model::default();
    assert_eq!(model.revision(), 1);
    model.txn(&then(vec![put("a", "1")])).unwrap();
    assert_eq!(model.revision(), 2);
    model.txn(&then(vec![delete("b", "")])).unwrap();
    model.grant(7, 5).unwrap();
    model.revoke(7).unwrap();
    assert_eq!(model.revision(), 2);
}

#[test]
fn a_transaction_sees_itself_but_its_branches_are_chosen_before() {
    let mut model = Model::default();
    let nested = Txn {
        compares: vec![Compare {
            key: "a".into(),
            end: String::new(),
            relation: Relation::Equal,
            operand: Operand::Version(0),
        }],
        then: vec![Step::Range(all(0))],
        otherwise: vec![],
    };
    let answered = model
        .txn(&then(vec![Step::Txn(nested), put("b", "1")]))
        .unwrap();
    let [Response::Txn { succeeded, steps }, _] = &answered.steps[..] else {
        panic!("{answered:?}");
    };
    assert!(succeeded);
    assert_eq!(steps, &[Response::Range(Found::default())]);
    let read_after = then(vec![put("a", "1"), Step::Range(all(0))]);
    let answered = model.txn(&read_after).unwrap();
    let Response::Range(found) = &answered.steps[1] else {
        panic!("{answered:?}");
    };
    let seen: Vec<_> = found.pairs.iter().map(|p| (&*p.key, p.modified)).collect();
    assert_eq!(seen, [("a", 3), ("b", 2)]);
}

#[test]
fn versions_begin_anew_after_a_deletion() {
    let mut model = with(&["a", "a"]);
    assert_eq!(model.pair_at("a", 3).unwrap().version, 2);
    model.txn(&then(vec![delete("a", "")])).unwrap();
    model.txn(&then(vec![put("a", "v")])).unwrap();
    let pair = model.pair_at("a", 5).unwrap();
    assert_eq!((pair.version, pair.created, pair.modified), (1, 5, 5));
    assert_eq!(model.pair_at("a", 4), None);
}

#[test]
fn a_missing_value_compares_as_nothing_at_all() {
    let model = Model::default();
    let holds = |relation, operand| {
        model.holds(
            &Compare {
                key: "a".into(),
                end: String::new(),
                relation,
                operand,
            },
            1,
        )
    };
    assert!(!holds(Relation::NotEqual, Operand::Value("x".into())));
    assert!(!holds(Relation::Equal, Operand::Value(String::new())));
    assert!(holds(Relation::Equal, Operand::ModRevision(0)));
    assert!(holds(Relation::Less, Operand::Version(1)));
}

#[test]
fn a_comparison_of_a_range_holds_for_all_its_keys() {
    let model = with(&["a", "b", "b"]);
    let holds = |key: &str, end: &str, version| {
        model.holds(
            &Compare {
                key: key.into(),
                end: end.into(),
                relation: Relation::Equal,
                operand: Operand::Version(version),
            },
            4,
        )
    };
    assert!(holds("a", "b", 1));
    assert!(!holds("a", "\0", 1));
    assert!(holds("c", "\0", 0), "of no key it is said of a missing one");
}

#[test]
fn puts_and_deletions_of_a_list_do_not_meet() {
    let refused = |steps: Vec<Step>| Model::default().txn(&then(steps)) == Err(DUPLICATE_KEY);
    let nested = |steps: Vec<Step>| Step::Txn(then(steps));
    assert!(refused(vec![put("a", ""), put("a", "")]));
    assert!(refused(vec![put("b", ""), delete("a", "c")]));
    assert!(refused(vec![nested(vec![put("a", "")]), put("a", "")]));
    assert!(refused(vec![nested(vec![delete("a", "")]), put("a", "")]));
    assert!(refused(vec![
        nested(vec![delete("a", "")]),
        nested(vec![put("a", "")])
    ]));
    assert!(!refused(vec![
        nested(vec![put("a", "")]),
        nested(vec![delete("a", "")])
    ]));
    assert!(!refused(vec![put("b", ""), delete("a", "\0")]));
    let both = Txn {
        then: vec![put("a", "1")],
        otherwise: vec![put("a", "2")],
        ..Txn::default()
    };
    assert!(!refused(vec![Step::Txn(both)]));
}

#[test]
fn reads_at_the_compacted_revision_are_the_oldest() {
    let mut model = with(&["a", "b", "c"]);
    model.compact(3).unwrap();
    assert_eq!(model.range(&all(3)).unwrap().count, 2);
    assert_eq!(model.range(&all(2)), Err(COMPACTED));
    assert_eq!(model.range(&all(5)), Err(FUTURE_REVISION));
    assert_eq!(model.compact(3), Err(COMPACTED));
    assert_eq!(model.compact(5), Err(FUTURE_REVISION));
    let wanted = Wanted {
        key: "\0".into(),
        end: "\0".into(),
        ..Wanted::default()
    };
    assert_eq!(model.watch(&wanted, 2), Err(3));
    assert_eq!(model.watch(&wanted, 3).unwrap().len(), 2);
}

#[test]
fn a_count_is_of_the_whole_range() {
    let model = with(&["a", "b", "c", "c"]);
    let limited = Range {
        limit: 1,
        min_mod: 3,
        ..all(0)
    };
    let found = model.range(&limited).unwrap();
    assert_eq!((found.count, found.more), (3, true));
    assert_eq!(found.pairs[0].key, "b");
    let counted = Range {
        count_only: true,
        ..limited
    };
    let found = model.range(&counted).unwrap();
    assert_eq!((found.count, found.more, found.pairs.len()), (3, false, 0));
}

#[test]
fn sorting_goes_by_its_target_and_by_key_among_equals() {
    let model = with(&["c", "b", "a", "a"]);
    let order = |order, target| {
        let sorted = Range {
            order,
            target,
            ..all(0)
        };
        let pairs = model.range(&sorted).unwrap().pairs;
        pairs.into_iter().map(|pair| pair.key).collect::<String>()
    };
    assert_eq!(order(Order::None, Target::Key), "abc");
    assert_eq!(order(Order::Descend, Target::Key), "cba");
    assert_eq!(order(Order::None, Target::Mod), "cba");
    assert_eq!(order(Order::Ascend, Target::Version), "bca");
    assert_eq!(order(Order::Descend, Target::Version), "abc");
}

#[test]
fn a_lease_takes_its_keys_along_in_one_revision() {
    let mut model = Model::default();
    model.grant(7, 60).unwrap();
    for key in ["b", "a", "c"] {
        let lease = if key == "c" { 0 } else { 7 };
        let put = Put {
            key: key.into(),
            lease,
            ..Put::default()
        };
        model.txn(&then(vec![Step::Put(put)])).unwrap();
    }
    model.revoke(7).unwrap();
    assert_eq!(model.revision(), 5);
    let gone: Vec<_> = model
        .events_at(5)
        .iter()
        .map(|e| (e.deleted, &*e.pair.key))
        .collect();
    assert_eq!(gone, [(true, "a"), (true, "b")]);
    assert_eq!(model.revoke(7), Err(LEASE_NOT_FOUND));
}

#[test]
fn what_is_undone_was_never_there() {
    let mut model = with(&["a", "b"]);
    let before = model.clone();
    model
        .txn(&then(vec![put("a", "2"), delete("b", ""), put("c", "")]))
        .unwrap();
    model.undo();
    assert_eq!(model, before);
}
