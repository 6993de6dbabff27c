//! The directories that are volumes of claims: where they are, and their removal when the controller asks for it; also of
//! those that somebody made a volume of by hand.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_runtime::host_path::{How, RECLAIM, annotation, tasks};
use agent_runtime::local_path::{REMOVE, is_volume_name, names};
use agent_runtime::resource_ref::NODES;
use agent_runtime::{EventType, PatchType};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::agent::Agent;
use crate::source::{Change, reflect};
use crate::volumes;

/// Before another try at what could not be removed or told.
const RETRY: Duration = Duration::from_secs(10);

/// The directory of all such directories.
pub(crate) fn root(data_dir: &Path) -> PathBuf {
    data_dir.join("local-path")
}

/// Removes what the annotation of this node's object names, and takes from it what is no more; runs until dropped.
pub(crate) async fn remove_unneeded(agent: Arc<Agent>) {
    if agent.is_hollow() {
        // There is nothing to remove, and the controller knows.
        return std::future::pending().await;
    }
    let (sender, mut asked) = watch::channel(None);
    let client = agent.client.clone();
    let selector = format!("metadata.name={}", agent.config.node_name);
    let following = reflect(client, NODES, String::new(), selector, move |change| {
        let node = match change {
            Change::Replaced(all) => all.into_iter().next(),
            Change::Applied(node) => Some(node),
            Change::Deleted(_) => None,
        };
        // Most changes of a node are its heartbeats.
        let asked = node.and_then(|node| Asked::of(&node));
        sender.send_if_modified(|known: &mut Option<Asked>| {
            let same = |known: &Asked| {
                let mut asked = asked.iter();
                asked.any(|asked| asked.list == known.list && asked.reclaim == known.reclaim)
            };
            let is_new = !known.as_ref().map_or(asked.is_none(), same);
            *known = asked.clone();
            is_new
        });
    });
    let removing = async {
        let mut again = false;
        loop {
            tokio::select! {
                biased;
                changed = asked.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if again => {}
            }
            let now = asked.borrow_and_update().clone();
            again = match now {
                Some(asked) => !remove(&agent, asked).await,
                None => false,
            };
        }
    };
    tokio::select! {
        biased;
        () = following => {}
        () = removing => {}
    }
}

/// What the controller has asked for, in the version of the node in which it did.
#[derive(Clone)]
struct Asked {
    list: Option<String>,
    /// As [`RECLAIM`] has it.
    reclaim: Option<String>,
    version: String,
}

impl Asked {
    fn of(node: &Value) -> Option<Asked> {
        let metadata = &node["metadata"];
        let annotation = |name| Some(metadata["annotations"].get(name)?.as_str()?.to_owned());
        let (list, reclaim) = (annotation(REMOVE), annotation(RECLAIM));
        if list.is_none() && reclaim.is_none() {
            return None;
        }
        let version = metadata["resourceVersion"].as_str()?.to_owned();
        Some(Asked {
            list,
            reclaim,
            version,
        })
    }
}

/// Whether all is removed and told.
async fn remove(agent: &Arc<Agent>, asked: Asked) -> bool {
    let mut left = Vec::new();
    for name in names(asked.list.as_deref()) {
        // Nobody else's directory is removed, whoever writes such a name.
        if !is_volume_name(name) {
            continue;
        }
        let dir = root(&agent.config.data_dir).join(name);
        let removed = tokio::task::spawn_blocking(move || volumes::remove(&dir)).await;
        if let Err(error) = removed.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            let text = format!("cannot remove the directory of volume {name}: {error}");
            agent.node_event(EventType::Warning, "VolumeFailedDelete", text);
            left.push(name);
        }
    }
    let rest = if left.is_empty() {
        Value::Null
    } else {
        left.join(",").into()
    };
    let mut unfinished = tasks(asked.reclaim.as_deref());
    for (name, task) in std::mem::take(&mut unfinished) {
        let (work, how) = (task.clone(), task.how);
        let done = tokio::task::spawn_blocking(move || volumes::reclaim(&work)).await;
        if let Err(error) = done.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            let (reason, verb) = match how {
                How::Remove => ("VolumeFailedDelete", "remove"),
                How::Scrub => ("VolumeFailedRecycle", "empty"),
            };
            let text = format!("cannot {verb} the directory of volume {name}: {error}");
            agent.node_event(EventType::Warning, reason, text);
            unfinished.insert(name, task);
        }
    }
    let is_done = left.is_empty() && unfinished.is_empty();
    let annotations = json!({REMOVE: rest, RECLAIM: annotation(&unfinished)});
    let metadata = json!({"resourceVersion": asked.version, "annotations": annotations});
    let patch = json!({ "metadata": metadata });
    let name = &agent.config.node_name;
    let told = agent
        .client
        .patch(&NODES, "", name, PatchType::Merge, &patch)
        .await;
    if let Err(error) = &told {
        tracing::debug!(error = %error.message, "the removal of volumes is told later");
    }
    told.is_ok() && is_done
}
