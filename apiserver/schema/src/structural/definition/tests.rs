use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::structural::tests::value;

fn errors_of(schema: &Value, has_status: bool) -> Vec<String> {
    let mut errors = ErrorList::new();
    let compiled = check(schema, &Path::new("s"), has_status, &mut errors);
    assert_eq!(compiled.is_some(), errors.is_empty(), "{schema}");
    errors.iter().map(ToString::to_string).collect()
}

/// The errors of a schema with this property.
fn property(schema: Value) -> Vec<String> {
    errors_of(
        &json!({"type": "object", "properties": {"p": schema}}),
        false,
    )
}

#[test]
fn schemas_that_may_be_served() {
    for schema in [
        json!({"type": "string"}),
        json!({"x-kubernetes-int-or-string": true}),
        json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
        json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"maximum": 5}]}),
        json!({"x-kubernetes-preserve-unknown-fields": true}),
        json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
        json!({"type": "object", "additionalProperties": {"type": "string"}}),
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": true}),
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}}),
        json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}),
        json!({"type": "object", "default": {"a": "x"}, "properties": {"a": {"type": "string", "format": "pineapple"}}}),
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "oneOf": [{"required": ["a"]},
            {"properties": {"a": {"pattern": "^x"}}}]}),
        json!({"type": "object", "x-kubernetes-validations": [{"rule": "true", "reason": "FieldValueForbidden",
            "fieldPath": ".a"}], "properties": {"a": {"type": "string"}}}),
    ] {
        assert_eq!(property(schema.clone()), Vec::<String>::new(), "{schema}");
    }
}

#[test]
fn defaults_within_metadata_make_metadata() {
    let embedded = |properties: Value| {
        property(
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": properties}),
        )
    };
    let metadata = |default: Value| json!({"metadata": {"type": "object", "default": default}});
    assert!(embedded(metadata(json!({"name": "a", "labels": {"x": "y"}}))).is_empty());
    let p = "s.properties[p].properties";
    let bad =
        "must result in valid metadata: metadata.name: Invalid value: \"%\": may not contain '%'";
    assert_eq!(
        embedded(metadata(json!({"name": "%"}))),
        [format!(
            r#"{p}[metadata].default: Invalid value: {{"name":"%"}}: {bad}"#
        )]
    );
    let name = json!({"metadata": {"type": "object", "properties": {"name": {"type": "string", "default": "%"}}}});
    assert_eq!(
        embedded(name),
        [format!(
            r#"{p}[metadata].properties[name].default: Invalid value: "%": {bad}"#
        )]
    );
    let kind = embedded(json!({"kind": {"type": "string", "default": "a b"}}));
    assert_eq!(kind.len(), 1);
    let start = format!(
        r#"{p}[kind].default: Invalid value: "a b": must result in valid metadata: kind: Invalid value: "a b": may have mixed case"#
    );
    assert!(kind[0].starts_with(&start), "{kind:?}");
}

