//! What a user does with kubectl, command by command. The node is simulated: what is tested is the control plane.

use crate::cluster::{Cluster, Runtime};
use crate::conformance::kubectl_behaviours;
use crate::tools::{Kubectl, SOON, have, wait_for};

#[test]
fn a_users_day() {
    if !have("kubectl") {
        return;
    }
    let cluster = Cluster::start(3, Runtime::Hollow);
    looking_around(&cluster);
    working_with_objects(&cluster);
    tokens_that_do_not_expire(&cluster);
    a_deployment_lives(&cluster);
    sets_live(&cluster);
    kubectl_behaviours(&cluster);
    pods_and_their_node(&cluster);
    looking_back(&cluster);
}

/// An object's past: shown, compared, and brought back.
fn looking_back(cluster: &Cluster) {
    let k = cluster.kubectl();
    let config = cluster.kubeconfig();
    let kontiki = |words: &str| {
        let mut arguments: Vec<&str> = words.split(' ').collect();
        arguments.extend(["--kubeconfig", config.to_str().unwrap()]);
        cluster.kontiki(&arguments)
    };
    let value = || k.ok("get configmap past -o jsonpath={.data.x}");
    let version = || k.ok("get configmap past -o jsonpath={.metadata.resourceVersion}");
    k.ok("create configmap past --from-literal=x=1");
    let first = version();
    k.ok(r#"patch configmap past -p {"data":{"x":"2"}}"#);
    let second = version();

    let history = kontiki("history cm past");
    let lines: Vec<&str> = history.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{history}");
    assert!(
        lines[1].starts_with(&second) && lines[1].contains("data.x"),
        "{history}"
    );
    assert!(
        lines[2].starts_with(&first) && lines[2].ends_with("made"),
        "{history}"
    );
    assert!(
        lines[1].contains("kubectl-patch") && lines[2].contains("kubectl-create"),
        "{history}"
    );
    let newest = kontiki("history configmaps/past --limit 1");
    assert_eq!(newest.stdout.lines().count(), 2, "{newest}");
    assert!(newest.stdout.contains("data.x"), "{newest}");
    let diff = kontiki("diff ConfigMap past");
    assert!(diff.stdout.contains(r#"~ data.x: "1" -> "2""#), "{diff}");
    let none = kontiki(&format!("diff cm past --from {second} --to {second}"));
    assert!(none.success && !none.stdout.contains("data"), "{none}");

    let dry = kontiki("undo cm past --dry-run");
    assert!(
        dry.success && dry.stdout.contains(r#"~ data.x: "2" -> "1""#),
        "{dry}"
    );
    assert_eq!(value(), "2");
    assert!(kontiki("undo cm past").success);
    assert_eq!(value(), "1");
    let again = kontiki(&format!("undo cm past --to {first}"));
    assert!(
        again.success && again.stderr.contains("so already"),
        "{again}"
    );

    // As of a time.
    let before = kontiki("history cm past --at 1h");
    assert!(
        !before.success
            && ["was not there at 20", "does not go back to 20"]
                .iter()
                .any(|why| before.stderr.contains(why)),
        "{before}"
    );
    let now = kontiki("diff cm past --from 0s");
    assert!(now.success && !now.stdout.contains("data"), "{now}");

    k.ok("delete configmap past");
    let gone = kontiki("history cm past");
    assert!(
        !gone.success && gone.stderr.contains("name a revision"),
        "{gone}"
    );
    let before = kontiki(&format!("history cm past --at {second}"));
    assert_eq!(before.stdout.lines().count(), 3, "{before}");
    let back = kontiki(&format!("undo cm past --to {second}"));
    assert!(back.success, "{back}");
    assert_eq!(value(), "2");
    for (words, why) in [
        ("history nothing past", "no resource"),
        ("history cm", "which object"),
        ("undo cm past", "has not changed"),
        ("diff cm past --from 1", "was not there at revision 1"),
    ] {
        let refused = kontiki(words);
        assert!(
            !refused.success && refused.stderr.contains(why),
            "{refused}"
        );
    }
    k.ok("delete configmap past");
}

fn looking_around(cluster: &Cluster) {
    for member in 1..=3 {
        let k = cluster.kubectl_through(member);
        let nodes = k.ok("get nodes");
        assert!(
            nodes.contains(&cluster.node) && nodes.contains("Ready"),
            "{nodes}"
        );
    }
    let k = cluster.kubectl();
    assert!(k.ok("get nodes -o wide").contains("INTERNAL-IP"));
    assert!(k.ok("version").contains("Server Version: v1.36"));
    assert!(k.ok("cluster-info").contains("is running at"));
    assert!(k.ok("api-versions").lines().any(|line| line == "apps/v1"));
    let resources = k.ok("api-resources");
    assert!(
        resources
            .lines()
            .any(|line| line.starts_with("deployments ") && line.contains("deploy")),
        "{resources}"
    );
    assert_eq!(k.ok("auth can-i create deployments").trim(), "yes");
    assert_eq!(k.ok("auth can-i '*' '*'").trim(), "yes");
    let refused = k.run("auth can-i create pods --as=system:serviceaccount:default:default");
    assert_eq!(refused.stdout.trim(), "no", "{refused}");
    let namespaces = k.ok("get namespaces -o name");
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        assert!(
            namespaces.contains(&format!("namespace/{name}")),
            "{namespaces}"
        );
    }
    assert!(k.ok("get service kubernetes").contains("ClusterIP"));
    let node = k.ok("describe node");
    assert!(
        node.contains("Conditions:") && node.contains("containers are simulated"),
        "a hollow node must say so: {node}"
    );
    assert!(
        k.ok("explain deployment.spec.replicas")
            .contains("FIELD: replicas <integer>")
    );
    assert_eq!(k.ok("get --raw /readyz"), "ok");

    assert_eq!(
        k.fails("get nosuchthing").trim(),
        "error: the server doesn't have a resource type \"nosuchthing\""
    );
    assert_eq!(
        k.fails("get pod nope").trim(),
        "Error from server (NotFound): pods \"nope\" not found"
    );
    let invalid = k.fails("run Bad_Name --image=x");
    assert!(
        invalid.contains("metadata.name: Invalid value: \"Bad_Name\""),
        "{invalid}"
    );
    let unknown = k.run_with("apply -f -", "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"x\"}, \"dta\": {}}");
    assert!(
        !unknown.success && unknown.stderr.contains("unknown field \"dta\""),
        "{unknown}"
    );
}

/// A Secret has a token and the authority as long as its account lives.
fn tokens_that_do_not_expire(cluster: &Cluster) {
    let k = cluster.kubectl();
    k.ok("create serviceaccount clerk");
    let secret = r#"{"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "clerk", "annotations": {"kubernetes.io/service-account.name": "clerk"}}}"#;
    k.ok_with("create -f -", secret);
    let token = k.ok("get secret clerk -o go-template={{.data.token|base64decode}}");
    let review = format!(
        r#"{{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {{"token": "{token}"}}}}"#
    );
    let owner = "create -f - -o jsonpath={.status.user.username}";
    assert_eq!(
        k.ok_with(owner, &review),
        "system:serviceaccount:default:clerk"
    );
    let authority = r"get secret clerk -o jsonpath={.data.ca\.crt}";
    // The head of a certificate in PEM, in base64.
    k.until(authority, |pem| {
        pem.starts_with("LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t")
    });
    k.ok("delete serviceaccount clerk");
    k.until("get secret clerk --ignore-not-found -o name", str::is_empty);
    assert_eq!(k.ok_with(owner, &review), "");
}

fn working_with_objects(cluster: &Cluster) {
    let k = cluster.kubectl();
    assert_eq!(
        k.ok("create namespace shop").trim(),
        "namespace/shop created"
    );
    assert_eq!(
        k.ok("create configmap settings -n shop --from-literal=colour=blue")
            .trim(),
        "configmap/settings created"
    );
    k.ok("create secret generic password -n shop --from-literal=word=secret");
    k.ok("create serviceaccount robot -n shop");
    wait_for("kube-root-ca.crt", SOON, || {
        let said = k.run("get configmap kube-root-ca.crt -n shop");
        if said.success {
            Ok(())
        } else {
            Err(said.to_string())
        }
    });
    assert_eq!(
        k.ok("get secret password -n shop -o jsonpath={.data.word}"),
        "c2VjcmV0"
    );
    assert!(
        k.ok("get configmap settings -n shop -o yaml")
            .contains("colour: blue")
    );

    assert_eq!(
        k.ok("label configmap settings -n shop tier=front").trim(),
        "configmap/settings labeled"
    );
    assert!(
        k.ok("get configmap -n shop -l tier=front -o name")
            .contains("configmap/settings")
    );
    assert_eq!(k.ok("get configmap -n shop -l tier=back -o name"), "");
    k.ok("annotate configmap settings -n shop note=hello");
    let patched = |kind: &str, body: &str| {
        k.ok(&format!(
            "patch configmap settings -n shop --type={kind} -p '{body}'"
        ))
    };
    patched("merge", r#"{"data": {"size": "1"}}"#);
    patched("strategic", r#"{"data": {"shape": "round"}}"#);
    patched(
        "json",
        r#"[{"op": "replace", "path": "/data/size", "value": "2"}]"#,
    );
    let data = k.json("get configmap settings -n shop");
    assert_eq!(
        data["data"],
        serde_json::json!({"colour": "blue", "shape": "round", "size": "2"})
    );
    assert_eq!(data["metadata"]["annotations"]["note"], "hello");
    k.edit("configmap settings -n shop", "sed -i s/blue/red/");
    assert_eq!(
        k.ok("get configmap settings -n shop -o jsonpath={.data.colour}"),
        "red"
    );

    let manifest = |value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: applied\n  namespace: shop\ndata:\n  a: {value}\n"
        )
    };
    assert_eq!(
        k.ok_with("apply -f -", &manifest("one")).trim(),
        "configmap/applied created"
    );
    assert_eq!(
        k.ok_with("apply -f -", &manifest("one")).trim(),
        "configmap/applied unchanged"
    );
    assert_eq!(
        k.ok_with("apply -f -", &manifest("two")).trim(),
        "configmap/applied configured"
    );
    assert_eq!(
        k.ok("get configmap applied -n shop -o jsonpath={.data.a}"),
        "two"
    );

    // What kubectl applied itself is taken over; what another one owns is not, unless told so.
    let on_server = "apply --server-side -n shop -f -";
    let applied = "configmap/applied serverside-applied";
    assert_eq!(k.ok_with(on_server, &manifest("two")).trim(), applied);
    k.ok(r#"patch configmap applied -n shop --field-manager other -p '{"data":{"a":"three"}}'"#);
    let conflict = k.run_with(on_server, &manifest("two"));
    assert!(
        !conflict.success
            && conflict
                .stderr
                .contains(r#"1 conflict: conflict with "other" using v1: .data.a"#),
        "{conflict}"
    );
    let forced = format!("{on_server} --force-conflicts");
    assert_eq!(k.ok_with(&forced, &manifest("two")).trim(), applied);
    let fields = k.ok("get configmap applied -n shop -o yaml --show-managed-fields");
    assert!(
        fields.contains("manager: kubectl\n    operation: Apply"),
        "{fields}"
    );
    assert!(!fields.contains("manager: other"), "{fields}");

    let watching = k.follow("get configmap -n shop -w --output-watch-events");
    k.ok("create configmap later -n shop");
    watching.line("the watch to show the new object", |line| {
        line.contains("ADDED") && line.contains("later")
    });
    let gone = "wait --for=delete configmap/later -n shop";
    assert!(
        k.fails(&format!("{gone} --timeout=1s"))
            .contains("timed out")
    );
    k.ok("delete configmap later -n shop");
    k.ok(&format!("{gone} --timeout=10s"));
    watching.line("the watch to show the deletion", |line| {
        line.contains("DELETED") && line.contains("later")
    });

    k.ok("wait --for=jsonpath={.data.a}=two configmap/applied -n shop --timeout=10s");
    assert!(
        k.fails("wait --for=jsonpath={.data.a}=three configmap/applied -n shop --timeout=1s")
            .contains("timed out")
    );
    let deleted = k.ok_with("delete -f -", &manifest("two"));
    assert!(
        deleted.starts_with("configmap \"applied\" deleted"),
        "{deleted}"
    );

    k.ok("delete namespace shop --timeout=60s");
    assert!(k.fails("get namespace shop").contains("NotFound"));
}

fn a_deployment_lives(cluster: &Cluster) {
    let k = cluster.kubectl();
    assert_eq!(
        k.ok("create deployment web --image=web:1 --replicas=3")
            .trim(),
        "deployment.apps/web created"
    );
    rolled_out(&k);
    let ready = || k.ok("get deployment web -o jsonpath={.status.readyReplicas}");
    assert_eq!(ready(), "3");
    let pods = k.ok("get pods -l app=web -o wide");
    assert_eq!(
        pods.lines()
            .filter(|line| line.contains("1/1") && line.contains("Running"))
            .count(),
        3,
        "{pods}"
    );
    let all = k.ok("get all");
    for part in [
        "pod/web-",
        "deployment.apps/web",
        "replicaset.apps/web-",
        "service/kubernetes",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }

    k.ok("scale deployment/web --replicas=5");
    k.until(
        "get deployment web -o jsonpath={.status.readyReplicas}",
        |out| out == "5",
    );
    k.ok("scale deployment/web --replicas=2");
    k.until("get pods -l app=web -o name", |out| {
        out.lines().count() == 2
    });

    k.ok("set image deployment/web web=web:2");
    rolled_out(&k);
    assert_eq!(image(&k), "web:2");
    let history = k.ok("rollout history deployment/web");
    assert!(
        history.lines().any(|line| line.starts_with('1'))
            && history.lines().any(|line| line.starts_with('2')),
        "{history}"
    );
    k.ok("rollout undo deployment/web");
    rolled_out(&k);
    assert_eq!(image(&k), "web:1");
    k.ok("rollout pause deployment/web");
    k.ok("set image deployment/web web=web:3");
    // The controller has seen the new template and has made nothing of it.
    k.until("get deployment web -o jsonpath='{.metadata.generation} {.status.observedGeneration} {.status.conditions[?(@.type==\"Progressing\")].reason}'", |out| {
        let words: Vec<&str> = out.split(' ').collect();
        words.len() == 3 && words[0] == words[1] && words[2] == "DeploymentPaused"
    });
    let images = || {
        k.ok("get replicasets -l app=web -o jsonpath={.items[*].spec.template.spec.containers[*].image}")
    };
    assert!(!images().contains("web:3"), "{}", images());
    assert!(
        k.fails("rollout undo deployment/web").contains("paused"),
        "a paused deployment is not rolled back"
    );
    k.ok("rollout resume deployment/web");
    rolled_out(&k);
    assert!(images().contains("web:3"), "{}", images());
    let before = k.ok("get pods -l app=web -o name");
    k.ok("rollout restart deployment/web");
    rolled_out(&k);
    k.until("get pods -l app=web -o name", |out| {
        out.lines().count() == 2 && out.lines().all(|pod| !before.contains(pod))
    });

    k.ok("expose deployment web --port=80 --target-port=8080");
    assert!(k.ok("get service web").contains("80/TCP"));
    k.until(
        "get endpointslices -l kubernetes.io/service-name=web -o jsonpath={.items[*].endpoints[*].addresses[*]}",
        |out| out.split_whitespace().count() == 2,
    );

    let victim = k.ok("get pods -l app=web -o jsonpath={.items[0].metadata.name}");
    k.ok(&format!("delete pod {victim} --now"));
    k.until(
        "get deployment web -o jsonpath={.status.readyReplicas}",
        |out| out == "2",
    );
    let describe = k.ok("describe deployment web");
    assert!(
        describe.contains("ScalingReplicaSet") && describe.contains("NewReplicaSet:"),
        "{describe}"
    );

    k.ok("delete deployment web --cascade=orphan");
    assert!(
        k.ok("get replicasets -l app=web -o name")
            .contains("replicaset.apps/web-")
    );
    k.ok("delete replicasets -l app=web --cascade=foreground --timeout=60s");
    k.until("get pods -l app=web -o name", str::is_empty);
}

fn rolled_out(k: &Kubectl) {
    let said = k.ok("rollout status deployment/web --timeout=90s");
    assert!(said.contains("successfully rolled out"), "{said}");
}

fn image(k: &Kubectl) -> String {
    k.ok("get deployment web -o jsonpath={.spec.template.spec.containers[0].image}")
}

/// The history of DaemonSets and StatefulSets, as kubectl reads it and goes back in it.
fn sets_live(cluster: &Cluster) {
    let k = cluster.kubectl();
    let set = |kind: &str, more: &str| {
        format!(
            r#"{{"apiVersion":"apps/v1","kind":"{kind}","metadata":{{"name":"past"}},"spec":{{{more}"selector":{{"matchLabels":{{"app":"{kind}"}}}},
            "template":{{"metadata":{{"labels":{{"app":"{kind}"}}}},"spec":{{"containers":[{{"name":"c","image":"one"}}]}}}}}}}}"#
        )
    };
    let daemons = set("DaemonSet", "");
    let stateful = set("StatefulSet", r#""replicas":2,"serviceName":"past","#);
    for (name, body) in [("daemonset/past", daemons), ("statefulset/past", stateful)] {
        let image = || {
            k.ok(&format!(
                "get {name} -o jsonpath={{.spec.template.spec.containers[0].image}}"
            ))
        };
        let rolled_out = || k.ok(&format!("rollout status {name} --timeout=90s"));
        k.ok_with("apply -f -", &body);
        rolled_out();
        k.ok(&format!("set image {name} c=two"));
        rolled_out();
        let history = k.ok(&format!("rollout history {name}"));
        let has = |number: &str| history.lines().any(|line| line.starts_with(number));
        assert!(has("1") && has("2") && !has("3"), "{history}");
        let first = k.ok(&format!("rollout history {name} --revision=1"));
        assert!(first.contains("one") && !first.contains("two"), "{first}");
        k.ok(&format!("rollout undo {name}"));
        rolled_out();
        assert_eq!(image(), "one");
        let history = k.ok(&format!("rollout history {name}"));
        let has = |number: &str| history.lines().any(|line| line.starts_with(number));
        assert!(!has("1") && has("2") && has("3"), "{history}");
        k.ok(&format!("rollout undo {name} --to-revision=2"));
        rolled_out();
        assert_eq!(image(), "two");
        k.ok(&format!("rollout restart {name}"));
        rolled_out();
        k.until(&format!("describe {name}"), |out| {
            out.contains("SuccessfulCreate")
        });
        k.ok(&format!("delete {name} --timeout=60s"));
    }
}

/// Of a simulated node; any member asks it.
fn what_they_use(k: &Kubectl, node: &str) {
    let top = k.ok("top nodes --no-headers");
    let words: Vec<&str> = top.split_whitespace().collect();
    assert_eq!((words.len(), words[0]), (5, node), "{top}");
    assert!(words[1].ends_with('m') && words[3].ends_with("Mi"), "{top}");
    let use_more = "annotate pod ngx kontiki.io/usage-cpu=250m kontiki.io/usage-memory=64Mi";
    k.ok(use_more);
    // What a node said is passed on for a little while.
    let has = |out: &str, wanted: &[&str]| {
        let mut lines = out.lines();
        lines.any(|line| line.split_whitespace().eq(wanted.iter().copied()))
    };
    k.until("top pods --no-headers", |out| {
        has(out, &["ngx", "250m", "64Mi"])
    });
    let containers = k.ok("top pods --containers");
    assert!(
        has(&containers, &["ngx", "ngx", "250m", "64Mi"]),
        "{containers}"
    );
    assert!(k.ok("top pod ngx --sum=true").contains("250m"));
    let missing = k.fails("top pod none");
    assert!(missing.contains("NotFound"), "{missing}");
    assert!(k.ok("get podmetrics ngx").contains("250m"));
}

fn pods_and_their_node(cluster: &Cluster) {
    let k = cluster.kubectl();
    let node = &cluster.node;
    assert_eq!(k.ok("run ngx --image=nginx:1").trim(), "pod/ngx created");
    k.ok("wait --for=condition=Ready pod/ngx --timeout=60s");
    k.ok("logs ngx");
    let describe = k.until("describe pod ngx", |out| {
        out.contains("Successfully assigned")
    });
    assert!(
        describe.contains(&format!("Successfully assigned default/ngx to {node}")),
        "{describe}"
    );
    assert!(k.ok("get events").contains("Scheduled"));
    what_they_use(&k, node);

    assert_eq!(
        k.ok(&format!("cordon {node}")).trim(),
        format!("node/{node} cordoned")
    );
    assert!(k.ok("get nodes").contains("Ready,SchedulingDisabled"));
    k.ok("run waiting --image=nginx:1");
    let reason = |out: &str| out.contains("0/1 nodes are available: 1 node(s) were unschedulable.");
    k.until("describe pod waiting", |out| {
        reason(out) && out.contains("FailedScheduling")
    });
    let condition =
        "get pod waiting -o jsonpath='{.status.conditions[?(@.type==\"PodScheduled\")].reason}'";
    k.until(condition, |out| out == "Unschedulable");
    k.ok(&format!("uncordon {node}"));
    k.ok("wait --for=condition=Ready pod/waiting --timeout=60s");

    let too_large = r#"{"spec": {"containers": [{"name": "greedy", "image": "x:1", "resources": {"requests": {"cpu": "9999"}}}]}}"#;
    k.ok(&format!("run greedy --image=x:1 --overrides='{too_large}'"));
    k.until("describe pod greedy", |out| {
        out.contains("0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.")
    });

    let drained = k.run(&format!(
        "drain {node} --force --ignore-daemonsets --delete-emptydir-data --timeout=90s"
    ));
    assert!(
        drained.success && drained.stdout.contains("drained"),
        "{drained}"
    );
    assert!(k.run("get pod ngx").stderr.contains("NotFound"));
    k.ok(&format!("uncordon {node}"));

    let forced = k.run("delete pod greedy --force --grace-period=0");
    assert!(
        forced.success && forced.stdout.contains("force deleted"),
        "{forced}"
    );
}
