//! `eviction`: a deletion that asks the pod's disruption budget first.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use resources::Resource;
use schema::Object;
use schema::selector::LabelSelector;
use serde_json::{Map, Value, json};

use crate::admission::{self, Admission, Operation};
use crate::context::Context;
use crate::decode::{self, Expected};
use crate::status::{self, ApiError, ApiResult};
use crate::verbs::delete::{self, DeleteOptions};
use crate::write::{Extra, Step};

const EVICTION: Expected<'static> = Expected {
    group: "policy",
    version: "v1",
    kind: "Eviction",
    custom: None,
};
/// More pods than this on their way out at once make the budget wait.
const DISRUPTED_PODS_MAX: usize = 2_000;
/// How often the pod may change between being judged and being deleted.
const ATTEMPTS_MAX: usize = 20;

pub(super) async fn create(
    context: &Context,
    resource: &Resource,
    body: &Bytes,
) -> ApiResult<Response> {
    let mut eviction = decode::object(context, EVICTION, body, "CreateOptions")?;
    let name = context.info.name.as_str();
    if !eviction.name().is_empty() && eviction.name() != name {
        return Err(ApiError::bad_request(format!(
            "name in URL does not match name in Eviction object: {name} != {}",
            eviction.name()
        )));
    }
    let dry_run = context.dry_run("CreateOptions", eviction.get(&["deleteOptions"]))?;
    let admission = Admission::new(context, Operation::Create, resource, "eviction", dry_run)
        .carrying(EVICTION);
    admission::mutate(&admission, Some(&mut eviction)).await?;
    admission::validate(&admission, Some(&eviction)).await?;
    let options = DeleteOptions::from_value(eviction.get(&["deleteOptions"]), dry_run)?;
    for _ in 0..ATTEMPTS_MAX {
        if evict(context, resource, &options).await? {
            return Ok(context.respond_value(StatusCode::CREATED, &status::success_created()));
        }
    }
    Err(ApiError::modified(&resource.group, &resource.plural, name))
}

/// One attempt: judges the pod as it is now, and deletes that pod only. False where another took its place or state.
async fn evict(context: &Context, resource: &Resource, options: &DeleteOptions) -> ApiResult<bool> {
    let (namespace, name) = (context.info.namespace.as_str(), context.info.name.as_str());
    let pod = super::current(context, resource, name).await?;
    delete::check_preconditions(resource, &pod, options)?;
    let verdict = if needs_budget(&pod) {
        spend_budget(context, &pod, options.dry_run).await?
    } else {
        Verdict::Free
    };
    let mut options = options.clone();
    options.pin(&pod, depends_on_state(&pod, &verdict));
    let deleted = delete::delete_with(context, resource, (namespace, name), &options, |pod| {
        super::set_condition(pod, disruption(context.now));
    });
    match (deleted.await, verdict) {
        (Ok(_), _) => Ok(true),
        // The pod may count by now: the client asks again after a while.
        (Err(error), Verdict::Unready(budget)) if error.code == 409 => Err(refused_for_now(
            &format!("The disruption budget {budget} is still being processed by the server."),
        )),
        (Err(error), _) if error.code == 409 => Ok(false),
        (Err(error), _) => Err(error),
    }
}

/// What the budget says to an eviction.
enum Verdict {
    /// No budget protects the pod.
    Free,
    /// The pod is not ready, so that this budget does not miss it.
    Unready(String),
    Spent,
}

/// Whether the pod may go only while it is as it was judged.
fn depends_on_state(pod: &Object, verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Unready(_) => true,
        Verdict::Free => phase(pod) == "Pending" && pod.deletion_timestamp().is_none(),
        Verdict::Spent => false,
    }
}

/// What tells a Job's controller and the user why the pod went.
fn disruption(now: i64) -> Value {
    json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null,
        "lastTransitionTime": schema::time::now_rfc3339(now)
    })
}

fn phase(pod: &Object) -> &str {
    pod.get_str(&["status", "phase"]).unwrap_or_default()
}

/// Pods that do not serve anybody are not protected.
fn needs_budget(pod: &Object) -> bool {
    !matches!(phase(pod), "Succeeded" | "Failed" | "Pending") && pod.deletion_timestamp().is_none()
}

