//! ResourceQuota: what a namespace may hold. The quotas that an object concerns are charged in the transaction that writes
//! it, and each is compared by its revision: requests at the same time cannot exceed one together, and nothing is charged
//! for a write that fails. The requests of one member take turns, so that only members contend for a quota and nobody
//! loses all attempts.

use std::hash::{DefaultHasher, Hash, Hasher};

use resources::quota::{self, Amounts};
use schema::Object;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, MutexGuard};

use crate::admission::{Admission, Operation};
use crate::status::{ApiError, ApiResult};
use crate::write::Extra;

/// Where charges wait for their turn, first come, first served. Namespaces share a queue by the hash of their name, so that
/// there are so many however many namespaces come and go.
const QUEUES: usize = 256;

pub(crate) struct Queues(Vec<Mutex<()>>);

impl Default for Queues {
    fn default() -> Queues {
        Queues((0..QUEUES).map(|_| Mutex::default()).collect())
    }
}

impl Queues {
    async fn turn(&self, namespace: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        let index = hasher.finish() % self.0.len() as u64;
        self.0[index as usize].lock().await
    }
}

/// What a write costs the quotas of its namespace, and the turn in which it is to be written.
#[derive(Default)]
pub(crate) struct Charge<'a> {
    pub(crate) extra: Extra,
    _turn: Option<MutexGuard<'a, ()>>,
}

/// Which state of a quota the first charge is made on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// That of this member's cache, which saves a read; a stale one loses the transaction.
    Cached,
    /// The present one: an attempt on the cached state was lost, or nobody would make a second one.
    Fresh,
}

/// Charges the quotas of the namespace, or refuses what would exceed one. What the caches refuse is looked up first.
pub(crate) async fn charge<'a>(
    admission: &Admission<'a>,
    object: &Object,
    look: Look,
) -> ApiResult<Charge<'a>> {
    if !concerns(admission) {
        return Ok(Charge::default());
    }
    let context = admission.context;
    let (server, namespace) = (&context.server, context.info.namespace.as_str());
    let quotas = server.world.list("", "resourcequotas", namespace);
    if quotas.is_empty() {
        return Ok(Charge::default());
    }
    let wanted = Wanted::of(admission, object);
    if wanted.is_nothing() {
        return Ok(Charge::default());
    }
    let is_charged = |quota: &Object| !matches!(wanted.charged(quota), Ok(None));
    if !quotas.iter().any(|entry| is_charged(&entry.object())) {
        return Ok(Charge::default());
    }
    let resource =
        resources::find("", "v1", "resourcequotas").ok_or_else(ApiError::no_such_resource)?;
    let turn = server.quotas.turn(namespace).await;
    let mut extra = Extra::default();
    for entry in &quotas {
        let key = entry.key();
        let mut charged = None;
        if look == Look::Cached
            && let Some(known) = server.current(resource, key, false).await?
            && let Ok(cost) = wanted.charged(&known.object)
        {
            charged = Some((cost, known.revision));
        }
        if charged.is_none()
            && let Some(now) = server.current(resource, key, true).await?
        {
            let cost = wanted.charged(&now.object);
            let cost = cost.map_err(|text| admission.forbid(object, &text))?;
            charged = Some((cost, now.revision));
        }
        if let Some((Some(cost), revision)) = charged {
            server
                .also_update(resource, key, revision, cost, &mut extra)
                .await?;
        }
    }
    Ok(Charge {
        extra,
        _turn: Some(turn),
    })
}

/// Whether the write can change what its namespace holds.
fn concerns(admission: &Admission<'_>) -> bool {
    let resource = admission.resource;
    if !resource.namespaced || resource.is_virtual() || resource.plural == "events" {
        return false;
    }
    match (admission.operation, admission.subresource) {
        (Operation::Create, "") => admission.kind.is_none(),
        (Operation::Update, "") => {
            admission.is("", "services") || admission.is("", "persistentvolumeclaims")
        }
        (Operation::Update, "resize") => admission.is("", "pods"),
        _ => false,
    }
}

/// What a write adds to what its namespace holds.
struct Wanted<'a> {
    group: &'a str,
    plural: &'a str,
    object: &'a Object,
    /// The change of each count; none of them zero.
    delta: Amounts,
}

