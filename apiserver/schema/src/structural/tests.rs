use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::field::FieldError;

fn compiled(schema: Value) -> Structural {
    Structural::compile(&schema).unwrap()
}

/// A resource whose `spec` has this schema.
fn with_spec(spec: Value) -> Structural {
    compiled(json!({"type": "object", "properties": {"spec": spec}}))
}

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// The errors of an object with this `spec`.
fn errors_of(schema: Value, spec: Value) -> Vec<String> {
    let (schema, mut object) = (with_spec(schema), json!({ "spec": spec }));
    schema.prune(&mut object);
    texts(&schema.validate(&object, None))
}

#[test]
fn errors_are_those_of_kubernetes() {
    for (schema, spec, expected) in [
        (
            json!({"type": "integer"}),
            json!("x"),
            vec![
                r#"spec: Invalid value: "string": spec in body must be of type integer: "string""#,
            ],
        ),
        (json!({"type": "integer"}), json!(1.0), vec![]),
        (
            json!({"type": "integer"}),
            json!(1.5),
            vec![
                r#"spec: Invalid value: "number": spec in body must be of type integer: "number""#,
                r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in spec"#,
            ],
        ),
        (
            json!({"type": "integer"}),
            json!(null),
            vec![r#"spec: Invalid value: "null": spec in body must be of type integer: "null""#],
        ),
        (
            json!({"type": "integer", "nullable": true}),
            json!(null),
            vec![],
        ),
        (json!({"type": "number"}), json!(1), vec![]),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            vec![
                r#"spec: Invalid value: "boolean": spec in body must be of type integer,string: "boolean""#,
            ],
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!("1"),
            vec![],
        ),
        (
            json!({"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "string"}}}),
            json!({}),
            vec!["spec.a: Required value", "spec.b: Required value"],
        ),
        (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!("c"),
            vec![r#"spec: Unsupported value: "c": supported values: "a", "b""#],
        ),
        (
            json!({"type": "integer", "enum": [1, 2]}),
            json!(2.0),
            vec![],
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("abc"),
            vec!["spec: Too long: may not be more than 2 bytes"],
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("a"),
            vec![r#"spec: Invalid value: "a": spec in body should be at least 2 chars long"#],
        ),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("b"),
            vec![r#"spec: Invalid value: "b": spec in body should match '^a+$'"#],
        ),
        (
            json!({"type": "string", "format": "date"}),
            json!("b"),
            vec![r#"spec: Invalid value: "b": spec in body must be of type date: "b""#],
        ),
        (
            json!({"type": "string", "format": "pineapple"}),
            json!("b"),
            vec![],
        ),
        (
            json!({"type": "integer", "minimum": 2, "maximum": 9, "multipleOf": 2}),
            json!(1),
            vec![
                "spec: Invalid value: 1: spec in body should be a multiple of 2",
                "spec: Invalid value: 1: spec in body should be greater than or equal to 2",
            ],
        ),
        (
            json!({"type": "number", "maximum": 1.5, "exclusiveMaximum": true}),
            json!(1.5),
            vec!["spec: Invalid value: 1.5: spec in body should be less than 1.5"],
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(3_000_000_000_i64),
            vec![
                r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec"#,
            ],
        ),
        (
            json!({"type": "integer", "format": "int64"}),
            json!(1.5),
            vec![
                r#"spec: Invalid value: "float64": spec in body must be of type int64: "float64""#,
                r#"<nil>: Invalid value: "": Checked value must be of type integer with format int64 in spec"#,
            ],
        ),
        (
            json!({"type": "number", "format": "float"}),
            json!(1e39),
            vec![
                r#"<nil>: Invalid value: "": Checked value must be of type number with format float in spec"#,
            ],
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            json!(0.5),
            vec![
                r#"spec: Invalid value: "number": spec in body must be of type integer,string: "number""#,
                r#"<nil>: Invalid value: "": "spec" must validate at least one schema (anyOf)"#,
                r#"spec: Invalid value: "number": spec in body must be of type integer: "number""#,
                r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in spec"#,
            ],
        ),
        (
            json!({"type": "array", "minItems": 2, "items": {"type": "string"}}),
            json!([1]),
            vec![
                r#"spec[0]: Invalid value: "integer": spec[0] in body must be of type string: "integer""#,
                "spec: Invalid value: 1: spec in body should have at least 2 items",
            ],
        ),
        (
            json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
            json!(["a", "b"]),
            vec!["spec: Too many: 2: must have at most 1 item"],
        ),
        (
            json!({"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}}),
            json!({}),
            vec!["spec: Invalid value: 0: spec in body should have at least 1 properties"],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"a": 1}),
            vec![
                r#"spec.a: Invalid value: "integer": spec.a in body must be of type string: "integer""#,
            ],
        ),
        (
            json!({"type": "object", "additionalProperties": false}),
            json!({"a": 1}),
            vec![r#"spec: Invalid value: "a": spec.a in body is a forbidden property"#],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({}),
            vec![
                r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid"#,
                "spec.a: Required value",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({"a": "", "b": ""}),
            vec![
                r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ],
        ),
        (
            json!({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]}),
            json!(3),
            vec![
                r#"<nil>: Invalid value: "": "spec" must validate at least one schema (anyOf)"#,
                "spec: Invalid value: 3: spec in body should be greater than or equal to 5",
            ],
        ),
        (
            json!({"type": "integer", "allOf": [{"minimum": 5}], "not": {"maximum": 4}}),
            json!(3),
            vec![
                "spec: Invalid value: 3: spec in body should be greater than or equal to 5",
                r#"<nil>: Invalid value: "": "spec" must validate all the schemas (allOf). None validated"#,
                r#"<nil>: Invalid value: "": "spec" must not validate the schema (not)"#,
            ],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}),
            json!(["a", "b", "a", "a"]),
            vec![r#"spec[2]: Duplicate value: "a""#],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}}}}),
            json!([{"k": "a"}, {"k": "a"}]),
            vec![r#"spec[1]: Duplicate value: {"k":"a"}"#],
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            json!({"apiVersion": "a/b/c", "kind": "-", "metadata": {"name": "a/b", "labels": {"x": "-"}}}),
            vec![
                r#"spec.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c"#,
                r#"spec.kind: Invalid value: "-": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"#,
                r#"spec.metadata.name: Invalid value: "a/b": may not contain '/'"#,
                r#"spec.metadata.labels: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"#,
            ],
        ),
    ] {
        assert_eq!(
            errors_of(schema.clone(), spec.clone()),
            expected,
            "{schema} {spec}"
        );
    }
}

#[test]
fn what_did_not_change_may_be_wrong() {
    let schema = with_spec(json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "maxItems": 2, "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 1}}}},
        "plain": {"type": "array", "items": {"type": "integer", "maximum": 1}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "integer"}}}}));
    let errors = |old: Value, new: Value| {
        let (old, new) = (json!({ "spec": old }), json!({ "spec": new }));
        texts(&schema.validate(&new, Some(&old)))
    };
    let nothing: [String; 0] = [];
    assert_eq!(
        errors(json!({"a": "xx"}), json!({"a": "xx", "b": "y"})),
        nothing
    );
    assert_eq!(
        errors(json!({"a": "xx"}), json!({"a": "xxx"})),
        ["spec.a: Too long: may not be more than 1 byte"]
    );
    // Items with keys are found wherever they went; others have no place.
    assert_eq!(
        errors(
            json!({"keyed": [{"k": "a", "v": 5}]}),
            json!({"keyed": [{"k": "b", "v": 1}, {"k": "a", "v": 5}]})
        ),
        nothing
    );
    // Also where the keys are not what they should be.
    let twice = json!({"keyed": [{"k": "a", "v": 5}, {"k": "a", "v": 6}, null, 1]});
    assert_eq!(errors(twice.clone(), twice), nothing);
    let (a, b, c) = (json!({"k": "a"}), json!({"k": "b"}), json!({"k": "c"}));
    assert_eq!(
        errors(json!({"keyed": [a, b, c]}), json!({"keyed": [c, b, a]})),
        nothing
    );
    assert_eq!(
        errors(
            json!({"keyed": [a, b, c]}),
            json!({"keyed": [a, b, {"k": "d"}]})
        ),
        ["spec.keyed: Too many: 3: must have at most 2 items"]
    );
    assert_eq!(
        errors(json!({"plain": [5]}), json!({"plain": [5]})),
        nothing
    );
    assert_eq!(
        errors(json!({"plain": [5]}), json!({"plain": [5, 1]})),
        [
            "spec.plain[0]: Invalid value: 5: spec.plain[0] in body should be less than or equal to 1"
        ]
    );
    assert_eq!(
        errors(json!({"set": [1, 1]}), json!({"set": [1, 1, 2]})),
        nothing
    );
    assert_eq!(
        errors(json!({"set": [1]}), json!({"set": [1, 1]})),
        ["spec.set[1]: Duplicate value: 1"]
    );
}

#[test]
fn of_a_status_only_the_status_is_checked() {
    let limit = json!({"type": "object", "properties": {"n": {"type": "integer", "maximum": 1},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "integer"}}}});
    let schema = compiled(
        json!({"type": "object", "required": ["spec"], "properties": {"spec": limit, "status": limit}}),
    );
    let object = json!({"spec": {"n": 5}, "status": {"n": 5, "set": [1, 1]}});
    assert_eq!(
        texts(&schema.validate_status(&object, None)),
        [
            "status.n: Invalid value: 5: n in body should be less than or equal to 1",
            "status.set[1]: Duplicate value: 1",
        ]
    );
    assert_eq!(schema.validate_status(&object, Some(&object)), []);
    assert_eq!(schema.validate_status(&json!({}), None), []);
}

