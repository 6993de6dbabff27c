//! Objects that are not there: those of the files of `--what-if`.

use std::io::Read;
use std::path::Path;

use agents::ResourceRef;
use agents::explain::{RESOURCES, objects_from};
use agents::resource_ref::{NODES, PODS};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use super::decided::is_waiting;
use crate::cli::ExplainPodArgs;
use crate::pki;

/// What a node's agent says of itself where nobody says otherwise.
const PODS_MAX: &str = "110";

/// An object and what it is one of.
pub(super) type Given = (&'static ResourceRef, Value);

/// What the files have.
#[derive(Debug)]
pub(super) struct WhatIf {
    /// The pod that is asked about, if it is among them.
    pub(super) pod: Option<Value>,
    /// Everything else.
    pub(super) others: Vec<Given>,
}

impl WhatIf {
    pub(super) fn read(args: &ExplainPodArgs) -> Result<WhatIf> {
        let mut given = Vec::new();
        for file in &args.what_if {
            let told = || format!("--what-if {}", file.display());
            let found = text(file).and_then(|text| objects(&text, args.namespace()));
            given.extend(found.with_context(told)?);
        }
        let pod = asked(&mut given, args)?;
        Ok(WhatIf { pod, others: given })
    }

    /// What the answer rests on beside the cluster: the names.
    pub(super) fn names(&self) -> Vec<String> {
        let named = |(resource, object): &Given| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            format!("{} {name}", resource.kind)
        };
        self.others.iter().map(named).collect()
    }
}

fn text(file: &Path) -> Result<String> {
    if file != Path::new("-") {
        return pki::read(file);
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut text);
    read.context("cannot read standard input")?;
    Ok(text)
}

/// The objects of a file, each in a namespace if it is in one, and complete.
fn objects(text: &str, namespace: &str) -> Result<Vec<Given>> {
    let objects = objects_from(text).map_err(|error| anyhow!(error))?;
    if objects.is_empty() {
        bail!("no object is in it");
    }
    let given = objects.into_iter().map(|object| one(object, namespace));
    given.collect()
}

fn one(mut object: Value, namespace: &str) -> Result<Given> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let version = &object["apiVersion"];
    let is = |resource: &&ResourceRef| {
        resource.kind == kind && (version.is_null() || *version == resource.api_version())
    };
    let Some(resource) = RESOURCES.iter().find(is) else {
        let kinds: Vec<_> = RESOURCES.iter().map(|resource| &*resource.kind).collect();
        bail!(
            "scheduling does not depend on a {kind:?} of version {version}; it does on {}",
            kinds.join(", ")
        );
    };
    if !object["metadata"].is_object() || empty(&object["metadata"]["name"]) {
        bail!("a {kind} in it has no name");
    }
    if resource.namespaced && empty(&object["metadata"]["namespace"]) {
        object["metadata"]["namespace"] = namespace.into();
    }
    if *resource == PODS {
        object = as_new(object);
    } else if *resource == NODES {
        object = with_agent(object)?;
    }
    Ok((resource, object))
}

fn empty(value: &Value) -> bool {
    value.as_str().is_none_or(str::is_empty)
}

/// A pod as one that is still to be made, also where the file is what a server told of one that is there.
fn as_new(mut pod: Value) -> Value {
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        let of_the_server = ["uid", "resourceVersion", "creationTimestamp", "generation"];
        for field in of_the_server.into_iter().chain(["managedFields"]) {
            metadata.remove(field);
        }
        // No other pod has this identity.
        let name = |field: &str| metadata[field].as_str().unwrap_or_default();
        let uid = format!("what-if/{}/{}", name("namespace"), name("name"));
        metadata.insert("uid".into(), uid.into());
    }
    if let Some(pod) = pod.as_object_mut() {
        pod.remove("status");
    }
    pod
}

/// A node with what its agent would say of it where the file does not.
fn with_agent(mut node: Value) -> Result<Value> {
    let name = node["metadata"]["name"].clone();
    if node["status"].is_null() {
        node["status"] = json!({});
    }
    if node["metadata"]["labels"].is_null() {
        node["metadata"]["labels"] = json!({});
    }
    let Some(labels) = node["metadata"]["labels"].as_object_mut() else {
        bail!("the labels of Node {name} are no object");
    };
    labels
        .entry("kubernetes.io/hostname")
        .or_insert(name.clone());
    labels.entry("kubernetes.io/os").or_insert("linux".into());
    let status = &mut node["status"];
    if !status.is_object() {
        bail!("the status of Node {name} is no object");
    }
    if status["allocatable"].is_null() {
        status["allocatable"] = match &status["capacity"] {
            Value::Null => json!({}),
            capacity => capacity.clone(),
        };
    }
    if let Some(allocatable) = status["allocatable"].as_object_mut() {
        allocatable.entry("pods").or_insert(PODS_MAX.into());
    }
    Ok(node)
}

