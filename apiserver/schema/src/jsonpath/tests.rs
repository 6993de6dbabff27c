use proptest::prelude::*;
use serde_json::json;

use super::*;

fn object() -> Value {
    json!({"spec": {"a": "x", "b.c": 2, "list": [1, 2, 3], "nil": null}, "status": {"conditions": [
        {"type": "Ready", "status": "True", "n": 5}, {"type": "Done", "status": "False", "n": 7}]}})
}

fn found(path: &str) -> Value {
    let object = object();
    let path = JsonPath::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    path.find(&object).into_iter().cloned().collect()
}

#[test]
fn paths_find_what_kubectl_finds() {
    for (path, expected) in [
        (".spec.a", json!(["x"])),
        ("{.spec.a}", json!(["x"])),
        (".spec['b.c']", json!([2])),
        (r".spec.b\.c", json!([2])),
        (".spec.no.no", json!([])),
        (".spec.list[0]", json!([1])),
        (".spec.list[-1]", json!([3])),
        (".spec.list[9]", json!([])),
        (".spec.list[0:2]", json!([1, 2])),
        (".spec.list[::2]", json!([1, 3])),
        (".spec.list[0,2]", json!([1, 3])),
        (".spec.list[*]", json!([1, 2, 3])),
        (".status.conditions[*].type", json!(["Ready", "Done"])),
        (
            r#".status.conditions[?(@.type=="Ready")].status"#,
            json!(["True"]),
        ),
        (
            ".status.conditions[?(@.type=='Done')].status",
            json!(["False"]),
        ),
        (".status.conditions[?(@.n > 5)].type", json!(["Done"])),
        (".status.conditions[?(@.n<=5)].type", json!(["Ready"])),
        (
            ".status.conditions[?(@.type!=\"Ready\")].type",
            json!(["Done"]),
        ),
        (".status.conditions[?(@.none)].type", json!([])),
        ("..type", json!(["Ready", "Done"])),
    ] {
        assert_eq!(found(path), expected, "{path}");
    }
    for wrong in [
        ".a[",
        ".a[x]",
        ".a[?(@.b==]",
        ".a[0:1:0]",
        ".a[1:2:3:4]",
        "a",
        ".a['b",
        "{.a",
        ".a[?(@.b==c)]",
    ] {
        assert!(JsonPath::parse(wrong).is_err(), "{wrong}");
    }
    assert!(JsonPath::parse(&".a[?(@".repeat(10_000)).is_err());
    assert!(JsonPath::parse(&".a".repeat(10_000)).is_err());
}

#[test]
fn cells_have_the_type_of_their_column() {
    let object = json!({"s": "x", "i": 3, "f": 1.5, "b": true, "m": {"a": 1}, "t": "1970-01-01T00:00:10Z", "n": null});
    let cell = |path: &str, ty: &str| {
        let path = JsonPath::parse(path).unwrap();
        super::cell(&path, ty, &object, |seconds| format!("{seconds}s"))
    };
    for (path, ty, expected) in [
        (".s", "string", json!("x")),
        (".i", "string", json!("3")),
        (".b", "string", json!("true")),
        (".m", "string", json!("{\"a\":1}")),
        (".i", "integer", json!(3)),
        (".f", "integer", json!(1)),
        (".s", "integer", json!(null)),
        (".f", "number", json!(1.5)),
        (".i", "number", json!(3.0)),
        (".b", "boolean", json!(true)),
        (".t", "date", json!("10s")),
        (".s", "date", json!("<invalid>")),
        (".n", "string", json!(null)),
        (".none", "string", json!(null)),
    ] {
        assert_eq!(cell(path, ty), expected, "{path} {ty}");
    }
}

#[test]
fn fields_are_told_from_other_paths() {
    let names = |path: &str| field_steps(path);
    assert_eq!(
        names(".spec.a"),
        Some(vec!["spec".to_owned(), "a".to_owned()])
    );
    assert_eq!(
        names(".spec['a.b']"),
        Some(vec!["spec".to_owned(), "a.b".to_owned()])
    );
    for other in ["", ".", ".a[0]", ".a[*]", "..a", "{.a}", "$.a", ".a.*"] {
        assert_eq!(names(other), None, "{other}");
    }
}

proptest! {
    #[test]
    fn no_path_does_harm(path in r#"[.\[\]{}$*?@()=<>!'"a-c0-9:, \\-]{0,24}"#) {
        if let Ok(path) = JsonPath::parse(&path) {
            path.find(&object());
        }
        field_steps(&path);
    }
}
