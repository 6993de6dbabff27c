use serde_json::{Value as Json, json};

use schema::field::{ErrorList, Path};

use super::*;

static NULL: Json = Json::Null;

fn request() -> Json {
    json!({
        "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
        "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
        "name": "web", "namespace": "shop", "operation": "CREATE",
        "userInfo": {"username": "jane", "groups": ["dev"]}, "dryRun": false,
    })
}

fn with<T>(object: &Json, ask: impl FnOnce(&Inputs<'_>) -> T) -> T {
    let request = request();
    let namespace = json!({"metadata": {"name": "shop", "labels": {"env": "prod"}, "creationTimestamp": "2020-01-01T00:00:00Z"}});
    let params = json!({"max": 5});
    ask(&Inputs {
        object,
        old: &NULL,
        request: &request,
        params: &params,
        namespace: &namespace,
        authorizer: None,
    })
}

/// Index, message and reason of the refusals of a policy.
fn refusals(spec: Json, object: Json) -> Vec<(usize, String, String)> {
    let policy = ValidatingPolicy::compile(&spec);
    let judgement = with(&object, |inputs| policy.judge(inputs));
    let decisions = judgement.decisions.into_iter();
    decisions
        .map(|decision| (decision.index, decision.message, decision.reason))
        .collect()
}

fn object(replicas: i64) -> Json {
    json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas}})
}

#[test]
fn validations_refuse_with_their_messages() {
    let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "variables": [
        {"name": "replicas", "expression": "object.spec.replicas"},
        {"name": "twice", "expression": "variables.replicas * 2"},
    ], "validations": [
        {"expression": "variables.replicas <= params.max", "messageExpression": "'at most ' + string(params.max)", "reason": "Forbidden"},
        {"expression": "variables.twice < 100", "message": " too many "},
        {"expression": "object.spec.replicas != 77"},
        {"expression": "namespaceObject.metadata.labels.env == 'prod' && request.userInfo.username == 'jane'"},
        {"expression": "oldObject == null && namespaceObject.metadata.creationTimestamp.getFullYear() == 2020"},
    ]});
    assert!(refusals(spec.clone(), object(3)).is_empty());
    assert_eq!(
        refusals(spec.clone(), object(6)),
        [(0, "at most 5".into(), "Forbidden".into())]
    );
    let all = refusals(spec, object(77));
    assert_eq!(all[1], (1, "too many".into(), String::new()));
    assert_eq!(
        all[2],
        (
            2,
            "failed expression: object.spec.replicas != 77".into(),
            String::new()
        )
    );
}

#[test]
fn what_fails_counts_by_the_failure_policy() {
    let spec = |policy: &str| json!({"failurePolicy": policy, "validations": [{"expression": "object.spec.missing == 1"}, {"expression": "false"}]});
    let text = "expression 'object.spec.missing == 1' resulted in error: no such key: missing";
    assert_eq!(refusals(spec("Fail"), object(1))[0].1, text);
    assert_eq!(
        refusals(spec("Ignore"), object(1)),
        [(1, "failed expression: false".into(), String::new())]
    );
}

#[test]
fn what_went_wrong_is_told_apart() {
    let expressions = ["object.spec.missing == 1", "1 +", "false"];
    let validations = expressions.map(|text| json!({"expression": text}));
    let judged = |policy: &str| {
        let spec = json!({"failurePolicy": policy, "validations": validations});
        let policy = ValidatingPolicy::compile(&spec);
        with(&object(1), |inputs| policy.judge(inputs))
    };
    let wrong = [Trouble::Evaluation, Trouble::Compilation];
    let closed = judged("Fail");
    let troubles: Vec<_> = closed.decisions.iter().map(|one| one.trouble).collect();
    assert_eq!(troubles, [Some(wrong[0]), Some(wrong[1]), None]);
    assert!(closed.ignored.is_empty());
    let open = judged("Ignore");
    assert_eq!(open.ignored, wrong);
    assert_eq!(open.decisions.len(), 1);
    assert_eq!(Trouble::of(NO_BUDGET), Trouble::Budget);
}

