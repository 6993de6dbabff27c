//! From where a pod mounts volumes.

use std::collections::BTreeSet;

use super::words::{plural, quoted};
use super::{Pod, Violation, text};

pub(super) fn host_path_volumes(pod: &Pod<'_>) -> Option<Violation> {
    let names: Vec<&str> = pod
        .list("volumes")
        .iter()
        .filter(|volume| volume.get("hostPath").is_some_and(|path| !path.is_null()))
        .map(|volume| text(volume, "/name"))
        .collect();
    if names.is_empty() {
        return None;
    }
    let word = plural("volume", "volumes", names.len());
    Violation::new("hostPath volumes", format!("{word} {}", quoted(names)))
}

pub(super) fn volume_types(pod: &Pod<'_>) -> Option<Violation> {
    const ALLOWED: &[&str] = &[
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let (mut names, mut types) = (Vec::new(), BTreeSet::new());
    for volume in pod.list("volumes") {
        let fields = volume.as_object().into_iter().flatten();
        let mut sources = fields
            .filter(|(field, value)| *field != "name" && !value.is_null())
            .map(|(field, _)| field.as_str())
            .peekable();
        let first = sources.peek().copied().unwrap_or("unknown");
        if !sources.any(|source| ALLOWED.contains(&source)) {
            names.push(text(volume, "/name"));
            types.insert(first);
        }
    }
    if names.is_empty() {
        return None;
    }
    let volumes = plural("volume", "volumes", names.len());
    let uses = plural("uses", "use", names.len());
    let word = plural(
        "restricted volume type",
        "restricted volume types",
        types.len(),
    );
    Violation::new(
        "restricted volume types",
        format!(
            "{volumes} {} {uses} {word} {}",
            quoted(names),
            quoted(types)
        ),
    )
}
