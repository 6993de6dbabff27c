//! The life of containers on a real Docker daemon: probes, hooks, sidecars, limits, last words.

use std::fs;
use std::path::Path;

use node_agent::RuntimeKind;
use serde_json::{Value, json};

use crate::api::Api;
use crate::docker::{exec_path, image_is_ready, pod, sh};
use crate::kubelet::{Node, condition, first, phase};

/// A volume on the node that a test can read after the pod has gone.
fn outside(dir: &Path) -> Value {
    json!([{"name": "out", "hostPath": {"path": dir, "type": "DirectoryOrCreate"}}])
}

fn mount() -> Value {
    json!([{"name": "out", "mountPath": "/out"}])
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_run_and_containers_end_in_order() {
    if !image_is_ready() {
        return;
    }
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, "docker-hooks", dir.path(), RuntimeKind::Docker).await;
    let out = dir.path().join("out");
    let ends = |name: &str| {
        sh(&format!(
            "trap 'sleep 0.3; echo {name} >> /out/log; exit 0' TERM; touch /out/{name}; while :; do sleep 0.05; done"
        ))
    };
    let started = |name: &str| json!({"exec": {"command": ["test", "-e", format!("/out/{name}")]}, "periodSeconds": 1, "failureThreshold": 60});
    api.put("pods", pod("hooks", "docker-hooks", json!({
        "volumes": outside(&out),
        "initContainers": [
            {"name": "s1", "restartPolicy": "Always", "command": ends("s1"), "startupProbe": started("s1"), "volumeMounts": mount()},
            {"name": "s2", "restartPolicy": "Always", "command": ends("s2"), "startupProbe": started("s2"), "volumeMounts": mount()},
        ],
        "containers": [{"name": "app", "command": ends("app"), "volumeMounts": mount(), "readinessProbe": started("app"),
            "lifecycle": {
                "postStart": {"exec": {"command": sh("echo postStart >> /out/log")}},
                "preStop": {"exec": {"command": sh("echo preStop >> /out/log")}}}}],
    })));
    api.wait_pod("hooks", "ready", |pod| condition(pod, "Ready"))
        .await;
    api.delete_pod("hooks", 20);
    api.wait_pod("hooks", "gone", |pod| pod.is_none()).await;
    let log = fs::read_to_string(out.join("log")).unwrap();
    assert_eq!(log, "postStart\npreStop\napp\ns2\ns1\n");

    // A hook that takes longer than the grace period does not hold up the end; one that fails is told of.
    api.put(
        "pods",
        pod(
            "slow",
            "docker-hooks",
            json!({"containers": [{"name": "c", "command": sh("sleep 3600"),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "3600"]}}}}]}),
        ),
    );
    api.put(
        "pods",
        pod(
            "broken",
            "docker-hooks",
            json!({"containers": [{"name": "c", "command": sh("sleep 3600"),
        "lifecycle": {"postStart": {"exec": {"command": ["false"]}}}}]}),
        ),
    );
    api.wait_event("broken", "FailedPostStartHook: PostStartHook failed")
        .await;
    api.wait_pod("broken", "hook error", |pod| {
        first(pod, "state/waiting/reason") == "PostStartHookError"
    })
    .await;
    api.wait_pod("slow", "running", |pod| phase(pod) == "Running")
        .await;
    let begun = std::time::Instant::now();
    for name in ["slow", "broken"] {
        api.delete_pod(name, 1);
    }
    for name in ["slow", "broken"] {
        api.wait_pod(name, "gone", |pod| pod.is_none()).await;
    }
    let took = begun.elapsed().as_secs();
    assert!(took < 25, "{took} s");
    api.wait_event("slow", "FailedPreStopHook: PreStopHook failed")
        .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_decide_over_readiness_and_life() {
    if !image_is_ready() {
        return;
    }
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, "docker-probes", dir.path(), RuntimeKind::Docker).await;
    api.put("pods", pod("ready", "docker-probes", json!({"containers": [{"name": "c", "command": sh("touch /tmp/up; sleep 3600"),
        "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 1}}]})));
    api.put("pods", pod("stuck", "docker-probes", json!({"containers": [{"name": "c", "command": sh("sleep 3600"),
        "startupProbe": {"tcpSocket": {"port": 81}, "periodSeconds": 1, "failureThreshold": 2},
        "livenessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}}]})));
    let hang = "echo $$ >> /tmp/pids; exec sleep 1000";
    api.put("pods", pod("hangs", "docker-probes", json!({"containers": [{"name": "c", "command": sh("sleep 3600"),
        "readinessProbe": {"exec": {"command": sh(hang)}, "periodSeconds": 1, "timeoutSeconds": 1}}]})));
    api.put("pods", pod("once", "docker-probes", json!({"restartPolicy": "Never", "containers": [{"name": "c", "command": sh("sleep 3600"),
        "livenessProbe": {"httpGet": {"port": 81}, "periodSeconds": 1, "failureThreshold": 1}}]})));
    api.wait_pod("ready", "ready", |pod| condition(pod, "Ready"))
        .await;
    node.exec(&exec_path("ready", "c", "rm /tmp/up"), b"").await;
    let unready = api
        .wait_pod("ready", "unready", |pod| !condition(pod, "Ready"))
        .await;
    assert_eq!(phase(unready.as_ref()), "Running");
    assert!(!condition(unready.as_ref(), "ContainersReady"));
    api.wait_event("ready", "Unhealthy: Readiness probe failed: ")
        .await;
    node.exec(&exec_path("ready", "c", "touch /tmp/up"), b"")
        .await;
    let again = api
        .wait_pod("ready", "ready again", |pod| condition(pod, "Ready"))
        .await;
    assert_eq!(
        again.unwrap()["status"]["containerStatuses"][0]["restartCount"],
        0,
        "an unready container is left alone"
    );

    api.wait_event(
        "stuck",
        "Killing: Container c failed startup probe, will be restarted",
    )
    .await;
    api.wait_pod("stuck", "restarted", |pod| {
        pod.is_some_and(|pod| {
            pod["status"]["containerStatuses"][0]["restartCount"]
                .as_i64()
                .is_some_and(|count| count > 0)
        })
    })
    .await;
    let early = |event: &String| event.starts_with("Unhealthy: Liveness");
    assert!(
        !api.events_of("stuck").iter().any(early),
        "liveness waits for startup"
    );
    // A probe that does not end in time has failed, and its process is gone.
    api.wait_event("hangs", "Unhealthy: Readiness probe failed: command \"sh -c echo $$ >> /tmp/pids; exec sleep 1000\" timed out after 1s")
        .await;
    let script = "p=$(busybox head -n 1 /tmp/pids); i=0; while kill -0 $p; do i=$((i+1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done";
    let (_, _, status) = node.exec(&exec_path("hangs", "c", script), b"").await;
    assert_eq!(
        status["status"], "Success",
        "the first probe's process is still there"
    );

    let once = api
        .wait_pod("once", "failed", |pod| phase(pod) == "Failed")
        .await;
    assert_eq!(first(once.as_ref(), "state/terminated/reason"), "Error");
    api.wait_event("once", "Killing: Container c failed liveness probe")
        .await;
    let killing = api.events_of("once");
    assert!(
        killing.contains(&"Killing: Container c failed liveness probe".to_owned()),
        "{killing:#?}"
    );
    for name in ["ready", "stuck", "hangs", "once"] {
        api.delete_pod(name, 0);
    }
    for name in ["ready", "stuck", "hangs", "once"] {
        api.wait_pod(name, "gone", |pod| pod.is_none()).await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_are_told_with_their_reason_and_last_words() {
    if !image_is_ready() {
        return;
    }
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, "docker-ends", dir.path(), RuntimeKind::Docker).await;
    let never = |name: &str, container: Value, init: Value| {
        let mut container = container;
        container["name"] = json!("c");
        pod(
            name,
            "docker-ends",
            json!({"restartPolicy": "Never", "containers": [container], "initContainers": init}),
        )
    };
    let eat = "x=0123456789abcdef; while :; do x=$x$x; done";
    api.put(
        "pods",
        never(
            "greedy",
            json!({"command": sh(eat), "resources": {"limits": {"memory": "16Mi"}}}),
            json!([]),
        ),
    );
    api.put("pods", never("spoken", json!({"command": sh("echo said > /tmp/words; exit 1"), "terminationMessagePath": "/tmp/words"}), json!([])));
    api.put("pods", never("logged", json!({"command": sh("echo from the log; exit 1"), "terminationMessagePolicy": "FallbackToLogsOnError"}), json!([])));
    api.put(
        "pods",
        never(
            "uninitialised",
            json!({"command": sh("true")}),
            json!([{"name": "i", "command": sh("exit 4")}]),
        ),
    );
    api.put(
        "pods",
        never(
            "absent",
            json!({"image": "kontiki-test/absent:1", "imagePullPolicy": "Never"}),
            json!([]),
        ),
    );
    let failed = |pod: Option<&Value>| phase(pod) == "Failed";
    let absent = api
        .wait_pod("absent", "refused", |pod| {
            first(pod, "state/waiting/reason") == "ErrImageNeverPull"
        })
        .await;
    let message =
        "Container image \"kontiki-test/absent:1\" is not present with pull policy of Never";
    assert_eq!(first(absent.as_ref(), "state/waiting/message"), message);
    api.wait_event("absent", &format!("ErrImageNeverPull: {message}"))
        .await;
    api.wait_event("absent", "Failed: Error: ErrImageNeverPull")
        .await;
    let greedy = api.wait_pod("greedy", "failed", failed).await;
    let state = &greedy.as_ref().unwrap()["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&state["reason"], &state["exitCode"]),
        (&json!("OOMKilled"), &json!(137))
    );
    for (name, message) in [("spoken", "said\n"), ("logged", "from the log\n")] {
        let pod = api.wait_pod(name, "failed", failed).await;
        assert_eq!(first(pod.as_ref(), "state/terminated/message"), message);
    }
    let pod = api.wait_pod("uninitialised", "failed", failed).await;
    let init = &pod.as_ref().unwrap()["status"]["initContainerStatuses"][0];
    assert_eq!(init["state"]["terminated"]["exitCode"], 4);
    assert_eq!(
        first(pod.as_ref(), "state/waiting/reason"),
        "PodInitializing"
    );
    assert!(!condition(pod.as_ref(), "Initialized"));
    for name in ["greedy", "spoken", "logged", "uninitialised", "absent"] {
        api.delete_pod(name, 0);
        api.wait_pod(name, "gone", |pod| pod.is_none()).await;
    }
    node.stop().await;
}
