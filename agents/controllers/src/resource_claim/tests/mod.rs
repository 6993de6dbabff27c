//! Each trap by itself, and all of them at once.

mod convergence;

use super::*;
use crate::testing::world;
use agent_runtime::plan::Op;
use serde_json::json;

const TEMPLATE: &str = "---\nkind: ResourceClaimTemplate\nmetadata: {name: t, namespace: a}\nspec: {metadata: {labels: {l: x}, annotations: {n: y}}, spec: {devices: {requests: [{name: r}]}}}\n";

/// A pod with one claim from a template; `more` is put into its metadata, spec and status.
fn pod([metadata, spec, status]: [&str; 3]) -> String {
    format!(
        "---\nkind: Pod\nmetadata: {{name: p, namespace: a, uid: pu, {metadata}}}\nspec: {{resourceClaims: [{{name: c, resourceClaimTemplateName: t}}], {spec}}}\nstatus: {{{status}}}\n"
    )
}

/// A claim called `k`.
fn claim(metadata: &str, status: &str) -> String {
    format!(
        "---\nkind: ResourceClaim\nmetadata: {{name: k, namespace: a, uid: ku, resourceVersion: '7', {metadata}}}\nstatus: {{{status}}}\n"
    )
}

const OWNED: &str = "annotations: {resource.kubernetes.io/pod-claim-name: c}, ownerReferences: [{apiVersion: v1, kind: Pod, name: p, uid: pu, controller: true}]";
const RECORDED: &str = "resourceClaimStatuses: [{name: c, resourceClaimName: k}]";
const PROTECTED: &str = "finalizers: [x/y, resource.kubernetes.io/delete-protection]";
const GOING: &str = "deletionTimestamp: '2026-01-01T00:00:00Z'";
const RESERVED: &str = "allocation: {}, reservedFor: [{resource: pods, name: p, uid: pu}]";

fn of_pod(parts: &[&str]) -> Plan {
    reconcile(&Key::new("a", "pod/p"), &world(&parts.concat()))
}

fn of_claim(parts: &[&str]) -> Vec<String> {
    reconcile(&Key::new("a", "k"), &world(&parts.concat())).lines()
}

#[test]
fn a_pod_gets_the_claim_of_its_template_and_its_name() {
    let plan = of_pod(&[&pod([""; 3]), TEMPLATE]);
    let [Op::Refused { op, failure }, record] = &plan.ops[..] else {
        panic!("{plan:?}")
    };
    let Op::Create { body, .. } = &**op else {
        panic!("{op:?}")
    };
    let meta = &body["metadata"];
    let name = meta["name"].as_str().unwrap();
    assert!(name.starts_with("p-c-") && name.len() == 9, "{name}");
    assert_eq!(meta["generateName"], "p-c-");
    assert_eq!(meta["labels"], json!({"l": "x"}));
    assert_eq!(
        meta["annotations"],
        json!({"n": "y", "resource.kubernetes.io/pod-claim-name": "c"})
    );
    assert_eq!(
        meta["ownerReferences"],
        json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pu", "controller": true, "blockOwnerDeletion": true}])
    );
    assert_eq!(body["apiVersion"], "resource.k8s.io/v1");
    assert_eq!(body["spec"]["devices"]["requests"][0]["name"], "r");
    assert_eq!(failure.reason, "FailedResourceClaimCreation");
    assert_eq!(
        failure.message,
        "PodResourceClaim c: create ResourceClaim : "
    );
    let recorded = Plan::of(vec![record.clone()]).lines();
    assert_eq!(
        recorded,
        [format!(
            "patch pods/status a/p {{\"status\":{{\"resourceClaimStatuses\":[{{\"name\":\"c\",\"resourceClaimName\":\"{name}\"}}]}}}}"
        )]
    );
    assert_eq!(
        plan,
        of_pod(&[&pod([""; 3]), TEMPLATE]),
        "the same each time"
    );
}

#[test]
fn a_claim_that_was_made_before_is_found_by_its_owner_and_entry() {
    let recorded = r#"patch pods/status a/p {"status":{"resourceClaimStatuses":[{"name":"c","resourceClaimName":"k"}]}}"#;
    let without = pod([""; 3]);
    assert_eq!(
        of_pod(&[&without, TEMPLATE, &claim(OWNED, "")]).lines(),
        [recorded]
    );
    for other in [
        OWNED.replace("uid: pu", "uid: other"),
        OWNED.replace("controller: true", "controller: false"),
        OWNED.replace("pod-claim-name: c", "pod-claim-name: d"),
        OWNED.replace("annotations", "labels"),
    ] {
        let plan = of_pod(&[&without, TEMPLATE, &claim(&other, "")]).lines();
        assert!(plan[0].starts_with("create resourceclaims"), "{plan:?}");
    }
}

