//! Objects whose owners contradict each other, or go at the wrong moment.

use super::{Scene, Terms, play, template, uid, workload};
use crate::jobs::job;
use agent_runtime::kinds::{Job, Namespace, PersistentVolume, PodDisruptionBudget, condition};
use agent_runtime::resource_ref::{
    CONFIG_MAPS, DEPLOYMENTS, JOBS, NAMESPACES, PERSISTENT_VOLUMES, POD_DISRUPTION_BUDGETS, PODS,
    REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS,
};
use agent_runtime::{DeleteParams, Propagation};
use serde_json::{Value, json};

#[tokio::test(start_paused = true)]
async fn selectors_that_match_the_pods_of_others_take_none_of_them() {
    for off_after in [1, 6, 11] {
        play(async |scene| {
            let labels = json!({"app": "x"});
            // Nobody's, and everybody's.
            let mut orphan = template(&labels, "i");
            orphan["apiVersion"] = "v1".into();
            orphan["kind"] = "Pod".into();
            orphan["metadata"]["name"] = "orphan".into();
            orphan["metadata"]["namespace"] = "default".into();
            scene.create(&PODS, orphan).await;
            let mut wanted = Vec::new();
            for (kind, name, replicas) in [
                ("ReplicaSet", "a", 3),
                ("ReplicaSet", "b", 2),
                ("StatefulSet", "c", 2),
                ("Deployment", "d", 3),
            ] {
                let resource = match kind {
                    "ReplicaSet" => &REPLICA_SETS,
                    "StatefulSet" => &STATEFUL_SETS,
                    _ => &DEPLOYMENTS,
                };
                let body = workload(kind, name, replicas, &labels, "i");
                let made = scene.create(resource, body).await;
                if kind != "Deployment" {
                    wanted.push((uid(&made), usize::try_from(replicas).unwrap()));
                }
            }
            let body = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "e", "namespace": "default"},
                "spec": {"replicas": 2, "selector": labels, "template": template(&labels, "i")}});
            let made = scene.create(&REPLICATION_CONTROLLERS, body).await;
            wanted.push((uid(&made), 2));

            let first = scene.lead("first", Terms::off_after("pods", off_after));
            first.is_off().await;
            scene.lead("second", Terms::default());
            let wanted: Vec<(&str, usize)> = wanted.iter().map(|(u, n)| (u.as_str(), *n)).collect();
            scene.settled(&wanted).await;
            scene.cluster.until_rolled_out("d", 3).await;
            scene.rests().await;
            scene.settled(&wanted).await;
            let ever = scene.ever();
            assert_eq!(ever.len(), 12, "{:?}", names(&scene));
            let stolen: Vec<_> = ever.iter().filter(|pod| pod.controllers.len() != 1).collect();
            assert!(stolen.is_empty());
            // Eleven are made and one is adopted; some want the orphan and learn that it is taken.
            let writes = scene.count(|line| line.is_write() && line.is_of("pods"));
            assert!(writes <= 18, "{writes}");
        })
        .await;
    }
}

fn names(scene: &Scene) -> Vec<String> {
    scene.ever().into_iter().map(|pod| pod.name).collect()
}

async fn config_map(scene: &Scene, name: &str) -> String {
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}});
    uid(&scene.create(&CONFIG_MAPS, body).await)
}

fn owner(name: &str, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": true})
}

