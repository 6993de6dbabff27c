//! The language by its table of expressions, and what hostile ones cannot do.

use std::sync::Arc;

use cel::authorizer::{Authorizer, Check, Decision};
use cel::{
    Activation, Environment, ListType, ObjectType, Program, Semantics, Type, Value, Variables,
    to_json,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

#[derive(Debug)]
struct Root;

fn list(item: Type, semantics: Semantics) -> Type {
    Type::List(Arc::new(ListType {
        item,
        semantics,
        max_items: None,
    }))
}

impl ObjectType for Root {
    fn name(&self) -> &str {
        "Root"
    }

    fn field(&self, spelled: &str) -> Option<(Arc<str>, Type)> {
        let name = cel::unescape(spelled)?;
        if cel::escape(&name)? != spelled {
            return None;
        }
        let ports = || list(Type::Dyn, Semantics::Map(vec!["port".into()]));
        let ty = match &*name {
            "replicas" => Type::Int,
            "name" | "x-y" | "namespace" | "absent" => Type::String,
            "created" => Type::Timestamp,
            "wait" => Type::Duration,
            "number" => Type::Double,
            "set" | "other" => list(Type::String, Semantics::Set),
            "ports" | "more" | "both" => ports(),
            "either" | "free" => Type::Dyn,
            "labels" => Type::map(Type::String, Type::String),
            _ => return None,
        };
        Some((name.into(), ty))
    }

    fn spelled(&self, name: &str) -> Option<String> {
        cel::escape(name)
    }
}

struct Deployments;

impl Authorizer for Deployments {
    fn decide(&self, check: &Check) -> Decision {
        let allowed = check.resource == "deployments" && check.service_account.is_none();
        Decision {
            allowed,
            reason: format!("asked for {}", check.path),
            error: String::new(),
        }
    }
}

fn environment() -> Environment {
    let mut environment = Environment::new()
        .with("object", Type::Dyn)
        .with("self", Type::Object(Arc::new(Root)));
    environment.declare("authorizer", cel::authorizer_type());
    environment.mutation = true;
    environment
}

fn data() -> (Json, Json) {
    let object = json!({"name": "web", "namespace": "default", "number": 5, "list": [1, 2, 3], "nested": {"deep": {"value": 42}}});
    let typed = json!({
        "replicas": 3, "name": "web", "x-y": "dashed", "namespace": "ns", "created": "2020-01-01T00:00:00Z", "wait": "1m30s",
        "number": 2, "set": ["a", "b"], "other": ["b", "a"], "either": 5, "labels": {"app": "web"},
        "ports": [{"port": 1, "x": 1}], "more": [{"port": 1, "x": 2}, {"port": 2}], "both": [{"port": 2}, {"port": 1, "x": 2}],
        "free": {"anything": {"goes": true}},
    });
    (object, typed)
}

fn variables<'a>(object: &'a Json, typed: &'a Json) -> Variables<'a> {
    Variables::new()
        .with("object", Value::json(object, &Type::Dyn))
        .with("self", Value::json(typed, &Type::Object(Arc::new(Root))))
        .with("authorizer", cel::check_value(Check::default()))
}

enum Came {
    Json(Json),
    Failed(String),
    Refused(String),
}

fn run(text: &str) -> Came {
    let program = match Program::compile(&environment(), text) {
        Ok(program) => program,
        Err(error) => return Came::Refused(error.0),
    };
    let (object, typed) = data();
    match program
        .run(&variables(&object, &typed), Some(&Deployments))
        .0
    {
        Ok(value) => Came::Json(to_json(&value).expect("results of the table are JSON")),
        Err(error) => Came::Failed(error.text),
    }
}

/// What is wrong with a line of the table.
fn wrong(line: &str) -> Option<String> {
    let at = [" => ", " !! ", " ## "]
        .iter()
        .filter_map(|mark| line.rfind(mark).map(|at| (at, *mark)))
        .max()?;
    let (text, wanted) = (&line[..at.0], &line[at.0 + 4..]);
    match (at.1, run(text)) {
        (" => ", Came::Json(found)) => {
            let wanted: Json = serde_json::from_str(wanted).expect("results are JSON");
            (found != wanted).then(|| format!("{text}: {found}"))
        }
        (" !! ", Came::Failed(found)) => {
            (!found.starts_with(wanted)).then(|| format!("{text}: {found}"))
        }
        (" ## ", Came::Refused(found)) => {
            let first = found.lines().next().unwrap_or_default();
            (first != format!("ERROR: <input>:{wanted}")).then(|| format!("{text}: {found}"))
        }
        (_, Came::Json(found)) => Some(format!("{text}: is {found}")),
        (_, Came::Failed(found)) => Some(format!("{text}: fails: {found}")),
        (_, Came::Refused(found)) => Some(format!("{text}: is refused: {found}")),
    }
}

#[test]
fn expressions_give_what_the_table_says() {
    let table = include_str!("data/expressions.txt");
    let lines = table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines: Vec<&str> = lines.collect();
    assert!(lines.len() > 250, "{}", lines.len());
    let wrong: Vec<String> = lines.into_iter().filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn errors_show_the_place() {
    let Came::Refused(text) = run("object.a &&\n  other") else {
        panic!("it compiles");
    };
    assert_eq!(
        text,
        "ERROR: <input>:2:3: undeclared reference to 'other' (in container '')\n |   other\n | ..^"
    );
}

fn fails_with(text: &str, part: &str) {
    match run(text) {
        Came::Failed(error) | Came::Refused(error) => assert!(error.contains(part), "{error}"),
        Came::Json(json) => panic!("{text:.100}: {json}"),
    }
}

#[test]
fn what_costs_too_much_is_cancelled() {
    let limit = "operation cancelled: actual cost limit exceeded";
    let tens = "[1,2,3,4,5,6,7,8,9,10]";
    let mut nested = "true".to_string();
    for depth in 0..8 {
        nested = format!("{tens}.all(x{depth}, {nested})");
    }
    fails_with(&nested, limit);
    let mut doubled = "'0123456789'".to_string();
    for depth in 0..30 {
        doubled = format!("optional.of({doubled}).optMap(x{depth}, x{depth} + x{depth}).value()");
    }
    fails_with(&doubled, limit);
    // What is left to compare, after the limit, is not compared: this ends at once.
    fails_with("lists.range(300000).distinct()", limit);
    let pattern = "[1,2,3,4,5,6,7,8,9,10]".to_string();
    let dynamic = format!(
        "{pattern}.all(a, {pattern}.all(b, {pattern}.all(c, 'x'.matches('(x{{1,900}}){{1,9}}' + string(a) + string(b) + string(c)) || true)))"
    );
    fails_with(&dynamic, limit);
    fails_with(
        &format!(
            "{tens}.all(a, {tens}.all(b, 'x'.replace('', 'yyyyyyyyyyyyyyyyyyyy'.replace('', 'zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz'.replace('', '00000000000000000000000000000000000000000000000000'))) != ''))"
        ),
        limit,
    );
}

/// An error inside of `||` does not hide that the limit is used up.
#[test]
fn nothing_absorbs_the_limit() {
    let tens = "[1,2,3,4,5,6,7,8,9,10]";
    let mut nested = "false".to_string();
    for depth in 0..8 {
        nested = format!("{tens}.exists(x{depth}, {nested})");
    }
    fails_with(&format!("{nested} || true"), "cost limit exceeded");
}

#[test]
fn comparisons_of_large_values_are_paid_for() {
    let object = json!({"a": vec![json!({"x": "y"}); 20_000], "b": vec![json!({"x": "y"}); 20_000], "n": vec![1; 2_000]});
    let program =
        Program::compile(&environment(), "object.n.all(x, object.a == object.b)").unwrap();
    let (outcome, cost) = program.run_within(50_000, &variables(&object, &object), None);
    assert!(outcome.unwrap_err().over_limit);
    assert!(cost < 60_000, "{cost}");
}

#[test]
fn nesting_is_bounded_and_what_is_allowed_fits_on_a_small_stack() {
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
    let body = || {
        for depth in [100, 240] {
            let open = "[".repeat(depth) + "1" + &"]".repeat(depth);
            assert!(matches!(run(&open), Came::Json(_)), "{depth}");
            let calls = "size([".repeat(depth / 2) + "1" + &"])".repeat(depth / 2);
            assert!(matches!(run(&calls), Came::Json(_)), "{depth}");
        }
        let limit = "expression recursion limit exceeded: 250";
        fails_with(&("(".repeat(100_000 / 2) + "1"), limit);
        fails_with(&("[".repeat(400) + "1" + &"]".repeat(400)), limit);
        fails_with(&("1".to_string() + &" + 1".repeat(400)), limit);
        fails_with(&("object".to_string() + &".a".repeat(400)), limit);
        fails_with(&("true ? 1 : ".repeat(400) + "1"), limit);
        fails_with(
            &("-".repeat(400) + "object.a.b.c.d" + &"[0]".repeat(400)),
            limit,
        );
        fails_with(
            &"a".repeat(100_001),
            "expression code point size exceeds limit",
        );
        let chain = "true".to_string() + &" && true".repeat(5_000);
        assert!(matches!(run(&chain), Came::Json(Json::Bool(true))));
    };
    thread.spawn(body).unwrap().join().unwrap();
}

struct Lazy;

impl Activation<'static> for Lazy {
    fn variable(&self, name: &str) -> Option<Value<'static>> {
        (name == "variables").then_some(Value::Null)
    }

    fn lazy(&self, variable: &str, field: &str) -> Option<cel::Outcome<'static>> {
        (variable == "variables").then(|| Ok(Value::text(field)))
    }
}