#[test]
fn variables_are_worked_out_once_when_they_are_needed() {
    let spec = json!({"variables": [{"name": "bad", "expression": "object.spec.missing"}, {"name": "good", "expression": "1"}],
        "validations": [{"expression": "variables.good == 1 || variables.bad == 1"}]});
    assert!(refusals(spec, object(1)).is_empty());
    let mut variables = vec![json!({"name": "v0", "expression": "1"})];
    for at in 1..3_000 {
        variables.push(
            json!({"name": format!("v{at}"), "expression": format!("variables.v{} + 1", at - 1)}),
        );
    }
    let spec =
        json!({"variables": variables, "validations": [{"expression": "variables.v2999 == 3000"}]});
    assert!(refusals(spec, object(1)).is_empty());
    let bad = json!({"variables": [{"name": "bad", "expression": "object.spec.missing"}], "validations": [{"expression": "variables.bad == 1"}]});
    assert!(
        refusals(bad, object(1))[0]
            .1
            .contains("composited variable \"bad\" fails to evaluate: no such key: missing")
    );
}

#[test]
fn the_budget_of_a_policy_is_shared() {
    let expensive = "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, a + b + c + d > 0))))";
    let validations: Vec<Json> = (0..200).map(|_| json!({"expression": expensive})).collect();
    let refused = refusals(json!({"validations": validations}), object(1));
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].1, NO_BUDGET);
}

#[test]
fn annotations_are_texts() {
    let spec = json!({"auditAnnotations": [
        {"key": "a", "valueExpression": "'replicas ' + string(object.spec.replicas)"},
        {"key": "b", "valueExpression": "null"},
        {"key": "c", "valueExpression": "string(object.spec.missing)"},
    ]});
    let policy = ValidatingPolicy::compile(&spec);
    let annotations = with(&object(3), |inputs| policy.judge(inputs)).annotations;
    assert_eq!(
        annotations[0],
        Annotation {
            key: "a".into(),
            value: Ok("replicas 3".into())
        }
    );
    assert_eq!(annotations.len(), 2);
    assert!(annotations[1].value.is_err());
}

#[test]
fn conditions_hold_fail_or_do_not() {
    let outcome = |policy: &str, expressions: &[&str]| {
        let conditions: Vec<Json> = expressions
            .iter()
            .map(|text| json!({"name": "x", "expression": text}))
            .collect();
        let conditions =
            Conditions::compile(&json!({"failurePolicy": policy, "matchConditions": conditions}));
        with(&object(1), |inputs| conditions.match_inputs(inputs))
    };
    assert_eq!(outcome("Fail", &[]), Ok(true));
    assert_eq!(
        outcome("Fail", &["true", "request.operation == 'CREATE'"]),
        Ok(true)
    );
    assert_eq!(outcome("Fail", &["object.x == 1", "false"]), Ok(false));
    assert_eq!(outcome("Ignore", &["object.x == 1", "true"]), Ok(false));
    let one = "expression 'object.x == 1' resulted in error: no such key: x";
    assert_eq!(outcome("Fail", &["object.x == 1", "true"]), Err(one.into()));
    assert_eq!(
        outcome("Fail", &["object.x == 1", "object.x == 1"]),
        Err(format!("[{one}, {one}]"))
    );
}

#[test]
fn mutations_make_configurations_and_patches() {
    let spec = json!({"reinvocationPolicy": "IfNeeded", "variables": [{"name": "n", "expression": "object.spec.replicas + 1"}], "mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: variables.n}}"}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'replace', path: '/spec/replicas', value: variables.n}]"}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression": "object.x ? [] : [JSONPatch{op: 'test', path: '/a'}]"}},
    ]});
    let policy = MutatingPolicy::compile(&spec);
    let object = object(1);
    let mutate = |at: usize| with(&object, |inputs| policy.mutate(at, inputs));
    assert_eq!(
        mutate(0),
        Ok(Change::Apply(json!({"spec": {"replicas": 2}})))
    );
    assert_eq!(
        mutate(1),
        Ok(Change::Patch(
            json!([{"op": "replace", "path": "/spec/replicas", "value": 2}])
        ))
    );
    assert!(mutate(2).unwrap_err().contains("no such key: x"));
    assert!(policy.reinvoked && policy.fails_closed && policy.mutations() == 3);
}