/// What an author of definitions could do to hurt: none of it takes long or much.
#[test]
fn hostile_schemas_are_refused_or_bounded() {
    let check = |schema: &Value| {
        let mut errors = ErrorList::new();
        definition::check(schema, &Path::new("s"), true, &mut errors);
        definition::warnings(schema);
        errors.len()
    };
    let wide: serde_json::Map<String, Value> = (0..10_000)
        .map(|i| {
            (
                format!("p{i}"),
                json!({"type": "string", "format": format!("f{i}")}),
            )
        })
        .collect();
    assert_eq!(check(&json!({"type": "object", "properties": wide})), 0);
    let wrong: serde_json::Map<String, Value> = (0..10_000)
        .map(|i| (format!("p{i}"), json!({"$ref": "#"})))
        .collect();
    assert_eq!(check(&json!({"type": "object", "properties": wrong})), 100);
    let keys: Vec<String> = (0..5_000).map(|i| format!("k{}", i % 2)).collect();
    let keyed = json!({"type": "object", "properties": {"a": {"type": "array", "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": keys, "items": {"type": "object", "properties": {"k0": {"type": "string"}}}}}});
    assert_eq!(check(&keyed), 100);
    let patterned = |pattern: &str| {
        check(
            &json!({"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}),
        )
    };
    assert_eq!(patterned("((a{1000}){1000}){1000}"), 1);
    assert_eq!(patterned(&"(".repeat(50_000)), 1);
    assert_eq!(patterned("(a*)*(a*)*(a*)*b"), 0);
    let schema = with_spec(json!({"type": "string", "pattern": "(a*)*(a*)*(a*)*b"}));
    let spec = json!({"spec": "a".repeat(20_000)});
    assert_eq!(schema.validate(&spec, None).len(), 1);
    // An object with more errors than anybody reads.
    let schema = with_spec(json!({"type": "array", "items": {"type": "string"}}));
    let spec = json!({"spec": vec![1; 20_000]});
    assert_eq!(schema.validate(&spec, None).len(), 200);
}

#[test]
fn equal_parts_are_one() {
    let part = json!({"type": "object", "properties": {"a": {"type": "string", "enum": ["x"]},
        "b": {"type": "array", "items": {"type": "integer", "minimum": 1}}}});
    let schema = with_spec(json!({"type": "object", "properties": {"one": part, "two": part}}));
    let spec = schema.root().property("spec").unwrap();
    assert!(std::ptr::eq(
        spec.property("one").unwrap(),
        spec.property("two").unwrap()
    ));
    // What differs in anything that counts is not.
    for (a, b) in [
        (
            json!({"type": "string"}),
            json!({"type": "string", "nullable": true}),
        ),
        (
            json!({"type": "string", "default": "1"}),
            json!({"type": "string", "default": "2"}),
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}}),
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
        ),
        (
            json!({"type": "integer", "allOf": [{"minimum": 1}]}),
            json!({"type": "integer", "anyOf": [{"minimum": 1}]}),
        ),
    ] {
        let schema = with_spec(json!({"type": "object", "properties": {"one": a, "two": b}}));
        let spec = schema.root().property("spec").unwrap();
        assert_ne!(spec.property("one").unwrap(), spec.property("two").unwrap());
    }
}