const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// The budget is about to change: client libraries ask again by themselves.
fn refused_for_now(cause: &str) -> ApiError {
    ApiError::too_many_requests(REFUSED, 10).with_cause("DisruptionBudget", cause, "")
}

/// Nothing is left. Without `Retry-After`: nobody knows when there will be, and `kubectl drain` says that it waits and
/// asks every five seconds, where its library would wait in silence.
fn refused(budget: &Object) -> ApiError {
    ApiError::too_many_requests(REFUSED, 0).with_cause(
        "DisruptionBudget",
        &why_exhausted(budget),
        "",
    )
}

/// What the controller of budgets said last.
fn disruption_allowed(budget: &Object) -> Option<&Value> {
    let mut conditions = budget.get_array(&["status", "conditions"])?.iter();
    conditions.find(|condition| condition["type"] == "DisruptionAllowed")
}

fn why_exhausted(budget: &Object) -> String {
    let name = budget.name();
    let count = |field| budget.get_i64(&["status", field]).unwrap_or(0);
    let (desired, healthy) = (count("desiredHealthy"), count("currentHealthy"));
    let (reason, message) = disruption_allowed(budget)
        .filter(|condition| condition["status"] == "False")
        .map_or(("", ""), |condition| {
            let text = |field: &str| condition[field].as_str().unwrap_or("");
            (text("reason"), text("message"))
        });
    let refusing = format!("The disruption budget {name} does not allow evicting pods currently");
    if reason == "SyncFailed" && !message.is_empty() {
        format!("{refusing} because it failed sync: {message}")
    } else if healthy <= desired {
        format!(
            "The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
        )
    } else if !message.is_empty() {
        format!("{refusing} ({reason}): {message}")
    } else {
        refusing
    }
}

