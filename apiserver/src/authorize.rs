//! May they: the policy of the crate `auth`, kept in step with the caches.
//!
//! The policy is brought up to date by whoever asks, not by a task: a question costs eight comparisons when nothing
//! changed, and a binding counts as soon as the cache has it.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use auth::request::{Attributes, Decision, Forbidden};
use auth::{Policy, User, policy};
use host::watch;
use kv::mutants::{Bug, planted};

use crate::cache::Cache;
use crate::status::{ApiError, ApiResult};
use crate::world::World;

pub(crate) struct Authorizer {
    policy: RwLock<Policy>,
    followed: Mutex<Vec<Followed>>,
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
            policy: RwLock::new(Policy::new(node_rules)),
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
            *policy = Policy::new(node_rules);
            for one in followed.iter_mut() {
                one.load(&mut policy);
            }
        }
    }

    pub(crate) fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        self.with_policy(|policy| policy.authorize(user, attributes))
    }

    /// 403 with the text of Kubernetes unless the policy allows it.
    pub(crate) fn require(&self, user: &User, attributes: &Attributes<'_>) -> ApiResult<()> {
        let decision = self.authorize(user, attributes);
        if decision.allowed {
            return Ok(());
        }
        Err(refusal(Forbidden::by_authorizer(
            user,
            attributes,
            &decision.reason,
        )))
    }

    /// The policy as of now, for checks that need more than one question.
    pub(crate) fn with_policy<T>(&self, ask: impl FnOnce(&Policy) -> T) -> T {
        self.catch_up();
        ask(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }
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
                match (&change.new, &change.old) {
                    (Some(new), _) => {
                        policy.upsert(self.group, self.plural, &new.object().into_value())
                    }
                    (None, Some(_)) if planted(Bug::RevokedRightsStay) => {}
                    (None, Some(old)) => {
                        policy.remove(self.group, self.plural, old.namespace(), old.name())
                    }
                    (None, None) => {}
                }
            }
        }
    }

    fn load(&mut self, policy: &mut Policy) {
        let snapshot = self.cache.snapshot(0);
        for entry in snapshot.tree.iter_prefix(&self.cache.prefix) {
            policy.upsert(self.group, self.plural, &entry.object().into_value());
        }
        self.cursor = Some(snapshot.cursor);
    }
}
