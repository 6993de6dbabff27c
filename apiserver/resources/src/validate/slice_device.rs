//! One device of a ResourceSlice: its attributes, capacities, taints, and what it takes of shared counters.

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::devices::{bounded, driver_name};
use super::slice::{counters, once, shown};
use super::{allocation, complain, device, items, one_of};
use crate::look::Look;
use crate::meta;

/// Kubernetes' limits of a device.
const SAID_MAX: usize = 32;
const TAINTS_MAX: usize = 16;
const CONSUMPTIONS_MAX: usize = 2;
const IDENTIFIER_BYTES_MAX: usize = 32;
const VALUE_BYTES_MAX: usize = 64;
/// A domain, a slash, an identifier.
const NAME_BYTES_MAX: usize = 63 + 1 + IDENTIFIER_BYTES_MAX;

/// One device.
pub(super) fn device(device: &Value, path: &Path, errors: &mut ErrorList) {
    let name = device.text("name");
    complain(
        names::is_dns1123_label(name),
        &path.child("name"),
        name,
        errors,
    );
    let said = device.entries("attributes").count() + device.entries("capacity").count();
    if said > SAID_MAX {
        let detail =
            format!("the total number of attributes and capacities must not exceed {SAID_MAX}");
        errors.push(FieldError::invalid(path, said, detail));
    }
    for (name, value) in device.entries("attributes") {
        let path = path.child("attributes").key(&shown(name, NAME_BYTES_MAX));
        qualified_name(name, &path, errors);
        attribute(value, &path, errors);
    }
    for (name, _) in device.entries("capacity") {
        let path = path.child("capacity").key(&shown(name, NAME_BYTES_MAX));
        qualified_name(name, &path, errors);
    }
    device::sharing(device, path, errors);
    if bounded(device, "taints", TAINTS_MAX, path, errors) {
        for (path, taint) in items(device, "taints", path) {
            self::taint(taint, &path, errors);
        }
    }
    if bounded(device, "consumesCounters", CONSUMPTIONS_MAX, path, errors) {
        for (path, taken) in items(device, "consumesCounters", path) {
            counters(taken, "counterSet", &path, errors);
        }
        once(device, "consumesCounters", "counterSet", path, errors);
    }
    allocation::binding_conditions(device, path, errors);
}

/// An identifier, after a domain where it is not the driver's own. As in Kubernetes, what has more slashes passes.
fn qualified_name(name: &str, path: &Path, errors: &mut ErrorList) {
    let (domain, id) = match name.split_once('/') {
        None => (None, name),
        Some((_, rest)) if rest.contains('/') => return,
        Some((domain, id)) => (Some(domain), id),
    };
    match domain {
        Some("") => {
            let detail = "the domain must not be empty";
            errors.push(FieldError::invalid(path, "", detail));
        }
        Some(domain) => driver_name(domain, path, errors),
        None => {}
    }
    if domain.is_some() && id.is_empty() {
        errors.push(FieldError::invalid(path, "", "the name must not be empty"));
        return;
    }
    if id.len() > IDENTIFIER_BYTES_MAX {
        errors.push(FieldError::too_long(path, IDENTIFIER_BYTES_MAX));
    }
    complain(names::is_c_identifier(id), path, id, errors);
}

/// One value, of one type.
fn attribute(attribute: &Value, path: &Path, errors: &mut ErrorList) {
    let types = [
        "int", "bool", "string", "version", "ints", "bools", "strings", "versions",
    ];
    if types.iter().filter(|field| attribute.has(field)).count() != 1 {
        let detail = "exactly one value must be specified";
        errors.push(FieldError::invalid(path, "", detail));
    }
    let version = attribute.text("version");
    if attribute.has("version") && !is_semver(version) {
        let detail = "must be a string compatible with semver.org spec 2.0.0";
        errors.push(FieldError::invalid(&path.child("version"), version, detail));
    }
    for field in ["string", "version"] {
        if attribute.text(field).len() > VALUE_BYTES_MAX {
            errors.push(FieldError::too_long(&path.child(field), VALUE_BYTES_MAX));
        }
    }
}

/// Three numbers, what comes before a release after `-`, and of which build it is after `+`.
fn is_semver(text: &str) -> bool {
    let is_number = |part: &str| {
        let has_digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        has_digits && (part == "0" || !part.starts_with('0'))
    };
    let is_word = |part: &str| {
        let in_words = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !part.is_empty() && part.bytes().all(in_words)
    };
    let has_others = |part: &str| part.bytes().any(|byte| !byte.is_ascii_digit());
    let (text, build) = match text.split_once('+') {
        Some((text, build)) => (text, Some(build)),
        None => (text, None),
    };
    let (release, before) = match text.split_once('-') {
        Some((release, before)) => (release, Some(before)),
        None => (text, None),
    };
    release.split('.').count() == 3
        && release.split('.').all(is_number)
        && before.is_none_or(|parts| {
            let mut parts = parts.split('.');
            parts.all(|part| is_number(part) || (is_word(part) && has_others(part)))
        })
        && build.is_none_or(|parts| parts.split('.').all(is_word))
}

