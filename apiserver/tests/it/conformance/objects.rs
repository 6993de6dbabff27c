//! Behaviours of single kinds.

use http::Method;
use serde_json::{Value, json};

use crate::server::{MAPS, PODS, Server, config_map, pod};

const MERGE: &str = "merge-patch+json";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

async fn ready() -> Server {
    let server = Server::start().await;
    server.account("default").await;
    server
}

/// The (code, first cause's field, message) of a refusal.
fn invalid(answer: &crate::server::Answer) -> (u16, String, String) {
    let (code, _, message) = answer.refused();
    let field = answer.body["details"]["causes"][0]["field"]
        .as_str()
        .unwrap_or_default();
    (code, field.to_owned(), message.to_owned())
}

/// The types of an object's conditions.
fn types(object: &Value) -> Vec<&str> {
    let conditions = object["status"]["conditions"].as_array();
    let all = conditions.into_iter().flatten();
    all.filter_map(|one| one["type"].as_str()).collect()
}

/// What the path says need not be said again in the body.
#[tokio::test]
async fn kind_and_version_may_be_left_out() {
    let server = ready().await;
    for (name, body) in [
        ("a", json!({"metadata": {"name": "a"}})),
        ("b", json!({"kind": "ConfigMap", "metadata": {"name": "b"}})),
        ("c", json!({"apiVersion": "v1", "metadata": {"name": "c"}})),
    ] {
        let made = server.post(MAPS, body).await.ok();
        assert_eq!(
            (&made["kind"], &made["apiVersion"]),
            (&"ConfigMap".into(), &"v1".into())
        );
        assert_eq!(made["metadata"]["name"], name);
    }
}

#[tokio::test]
async fn keys_of_configuration_must_not_be_empty() {
    let server = ready().await;
    let map = json!({"metadata": {"name": "m"}, "data": {"": "value-1"}});
    let (code, field, message) = invalid(&server.post(MAPS, map).await);
    assert_eq!((code, field.as_str()), (422, "data[]"), "{message}");
    let secret = json!({"metadata": {"name": "s"}, "data": {"": "dmFsdWUtMQ=="}});
    let (code, field, message) = invalid(&server.post(SECRETS, secret).await);
    assert_eq!((code, field.as_str()), (422, "data[]"), "{message}");
}

#[tokio::test]
async fn what_is_immutable_stays() {
    let server = ready().await;
    for (collection, data, changed) in [
        (MAPS, json!({"a": "1"}), json!({"a": "2"})),
        (SECRETS, json!({"a": "MQ=="}), json!({"a": "Mg=="})),
    ] {
        let uri = format!("{collection}/fixed");
        server
            .post(
                collection,
                json!({"metadata": {"name": "fixed"}, "data": data}),
            )
            .await
            .ok();
        // It may be changed, until it is said that it may not.
        server
            .patch(&uri, MERGE, json!({"data": changed}))
            .await
            .ok();
        server
            .patch(&uri, MERGE, json!({"immutable": true}))
            .await
            .ok();
        for (patch, at) in [
            (json!({"data": data}), "data"),
            (json!({"immutable": false}), "immutable"),
            (json!({"immutable": null}), "immutable"),
        ] {
            let answer = server.patch(&uri, MERGE, patch).await;
            let (code, field, message) = invalid(&answer);
            assert_eq!((code, field.as_str()), (422, at), "{message}");
            assert!(
                message.contains("field is immutable when `immutable` is set"),
                "{message}"
            );
        }
        // Its metadata may still change, and it may be deleted.
        let labels = json!({"metadata": {"labels": {"a": "b"}}});
        server.patch(&uri, MERGE, labels).await.ok();
        server.delete(&uri, Value::Null).await.ok();
    }
}