#[tokio::test(start_paused = true)]
async fn owners_in_a_circle_stay_while_nobody_deletes_them_and_go_together() {
    for (off_after, propagation) in [
        (1, Propagation::Foreground),
        (2, Propagation::Foreground),
        (1, Propagation::Background),
        (3, Propagation::Background),
    ] {
        play(async |scene| {
            // a owns b owns c owns a; d owns itself; x and y own each other, and nobody deletes them.
            let mut uids = Vec::new();
            let all = ["a", "b", "c", "d", "x", "y"];
            for name in all {
                uids.push(config_map(&scene, name).await);
            }
            for (of, by) in [(0, 2), (1, 0), (2, 1), (3, 3), (4, 5), (5, 4)] {
                let owners = json!([owner(all[by], &uids[by])]);
                let body = json!({"metadata": {"ownerReferences": owners}});
                scene.patch(&CONFIG_MAPS, all[of], body).await;
            }
            // What has no namespace has no owner that has one: it stays, and is not asked about for ever.
            let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v", "ownerReferences": [owner("x", &uids[4])]},
                "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp/v"}}});
            scene.create(&PERSISTENT_VOLUMES, volume).await;

            let first = scene.lead("first", Terms::off_after("configmaps", off_after));
            // The controller writes a ConfigMap into each namespace; the rest of the writes is the collector's.
            for name in ["a", "d"] {
                let how = DeleteParams { propagation: Some(propagation), ..DeleteParams::default() };
                let client = &scene.cluster.client;
                client.delete(&CONFIG_MAPS, "default", name, &how).await.unwrap();
            }
            first.is_off().await;
            scene.lead("second", Terms::default());
            scene
                .until("the circles to go", &scene.cluster.config_maps, |maps| {
                    let left = maps.in_namespace("default");
                    let left: Vec<_> = left.iter().map(|map| map.metadata.name.as_str()).collect();
                    (left == ["kube-root-ca.crt", "x", "y"]).then_some(())
                })
                .await;
            // What the second one has only begun to look at is looked at again at first soon, and then ever more seldom.
            scene.pass(super::SETTLING).await;
            let lines = scene.pass(super::QUIET * 2).await;
            let writes: Vec<_> = lines.iter().filter(|line| line.is_write()).collect();
            assert!(writes.is_empty(), "{writes:#?}");
            let asked = |line: &&super::Line| line.is_of("configmaps") || line.is_of("persistentvolumes");
            let asked: Vec<_> = lines.iter().filter(asked).collect();
            assert!(asked.len() <= 20, "{asked:#?}");
            let events = scene.count(super::Line::is_event);
            assert!(events <= 30, "{events}");
            let volumes = scene.cache::<PersistentVolume>().await;
            assert!(volumes.get("", "v").is_some_and(|volume| !volume.metadata.is_deleting()));
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_deleted_and_made_anew_in_the_middle_has_its_pods_once() {
    for (off_after, propagation) in [
        (1, Propagation::Background),
        (9, Propagation::Background),
        (9, Propagation::Foreground),
        (1, Propagation::Orphan),
        (9, Propagation::Orphan),
    ] {
        play(async |scene| {
            let body = workload("ReplicaSet", "a", 20, &json!({"app": "x"}), "i");
            scene.create(&REPLICA_SETS, body.clone()).await;
            let first = scene.lead("first", Terms::off_after("pods", off_after));
            first.is_off().await;
            let how = DeleteParams {
                propagation: Some(propagation),
                ..DeleteParams::default()
            };
            let client = &scene.cluster.client;
            client
                .delete(&REPLICA_SETS, "default", "a", &how)
                .await
                .unwrap();
            let made = if propagation == Propagation::Background {
                // Its name is free at once.
                let made = scene.create(&REPLICA_SETS, body.clone()).await;
                scene.lead("second", Terms::default());
                made
            } else {
                scene.lead("second", Terms::default());
                let sets = &scene.cluster.sets;
                let gone = |sets: &agent_runtime::Cache<_>| {
                    sets.get("default", "a").is_none().then_some(())
                };
                scene.until("the set to go", sets, gone).await;
                scene.create(&REPLICA_SETS, body.clone()).await
            };
            let uid = uid(&made);
            scene.settled(&[(&uid, 20)]).await;
            scene
                .until("no others", &scene.cluster.pods, |pods| {
                    (pods.len() == 20).then_some(())
                })
                .await;
            scene.rests().await;
            // Nobody's pods are adopted, those of the one that is gone go.
            let ever = scene.ever();
            let own = ever.iter().filter(|pod| pod.controllers.contains(&uid));
            assert_eq!(own.count(), 20);
            if propagation == Propagation::Orphan {
                assert_eq!(ever.len(), 20);
            }
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_deleted_in_the_middle_of_the_work_goes() {
    for off_after in [2, 15] {
        play(async |scene| {
            let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
            scene.create(&NAMESPACES, body).await;
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "n"}});
            scene.create(&agent_runtime::resource_ref::SERVICE_ACCOUNTS, account).await;
            let labels = json!({"app": "x"});
            for (resource, kind) in [(&REPLICA_SETS, "ReplicaSet"), (&DEPLOYMENTS, "Deployment"), (&STATEFUL_SETS, "StatefulSet")] {
                let mut body = workload(kind, "w", 10, &labels, "i");
                body["metadata"]["namespace"] = "n".into();
                scene.create(resource, body).await;
            }
            let mut body = job("j", json!({"parallelism": 5, "completions": 5}), "sleep 1000");
            body["metadata"]["namespace"] = "n".into();
            scene.create(&JOBS, body).await;
            let first = scene.lead("first", Terms::off_after("pods", off_after));
            first.is_off().await;
            let client = &scene.cluster.client;
            client.delete(&NAMESPACES, "", "n", &DeleteParams::default()).await.unwrap();
            scene.lead("second", Terms::default());
            let namespaces = scene.cache::<Namespace>().await;
            scene
                .until("the namespace to go", &namespaces, |all| all.get("", "n").is_none().then_some(()))
                .await;
            scene.rests().await;
            assert!(scene.cluster.pods.in_namespace("n").is_empty());
            assert!(scene.ever().len() <= 35, "{}", scene.ever().len());
        })
        .await;
    }
}

/// Nobody says what there is in this group.
fn down(path: &str) -> Option<(u16, Value)> {
    (path == "/apis/policy/v1").then(|| {
        (
            503,
            json!({"kind": "Status", "code": 503, "message": "down"}),
        )
    })
}

#[tokio::test(start_paused = true)]
async fn a_namespace_stays_while_nobody_knows_all_that_is_in_it() {
    play(async |scene| {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
        scene.create(&NAMESPACES, body).await;
        let body = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b", "namespace": "n"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}});
        scene.create(&POD_DISRUPTION_BUDGETS, body).await;
        let client = &scene.cluster.client;
        client.delete(&NAMESPACES, "", "n", &DeleteParams::default()).await.unwrap();
        let lied_to = Terms { lie: Some(down), ..Terms::default() };
        let first = scene.lead("first", lied_to);
        let namespaces = scene.cache::<Namespace>().await;
        let budgets = scene.cache::<PodDisruptionBudget>().await;
        scene
            .until("the reason", &namespaces, |all| {
                let namespace = all.get("", "n")?;
                let told = condition(&namespace.status.conditions, "NamespaceDeletionDiscoveryFailure")?;
                told.is_true().then_some(())
            })
            .await;
        first.switch_off();
        // The next one is no wiser.
        let second = scene.lead("second", lied_to);
        let lines = scene.pass(super::QUIET * 2).await;
        assert!(namespaces.get("", "n").is_some() && budgets.get("n", "b").is_some());
        let looked = |line: &&super::Line| {
            line.method == http::Method::GET && line.path == "/api/v1/namespaces/n"
        };
        let looked = lines.iter().filter(looked).count();
        assert!((1..=60).contains(&looked), "{looked}");
        second.switch_off();
        scene.lead("third", Terms::default());
        scene
            .until("the namespace to go", &namespaces, |all| all.get("", "n").is_none().then_some(()))
            .await;
        scene.rests().await;
        assert!(budgets.get("n", "b").is_none(), "and what was in it");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_has_an_owner_of_an_unknown_kind_stays() {
    play(async |scene| {
        let unknown = json!({"apiVersion": "down.example.com/v1", "kind": "Thing", "name": "t", "uid": "t"});
        for (name, of) in [("a", unknown), ("b", owner("nobody", "nobody"))] {
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "ownerReferences": [of]}});
            scene.create(&CONFIG_MAPS, body).await;
        }
        let first = scene.lead("first", Terms::off_after("configmaps", 1));
        first.is_off().await;
        scene.lead("second", Terms::default());
        scene
            .until("the one whose owner is not there to go", &scene.cluster.config_maps, |maps| {
                maps.get("default", "b").is_none().then_some(())
            })
            .await;
        scene.pass(super::SETTLING).await;
        let lines = scene.pass(super::QUIET * 2).await;
        assert!(scene.cluster.config_maps.get("default", "a").is_some());
        let asked = lines.iter().filter(|line| line.is_of("configmaps")).count();
        assert!(asked <= 30, "{asked}");
        assert!(!lines.iter().any(super::Line::is_write), "{lines:#?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_deleted_in_the_middle_leaves_no_pod_that_nobody_frees() {
    for (off_after, propagation) in [
        (3, Propagation::Background),
        (12, Propagation::Orphan),
        (12, Propagation::Foreground),
    ] {
        play(async |scene| {
            let made = scene
                .create(
                    &JOBS,
                    job(
                        "j",
                        json!({"parallelism": 10, "completions": 10}),
                        "sleep 1000",
                    ),
                )
                .await;
            // Ten are made; the writes after that take finalizers away.
            let first = scene.lead("first", Terms::off_after("pods", off_after.min(10)));
            first.is_off().await;
            let how = DeleteParams {
                propagation: Some(propagation),
                ..DeleteParams::uid(uid(&made))
            };
            let client = &scene.cluster.client;
            client.delete(&JOBS, "default", "j", &how).await.unwrap();
            let second = scene.lead("second", Terms::off_after("pods", 2));
            second.is_off().await;
            scene.lead("third", Terms::default());
            let jobs = scene.cache::<Job>().await;
            scene
                .until("the Job to go", &jobs, |jobs| jobs.is_empty().then_some(()))
                .await;
            scene
                .until("its pods to be free", &scene.cluster.pods, |pods| {
                    let pods = pods.in_namespace("default");
                    let free = pods.iter().all(|pod| pod.metadata.finalizers.is_empty());
                    let gone = propagation == Propagation::Orphan || pods.is_empty();
                    (free && gone).then_some(())
                })
                .await;
            scene.rests().await;
            assert!(scene.ever().len() <= 10, "{:?}", names(&scene));
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_sets_between_which_somebody_moves_pods_do_not_fight() {
    play(async |scene| {
        let labels = |side: &str| json!({"app": "x", "side": side});
        let mut sets = Vec::new();
        for side in ["a", "b"] {
            let body = workload("ReplicaSet", side, 3, &labels(side), "i");
            sets.push(uid(&scene.create(&REPLICA_SETS, body).await));
        }
        let wanted = [(sets[0].as_str(), 3), (sets[1].as_str(), 3)];
        let mut leader = scene.lead("0", Terms::default());
        scene.settled(&wanted).await;
        for round in 1..=5 {
            let pod = scene.cluster.pods.owned_by(&sets[0])[0].clone();
            let body = json!({"metadata": {"labels": {"side": "b"}}});
            let name = &pod.metadata.name;
            let before = scene.ever().len();
            leader.switch_off();
            scene.patch(&PODS, name, body).await;
            // The release is the last that one leader does, the adoption that of the next.
            let releasing = scene.lead(&format!("{round}r"), Terms::off_after("pods", 1));
            releasing.is_off().await;
            // What was written is not yet what a watch has told.
            scene
                .until("it to be let go", &scene.cluster.pods, |pods| {
                    let kept = pods.owned_by(&sets[0]);
                    kept.iter()
                        .all(|kept| kept.metadata.name != *name)
                        .then_some(())
                })
                .await;
            leader = scene.lead(&format!("{round}"), Terms::default());
            scene
                .until("six pods", &scene.cluster.pods, |pods| {
                    (pods.len() == 6).then_some(())
                })
                .await;
            scene.settled(&wanted).await;
            assert_eq!(scene.ever().len(), before + 1, "one is made in its place");
        }
        scene.rests().await;
        scene.settled(&wanted).await;
        // Made, moved, and too many on the other side.
        let writes = scene.count(|line| line.is_write() && line.is_of("pods"));
        assert!(writes <= 6 + 5 * 5, "{writes}");
    })
    .await;
}