/// The schema of a built-in type, as controller-gen would write it into a definition.
pub(super) fn of_built_in(ty: &crate::Type) -> Value {
    use crate::types::{Container, Element, Form, ListType};
    let element = |element: Element| match element {
        Element::String | Element::Bytes | Element::Duration => json!({"type": "string"}),
        Element::Bool => json!({"type": "boolean"}),
        Element::Int32 => json!({"type": "integer", "format": "int32"}),
        Element::Int64 => json!({"type": "integer", "format": "int64"}),
        Element::Double => json!({"type": "number"}),
        Element::StringList | Element::Verbs => {
            json!({"type": "array", "items": {"type": "string"}})
        }
        Element::Message(id) => of_built_in(crate::types::type_by_id(id)),
    };
    match ty.form {
        Form::Object => {}
        Form::Time | Form::MicroTime => return json!({"type": "string", "format": "date-time"}),
        Form::Quantity | Form::IntOrString => {
            let pattern = "^(\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))(([KMGTPE]i)|[numkMGTPE])?$";
            return json!({"x-kubernetes-int-or-string": true, "pattern": pattern,
                "anyOf": [{"type": "integer"}, {"type": "string"}]});
        }
        _ => return json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
    }
    let properties = ty.fields.iter().map(|field| {
        let element = element(field.ty.element);
        let mut schema = match field.ty.container {
            Container::One => element,
            Container::Map => json!({"type": "object", "additionalProperties": element}),
            Container::List => json!({"type": "array", "items": element}),
        };
        if field.list_type == Some(ListType::Map) {
            schema["x-kubernetes-list-type"] = "map".into();
            schema["x-kubernetes-list-map-keys"] = field.list_keys.clone().into();
        }
        schema["description"] = "What this field means, in as many words as such fields use to have: a few lines of prose that nobody reads twice, with links.".into();
        (field.name.to_owned(), schema)
    });
    let properties: serde_json::Map<String, Value> = properties.collect();
    let required: Vec<&str> = ty
        .fields
        .iter()
        .filter(|f| f.required)
        .map(|f| f.name)
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}

