//! `kontiki explain pod`: what the scheduler thinks of every node. The command reads the API and asks the scheduler's own
//! functions, in its own process.

mod decided;
mod show;
mod what_if;

use std::path::Path;

use agents::explain::{AsOf, Picture, Unread};
use agents::resource_ref::PODS;
use agents::{ApiError, Client, SchedulerConfig};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::cli::ExplainPodArgs;
use crate::past::find::{client, explained};
use crate::past::{self, Object};
use crate::pki;
use decided::{Decided, decided, is_waiting};
use what_if::WhatIf;

/// Whose decision is explained, and what the answer rests on.
struct Question {
    pod: Value,
    /// Where it is.
    node: Option<String>,
    as_of: AsOf,
    basis: &'static str,
    /// What else one has to know.
    notes: Vec<String>,
}

pub(crate) async fn pod(args: &ExplainPodArgs) -> Result<()> {
    let what_if = WhatIf::read(args)?;
    let config = config(args.scheduler_config.as_deref())?;
    let client = client(&args.kubeconfig())?;
    let question = question(&client, args, &what_if).await?;
    let mut picture = Picture::new(config);
    let read = picture.read(&client, question.as_of).await;
    let revision = read.map_err(unread)?;
    for (resource, object) in &what_if.others {
        picture.add(resource, object);
    }
    if what_if.pod.is_some() {
        // In the place of one of its name.
        picture.add(&PODS, &question.pod);
    }
    let explained = picture.explain_asking(&question.pod).await;
    let mut explanation = explained.map_err(|error| {
        anyhow!("{error}. If the servers have a --scheduler-config, say it here as well")
    })?;
    // The version that is explained may be of before that.
    explanation.node = question.node;
    let basis = show::Basis {
        revision,
        words: question.basis,
        with: what_if.names(),
        notes: question.notes,
    };
    past::print(&match args.output.json() {
        true => show::json(&explanation, &basis)?,
        false => show::text(&explanation, &basis),
    })
}

async fn question(client: &Client, args: &ExplainPodArgs, what_if: &WhatIf) -> Result<Question> {
    if let Some(pod) = &what_if.pod {
        let mut notes = Vec::new();
        return Ok(Question {
            pod: admitted(client, pod, &mut notes).await?,
            node: None,
            as_of: AsOf::Now,
            basis: "as if the pod were made now",
            notes,
        });
    }
    let name = args.name.as_deref().unwrap_or_default();
    let object = Object::new(client.clone(), PODS, args.namespace(), name);
    let Some(pod) = object.now().await? else {
        let namespace = args.namespace();
        bail!(
            "there is no pod {name:?} in namespace {namespace:?} (--namespace says another one). To explain one that is \
             not there yet, say --what-if FILE"
        );
    };
    let notes = notes(&pod);
    if is_waiting(&pod) {
        return Ok(Question {
            pod,
            node: None,
            as_of: AsOf::Now,
            basis: "now, while the pod waits for a node",
            notes,
        });
    }
    let node = pod["spec"]["nodeName"].as_str().map(str::to_owned);
    let again = |pod, basis| Question {
        pod,
        node: node.clone(),
        as_of: AsOf::Now,
        basis,
        notes: notes.clone(),
    };
    if args.now || !what_if.others.is_empty() {
        let basis = "the decision made again, now and without the pod itself";
        return Ok(again(pod, basis));
    }
    Ok(match decided(&object, pod.clone()).await? {
        Decided::At(waiting, revision) => Question {
            as_of: AsOf::Revision(revision),
            ..again(
                waiting,
                "the decision made again, as all was right before the pod was bound",
            )
        },
        Decided::Never => again(
            pod,
            "the pod had its node from the beginning on; where it would go now, without the pod itself",
        ),
        Decided::Forgotten => again(
            pod,
            "the decision made again, now and without the pod itself, since what was when it was bound is not known any more",
        ),
    })
}

/// What of a pod's own state decides more than any node.
fn notes(pod: &Value) -> Vec<String> {
    let mut notes = Vec::new();
    if pod["metadata"]["deletionTimestamp"].is_string() {
        notes.push("It is being deleted: the scheduler leaves it alone.".into());
    }
    if is_waiting(pod) {
        let conditions = pod["status"]["conditions"].as_array();
        let told = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False")
            .and_then(|condition| condition["message"].as_str());
        if let Some(told) = told.filter(|told| !told.is_empty()) {
            notes.push(format!("What the scheduler has last said of it: {told}"));
        }
    }
    notes
}

/// A pod of a file as the server would store it. One that it would refuse is taken as it stands there.
async fn admitted(client: &Client, pod: &Value, notes: &mut Vec<String>) -> Result<Value> {
    let mut body = pod.clone();
    let uid = body["metadata"]["uid"].take();
    let name = body["metadata"]["name"].clone();
    let namespace = body["metadata"]["namespace"].as_str().unwrap_or_default();
    let namespace = namespace.to_owned();
    if body["apiVersion"].is_null() {
        body["apiVersion"] = "v1".into();
    }
    let mut answer = client.create_dry_run(&PODS, &namespace, &body).await;
    if answer.as_ref().is_err_and(|error| error.code == 409) {
        // One of that name is there.
        body["metadata"]["generateName"] = format!("{}-", name.as_str().unwrap_or_default()).into();
        body["metadata"]["name"] = Value::Null;
        answer = client.create_dry_run(&PODS, &namespace, &body).await;
    }
    match answer {
        Ok(mut made) => {
            made["metadata"]["name"] = name;
            made["metadata"]["uid"] = uid;
            Ok(made)
        }
        Err(error) if error.code == 0 => Err(explained(error)),
        Err(error) => {
            notes.push(format!(
                "It is explained as it stands in the file, since the server would not take it: {error}"
            ));
            Ok(pod.clone())
        }
    }
}

fn unread(Unread { resource, error }: Unread) -> anyhow::Error {
    let ApiError { code, .. } = error;
    let error = explained(error);
    match code {
        410 => anyhow!(
            "what was then has just been dropped from the store's history; --now explains the present state"
        ),
        _ => error.context(format!(
            "cannot list {resource}, on which scheduling depends"
        )),
    }
}

fn config(file: Option<&Path>) -> Result<SchedulerConfig> {
    let Some(file) = file else {
        return Ok(SchedulerConfig::default());
    };
    let text = pki::read(file).context("--scheduler-config")?;
    let config = SchedulerConfig::parse(&text).and_then(|config| {
        config.check_extenders()?;
        Ok(config)
    });
    config.map_err(|error| anyhow!("--scheduler-config {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_that_waits_has_heard_why() {
        let condition = json!({"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"});
        let mut pod = json!({"metadata": {"name": "p"}, "status": {"conditions": [condition]}});
        assert_eq!(
            notes(&pod),
            ["What the scheduler has last said of it: 0/1 nodes are available"]
        );
        pod["spec"] = json!({"nodeName": "n"});
        assert_eq!(notes(&pod), Vec::<String>::new());
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert!(notes(&pod)[0].starts_with("It is being deleted"));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_told_with_what_to_do() {
        let told = |code, message: &str| {
            let error = ApiError {
                code,
                message: message.into(),
                ..ApiError::default()
            };
            let unread = Unread {
                resource: &agents::explain::RESOURCES[0],
                error,
            };
            format!("{:#}", super::unread(unread))
        };
        assert!(told(410, "too old").contains("--now"));
        assert_eq!(
            told(403, "nodes is forbidden"),
            "cannot list nodes, on which scheduling depends: nodes is forbidden"
        );
        assert!(told(0, "refused").contains("the API server does not answer"));
    }
}