#[test]
fn what_is_recorded_is_made_anew_only_where_it_is_gone_or_somebody_elses() {
    let recorded = pod(["", "", RECORDED]);
    let made = |claim: &str| of_pod(&[&recorded, TEMPLATE, claim]).lines().len();
    assert_eq!(made(&claim(OWNED, "")), 0);
    assert_eq!(made(&claim("", "")), 2);
    assert_eq!(made(""), 2);
    let unneeded = pod(["", "", "resourceClaimStatuses: [{name: c}]"]);
    assert_eq!(of_pod(&[&unneeded, TEMPLATE]), Plan::none());
    let others = pod([
        "",
        "",
        "resourceClaimStatuses: [{name: d, resourceClaimName: z}, {name: e}]",
    ]);
    let lines = of_pod(&[&others, TEMPLATE, &claim(OWNED, "")]).lines();
    assert!(
        lines[0].contains(r#"[{"name":"d","resourceClaimName":"z"},{"name":"e"},{"name":"c""#),
        "{lines:?}"
    );
}

#[test]
fn no_claim_is_made_for_a_pod_that_needs_none() {
    for parts in [
        [GOING, "", ""],
        [GOING, "nodeName: n", ""],
        ["", "nodeName: n", "phase: Failed"],
        ["", "", "phase: Succeeded"],
    ] {
        assert_eq!(of_pod(&[&pod(parts), TEMPLATE]), Plan::none(), "{parts:?}");
    }
    let named = pod([""; 3]).replace("resourceClaimTemplateName: t", "resourceClaimName: k");
    assert_eq!(of_pod(&[&named, TEMPLATE]), Plan::none(), "the user's own");
    assert_eq!(
        of_pod(&[TEMPLATE]),
        Plan::none(),
        "a pod that is gone by now"
    );
}

#[test]
fn a_template_that_is_missing_is_told_and_ends_the_plan() {
    let two = pod([""; 3]).replace(
        "resourceClaims: [",
        "resourceClaims: [{name: b, resourceClaimTemplateName: t}, ",
    );
    let two = two.replace(
        "{name: c, resourceClaimTemplateName: t}",
        "{name: c, resourceClaimTemplateName: other}",
    );
    let lines = of_pod(&[&two, TEMPLATE]).lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("create resourceclaims.resource.k8s.io a/p-b-"));
    assert_eq!(
        lines[1],
        "event Warning a/p FailedResourceClaimCreation: PodResourceClaim c: resource claim template \"other\": resourceclaimtemplate.resource.k8s.io \"other\" not found"
    );
}

#[test]
fn a_pod_that_came_to_its_node_by_itself_gets_its_reservation() {
    let reserved = r#"patch resourceclaims.resource.k8s.io/status a/k {"status":{"reservedFor":[{"name":"p","resource":"pods","uid":"pu"}]}}"#;
    let there = pod(["", "nodeName: n", RECORDED]);
    let plan = |status: &str| of_pod(&[&there, &claim(OWNED, status)]).lines();
    assert_eq!(plan("allocation: {}"), [reserved]);
    assert!(plan("").is_empty(), "nothing is allocated");
    assert!(plan(RESERVED).is_empty());
    let waiting = pod(["", "", RECORDED]);
    let waiting = of_pod(&[&waiting, &claim(OWNED, "allocation: {}")]);
    assert_eq!(waiting, Plan::none(), "the scheduler does it");
    let going = claim(&format!("{OWNED}, {GOING}"), "allocation: {}");
    assert_eq!(of_pod(&[&there, &going]), Plan::none());
    let ended = pod(["", "nodeName: n", &format!("phase: Failed, {RECORDED}")]);
    assert_eq!(
        of_pod(&[&ended, &claim(OWNED, "allocation: {}")]),
        Plan::none()
    );
    let named = there.replace("resourceClaimTemplateName: t", "resourceClaimName: k");
    let shared = of_pod(&[&named, &claim("", "allocation: {}")]).lines();
    assert_eq!(shared, [reserved], "of a claim of its own name");
    let others: Vec<String> = (0..256)
        .map(|n| format!("{{resource: pods, name: q{n}, uid: q{n}}}"))
        .collect();
    let full = format!("allocation: {{}}, reservedFor: [{}]", others.join(", "));
    assert_eq!(of_pod(&[&named, &claim("", &full)]), Plan::none());
}

