//! What the controller of volumes asks of the agents of nodes when a volume that somebody made by hand out of a directory of
//! a host is to be reclaimed. As for [`crate::local_path`], it stands in an annotation of the Node; but such a directory may
//! be anywhere, so that only what is below `/tmp` is touched: what Kubernetes deletes, too.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// What is to be reclaimed on a Node: an object, by the names of volumes. The controller adds entries, the agent takes away
/// what is done.
pub const RECLAIM: &str = "kontiki.io/host-path-reclaim";

/// What becomes of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It goes with everything in it.
    Remove,
    /// Everything in it goes.
    Scrub,
}

/// A directory of a volume, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// What becomes of it.
    pub how: How,
    /// Where it is.
    pub path: String,
}

/// The tasks in the annotation, by the names of their volumes; what is not understood is left out.
pub fn tasks(annotation: Option<&str>) -> BTreeMap<String, Task> {
    let all = annotation.map(serde_json::from_str::<Map<String, Value>>);
    let task = |(name, task): (String, Value)| {
        let path = |field: &str| Some(task.get(field)?.as_str()?.to_owned());
        let (how, path) = match path("remove") {
            Some(path) => (How::Remove, path),
            None => (How::Scrub, path("scrub")?),
        };
        Some((name, Task { how, path }))
    };
    let all = all.and_then(Result::ok).unwrap_or_default();
    all.into_iter().filter_map(task).collect()
}

/// The annotation of these tasks; none for no task.
pub fn annotation(tasks: &BTreeMap<String, Task>) -> Value {
    if tasks.is_empty() {
        return Value::Null;
    }
    let entry = |(name, task): (&String, &Task)| {
        let field = match task.how {
            How::Remove => "remove",
            How::Scrub => "scrub",
        };
        (name.clone(), json!({ field: task.path }))
    };
    let all: Map<String, Value> = tasks.iter().map(entry).collect();
    Value::String(Value::Object(all).to_string())
}

/// The part of a path below `/tmp`, if it is there and leads nowhere else.
pub fn below_tmp(path: &str) -> Option<&Path> {
    let rest = Path::new(path).strip_prefix("/tmp").ok()?;
    let mut parts = rest.components();
    let plain = parts.all(|part| matches!(part, Component::Normal(_)));
    (plain && rest.components().next().is_some()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_tmp_is_touched() {
        assert_eq!(below_tmp("/tmp/a//b/"), Some(Path::new("a/b")));
        for path in [
            "",
            "/",
            "/tmp",
            "/tmp/",
            "/tmp/.",
            "/tmpfs/a",
            "/srv/tmp/a",
            "tmp/a",
            "/tmp/../etc",
            "/tmp/a/../../etc",
            "/etc",
        ] {
            assert_eq!(below_tmp(path), None, "{path}");
        }
    }

    #[test]
    fn tasks_are_read_as_they_were_written_and_nonsense_is_left_out() {
        let task = |how, path: &str| Task {
            how,
            path: path.to_owned(),
        };
        let all = BTreeMap::from([
            ("v".to_owned(), task(How::Remove, "/tmp/a,\"b")),
            ("w".to_owned(), task(How::Scrub, "/tmp/c")),
        ]);
        let text = annotation(&all);
        assert_eq!(tasks(text.as_str()), all);
        assert_eq!(annotation(&BTreeMap::new()), Value::Null);
        for text in [
            "",
            "7",
            "[]",
            r#"{"v": 1, "w": {"burn": "/tmp"}, "x": {"remove": 3}}"#,
        ] {
            assert!(tasks(Some(text)).is_empty(), "{text}");
        }
        assert!(tasks(None).is_empty());
    }
}
