//! Many bindings in one request: each is judged as if it had come alone.

use std::collections::BTreeSet;

use auth::User;
use http::{Method, Request};
use kv::mem::MemStore;
use serde_json::{Value, json};

use crate::server::{Answer, PODS, Server, pod};

const BINDINGS: &str = "/kontiki/v1/bindings";

fn binding(namespace: &str, name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": namespace},
        "target": {"kind": "Node", "name": node}})
}

fn batch(items: &[Value]) -> Value {
    json!({ "items": items })
}

/// The answers, each as its code and reason.
fn codes(answer: Answer) -> Vec<(u64, String)> {
    let body = answer.ok();
    let items = body["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            let reason = item["reason"].as_str().unwrap_or_default();
            (item["code"].as_u64().unwrap(), reason.to_owned())
        })
        .collect()
}

async fn as_jane(server: &Server, body: &Value) -> Answer {
    let request = Request::builder()
        .method(Method::POST)
        .uri(BINDINGS)
        .header("authorization", "Bearer jane-token")
        .header("content-type", "application/json");
    let request = request.body(body.to_string().into()).unwrap();
    server.read(request).await
}

#[tokio::test]
async fn each_binding_meets_every_check_and_fails_alone() {
    let server = Server::start().await;
    server.account("default").await;
    for name in ["good", "bound", "other", "untargeted", "strict"] {
        server.post(PODS, pod(name)).await.ok();
    }
    let mut gated = pod("gated");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/g"}]);
    server.post(PODS, gated).await.ok();
    let mut leaving = pod("leaving");
    leaving["metadata"]["finalizers"] = json!(["example.com/f"]);
    server.post(PODS, leaving).await.ok();
    server
        .delete(&format!("{PODS}/leaving"), Value::Null)
        .await
        .ok();
    let uri = format!("{PODS}/bound/binding");
    let bound = server.post(&uri, binding("default", "bound", "n0")).await;
    assert_eq!(bound.code, 201);

    let mut other = binding("default", "other", "n1");
    other["metadata"]["uid"] = "of-another".into();
    let mut untargeted = binding("default", "untargeted", "n1");
    untargeted["target"] = json!({"kind": "Node"});
    let mut nameless = binding("default", "", "n1");
    nameless["metadata"]["name"] = Value::Null;
    let mut placeless = binding("default", "good", "n1");
    placeless["metadata"]["namespace"] = "".into();
    let mut odd = binding("default", "strict", "n1");
    odd["kind"] = "Pod".into();
    let answer = server.post(
        BINDINGS,
        batch(&[
            binding("default", "gated", "n1"),
            binding("default", "leaving", "n1"),
            binding("default", "bound", "n1"),
            other,
            binding("default", "absent", "n1"),
            untargeted,
            nameless,
            placeless,
            odd,
            json!(7),
            binding("default", "good", "n1"),
            // The same pod once more: one of the two comes first.
            binding("default", "good", "n1"),
        ]),
    );
    let answer = answer.await;
    let texts: Vec<String> = answer.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["message"].as_str().unwrap_or_default().to_owned())
        .collect();
    for (at, text) in [
        (0, "pod gated has non-empty .spec.schedulingGates"),
        (
            1,
            "pod leaving is being deleted, cannot be assigned to a host",
        ),
        (2, "pod bound is already assigned to node \"n0\""),
        (3, "Precondition failed: UID in precondition: of-another"),
        (5, "target.name: Required value"),
    ] {
        assert!(texts[at].contains(text), "{at}: {}", texts[at]);
    }
    let told = codes(answer);
    let conflict = (409, "Conflict".to_owned());
    assert_eq!(told[..4], vec![conflict.clone(); 4]);
    assert_eq!(told[4], (404, "NotFound".into()));
    assert_eq!(told[5], (422, "Invalid".into()));
    assert!(told[6..10].iter().all(|(code, _)| *code == 400), "{told:?}");
    let mut twice = told[10..].to_vec();
    twice.sort();
    assert_eq!(twice, [(201, String::new()), conflict]);
    let good = server.get(&format!("{PODS}/good")).await.ok();
    assert_eq!(good["spec"]["nodeName"], "n1");
    let scheduled = &good["status"]["conditions"][0];
    assert_eq!(
        (&scheduled["type"], &scheduled["status"]),
        (&json!("PodScheduled"), &json!("True"))
    );
    for name in ["gated", "leaving", "other", "untargeted", "strict"] {
        let left = server.get(&format!("{PODS}/{name}")).await.ok();
        assert!(left["spec"].get("nodeName").is_none(), "{name}");
    }
}

