//! Pods whose containers are simulated.

use futures::StreamExt;
use node_agent::{HollowConfig, RuntimeKind};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::Api;
use crate::kubelet::{Node, condition, first, phase, receive};

fn pod(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["nodeName"] = json!("hollow-1");
    if spec.get("restartPolicy").is_none() {
        spec["restartPolicy"] = json!("Always");
    }
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "generation": 1}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hollow_node_runs_pods_and_says_that_it_is_hollow() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(
        &api,
        "hollow-1",
        dir.path(),
        RuntimeKind::Hollow(HollowConfig::default()),
    )
    .await;
    let object = api.get("nodes", "", "hollow-1").unwrap();
    assert_eq!(
        object["metadata"]["labels"]["kubernetes.io/hostname"],
        "hollow-1"
    );
    assert!(object["metadata"]["annotations"]["kontiki.io/hollow"].is_string());

    api.put("pods", pod("web", json!({"containers": [
        {"name": "c", "image": "nginx:1", "imagePullPolicy": "IfNotPresent", "readinessProbe": {"httpGet": {"port": 80}}}]})));
    let web = api
        .wait_pod("web", "ready", |pod| condition(pod, "Ready"))
        .await;
    assert_eq!(phase(web.as_ref()), "Running");
    assert!(first(web.as_ref(), "containerID").starts_with("hollow://"));
    assert_eq!(node.get("/healthz").await, (200, "ok".to_owned()));
    let (status, text) = node.get_as_stranger("/healthz").await;
    let refused =
        "Forbidden (user=somebody, verb=get, resource=nodes, subresource(s)=[healthz proxy])\n";
    assert_eq!((status, text.as_str()), (403, refused));
    let unauthorized = (401, "Unauthorized".to_owned());
    assert_eq!(node.get_with_token("/metrics", None).await, unauthorized);
    assert_eq!(
        node.get_with_token("/pods", Some("bad")).await,
        unauthorized
    );
    for (path, code) in [
        ("/metrics", 200),
        ("/metrics/cadvisor", 200),
        ("/pods", 200),
        ("/stats/summary", 403),
        ("/exec/default/web/c?command=id&output=1", 403),
    ] {
        let (status, text) = node.get_with_token(path, Some("good")).await;
        assert_eq!(status, code, "{path}: {text}");
    }
    assert!(node.get("/pods").await.1.contains("\"web\""));
    let (status, running) = node.get("/runningpods/").await;
    assert!(status == 200 && running.contains("\"web\""), "{running}");
    let (status, text) = node.get("/metrics/probes").await;
    let passed = "probe_type=\"Readiness\",result=\"successful\"} ";
    assert!(status == 200 && text.contains(passed), "{text}");
    let (status, log) = node.get("/containerLogs/default/web/c").await;
    assert!(status == 200 && log.contains("simulated"), "{log}");
    let (status, summary) = node.get("/stats/summary?only_cpu_and_memory=true").await;
    let summary: Value = serde_json::from_str(&summary).unwrap();
    let used = &summary["pods"][0];
    assert_eq!((status, &used["podRef"]["name"]), (200, &json!("web")));
    assert!(
        used["containers"][0]["cpu"]["usageNanoCores"].as_u64() > Some(0),
        "{summary}"
    );
    assert!(
        summary["node"]["cpu"]["usageNanoCores"].as_u64() > used["cpu"]["usageNanoCores"].as_u64()
    );
    let mut busy = api.get("pods", "default", "web").unwrap();
    busy["metadata"]["annotations"]["kontiki.io/usage-cpu"] = json!("1500m");
    busy["metadata"]["annotations"]["kontiki.io/usage-memory"] = json!("1Gi");
    api.put("pods", busy);
    loop {
        let summary: Value = serde_json::from_str(&node.get("/stats/summary").await.1).unwrap();
        let used = &summary["pods"][0]["containers"][0];
        if used["cpu"]["usageNanoCores"] == 1_500_000_000_u64 {
            assert_eq!(used["memory"]["workingSetBytes"], 1_u64 << 30);
            break;
        }
        tokio::task::yield_now().await;
    }
    let (status, text) = node.get("/metrics/resource").await;
    let series = "container_memory_working_set_bytes{container=\"c\",namespace=\"default\",pod=\"web\"} 1073741824 ";
    assert!(status == 200 && text.contains(series), "{text}");
    let (status, text) = node.get("/metrics/cadvisor").await;
    let labels = "image=\"nginx:1\",name=\"";
    assert!(status == 200 && text.contains(labels), "{text}");
    let (status, text) = node.get("/metrics").await;
    for line in [
        "kubelet_node_name{node=\"hollow-1\"} 1",
        "kubelet_running_pods 1",
    ] {
        assert!(status == 200 && text.contains(line), "{line}\n{text}");
    }
    let (_, _, status) = node
        .exec("/exec/default/web/c?command=false&output=1", b"")
        .await;
    assert_eq!(status["details"]["causes"][0]["message"], "1");
    let mut socket = node
        .socket("/portForward/default/web?port=80", "v5.channel.k8s.io")
        .await;
    assert_eq!(receive(&mut socket).await, Some((0, vec![80, 0])));
    assert_eq!(receive(&mut socket).await, Some((1, vec![80, 0])));
    let (channel, text) = receive(&mut socket).await.unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(
        channel == 1 && text.starts_with("error forwarding port 80 to pod web_default, uid "),
        "{text}"
    );
    assert!(text.contains("simulated"), "{text}");
    assert_eq!(receive(&mut socket).await, Some((255, vec![0])));
    assert_eq!(receive(&mut socket).await, Some((255, vec![1])));
    assert_eq!(receive(&mut socket).await, None, "all ports are over");
    let (status, text) = node.get("/portForward/default/web?port=none").await;
    assert_eq!(
        (status, text.as_str()),
        (400, "unable to parse \"none\" as a port")
    );
    assert_eq!(node.get("/portForward/default/nobody?port=80").await.0, 404);
    // No WebSocket is asked for, which is found out last.
    let uid = web.as_ref().unwrap()["metadata"]["uid"].as_str().unwrap();
    for (uid, status) in [(uid, 400), ("another", 404)] {
        for path in [
            format!("/portForward/default/web/{uid}?port=80"),
            format!("/exec/default/web/{uid}/c?command=true&output=1"),
            format!("/attach/default/web/{uid}/c?output=1"),
        ] {
            assert_eq!(node.get(&path).await.0, status, "{path}");
        }
    }
    api.wait_event("web", "Started: Container started").await;

    api.put(
        "pods",
        pod(
            "job",
            json!({"restartPolicy": "Never", "containers": [
        {"name": "c", "image": "x:1", "command": ["sh", "-c", "echo hello; sleep 0.1; exit 3"]}]}),
        ),
    );
    let job = api
        .wait_pod("job", "failed", |pod| phase(pod) == "Failed")
        .await;
    assert_eq!(
        job.unwrap()["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"],
        3
    );
    assert!(
        node.get("/containerLogs/default/job/c")
            .await
            .1
            .contains("hello\n")
    );

    api.put(
        "pods",
        pod(
            "crash",
            json!({"containers": [{"name": "c", "image": "x:1", "command": ["false"]}]}),
        ),
    );
    api.wait_pod("crash", "crash loop", |pod| {
        first(pod, "state/waiting/reason") == "CrashLoopBackOff"
    })
    .await;
    api.wait_event(
        "crash",
        "BackOff: Back-off restarting failed container c in pod crash_default(",
    )
    .await;

    for name in ["web", "job", "crash"] {
        api.delete_pod(name, 5);
        api.wait_pod(name, "gone", |pod| pod.is_none()).await;
    }
    // Somebody takes the node for dead, and it says that it is not.
    let mut object = api.wait_object("nodes", "", "hollow-1").await;
    for condition in object["status"]["conditions"].as_array_mut().unwrap() {
        condition["status"] = json!("Unknown");
    }
    api.put("nodes", object);
    let ready = |node: Option<&Value>| condition(node, "Ready");
    api.wait("nodes", "", "hollow-1", "ready again", ready)
        .await;
    // A stream that is open when the agent ends, ends with it.
    api.put(
        "pods",
        pod(
            "open",
            json!({"containers": [{"name": "c", "image": "x:1"}]}),
        ),
    );
    api.wait_pod("open", "running", |pod| phase(pod) == "Running")
        .await;
    let path = "/attach/default/open/c?output=1";
    let mut open = node.socket(path, "v5.channel.k8s.io").await;
    assert_eq!(receive(&mut open).await.unwrap().0, 1);
    let lease = api
        .wait_object("leases", "kube-node-lease", "hollow-1")
        .await;
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);
    node.stop().await;
    let end = async { while let Some(Ok(_)) = open.next().await {} };
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), end).await;
    assert!(ended.is_ok(), "the stream outlives its agent");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_references_are_reported_and_heal() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(
        &api,
        "hollow-1",
        dir.path(),
        RuntimeKind::Hollow(HollowConfig::default()),
    )
    .await;
    api.put(
        "pods",
        pod(
            "waits",
            json!({
        "volumes": [{"name": "v", "configMap": {"name": "late"}}],
        "containers": [{"name": "c", "image": "x:1", "env": [
            {"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}),
        ),
    );
    api.wait_event(
        "waits",
        "FailedMount: MountVolume.SetUp failed for volume \"v\" : configmap \"late\" not found",
    )
    .await;
    api.put(
        "configmaps",
        json!({"metadata": {"name": "late", "namespace": "default"}, "data": {}}),
    );
    let message = "secret \"s\" not found";
    api.wait_pod("waits", "config error", |pod| {
        first(pod, "state/waiting/message") == message
    })
    .await;
    api.put(
        "secrets",
        json!({"metadata": {"name": "s", "namespace": "default"}, "data": {"k": "eA=="}}),
    );
    api.wait_pod("waits", "running", |pod| phase(pod) == "Running")
        .await;
    api.put(
        "pods",
        pod(
            "late",
            json!({"activeDeadlineSeconds": 1, "containers": [{"name": "c", "image": "x:1"}]}),
        ),
    );
    let late = api
        .wait_pod("late", "failed", |pod| phase(pod) == "Failed")
        .await
        .unwrap();
    assert_eq!(late["status"]["reason"], "DeadlineExceeded");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_other_amounts_as_far_as_there_is_room() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let config = HollowConfig {
        cpu_count: 4,
        ..HollowConfig::default()
    };
    let node = Node::start(&api, "hollow-1", dir.path(), RuntimeKind::Hollow(config)).await;
    let container = |cpu: &str| {
        json!([{"name": "c", "image": "x:1", "resources": {"requests": {"cpu": cpu}},
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]}])
    };
    for name in ["one", "other"] {
        api.put("pods", pod(name, json!({"containers": container("1")})));
        api.wait_pod(name, "running", |pod| phase(pod) == "Running")
            .await;
    }
    let resize = |name: &str, cpu: &str| {
        let mut object = api.get("pods", "default", name).unwrap();
        object["spec"]["containers"] = container(cpu);
        let generation = object["metadata"]["generation"].as_i64().unwrap_or(1);
        object["metadata"]["generation"] = json!(generation + 1);
        api.put("pods", object);
    };
    resize("one", "2");
    let one = api
        .wait_pod("one", "resized", |pod| {
            first(pod, "allocatedResources/cpu") == "2"
        })
        .await;
    assert_eq!(first(one.as_ref(), "resources/requests/cpu"), "2");
    api.wait_event("one", "ResizeStarted: Pod resize started: {")
        .await;
    api.wait_event("one", "ResizeCompleted: Pod resize completed: {")
        .await;

    let reason = |pod: Option<&Value>| {
        let conditions = pod?["status"]["conditions"].as_array()?;
        let mut all = conditions.iter();
        let pending = all.find(|one| one["type"] == "PodResizePending")?;
        pending["reason"].as_str().map(str::to_owned)
    };
    resize("other", "9");
    let is =
        |wanted: &'static str| move |pod: Option<&Value>| reason(pod).as_deref() == Some(wanted);
    let other = api.wait_pod("other", "infeasible", is("Infeasible")).await;
    assert_eq!(first(other.as_ref(), "allocatedResources/cpu"), "1");
    resize("other", "3");
    api.wait_pod("other", "deferred", is("Deferred")).await;
    resize("one", "500m");
    let other = api
        .wait_pod("other", "resized", |pod| {
            first(pod, "allocatedResources/cpu") == "3" && reason(pod).is_none()
        })
        .await;
    assert_eq!(
        other.unwrap()["status"]["containerStatuses"][0]["restartCount"],
        0
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hollow_pod_is_ready_after_the_delay_of_its_probe() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let hollow = RuntimeKind::Hollow(HollowConfig::default());
    let node = Node::start(&api, "hollow-1", dir.path(), hollow).await;
    let probe = json!({"httpGet": {"port": 80}, "initialDelaySeconds": 3});
    let container = json!({"name": "c", "image": "nginx:1", "readinessProbe": probe});
    api.put("pods", pod("late", json!({"containers": [container]})));
    let late = api
        .wait_pod("late", "ready", |pod| condition(pod, "Ready"))
        .await;
    let conditions = &late.as_ref().unwrap()["status"]["conditions"];
    let ready = conditions.as_array().into_iter().flatten();
    let ready = ready.filter(|condition| condition["type"] == "Ready");
    let ready_at = ready.filter_map(|condition| condition["lastTransitionTime"].as_str());
    let started_at = first(late.as_ref(), "state/running/startedAt");
    let seconds = |text: &str| {
        OffsetDateTime::parse(text, &Rfc3339)
            .unwrap()
            .unix_timestamp()
    };
    let waited: Vec<i64> = ready_at
        .map(|at| seconds(at) - seconds(started_at))
        .collect();
    assert!(matches!(waited[..], [waited] if waited >= 3), "{late:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hollow_pod_asks_for_no_part_outside_its_volumes() {
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let hollow = RuntimeKind::Hollow(HollowConfig::default());
    let node = Node::start(&api, "hollow-1", dir.path(), hollow).await;
    for (name, value, message) in [
        (
            "absolute",
            "/tmp",
            "error SubPath `/tmp` must not be an absolute path",
        ),
        (
            "back",
            "..",
            "unable to provision SubPath `..`: must not contain '..'",
        ),
        ("empty", "", "missing value for PART"),
    ] {
        let mount = json!({"name": "v", "mountPath": "/v", "subPathExpr": "$(PART)"});
        let env = json!([{"name": "PART", "value": value}]);
        let container =
            json!({"name": "c", "image": "nginx:1", "env": env, "volumeMounts": [mount]});
        let volume = json!({"name": "v", "emptyDir": {}});
        api.put(
            "pods",
            pod(
                name,
                json!({"containers": [container], "volumes": [volume]}),
            ),
        );
        let refused = |pod: Option<&Value>| {
            first(pod, "state/waiting/reason") == "CreateContainerConfigError"
        };
        let refused = api.wait_pod(name, "refused", refused).await;
        assert_eq!(first(refused.as_ref(), "state/waiting/message"), message);
    }
    node.stop().await;
}
