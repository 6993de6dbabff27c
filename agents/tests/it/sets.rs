//! DaemonSets and StatefulSets: their pods, their updates, and what they keep of what they were.

use crate::cluster::Cluster;
use agent_runtime::kinds::{
    ControllerRevision, DaemonSet, Event, Node, PersistentVolumeClaim, Pod, StatefulSet,
};
use agent_runtime::resource_ref::{DAEMON_SETS, NODES, PODS, STATEFUL_SETS};
use agent_runtime::{AgentContext, Cache, DeleteParams, PatchType};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

fn template(app: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": image}]}})
}

async fn create_daemons(cluster: &Cluster, spec: Value) {
    let mut body = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "d", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": template("d", "one")}});
    merge(&mut body["spec"], spec);
    let made = cluster.client.create(&DAEMON_SETS, "default", &body).await;
    assert_eq!(
        made.unwrap()["metadata"]["annotations"]["deprecated.daemonset.template.generation"],
        "1"
    );
}

async fn create_stateful(cluster: &Cluster, spec: Value) {
    let mut body = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s", "namespace": "default"},
        "spec": {"serviceName": "svc", "selector": {"matchLabels": {"app": "s"}}, "template": template("s", "one")}});
    merge(&mut body["spec"], spec);
    let made = cluster
        .client
        .create(&STATEFUL_SETS, "default", &body)
        .await;
    made.unwrap();
}

fn merge(into: &mut Value, fields: Value) {
    for (key, value) in fields.as_object().unwrap() {
        match value {
            Value::Object(_) if into[key].is_object() => merge(&mut into[key], value.clone()),
            other => into[key] = other.clone(),
        }
    }
}