fn taint(taint: &Value, path: &Path, errors: &mut ErrorList) {
    meta::label_name_of(taint, "key", path, errors);
    let value = taint.text("value");
    if !value.is_empty() {
        let details = names::is_valid_label_value(value);
        complain(details, &path.child("value"), value, errors);
    }
    let effects = &["NoExecute", "NoSchedule", "None"];
    one_of(taint, "effect", effects, path, errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(more: Value) -> Vec<String> {
        let mut said = json!({"name": "d"});
        for (field, value) in more.as_object().unwrap() {
            said[field] = value.clone();
        }
        let mut errors = ErrorList::new();
        device(&said, &Path::new("d"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_of_attributes_and_capacities_are_identifiers_of_a_domain() {
        let named = |name: &str| {
            let [attribute, capacity] = [json!({"int": 1}), json!({"value": "1"})];
            let attributes = told(json!({"attributes": {name: attribute}}));
            let capacities = told(json!({"capacity": {name: capacity}}));
            let same: Vec<String> = (capacities.iter())
                .map(|text| text.replace("d.capacity", "d.attributes"))
                .collect();
            assert_eq!(attributes, same);
            attributes
        };
        for fine in ["model", "_Model2", "example.com/model", "a/b/c"] {
            assert_eq!(named(fine), [""; 0], "{fine}");
        }
        assert!(named("a-b")[0].contains("a valid C identifier"));
        assert!(named("9a")[0].contains("a valid C identifier"));
        assert_eq!(
            named("/model"),
            ["d.attributes[/model]: Invalid value: \"\": the domain must not be empty"]
        );
        assert_eq!(
            named("example.com/"),
            ["d.attributes[example.com/]: Invalid value: \"\": the name must not be empty"]
        );
        let [fits, long] = [32, 33].map(|count| "x".repeat(count));
        assert_eq!(named(&fits), [""; 0]);
        assert!(named(&long)[0].contains("may not be more than 32 bytes"));
        let domain = "x".repeat(64);
        assert!(named(&format!("{domain}/a"))[0].contains("may not be more than 63 bytes"));
    }

    #[test]
    fn an_attribute_has_one_value() {
        let value = |attribute: Value| told(json!({"attributes": {"a": attribute}}));
        for fine in [
            json!({"bool": false}),
            json!({"version": "1.0.0-rc.1+x.01"}),
            json!({"strings": ["a"]}),
        ] {
            assert_eq!(value(fine.clone()), [""; 0], "{fine}");
        }
        for none in [json!({}), json!({"int": 1, "bool": true})] {
            assert_eq!(
                value(none),
                ["d.attributes[a]: Invalid value: \"\": exactly one value must be specified"]
            );
        }
        for version in ["1.0", "1.02.0", "v1.0.0", "1.0.0-01", "1.0.0-", "1.0.0+"] {
            assert_eq!(value(json!({"version": version})).len(), 1, "{version}");
        }
        assert_eq!(
            value(json!({"string": "x".repeat(65)})),
            ["d.attributes[a].string: Too long: may not be more than 64 bytes"]
        );
        let many: serde_json::Map<String, Value> = (0..33)
            .map(|at| (format!("a{at}"), json!({"int": at})))
            .collect();
        assert_eq!(
            told(json!({"attributes": many})),
            [
                "d: Invalid value: 33: the total number of attributes and capacities must not exceed 32"
            ]
        );
    }

    #[test]
    fn taints_and_shares_of_counters_are_few_and_have_names() {
        let taint = json!({"key": "k", "effect": "None"});
        assert_eq!(told(json!({"taints": vec![taint.clone(); 16]})), [""; 0]);
        assert_eq!(
            told(json!({"taints": vec![taint; 17]})),
            ["d.taints: Too many: 17: must have at most 16 items"]
        );
        assert_eq!(
            told(json!({"taints": [{"key": "k", "effect": "Never"}, {"key": "k"}]})),
            [
                "d.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
                "d.taints[1].effect: Required value",
            ]
        );
        let share = |set: &str| json!({"counterSet": set, "counters": {"c": {"value": "1"}}});
        assert_eq!(
            told(json!({"consumesCounters": [share("a"), share("b")]})),
            [""; 0]
        );
        assert_eq!(
            told(json!({"consumesCounters": [share("a"), share("a")]})),
            ["d.consumesCounters[1]: Duplicate value: \"a\""]
        );
        assert_eq!(
            told(json!({"consumesCounters": [share("a"), share("b"), share("c")]})),
            ["d.consumesCounters: Too many: 3: must have at most 2 items"]
        );
        assert_eq!(
            told(json!({"consumesCounters": [{}]})),
            [
                "d.consumesCounters[0].counterSet: Required value",
                "d.consumesCounters[0].counters: Required value",
            ]
        );
    }
}
