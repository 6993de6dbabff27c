//! What `kubectl get` shows: columns and cells of every kind, and the words that cells share.

pub(crate) mod admission;
pub(crate) mod batch;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod devices;
pub(crate) mod event;
pub(crate) mod extensions;
pub(crate) mod metrics;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod policy;
pub(crate) mod rbac;
pub(crate) mod scaler;
pub(crate) mod service;
pub(crate) mod volume;
pub(crate) mod workload;

use schema::Object;
use schema::time;
use serde_json::Value;

use crate::look::Look;
use crate::scale;

/// A column of a built-in kind.
pub(crate) type Column = crate::resource::Column<&'static str>;

pub(crate) const NONE: &str = "<none>";
pub(crate) const UNSET: &str = "<unset>";
pub(crate) const UNKNOWN: &str = "<unknown>";

const fn column(
    name: &'static str,
    r#type: &'static str,
    description: &'static str,
    priority: i32,
) -> Column {
    Column {
        name,
        r#type,
        format: "",
        description,
        priority,
    }
}

/// A text column.
pub(crate) const fn text(name: &'static str, description: &'static str) -> Column {
    column(name, "string", description, 0)
}

/// A number column.
pub(crate) const fn integer(name: &'static str, description: &'static str) -> Column {
    column(name, "integer", description, 0)
}

/// A yes-or-no column.
pub(crate) const fn boolean(name: &'static str, description: &'static str) -> Column {
    column(name, "boolean", description, 0)
}

/// An amount of something.
pub(crate) const fn quantity(name: &'static str, description: &'static str) -> Column {
    Column {
        format: "quantity",
        ..text(name, description)
    }
}

/// A text column that only `-o wide` shows.
pub(crate) const fn wide(name: &'static str, description: &'static str) -> Column {
    column(name, "string", description, 1)
}

pub(crate) const NAME: Column = Column {
    name: "Name",
    r#type: "string",
    format: "name",
    description: "Name of the object, unique within its namespace or, for cluster-scoped kinds, in the cluster.",
    priority: 0,
};
pub(crate) const AGE: Column = text("Age", "Time since the server created the object.");
pub(crate) const CONTAINERS: Column =
    wide("Containers", "Names of the containers in the template.");
pub(crate) const IMAGES: Column = wide("Images", "Images of the containers in the template.");
pub(crate) const SELECTOR: Column = wide("Selector", "Label selector of the pods.");

/// Kinds that have a name and an age and no more to say.
pub(crate) const NAME_AGE: &[Column] = &[NAME, AGE];

/// Kinds for which Kubernetes has no printer show when they were created.
pub(crate) const NAME_CREATED: &[Column] = &[
    NAME,
    column(
        "Created At",
        "date",
        "Time at which the server created the object.",
        0,
    ),
];

pub(crate) fn name_age(object: &Object, now: i64) -> Vec<Value> {
    vec![name(object), age(object, now)]
}

pub(crate) fn name_created(object: &Object, _now: i64) -> Vec<Value> {
    vec![
        name(object),
        object.at("metadata").text("creationTimestamp").into(),
    ]
}

pub(crate) fn name(object: &Object) -> Value {
    object.name().into()
}

pub(crate) fn age(object: &Object, now: i64) -> Value {
    since(object.at("metadata").at("creationTimestamp"), now).into()
}

/// Time since a timestamp field, for people; `<unknown>` when it is not set.
pub(crate) fn since(timestamp: &Value, now: i64) -> String {
    match timestamp.as_str().and_then(time::parse) {
        Some(then) => human_duration(now.saturating_sub(then)),
        None => UNKNOWN.to_owned(),
    }
}

/// Seconds as people read them, with at most two units: `45s`, `5m10s`, `3h`, `2d4h`, `3y12d`.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |first: i64, unit: &str, second: i64, smaller: &str| {
        if second == 0 {
            format!("{first}{unit}")
        } else {
            format!("{first}{unit}{second}{smaller}")
        }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, "d", hours % 24, "h"),
        _ if days < 2 * 365 => format!("{days}d"),
        _ if days < 8 * 365 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// A text, or `<none>`.
pub(crate) fn or_none(text: &str) -> Value {
    if text.is_empty() {
        NONE.into()
    } else {
        text.into()
    }
}

/// A text, or another.
pub(crate) fn or(text: &str, otherwise: &str) -> Value {
    if text.is_empty() {
        otherwise.into()
    } else {
        text.into()
    }
}

/// Labels as `a=b,c=d`, or `<none>`.
pub(crate) fn labels(map: &Value) -> String {
    let text = scale::map_text(map);
    if text.is_empty() {
        NONE.to_owned()
    } else {
        text
    }
}

/// A metav1.LabelSelector as text, or `<none>`.
pub(crate) fn selector(selector: &Value) -> String {
    let text = scale::selector_of(selector);
    if text.is_empty() {
        NONE.to_owned()
    } else {
        text
    }
}

/// Names and images of the containers of a pod spec.
pub(crate) fn containers(spec: &Value) -> (Value, Value) {
    let field = |field: &str| -> Value {
        let list: Vec<&str> = spec
            .list("containers")
            .iter()
            .map(|container| container.text(field))
            .collect();
        list.join(",").into()
    };
    (field("name"), field("image"))
}

/// A count that is zero when absent.
pub(crate) fn count(value: &Value, field: &str) -> Value {
    value.int(field).unwrap_or(0).into()
}

/// Up to `max` items joined by commas, and how many more there are.
pub(crate) fn first_of(items: &[String], max: usize, otherwise: &str) -> String {
    if items.is_empty() {
        return otherwise.to_owned();
    }
    let shown = items
        .iter()
        .take(max)
        .cloned()
        .collect::<Vec<_>>()
        .join(",");
    match items.len().saturating_sub(max) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

/// "True", "False", or `<unset>`, as Kubernetes writes optional booleans.
pub(crate) fn truth(value: &Value) -> Value {
    match value.as_bool() {
        Some(true) => "True".into(),
        Some(false) => "False".into(),
        None => UNSET.into(),
    }
}

/// Whether the object was asked to go.
pub(crate) fn terminating(object: &Object) -> bool {
    object.deletion_timestamp().is_some()
}

/// An int-or-string as text.
pub(crate) fn int_or_string(value: &Value, otherwise: &str) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => otherwise.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::human_duration;

    #[test]
    fn durations_read_as_in_kubectl() {
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (310, "5m10s"),
            (600, "10m"),
            (179 * 60, "179m"),
            (180 * 60, "3h"),
            (3 * 3600 + 120, "3h2m"),
            (8 * 3600 + 120, "8h"),
            (47 * 3600, "47h"),
            (52 * 3600, "2d4h"),
            (72 * 3600, "3d"),
            (8 * 86400, "8d"),
            (729 * 86400, "729d"),
            (730 * 86400, "2y"),
            (735 * 86400, "2y5d"),
            (8 * 365 * 86400, "8y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }
}