#[tokio::test]
async fn what_belongs_together_is_bound_as_far_as_it_is_of_use_or_not_at_all() {
    let server = Server::start().await;
    server.account("default").await;
    for name in ["a", "b", "other"] {
        server.post(PODS, pod(name)).await.ok();
    }
    let mut gated = pod("gated");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/g"}]);
    server.post(PODS, gated).await.ok();
    let items = ["a", "gated", "b", "other", "absent"].map(|name| binding("default", name, "n"));
    let with = |at_least: usize| {
        let mut body = batch(&items);
        body["together"] = json!([{"items": [0, 1, 2], "atLeast": at_least}]);
        body
    };
    let code = |code, reason: &str| (code, reason.to_owned());
    let [conflict, absent] = [code(409, "Conflict"), code(404, "NotFound")];
    let node = async |name: &str| {
        let pod = server.get(&format!("{PODS}/{name}")).await.ok();
        pod["spec"].get("nodeName").cloned()
    };
    let all = codes(server.post(BINDINGS, with(3)).await);
    let withheld = code(424, "");
    let expected = [&withheld, &conflict, &withheld, &code(201, ""), &absent];
    assert_eq!(all.iter().collect::<Vec<_>>(), expected);
    assert_eq!((node("a").await, node("b").await), (None, None));
    assert_eq!(node("other").await, Some(json!("n")));
    // One that is named twice is still one.
    let twice = ["a", "a"].map(|name| binding("default", name, "n"));
    let mut body = batch(&twice);
    body["together"] = json!([{"items": [0, 1], "atLeast": 2}]);
    let answers = codes(server.post(BINDINGS, body).await);
    assert_eq!(answers, [withheld.clone(), withheld.clone()]);
    // Two of the three are of use.
    let some = codes(server.post(BINDINGS, with(2)).await);
    assert_eq!(some[..3], [code(201, ""), conflict, code(201, "")]);
    assert_eq!(
        (node("a").await, node("b").await),
        (Some(json!("n")), Some(json!("n")))
    );
}

