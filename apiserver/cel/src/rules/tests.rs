use schema::field::Path;
use schema::structural::Structural;
use serde_json::{Value as Json, json};

use super::{Rules, check};

fn schema(properties: Json) -> Structural {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}});
    Structural::compile(&schema).unwrap()
}

fn judged(properties: Json, object: Json, old: Option<Json>) -> (Vec<String>, Vec<String>) {
    let rules = Rules::compile(&schema(properties)).expect("there are rules");
    let whole = |spec: Json| json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x"}, "spec": spec});
    let judgement = rules.validate(&whole(object), old.map(whole).as_ref());
    let errors = judgement.errors.iter().map(ToString::to_string).collect();
    (errors, judgement.warnings)
}

fn complaints(properties: Json) -> Vec<String> {
    check(&schema(properties), &Path::new("s"))
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn rule(rule: &str) -> Json {
    json!([{ "rule": rule }])
}

#[test]
fn a_schema_without_rules_costs_nothing() {
    assert!(Rules::compile(&schema(json!({"a": {"type": "string"}}))).is_none());
}

#[test]
fn rules_hold_or_are_told() {
    let properties = json!({
        "min": {"type": "integer"},
        "name": {"type": "string", "x-kubernetes-validations": [
            {"rule": "self != 'bad'", "message": "not bad"},
            {"rule": "self != 'worse'", "messageExpression": "'never ' + self", "reason": "FieldValueForbidden"},
            {"rule": "self != 'long'", "messageExpression": "'a\\nb'", "message": "short"},
        ]},
        "either": {"x-kubernetes-int-or-string": true, "x-kubernetes-validations": rule("self > 3")},
    });
    for (object, error) in [
        (json!({"name": "good", "either": 4}), ""),
        (
            json!({"name": "bad"}),
            "spec.name: Invalid value: \"bad\": not bad",
        ),
        (
            json!({"name": "worse"}),
            "spec.name: Forbidden: never worse",
        ),
        (
            json!({"name": "long"}),
            "spec.name: Invalid value: \"long\": short",
        ),
        (
            json!({"either": 3}),
            "spec.either: Invalid value: 3: failed rule: self > 3",
        ),
        (
            json!({"either": "x"}),
            "spec.either: Invalid value: \"\": 'no such overload': call arguments did not match a supported operator, function or macro signature for rule: self > 3",
        ),
        (json!({"name": null}), ""),
    ] {
        let (errors, _) = judged(properties.clone(), object.clone(), None);
        assert_eq!(errors.join("; "), error, "{object}");
    }
}

#[test]
fn the_whole_object_and_paths_of_fields() {
    let root = json!({"type": "object", "x-kubernetes-validations": [
        {"rule": "self.metadata.name.startsWith('x') && self.kind == 'A'"},
        {"rule": "self.spec.a < 5", "fieldPath": ".spec.a", "message": "too much"},
        {"rule": "self.spec.a < 6"},
    ], "properties": {"spec": {"type": "object", "properties": {"a": {"type": "integer"}}}}});
    let rules = Rules::compile(&Structural::compile(&root).unwrap()).unwrap();
    let object = |a: i64| json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x1"}, "spec": {"a": a}});
    assert!(rules.validate(&object(1), None).errors.is_empty());
    let errors: Vec<String> = rules
        .validate(&object(9), None)
        .errors
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected = [
        "spec.a: Invalid value: too much",
        "<nil>: Invalid value: failed rule: self.spec.a < 6",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn items_of_lists_and_maps_have_their_paths() {
    let properties = json!({
        "list": {"type": "array", "items": {"type": "integer", "x-kubernetes-validations": rule("self > 0")}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {
            "a": {"type": "string", "x-kubernetes-validations": rule("self.size() < 3")}}}},
    });
    let object = json!({"list": [1, 0], "map": {"k": {"a": "long"}}});
    let (errors, _) = judged(properties, object, None);
    let expected = [
        "spec.list[1]: Invalid value: 0: failed rule: self > 0",
        "spec.map[k].a: Invalid value: \"long\": failed rule: self.size() < 3",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn transition_rules_see_the_old_value() {
    let properties = json!({
        "frozen": {"type": "string", "x-kubernetes-validations": rule("self == oldSelf")},
        "grows": {"type": "integer", "x-kubernetes-validations": [
            {"rule": "!oldSelf.hasValue() || self > oldSelf.value()", "optionalOldSelf": true}]},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
            "type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "n": {
                "type": "integer", "x-kubernetes-validations": rule("self >= oldSelf")}}}},
    });
    let judge = |now: Json, old: Option<Json>| judged(properties.clone(), now, old).0;
    assert!(judge(json!({"frozen": "a", "grows": 1}), None).is_empty());
    assert!(judge(json!({"frozen": "a"}), Some(json!({}))).is_empty());
    let errors = judge(
        json!({"frozen": "b", "grows": 1}),
        Some(json!({"frozen": "a", "grows": 2})),
    );
    assert_eq!(errors.len(), 2, "{errors:?}");
    let old = json!({"ports": [{"name": "a", "n": 5}, {"name": "b", "n": 1}]});
    let now =
        json!({"ports": [{"name": "b", "n": 2}, {"name": "a", "n": 4}, {"name": "c", "n": 0}]});
    assert_eq!(
        judge(now, Some(old)),
        ["spec.ports[1].n: Invalid value: 4: failed rule: self >= oldSelf"]
    );
}

