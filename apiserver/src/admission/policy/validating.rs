//! ValidatingAdmissionPolicy: what its bindings make of the refusals.

use std::time::Duration;

use cel::admission::{Decision, Judgement, Trouble, ValidatingPolicy};
use schema::Object;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::inputs::{Rights, Seen, namespace};
use super::{Binding, Hooks, InForce, params};
use crate::admission::Admission;
use crate::admission::webhook::matching;
use crate::metrics::BoundPolicy;
use crate::status::{ApiError, ApiResult};

/// Bytes of an annotation of the audit log.
const ANNOTATION_BYTES_MAX: usize = 10 * 1024;

/// A refusal: message and reason.
type Refusal = (String, String);

/// Asks every policy that the request concerns. The first refusal counts.
pub(in crate::admission) async fn validate(
    admission: &Admission<'_>,
    object: Option<&Object>,
) -> ApiResult<()> {
    if super::is_exempt(admission.resource) {
        return Ok(());
    }
    let hooks: Hooks<ValidatingPolicy> = admission.context.server.policies.validating.hooks();
    let mut refused: Option<Refusal> = None;
    for hook in hooks.iter() {
        let refusal = ask(admission, hook, object).await?;
        refused = refused.or(refusal);
    }
    match refused {
        None => Ok(()),
        Some((message, reason)) => Err(refusal(admission, object, &message, &reason)),
    }
}

/// The first refusal of one policy.
async fn ask(
    admission: &Admission<'_>,
    hook: &InForce<ValidatingPolicy>,
    object: Option<&Object>,
) -> ApiResult<Option<Refusal>> {
    let policy = &*hook.policy;
    let Some(shape) = matching::shape(admission, &policy.criteria, object).await? else {
        return Ok(None);
    };
    let rights = Rights::new(admission.context);
    let mut seen = None;
    let mut refused: Option<Refusal> = None;
    for binding in &hook.bindings {
        if matching::shape(admission, &binding.criteria, object)
            .await?
            .is_none()
        {
            continue;
        }
        let params = match params::collect(admission, policy, binding).await? {
            Ok(params) => params,
            Err(unfit) => {
                if policy.fails_closed && refused.is_none() {
                    let by = match unfit {
                        params::Unfit::Policy(_) => String::new(),
                        params::Unfit::Binding(_) => format!(" with binding '{}'", binding.name),
                    };
                    refused = Some((denied(&policy.name, &by, &unfit.text()), String::new()));
                }
                continue;
            }
        };
        if seen.is_none() {
            let new = Seen::new(admission, object, &shape, policy.named).await?;
            seen = Some((new, namespace(admission, policy.named)));
        }
        let Some((seen, namespace)) = &seen else {
            continue;
        };
        for params in &params {
            let begun = Instant::now();
            let judgement = {
                let inputs = seen.inputs(params, namespace, &rights);
                policy.compiled.judge(&inputs)
            };
            let took = begun.elapsed();
            let refusal = act(admission, &policy.name, binding, judgement, took);
            refused = refused.or(refusal);
            params::pause().await;
        }
    }
    Ok(refused)
}

fn denied(policy: &str, by: &str, text: &str) -> String {
    format!("ValidatingAdmissionPolicy '{policy}'{by} denied request: {text}")
}

/// Does with the decisions what the binding says. What was done is counted with the time that the policy `took` as a whole.
fn act(
    admission: &Admission<'_>,
    policy: &str,
    binding: &Binding,
    judgement: Judgement,
    took: Duration,
) -> Option<Refusal> {
    let by = format!(" with binding '{}'", binding.name);
    let asked = BoundPolicy {
        policy,
        binding: &binding.name,
    };
    let figures = &admission.context.server.metrics.policies;
    let count = |action: &'static str, trouble: Option<Trouble>| {
        figures.validated(asked, action, trouble, took);
    };
    let mut refused = None;
    for decision in judgement.decisions {
        for action in &binding.actions {
            let done = match action.as_str() {
                "Deny" => {
                    let text = denied(policy, &by, &decision.message);
                    refused.get_or_insert((text, decision.reason.clone()));
                    "deny"
                }
                "Warn" => {
                    admission.context.warn(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{policy}'{by}: {}",
                        decision.message
                    ));
                    "warn"
                }
                _ => {
                    audit_failure(admission, policy, binding, &decision);
                    "audit"
                }
            };
            count(done, decision.trouble);
        }
    }
    for trouble in judgement.ignored {
        count("allow", Some(trouble));
    }
    for annotation in judgement.annotations {
        match annotation.value {
            Ok(text) => {
                let key = format!("{policy}/{}", annotation.key);
                let text = cut(&text, ANNOTATION_BYTES_MAX);
                admission.context.audit.annotate_also(&key, text);
            }
            Err(text) => {
                count("deny", Some(Trouble::of(&text)));
                refused.get_or_insert((denied(policy, &by, &text), String::new()));
            }
        }
    }
    refused
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn audit_failure(admission: &Admission<'_>, policy: &str, binding: &Binding, decision: &Decision) {
    let failure = json!({
        "message": decision.message,
        "policy": policy,
        "binding": binding.name,
        "expressionIndex": decision.index,
        "validationActions": binding.actions
    });
    let key = "validation.policy.admission.k8s.io/validation_failure";
    admission.context.audit.annotate_one_more(key, failure);
}

/// The Status of a refusal.
fn refusal(
    admission: &Admission<'_>,
    object: Option<&Object>,
    message: &str,
    reason: &str,
) -> ApiError {
    let name = admission.name(object);
    let mut error = ApiError::forbidden(
        &admission.resource.group,
        &admission.resource.plural,
        name,
        message,
    );
    let (code, reason) = match reason {
        "Unauthorized" => (401, "Unauthorized"),
        "Forbidden" => (403, "Forbidden"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    error.code = code;
    error.reason = reason.into();
    let details = error
        .details
        .get_or_insert_with(|| Value::Object(Default::default()));
    details["causes"] = json!([{ "message": message }]);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_letters() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("äöü", 3), "ä");
    }
}
