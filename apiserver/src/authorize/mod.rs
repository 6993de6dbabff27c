//! May they: the policy of the crate `auth`, kept in step with the caches.
//!
//! - `config`: the file that says who is asked, and in which order
//! - `webhook`: somebody outside
//!
//! The policy is brought up to date by whoever asks, not by a task: a question costs eight comparisons when nothing
//! changed, and a binding counts as soon as the cache has it.

pub(crate) mod config;
mod webhook;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use auth::node_graph::Pods;
use auth::request::{Attributes, Decision, Forbidden};
use auth::user::GROUP_MASTERS;
use auth::{Policy, User, policy};
use futures::FutureExt;
use host::watch;
use kv::mutants::{Bug, planted};
use serde_json::Value;

use config::Settings;
use tokio::runtime::{Handle, RuntimeFlavor};
use webhook::AccessWebhook;

use crate::cache::Cache;
use crate::entry::Entry;
use crate::held::Held;
use crate::status::{ApiError, ApiResult};
use crate::world::World;

pub(crate) struct Authorizer {
    /// Who is asked, in order; administrators may do everything before that.
    chain: Held<Vec<Link>>,
    policy: RwLock<Policy>,
    /// What of pods matters is read from them.
    pods: Arc<dyn Pods>,
    followed: Mutex<Vec<Followed>>,
}

/// One authorizer.
enum Link {
    AlwaysAllow,
    AlwaysDeny,
    Node,
    Rbac,
    Webhook(Box<AccessWebhook>),
}

struct Followed {
    group: &'static str,
    plural: &'static str,
    cache: Arc<Cache>,
    wake: watch::Receiver<u64>,
    /// None: everything has to be read again.
    cursor: Option<u64>,
}

impl Authorizer {
    pub(crate) fn new(world: &World) -> Authorizer {
        let node_rules = resources::bootstrap::cluster_roles()
            .into_iter()
            .find(|role| role.name() == "system:node")
            .map(|role| auth::rule::Rule::list_from_role(&role.into_value()))
            .unwrap_or_default();
        let pods: Arc<dyn Pods> = Arc::new(Cached(world.named("", "pods").cloned()));
        let followed = policy::WATCHED
            .iter()
            .filter_map(|(group, plural)| {
                let cache = world.named(group, plural)?.clone();
                let mut wake = cache.subscribe();
                wake.mark_changed();
                Some(Followed {
                    group,
                    plural,
                    cache,
                    wake,
                    cursor: None,
                })
            })
            .collect();
        Authorizer {
            chain: Held::new(vec![Link::Node, Link::Rbac]),
            policy: RwLock::new(Policy::new(node_rules, pods.clone())),
            pods,
            followed: Mutex::new(followed),
        }
    }

    /// Applies what the caches have learned since the last question.
    fn catch_up(&self) {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fell_behind = false;
        for one in followed.iter_mut() {
            if !one.wake.has_changed().unwrap_or(false) {
                continue;
            }
            one.wake.mark_unchanged();
            let mut policy = self.policy.write().unwrap_or_else(PoisonError::into_inner);
            fell_behind |= !one.follow(&mut policy);
        }
        if fell_behind {
            let mut policy = self.policy.write().unwrap_or_else(PoisonError::into_inner);
            let node_rules = std::mem::take(&mut policy.node_rules);
            *policy = Policy::new(node_rules, self.pods.clone());
            for one in followed.iter_mut() {
                one.load(&mut policy);
            }
        }
    }

    /// Takes the text of an AuthorizationConfiguration.
    pub(crate) fn take_file(&self, text: &str, world: &Arc<World>) -> Result<(), String> {
        let chain = config::parse(text)?.into_iter().map(|one| {
            Ok(match one {
                Settings::AlwaysAllow => Link::AlwaysAllow,
                Settings::AlwaysDeny => Link::AlwaysDeny,
                Settings::Node => Link::Node,
                Settings::Rbac => Link::Rbac,
                Settings::Webhook(settings) => {
                    Link::Webhook(Box::new(AccessWebhook::new(world, settings)?))
                }
            })
        });
        self.chain.set(chain.collect::<Result<_, String>>()?);
        Ok(())
    }