#[test]
fn errors_are_those_of_kubernetes() {
    let p = "s.properties[p]";
    for (schema, expected) in [
        (
            json!({}),
            vec![format!(
                "{p}.type: Required value: must not be empty for specified object fields"
            )],
        ),
        (
            json!({"type": "array"}),
            vec![format!("{p}.items: Required value: must be specified")],
        ),
        (
            json!({"type": "array", "items": {}}),
            vec![format!(
                "{p}.items.type: Required value: must not be empty for specified array items"
            )],
        ),
        (
            json!({"type": "foo"}),
            vec![format!(
                r#"{p}.type: Unsupported value: "foo": supported values: "array", "boolean", "integer", "number", "object", "string""#
            )],
        ),
        (
            json!({"type": "object", "$ref": "#/x", "definitions": {"a": {}}, "id": "x", "patternProperties": {"a": {}},
                "dependencies": {}, "additionalItems": false, "uniqueItems": true}),
            vec![
                format!("{p}.id: Forbidden: id is not supported"),
                format!("{p}.additionalItems: Forbidden: additionalItems is not supported"),
                format!("{p}.patternProperties: Forbidden: patternProperties is not supported"),
                format!("{p}.definitions: Forbidden: definitions is not supported"),
                format!("{p}.dependencies: Forbidden: dependencies is not supported"),
                format!("{p}.$ref: Forbidden: $ref is not supported"),
                format!(
                    "{p}.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
                ),
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false}),
            vec![format!(
                "{p}.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"
            )],
        ),
        (
            json!({"type": "integer", "anyOf": [{"type": "integer", "nullable": true}]}),
            vec![
                format!("{p}.anyOf[0].nullable: Forbidden: must be false to be structural"),
                format!("{p}.anyOf[0].type: Forbidden: must be empty to be structural"),
            ],
        ),
        (
            json!({"type": "object", "not": {"properties": {"a": {"minimum": 1}}}}),
            vec![format!(
                "{p}.properties[a]: Required value: because it is defined in {p}.not.properties[a]"
            )],
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true}),
            vec![format!(
                "{p}.x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true"
            )],
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            vec![format!(
                "{p}.properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
            )],
        ),
        (
            json!({"type": "string", "pattern": "["}),
            vec![format!(
                r#"{p}.pattern: Invalid value: "[": must be a valid regular expression, but isn't: error parsing regexp: missing closing ]: `[`"#
            )],
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
            vec![format!(
                "{p}.x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"
            )],
        ),
        (
            json!({"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}}, "x-kubernetes-list-type": "map"}),
            vec![format!(
                "{p}.x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map"
            )],
        ),
        (
            json!({"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "no"]}),
            vec![
                format!(
                    r#"{p}.x-kubernetes-list-map-keys: Invalid value: ["k","no"]: entries must all be names of item properties"#
                ),
                format!(
                    "{p}.items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
                ),
            ],
        ),
        (
            json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"}),
            vec![format!(
                r#"{p}.items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set"#
            )],
        ),
        (
            json!({"type": "string", "x-kubernetes-map-type": "atomic"}),
            vec![format!(
                r#"{p}.type: Invalid value: "string": must be object if x-kubernetes-map-type is specified"#
            )],
        ),
        (
            json!({"type": "object", "default": {"b": 1}, "properties": {"a": {"type": "string", "default": 5}}}),
            vec![
                format!(r#"{p}.default: Invalid value: {{"b":1}}: must not have unknown fields"#),
                format!(
                    r#"{p}.properties[a].default: Invalid value: "integer":  in body must be of type string: "integer""#
                ),
            ],
        ),
        (
            json!({"type": "string", "x-kubernetes-validations": [{"rule": " "}, {"rule": "true", "message": " ", "reason": "x", "fieldPath": ".no"}]}),
            vec![
                format!(
                    "{p}.x-kubernetes-validations[0].rule: Required value: rule is not specified"
                ),
                format!(
                    r#"{p}.x-kubernetes-validations[1].message: Invalid value: " ": must be non-empty if specified"#
                ),
                format!(
                    r#"{p}.x-kubernetes-validations[1].reason: Unsupported value: "x": supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired""#
                ),
                format!(
                    r#"{p}.x-kubernetes-validations[1].fieldPath: Invalid value: ".no": must be a valid path"#
                ),
            ],
        ),
    ] {
        assert_eq!(property(schema.clone()), expected, "{schema}");
    }
}

#[test]
fn the_root_is_an_object_whose_metadata_is_known() {
    let metadata = "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified";
    for (schema, expected) in [
        (
            json!({}),
            vec!["s.type: Required value: must not be empty at the root"],
        ),
        (
            json!({"type": "string"}),
            vec![r#"s.type: Invalid value: "string": must be object at the root"#],
        ),
        (
            json!({"type": "object", "nullable": true}),
            vec!["s.nullable: Forbidden: nullable cannot be true at the root"],
        ),
        (
            json!({"type": "object", "additionalProperties": true}),
            vec!["s.additionalProperties: Forbidden: must not be used at the root"],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}}}}),
            vec![],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            vec![metadata],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "required": ["name"]}}}),
            vec![metadata],
        ),
        (
            json!({"type": "object", "properties": {"kind": {"type": "integer"}}}),
            vec![r#"s.properties[kind].type: Invalid value: "integer": must be string"#],
        ),
        (
            json!({"type": "object", "properties": {"kind": {"type": "string", "default": "x"}}}),
            vec!["s.properties[kind].default: Forbidden: must not be set in top-level kind"],
        ),
    ] {
        assert_eq!(errors_of(&schema, false), expected, "{schema}");
    }
    let with_status = errors_of(&json!({"type": "object", "minProperties": 1}), true);
    assert!(with_status[0].ends_with(
        "fields are allowed at the root of the schema if the status subresource is enabled"
    ));
    let mut deep = json!({"type": "string"});
    for _ in 0..300 {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    assert_eq!(
        errors_of(&deep, false),
        ["s: Forbidden: must not nest deeper than 128 schemas"]
    );
    assert_eq!(
        warnings(
            &json!({"type": "object", "properties": {"a": {"type": "string", "format": "pineapple"},
            "b": {"type": "string", "format": "date-time"}, "c": {"type": "integer", "format": "port"}}})
        ),
        [r#"unrecognized format "pineapple""#]
    );
}

#[test]
fn paths_of_columns_fields_and_scale() {
    let shown = |errors: ErrorList| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
    let column = |column: Value| {
        let mut errors = ErrorList::new();
        check_column(&column, &Path::new("c"), &mut errors);
        shown(errors)
    };
    assert_eq!(
        column(json!({"name": "A", "type": "date", "jsonPath": ".a"})),
        Vec::<String>::new()
    );
    assert_eq!(
        column(json!({"type": "x", "format": "y", "jsonPath": "a"})),
        [
            "c.name: Required value",
            r#"c.type: Invalid value: "x": must be one of boolean,date,integer,number,string"#,
            r#"c.format: Invalid value: "y": must be one of byte,date,date-time,double,float,int32,int64,password"#,
            r#"c.JSONPath: Invalid value: "a": must be a simple json path starting with ."#,
        ]
    );
    let schema = Structural::compile(&json!({"type": "object", "properties": {
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
        "spec": {"type": "object", "properties": {"a": {"type": "string"}, "o": {"type": "object"}}}}}))
    .unwrap();
    let fields: Vec<Value> = [
        ".spec.a",
        ".spec.a",
        ".spec.o",
        ".spec.no",
        ".metadata.name",
        ".spec['a'",
    ]
    .map(|path| json!({"jsonPath": path}))
    .into();
    let mut errors = ErrorList::new();
    check_selectable_fields(&fields, &schema, &Path::new("f"), &mut errors);
    assert_eq!(
        shown(errors),
        [
            r#"f[1].jsonPath: Duplicate value: ".spec.a""#,
            r#"f[2].jsonPath: Invalid value: ".spec.o": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."#,
            r#"f[3].jsonPath: Invalid value: ".spec.no": is an invalid path: does not refer to a valid field"#,
            r#"f[4].jsonPath: Invalid value: ".metadata.name": must not point to fields in metadata"#,
            r#"f[5].jsonPath: Invalid value: ".spec['a'": is an invalid path: does not refer to a valid field"#,
        ]
    );
    let mut errors = ErrorList::new();
    let scale = json!({"specReplicasPath": ".status.n", "labelSelectorPath": ".x"});
    check_scale(&scale, &Path::new("subresources"), &mut errors);
    assert_eq!(
        shown(errors),
        [
            r#"subresources.scale.specReplicasPath: Invalid value: ".status.n": should be a json path under .spec"#,
            "subresources.scale.statusReplicasPath: Required value",
            r#"subresources.scale.labelSelectorPath: Invalid value: ".x": should be a json path under either .spec or .status"#,
        ]
    );
}

proptest! {
    #[test]
    fn no_schema_does_harm(schema in value(), has_status in any::<bool>()) {
        let mut errors = ErrorList::new();
        check(&schema, &Path::new("s"), has_status, &mut errors);
        warnings(&schema);
    }

    /// What may be served has defaults that are right.
    #[test]
    fn the_defaults_of_a_served_schema_are_valid(schema in crate::structural::tests::schema()) {
        let schema = json!({"type": "object", "properties": {"spec": schema}});
        let mut errors = ErrorList::new();
        if let Some(compiled) = check(&schema, &Path::new("s"), true, &mut errors) {
            let mut object = json!({});
            compiled.default(&mut object);
            prop_assert_eq!(compiled.prune(&mut object.clone()), Vec::<String>::new());
        }
    }
}
