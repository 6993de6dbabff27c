//! Config maps and secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{complain, immutable};
use crate::look::Look;
use crate::resource::same;

/// Bytes that the values of one config map or secret may have.
pub(crate) const DATA_BYTES_MAX: usize = 1024 * 1024;

fn root() -> Path {
    Path::new("[]")
}

fn keys(object: &Object, field: &str, errors: &mut ErrorList) {
    for (key, _) in object.entries(field) {
        complain(
            names::is_config_map_key(key),
            &Path::new(field).key(key),
            key,
            errors,
        );
    }
}

/// Bytes that a base64 text stands for.
fn decoded_len(value: &Value) -> usize {
    let text = value.as_str().unwrap_or("").trim_end_matches('=');
    text.len() * 3 / 4
}

/// ConfigMap.
pub(crate) fn config_map(object: &Object, errors: &mut ErrorList) {
    for (field, other) in [("data", "binaryData"), ("binaryData", "data")] {
        keys(object, field, errors);
        for (key, _) in object.entries(field) {
            if object.at(other).has(key) {
                let path = Path::new(field).key(key);
                let detail = format!("duplicate of key present in {other}");
                errors.push(FieldError::invalid(&path, key, detail));
            }
        }
    }
    let texts: usize = object
        .entries("data")
        .map(|(_, value)| value.as_str().map_or(0, str::len))
        .sum();
    let bytes: usize = object
        .entries("binaryData")
        .map(|(_, value)| decoded_len(value))
        .sum();
    if texts + bytes > DATA_BYTES_MAX {
        errors.push(FieldError::too_long(&root(), DATA_BYTES_MAX));
    }
}

fn frozen(new: &Object, old: &Object, fields: &[&str], errors: &mut ErrorList) {
    if old.at("immutable").as_bool() != Some(true) {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if new.at("immutable").as_bool() != Some(true) {
        errors.push(FieldError::forbidden(&Path::new("immutable"), detail));
    }
    for field in fields {
        if !same(new.get(&[field]), old.get(&[field])) {
            errors.push(FieldError::forbidden(&Path::new(field), detail));
        }
    }
}

/// A config map that was made immutable stays as it is.
pub(crate) fn config_map_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    frozen(new, old, &["data", "binaryData"], errors);
}

/// Secret.
pub(crate) fn secret(object: &Object, errors: &mut ErrorList) {
    keys(object, "data", errors);
    let bytes: usize = object
        .entries("data")
        .map(|(_, value)| decoded_len(value))
        .sum();
    if bytes > DATA_BYTES_MAX {
        errors.push(FieldError::too_long(&Path::new("data"), DATA_BYTES_MAX));
    }
    let data = Path::new("data");
    let has = |key: &str| object.at("data").has(key);
    let need = |key: &str, errors: &mut ErrorList| {
        if !has(key) {
            errors.push(FieldError::required(&data.key(key), ""));
        }
    };
    match object.at("type").as_str().unwrap_or("") {
        "kubernetes.io/service-account-token"
            if object
                .annotation("kubernetes.io/service-account.name")
                .unwrap_or("")
                .is_empty() =>
        {
            let path = Path::new("metadata")
                .child("annotations")
                .key("kubernetes.io/service-account.name");
            errors.push(FieldError::required(&path, ""));
        }
        "kubernetes.io/dockercfg" => docker_config(object, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => docker_config(object, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            errors.push(FieldError::required(&data.key("username"), ""));
            errors.push(FieldError::required(&data.key("password"), ""));
        }
        "kubernetes.io/ssh-auth" if decoded_len(object.at("data").at("ssh-privatekey")) == 0 => {
            errors.push(FieldError::required(&data.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            need("tls.crt", errors);
            need("tls.key", errors);
        }
        _ => {}
    }
}

fn docker_config(object: &Object, key: &str, errors: &mut ErrorList) {
    let path = Path::new("data").key(key);
    let Some(text) = object.at("data").at(key).as_str() else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    let bytes = STANDARD.decode(text).unwrap_or_default();
    let detail = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            kind_of(&other)
        ),
        Err(error) if error.is_eof() => "unexpected end of JSON input".to_owned(),
        Err(_) => "invalid character in JSON".to_owned(),
    };
    let shown = "<secret contents redacted>";
    errors.push(FieldError::invalid(&path, shown, detail));
}

/// What Go calls a value of JSON that is no object.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "array",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        _ => "string",
    }
}

/// The type of a secret never changes, and its data not once it is immutable.
pub(crate) fn secret_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    immutable(new.at("type"), old.at("type"), &Path::new("type"), errors);
    frozen(new, old, &["data"], errors);
}