#[tokio::test]
async fn namespaces_are_patched_updated_and_finalized() {
    let server = ready().await;
    let uri = "/api/v1/namespaces/team";
    server
        .post("/api/v1/namespaces", json!({"metadata": {"name": "team"}}))
        .await
        .ok();
    let patched = server
        .patch(uri, MERGE, json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .ok();
    assert_eq!(
        patched["metadata"]["labels"],
        json!({"a": "b", "kubernetes.io/metadata.name": "team"})
    );
    let mut object = patched;
    object["metadata"]["labels"]["updated"] = "yes".into();
    let updated = server.put(uri, object).await.ok();
    assert_eq!(updated["metadata"]["labels"]["updated"], "yes");

    // Status has a door of its own.
    let condition = |reason: &str| json!([{"type": "StatusUpdate", "status": "True", "reason": reason, "message": "m"}]);
    let status = format!("{uri}/status");
    let patch = json!({"metadata": {"annotations": {"e2e": "patched"}}, "status": {"conditions": condition("E2E")}});
    let patched = server.patch(&status, MERGE, patch).await.ok();
    assert_eq!(patched["status"]["phase"], "Active");
    assert_eq!(patched["status"]["conditions"][0]["reason"], "E2E");
    assert_eq!(patched["metadata"]["annotations"]["e2e"], "patched");
    let mut object = server.get(&status).await.ok();
    object["status"]["conditions"] = condition("Again");
    let updated = server.put(&status, object).await.ok();
    assert_eq!(updated["status"]["conditions"][0]["reason"], "Again");

    // A finalizer in spec holds it, and goes by `finalize` only.
    let finalize = format!("{uri}/finalize");
    let mut object = server.get(uri).await.ok();
    object["spec"]["finalizers"] = json!(["kubernetes", "example.com/mine"]);
    let held = server.put(&finalize, object).await.ok();
    assert_eq!(
        held["spec"]["finalizers"],
        json!(["kubernetes", "example.com/mine"])
    );
    let mut object = server.get(uri).await.ok();
    object["spec"]["finalizers"] = json!([]);
    let kept = server.put(uri, object).await.ok();
    assert_eq!(
        kept["spec"]["finalizers"],
        json!(["kubernetes", "example.com/mine"])
    );
    server.delete(uri, Value::Null).await.ok();
    let mut object = server.get(uri).await.ok();
    assert_eq!(object["status"]["phase"], "Terminating");
    object["spec"]["finalizers"] = json!([]);
    server.put(&finalize, object).await.ok();
    // The controller would ask again once the content is gone.
    server.delete(uri, Value::Null).await;
    assert_eq!(server.get(uri).await.code, 404);
}

#[tokio::test]
async fn a_node_lives() {
    let server = ready().await;
    let nodes = "/api/v1/nodes";
    let node = json!({"metadata": {"name": "fake"}, "status": {"phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}]}});
    let made = server.post(nodes, node).await.ok();
    assert!(made["metadata"]["uid"].is_string());
    let uri = "/api/v1/nodes/fake";
    let patched = server
        .patch(
            uri,
            "strategic-merge-patch+json",
            json!({"metadata": {"labels": {"fake": "patched"}}}),
        )
        .await
        .ok();
    assert_eq!(patched["metadata"]["labels"]["fake"], "patched");
    let mut object = server.get(uri).await.ok();
    object["metadata"]["labels"]["fake"] = "updated".into();
    object["spec"]["taints"] = json!([{"key": "t", "effect": "NoSchedule"}]);
    let updated = server.put(uri, object).await.ok();
    assert_eq!(updated["spec"]["taints"][0]["key"], "t");
    let status = format!("{uri}/status");
    let conditions = json!([{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}]);
    let patch =
        json!({"metadata": {"annotations": {"seen": "yes"}}, "status": {"conditions": conditions}});
    let patched = server
        .patch(&status, "strategic-merge-patch+json", patch)
        .await
        .ok();
    assert_eq!(
        patched["status"]["conditions"][0]["reason"],
        "KubeletNotReady"
    );
    let mut object = server.get(&status).await.ok();
    object["status"]["addresses"] = json!([{"type": "InternalIP", "address": "192.0.2.9"}]);
    object["spec"] = json!({});
    let updated = server.put(&status, object).await.ok();
    assert_eq!(updated["status"]["addresses"][0]["address"], "192.0.2.9");
    assert_eq!(
        updated["spec"]["taints"][0]["key"], "t",
        "spec has another door"
    );
    let list = server
        .get(&format!("{nodes}?fieldSelector=metadata.name%3Dfake"))
        .await
        .ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let gone = format!("{nodes}?labelSelector=fake%3Dupdated");
    server.call(Method::DELETE, &gone, Value::Null).await.ok();
    assert_eq!(server.get(uri).await.code, 404);
}

#[tokio::test]
async fn the_class_of_a_pod_follows_from_its_resources() {
    let server = ready().await;
    let resources =
        |requests: Value, limits: Value| json!({"requests": requests, "limits": limits});
    let both = json!({"cpu": "100m", "memory": "100Mi"});
    for (name, resources, class) in [
        (
            "guaranteed",
            resources(both.clone(), both.clone()),
            "Guaranteed",
        ),
        ("limits", json!({"limits": both}), "Guaranteed"),
        (
            "burstable",
            resources(json!({"cpu": "100m"}), json!({})),
            "Burstable",
        ),
        ("best", json!({}), "BestEffort"),
    ] {
        let mut object = pod(name);
        object["spec"]["containers"][0]["resources"] = resources;
        let made = server.post(PODS, object).await.ok();
        assert_eq!(made["status"]["qosClass"], class, "{name}");
    }
}

#[tokio::test]
async fn sysctls_have_names_of_their_form() {
    let server = ready().await;
    let with = |names: &[&str]| {
        let mut object = pod("s");
        let list: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "value": "100"}))
            .collect();
        object["spec"]["securityContext"] = json!({"sysctls": list});
        object
    };
    let bad = ["foo-", "kernel.shmmax", "safe-and-unsafe", "bar.."];
    let answer = server.post(PODS, with(&bad)).await;
    let (code, _, message) = answer.refused();
    assert_eq!(code, 422);
    for (at, name) in [(0, "foo-"), (3, "bar..")] {
        let part = format!("spec.securityContext.sysctls[{at}].name: Invalid value: {name:?}");
        assert!(message.contains(&part), "{message}");
    }
    assert!(
        !message.contains("kernel.shmmax") && !message.contains("safe-and-unsafe"),
        "{message}"
    );
    let made = server
        .post(
            PODS,
            with(&["kernel/shm_rmid_forced", "net.ipv4.tcp_syncookies"]),
        )
        .await;
    assert_eq!(made.code, 201, "{}", made.text);
}

#[tokio::test]
async fn accounts_may_refuse_that_their_token_is_mounted() {
    let server = ready().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    for (name, automount) in [("mount", Value::Null), ("nomount", json!(false))] {
        let mut account = json!({"metadata": {"name": name}});
        if !automount.is_null() {
            account["automountServiceAccountToken"] = automount;
        }
        server.post(accounts, account).await.ok();
    }
    for (account, of_pod, mounted) in [
        ("mount", None, true),
        ("mount", Some(true), true),
        ("mount", Some(false), false),
        ("nomount", None, false),
        ("nomount", Some(true), true),
        ("nomount", Some(false), false),
    ] {
        let mut object = pod("");
        object["metadata"] = json!({"generateName": "m-"});
        object["spec"]["serviceAccountName"] = account.into();
        if let Some(automount) = of_pod {
            object["spec"]["automountServiceAccountToken"] = automount.into();
        }
        let made = server.post(PODS, object).await.ok();
        let mounts = &made["spec"]["containers"][0]["volumeMounts"];
        let path = "/var/run/secrets/kubernetes.io/serviceaccount";
        let found = mounts
            .as_array()
            .is_some_and(|mounts| mounts.iter().any(|m| m["mountPath"] == path));
        assert_eq!(found, mounted, "{account} {of_pod:?}");
    }
}

#[tokio::test]
async fn events_and_conditions_have_the_fields_that_go_never_omits() {
    let server = ready().await;
    let events = "/api/v1/namespaces/default/events";
    let event = json!({"metadata": {"name": "bare"}, "reason": "Test", "message": "m", "type": "Normal",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}});
    let dry_run = format!("{events}?dryRun=All");
    let dry = server.post(&dry_run, event.clone()).await.ok();
    let made = server.post(events, event).await.ok();
    for event in [&dry, &made] {
        for field in ["eventTime", "firstTimestamp", "lastTimestamp"] {
            assert_eq!(event.get(field), Some(&Value::Null), "{field}");
        }
        assert_eq!(event["source"], json!({}));
        for field in ["reportingComponent", "reportingInstance"] {
            assert_eq!(event[field], "", "{field}");
        }
    }
    // A patch takes a time away, and null is what is left of it.
    let uri = format!("{events}/bare");
    for (time, expected) in [
        (json!("2026-01-01T00:00:00Z"), json!("2026-01-01T00:00:00Z")),
        (Value::Null, Value::Null),
    ] {
        let patched = server.patch(&uri, MERGE, json!({"lastTimestamp": time}));
        let patched = patched.await.ok();
        assert_eq!(patched.get("lastTimestamp"), Some(&expected));
    }
}