async fn spend_budget(context: &Context, pod: &Object, dry_run: bool) -> ApiResult<Verdict> {
    let world = &context.server.world;
    // A budget that was just made protects from now on.
    world.wait_most_recent(&*context.server.store).await?;
    let mut budgets = world
        .list("policy", "poddisruptionbudgets", pod.namespace())
        .into_iter()
        .filter(|entry| {
            let budget = entry.object();
            LabelSelector::from_object(budget.get(&["spec", "selector"]))
                .is_ok_and(|selector| selector.matches(pod.labels()))
        });
    let Some(budget) = budgets.next() else {
        return Ok(Verdict::Free);
    };
    if budgets.next().is_some() {
        return Err(ApiError::unknown(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    let resource = resources::find("policy", "v1", "poddisruptionbudgets")
        .ok_or_else(ApiError::no_such_resource)?;
    let now = schema::time::now_rfc3339(context.now);
    let mut unready = false;
    let mut decide = |budget: &Object| -> ApiResult<Step> {
        let spent = spend(budget, pod, &now)?;
        unready = spent.is_none();
        Ok(match spent {
            Some(spent) => Step::Write(spent, Extra::default()),
            None => Step::Keep(budget.clone()),
        })
    };
    context
        .server
        .change(
            resource,
            budget.namespace(),
            budget.name(),
            dry_run,
            &mut decide,
        )
        .await?;
    Ok(if unready {
        Verdict::Unready(budget.name().to_owned())
    } else {
        Verdict::Spent
    })
}

/// The budget with one disruption less; none where the pod does not count; 429 where nothing is left.
fn spend(budget: &Object, pod: &Object, now: &str) -> ApiResult<Option<Object>> {
    let name = budget.name();
    let allowed = budget
        .get_i64(&["status", "disruptionsAllowed"])
        .unwrap_or(0);
    let healthy = budget.get_i64(&["status", "currentHealthy"]).unwrap_or(0);
    let desired = budget.get_i64(&["status", "desiredHealthy"]).unwrap_or(0);
    let unready = pod.condition_status("Ready") != Some("True");
    let policy = budget
        .get_str(&["spec", "unhealthyPodEvictionPolicy"])
        .unwrap_or("IfHealthyBudget");
    if unready && (policy == "AlwaysAllow" || (healthy >= desired && desired > 0)) {
        return Ok(None);
    }
    if budget
        .get_i64(&["status", "observedGeneration"])
        .unwrap_or(0)
        < budget.generation()
    {
        return Err(refused_for_now(&format!(
            "The disruption budget {name} is still being processed by the server."
        )));
    }
    if allowed < 0 {
        return Err(ApiError::forbidden(
            "policy",
            "poddisruptionbudgets",
            name,
            "pdb disruptions allowed is negative",
        ));
    }
    let disrupted = budget.get_object(&["status", "disruptedPods"]);
    if disrupted.map_or(0, Map::len) > DISRUPTED_PODS_MAX {
        return Err(ApiError::forbidden(
            "policy",
            "poddisruptionbudgets",
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        return Err(refused(budget));
    }
    let mut spent = budget.clone();
    spent.set(&["status", "disruptionsAllowed"], allowed - 1);
    let mut disrupted = disrupted.cloned().unwrap_or_default();
    disrupted.insert(pod.name().to_owned(), Value::from(now));
    spent.set(&["status", "disruptedPods"], Value::Object(disrupted));
    if allowed == 1 {
        super::set_condition(&mut spent, exhausted(budget, now));
    }
    Ok(Some(spent))
}

/// What the budget says of itself once the last disruption is spent.
fn exhausted(budget: &Object, now: &str) -> Value {
    let since = disruption_allowed(budget)
        .filter(|condition| condition["status"] == "False")
        .and_then(|condition| condition["lastTransitionTime"].as_str())
        .unwrap_or(now);
    json!({
        "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
        "observedGeneration": budget.get_i64(&["status", "observedGeneration"]).unwrap_or(0),
        "lastTransitionTime": since
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_run_out() {
        let pod = Object::new(json!({"metadata": {"name": "p"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})).unwrap();
        let budget = Object::new(json!({"metadata": {"name": "b"}, "status":
            {"disruptionsAllowed": 1, "currentHealthy": 3, "desiredHealthy": 2, "observedGeneration": 1,
             "conditions": [{"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods", "lastTransitionTime": "s"}]}})).unwrap();
        let spent = spend(&budget, &pod, "t").unwrap().unwrap();
        assert_eq!(spent.get_i64(&["status", "disruptionsAllowed"]), Some(0));
        assert_eq!(
            spent.get(&["status", "conditions"]),
            Some(
                &json!([{"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
                          "observedGeneration": 1, "lastTransitionTime": "t"}])
            )
        );
        let refused = spend(&spent, &pod, "t").unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (429, None));
        assert!(
            refused.to_status()["details"]
                .get("retryAfterSeconds")
                .is_none()
        );
    }

    #[test]
    fn a_budget_that_is_not_judged_yet_is_asked_again_soon() {
        let pod = Object::new(json!({"metadata": {"name": "p"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})).unwrap();
        let budget = Object::new(json!({"metadata": {"name": "b", "generation": 2}, "status":
            {"disruptionsAllowed": 1, "observedGeneration": 1}}))
        .unwrap();
        let refused = spend(&budget, &pod, "t").unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (429, Some(10)));
    }

    #[test]
    fn a_refusal_names_what_is_missing() {
        let why = |healthy: i64, reason: &str, message: &str| {
            let budget = json!({"metadata": {"name": "b"}, "status": {
                "currentHealthy": healthy, "desiredHealthy": 2, "conditions": [
                {"type": "DisruptionAllowed", "status": "False", "reason": reason, "message": message}]}});
            why_exhausted(&Object::new(budget).unwrap())
        };
        assert_eq!(
            why(2, "InsufficientPods", ""),
            "The disruption budget b needs 2 healthy pods and has 2 currently"
        );
        assert_eq!(
            why(2, "SyncFailed", "no scale"),
            "The disruption budget b does not allow evicting pods currently because it failed sync: no scale"
        );
        assert_eq!(
            why(3, "InsufficientPods", ""),
            "The disruption budget b does not allow evicting pods currently"
        );
        assert_eq!(
            why(3, "Other", "wait"),
            "The disruption budget b does not allow evicting pods currently (Other): wait"
        );
    }
}
