//! The page about what Prometheus can read names what the program counts, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Files in which names of metrics stand.
const SOURCES: &[&str] = &[
    "apiserver/src/metrics.rs",
    "apiserver/src/metrics/audited.rs",
    "apiserver/src/metrics/calls.rs",
    "apiserver/src/metrics/checks.rs",
    "apiserver/src/metrics/plugins.rs",
    "apiserver/src/metrics/policies.rs",
    "apiserver/src/metrics/requests.rs",
    "apiserver/src/metrics/storage.rs",
    "apiserver/src/metrics/watched.rs",
    "apiserver/src/serve.rs",
    "agents/runtime/src/metrics.rs",
    "agents/scheduler/src/metrics.rs",
    "agents/node/src/metrics.rs",
    "agents/node/src/stats/cadvisor.rs",
    "agents/node/src/stats/own.rs",
    "agents/node/src/stats/volumes.rs",
];
/// How such names begin.
const HEADS: &[&str] = &[
    "aggregator_",
    "apiserver_",
    "authenticated_",
    "authentication_",
    "authorization_",
    "container_",
    "etcd_",
    "kontiki_",
    "kubelet_",
    "kubernetes_",
    "leader_election_",
    "machine_",
    "node_collector_",
    "rest_client_",
    "running_",
    "scheduler_",
    "watch_cache_",
    "workqueue_",
];
/// Words that begin so and are no names of metrics.
const OTHERS: &[&str] = &["container_state", "apiserver_internal_error"];
/// Names on the page that stand elsewhere, or are said not to be there.
const ELSEWHERE: &[&str] = &[
    "apiserver_storage_transformation_operations_total",
    "kubernetes_feature_enabled",
];

fn is_name(word: &str) -> bool {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    HEADS
        .iter()
        .any(|head| word.len() > head.len() && word.starts_with(head))
        && word.chars().all(letters)
        && !word.ends_with('_')
        && !OTHERS.contains(&word)
}

fn read(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let root = root.expect("docs is inside the repository");
    fs::read_to_string(root.join(file)).expect("the file is there")
}

#[test]
fn the_page_about_monitoring_names_what_is_counted_and_nothing_else() {
    let mut counted = BTreeSet::new();
    for file in SOURCES {
        let text = read(file);
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        let words = product.split('"').skip(1).step_by(2);
        counted.extend(words.filter(|word| is_name(word)).map(str::to_owned));
        // Written out as text, with its help before it.
        let told = product.split("# HELP ").skip(1);
        let told = told.filter_map(|rest| rest.split(' ').next());
        counted.extend(told.filter(|word| is_name(word)).map(str::to_owned));
    }
    assert!(
        counted.len() > 60,
        "the files have other names: {counted:?}"
    );
    let page = read("docs/reference/monitoring.md");
    let named: BTreeSet<String> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| is_name(word) && !ELSEWHERE.contains(word))
        .map(str::to_owned)
        .collect();
    let unnamed: Vec<_> = counted.difference(&named).collect();
    assert!(unnamed.is_empty(), "not on the page: {unnamed:?}");
    let invented: Vec<_> = named.difference(&counted).collect();
    assert!(invented.is_empty(), "counted by nobody: {invented:?}");
}
