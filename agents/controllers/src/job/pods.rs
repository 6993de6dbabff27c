//! The pods that a Job makes, and what they say of themselves.

use super::finalizer::TRACKING;
use super::indexes::COMPLETION_INDEX;
use super::run::Run;
use crate::pod_control::create_pod_named;
use crate::world::World;
use agent_runtime::kinds::Pod;
use agent_runtime::plan::Op;
use agent_runtime::resource_ref::JOBS;
use serde_json::{Map, Value, json};

/// Failures of the pod's predecessors at its index.
const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// The same of those that do not count.
const INDEX_IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// The API server cuts what a name is generated from to this length.
const PREFIX_BYTES_MAX: usize = 58;

fn number(pod: &Pod, annotation: &str) -> i64 {
    let text = pod.metadata.annotations.get(annotation);
    text.and_then(|text| text.parse::<i32>().ok())
        .map_or(0, |count| count.max(0).into())
}

/// How many pods failed at this pod's index before it, as far as they count.
pub(super) fn index_failures(pod: &Pod) -> i64 {
    number(pod, INDEX_FAILURES)
}

/// How many pods failed at this pod's index before it.
pub(super) fn absolute_failures(pod: &Pod) -> i64 {
    number(pod, INDEX_FAILURES) + number(pod, INDEX_IGNORED_FAILURES)
}

impl Run<'_> {
    /// Makes a pod, of an index if the Job has them.
    pub(super) fn create(&self, index: Option<i64>, world: &World) -> Op {
        let meta = &self.job.metadata;
        let mut template = self.job.spec.template.clone();
        add_finalizer(&mut template);
        let mut prefix = format!("{}-", meta.name);
        if let Some(index) = index {
            prefix = indexed_prefix(&meta.name, index);
            self.give_index(&mut template, index);
        }
        create_pod_named(world, &JOBS, meta, &prefix, &template)
    }

    fn give_index(&self, template: &mut Value, index: i64) {
        let text = Value::from(index.to_string());
        let metadata = child(template, "metadata");
        child_of(metadata, "labels").insert(COMPLETION_INDEX.into(), text.clone());
        let annotations = child_of(metadata, "annotations");
        annotations.insert(COMPLETION_INDEX.into(), text);
        if self.job.spec.backoff_limit_per_index.is_some() {
            let (failures, ignored) = self.failures_before(index);
            annotations.insert(INDEX_FAILURES.into(), failures.to_string().into());
            if ignored > 0 {
                annotations.insert(INDEX_IGNORED_FAILURES.into(), ignored.to_string().into());
            }
        }
        let spec = child(template, "spec");
        spec.insert(
            "hostname".into(),
            format!("{}-{index}", self.job.metadata.name).into(),
        );
        for list in ["initContainers", "containers"] {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut);
            containers.into_iter().flatten().for_each(add_variable);
        }
    }

    /// What the pod's failure adds to what it bears: those that count, and the others.
    fn failures_before(&self, index: i64) -> (i64, i64) {
        let replaced = self
            .indexes
            .as_ref()
            .and_then(|indexes| indexes.replaced.get(&index));
        let Some(pod) = replaced else {
            return (0, 0);
        };
        let counts = self.action(pod).counts();
        (
            number(pod, INDEX_FAILURES) + i64::from(counts),
            number(pod, INDEX_IGNORED_FAILURES) + i64::from(!counts),
        )
    }
}

fn add_finalizer(template: &mut Value) {
    let finalizers = child(template, "metadata")
        .entry("finalizers")
        .or_insert(Value::Null);
    if !finalizers.is_array() {
        *finalizers = json!([]);
    }
    if let Some(finalizers) = finalizers.as_array_mut()
        && !finalizers.iter().any(|f| f == TRACKING)
    {
        finalizers.push(TRACKING.into());
    }
}

/// Containers that set the variable themselves keep theirs.
fn add_variable(container: &mut Value) {
    let Some(container) = container.as_object_mut() else {
        return;
    };
    let env = container.entry("env").or_insert(Value::Null);
    if !env.is_array() {
        *env = json!([]);
    }
    if let Some(env) = env.as_array_mut()
        && !env
            .iter()
            .any(|variable| variable["name"] == INDEX_VARIABLE)
    {
        let path = format!("metadata.labels['{COMPLETION_INDEX}']");
        env.push(json!({"name": INDEX_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": path}}}));
    }
}

/// What the names of an index' pods begin with, the index in any case.
fn indexed_prefix(job: &str, index: i64) -> String {
    let end = format!("-{index}-");
    let mut name = job;
    while name.len() + end.len() > PREFIX_BYTES_MAX {
        let mut chars = name.chars();
        chars.next_back();
        name = chars.as_str();
    }
    format!("{name}{end}")
}

/// A map within a map, made if there is none.
fn child<'a>(parent: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !parent.is_object() {
        *parent = json!({});
    }
    child_of(parent.as_object_mut().expect("just made one"), key)
}

fn child_of<'a>(parent: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let child = parent.entry(key).or_insert(Value::Null);
    if !child.is_object() {
        *child = json!({});
    }
    child.as_object_mut().expect("just made one")
}