#[test]
fn what_did_not_change_only_warns() {
    let properties = json!({
        "a": {"type": "integer", "x-kubernetes-validations": rule("self < 5")},
        "list": {"type": "array", "items": {"type": "integer", "x-kubernetes-validations": rule("self < 5")}},
        "b": {"type": "string"},
    });
    let (errors, warnings) = judged(
        properties.clone(),
        json!({"a": 9, "list": [9], "b": "x"}),
        Some(json!({"a": 9, "list": [9], "b": "y"})),
    );
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let (errors, _) = judged(
        properties,
        json!({"a": 8, "list": [9, 8]}),
        Some(json!({"a": 9, "list": [9]})),
    );
    assert_eq!(errors.len(), 3, "{errors:?}");
}

#[test]
fn budgets_end_the_walk() {
    let expensive = "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))";
    let properties = json!({"n": {"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": rule(expensive)}});
    let list: Vec<i64> = (0..100).collect();
    let (errors, _) = judged(properties, json!({"n": list}), None);
    let text = "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: ";
    assert_eq!(
        errors,
        [format!(
            "spec.n: Invalid value: \"array\": {text}{expensive}"
        )]
    );
    let cheap = json!({"type": "object", "properties": {"n": {"type": "array", "items": {
        "type": "integer", "x-kubernetes-validations": rule("self >= 0")}}}});
    let rules = Rules::compile(&Structural::compile(&cheap).unwrap()).unwrap();
    let judgement = rules.validate_within(10, &json!({"n": [1, 2, 3, 4, 5, 6, 7, 8]}), None);
    let errors: Vec<String> = judgement.errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].ends_with("validation failed due to running out of cost budget, no further validation rules will be run"));
}

#[test]
fn expressions_are_checked_against_the_schema() {
    let p = "s.properties[spec].properties[a].x-kubernetes-validations[0]";
    for (a, expected) in [
        (
            json!({"type": "string", "x-kubernetes-validations": rule("self.size() > 1")}),
            String::new(),
        ),
        (
            json!({"type": "object", "properties": {"b": {"type": "string"}}, "x-kubernetes-validations": rule("self.c == ''")}),
            format!(
                "{p}.rule: Invalid value: \"self.c == ''\": compilation failed: ERROR: <input>:1:5: undefined field 'c'\n | self.c == ''\n | ....^"
            ),
        ),
        (
            json!({"type": "integer", "x-kubernetes-validations": rule("self + 1")}),
            format!(
                "{p}.rule: Invalid value: \"self + 1\": cel expression must evaluate to a bool"
            ),
        ),
        (
            json!({"type": "integer", "x-kubernetes-validations": [{"rule": "true", "messageExpression": "self"}]}),
            format!(
                "{p}.messageExpression: Invalid value: \"self\": messageExpression must evaluate to a string"
            ),
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-validations": rule("has(self.x)")}),
            format!(
                "{p}.rule: Invalid value: \"has(self.x)\": compilation failed: ERROR: <input>:1:4: undefined field 'x'\n | has(self.x)\n | ...^"
            ),
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true,
                "x-kubernetes-validations": rule("self.metadata.name != '' && self.kind != ''")}),
            String::new(),
        ),
    ] {
        assert_eq!(complaints(json!({"a": a})).join("; "), expected, "{a}");
    }
    let under_list = json!({"a": {"type": "array", "items": {"type": "integer", "x-kubernetes-validations": rule("self == oldSelf")}}});
    let text = "oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[spec].properties[a]";
    assert_eq!(
        complaints(under_list),
        [format!(
            "s.properties[spec].properties[a].items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": {text}"
        )]
    );
}

#[test]
fn rules_that_no_budget_could_pay_are_refused() {
    let list = |limits: Json, rule: &str| {
        let mut list = json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [{"rule": rule}]});
        for (key, value) in limits.as_object().unwrap() {
            list[key] = value.clone();
        }
        complaints(json!({"a": list})).join("; ")
    };
    let squared = "self.all(x, self.all(y, x == y))";
    let text = list(json!({}), squared);
    let end = "estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";
    assert!(
        text.starts_with(
            "s.properties[spec].properties[a].x-kubernetes-validations[0].rule: Forbidden: "
        ),
        "{text}"
    );
    assert!(text.contains(end), "{text}");
    let bounded = json!({"maxItems": 10, "items": {"type": "string", "maxLength": 20}});
    assert_eq!(list(bounded, squared), "");
    assert_eq!(list(json!({}), "self.all(x, x != '')"), "");
    assert_eq!(list(json!({}), "self.size() < 5"), "");
    // What operators write.
    let usual = json!({
        "name": {"type": "string", "x-kubernetes-validations": rule("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")},
        "replicas": {"type": "integer", "x-kubernetes-validations": rule("self >= oldSelf")},
        "kinds": {"type": "array", "maxItems": 64, "items": {"type": "object", "properties": {"k": {"type": "string", "maxLength": 63}},
            "x-kubernetes-validations": rule("has(self.k) ? self.k.size() > 0 && self.k.startsWith('x') : true")}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}, "x-kubernetes-validations": rule("self.all(k, k.size() < 64)")},
    });
    assert_eq!(complaints(usual), Vec::<String>::new());
}

