//! Pods on a real Docker daemon; skipped, saying so, where none answers.

use std::path::Path;
use std::process::Command;

use node_agent::RuntimeKind;
use serde_json::{Value, json};

use crate::api::Api;
use crate::kubelet::{Node, condition, first, phase};

const IMAGE: &str = "kontiki-test/busybox:1";

/// Says why a test does not run.
pub(crate) fn skip(why: &str) -> bool {
    eprintln!("skipped: {why}");
    false
}

/// Imports a static busybox as an image. False, with the reason printed, when there is no Docker or no busybox.
pub(crate) fn image_is_ready() -> bool {
    import_image(&[])
}

/// The same on the daemon that these options of `docker` name.
pub(crate) fn import_image(options: &[&str]) -> bool {
    let docker = |arguments: &[&str]| {
        let run = Command::new("docker")
            .args(options)
            .args(arguments)
            .output();
        run.is_ok_and(|out| out.status.success())
    };
    if !docker(&["version"]) {
        return skip("no Docker daemon answers");
    }
    if docker(&["image", "inspect", IMAGE]) {
        return true;
    }
    let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists())
    else {
        return skip("no static busybox to make an image of");
    };
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "mkdir -p {0}/bin {0}/tmp {0}/etc && cp {busybox} {0}/bin/busybox && chmod 1777 {0}/tmp && \
         for name in sh sleep cat echo ls httpd nc id wget kill env hostname stat touch test true false mount; do ln -sf busybox {0}/bin/$name; done && \
         tar -C {0} -c . | docker {1} import -c 'ENV PATH=/bin' - {IMAGE}",
        dir.path().display(),
        options.join(" ")
    );
    let made = Command::new("sh").args(["-c", &script]).output().unwrap();
    if !made.status.success() {
        return skip(&String::from_utf8_lossy(&made.stderr));
    }
    true
}

pub(crate) fn pod(name: &str, node: &str, mut spec: Value) -> Value {
    spec["nodeName"] = json!(node);
    if spec.get("restartPolicy").is_none() {
        spec["restartPolicy"] = json!("Always");
    }
    spec["terminationGracePeriodSeconds"] = json!(2);
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            container["image"] = container.get("image").cloned().unwrap_or(json!(IMAGE));
            if container.get("imagePullPolicy").is_none() {
                container["imagePullPolicy"] = json!("IfNotPresent");
            }
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "generation": 1, "labels": {"app": name}}, "spec": spec})
}

pub(crate) fn sh(script: &str) -> Value {
    json!(["sh", "-c", script])
}