async fn patch(cluster: &Cluster, resource: &agent_runtime::ResourceRef, name: &str, body: Value) {
    let namespace = if resource.namespaced { "default" } else { "" };
    let form = PatchType::Strategic;
    let patched = cluster
        .client
        .patch(resource, namespace, name, form, &body)
        .await;
    patched.unwrap();
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

async fn delete_pod(cluster: &Cluster, name: &str) {
    let all = DeleteParams::default();
    cluster
        .client
        .delete(&PODS, "default", name, &all)
        .await
        .unwrap();
}

async fn fail(cluster: &Cluster, pod: &str) {
    let status = json!({"status": {"phase": "Failed", "reason": "Evicted"}});
    let form = PatchType::Strategic;
    let failed = cluster
        .client
        .patch_status(&PODS, "default", pod, form, &status)
        .await;
    failed.unwrap();
}

/// The pods of an app that are not going, with the image of each.
fn pods_of(pods: &Cache<Pod>, app: &str) -> Vec<(Arc<Pod>, String)> {
    let all = pods.in_namespace("default").into_iter();
    all.filter(|pod| {
        pod.metadata
            .labels
            .get("app")
            .is_some_and(|label| label == app)
    })
    .filter(|pod| !pod.metadata.is_deleting())
    .map(|pod| (pod.clone(), pod.spec.containers[0].image.clone()))
    .collect()
}

/// Waits for ready pods on these nodes, of these images.
async fn daemons_are(cluster: &Cluster, wanted: &[(&str, &str)]) -> Vec<Arc<Pod>> {
    cluster
        .until("the daemons", &cluster.pods, |pods| {
            let mut pods = pods_of(pods, "d");
            pods.sort_by_key(|(pod, _)| pod.spec.node_name.clone());
            let there: Vec<_> = pods
                .iter()
                .map(|(pod, image)| (pod.spec.node_name.as_str(), image.as_str()))
                .collect();
            let ready = pods.iter().all(|(pod, _)| pod.is_ready());
            (ready && there == wanted).then(|| pods.into_iter().map(|(pod, _)| pod).collect())
        })
        .await
}

async fn daemon_status(cluster: &Cluster, what: &str, wanted: impl Fn(&DaemonSet) -> bool) {
    let sets = cluster.hub.cache::<DaemonSet>();
    let found = cluster.until(what, &sets, |sets| {
        let set = sets.get("default", "d");
        set.filter(|set| set.status.observed_generation == set.metadata.generation && wanted(set))
    });
    found.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_runs_on_every_node_and_stops() {
    let cluster = Cluster::with_nodes(&["one", "two"]).await;
    create_daemons(&cluster, json!({})).await;
    let pods = daemons_are(&cluster, &[("one", "one"), ("two", "one")]).await;
    let affinity = pods[0].spec.affinity.as_ref().unwrap();
    let nodes = affinity.node_affinity.as_ref().unwrap();
    let required = nodes
        .required_during_scheduling_ignored_during_execution
        .as_ref();
    let field = &required.unwrap().node_selector_terms[0].match_fields[0];
    assert_eq!(
        (field.key.as_str(), field.values[0].as_str()),
        ("metadata.name", "one")
    );
    daemon_status(&cluster, "both available", |set| {
        let s = &set.status;
        [
            s.desired_number_scheduled,
            s.number_available,
            s.updated_number_scheduled,
        ] == [2; 3]
            && s.number_unavailable == 0
    })
    .await;
    // One that is deleted is revived.
    delete_pod(&cluster, &pods[1].metadata.name).await;
    cluster.pod_gone(&pods[1].metadata.name).await;
    daemons_are(&cluster, &[("one", "one"), ("two", "one")]).await;
    let all = DeleteParams::default();
    cluster
        .client
        .delete(&DAEMON_SETS, "default", "d", &all)
        .await
        .unwrap();
    daemons_are(&cluster, &[]).await;
    let revisions = cluster.hub.cache::<ControllerRevision>();
    cluster
        .until("the history to go", &revisions, |all| {
            all.is_empty().then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_follows_the_labels_of_nodes() {
    let cluster = Cluster::with_nodes(&["one", "two"]).await;
    let color = |color: &str| json!({"metadata": {"labels": {"color": color}}});
    create_daemons(
        &cluster,
        json!({"template": {"spec": {"nodeSelector": {"color": "blue"}}}}),
    )
    .await;
    daemon_status(&cluster, "nothing wanted", |set| {
        set.status.desired_number_scheduled == 0
    })
    .await;
    patch(&cluster, &NODES, "two", color("blue")).await;
    daemons_are(&cluster, &[("two", "one")]).await;
    patch(&cluster, &NODES, "two", color("green")).await;
    daemons_are(&cluster, &[]).await;
    let green = json!({"spec": {"template": {"spec": {"nodeSelector": {"color": "green"}}}}});
    patch(&cluster, &DAEMON_SETS, "d", green).await;
    daemons_are(&cluster, &[("two", "one")]).await;
    // A closed node keeps its daemon and gets one.
    patch(
        &cluster,
        &NODES,
        "one",
        json!({"spec": {"unschedulable": true}}),
    )
    .await;
    patch(&cluster, &NODES, "one", color("green")).await;
    daemons_are(&cluster, &[("one", "one"), ("two", "one")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_is_updated_and_rolled_back_without_needless_restarts() {
    let cluster = Cluster::with_nodes(&["one", "two"]).await;
    create_daemons(&cluster, json!({})).await;
    daemons_are(&cluster, &[("one", "one"), ("two", "one")]).await;
    patch(&cluster, &DAEMON_SETS, "d", image("two")).await;
    let good = daemons_are(&cluster, &[("one", "two"), ("two", "two")]).await;
    daemon_status(&cluster, "the update", |set| {
        set.status.updated_number_scheduled == 2
            && set.metadata.annotations["deprecated.daemonset.template.generation"] == "2"
    })
    .await;
    let revisions = cluster.hub.cache::<ControllerRevision>();
    let second = cluster
        .until("two revisions", &revisions, |all| {
            all.list()
                .into_iter()
                .find(|revision| revision.revision == 2)
        })
        .await;

    // One that ends each time: one node gets it, and the update goes no further.
    let mut broken = image("three");
    broken["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["false"]);
    patch(&cluster, &DAEMON_SETS, "d", broken).await;
    let wanted = |pods: &Cache<Pod>| {
        let pods = pods_of(pods, "d");
        let of = |image: &str| pods.iter().filter(|(_, i)| i == image).count();
        let bound = pods.iter().all(|(pod, _)| !pod.spec.node_name.is_empty());
        (of("two") == 1 && of("three") == 1 && bound).then_some(())
    };
    cluster
        .until("a broken daemon", &cluster.pods, wanted)
        .await;
    daemon_status(&cluster, "one missing", |set| {
        set.status.updated_number_scheduled == 1 && set.status.number_unavailable == 1
    })
    .await;
    // What `kubectl rollout undo` does.
    patch(&cluster, &DAEMON_SETS, "d", second.data.clone()).await;
    let back = daemons_are(&cluster, &[("one", "two"), ("two", "two")]).await;
    let uids = |pods: &[Arc<Pod>]| -> BTreeSet<String> {
        pods.iter().map(|pod| pod.metadata.uid.clone()).collect()
    };
    assert_eq!(uids(&good).intersection(&uids(&back)).count(), 1);
    cluster
        .until("the revision to come back", &revisions, |all| {
            let revision = all.get("default", &second.metadata.name)?;
            (revision.revision == 4 && all.len() == 3).then_some(())
        })
        .await;
}

/// Nodes that are only names, and daemons that bear whatever is said of them.
async fn names_of_nodes(cluster: &Cluster, count: usize) -> Value {
    for n in 0..count {
        let node =
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{n}")}});
        cluster.client.create(&NODES, "", &node).await.unwrap();
    }
    json!({"template": {"spec": {"tolerations": [{"operator": "Exists"}]}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_failed_is_made_anew() {
    let cluster = Cluster::start().await;
    let spec = names_of_nodes(&cluster, 1).await;
    create_daemons(&cluster, spec).await;
    let first = daemons_are(&cluster, &[("", "one")]).await;
    fail(&cluster, &first[0].metadata.name).await;
    cluster.pod_gone(&first[0].metadata.name).await;
    let second = daemons_are(&cluster, &[("", "one")]).await;
    assert_ne!(first[0].metadata.uid, second[0].metadata.uid);
    let events = cluster.hub.cache::<Event>();
    for reason in ["FailedDaemonPod", "SuccessfulDelete", "SuccessfulCreate"] {
        cluster
            .until(reason, &events, |all| {
                all.list().into_iter().find(|event| event.reason == reason)
            })
            .await;
    }
}

/// Waits until the pods of the StatefulSet are ready and of these images.
async fn replicas_are(cluster: &Cluster, images: &[&str]) -> Vec<Arc<Pod>> {
    cluster
        .until("the replicas", &cluster.pods, |pods| {
            let pods = pods_of(pods, "s");
            let there: Vec<_> = pods.iter().map(|(_, image)| image.as_str()).collect();
            let ready = pods.iter().all(|(pod, _)| pod.is_ready());
            (ready && there == images).then(|| pods.into_iter().map(|(pod, _)| pod).collect())
        })
        .await
}

async fn stateful(
    cluster: &Cluster,
    what: &str,
    wanted: impl Fn(&StatefulSet) -> bool,
) -> Arc<StatefulSet> {
    let sets = cluster.hub.cache::<StatefulSet>();
    let found = cluster.until(what, &sets, |sets| {
        let set = sets.get("default", "s");
        set.filter(|set| set.status.observed_generation == set.metadata.generation && wanted(set))
    });
    found.await
}

fn partition(partition: i32) -> Value {
    json!({"spec": {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_is_updated_by_canaries_and_phases() {
    let cluster = Cluster::start().await;
    let made = Arc::new(Mutex::new(Vec::new()));
    let names = made.clone();
    cluster.pods.subscribe(move |change| {
        if let (None, Some(pod)) = (&change.old, &change.new) {
            names.lock().unwrap().push(pod.metadata.name.clone());
        }
    });
    create_stateful(&cluster, json!({"replicas": 3})).await;
    let pods = replicas_are(&cluster, &["one"; 3]).await;
    assert_eq!(*made.lock().unwrap(), ["s-0", "s-1", "s-2"]);
    assert_eq!(pods[2].spec.hostname, "s-2");
    assert_eq!(pods[2].spec.subdomain, "svc");
    assert_eq!(pods[2].metadata.labels["apps.kubernetes.io/pod-index"], "2");
    let first = stateful(&cluster, "all current", |set| {
        set.status.current_replicas == 3
    })
    .await;
    assert_eq!(first.status.current_revision, first.status.update_revision);

    // A partition above all: nothing is updated, not even what is made anew.
    patch(&cluster, &STATEFUL_SETS, "s", partition(3)).await;
    patch(&cluster, &STATEFUL_SETS, "s", image("two")).await;
    let staged = stateful(&cluster, "another revision", |set| {
        set.status.update_revision != first.status.update_revision
    });
    let staged = staged.await;
    assert_eq!(
        staged.status.current_revision,
        first.status.current_revision
    );
    let replaced = async |name: &str, uid: &str| {
        delete_pod(&cluster, name).await;
        let other = |pod: &Pod| pod.metadata.uid != uid && pod.is_ready();
        cluster.pod("another pod of the name", name, other).await
    };
    let pod = replaced("s-1", &pods[1].metadata.uid).await;
    assert_eq!(pod.spec.containers[0].image, "one");

    // The canary.
    patch(&cluster, &STATEFUL_SETS, "s", partition(2)).await;
    let canary = replicas_are(&cluster, &["one", "one", "two"]).await;
    let pod = replaced("s-2", &canary[2].metadata.uid).await;
    assert_eq!(pod.spec.containers[0].image, "two");
    let pod = replaced("s-0", &canary[0].metadata.uid).await;
    assert_eq!(pod.spec.containers[0].image, "one");
    assert_eq!(
        pod.metadata.labels["controller-revision-hash"],
        first.status.current_revision
    );
    stateful(&cluster, "one updated", |set| {
        [set.status.updated_replicas, set.status.current_replicas] == [1, 2]
    })
    .await;

    // The phases.
    patch(&cluster, &STATEFUL_SETS, "s", partition(1)).await;
    replicas_are(&cluster, &["one", "two", "two"]).await;
    patch(&cluster, &STATEFUL_SETS, "s", partition(0)).await;
    replicas_are(&cluster, &["two"; 3]).await;
    let done = stateful(&cluster, "the end of the update", |set| {
        set.status.current_revision == set.status.update_revision
    });
    assert_eq!(done.await.status.updated_replicas, 3);

    // Back, by what `kubectl rollout undo` sends.
    let revisions = cluster.hub.cache::<ControllerRevision>();
    let name = &first.status.current_revision;
    let old = cluster
        .until("the old revision", &revisions, |all| {
            all.get("default", name)
        })
        .await;
    patch(&cluster, &STATEFUL_SETS, "s", old.data.clone()).await;
    replicas_are(&cluster, &["one"; 3]).await;
    stateful(&cluster, "the first revision", |set| {
        set.status.current_revision == *name
    })
    .await;
    let again = revisions.get("default", name).unwrap();
    assert_eq!((again.revision, revisions.len()), (3, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_evicted_is_made_anew_under_its_name() {
    let cluster = Cluster::start().await;
    create_stateful(&cluster, json!({"replicas": 2})).await;
    let first = replicas_are(&cluster, &["one", "one"]).await;
    fail(&cluster, "s-0").await;
    let other = |pod: &Pod| pod.metadata.uid != first[0].metadata.uid && pod.is_ready();
    cluster.pod("another pod of the name", "s-0", other).await;
    let now = replicas_are(&cluster, &["one", "one"]).await;
    assert_eq!(now[1].metadata.uid, first[1].metadata.uid);
    let events = cluster.hub.cache::<Event>();
    for message in [
        "create Pod s-0 in StatefulSet s successful",
        "delete Pod s-0 in StatefulSet s successful",
    ] {
        cluster
            .until(message, &events, |all| {
                all.list()
                    .into_iter()
                    .find(|event| event.message == message)
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_stay_or_go_as_the_policy_says() {
    let cluster = Cluster::start().await;
    let claims = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
    let policy = json!({"whenScaled": "Delete", "whenDeleted": "Retain"});
    create_stateful(
        &cluster,
        json!({"replicas": 2, "podManagementPolicy": "Parallel", "volumeClaimTemplates": claims, "persistentVolumeClaimRetentionPolicy": policy}),
    )
    .await;
    let pods = replicas_are(&cluster, &["one", "one"]).await;
    let volume = pods[1].spec.volumes[0].persistent_volume_claim.as_ref();
    assert_eq!(volume.unwrap().claim_name, "data-s-1");
    let cache = cluster.hub.cache::<PersistentVolumeClaim>();
    let names = |claims: &Cache<PersistentVolumeClaim>| -> Vec<String> {
        let all = claims.in_namespace("default");
        all.iter()
            .map(|claim| claim.metadata.name.clone())
            .collect()
    };
    let are = async |wanted: &[&str]| {
        cluster
            .until("the claims", &cache, |claims| {
                (names(claims) == wanted).then_some(())
            })
            .await;
    };
    are(&["data-s-0", "data-s-1"]).await;
    let before = cache.get("default", "data-s-1").unwrap();
    assert_eq!(before.metadata.labels["app"], "s");
    patch(
        &cluster,
        &STATEFUL_SETS,
        "s",
        json!({"spec": {"replicas": 1}}),
    )
    .await;
    are(&["data-s-0"]).await;
    patch(
        &cluster,
        &STATEFUL_SETS,
        "s",
        json!({"spec": {"replicas": 2}}),
    )
    .await;
    are(&["data-s-0", "data-s-1"]).await;
    replicas_are(&cluster, &["one", "one"]).await;
    let after = cache.get("default", "data-s-1").unwrap();
    assert_ne!(before.metadata.uid, after.metadata.uid);
    let all = DeleteParams::default();
    cluster
        .client
        .delete(&STATEFUL_SETS, "default", "s", &all)
        .await
        .unwrap();
    replicas_are(&cluster, &[]).await;
    assert_eq!(names(&cache).len(), 2);
}

/// Runs controllers that have to be elected, until the token is cancelled.
fn lead(
    context: &AgentContext,
    identity: &str,
) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let stop = CancellationToken::new();
    let context = AgentContext {
        identity: identity.into(),
        stop: stop.clone(),
        ..context.clone()
    };
    (stop, tokio::spawn(controllers::run(context)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sets_that_change_hands_make_no_pod_twice() {
    const WANTED: usize = 30;
    let (cluster, context) = Cluster::without_controllers().await;
    let made = Arc::new(Mutex::new(BTreeSet::new()));
    let uids = made.clone();
    cluster.pods.subscribe(move |change| {
        if let Some(pod) = &change.new {
            uids.lock().unwrap().insert(pod.metadata.uid.clone());
        }
    });
    let (stop_first, first) = lead(&context, "first");
    let spec = names_of_nodes(&cluster, WANTED).await;
    create_daemons(&cluster, spec).await;
    create_stateful(
        &cluster,
        json!({"replicas": WANTED, "podManagementPolicy": "Parallel"}),
    )
    .await;
    cluster
        .until("the first pods", &cluster.pods, |pods| {
            (pods.len() > 4).then_some(())
        })
        .await;
    stop_first.cancel();
    first.await.unwrap();
    let (stop_second, second) = lead(&context, "second");
    replicas_are(&cluster, &["one"; WANTED]).await;
    daemons_are(&cluster, &[("", "one"); WANTED]).await;
    stateful(&cluster, "all replicas", |set| {
        set.status.available_replicas == 30
    })
    .await;
    daemon_status(&cluster, "all daemons", |set| {
        set.status.number_available == 30
    })
    .await;
    assert_eq!(made.lock().unwrap().len(), 2 * WANTED);
    stop_second.cancel();
    second.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_has_one_daemon() {
    let cluster = Cluster::start().await;
    let spec = names_of_nodes(&cluster, 2).await;
    create_daemons(&cluster, spec).await;
    daemons_are(&cluster, &[("", "one"); 2]).await;
    let all = DeleteParams::default();
    cluster.client.delete(&NODES, "", "n1", &all).await.unwrap();
    daemons_are(&cluster, &[("", "one")]).await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    cluster.client.create(&NODES, "", &node).await.unwrap();
    daemons_are(&cluster, &[("", "one"); 2]).await;
    let nodes = cluster.hub.cache::<Node>();
    cluster
        .until("two nodes", &nodes, |nodes| {
            (nodes.len() == 2).then_some(())
        })
        .await;
    daemon_status(&cluster, "both", |set| set.status.number_available == 2).await;
}