#[test]
fn reserved_words_are_names_of_fields_after_a_dot() {
    let properties = json!({
        "if": {"type": "integer"},
        "namespace": {"type": "string"},
        "a": {"type": "object", "properties": {"for": {"type": "integer"}}, "x-kubernetes-validations": [
            {"rule": "self.for == 1 && self.__for__ == 1 && has(self.for)"}]},
    });
    let object = json!({"if": 1, "namespace": "x", "a": {"for": 1}});
    assert!(complaints(properties.clone()).is_empty());
    assert!(judged(properties.clone(), object, None).0.is_empty());
    let object = json!({"a": {"for": 2}});
    assert_eq!(judged(properties, object, None).0.len(), 1);
}

#[test]
fn nulls_dates_and_what_is_hidden() {
    let object = |properties: Json, rule: &str| json!({"o": {"type": "object", "properties": properties, "x-kubernetes-validations": [{"rule": rule}]}});
    let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    for (properties, rule, value) in [
        (
            json!({"n": {"type": "string", "nullable": true}}),
            "!has(self.n)",
            json!({"n": null}),
        ),
        (
            json!({"d": {"type": "string", "format": "date"}}),
            "self.d == timestamp('1997-07-16T00:00:00Z') && self.d.getDate() == 16",
            json!({"d": "1997-07-16"}),
        ),
        (
            json!({"l": {"type": "array", "items": free}}),
            "self.l[0] != self.l[1] && self.l[1] == self.l[2]",
            json!({"l": [{"a": 1}, {"a": 2}, {"a": 2}]}),
        ),
        (
            json!({"l": {"type": "array", "items": {"type": "object", "properties": {
                "n": {"type": "string", "nullable": true, "maxLength": 5}, "x": {"type": "string", "maxLength": 5}}}}}),
            "self.l[0] != self.l[1] && self.l[1] != self.l[0] && self.l[0] == self.l[2]",
            json!({"l": [{"n": null, "x": "a"}, {"n": "b", "x": "a"}, {"n": null, "x": "a"}]}),
        ),
        (
            json!({"l": {"type": "array", "items": {"type": "string", "format": "duration"}}}),
            "self.l.sum() == duration('0s')",
            json!({"l": []}),
        ),
    ] {
        let schema = object(properties, rule);
        assert_eq!(complaints(schema.clone()), Vec::<String>::new(), "{rule}");
        let (errors, _) = judged(schema, json!({"o": value}), None);
        assert!(errors.is_empty(), "{errors:?}");
    }
}

#[test]
fn defaults_keep_to_the_rules() {
    for (a, expected) in [
        (
            json!({"type": "string", "default": "nope", "x-kubernetes-validations": rule("self.startsWith('kube')")}),
            "s.properties[spec].properties[a].default: Invalid value: \"nope\": failed rule: self.startsWith('kube')",
        ),
        (
            json!({"type": "object", "default": {"b": 1}, "properties": {"b": {"type": "integer", "x-kubernetes-validations": rule("self > 1")}}}),
            "s.properties[spec].properties[a].default.b: Invalid value: 1: failed rule: self > 1",
        ),
        (
            json!({"type": "integer", "default": 1, "x-kubernetes-validations": rule("self > oldSelf")}),
            "s.properties[spec].properties[a].default: Invalid value: 1: failed rule: self > oldSelf",
        ),
        (
            json!({"type": "integer", "default": 1, "x-kubernetes-validations": rule("self > 0")}),
            "",
        ),
    ] {
        assert_eq!(complaints(json!({"a": a})).join("; "), expected, "{a}");
    }
}

#[test]
fn what_may_be_said_of_the_old_value() {
    let p = "s.properties[spec].properties[a].x-kubernetes-validations[0]";
    for optional in [true, false] {
        let a = json!({"type": "string", "x-kubernetes-validations": [{"rule": "self != ''", "optionalOldSelf": optional}]});
        let text = "may not be set if oldSelf is not used in rule";
        let expected = format!("{p}.optionalOldSelf: Invalid value: {optional}: {text}");
        assert_eq!(complaints(json!({"a": a})), [expected]);
    }
    let atomic = json!({"a": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
        "b": {"type": "string", "x-kubernetes-validations": rule("self == oldSelf")}}}});
    assert!(complaints(atomic.clone()).is_empty());
    let (now, old) = (json!({"a": {"b": "x"}}), json!({"a": {"b": "y"}}));
    assert_eq!(judged(atomic, now, Some(old)).0.len(), 1);
}