    /// Whether the user may do this: the first authorizer with an opinion has the last word.
    pub(crate) async fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        if user.in_group(GROUP_MASTERS) {
            return Decision::allow("");
        }
        let (mut reasons, mut errors) = (Vec::new(), Vec::new());
        let mut is_current = false;
        for link in self.chain.get().iter() {
            let decision = match link {
                Link::AlwaysAllow => Decision::allow(""),
                Link::AlwaysDeny => Decision::no_opinion("Everything is forbidden."),
                Link::Node => {
                    self.ask_policy(&mut is_current, |policy| policy.by_node(user, attributes))
                }
                Link::Rbac => {
                    self.ask_policy(&mut is_current, |policy| policy.by_rbac(user, attributes))
                }
                Link::Webhook(webhook) => {
                    // What changes while it is asked counts for those behind it.
                    is_current = false;
                    Box::pin(webhook.decide(user, attributes)).await
                }
            };
            if decision.allowed || decision.denied {
                return decision;
            }
            reasons.push(decision.reason);
            errors.push(decision.error);
        }
        let told = |mut texts: Vec<String>| {
            texts.retain(|text| !text.is_empty());
            texts.join("\n")
        };
        Decision {
            error: told(errors),
            ..Decision::no_opinion(told(reasons))
        }
    }

    /// The same for whoever cannot wait: expressions, and plugins of admission. A webhook is asked while this thread does
    /// nothing else.
    pub(crate) fn authorize_in_place(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        let asking = self.authorize(user, attributes);
        if !self
            .chain
            .get()
            .iter()
            .any(|link| matches!(link, Link::Webhook(_)))
        {
            // Nothing in it waits.
            return asking
                .now_or_never()
                .unwrap_or_else(|| Decision::no_opinion(""));
        }
        match Handle::try_current() {
            Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
                tokio::task::block_in_place(|| handle.block_on(asking))
            }
            _ => Decision {
                error: "an authorizer cannot be asked here".to_owned(),
                ..Decision::no_opinion("")
            },
        }
    }

    /// An error with the text of Kubernetes unless it is allowed.
    pub(crate) async fn require(&self, user: &User, attributes: &Attributes<'_>) -> ApiResult<()> {
        required(user, attributes, &self.authorize(user, attributes).await)
    }

    /// `status` of a SelfSubjectRulesReview.
    pub(crate) fn rules_review(&self, user: &User, namespace: &str) -> Value {
        let mut status = self.with_policy(|policy| policy.rules_review(user, namespace));
        if self
            .chain
            .get()
            .iter()
            .any(|link| matches!(link, Link::Webhook(_)))
        {
            let known = status["evaluationError"].as_str().map(str::to_owned);
            let own = "webhook authorizer does not support user rule resolution".to_owned();
            let errors: Vec<String> = known.into_iter().chain([own]).collect();
            status["incomplete"] = true.into();
            status["evaluationError"] = errors.join(", ").into();
        }
        status
    }

    /// The policy as of now, for checks that need more than one question.
    pub(crate) fn with_policy<T>(&self, ask: impl FnOnce(&Policy) -> T) -> T {
        self.ask_policy(&mut false, ask)
    }

    /// The same for one of several questions: the policy is brought up to date by the first of them.
    fn ask_policy<T>(&self, is_current: &mut bool, ask: impl FnOnce(&Policy) -> T) -> T {
        if !std::mem::replace(is_current, true) {
            self.catch_up();
        }
        ask(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// 403 with the text of Kubernetes unless the decision allows it.
pub(crate) fn required(
    user: &User,
    attributes: &Attributes<'_>,
    decision: &Decision,
) -> ApiResult<()> {
    if decision.allowed {
        return Ok(());
    }
    if !decision.error.is_empty() {
        return Err(ApiError::internal(decision.error.clone()));
    }
    Err(refusal(Forbidden::by_authorizer(
        user,
        attributes,
        &decision.reason,
    )))
}

/// The Status of a refusal.
pub(crate) fn refusal(forbidden: Forbidden) -> ApiError {
    ApiError::forbidden_by(
        &forbidden.group,
        &forbidden.resource,
        &forbidden.name,
        forbidden.message,
    )
}

impl Followed {
    /// Applies new changes; false where the ring has gone past us, so that everything has to be read again.
    fn follow(&mut self, policy: &mut Policy) -> bool {
        let Some(mut cursor) = self.cursor else {
            return false;
        };
        loop {
            let Ok(changes) = self.cache.read_changes(&mut cursor, 1_024) else {
                return false;
            };
            if changes.is_empty() {
                self.cursor = Some(cursor);
                return true;
            }
            for change in changes {
                let (old, new) = (change.old.as_deref(), change.new.as_deref());
                if new.is_none() && planted(Bug::RevokedRightsStay) {
                    continue;
                }
                self.tell(policy, old, new);
            }
        }
    }

    fn load(&mut self, policy: &mut Policy) {
        let snapshot = self.cache.snapshot(0);
        for entry in snapshot.tree.iter_prefix(&self.cache.prefix) {
            self.tell(policy, None, Some(entry));
        }
        self.cursor = Some(snapshot.cursor);
    }

    fn tell(&self, policy: &mut Policy, old: Option<&Entry>, new: Option<&Entry>) {
        let (group, plural) = (self.group, self.plural);
        let Some(either) = new.or(old) else { return };
        let (namespace, name) = (either.namespace(), either.name());
        if (group, plural) == ("", "pods") {
            return policy
                .nodes
                .move_pod(namespace, name, node_of(old), node_of(new));
        }
        match new {
            Some(new) => policy.upsert(group, plural, new.object().value()),
            None => policy.remove(group, plural, namespace, name),
        }
    }
}

fn node_of(pod: Option<&Entry>) -> &str {
    pod.map_or("", |pod| pod.field("spec.nodeName"))
}

/// The pods of the cache.
struct Cached(Option<Arc<Cache>>);

impl fmt::Debug for Cached {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Cached")
    }
}

impl Pods for Cached {
    fn pod(&self, namespace: &str, name: &str, mentions: &str) -> Option<Value> {
        let cache = self.0.as_ref()?;
        let entry = cache.get(&format!("{}{namespace}/{name}", cache.prefix))?;
        let json = entry.json();
        // Names need no escapes in JSON, so they stand in the text as they are.
        if !std::str::from_utf8(&json).ok()?.contains(mentions) {
            return None;
        }
        serde_json::from_slice(&json).ok()
    }
}
