//! Plans against servers that answer too late or not at all.

use crate::server::{Answer, scripted, status};
use agent_runtime::EventRecorder;
use agent_runtime::execute::{Outcome, execute};
use agent_runtime::hub::Written;
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::PODS;
use serde_json::{Value, json};

fn pod(owner: &str) -> Value {
    let owners = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": owner, "controller": true}]);
    json!({"metadata": {"name": "web-1", "namespace": "a", "resourceVersion": "7", "ownerReferences": owners}})
}

async fn create(owner: &str, answers: Vec<Answer>) -> (Outcome, Vec<String>) {
    let (client, log) = scripted(answers);
    let plan = Plan::of(vec![Op::create(&PODS, "a", pod(owner))]);
    let outcome = execute(&client, &EventRecorder::silent(), plan).await;
    let log = log.lock().unwrap().clone();
    (outcome, log)
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_is_found_by_its_name() {
    for (code, reason) in [(409, "AlreadyExists"), (504, "Timeout")] {
        let answers = vec![
            Answer::Json(code, status(code, reason)),
            Answer::Json(200, pod("rs")),
        ];
        let (outcome, log) = create("rs", answers).await;
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        // Whoever made the plan waits until the caches have it, and does not make another.
        assert_eq!(outcome.written, [Written::Version(PODS, 7)]);
        assert_eq!(
            log,
            [
                "POST /api/v1/namespaces/a/pods",
                "GET /api/v1/namespaces/a/pods/web-1"
            ]
        );
    }
}

#[tokio::test]
async fn the_name_of_somebody_else_is_still_taken() {
    let answers = vec![
        Answer::Json(409, status(409, "AlreadyExists")),
        Answer::Json(200, pod("other")),
    ];
    let (outcome, _) = create("rs", answers).await;
    assert!(outcome.error.unwrap().is_already_exists());
    assert_eq!(outcome.written, []);
}

#[tokio::test]
async fn a_refused_create_is_not_looked_for() {
    let (outcome, log) = create("rs", vec![Answer::Json(403, status(403, "Forbidden"))]).await;
    assert!(outcome.error.unwrap().is_forbidden());
    assert_eq!(log.len(), 1);
}