#[test]
fn consumers_that_are_gone_are_taken_off_and_the_devices_given_back() {
    let freed = r#"patch resourceclaims.resource.k8s.io/status a/k {"status":{"allocation":null,"reservedFor":null}}"#;
    let unprotected =
        r#"patch resourceclaims.resource.k8s.io a/k {"metadata":{"finalizers":["x/y"]}}"#;
    let held = claim(PROTECTED, RESERVED);
    for (pod, what) in [
        (pod(["", "nodeName: n", "phase: Succeeded"]), "it has ended"),
        (pod([GOING, "", ""]), "it never had a node"),
    ] {
        assert_eq!(of_claim(&[&pod, &held]), [freed, unprotected], "{what}");
    }
    let asked = ["absent pods a/p", freed, unprotected];
    assert_eq!(of_claim(&[&held]), asked);
    let another = pod([""; 3]).replace("uid: pu", "uid: new");
    assert_eq!(
        of_claim(&[&another, &held]),
        asked,
        "it may be the older one"
    );
    let foreign = claim("", RESERVED);
    let only = r#"patch resourceclaims.resource.k8s.io/status a/k {"status":{"reservedFor":null}}"#;
    assert_eq!(
        of_claim(&[&foreign]),
        ["absent pods a/p", only],
        "not allocated by a scheduler of ours"
    );
}

#[test]
fn who_may_run_keeps_the_claim() {
    for status in ["phase: Running", "phase: Pending", ""] {
        let running = pod(["", "nodeName: n", status]);
        assert!(of_claim(&[&running, &claim(PROTECTED, RESERVED)]).is_empty());
    }
    let ending = pod([GOING, "nodeName: n", "phase: Running"]);
    let going = claim(&format!("{GOING}, {PROTECTED}"), RESERVED);
    assert!(of_claim(&[&ending, &going]).is_empty());
    let group = claim(
        PROTECTED,
        "allocation: {}, reservedFor: [{apiGroup: x.example.com, resource: groups, name: g, uid: gu}]",
    );
    assert!(of_claim(&[&group]).is_empty());
    let two = RESERVED.replace(
        "uid: pu}",
        "uid: pu}, {resource: pods, name: q, uid: qu, extra: kept}",
    );
    let other = pod(["", "nodeName: n", ""])
        .replace("name: p,", "name: q,")
        .replace("uid: pu", "uid: qu");
    let ended = pod(["", "nodeName: n", "phase: Failed"]);
    assert_eq!(
        of_claim(&[&ended, &other, &claim(PROTECTED, &two)]),
        [
            r#"patch resourceclaims.resource.k8s.io/status a/k {"status":{"reservedFor":[{"extra":"kept","name":"q","resource":"pods","uid":"qu"}]}}"#
        ]
    );
}

#[test]
fn a_claim_without_consumers_keeps_its_devices_until_it_is_deleted() {
    assert!(of_claim(&[&claim(PROTECTED, "allocation: {}")]).is_empty());
    assert!(
        of_claim(&[&claim(PROTECTED, "")]).is_empty(),
        "the scheduler is about to allocate it"
    );
    let going = format!("{GOING}, {PROTECTED}");
    let unprotected =
        r#"patch resourceclaims.resource.k8s.io a/k {"metadata":{"finalizers":["x/y"]}}"#;
    assert_eq!(of_claim(&[&claim(&going, "")]), [unprotected]);
    assert_eq!(
        of_claim(&[&claim(&going, "allocation: {}")]),
        [
            r#"patch resourceclaims.resource.k8s.io/status a/k {"status":{"allocation":null}}"#,
            unprotected
        ]
    );
}