#[tokio::test]
async fn each_pod_has_an_event_and_a_version_of_its_own() {
    const PODS_BOUND: usize = 40;
    let server = Server::start().await;
    server.account("default").await;
    let mut version = Value::Null;
    let names: Vec<String> = (0..PODS_BOUND).map(|n| format!("p{n}")).collect();
    for name in &names {
        version = server.post(PODS, pod(name)).await.ok()["metadata"]["resourceVersion"].clone();
    }
    let version = version.as_str().unwrap();
    let uri = format!("{PODS}?watch=true&resourceVersion={version}");
    let mut events = server.watch(&uri).await;
    let items: Vec<Value> = names
        .iter()
        .map(|name| binding("default", name, "n"))
        .collect();
    let told = codes(server.post(BINDINGS, batch(&items)).await);
    assert!(told.iter().all(|(code, _)| *code == 201), "{told:?}");
    let (mut seen, mut last) = (BTreeSet::new(), version.parse::<u64>().unwrap());
    for _ in 0..PODS_BOUND {
        let event = events.next().await.unwrap();
        assert_eq!(event["type"], "MODIFIED");
        let meta = &event["object"]["metadata"];
        let now = meta["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(
            now > last,
            "a watch that goes on behind an event misses nothing"
        );
        last = now;
        seen.insert(meta["name"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen.len(), PODS_BOUND);
}

#[tokio::test]
async fn rights_are_asked_for_each_item() {
    let server = Server::start().await;
    server
        .post("/api/v1/namespaces", json!({"metadata": {"name": "other"}}))
        .await
        .ok();
    for namespace in ["default", "other"] {
        server.account(namespace).await;
        let uri = format!("/api/v1/namespaces/{namespace}/pods");
        server.post(&uri, pod("p")).await.ok();
    }
    let items = batch(&[binding("default", "p", "n"), binding("other", "p", "n")]);
    let forbidden = (403, "Forbidden".to_owned());
    let told = codes(as_jane(&server, &items).await);
    assert_eq!(told, vec![forbidden.clone(); 2]);

    let group = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({"metadata": {"name": "binder"},
        "rules": [{"apiGroups": [""], "resources": ["pods/binding"], "verbs": ["create"]}]});
    server.post(&format!("{group}/roles"), role).await.ok();
    let binding = json!({"metadata": {"name": "binder"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role", "name": "binder"}, "subjects": [{"kind": "User", "name": "jane",
        "apiGroup": "rbac.authorization.k8s.io"}]});
    server
        .post(&format!("{group}/rolebindings"), binding)
        .await
        .ok();
    // The binding is in force once the caches have it.
    let answer = loop {
        let answer = as_jane(&server, &items).await;
        if answer.body["items"][0]["code"] != 403 {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    let text = answer.body["items"][1]["message"].as_str().unwrap();
    assert!(
        text.contains("User \"jane\" cannot create resource \"pods/binding\" in API group \"\" in the namespace \"other\""),
        "{text}"
    );
    assert_eq!(codes(answer), [(201, String::new()), forbidden]);

    let nobody = Request::post(BINDINGS)
        .extension(User::anonymous())
        .header("content-type", "application/json");
    let nobody = nobody.body(items.to_string().into()).unwrap();
    assert_eq!(server.read(nobody).await.refused().0, 403);
}

#[tokio::test]
async fn what_is_no_batch_is_refused_as_a_whole() {
    let server = Server::start().await;
    let many = vec![binding("default", "p", "n"); 257];
    for wrong in [
        batch(&many),
        batch(&[]),
        json!([]),
        json!({"items": {}}),
        json!("x"),
    ] {
        let refused = server.post(BINDINGS, wrong).await;
        assert_eq!(refused.refused().0, 400, "{}", refused.text);
    }
    let cut = server
        .request(Method::POST, BINDINGS)
        .body("{\"items\": [".into());
    assert_eq!(server.read(cut.unwrap()).await.refused().0, 400);
    // A page of another site can send this with the browser's certificate.
    let plain = server
        .request(Method::POST, BINDINGS)
        .header("content-type", "text/plain")
        .body(batch(&many[..1]).to_string().into());
    assert_eq!(server.read(plain.unwrap()).await.refused().0, 415);
    assert_eq!(server.get(BINDINGS).await.code, 404);
    assert_eq!(server.post("/kontiki/v1/other", json!({})).await.code, 404);
}

#[tokio::test]
async fn a_dry_run_binds_nothing() {
    let server = Server::start().await;
    server.account("default").await;
    server.post(PODS, pod("p")).await.ok();
    let uri = format!("{BINDINGS}?dryRun=All");
    let told = codes(
        server
            .post(&uri, batch(&[binding("default", "p", "n")]))
            .await,
    );
    assert_eq!(told, [(201, String::new())]);
    let pod = server.get(&format!("{PODS}/p")).await.ok();
    assert!(pod["spec"].get("nodeName").is_none());
}

/// The text of a pod without what is its own.
fn without_own(pod: &Answer) -> String {
    let own = [
        "/metadata/name",
        "/metadata/uid",
        "/metadata/resourceVersion",
        "/metadata/creationTimestamp",
        "/status/conditions/0/lastTransitionTime",
    ];
    let own = own.map(|pointer| pod.body.pointer(pointer).and_then(Value::as_str).unwrap());
    own.iter().fold(pod.text.clone(), |text, own| {
        text.replace(&format!("\"{own}\""), "\"\"")
    })
}

/// The one that made a pod has all of it at hand. The other one binds it without a tree of its spec.
#[tokio::test]
async fn a_pod_is_bound_alike_by_a_server_that_did_not_make_it() {
    let store = MemStore::new();
    let maker = Server::over(store.clone()).await;
    let other = Server::over(store).await;
    maker.account("default").await;
    let mut texts = Vec::new();
    for (server, name) in [(&maker, "made-here"), (&other, "made-there")] {
        let mut made = pod(name);
        made["spec"]["automountServiceAccountToken"] = false.into();
        maker.post(PODS, made).await.ok();
        let uri = format!("{PODS}/{name}");
        let made = server.get(&uri).await.ok();
        let mut asked = binding("default", name, "n1");
        asked["metadata"]["annotations"] = json!({"example.com/a": "b\""});
        asked["metadata"]["labels"] = json!({"zone": "z"});
        let asked_uri = format!("{uri}/binding");
        asked["metadata"]["resourceVersion"] = "1".into();
        let stale = server.post(&asked_uri, asked.clone()).await;
        assert_eq!((stale.refused().0, stale.refused().1), (409, "Conflict"));
        asked["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
        let bound = server.post(&asked_uri, asked).await;
        assert_eq!(bound.code, 201, "{}", bound.text);
        let pod = server.get(&uri).await;
        texts.push(without_own(&pod));
        let pod = pod.ok();
        assert_eq!(pod["spec"]["nodeName"], "n1");
        assert_eq!(
            pod["metadata"]["labels"],
            json!({"app": "web", "zone": "z"})
        );
        let selected = format!("{PODS}?fieldSelector=spec.nodeName=n1&labelSelector=zone=z");
        let list = server.get(&selected).await.ok();
        assert_eq!(list["items"].as_array().unwrap().len(), texts.len());
        let again = server
            .post(&asked_uri, binding("default", name, "n2"))
            .await;
        assert_eq!((again.refused().0, again.refused().1), (409, "Conflict"));
    }
    assert_eq!(texts[0], texts[1]);
    let mut gated = pod("gated");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/g"}]);
    maker.post(PODS, gated).await.ok();
    let uri = format!("{PODS}/gated");
    other.get(&uri).await.ok();
    let uri = format!("{uri}/binding");
    let refused = other.post(&uri, binding("default", "gated", "n1")).await;
    assert_eq!(refused.refused().0, 409, "{refused:?}");
}
