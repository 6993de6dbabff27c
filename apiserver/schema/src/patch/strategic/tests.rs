use super::*;
use crate::types::type_of_api_version;

fn patched(original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let text = |key: &str| original[key].as_str().unwrap_or("");
    let ty = type_of_api_version(text("apiVersion"), text("kind"));
    apply(ty, original, patch)
}

/// kubectl leaves nulls and directives inside items that it appends; the server's decoding drops
/// them. Here they are dropped at once.
fn cleaned(value: &Value) -> Value {
    let mut value = value.clone();
    without_directives(&mut value);
    value
}

/// Objects, patches and what `kubectl patch --local --type=strategic` makes of them: `null` where
/// it refuses the patch.
#[test]
fn agrees_with_kubectl() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../../../testdata/strategic.json")).unwrap();
    assert!(cases.len() > 100);
    let mut wrong = Vec::new();
    for case in cases {
        let (original, patch, expected) = (&case["original"], &case["patch"], &case["expected"]);
        let result = patched(original, patch);
        match (&result, expected) {
            (Err(_), Value::Null) => {}
            (Ok(value), expected) if *value == cleaned(expected) => {}
            _ => wrong.push(format!(
                "original {original}\npatch    {patch}\nexpected {expected}\nresult   {result:?}"
            )),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}