#[test]
fn the_claim_of_a_pod_that_is_done_is_deleted() {
    let deleted = "delete resourceclaims.resource.k8s.io a/k";
    let done = pod(["", "nodeName: n", "phase: Succeeded"]);
    let made = claim(OWNED, "");
    assert_eq!(of_claim(&[&done, &made]), [deleted]);
    assert_eq!(of_claim(&[&pod([GOING, "", ""]), &made]), [deleted]);
    let replaced = pod([""; 3]).replace("uid: pu", "uid: new");
    assert_eq!(of_claim(&[&replaced, &made]), [deleted]);
    assert!(of_claim(&[&pod([""; 3]), &made]).is_empty());
    assert!(of_claim(&[&made]).is_empty(), "garbage collection decides");
    assert!(of_claim(&[&done, &claim("", "")]).is_empty(), "the user's");
    let held = claim(&format!("{OWNED}, {PROTECTED}"), RESERVED);
    assert_eq!(
        of_claim(&[&done, &held]).last().map(String::as_str),
        Some(deleted)
    );
    let going = claim(&format!("{OWNED}, {GOING}"), "");
    assert!(of_claim(&[&done, &going]).is_empty());
}

/// The keys that are waiting, and then no more.
async fn drain(queue: &Queue<Key>) -> Vec<String> {
    let mut keys = Vec::new();
    while !queue.is_empty() {
        let key = queue.next().await.unwrap();
        queue.done(&key);
        keys.push(key.to_string());
    }
    keys.sort();
    keys
}

async fn woken(text: &[&str], change: impl Fn(&World)) -> Vec<String> {
    let world = world(&text.concat());
    let queue = Arc::new(Queue::new());
    wire(&world.caches, &queue);
    drain(&queue).await;
    change(&world);
    drain(&queue).await
}

#[tokio::test]
async fn a_pod_that_goes_wakes_its_claims() {
    let gone = |world: &World| world.caches.pods.remove(&Key::new("a", "p"));
    let extended = "---\nkind: Pod\nmetadata: {name: p, namespace: a, uid: pu}\nstatus: {extendedResourceClaimStatus: {resourceClaimName: x}}\n";
    assert_eq!(woken(&[extended], gone).await, ["a/x"]);
    assert_eq!(woken(&[&pod(["", "", RECORDED])], gone).await, ["a/k"]);
    let replaced = |world: &World| {
        let new = pod([""; 3]).replace("uid: pu", "uid: new");
        let new = crate::testing::object(new.trim_start_matches("---\n"));
        world.caches.pods.apply(new);
    };
    assert_eq!(
        woken(&[&pod(["", "", RECORDED])], replaced).await,
        ["a/k", "a/pod/p"]
    );
    let plain = "---\nkind: Pod\nmetadata: {name: p, namespace: a}\n";
    assert!(woken(&[plain], gone).await.is_empty());
}

#[tokio::test]
async fn templates_and_claims_wake_the_pods_that_wait_for_them() {
    let other = pod([""; 3]).replace("name: p,", "name: q,");
    let other = other.replace("TemplateName: t", "TemplateName: z");
    let template = |world: &World| {
        let text = TEMPLATE.trim_start_matches("---\n");
        let templates = &world.caches.resource_claim_templates;
        templates.apply(crate::testing::object(text));
    };
    let both = [&*pod([""; 3]), &*other];
    assert_eq!(woken(&both, template).await, ["a/pod/p"]);
    let there = pod(["", "nodeName: n", ""]);
    let there = there.replace("resourceClaimTemplateName: t", "resourceClaimName: k");
    let appears = |text: String| {
        move |world: &World| {
            let claim = crate::testing::object(text.trim_start_matches("---\n"));
            world.caches.resource_claims.apply(claim);
        }
    };
    let allocated = claim("", "allocation: {}");
    let both = [&*there, &*other];
    assert_eq!(
        woken(&both, appears(allocated)).await,
        ["a/k", "a/pod/p"],
        "it may be reserved now"
    );
    assert_eq!(woken(&both, appears(claim("", ""))).await, ["a/k"]);
    let (bare, used) = (claim("", "allocation: {}"), claim("", RESERVED));
    let later = |text: &str| appears(text.replace("'7'", "'8'"));
    assert_eq!(
        woken(&[&*there, &*bare], later(&used)).await,
        ["a/k"],
        "one more user is no reason to look for others"
    );
    assert_eq!(
        woken(&[&*there, &*used], later(&bare)).await,
        ["a/k", "a/pod/p"],
        "who is taken off may still use it"
    );
    let made = appears(claim(OWNED, ""));
    assert_eq!(woken(&[&*other], made).await, ["a/k", "a/pod/p"]);
}
