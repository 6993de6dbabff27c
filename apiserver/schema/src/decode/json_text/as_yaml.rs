//! What of YAML is read as JSON: only what YAML reads the same way.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::decode::yaml_text;

fn common(text: &str) -> Option<Value> {
    parse_common(text.as_bytes(), Expect::Any, &mut Problems::default())
}

fn yaml(text: &str) -> (Result<Value, String>, Vec<String>) {
    let mut problems = Problems::default();
    let value = yaml_text::parse(text.as_bytes(), Expect::Any, &mut problems);
    (value, problems.texts())
}

#[test]
fn what_programs_write_needs_no_yaml() {
    let text = r#"{"a":{"b":[1,-20,true,false,null,"","~","1",{}],"ü":"x\"\n\u003c"}, "":[]}"#;
    assert_eq!(common(text), yaml(text).0.ok());
    assert_eq!(common("{}\n"), Some(json!({})));
    for doubtful in [
        "",
        "[]",
        "a: 1",
        " {}",
        "{a: 1}",
        "{'a': 1}",
        "{\"a\" :1}",
        "{\"a\":1,}",
        "{\n\"a\":1}",
        "{\"a\":\t1}",
        "{\"a\":1.5}",
        "{\"a\":1e2}",
        "{\"a\":-0}",
        "{\"a\":1234567890123456789}",
        "{\"a\":1,\"a\":2}",
        "{\"<<\":{\"a\":1}}",
        "{\"a\":\"\\ud83d\\ude00\"}",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":\"\u{2028}\"}",
        "{\"a\":\"\u{7f}\"}",
        "{\"a\":\"b\nc\"}",
        "{} # comment",
    ] {
        assert_eq!(common(doubtful), None, "{doubtful:?}");
    }
    let deep = |depth: usize| format!("{}{}", "{\"a\":".repeat(depth) + "{}", "}".repeat(depth));
    assert!(common(&deep(99)).is_some());
    assert_eq!(common(&deep(100)), None);
    let key = |letter: &str, times: usize| format!("{{\"{}\":1}}", letter.repeat(times));
    assert!(common(&key("k", 510)).is_some());
    assert_eq!(common(&key("k", 511)), None);
    // YAML takes no longer key than 1024 letters of the text, whatever they stand for.
    assert_eq!(common(&key("\\u0041", 171)), None);
    assert_eq!(
        common(&format!("{{\"k\":[1{}]}}", ",1".repeat(400_000))),
        None
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Texts of what both could know, in and out of order.
    #[test]
    fn yaml_reads_the_same_of_what_needs_no_yaml(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"a\":", "\"b\":", "\"<<\":", "\"\":", "{}", "[]", "1", "-7", "0", "1.0",
            "true", "null", "\"x\"", "\"\"", "\"~\"", "\"null\"", "\" x \"", "\"\\n\"", "\"\\/\\b\\f\\t\"",
            "\"\\u00e9\\u0085\\u0001\"", "\"é😀\"", "\"\\ud83d\"", "\"'#&*!|>%@`\"", "\"a: b\"", "\"- a\"", " ",
            "\n", "\t", "#", "'x'", "x",
        ]), 0..8),
    ) {
        let texts = [parts.concat(), format!("{{{}}}", parts.concat()), format!("{{\"k\":[{}]}}", parts.join(","))];
        for text in texts {
            if let Some(ours) = common(&text) {
                let (theirs, problems) = yaml(&text);
                prop_assert_eq!(Ok(ours), theirs, "{}", text);
                prop_assert!(problems.is_empty(), "{:?} {}", problems, text);
            }
        }
    }

    /// Values as programs write them.
    #[test]
    fn yaml_reads_values_as_json_does(value in written()) {
        let text = value.to_string();
        prop_assert_eq!(common(&text), yaml(&text).0.ok());
    }
}

fn written() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ -~éß😀\t\n]{0,12}".prop_map(Value::from),
        Just(Value::Null),
    ];
    let inner = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("[ -;=-~é]{0,6}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    });
    inner.prop_map(|value| json!({ "k": value }))
}