#[tokio::test]
async fn an_event_of_either_group_is_the_same_event() {
    let server = ready().await;
    let core = "/api/v1/namespaces/default/events";
    let new = "/apis/events.k8s.io/v1/namespaces/default/events";
    let event = json!({"metadata": {"name": "e"}, "reason": "Test", "note": "n", "type": "Normal", "action": "Do",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "c", "reportingInstance": "i",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}});
    server.post(new, event).await.ok();
    let old = server.get(&format!("{core}/e")).await.ok();
    assert_eq!(
        (&old["message"], &old["involvedObject"]["name"]),
        (&"n".into(), &"p".into())
    );
    server
        .patch(&format!("{core}/e"), MERGE, json!({"message": "patched"}))
        .await
        .ok();
    assert_eq!(
        server.get(&format!("{new}/e")).await.ok()["note"],
        "patched"
    );
    let chosen = server
        .get(&format!(
            "{core}?fieldSelector=reason%3DTest,involvedObject.name%3Dp"
        ))
        .await
        .ok();
    assert_eq!(chosen["items"].as_array().unwrap().len(), 1);
    // Who reports is called otherwise by either.
    for (list, by, count) in [
        (new, "regarding.name%3Dother", 0),
        (new, "reportingController%3Dc", 1),
        (new, "reportingController%3Dd", 0),
        (core, "source%3Dc", 1),
        (core, "source%3Dd", 0),
    ] {
        let uri = format!("{list}?fieldSelector={by}");
        let chosen = server.get(&uri).await.ok();
        assert_eq!(chosen["items"].as_array().unwrap().len(), count, "{uri}");
    }
    // A series goes on, whatever version its writer saw.
    let mut event = server.get(&format!("{new}/e")).await.ok();
    event["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    event["series"] = json!({"count": 100, "lastObservedTime": "2014-09-19T19:12:36.123456Z"});
    let series = event["series"].clone();
    let updated = server.put(&format!("{new}/e"), event).await.ok();
    assert_eq!(updated["series"], series);
    assert_eq!(
        server.get(&format!("{core}/e")).await.ok()["series"],
        series
    );
    server.delete(&format!("{new}/e"), Value::Null).await.ok();
    assert_eq!(server.get(&format!("{core}/e")).await.code, 404);
}

