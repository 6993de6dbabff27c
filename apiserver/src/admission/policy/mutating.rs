//! MutatingAdmissionPolicy: its changes, made one after the other.

use cel::admission::{Change, MutatingPolicy, Trouble};
use schema::Object;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::inputs::{Rights, Seen, namespace};
use super::params::Unfit;
use super::{Binding, Hooks, InForce, Policy, params};
use crate::admission::Admission;
use crate::admission::webhook::matching::{self, Shape};
use crate::admission::webhook::{decoded, keep_identity, schema_of, shaped, unshaped};
use crate::metrics::BoundPolicy;
use crate::status::{ApiError, ApiResult, quoted};

/// A policy with one of its bindings and one of their parameters.
type Invocation = (String, String, Value);

/// What is asked in a round, and in which shape it sees the object.
struct Chosen<'a> {
    policy: &'a Policy<MutatingPolicy>,
    binding: &'a Binding,
    shape: Shape<'a>,
    params: Value,
}

/// Why the request is refused, by policies whose failures do that.
#[derive(Default)]
struct Refusals {
    texts: Vec<String>,
    /// That of the first one.
    reason: &'static str,
}

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
        let hooks = self.hooks.clone();
        let mut refusals = Refusals::default();
        let chosen = choose(admission, &hooks, object, &mut refusals).await?;
        let mut changed = false;
        for one in &chosen {
            changed |= self
                .invoke(admission, one, object, again, &mut refusals)
                .await?;
            params::pause().await;
        }
        self.left = Some(object.clone());
        match refusals.error(admission, object) {
            Some(error) => Err(error),
            None => Ok(changed),
        }
    }

    async fn invoke(
        &mut self,
        admission: &Admission<'_>,
        chosen: &Chosen<'_>,
        object: &mut Object,
        again: bool,
        refusals: &mut Refusals,
    ) -> ApiResult<bool> {
        let Chosen {
            policy,
            binding,
            shape,
            params,
        } = chosen;
        let rights = Rights::new(admission.context);
        let namespace = namespace(admission, policy.named);
        let matches = {
            let seen = Seen::new(admission, Some(&*object), shape, policy.named).await?;
            policy
                .compiled
                .matches(&seen.inputs(params, &namespace, &rights))
        };
        match matches {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(text) => {
                refusals.of_work(policy, binding, &text);
                return Ok(false);
            }
        }
        let metadata = params.get("metadata").cloned().unwrap_or_default();
        let key = (
            policy.name.clone(),
            binding.name.clone(),
            json!([metadata.get("namespace"), metadata.get("name")]),
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
                let seen = Seen::new(admission, Some(&*object), shape, policy.named).await?;
                policy
                    .compiled
                    .mutate(index, &seen.inputs(params, &namespace, &rights))
            };
            let made = match change {
                Ok(change) => made(admission, shape, object, change).await,
                Err(text) => Err(text),
            };
            let trouble = made.as_ref().err().map(|text| Trouble::of(text));
            let figures = &admission.context.server.metrics.policies;
            figures.mutated(asked, trouble, begun.elapsed());
            match made {
                Ok(new) => *object = new,
                Err(text) => refusals.of_work(policy, binding, &text),
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

/// Which policies are asked in this round, in their order. The object as it is when the round begins decides: what one policy
/// changes brings none of the others in or out, as in Kubernetes.
async fn choose<'a>(
    admission: &Admission<'a>,
    hooks: &'a [InForce<MutatingPolicy>],
    object: &Object,
    refusals: &mut Refusals,
) -> ApiResult<Vec<Chosen<'a>>> {
    let mut chosen = Vec::new();
    for hook in hooks {
        let policy = &*hook.policy;
        let shape = matching::shape(admission, &policy.criteria, Some(object)).await?;
        let Some(shape) = shape else {
            continue;
        };
        for binding in &hook.bindings {
            let binding = &**binding;
            let fits = matching::shape(admission, &binding.criteria, Some(object)).await?;
            if fits.is_none() {
                continue;
            }
            match params::collect(admission, policy, binding).await? {
                Ok(found) => chosen.extend(found.into_iter().map(|params| Chosen {
                    policy,
                    binding,
                    shape: shape.clone(),
                    params,
                })),
                Err(unfit) => refusals.of_settings(policy, binding, &unfit),
            }
        }
    }
    Ok(chosen)
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
                if let Some(text) = sent.value().get(field) {
                    configuration[field] = text.clone();
                }
            }
            let ty = schema_of(admission, shape);
            schema::apply::overlay(ty, sent.value(), &configuration)
                .map_err(|error| format!("error applying patch: {error}"))?
        }
    };
    let mut new = decoded(admission, shape, value)?;
    let is_custom = shape.custom.is_some() && admission.kind.is_none();
    keep_identity(&mut new, &sent, is_custom).map_err(|error| error.message)?;
    if admission.kind.is_none() {
        shape.default(&mut new);
    }
    let new = unshaped(admission, new, shape).await;
    new.map_err(|error| error.message)
}

impl Refusals {
    /// A policy or a binding cannot be used.
    fn of_settings(&mut self, policy: &Policy<MutatingPolicy>, binding: &Binding, unfit: &Unfit) {
        let head = match unfit {
            Unfit::Policy(_) => format!("policy {}", quoted(&policy.name)),
            Unfit::Binding(_) => bound(policy, binding),
        };
        self.add(policy, "Forbidden", &head, &unfit.text());
    }

    /// A policy could not do its work.
    fn of_work(&mut self, policy: &Policy<MutatingPolicy>, binding: &Binding, text: &str) {
        self.add(policy, "Invalid", &bound(policy, binding), text);
    }

    fn add(
        &mut self,
        policy: &Policy<MutatingPolicy>,
        reason: &'static str,
        head: &str,
        text: &str,
    ) {
        if !policy.fails_closed {
            return;
        }
        if self.texts.is_empty() {
            self.reason = reason;
        }
        self.texts.push(format!("{head} denied request: {text}"));
    }

    /// The Status of all of them; none where there are none.
    fn error(self, admission: &Admission<'_>, object: &Object) -> Option<ApiError> {
        let message = self.texts.first()?.clone();
        let mut error = admission.forbid(object, &message);
        error.message = message;
        error.reason = self.reason.into();
        let causes = self.texts.iter();
        let causes = causes.map(|text| json!({ "message": text })).collect();
        let details = error.details.get_or_insert_with(|| json!({}));
        details["causes"] = Value::Array(causes);
        Some(error)
    }
}

fn bound(policy: &Policy<MutatingPolicy>, binding: &Binding) -> String {
    format!("policy '{}' with binding '{}'", policy.name, binding.name)
}