/// Takes the pod that is asked about out of what was given: the one that NAME names or, without a NAME, the one that waits.
fn asked(given: &mut Vec<Given>, args: &ExplainPodArgs) -> Result<Option<Value>> {
    let is_asked = |(resource, object): &Given| {
        let is = |field: &str, wanted: &str| object["metadata"][field] == wanted;
        **resource == PODS
            && match &args.name {
                Some(name) => {
                    let namespace = args.namespace.as_deref();
                    is("name", name) && namespace.is_none_or(|wanted| is("namespace", wanted))
                }
                None => is_waiting(object),
            }
    };
    let found: Vec<usize> = (0..given.len())
        .filter(|at| is_asked(&given[*at]))
        .collect();
    match (found.as_slice(), &args.name) {
        ([at], _) => Ok(Some(given.remove(*at).1)),
        ([], Some(_)) => Ok(None),
        ([], None) => bail!(
            "which pod? Say its NAME or, for one that is not there yet, --what-if FILE with a Pod that has no spec.nodeName"
        ),
        (several, _) => {
            let names = several.iter().map(|at| {
                let metadata = &given[*at].1["metadata"];
                let text = |field: &str| metadata[field].as_str().unwrap_or_default();
                format!("{}/{}", text("namespace"), text("name"))
            });
            let names: Vec<_> = names.collect();
            bail!(
                "several pods of --what-if wait ({}): say which by its NAME and --namespace",
                names.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, ExplainCommand};
    use clap::Parser;

    fn args(words: &[&str]) -> ExplainPodArgs {
        let words = ["kontiki", "explain", "pod"].iter().chain(words);
        match Cli::parse_from(words).command {
            Command::Explain(ExplainCommand::Pod(args)) => *args,
            _ => unreachable!("the words say so"),
        }
    }

    /// What a file of these objects gives.
    fn read(text: &str, words: &[&str]) -> Result<WhatIf> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, text).unwrap();
        let file = ["--what-if", file.to_str().unwrap()];
        WhatIf::read(&args(&[&file, words].concat()))
    }

    fn refused(text: &str, words: &[&str]) -> String {
        let error = format!("{:#}", read(text, words).unwrap_err());
        match error.split_once("/file: ") {
            Some((_, error)) => error.to_owned(),
            None => error,
        }
    }

    const POD: &str = "kind: Pod\nmetadata: {name: p, uid: real, resourceVersion: '5'}\n";
    const NODE: &str =
        "kind: Node\nmetadata: {name: n}\nstatus: {capacity: {cpu: '4', memory: 8Gi}}\n";

    #[test]
    fn the_pod_that_waits_is_the_one_that_is_asked_about() {
        let placed = "kind: Pod\nmetadata: {name: q, namespace: own}\nspec: {nodeName: n}\n";
        let what_if = read(&[POD, NODE, placed].join("---\n"), &["--namespace", "shop"]).unwrap();
        let metadata = what_if.pod.as_ref().unwrap()["metadata"].clone();
        let expected = json!({"name": "p", "namespace": "shop", "uid": "what-if/shop/p"});
        assert_eq!(metadata, expected);
        assert_eq!(what_if.names(), ["Node n", "Pod q"]);
        assert_eq!(what_if.others[1].1["metadata"]["namespace"], "own");
    }

    #[test]
    fn a_name_chooses_among_the_files_or_means_one_that_is_there() {
        let both = [POD, "kind: Pod\nmetadata: {name: q}\n"].join("---\n");
        let chosen = read(&both, &["q"]).unwrap().pod.unwrap();
        assert_eq!(chosen["metadata"]["name"], "q");
        assert!(read(NODE, &["q"]).unwrap().pod.is_none());
        let elsewhere = read(POD, &["p", "-n", "other"]).unwrap().pod.unwrap();
        assert_eq!(elsewhere["metadata"]["namespace"], "other");
        let own = "kind: Pod\nmetadata: {name: p, namespace: own}\n";
        assert!(read(own, &["p", "-n", "other"]).unwrap().pod.is_none());
        assert!(read(own, &["p"]).unwrap().pod.is_some());
        assert_eq!(
            refused(&both, &[]),
            "several pods of --what-if wait (default/p, default/q): say which by its NAME and --namespace"
        );
        assert!(refused(NODE, &[]).starts_with("which pod? Say its NAME"));
    }

    #[test]
    fn a_node_has_what_its_agent_would_say() {
        let node = read(NODE, &["p"]).unwrap().others.remove(0).1;
        let labels = json!({"kubernetes.io/hostname": "n", "kubernetes.io/os": "linux"});
        assert_eq!(node["metadata"]["labels"], labels);
        let allocatable = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
        assert_eq!(node["status"]["allocatable"], allocatable);
        let own = "kind: Node\nmetadata: {name: n, labels: {kubernetes.io/hostname: h}}\nstatus: {allocatable: {pods: '3'}}\n";
        let node = read(own, &["p"]).unwrap().others.remove(0).1;
        assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "h");
        assert_eq!(node["status"]["allocatable"], json!({"pods": "3"}));
    }

    #[test]
    fn files_that_make_no_sense_are_told() {
        assert!(refused("{", &["p"]).starts_with("not YAML: "));
        assert_eq!(refused("", &["p"]), "no object is in it");
        assert_eq!(refused("kind: Pod\n", &[]), "a Pod in it has no name");
        assert!(
            refused("apiVersion: apps/v1\nkind: Deployment\n", &["p"]).starts_with(
                "scheduling does not depend on a \"Deployment\" of version \"apps/v1\"; it does on Node, "
            )
        );
        let odd = "kind: Node\nmetadata: {name: n, labels: 5}\n";
        assert!(refused(odd, &["p"]).contains("the labels of Node \"n\" are no object"));
        for odd in ["kind: 5\n", "kind: Node\nmetadata: 5\n", "a: b\n"] {
            assert!(read(odd, &["p"]).is_err(), "{odd}");
        }
        let missing = WhatIf::read(&args(&["--what-if", "/no/such/file"]));
        assert!(format!("{:#}", missing.unwrap_err()).starts_with("--what-if /no/such/file: "));
    }
}