#[tokio::test]
async fn services_go_through_their_status() {
    let server = ready().await;
    let services = "/api/v1/namespaces/default/services";
    let service = json!({"metadata": {"name": "s", "labels": {"test": "data"}},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "example.com/internal-vip",
            "ports": [{"name": "http", "port": 80, "targetPort": 80}]}});
    server.post(services, service).await.ok();
    let all = server
        .get("/api/v1/services?labelSelector=test%3Ddata")
        .await
        .ok();
    assert_eq!(all["items"][0]["metadata"]["name"], "s");
    let status = format!("{services}/s/status");
    let ingress = json!({"metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}});
    let patched = server.patch(&status, MERGE, ingress).await.ok();
    assert_eq!(patched["metadata"]["annotations"]["patchedstatus"], "true");
    // A ready address says how traffic reaches it.
    assert_eq!(
        patched["status"]["loadBalancer"]["ingress"],
        json!([{"ip": "203.0.113.1", "ipMode": "VIP"}])
    );
    let mut object = server.get(&status).await.ok();
    // The client's types say null where nobody said since when.
    object["status"]["conditions"] = json!([{"type": "StatusUpdate", "status": "True", "reason": "E2E",
        "message": "m", "lastTransitionTime": null}]);
    let updated = server.put(&status, object).await.ok();
    assert_eq!(types(&updated), ["StatusUpdate"]);
    let patch = json!({"metadata": {"labels": {"patched": "true"}}, "spec": {},
        "status": {"loadBalancer": {}}});
    let patched = server
        .patch(
            &format!("{services}/s"),
            "strategic-merge-patch+json",
            patch,
        )
        .await
        .ok();
    assert_eq!(patched["metadata"]["labels"]["patched"], "true");
    assert_eq!(patched["status"], updated["status"]);
    server
        .call(
            Method::DELETE,
            &format!("{services}?labelSelector=test%3Ddata"),
            Value::Null,
        )
        .await
        .ok();
    assert_eq!(server.get(&format!("{services}/s")).await.code, 404);
}

#[tokio::test]
async fn collections_are_deleted_by_label() {
    let server = ready().await;
    for name in ["a", "b", "c"] {
        let mut map = config_map(name, "1");
        map["metadata"]["labels"] = json!({"test": if name == "c" { "keep" } else { "go" }});
        server.post(MAPS, map).await.ok();
    }
    let uri = format!("{MAPS}?labelSelector=test%3Dgo");
    server.call(Method::DELETE, &uri, Value::Null).await.ok();
    let left = server.get(MAPS).await.ok();
    let names: Vec<&Value> = left["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["metadata"]["name"])
        .collect();
    assert_eq!(names, ["c"]);
}

#[tokio::test]
async fn a_pod_may_ask_for_classes_that_exist_only() {
    let server = ready().await;
    let with = |name: &str, class: &str| {
        let mut object = pod(name);
        object["spec"]["runtimeClassName"] = class.into();
        object
    };
    let refused = server.post(PODS, with("none", "none")).await;
    let (code, reason, message) = refused.refused();
    assert_eq!((code, reason), (403, "Forbidden"), "{message}");
    assert!(
        message.ends_with("pod rejected: RuntimeClass \"none\" not found"),
        "{message}"
    );
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    let class = json!({"metadata": {"name": "heavy"}, "handler": "h", "overhead": {"podFixed": {"cpu": "10m", "memory": "1Mi"}},
        "scheduling": {"nodeSelector": {"kind": "heavy"}}});
    server.post(classes, class).await.ok();
    let made = server.post(PODS, with("some", "heavy")).await.ok();
    assert_eq!(
        made["spec"]["overhead"],
        json!({"cpu": "10m", "memory": "1Mi"})
    );
    assert_eq!(made["spec"]["nodeSelector"], json!({"kind": "heavy"}));
    server
        .delete(&format!("{classes}/heavy"), Value::Null)
        .await
        .ok();
    // A read of the newest state has seen the deletion, and so has what comes after it.
    assert_eq!(server.get(&format!("{classes}/heavy")).await.code, 404);
    assert_eq!(
        server.post(PODS, with("late", "heavy")).await.refused().0,
        403
    );
}

#[tokio::test]
async fn a_certificate_request_is_approved_and_signed_through_its_doors() {
    let server = ready().await;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    use base64::Engine;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let request = json!({"metadata": {"name": "r"}, "spec": {"request": encode(&pem), "signerName": "example.com/s",
        "usages": ["digital signature", "server auth"], "expirationSeconds": 3600, "username": "forged"}});
    let made = server.post(requests, request).await.ok();
    assert_ne!(
        made["spec"]["username"], "forged",
        "the server says who asked"
    );
    assert!(made["spec"]["groups"].is_array());
    let uri = format!("{requests}/r");
    let approval = format!("{uri}/approval");
    // Decisions stand beside conditions of any other type.
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "reason": "E2E", "message": "m"});
    let other = json!({"metadata": {"annotations": {"patched": "true"}},
        "status": {"conditions": [condition("ApprovalPatch")]}});
    let patched = server.patch(&approval, MERGE, other).await.ok();
    assert_eq!(types(&patched), ["ApprovalPatch"]);
    assert_eq!(patched["metadata"]["annotations"]["patched"], "true");
    let mut object = server.get(&approval).await.ok();
    let conditions = object["status"]["conditions"].as_array_mut().unwrap();
    conditions.insert(0, condition("Approved"));
    let approved = server.put(&approval, object).await.ok();
    assert_eq!(types(&approved), ["Approved", "ApprovalPatch"]);
    // Not through the door of status, and not taken back.
    let status = format!("{uri}/status");
    let denied = json!({"status": {"conditions": [{"type": "Denied", "status": "True", "reason": "r", "message": "m"}]}});
    let after = server.patch(&status, MERGE, denied).await;
    assert_eq!(after.code, 422);
    let message = after.body["message"].as_str().unwrap();
    assert!(
        message.ends_with(
            "status.conditions: Forbidden: updates may not add a condition of type \"Denied\"]"
        ),
        "{message}"
    );
    // Both doors take metadata, and say when a condition was written.
    for door in ["approval", "status"] {
        let patch = json!({"metadata": {"annotations": {door: "seen"}}});
        let patched = server
            .patch(&format!("{uri}/{door}"), MERGE, patch)
            .await
            .ok();
        assert_eq!(patched["metadata"]["annotations"][door], "seen");
        assert!(patched["status"]["conditions"][0]["lastUpdateTime"].is_string());
    }
    let signed = json!({"status": {"certificate": encode(&certificate)}});
    let signed = server.patch(&status, MERGE, signed).await.ok();
    assert_eq!(signed["status"]["certificate"], encode(&certificate));
    let mut object = server.get(&status).await.ok();
    let conditions = object["status"]["conditions"].as_array_mut().unwrap();
    conditions.push(condition("StatusUpdate"));
    let updated = server.put(&status, object).await.ok();
    assert_eq!(
        types(&updated),
        ["Approved", "ApprovalPatch", "StatusUpdate"]
    );
    assert_eq!(updated["status"]["certificate"], encode(&certificate));
    server.delete(&uri, Value::Null).await.ok();
}