#[test]
fn a_schema_as_large_as_a_pod_takes_little_memory() {
    let template = crate::type_named("core.PodTemplateSpec").unwrap();
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "template": of_built_in(template)}}}});
    let text = schema.to_string().len();
    let compiled = Structural::compile(&schema).unwrap();
    assert!(text > 200_000, "{text}");
    assert!(
        compiled.size_bytes() < 200_000,
        "{} of {text}",
        compiled.size_bytes()
    );
}

#[test]
fn schemas_that_nest_too_deep_are_none() {
    let nested = |depth: usize| {
        let inner = json!({"type": "object"});
        (0..depth).fold(
            inner,
            |inner, _| json!({"type": "object", "properties": {"a": inner}}),
        )
    };
    assert!(Structural::compile(&nested(DEPTH_MAX)).is_some());
    assert!(Structural::compile(&nested(DEPTH_MAX + 1)).is_none());
}

/// The stack of a thread of the server holds the deepest that gets in.
#[test]
fn the_deepest_schemas_and_objects_fit_the_stack() {
    let run = || {
        let levels = crate::decode::DEPTH_MAX - 1;
        let body = format!("{}{{}}{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        let nested =
            |wrap: fn(Value) -> Value, leaf: Value| (1..DEPTH_MAX).fold(leaf, |s, _| wrap(s));
        let leaf = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let schemas = [
            nested(
                |inner| json!({"type": "object", "properties": {"a": inner}}),
                leaf,
            ),
            json!({"type": "object", "properties": {"a": {"type": "object", "additionalProperties": true}}}),
            nested(
                |inner| json!({"type": "object", "allOf": [inner]}),
                json!({"required": ["b"]}),
            ),
        ];
        for schema in schemas {
            let mut errors = ErrorList::new();
            definition::check(&schema, &Path::new("s"), false, &mut errors);
            let schema = compiled(schema);
            let validation = crate::decode::FieldValidation::Warn;
            let mut object = crate::decode::json(&schema, body.as_bytes(), validation)
                .unwrap()
                .value;
            schema.default(&mut object);
            schema.validate(&object, Some(&json!({"a": 1})));
            let who = crate::apply::Who {
                manager: "m",
                api_version: "a/v1",
                subresource: "",
                now: "2026-01-01T00:00:00Z",
                reset: &[],
                versions: None,
            };
            let _ = crate::apply::apply(&schema, &json!({}), &object, &who, true);
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
    thread.unwrap().join().unwrap();
}

/// Schemas, most of them sound.
pub(super) fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string", "default": "d"})),
        Just(json!({"type": "string", "nullable": true, "maxLength": 2})),
        Just(json!({"type": "integer", "minimum": 1, "default": 3})),
        Just(json!({"type": "boolean"})),
        Just(json!({"x-kubernetes-int-or-string": true})),
        Just(json!({"x-kubernetes-preserve-unknown-fields": true})),
        Just(json!({"type": "string", "format": "date", "pattern": "^2"})),
        Just(json!({"type": "number", "multipleOf": 0.5, "enum": [1, 2.5, null]})),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let names = prop::sample::select(vec!["a", "b", "c", "metadata", "kind"]);
        let fields = prop::collection::btree_map(names, inner.clone(), 0..4);
        prop_oneof![
            (fields, any::<bool>(), any::<bool>()).prop_map(|(fields, preserve, embedded)| {
                let mut schema = json!({"type": "object", "properties": fields, "required": ["a"]});
                if preserve {
                    schema["x-kubernetes-preserve-unknown-fields"] = true.into();
                }
                if embedded {
                    schema["x-kubernetes-embedded-resource"] = true.into();
                }
                schema
            }),
            inner.clone().prop_map(|item| json!({"type": "array", "items": item})),
            inner.clone().prop_map(|item| json!({"type": "array", "items": item, "x-kubernetes-list-type": "set"})),
            inner.clone().prop_map(|item| json!({"type": "object", "additionalProperties": item, "default": {}})),
            Just(json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"],
                "items": {"type": "object", "required": ["a"], "properties": {
                    "a": {"type": "string"}, "b": {"type": "integer", "default": 1}}}})),
            inner.prop_map(|schema| json!({"type": "object", "properties": {"a": schema},
                "anyOf": [{"required": ["a"]}, {"not": {"properties": {"a": {"enum": [1]}}}}]})),
        ]
    })
}

