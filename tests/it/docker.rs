//! Real containers: an image made from Debian's static busybox, imported into Docker as a user would.

use crate::cluster::{Cluster, Runtime};
use crate::tools::{Kubectl, SOON, have, have_docker, run, wait_for};
use std::path::Path;
use std::process::Command;

const BUSYBOX: &str = "/bin/busybox";

/// Makes `kontiki-it/busybox:<tag>` for each tag, if a static busybox is here.
fn images(tags: &[&str]) -> bool {
    if !Path::new(BUSYBOX).exists() {
        eprintln!("SKIPPED: {BUSYBOX} (package busybox-static) is not installed");
        return false;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let bin = dir.path().join("bin");
    std::fs::create_dir_all(&bin)
        .and_then(|()| std::fs::copy(BUSYBOX, bin.join("busybox")))
        .expect("a root directory");
    for name in [
        "sh", "sleep", "echo", "cat", "ls", "wget", "nc", "httpd", "env", "hostname", "kill", "ps",
        "true", "tty", "stty",
    ] {
        std::os::unix::fs::symlink("busybox", bin.join(name)).expect("a link");
    }
    std::fs::create_dir_all(dir.path().join("tmp")).expect("a directory");
    let tar = dir.path().join("root.tar");
    let mut command = Command::new("tar");
    command
        .arg("-C")
        .arg(dir.path())
        .arg("-cf")
        .arg(&tar)
        .args(["bin", "tmp"]);
    let said = run(command, "");
    assert!(said.success, "{said}");
    for tag in tags {
        let mut command = Command::new("docker");
        command.args([
            "import",
            "--change",
            &format!("ENV VERSION={tag}"),
            "--change",
            "ENV PATH=/bin",
        ]);
        command.arg(&tar).arg(format!("kontiki-it/busybox:{tag}"));
        let said = run(command, "");
        assert!(said.success, "{said}");
    }
    true
}

const TEAM: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, "file.txt": "from the map\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: password}
stringData: {word: hush}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: team}
spec:
  replicas: 2
  selector: {matchLabels: {app: team}}
  template:
    metadata: {labels: {app: team}}
    spec:
      terminationGracePeriodSeconds: 1
      initContainers:
      - name: first
        image: kontiki-it/busybox:one
        command: [sh, -c, "echo prepared > /shared/state"]
        volumeMounts: [{name: shared, mountPath: /shared}]
      containers:
      - name: server
        image: kontiki-it/busybox:one
        command: [sh, -c, "echo serving $VERSION; exec httpd -f -p 8080 -h /shared"]
        env:
        - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
        - {name: WORD, valueFrom: {secretKeyRef: {name: password, key: word}}}
        - {name: MY_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        readinessProbe: {httpGet: {path: /state, port: 8080}, periodSeconds: 1}
        volumeMounts:
        - {name: shared, mountPath: /shared}
        - {name: settings, mountPath: /etc/settings}
        - {name: password, mountPath: /etc/password}
      - name: neighbour
        image: kontiki-it/busybox:one
        command: [sh, -c, "trap exit TERM; while true; do sleep 1; done"]
        volumeMounts: [{name: shared, mountPath: /shared}]
      volumes:
      - {name: shared, emptyDir: {}}
      - {name: settings, configMap: {name: settings}}
      - {name: password, secret: {secretName: password}}
"#;

#[test]
fn real_containers() {
    if !have("kubectl") || !have_docker() || !images(&["one", "two"]) {
        return;
    }
    let cluster = Cluster::start(3, Runtime::Docker);
    let k = cluster.kubectl();
    k.ok_with("apply -f -", TEAM);
    k.ok("rollout status deployment/team --timeout=110s");
    inside_a_pod(&k);
    rolling(&k);
    healing(&k, &cluster);
    a_missing_image(&k);
    k.ok("delete deployment team");
    wait_for("the deployment's containers gone", SOON, || {
        let left = containers(&cluster);
        if left.contains("team") {
            Err(left)
        } else {
            Ok(())
        }
    });
    k.ok("run left --image=kontiki-it/busybox:one --image-pull-policy=IfNotPresent --command -- sleep 1000");
    k.ok("wait --for=condition=Ready pod/left --timeout=60s");
    assert!(containers(&cluster).contains("left"));
    let reset = cluster.kontiki(&["reset"]);
    assert!(reset.success, "{reset}");
    assert_eq!(
        containers(&cluster),
        "",
        "a reset takes the containers along"
    );
}

/// The names of all containers that the cluster's node has made.
fn containers(cluster: &Cluster) -> String {
    let data = cluster.home().join(format!("node-{}/data", cluster.node));
    let label = format!("label=io.kontiki.owner={}@{}", cluster.node, data.display());
    let mut command = Command::new("docker");
    command.args(["ps", "-a", "--format", "{{.Names}}", "--filter", &label]);
    let said = run(command, "");
    assert!(said.success, "{said}");
    said.stdout
}

fn a_pod(k: &Kubectl) -> String {
    k.ok("get pods -l app=team --field-selector=status.phase=Running -o jsonpath={.items[0].metadata.name}")
}

fn inside_a_pod(k: &Kubectl) {
    let pod = a_pod(k);
    let exec = |container: &str, command: &str| {
        k.ok(&format!("exec {pod} -c {container} -- sh -c '{command}'"))
    };
    assert_eq!(
        exec("server", "echo $COLOUR $WORD $MY_NAME"),
        format!("blue hush {pod}\n")
    );
    assert_eq!(
        exec("server", "cat /etc/settings/file.txt /etc/password/word"),
        "from the map\nhush"
    );
    assert_eq!(
        exec("neighbour", "cat /shared/state"),
        "prepared\n",
        "containers share volumes"
    );
    assert_eq!(
        exec("neighbour", "wget -qO- http://127.0.0.1:8080/state"),
        "prepared\n",
        "and the network"
    );
    assert!(
        !k.run(&format!("exec {pod} -c server -- sh -c 'exit 7'"))
            .success
    );
    assert_eq!(k.ok(&format!("logs {pod} -c server")), "serving one\n");
    let piped = k.ok_with(
        &format!("exec -i {pod} -c server -- cat"),
        "through and back",
    );
    assert_eq!(piped, "through and back");
    on_a_terminal(k, &pod);
    let following = k.follow(&format!("logs -f {pod} -c server"));
    following.line("the log", |line| line == "serving one");
}

/// What a person types and sees: the terminal is real at both ends, and has the size of the one in front of them.
fn on_a_terminal(k: &Kubectl, pod: &str) {
    if !have("script") {
        return;
    }
    let said = k.on_a_terminal(
        &format!("exec -it {pod} -c server -- sh"),
        "tty\nstty size\necho typed-$((40 + 2))\nexit\n",
    );
    assert!(said.success, "{said}");
    // Whole lines: the terminal also echoes what was typed.
    let lines: Vec<&str> = said.stdout.lines().map(|line| line.trim()).collect();
    for wanted in ["33 91", "typed-42"] {
        assert!(lines.contains(&wanted), "{wanted}: {said}");
    }
    assert!(
        lines.iter().any(|line| line.starts_with("/dev/pts/")),
        "{said}"
    );
    let failed = k.on_a_terminal(&format!("exec -it {pod} -c server -- sh -c 'exit 7'"), "");
    assert!(!failed.success, "{failed}");
}

fn rolling(k: &Kubectl) {
    k.ok("set image deployment/team server=kontiki-it/busybox:two");
    k.ok("rollout status deployment/team --timeout=110s");
    assert_eq!(
        k.ok(&format!("logs {} -c server", newest(k))),
        "serving two\n"
    );
    k.ok("rollout undo deployment/team");
    k.ok("rollout status deployment/team --timeout=110s");
    assert_eq!(
        k.ok(&format!("logs {} -c server", newest(k))),
        "serving one\n"
    );
    k.ok("scale deployment/team --replicas=1");
    k.until("get pods -l app=team -o name", |out| {
        out.lines().count() == 1
    });
}

fn newest(k: &Kubectl) -> String {
    let pods = k.ok("get pods -l app=team --sort-by=.metadata.creationTimestamp -o jsonpath={.items[*].metadata.name}");
    pods.split_whitespace().last().expect("a pod").to_string()
}

fn healing(k: &Kubectl, cluster: &Cluster) {
    let pod = a_pod(k);
    let status = |field: &str| {
        let path = format!("{{.status.containerStatuses[?(@.name==\"server\")].{field}}}");
        k.ok(&format!("get pod {pod} -o jsonpath='{path}'"))
    };
    let container = status("containerID");
    let id = container
        .strip_prefix("docker://")
        .unwrap_or_else(|| panic!("container id {container:?}"));

    // The agent dies: the container runs on, and is adopted.
    cluster.kill_agent();
    let said = cluster.up();
    assert!(said.success, "{said}");
    assert_eq!(
        status("containerID"),
        container,
        "an adopted container is not started again"
    );
    assert_eq!(status("restartCount"), "0");

    // The container dies: it is started again in the same pod.
    let mut command = Command::new("docker");
    command.args(["kill", id]);
    let said = run(command, "");
    assert!(said.success, "{said}");
    wait_for("the container's restart", SOON, || {
        let (count, ready) = (status("restartCount"), status("ready"));
        if count == "1" && ready == "true" {
            Ok(())
        } else {
            Err(format!("{count} {ready}"))
        }
    });

    // The pod dies: there is another.
    k.ok(&format!("delete pod {pod} --now"));
    k.until(
        "get deployment team -o jsonpath={.status.readyReplicas}",
        |out| out == "1",
    );
    assert_ne!(a_pod(k), pod);
}

fn a_missing_image(k: &Kubectl) {
    k.ok("run absent --image=kontiki-it/there-is-none:1");
    k.until("get pod absent", |out| {
        out.contains("ErrImagePull") || out.contains("ImagePullBackOff")
    });
    k.until("describe pod absent", |out| {
        out.contains("ErrImagePull") && out.contains("Back-off pulling image")
    });
    k.ok("delete pod absent --now");
}
