//! Updates in the middle of which leaders are switched off.

use super::{QUIET, Terms, play_on_nodes, uid, workload};
use agent_runtime::resource_ref::{DAEMON_SETS, DEPLOYMENTS, STATEFUL_SETS};
use serde_json::json;

const NODES: u32 = 3;
const WEB: i32 = 10;
const STATEFUL: i64 = 5;

#[tokio::test(start_paused = true)]
async fn updates_whose_leaders_are_switched_off_replace_each_pod_once() {
    for off_after in [1, 4, 9] {
        play_on_nodes(NODES, async |scene| {
            scene.cluster.create_deployment(WEB, "one").await;
            let body = workload("StatefulSet", "s", STATEFUL, &json!({"app": "s"}), "one");
            let stateful = uid(&scene.create(&STATEFUL_SETS, body).await);
            let mut body = workload("DaemonSet", "d", 0, &json!({"app": "d"}), "one");
            body["spec"].as_object_mut().unwrap().remove("replicas");
            let daemons = uid(&scene.create(&DAEMON_SETS, body).await);
            let wanted = [(stateful.as_str(), 5), (daemons.as_str(), 3)];
            let before = scene.lead("0", Terms::default());
            scene.cluster.until_rolled_out("web", WEB).await;
            scene.settled(&wanted).await;
            before.switch_off();
            assert_eq!(scene.ever().len(), 18);

            let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
            for (resource, name) in [(&DEPLOYMENTS, "web"), (&STATEFUL_SETS, "s"), (&DAEMON_SETS, "d")] {
                scene.patch(resource, name, image.clone()).await;
            }
            for leader in ["1", "2"] {
                let leader = scene.lead(leader, Terms::off_after("pods", off_after));
                leader.is_off().await;
            }
            scene.lead("3", Terms::default());
            scene
                .until("the new image everywhere", &scene.cluster.pods, |pods| {
                    let pods = pods.list();
                    let is_new = |pod: &std::sync::Arc<agent_runtime::kinds::Pod>| {
                        pod.spec.containers.iter().all(|c| c.image == "two")
                    };
                    (pods.len() == 18 && pods.iter().all(is_new)).then_some(())
                })
                .await;
            scene.cluster.until_rolled_out("web", WEB).await;
            scene.settled(&wanted).await;
            let lines = scene.pass(QUIET).await;
            let of_pods: Vec<_> = lines.iter().filter(|line| line.is_write() && line.is_of("pods")).collect();
            assert!(of_pods.is_empty(), "{of_pods:#?}");
            assert_eq!(scene.ever().len(), 2 * 18, "each of before has one in its place");
        })
        .await;
    }
}