#[tokio::test]
async fn who_may_what_can_be_asked_in_every_form() {
    let server = ready().await;
    let root = "/apis/authorization.k8s.io/v1";
    let attributes = json!({"verb": "get", "resource": "pods", "namespace": "default"});
    let own =
        json!({"kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}});
    let answer = server
        .post(&format!("{root}/selfsubjectaccessreviews"), own)
        .await
        .ok();
    assert_eq!(answer["status"]["allowed"], true);
    for path in [
        "subjectaccessreviews",
        "namespaces/default/localsubjectaccessreviews",
    ] {
        let kind = if path.starts_with('s') {
            "SubjectAccessReview"
        } else {
            "LocalSubjectAccessReview"
        };
        let review = json!({"kind": kind, "metadata": {"namespace": if path.starts_with('s') { "" } else { "default" }},
            "spec": {"user": "nobody", "resourceAttributes": attributes}});
        let answer = server.post(&format!("{root}/{path}"), review).await.ok();
        assert_eq!(answer["status"]["allowed"], false, "{path}");
        let named = json!({"kind": kind, "metadata": {"name": "x"},
            "spec": {"user": "nobody", "resourceAttributes": attributes}});
        let refused = server.post(&format!("{root}/{path}"), named).await;
        let (code, _, text) = refused.refused();
        assert!(code == 422 && text.contains(": must be empty"), "{text}");
    }
    // Who acts as somebody in full may what the review of the same says.
    let account = "system:serviceaccount:default:default";
    let groups = [
        "system:authenticated",
        "system:serviceaccounts",
        "system:serviceaccounts:default",
    ];
    let mut request = server.request(Method::GET, MAPS);
    request = request.header("impersonate-user", account);
    request = request.header("impersonate-uid", "u");
    for group in groups {
        request = request.header("impersonate-group", group);
    }
    let refused = server.read(request.body(Default::default()).unwrap()).await;
    let (code, reason, message) = refused.refused();
    assert_eq!((code, reason), (403, "Forbidden"));
    assert!(message.contains(account), "{message}");
    let review = json!({"spec": {"user": account, "uid": "u", "groups": groups, "resourceAttributes": {
        "verb": "list", "resource": "configmaps", "namespace": "default", "version": "v1"}}});
    let reviews = format!("{root}/subjectaccessreviews");
    let answer = server.post(&reviews, review).await.ok();
    assert_eq!(answer["status"]["allowed"], false);
    let rules = json!({"kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}});
    let answer = server
        .post(&format!("{root}/selfsubjectrulesreviews"), rules)
        .await
        .ok();
    assert!(
        !answer["status"]["resourceRules"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let me = server
        .post(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            json!({}),
        )
        .await
        .ok();
    assert!(me["status"]["userInfo"]["username"].is_string());
}

/// What is answered and not stored has no rows and no metadata: who takes nothing else is told so.
#[tokio::test]
async fn what_is_not_stored_is_no_table() {
    let server = ready().await;
    let uri = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = json!({"kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let metadata = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    for accept in [table, metadata] {
        let ask = |accept: String| {
            let request = server.request(Method::POST, uri).header("accept", accept);
            let request = request.header("content-type", "application/json");
            request.body(review.to_string().into()).unwrap()
        };
        let refused = server.read(ask(accept.to_owned())).await;
        assert_eq!(refused.code, 406, "{}", refused.text);
        assert_eq!(refused.body["reason"], "NotAcceptable");
        let answer = server.read(ask(format!("{accept},application/json"))).await;
        assert_eq!(answer.ok()["status"]["allowed"], true);
    }
}

#[tokio::test]
async fn a_claim_may_be_inline_and_a_deadline_may_shrink() {
    let server = ready().await;
    let mut object = pod("p");
    object["spec"]["volumes"] =
        json!([{"name": "v", "csi": {"driver": "d.example.com", "readOnly": true}}]);
    object["spec"]["activeDeadlineSeconds"] = 100.into();
    let made = server.post(PODS, object).await.ok();
    assert_eq!(
        made["spec"]["volumes"][0]["csi"],
        json!({"driver": "d.example.com", "readOnly": true})
    );
    assert_eq!(made["metadata"]["generation"], 1);
    let uri = format!("{PODS}/p");
    let shorter = server
        .patch(&uri, MERGE, json!({"spec": {"activeDeadlineSeconds": 5}}))
        .await
        .ok();
    assert_eq!(
        (
            &shorter["spec"]["activeDeadlineSeconds"],
            &shorter["metadata"]["generation"]
        ),
        (&5.into(), &2.into())
    );
    let longer = server
        .patch(&uri, MERGE, json!({"spec": {"activeDeadlineSeconds": 50}}))
        .await;
    assert_eq!(longer.refused().0, 422);
    // What does not change the spec does not change the generation; a client cannot set it.
    let labelled = json!({"metadata": {"labels": {"a": "b"}, "generation": 77}});
    let same = server.patch(&uri, MERGE, labelled).await.ok();
    assert_eq!(same["metadata"]["generation"], 2);
    // Tolerations that replace those that every pod has stand beside them.
    let toleration =
        json!([{"key": "foo", "operator": "Equal", "value": "bar", "effect": "NoSchedule"}]);
    let tolerant = server
        .patch(&uri, MERGE, json!({"spec": {"tolerations": toleration}}))
        .await
        .ok();
    let tolerations = tolerant["spec"]["tolerations"].as_array().unwrap();
    assert_eq!((tolerations.len(), &tolerations[0]), (3, &toleration[0]));
    assert_eq!(tolerant["metadata"]["generation"], 3);
}
