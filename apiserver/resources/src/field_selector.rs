//! Values that field selectors compare. Most names are simply paths; the few that are not stand here.

use std::borrow::Cow;

use schema::Object;
use serde_json::Value;

use crate::look::Look;
use crate::resource::Resource;

/// The value of a selectable field as text; absent reads as empty.
pub(crate) fn value<'o>(resource: &Resource, object: &'o Object, name: &str) -> Cow<'o, str> {
    if resource.custom.is_some() {
        return plain(object, name);
    }
    match (&*resource.kind, name) {
        ("Pod", "spec.hostNetwork") | ("Node", "spec.unschedulable") => {
            let flag = at(object, name).and_then(Value::as_bool);
            Cow::Borrowed(text_of(flag.unwrap_or(false)))
        }
        ("Pod", "status.podIP") => {
            let first = object
                .at("status")
                .list("podIPs")
                .first()
                .map_or("", |ip| ip.text("ip"));
            if first.is_empty() {
                plain(object, name)
            } else {
                Cow::Borrowed(first)
            }
        }
        ("Pod", "status.podIPs") => {
            let ips: Vec<&str> = object
                .at("status")
                .list("podIPs")
                .iter()
                .map(|ip| ip.text("ip"))
                .collect();
            Cow::Owned(ips.join(","))
        }
        ("Event", "source") => {
            let component = object.at("source").text("component");
            Cow::Borrowed(match component {
                "" => object.text("reportingComponent"),
                component => component,
            })
        }
        // Stored events have the names of core/v1.
        ("Event", new) if new.starts_with("regarding.") && !object.has("regarding") => {
            plain(object, &new.replacen("regarding", "involvedObject", 1))
        }
        ("Event", "reportingController") if !object.has("reportingController") => {
            plain(object, "reportingComponent")
        }
        ("ReplicationController", "status.replicas") => number(object, &["status", "replicas"]),
        ("Job", "status.successful") => number(object, &["status", "succeeded"]),
        _ => plain(object, name),
    }
}

/// The paths that [`value`] looks at for a field of a built-in kind, their names joined by dots.
pub(crate) fn reads<'a>(kind: &str, name: &'a str) -> Vec<&'a str> {
    match (kind, name) {
        ("Pod", "status.podIP") => vec![name, "status.podIPs"],
        ("Event", _) => vec![name, "source", "reportingComponent", "involvedObject"],
        ("Job", "status.successful") => vec!["status.succeeded"],
        _ => vec![name],
    }
}

/// How [`value`] makes the value of a field of those that stand at its paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldForm {
    /// The value as text. What is absent, or is no string, number or truth, is empty.
    Plain,
    /// Whether it is true.
    Flag,
    /// The first address in `status.podIPs`; the value as text where there is none.
    FirstIp,
    /// All addresses in `status.podIPs`, with commas between them.
    Ips,
}

/// None where there is more to say of a field of a built-in kind. To be kept in step with [`value`].
pub(crate) fn form(kind: &str, name: &str) -> Option<FieldForm> {
    match (kind, name) {
        ("Pod", "spec.hostNetwork") | ("Node", "spec.unschedulable") => Some(FieldForm::Flag),
        ("Pod", "status.podIP") => Some(FieldForm::FirstIp),
        ("Pod", "status.podIPs") => Some(FieldForm::Ips),
        ("Event", _)
        | ("ReplicationController", "status.replicas")
        | ("Job", "status.successful") => None,
        _ => Some(FieldForm::Plain),
    }
}

fn number(object: &Object, path: &[&str]) -> Cow<'static, str> {
    Cow::Owned(object.get_i64(path).unwrap_or(0).to_string())
}

/// The value at a path whose names are joined by dots.
fn at<'o>(object: &'o Object, path: &str) -> Option<&'o Value> {
    let (mut value, mut rest) = (object.value(), path);
    // Names are short: the search for a letter that is made for long texts takes longer to begin than this does.
    while let Some(dot) = rest.bytes().position(|byte| byte == b'.') {
        value = value.get(&rest[..dot])?;
        rest = &rest[dot + 1..];
    }
    value.get(rest)
}

fn text_of(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}

fn plain<'o>(object: &'o Object, name: &str) -> Cow<'o, str> {
    match at(object, name) {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(Value::Number(number)) => Cow::Owned(number.to_string()),
        Some(Value::Bool(flag)) => Cow::Borrowed(text_of(*flag)),
        _ => Cow::Borrowed(""),
    }
}