pub(crate) fn exec_path(pod: &str, container: &str, script: &str) -> String {
    let script: String = script
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    format!(
        "/exec/default/{pod}/{container}?command=sh&command=-c&command={script}&output=1&error=1&input=1"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_what_its_containers_use() {
    if !image_is_ready() {
        return;
    }
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, "docker-u", dir.path(), RuntimeKind::Docker).await;
    let busy = sh("while true; do true; done");
    let containers = json!([{"name": "busy", "command": busy, "resources": {"limits": {"cpu": "200m"}}}, {"name": "idle", "command": sh("sleep 1000")}]);
    api.put(
        "pods",
        pod(
            "load",
            "docker-u",
            json!({"containers": containers, "automountServiceAccountToken": false}),
        ),
    );
    api.wait_pod("load", "ready", |pod| condition(pod, "Ready"))
        .await;
    // The node measures at its own pace: after a start the counters since then are enough.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let (status, text) = node.get("/stats/summary").await;
        let summary: Value = serde_json::from_str(&text).unwrap();
        let containers = summary["pods"][0]["containers"].as_array().cloned();
        let of = |name: &str| {
            let all = containers.iter().flatten();
            let one = all.clone().find(|one| one["name"] == name)?;
            let cpu = one["cpu"]["usageNanoCores"].as_u64()?;
            Some((cpu, one["memory"]["workingSetBytes"].as_u64()?))
        };
        if let (Some((busy, memory)), Some((idle, _))) = (of("busy"), of("idle")) {
            assert_eq!(status, 200);
            // A fifth of a core is allowed, and a busy machine may give less.
            assert!((20_000_000..300_000_000).contains(&busy), "{text}");
            assert!(idle < busy && memory > 0, "{text}");
            assert!(summary["pods"][0]["network"]["rxBytes"].is_u64(), "{text}");
            assert!(summary["node"]["cpu"]["usageNanoCores"].is_u64(), "{text}");
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{text}");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    api.delete_pod("load", 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_share_network_and_volumes_and_see_their_configuration() {
    if !image_is_ready() {
        return;
    }
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, "docker-a", dir.path(), RuntimeKind::Docker).await;
    api.put(
        "configmaps",
        json!({"metadata": {"name": "cm", "namespace": "default"}, "data": {"greeting": "hello"}}),
    );
    api.put(
        "secrets",
        json!({"metadata": {"name": "sec", "namespace": "default"}, "data": {"pw": "aHVudGVy"}}),
    );
    api.put("configmaps", json!({"metadata": {"name": "kube-root-ca.crt", "namespace": "default"}, "data": {"ca.crt": "CA"}}));
    api.put("services", json!({"metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}}));
    api.put("pods", pod("both", "docker-a", json!({
        "securityContext": {"fsGroup": 4242},
        "volumes": [
            {"name": "shared", "emptyDir": {}},
            {"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "cm", "configMap": {"name": "cm"}},
            {"name": "down", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"name": "token", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}},
        ],
        "initContainers": [
            {"name": "first", "command": sh("echo from-init > /shared/init"), "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
            {"name": "side", "restartPolicy": "Always", "command": sh("touch /shared/side; sleep 3600"),
             "startupProbe": {"exec": {"command": ["test", "-e", "/shared/side"]}, "periodSeconds": 1, "failureThreshold": 30},
             "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
        ],
        "containers": [
            {"name": "web", "command": sh("echo $(POD_IP) started; httpd -f -p 8080 -h /shared"),
             "ports": [{"name": "http", "containerPort": 8080}],
             "readinessProbe": {"httpGet": {"path": "/init", "port": "http"}, "periodSeconds": 1},
             "livenessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
             "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}, "requests": {"memory": "32Mi"}},
             "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                     {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}}],
             "envFrom": [{"configMapRef": {"name": "cm"}}],
             "volumeMounts": [{"name": "shared", "mountPath": "/shared"}, {"name": "cm", "mountPath": "/etc/cm"},
                              {"name": "fast", "mountPath": "/fast"},
                              {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}]},
            {"name": "peer", "command": sh("sleep 3600"), "lifecycle": {"postStart": {"exec": {"command": ["touch", "/tmp/hooked"]}}},
             "volumeMounts": [{"name": "shared", "mountPath": "/data", "subPath": "sub"}, {"name": "down", "mountPath": "/down"}]},
        ],
    })));
    let both = api
        .wait_pod("both", "ready", |pod| condition(pod, "Ready"))
        .await;
    let ip = both.as_ref().unwrap()["status"]["podIP"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(first(both.as_ref(), "imageID").starts_with("docker://sha256:"));
    assert_eq!(first(both.as_ref(), "name"), "web");

    let (out, err, status) = node
        .exec(
            &exec_path(
                "both",
                "peer",
                "wget -q -O - http://127.0.0.1:8080/init; ls /tmp; hostname; cat /etc/hosts",
            ),
            b"",
        )
        .await;
    assert_eq!(status["status"], "Success", "{out}{err}");
    assert!(
        out.starts_with("from-init\nhooked\nboth\n") && out.contains(&format!("{ip}\tboth\n")),
        "{out}"
    );
    let script = "echo $PW $greeting $KUBERNETES_SERVICE_HOST; cat /etc/cm/greeting /var/run/secrets/kubernetes.io/serviceaccount/token /var/run/secrets/kubernetes.io/serviceaccount/namespace; stat -c %g /shared; ls -d /shared/sub";
    let (out, err, _) = node.exec(&exec_path("both", "web", script), b"").await;
    assert_eq!(
        out, "hunter hello 10.96.0.1\nhellotoken-of-default-defaultdefault4242\n/shared/sub\n",
        "{err}"
    );
    let (out, _, status) = node
        .exec(
            &exec_path("both", "web", "cat; echo oops >&2; exit 7"),
            b"piped input",
        )
        .await;
    assert_eq!(
        (out.as_str(), &status["details"]["causes"][0]["message"]),
        ("piped input", &json!("7"))
    );

    let (status, log) = node
        .get("/containerLogs/default/both/web?timestamps=true&tailLines=1")
        .await;
    assert!(
        status == 200 && log.ends_with(&format!("Z {ip} started\n")),
        "{log}"
    );
    assert_eq!(
        node.get("/containerLogs/default/both/nope").await,
        (
            404,
            "container \"nope\" not found in pod \"both\"".to_owned()
        )
    );
    assert_eq!(
        node.get("/containerLogs/default/both/web?previous=true")
            .await,
        (
            400,
            "previous terminated container \"web\" in pod \"both\" not found".to_owned()
        )
    );

    api.put("configmaps", json!({"metadata": {"name": "cm", "namespace": "default"}, "data": {"greeting": "changed"}}));
    let mut relabelled = api.get("pods", "default", "both").unwrap();
    relabelled["metadata"]["labels"]["app"] = json!("new");
    api.put("pods", relabelled);
    for (container, file, expected) in [
        ("web", "/etc/cm/greeting", "changed"),
        ("peer", "/down/labels", "app=\"new\""),
    ] {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let path = exec_path("both", container, &format!("cat {file}"));
            let seen = node.exec(&path, b"").await.0;
            if seen == expected {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{file}: {seen}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    api.delete_pod("both", 2);
    api.wait_pod("both", "gone", |pod| pod.is_none()).await;
    assert_eq!(
        std::fs::read_dir(dir.path().join("pods")).unwrap().count(),
        0
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_restarts_and_adoption() {
    if !image_is_ready() {
        return;
    }
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, "docker-b", dir.path(), RuntimeKind::Docker).await;
    api.put(
        "pods",
        pod(
            "crash",
            "docker-b",
            json!({"containers": [
        {"name": "c", "command": sh("echo run; echo last words > /dev/termination-log; exit 5")}]}),
        ),
    );
    api.put("pods", pod("sick", "docker-b", json!({"containers": [
        {"name": "c", "command": sh("sleep 3600"),
         "livenessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}}]})));
    api.put(
        "pods",
        pod(
            "steady",
            "docker-b",
            json!({"containers": [{"name": "c", "command": sh("i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done")}]}),
        ),
    );
    api.put("pods", pod("done", "docker-b", json!({"restartPolicy": "Never", "containers": [{"name": "c", "command": sh("exit 0")}]})));
    api.put(
        "pods",
        pod(
            "noimage",
            "docker-b",
            json!({"containers": [{"name": "c", "image": "registry.invalid/none:1"}]}),
        ),
    );
    api.put("pods", pod("nocommand", "docker-b", json!({"restartPolicy": "Never", "containers": [{"name": "c", "command": ["/no/such"]}]})));

    let crash = api
        .wait_pod("crash", "crash loop", |pod| {
            first(pod, "state/waiting/reason") == "CrashLoopBackOff"
        })
        .await;
    let status = &crash.as_ref().unwrap()["status"]["containerStatuses"][0];
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 5);
    assert_eq!(status["lastState"]["terminated"]["message"], "last words\n");
    let (_, log) = node
        .get("/containerLogs/default/crash/c?previous=true")
        .await;
    assert_eq!(log, "run\n");
    api.wait_event("sick", "Unhealthy: Liveness probe failed: ")
        .await;
    api.wait_event(
        "sick",
        "Killing: Container c failed liveness probe, will be restarted",
    )
    .await;
    api.wait_pod("done", "succeeded", |pod| phase(pod) == "Succeeded")
        .await;
    api.wait_pod("noimage", "pull error", |pod| {
        first(pod, "state/waiting/reason").contains("ImagePull")
    })
    .await;
    let (status, text) = node.get("/containerLogs/default/noimage/c").await;
    assert!(
        status == 400
            && text.starts_with("container \"c\" in pod \"noimage\" is waiting to start: "),
        "{text}"
    );
    api.wait_pod("noimage", "back-off", |pod| {
        first(pod, "state/waiting/reason") == "ImagePullBackOff"
    })
    .await;
    let nocommand = api
        .wait_pod("nocommand", "failed", |pod| phase(pod) == "Failed")
        .await;
    assert_eq!(
        first(nocommand.as_ref(), "state/terminated/reason"),
        "StartError"
    );

    let steady = api
        .wait_pod("steady", "running", |pod| phase(pod) == "Running")
        .await;
    let id = first(steady.as_ref(), "containerID").to_owned();
    node.stop().await;
    let node = Node::start(&api, "docker-b", dir.path(), RuntimeKind::Docker).await;
    let (_, _, status) = node.exec(&exec_path("steady", "c", "true"), b"").await;
    assert_eq!(status["status"], "Success");
    let steady = api.get("pods", "default", "steady");
    assert_eq!(
        first(steady.as_ref(), "containerID"),
        id,
        "a restart of the agent does not touch containers"
    );
    assert_eq!(
        steady.unwrap()["status"]["containerStatuses"][0]["restartCount"],
        0
    );

    let written = |log: &str| {
        let numbers: Vec<usize> = log
            .lines()
            .filter_map(|line| line.strip_prefix("line ")?.parse().ok())
            .collect();
        assert!(numbers.iter().copied().eq(1..=numbers.len()), "{log}");
        numbers.len()
    };
    let log = "/containerLogs/default/steady/c";
    let so_far = written(&node.get(log).await.1);
    let (_, followed) = node
        .get(&format!(
            "{log}?follow=true&limitBytes={}",
            20 * (so_far + 20)
        ))
        .await;
    let complete = followed.rsplit_once('\n').unwrap().0;
    assert!(
        so_far > 0 && written(complete) > so_far,
        "logs go on where they were"
    );

    // A container that is killed comes back; a sandbox that is killed takes its containers with it.
    let kill = |id: &str| Command::new("docker").args(["kill", id]).output().unwrap();
    kill(id.trim_start_matches("docker://"));
    let restarted = |pod: Option<&Value>| {
        pod.is_some_and(|pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1)
            && phase(pod) == "Running"
            && condition(pod, "Ready")
    };
    api.wait_pod("steady", "restarted", restarted).await;
    let owner = format!("label=io.kontiki.owner=docker-b@{}", dir.path().display());
    let labels = [
        "label=io.kubernetes.pod.name=steady",
        "label=io.kubernetes.container.name=POD",
        owner.as_str(),
    ];
    let filters = labels.iter().flat_map(|label| ["--filter", label]);
    let listed = Command::new("docker")
        .args(["ps", "-q"])
        .args(filters)
        .output()
        .unwrap();
    let sandbox = String::from_utf8(listed.stdout).unwrap();
    kill(sandbox.trim());
    let again = |pod: Option<&Value>| {
        pod.is_some_and(|pod| pod["status"]["containerStatuses"][0]["restartCount"] == 2)
            && condition(pod, "Ready")
    };
    api.wait_pod("steady", "in a new sandbox", again).await;
    api.wait_event("steady", "SandboxChanged").await;

    for name in ["crash", "sick", "steady", "done", "noimage", "nocommand"] {
        api.delete_pod(name, 1);
    }
    for name in ["crash", "sick", "steady", "done", "noimage", "nocommand"] {
        api.wait_pod(name, "gone", |pod| pod.is_none()).await;
    }
    let left = Command::new("docker")
        .args(["ps", "-aq", "--filter", &owner])
        .output()
        .unwrap();
    assert!(left.stdout.is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_container_gets_other_limits() {
    if !image_is_ready() {
        return;
    }
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, "docker-r", dir.path(), RuntimeKind::Docker).await;
    let containers = |cpu: &str, memory: &str| {
        json!([{"name": "c", "command": sh("sleep 3600"), "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                "resources": {"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": "100m", "memory": "16Mi"}},
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"},
                                 {"resourceName": "memory", "restartPolicy": "RestartContainer"}]}])
    };
    let spec =
        json!({"containers": containers("200m", "32Mi"), "automountServiceAccountToken": false});
    api.put("pods", pod("grows", "docker-r", spec));
    let before = api
        .wait_pod("grows", "ready", |pod| condition(pod, "Ready"))
        .await;
    let limits = |pod: Option<&Value>| {
        let id = first(pod, "containerID")
            .trim_start_matches("docker://")
            .to_owned();
        let format = "{{.HostConfig.CpuQuota}} {{.HostConfig.Memory}}";
        let shown = Command::new("docker")
            .args(["inspect", "--format", format, id.as_str()])
            .output();
        let text = String::from_utf8(shown.unwrap().stdout).unwrap();
        (id, text.trim().to_owned())
    };
    let (first_id, told) = limits(before.as_ref());
    if told != "20000 33554432" {
        skip("this Docker does not keep limits");
        return;
    }
    let resize = |containers: Value| {
        let mut object = api.get("pods", "default", "grows").unwrap();
        object["spec"]["containers"] = containers;
        let generation = object["metadata"]["generation"].as_i64().unwrap_or(1);
        object["metadata"]["generation"] = json!(generation + 1);
        api.put("pods", object);
    };
    resize(containers("400m", "32Mi"));
    let after = api
        .wait_pod("grows", "more of a processor", |pod| {
            first(pod, "resources/limits/cpu") == "400m"
        })
        .await;
    assert_eq!(
        limits(after.as_ref()),
        (first_id.clone(), "40000 33554432".to_owned())
    );
    resize(containers("400m", "48Mi"));
    let after = api
        .wait_pod("grows", "more memory", |pod| {
            first(pod, "resources/limits/memory") == "48Mi" && condition(pod, "Ready")
        })
        .await;
    let (id, told) = limits(after.as_ref());
    assert!(id != first_id && told == "40000 50331648", "{id} {told}");
    let status = &after.as_ref().unwrap()["status"]["containerStatuses"][0];
    assert_eq!(status["restartCount"], 1);
    api.delete_pod("grows", 0);
    node.stop().await;
}