/// Any JSON, with the names that schemas and objects use.
pub(super) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..4_i64).prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "a",
            "2026-01-01",
            "object",
            "(",
            "map",
            "set",
            "string",
            "array"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 4, |inner| {
        let names = vec![
            "a",
            "b",
            "c",
            "metadata",
            "kind",
            "apiVersion",
            "name",
            "labels",
            "spec",
            "type",
            "properties",
            "items",
            "additionalProperties",
            "default",
            "enum",
            "pattern",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "required",
            "nullable",
            "x-kubernetes-list-type",
            "x-kubernetes-list-map-keys",
            "x-kubernetes-embedded-resource",
            "x-kubernetes-preserve-unknown-fields",
            "x-kubernetes-int-or-string",
            "x-kubernetes-validations",
            "x-kubernetes-map-type",
            "minimum",
            "maxLength",
            "multipleOf",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(prop::sample::select(names), inner, 0..5).prop_map(|map| {
                let pairs = map.into_iter().map(|(key, value)| (key.to_owned(), value));
                Value::Object(pairs.collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn pruning_and_defaulting_again_change_nothing(schema in schema(), object in value()) {
        let schema = with_spec(schema);
        let mut object = json!({ "spec": object });
        schema.prune(&mut object);
        schema.default(&mut object);
        let mut again = object.clone();
        prop_assert_eq!(schema.prune(&mut again), Vec::<String>::new());
        schema.default(&mut again);
        prop_assert_eq!(again, object);
    }

    #[test]
    fn an_object_that_does_not_change_is_valid(schema in schema(), object in value()) {
        let schema = with_spec(schema);
        let object = json!({ "spec": object });
        let errors = validate::values(schema.root(), &object, Some(&object), None);
        prop_assert_eq!(errors, Vec::new());
    }

    #[test]
    fn no_schema_and_no_object_does_harm(schema in value(), object in value(), old in value()) {
        if let Some(schema) = Structural::compile(&schema) {
            let mut pruned = object.clone();
            schema.prune(&mut pruned);
            schema.default(&mut pruned);
            schema.validate(&pruned, Some(&old));
            schema.validate(&object, None);
        }
    }
}
