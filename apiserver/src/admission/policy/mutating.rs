//! MutatingAdmissionPolicy: its changes, made one after the other.

use cel::admission::{Change, MutatingPolicy, Trouble};
use schema::Object;
use serde_json::Value;
use tokio::time::Instant;

use super::inputs::{Rights, Seen, namespace};
use super::{Binding, Hooks, InForce, Policy, params};
use crate::admission::Admission;
use crate::admission::webhook::{decoded, keep_identity, matching, schema_of, shaped, unshaped};
use crate::metrics::BoundPolicy;
use crate::status::{ApiError, ApiResult};

/// A policy with one of its bindings and one of their parameters.
type Invocation = (String, String, Value);

/// What the rounds of one request through the policies have to know of each other.
pub(in crate::admission) struct Rounds {
    hooks: Hooks<MutatingPolicy>,
    /// Those that wish to see later changes and were asked before the last one.
    asked: Vec<Invocation>,
    /// Those of them that are asked in the second round.
    due: Vec<Invocation>,
    /// What the policies left.
    left: Option<Object>,
}

impl Rounds {
    pub(in crate::admission) fn new(admission: &Admission<'_>) -> Rounds {
        let hooks = if super::is_exempt(admission.resource) {
            Hooks::default()
        } else {
            admission.context.server.policies.mutating.hooks()
        };
        Rounds {
            hooks,
            asked: Vec::new(),
            due: Vec::new(),
            left: None,
        }
    }

    /// Whether there is no policy that could be asked.
    pub(in crate::admission) fn is_nothing(&self) -> bool {
        self.hooks.is_empty()
    }

    /// One round; true where it changed the object. Without an object there is nothing to do.
    pub(in crate::admission) async fn mutate(
        &mut self,
        admission: &Admission<'_>,
        object: Option<&mut Object>,
        again: bool,
    ) -> ApiResult<bool> {
        let Some(object) = object.filter(|_| !self.hooks.is_empty()) else {
            return Ok(false);
        };
        if again && self.left.as_ref() != Some(&*object) {
            self.due.append(&mut self.asked);
        }
        let mut changed = false;
        let mut refused = None;
        for hook in self.hooks.clone().iter() {
            changed |= self
                .ask(admission, hook, object, again, &mut refused)
                .await?;
        }
        self.left = Some(object.clone());
        match refused {
            Some(error) => Err(error),
            None => Ok(changed),
        }
    }

    async fn ask(
        &mut self,
        admission: &Admission<'_>,
        hook: &InForce<MutatingPolicy>,
        object: &mut Object,
        again: bool,
        refused: &mut Option<ApiError>,
    ) -> ApiResult<bool> {
        let policy = &*hook.policy;
        if matching::shape(admission, &policy.criteria, Some(object))
            .await?
            .is_none()
        {
            return Ok(false);
        }
        let mut changed = false;
        for binding in &hook.bindings {
            let criteria = &binding.criteria;
            if matching::shape(admission, criteria, Some(object))
                .await?
                .is_none()
            {
                continue;
            }
            let params = match params::collect(admission, policy, binding).await? {
                Ok(params) => params,
                Err(unfit) => {
                    note(admission, policy, binding, object, &unfit.text(), refused);
                    continue;
                }
            };
            for params in params {
                changed |= self
                    .invoke(admission, policy, binding, params, object, again, refused)
                    .await?;
                params::pause().await;
            }
        }
        Ok(changed)
    }

    #[allow(clippy::too_many_arguments)]
    async fn invoke(
        &mut self,
        admission: &Admission<'_>,
        policy: &Policy<MutatingPolicy>,
        binding: &Binding,
        params: Value,
        object: &mut Object,
        again: bool,
        refused: &mut Option<ApiError>,
    ) -> ApiResult<bool> {
        // A change before may have taken the object out of the policy's reach.
        let Some(shape) = matching::shape(admission, &policy.criteria, Some(object)).await? else {
            return Ok(false);
        };
        let rights = Rights::new(admission.context);
        let namespace = namespace(admission);
        let matches = {
            let seen = Seen::new(admission, Some(&*object), &shape).await?;
            policy
                .compiled
                .matches(&seen.inputs(&params, &namespace, &rights))
        };
        match matches {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(text) => {
                note(admission, policy, binding, object, &text, refused);
                return Ok(false);
            }
        }
        let metadata = params.get("metadata").cloned().unwrap_or_default();
        let key = (
            policy.name.clone(),
            binding.name.clone(),
            serde_json::json!([metadata.get("namespace"), metadata.get("name")]),
        );
        if again && !self.due.contains(&key) {
            return Ok(false);
        }
        let before = object.clone();
        let asked = BoundPolicy {
            policy: &policy.name,
            binding: &binding.name,
        };
        for index in 0..policy.compiled.mutations() {
            let begun = Instant::now();
            let change = {
                let seen = Seen::new(admission, Some(&*object), &shape).await?;
                policy
                    .compiled
                    .mutate(index, &seen.inputs(&params, &namespace, &rights))
            };
            let made = match change {
                Ok(change) => made(admission, &shape, object, change).await,
                Err(text) => Err(text),
            };
            let trouble = made.as_ref().err().map(|text| Trouble::of(text));
            let figures = &admission.context.server.metrics.policies;
            figures.mutated(asked, trouble, begun.elapsed());
            match made {
                Ok(new) => *object = new,
                Err(text) => note(admission, policy, binding, object, &text, refused),
            }
        }
        let changed = *object != before;
        if changed {
            self.due.append(&mut self.asked);
        }
        if policy.compiled.reinvoked {
            self.asked.push(key);
        }
        Ok(changed)
    }
}

/// The object with a change.
async fn made(
    admission: &Admission<'_>,
    shape: &resources::Resource,
    object: &Object,
    change: Change,
) -> Result<Object, String> {
    let sent = shaped(admission, object, shape).await;
    let sent = sent.map_err(|error| error.message)?;
    let value = match change {
        Change::Patch(patch) => match schema::patch::json::apply_value(sent.value(), &patch) {
            Ok(value) => value,
            // A test that does not hold means that there is nothing to do.
            Err(error) if error.is_failed_test() => return Ok(object.clone()),
            Err(error) => return Err(format!("JSON Patch: {error}")),
        },
        Change::Apply(mut configuration) => {
            for field in ["apiVersion", "kind"] {
                configuration[field] = sent.value()[field].clone();
            }
            let ty = schema_of(admission, shape);
            schema::apply::overlay(ty, sent.value(), &configuration)
                .map_err(|error| format!("error applying patch: {error}"))?
        }
    };
    let mut new = decoded(admission, shape, value)?;
    keep_identity(&mut new, &sent);
    if admission.kind.is_none() {
        shape.default(&mut new);
    }
    let new = unshaped(admission, new, shape).await;
    new.map_err(|error| error.message)
}

/// Notes why a policy could not do its work, where that refuses the request.
fn note(
    admission: &Admission<'_>,
    policy: &Policy<MutatingPolicy>,
    binding: &Binding,
    object: &Object,
    text: &str,
    refused: &mut Option<ApiError>,
) {
    if !policy.fails_closed || refused.is_some() {
        return;
    }
    let (policy, binding) = (&policy.name, &binding.name);
    let message = format!("policy '{policy}' with binding '{binding}' denied request: {text}");
    let mut error = admission.forbid(object, &message);
    error.message = message.clone();
    error.reason = "Invalid".into();
    *refused = Some(error.with_cause("", &message, ""));
}