impl<'a> Wanted<'a> {
    fn of(admission: &Admission<'a>, object: &'a Object) -> Wanted<'a> {
        let (group, plural) = (&admission.resource.group, &admission.resource.plural);
        let now = admission.context.now;
        let mut delta = quota::usage(group, plural, object, now);
        if let Some(old) = admission.old {
            for (name, amount) in quota::usage(group, plural, old, now) {
                let less = Amounts::from([(name, -amount)]);
                quota::add(&mut delta, &less);
            }
        }
        delta.retain(|_, amount| !amount.is_zero());
        Wanted {
            group,
            plural,
            object,
            delta,
        }
    }

    fn is_nothing(&self) -> bool {
        self.delta.is_empty()
    }

    /// The quota after it; none where it is not concerned; else why it is too much.
    fn charged(&self, quota: &Object) -> Result<Option<Object>, String> {
        let names = quota::concerned(quota, self.group, self.plural, self.object);
        if names.is_empty() {
            return Ok(None);
        }
        let name = quota.name();
        if self.plural == "pods"
            && let Some(text) = quota::unspecified(self.object, &names)
        {
            return Err(format!("failed quota: {name}: {text}"));
        }
        let status = |field: &str| quota.get(&["status", field]).unwrap_or(&Value::Null);
        let (hard, used) = (
            quota::amounts(status("hard")),
            quota::amounts(status("used")),
        );
        if names.iter().any(|name| !used.contains_key(name)) {
            let all: Vec<&str> = hard.keys().map(String::as_str).collect();
            return Err(format!(
                "status unknown for quota: {name}, resources: {}",
                all.join(",")
            ));
        }
        let mut requested = self.delta.clone();
        requested.retain(|name, _| hard.contains_key(name));
        if requested.is_empty() {
            return Ok(None);
        }
        let mut new = used.clone();
        quota::add(&mut new, &requested);
        let exceeded: Vec<&String> = requested
            .iter()
            .filter(|(_, amount)| amount.sign() > 0)
            .map(|(name, _)| name)
            .filter(|name| new.get(*name) > hard.get(*name))
            .collect();
        if !exceeded.is_empty() {
            let tell = |amounts: &Amounts| {
                let texts: Vec<String> = exceeded
                    .iter()
                    .filter_map(|name| Some(format!("{name}={}", amounts.get(*name)?)))
                    .collect();
                texts.join(",")
            };
            return Err(format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                tell(&requested),
                tell(&used),
                tell(&hard)
            ));
        }
        let used: Map<String, Value> = new
            .into_iter()
            .map(|(name, amount)| (name, amount.to_string().into()))
            .collect();
        let mut charged = quota.clone();
        charged.set(&["status", "used"], Value::Object(used));
        Ok(Some(charged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::quantity::Quantity;
    use serde_json::json;

    fn quota(hard: Value, used: Value) -> Object {
        let status = json!({ "hard": hard, "used": used });
        Object::new(json!({"metadata": {"name": "q"}, "spec": {}, "status": status})).unwrap()
    }

    fn charged(quota: &Object, delta: &[(&str, &str)]) -> Result<Option<Value>, String> {
        let pod = Object::new(json!({"spec": {"containers": [{"name": "c1", "resources": {"requests": {"cpu": "1"}}}]}})).unwrap();
        let delta = delta
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), Quantity::parse(amount).unwrap()));
        let wanted = Wanted {
            group: "",
            plural: "pods",
            object: &pod,
            delta: delta.collect(),
        };
        let charged = wanted.charged(quota)?;
        Ok(charged.map(|quota| quota.get(&["status", "used"]).cloned().unwrap()))
    }

    #[test]
    fn a_quota_is_charged_up_to_its_limit() {
        let delta = [("pods", "1"), ("cpu", "250m"), ("count/pods", "1")];
        let half = quota(
            json!({"pods": "2", "cpu": "1"}),
            json!({"pods": "1", "cpu": "750m"}),
        );
        assert_eq!(
            charged(&half, &delta).unwrap(),
            Some(json!({"pods": "2", "cpu": "1"}))
        );
        let full = quota(json!({"pods": "1"}), json!({"pods": "1"}));
        assert_eq!(
            charged(&full, &delta).unwrap_err(),
            "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"
        );
        // What becomes less is never too much.
        assert_eq!(
            charged(
                &quota(json!({"pods": "1"}), json!({"pods": "5"})),
                &[("pods", "-1")]
            )
            .unwrap(),
            Some(json!({"pods": "4"}))
        );
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let silent = quota(
            json!({"limits.memory": "1Gi"}),
            json!({"limits.memory": "0"}),
        );
        assert_eq!(
            charged(&silent, &[("pods", "1")]).unwrap_err(),
            "failed quota: q: must specify limits.memory for: c1"
        );
        let uncounted = quota(json!({"pods": "1", "cpu": "1"}), json!({"pods": "0"}));
        assert_eq!(
            charged(&uncounted, &[("pods", "1")]).unwrap_err(),
            "status unknown for quota: q, resources: cpu,pods"
        );
        let of_services = quota(json!({"services": "1"}), json!({"services": "1"}));
        assert_eq!(charged(&of_services, &[("pods", "1")]).unwrap(), None);
    }
}
