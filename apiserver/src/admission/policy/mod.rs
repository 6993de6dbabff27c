//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: rules in CEL, which the server runs itself.
//!
//! Policies are compiled when the caches have new ones, not when requests come: without policies a request pays for one look
//! at a flag. What they say is worked out by the crate `cel`; here stands whom they concern and what becomes of their word.

pub(super) mod inputs;
mod mutating;
mod params;
pub(super) mod reading;
mod validating;

use std::sync::{Arc, Mutex, PoisonError};

use cel::admission::{MutatingPolicy, ValidatingPolicy};
use host::watch;
use resources::Resource;
use schema::Object;
use serde_json::Value;

use super::webhook::hook::Criteria;
use super::webhook::matching;
use crate::cache::Cache;
use crate::world::World;
use inputs::Named;
pub(super) use mutating::Rounds;
pub(super) use validating::validate;

const GROUP: &str = "admissionregistration.k8s.io";

/// Whether no policy judges the resource: besides the policies themselves the reviews of tokens and of access, without
/// which nobody could be authenticated or authorized to take a broken policy away. Webhooks do see reviews.
fn is_exempt(resource: &Resource) -> bool {
    const REVIEWS: &[&str] = &["authentication.k8s.io", "authorization.k8s.io"];
    matching::is_exempt(resource) || resource.is_virtual() && REVIEWS.contains(&&*resource.group)
}

/// All policies of the cluster, as of this member's caches.
pub(crate) struct Policies {
    mutating: Registry<MutatingPolicy>,
    validating: Registry<ValidatingPolicy>,
}

impl Policies {
    pub(crate) fn new(world: &World) -> Policies {
        Policies {
            mutating: Registry::new(world, "mutatingadmissionpolicies", MutatingPolicy::compile),
            validating: Registry::new(
                world,
                "validatingadmissionpolicies",
                ValidatingPolicy::compile,
            ),
        }
    }

    /// Whether none at all is in force.
    pub(super) fn has_none(&self) -> bool {
        self.mutating.hooks().is_empty() && self.validating.hooks().is_empty()
    }
}

/// A policy, compiled.
struct Policy<C> {
    name: String,
    /// Where it was read; a policy that did not change is not compiled again.
    revision: i64,
    criteria: Criteria,
    /// Null, or `apiVersion` and `kind`.
    param_kind: Value,
    fails_closed: bool,
    named: Named,
    compiled: C,
}

/// What puts a policy into force.
struct Binding {
    name: String,
    policy: String,
    criteria: Criteria,
    /// Null, or what says which parameters.
    param_ref: Value,
    /// `Deny`, `Warn`, `Audit`.
    actions: Vec<String>,
}

/// A policy with its bindings, of which there is at least one.
struct InForce<C> {
    policy: Arc<Policy<C>>,
    bindings: Vec<Arc<Binding>>,
}

/// The policies in force, by name.
type Hooks<C> = Arc<Vec<InForce<C>>>;

/// The policies of one kind.
struct Registry<C> {
    policies: Option<Arc<Cache>>,
    bindings: Option<Arc<Cache>>,
    compile: fn(&Value) -> C,
    read: Mutex<Read<C>>,
}

struct Read<C> {
    wakes: Vec<watch::Receiver<u64>>,
    /// Something has changed that is not read yet, as reading it may have failed.
    stale: bool,
    hooks: Hooks<C>,
}

impl<C> Registry<C> {
    fn new(world: &World, plural: &str, compile: fn(&Value) -> C) -> Registry<C> {
        let policies = world.named(GROUP, plural).cloned();
        let bindings = plural.replace("policies", "policybindings");
        let bindings = world.named(GROUP, &bindings).cloned();
        let wakes = [&policies, &bindings].into_iter().flatten().map(|cache| {
            let mut wake = cache.subscribe();
            wake.mark_changed();
            wake
        });
        Registry {
            compile,
            read: Mutex::new(Read {
                wakes: wakes.collect(),
                stale: false,
                hooks: Arc::default(),
            }),
            policies,
            bindings,
        }
    }

    fn hooks(&self) -> Hooks<C> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let Read {
            wakes,
            stale,
            hooks,
        } = &mut *read;
        for wake in wakes {
            if wake.has_changed().unwrap_or(false) {
                // Before the look: what comes during it is looked at next time.
                wake.mark_unchanged();
                *stale = true;
            }
        }
        if *stale {
            *hooks = Arc::new(self.load(hooks));
            *stale = false;
        }
        hooks.clone()
    }

    fn load(&self, before: &[InForce<C>]) -> Vec<InForce<C>> {
        let (Some(policies), Some(bindings)) = (&self.policies, &self.bindings) else {
            return Vec::new();
        };
        let snapshot = bindings.snapshot(0);
        let bindings = snapshot.tree.iter_prefix(&bindings.prefix);
        let bindings: Vec<Arc<Binding>> = bindings
            .map(|entry| Arc::new(Binding::of(&entry.object())))
            .collect();
        let snapshot = policies.snapshot(0);
        let mut hooks = Vec::new();
        for entry in snapshot.tree.iter_prefix(&policies.prefix) {
            let name = entry.name();
            let own = bindings.iter().filter(|binding| binding.policy == name);
            let own: Vec<Arc<Binding>> = own.cloned().collect();
            if own.is_empty() {
                continue;
            }
            let known = before.iter().map(|hook| &hook.policy);
            let mut known = known.filter(|old| old.name == name && old.revision == entry.revision);
            let policy = match known.next() {
                Some(policy) => policy.clone(),
                None => Arc::new(Policy::of(&entry.object(), entry.revision, self.compile)),
            };
            hooks.push(InForce {
                policy,
                bindings: own,
            });
        }
        hooks
    }
}

fn part(object: &Object, field: &str) -> Value {
    object.get(&["spec", field]).cloned().unwrap_or_default()
}

impl<C> Policy<C> {
    fn of(object: &Object, revision: i64, compile: fn(&Value) -> C) -> Policy<C> {
        let spec = object.get(&["spec"]).cloned().unwrap_or_default();
        Policy {
            name: object.name().to_owned(),
            revision,
            criteria: Criteria::of_policy(&part(object, "matchConstraints")),
            param_kind: part(object, "paramKind"),
            fails_closed: object.get_str(&["spec", "failurePolicy"]) != Some("Ignore"),
            named: Named::in_texts_of(&spec),
            compiled: compile(&spec),
        }
    }
}

impl Binding {
    fn of(object: &Object) -> Binding {
        let actions = object.get_array(&["spec", "validationActions"]);
        let actions = actions.into_iter().flatten().filter_map(Value::as_str);
        Binding {
            name: object.name().to_owned(),
            policy: object
                .get_str(&["spec", "policyName"])
                .unwrap_or_default()
                .to_owned(),
            criteria: Criteria::of_policy(&part(object, "matchResources")),
            param_ref: part(object, "paramRef"),
            actions: actions.map(str::to_owned).collect(),
        }
    }
}