#[test]
fn fields_of_lazy_variables_are_asked_for() {
    let environment = Environment::new().with("variables", Type::Dyn);
    let program = Program::compile(&environment, "variables.foo + variables.bar").unwrap();
    let value = program.run(&Lazy, None).0.unwrap();
    assert_eq!(to_json(&value), Some(json!("foobar")));
    assert!(program.uses("variables") && !program.uses("foo"));
}

/// Text that is made of the pieces of expressions, so that much of it nearly parses.
fn soup() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "object",
        "self",
        ".name",
        ".list",
        ".?a",
        "[0]",
        "[?1]",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "1",
        "2u",
        "1.5",
        "'a'",
        "b'x'",
        "null",
        "true",
        " + ",
        " - ",
        "-",
        "!",
        " && ",
        " || ",
        " == ",
        " < ",
        " in ",
        " ? ",
        " : ",
        ",",
        ".map(x, x)",
        ".all(x, x == 1)",
        ".filter(x, true)",
        ".size()",
        "size(",
        "has(",
        "x",
        ".format([",
        "'%s%d'",
        ".split('a')",
        "duration('1s')",
        "optional.of(",
        ".orValue(",
        "Object{a: ",
        "timestamp(0)",
        ".getHours()",
        "quantity('1')",
        ".add(",
        "0x",
        "\\",
        "'",
        "\"",
        "`a`",
        "é",
        "\n",
        "//",
        ".transformMapEntry(k, v, {v: k})",
        ".substring(1",
        ".charAt(-1)",
        "9223372036854775807",
        "type(",
        "dyn(",
        ".matches('",
        ".indexOf(",
    ];
    prop::collection::vec(prop::sample::select(PIECES), 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in soup()) {
        let program = Program::compile(&environment(), &text);
        if let Ok(program) = program {
            let (object, typed) = data();
            let _ = program.run(&variables(&object, &typed), Some(&Deployments));
        }
    }

    #[test]
    fn not_even_any_text(text in "\\PC{0,40}") {
        let _ = Program::compile(&environment(), &text);
    }

    /// What an expression gives does not depend on whether its values were typed.
    #[test]
    fn arithmetic_agrees_with_rust(a in any::<i64>(), b in any::<i64>()) {
        let check = |text: &str, wanted: Option<i64>| {
            let found = match run(text) {
                Came::Json(json) => json.as_i64(),
                _ => None,
            };
            (found == wanted).then_some(()).ok_or_else(|| TestCaseError::fail(format!("{text}: {found:?}")))
        };
        check(&format!("({a}) + ({b})"), a.checked_add(b))?;
        check(&format!("({a}) - ({b})"), a.checked_sub(b))?;
        check(&format!("({a}) * ({b})"), a.checked_mul(b))?;
        check(&format!("({a}) / ({b})"), a.checked_div(b))?;
        check(&format!("dyn({a}) % ({b})"), a.checked_rem(b))?;
    }
}
