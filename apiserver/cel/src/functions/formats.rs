//! `format.named` and the named formats.

use schema::names;

use super::Function;
use crate::meter::{EvalError, Meter, Outcome};
use crate::value::Value;

macro_rules! format_function {
    ($name:literal) => {
        Function {
            name: concat!("format.", $name),
            signatures: &["() format"],
            native: |_, _| Ok(Value::Format($name)),
        }
    };
}

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "format.named",
        signatures: &["(string) optional<format>"],
        native: named,
    },
    Function {
        name: "validate",
        signatures: &["format.(string) optional<list<string>>"],
        native: validate,
    },
    format_function!("dns1123Label"),
    format_function!("dns1123Subdomain"),
    format_function!("dns1035Label"),
    format_function!("qualifiedName"),
    format_function!("dns1123LabelPrefix"),
    format_function!("dns1123SubdomainPrefix"),
    format_function!("dns1035LabelPrefix"),
    format_function!("labelValue"),
    format_function!("uri"),
    format_function!("uuid"),
    format_function!("byte"),
    format_function!("date"),
    format_function!("datetime"),
];

fn named<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(name)] = args else {
        return Err(EvalError::no_overload());
    };
    let known = FUNCTIONS[2..]
        .iter()
        .filter_map(|function| function.name.strip_prefix("format."));
    let found = known.into_iter().find(|known| *known == &**name);
    Ok(found.map_or(Value::Optional(None), |found| {
        Value::some(Value::Format(found))
    }))
}

fn validate<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Format(format), Value::String(text)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.charge(text.len() as u64)?;
    let errors = complaints(format, text);
    if errors.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::list(
        errors.into_iter().map(Value::text).collect(),
    )))
}

/// A prefix may end in a dash, since something will follow.
fn prefix(text: &str) -> String {
    names::mask_trailing_dash(text)
}

fn complaints(format: &str, text: &str) -> Vec<String> {
    let when = |fine: bool, complaint: &str| {
        if fine {
            Vec::new()
        } else {
            vec![complaint.to_string()]
        }
    };
    match format {
        "dns1123Label" => names::is_dns1123_label(text),
        "dns1123Subdomain" => names::is_dns1123_subdomain(text),
        "dns1035Label" => names::is_dns1035_label(text),
        "qualifiedName" => names::is_qualified_name(text),
        "dns1123LabelPrefix" => names::is_dns1123_label(&prefix(text)),
        "dns1123SubdomainPrefix" => names::is_dns1123_subdomain(&prefix(text)),
        "dns1035LabelPrefix" => names::is_dns1035_label(&prefix(text)),
        "labelValue" => names::is_valid_label_value(text),
        "uri" => when(super::url::parse(text).is_some(), "invalid URI"),
        "uuid" => when(is_uuid(text), "does not match the UUID format"),
        "byte" => when(is_base64(text), "invalid base64"),
        "date" => when(is_date(text), "invalid date"),
        _ => when(
            super::time::parse_timestamp(text).is_some(),
            "invalid datetime",
        ),
    }
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

fn is_base64(text: &str) -> bool {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .is_ok()
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && super::time::parse_timestamp(&format!("{text}T00:00:00Z")).is_some()
}