fn texts(errors: &ErrorList) -> Vec<String> {
    errors
        .iter()
        .map(|error| error.to_string().replace('\n', "|"))
        .collect()
}

#[test]
fn expressions_of_policies_are_checked() {
    let spec = json!({
        "variables": [{"name": "a", "expression": "1"}, {"name": "b", "expression": "variables.c"}],
        "validations": [
            {"expression": "variables.a"},
            {"expression": "params.x == 1", "messageExpression": "1"},
            {"expression": "request.nonsense == ''", "messageExpression": "string(authorizer.path('/').check('get').allowed())"},
            {"expression": "authorizer.requestResource.check('get').allowed() && variables.a == 1"},
        ],
        "auditAnnotations": [{"key": "k", "valueExpression": "1"}],
    });
    let mut errors = ErrorList::new();
    check_validating(&spec, &Path::new("spec"), &mut errors);
    let expected = [
        "spec.variables[1].expression: Invalid value: \"variables.c\": compilation failed: ERROR: <input>:1:10: undefined field 'c'| | variables.c| | .........^",
        "spec.validations[0].expression: Invalid value: \"variables.a\": must evaluate to bool but got int",
        "spec.validations[1].expression: Invalid value: \"params.x == 1\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')| | params.x == 1| | ^",
        "spec.validations[1].messageExpression: Invalid value: \"1\": must evaluate to string but got int",
        "spec.validations[2].expression: Invalid value: \"request.nonsense == ''\": compilation failed: ERROR: <input>:1:8: undefined field 'nonsense'| | request.nonsense == ''| | .......^",
        "spec.validations[2].messageExpression: Invalid value: \"string(authorizer.path('/').check('get').allowed())\": compilation failed: ERROR: <input>:1:8: undeclared reference to 'authorizer' (in container '')| | string(authorizer.path('/').check('get').allowed())| | .......^",
        "spec.auditAnnotations[0].valueExpression: Invalid value: \"1\": must evaluate to one of [string null_type] but got int",
    ];
    assert_eq!(texts(&errors), expected);
    let spec = json!({"mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "{'spec': 1}"}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression": "Object{}"}},
    ]});
    let mut errors = ErrorList::new();
    check_mutating(&spec, &Path::new("spec"), &mut errors);
    let expected = [
        "spec.mutations[0].applyConfiguration.expression: Invalid value: \"{'spec': 1}\": must evaluate to Object but got map(string, int)",
        "spec.mutations[1].jsonPatch.expression: Invalid value: \"Object{}\": must evaluate to list(JSONPatch) but got Object",
    ];
    assert_eq!(texts(&errors), expected);
}

#[test]
fn policies_are_checked_against_the_kinds_they_match() {
    let spec = json!({"validations": [
        {"expression": "object.spec.replicas > 1"},
        {"expression": "object.spec.replicas > '1'", "messageExpression": "object.spec.nonsense"},
    ]});
    let deployment = table_type(schema::type_of("apps", "v1", "Deployment").unwrap());
    let warnings = type_check(
        &spec,
        &[("apps/v1, Kind=Deployment".into(), deployment)],
        None,
    );
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(warnings[0].0, "spec.validations[1].expression");
    assert!(warnings[0].1.starts_with("apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'"));
    assert!(warnings[1].1.contains("undefined field 'nonsense'"));
}

/// The deepest expression asks for the deepest variable at its deepest place.
#[test]
fn depths_add_up_to_what_a_stack_bears() {
    let nested = |inner: &str| "[".repeat(240) + inner + &"]".repeat(240);
    let body = move || {
        let spec = json!({"variables": [{"name": "deep", "expression": nested("object.spec.replicas")}],
            "validations": [{"expression": format!("{} != []", nested("variables.deep"))}]});
        assert!(refusals(spec, object(1)).is_empty());
    };
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
    thread.spawn(body).unwrap().join().unwrap();
}
