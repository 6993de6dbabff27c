//! What a reconcile sees: caches, the time, and how the last attempt at the same key ended.

use crate::node_log::NodeLog;
use crate::pod_tally::PodTally;
use agent_runtime::cache::Cache;
use agent_runtime::kinds::{
    CertificateSigningRequest, ConfigMap, ControllerRevision, CronJob, DaemonSet, Deployment,
    EndpointSlice, Endpoints, HorizontalPodAutoscaler, IpAddress, Job, Lease, Namespace, Node,
    PartialObject, PersistentVolume, PersistentVolumeClaim, Pod, PodDisruptionBudget, ReplicaSet,
    ReplicationController, ResourceClaim, ResourceClaimTemplate, ResourceSlice, Secret, Service,
    ServiceAccount, ServiceCidr, StatefulSet, StorageClass,
};
use agent_runtime::pod_routes;
use agent_runtime::resource_ref::{ROLE_BINDINGS, ROLES};
use agent_runtime::timestamp::{Micros, Moment};
use agent_runtime::{ApiError, ControllerOptions, Hub, Key};
use host::HashMap;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The caches of all kinds that controllers read.
#[expect(
    missing_docs,
    reason = "each field is the cache of the kind that names it"
)]
pub struct Caches {
    pub pods: Arc<Cache<Pod>>,
    /// How many of them ReplicaSets and ReplicationControllers have.
    pub(crate) pod_tally: Arc<PodTally>,
    pub nodes: Arc<Cache<Node>>,
    /// What changes in the nodes.
    pub(crate) node_log: Arc<NodeLog>,
    pub leases: Arc<Cache<Lease>>,
    pub namespaces: Arc<Cache<Namespace>>,
    pub services: Arc<Cache<Service>>,
    pub endpoints: Arc<Cache<Endpoints>>,
    pub endpoint_slices: Arc<Cache<EndpointSlice>>,
    pub service_accounts: Arc<Cache<ServiceAccount>>,
    /// Only the ConfigMaps named [`crate::root_ca::NAME`].
    pub root_ca_config_maps: Arc<Cache<ConfigMap>>,
    pub replica_sets: Arc<Cache<ReplicaSet>>,
    pub replication_controllers: Arc<Cache<ReplicationController>>,
    pub deployments: Arc<Cache<Deployment>>,
    pub stateful_sets: Arc<Cache<StatefulSet>>,
    pub daemon_sets: Arc<Cache<DaemonSet>>,
    pub controller_revisions: Arc<Cache<ControllerRevision>>,
    pub jobs: Arc<Cache<Job>>,
    pub cron_jobs: Arc<Cache<CronJob>>,
    pub disruption_budgets: Arc<Cache<PodDisruptionBudget>>,
    pub autoscalers: Arc<Cache<HorizontalPodAutoscaler>>,
    pub claims: Arc<Cache<PersistentVolumeClaim>>,
    pub volumes: Arc<Cache<PersistentVolume>>,
    pub storage_classes: Arc<Cache<StorageClass>>,
    pub resource_claims: Arc<Cache<ResourceClaim>>,
    pub resource_claim_templates: Arc<Cache<ResourceClaimTemplate>>,
    pub resource_slices: Arc<Cache<ResourceSlice>>,
    pub service_cidrs: Arc<Cache<ServiceCidr>>,
    pub ip_addresses: Arc<Cache<IpAddress>>,
    pub signing_requests: Arc<Cache<CertificateSigningRequest>>,
    /// Only the Secrets that are bootstrap tokens.
    pub bootstrap_tokens: Arc<Cache<Secret>>,
    /// Only the Secrets that hold tokens of service accounts.
    pub account_secrets: Arc<Cache<Secret>>,
    /// Only the ConfigMaps named [`crate::bootstrap_signer::NAME`].
    pub cluster_infos: Arc<Cache<ConfigMap>>,
    /// Only the ConfigMaps named [`pod_routes::TABLE`].
    pub route_tables: Arc<Cache<ConfigMap>>,
    /// Only the Roles named [`pod_routes::ROLE`].
    pub route_roles: Arc<Cache<PartialObject>>,
    /// Only the RoleBindings of that name.
    pub route_role_bindings: Arc<Cache<PartialObject>>,
}

impl Caches {
    /// Opens the caches; their watches start.
    pub fn open(hub: &Hub) -> Self {
        let route_rights = format!("metadata.name={}", pod_routes::ROLE);
        let nodes: Arc<Cache<Node>> = hub.cache();
        let pods: Arc<Cache<Pod>> = hub.cache();
        Self {
            node_log: NodeLog::of(&nodes),
            pod_tally: PodTally::of(&pods),
            pods,
            nodes,
            leases: hub.cache(),
            namespaces: hub.cache(),
            services: hub.cache(),
            endpoints: hub.cache(),
            endpoint_slices: hub.cache(),
            service_accounts: hub.cache(),
            root_ca_config_maps: hub
                .cache_where(&format!("metadata.name={}", crate::root_ca::NAME)),
            replica_sets: hub.cache(),
            replication_controllers: hub.cache(),
            deployments: hub.cache(),
            stateful_sets: hub.cache(),
            daemon_sets: hub.cache(),
            controller_revisions: hub.cache(),
            jobs: hub.cache(),
            cron_jobs: hub.cache(),
            disruption_budgets: hub.cache(),
            autoscalers: hub.cache(),
            claims: hub.cache(),
            volumes: hub.cache(),
            storage_classes: hub.cache(),
            resource_claims: hub.cache(),
            resource_claim_templates: hub.cache(),
            resource_slices: hub.cache(),
            service_cidrs: hub.cache(),
            ip_addresses: hub.cache(),
            signing_requests: hub.cache(),
            bootstrap_tokens: hub.cache_where(&format!("type={}", crate::token_cleaner::TOKEN)),
            account_secrets: hub.cache_where(&format!("type={}", crate::account_secret::TYPE)),
            cluster_infos: hub
                .cache_where(&format!("metadata.name={}", crate::bootstrap_signer::NAME)),
            route_tables: hub.cache_where(&format!("metadata.name={}", pod_routes::TABLE)),
            route_roles: hub.metadata_where(&ROLES, &route_rights),
            route_role_bindings: hub.metadata_where(&ROLE_BINDINGS, &route_rights),
        }
    }
}

/// Since when a controller has seen what it still sees, by key. No clock of another machine has a part in it, and whoever
/// takes over begins anew, as in Kubernetes.
#[derive(Default)]
pub struct Sightings {
    /// By [`mark`]: a hundred thousand ready pods would have as many texts here, and each is asked for as a whole.
    since: Mutex<HashMap<Key, BTreeMap<u64, Instant>>>,
    delays: Mutex<HashMap<Key, BTreeMap<String, Delay>>>,
    held: Mutex<HashMap<Key, BTreeSet<&'static str>>>,
    kept: Mutex<HashMap<Key, Box<dyn Any + Send>>>,
}

/// What was done last, and how long it has to wait before it is done again.
#[derive(Clone, Copy)]
struct Delay {
    since: Instant,
    length: Duration,
}

/// The first delay; each next one is twice as long, up to the longest. What was not done for twice the longest begins anew.
const DELAY_MIN: Duration = Duration::from_secs(1);

/// Tells one text from all others about a key; that two have the same mark will not happen.
fn mark(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Sightings {
    /// Since when each of these has been seen about the key, in their order, and nothing for what is seen the first time;
    /// everything else about it is forgotten.
    fn first_seen(&self, key: &Key, seen: &[String], now: Instant) -> Vec<Option<Instant>> {
        let mut all = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.remove(key).unwrap_or_default();
        let marks: Vec<u64> = seen.iter().map(|text| mark(text)).collect();
        let since = |mark: &u64| before.get(mark).copied();
        let since: Vec<Option<Instant>> = marks.iter().map(since).collect();
        if !seen.is_empty() {
            let begun = since.iter().map(|since| since.unwrap_or(now));
            all.insert(key.clone(), marks.into_iter().zip(begun).collect());
        }
        since
    }

    /// For how long each of these has been seen about the key, in their order.
    fn ages(&self, key: &Key, seen: &[String], now: Instant) -> Vec<Duration> {
        let since = self.first_seen(key, seen, now).into_iter();
        since
            .map(|since| now.saturating_duration_since(since.unwrap_or(now)))
            .collect()
    }

    /// Which of these were not seen about the key when it was last asked, in their order.
    fn news(&self, key: &Key, seen: &[String], now: Instant) -> Vec<bool> {
        let since = self.first_seen(key, seen, now);
        since.iter().map(Option::is_none).collect()
    }

    /// Permits something about the key unless it was permitted a short time ago: then says how long it has to wait.
    fn permit(
        &self,
        key: &Key,
        what: &str,
        longest: Duration,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut all = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
        let delays = all.entry(key.clone()).or_default();
        let passed = |delay: &Delay| now.saturating_duration_since(delay.since);
        let length = match delays.get(what).filter(|d| passed(d) < longest * 2) {
            Some(delay) if passed(delay) < delay.length => {
                return Err(delay.length - passed(delay));
            }
            Some(delay) => (delay.length * 2).min(longest),
            None => {
                delays.retain(|_, delay| passed(delay) < longest * 2);
                DELAY_MIN
            }
        };
        delays.insert(what.to_owned(), Delay { since: now, length });
        Ok(())
    }

    /// Notes whether something is so about the key; answers whether it was before.
    fn hold(&self, key: &Key, what: &'static str, is_so: bool) -> bool {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if is_so {
            return !all.entry(key.clone()).or_default().insert(what);
        }
        let Some(held) = all.get_mut(key) else {
            return false;
        };
        let was = held.remove(what);
        if held.is_empty() {
            all.remove(key);
        }
        was
    }

    /// What is kept about the key, or the default.
    fn take_kept<T: Default + 'static>(&self, key: &Key) -> T {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept
            .remove(key)
            .and_then(|found| found.downcast::<T>().ok());
        found.map_or_else(T::default, |found| *found)
    }

    fn keep<T: Send + 'static>(&self, key: &Key, value: T) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(key.clone(), Box::new(value));
    }

    fn forget(&self, key: &Key) {
        let mut delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
        delays.remove(key);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(key);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(key);
    }
}

/// See the module head.
pub struct World {
    /// The caches.
    pub caches: Arc<Caches>,
    /// The time of this reconcile, for what is written down.
    pub now: Micros,
    /// The same by the clock that nobody sets.
    pub(crate) steady: Instant,
    sightings: Arc<Sightings>,
    /// How the last plan of the same key failed.
    pub last_failure: Option<ApiError>,
    /// The cluster's CA certificate, PEM.
    pub cluster_ca_pem: Arc<str>,
    /// What the operator has chosen.
    pub(crate) options: Arc<ControllerOptions>,
    /// State of the generator of name suffixes.
    seed: AtomicU64,
}

impl World {
    /// A world; the controller's sightings outlive it, `seed` makes its names.
    pub fn new(
        caches: Arc<Caches>,
        sightings: Arc<Sightings>,
        now: Moment,
        last_failure: Option<ApiError>,
        cluster_ca_pem: Arc<str>,
        seed: u64,
    ) -> Self {
        Self {
            caches,
            now: now.wall,
            steady: now.steady,
            sightings,
            last_failure,
            cluster_ca_pem,
            options: Arc::default(),
            seed: AtomicU64::new(seed),
        }
    }

    /// The same world of an operator who has chosen this.
    pub(crate) fn with_options(self, options: Arc<ControllerOptions>) -> Self {
        Self { options, ..self }
    }

    /// Bits that nobody can tell before.
    pub(crate) fn random_bits(&self) -> u64 {
        mix(self
            .seed
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
    }

    /// For how long this controller has seen each of these about the key, in their order; what else it has seen about it
    /// is forgotten.
    pub(crate) fn ages(&self, key: &Key, seen: &[String]) -> Vec<Duration> {
        self.sightings.ages(key, seen, self.steady)
    }

    /// Which of these the controller has not seen about the key at its last reconcile, in their order; what else it has
    /// seen about it is forgotten.
    pub(crate) fn news(&self, key: &Key, seen: &[String]) -> Vec<bool> {
        self.sightings.news(key, seen, self.steady)
    }

    /// Permits what must not be done again and again, such as replacing a pod that fails each time: at once at first, then
    /// after delays that double up to the longest. A refusal says how long to wait.
    pub(crate) fn permit(&self, key: &Key, what: &str, longest: Duration) -> Result<(), Duration> {
        self.sightings.permit(key, what, longest, self.steady)
    }

    /// Notes whether something is so about the key; answers whether it was at the last call, for what is told once when it
    /// comes and once when it goes.
    pub(crate) fn hold(&self, key: &Key, what: &'static str, is_so: bool) -> bool {
        self.sightings.hold(key, what, is_so)
    }

    /// What this controller keeps about the key, or the default: it is taken out, and whoever has brought it up to date puts it
    /// back by [`keep`](World::keep). It may be missing at any time, as for the next leader: it has to follow from the caches
    /// alone, or be nothing that anybody misses.
    pub(crate) fn take_kept<T: Default + 'static>(&self, key: &Key) -> T {
        self.sightings.take_kept(key)
    }

    /// Keeps this about the key until it is taken out or the key is forgotten.
    pub(crate) fn keep<T: Send + 'static>(&self, key: &Key, value: T) {
        self.sightings.keep(key, value);
    }

    /// Forgets the delays of a key that is gone, what was so about it, and what was kept.
    pub(crate) fn forget(&self, key: &Key) {
        self.sightings.forget(key);
    }

    /// `base` and five random characters, as the API server makes names from `generateName`. Names are chosen here, so
    /// that a repeated create after a lost answer is refused instead of doubled.
    pub fn generate_name(&self, base: &str) -> String {
        let mut base = base;
        while base.len() > 58 {
            let mut chars = base.chars();
            chars.next_back();
            base = chars.as_str();
        }
        let mut bits = self.random_bits();
        let mut name = base.to_owned();
        for _ in 0..5 {
            name.push(char::from(
                SAFE_CHARACTERS[usize::try_from(bits % 27).unwrap_or(0)],
            ));
            bits /= 27;
        }
        name
    }
}

/// Letters and digits without vowels and look-alikes: no words, no misreading.
pub(crate) const SAFE_CHARACTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_again_and_again_waits_twice_as_long_each_time() {
        let (sightings, key) = (Sightings::default(), Key::new("a", "x"));
        let began = Instant::now();
        let longest = Duration::from_secs(900);
        let after = |what: &str, seconds: u64| {
            let now = began + Duration::from_secs(seconds);
            sightings.permit(&key, what, longest, now)
        };
        let at = |seconds: u64| after("n1", seconds);
        assert_eq!(at(0), Ok(()));
        assert_eq!(at(0), Err(Duration::from_secs(1)));
        assert_eq!(at(1), Ok(()));
        assert_eq!(at(2), Err(Duration::from_secs(1)));
        assert_eq!(at(3), Ok(()));
        assert_eq!(at(6), Err(Duration::from_secs(1)));
        assert_eq!(after("n2", 6), Ok(()));
        let mut now = 7;
        for _ in 0..20 {
            assert_eq!(at(now), Ok(()));
            now += longest.as_secs();
        }
        assert_eq!(at(now - 1), Err(Duration::from_secs(1)));
        assert_eq!(at(now + 2 * longest.as_secs()), Ok(()));
        assert_eq!(at(now + 2 * longest.as_secs() + 1), Ok(()), "1 s again");
        assert_eq!(
            sightings.delays.lock().unwrap()[&key].len(),
            1,
            "n2 is forgotten"
        );
        sightings.forget(&key);
        assert!(sightings.delays.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_kept_is_there_until_it_is_taken_or_its_key_is_gone() {
        let (sightings, key) = (Sightings::default(), Key::new("a", "x"));
        assert_eq!(sightings.take_kept::<u32>(&key), 0);
        sightings.keep(&key, 7_u32);
        assert_eq!(sightings.take_kept::<u32>(&Key::new("a", "y")), 0);
        assert_eq!(sightings.take_kept::<u32>(&key), 7);
        assert_eq!(sightings.take_kept::<u32>(&key), 0);
        sightings.keep(&key, 8_u32);
        sightings.forget(&key);
        assert!(sightings.kept.lock().unwrap().is_empty());
    }

    #[test]
    fn news_is_what_was_not_there_when_it_was_last_asked_for() {
        let (sightings, key) = (Sightings::default(), Key::new("a", "x"));
        let news = |seen: &[&str]| {
            let seen: Vec<String> = seen.iter().map(|text| (*text).to_owned()).collect();
            sightings.news(&key, &seen, Instant::now())
        };
        assert_eq!(news(&["p@1", "q@1"]), [true, true]);
        assert_eq!(news(&["q@1", "p@2"]), [false, true]);
        assert_eq!(news(&["p@1", "p@2"]), [true, false]);
        news(&[]);
        assert!(sightings.since.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_so_is_known_until_it_is_not_or_its_key_is_gone() {
        let (sightings, key) = (Sightings::default(), Key::new("a", "x"));
        for (what, is_so, was) in [
            ("one", false, false),
            ("one", true, false),
            ("one", true, true),
            ("two", true, false),
            ("one", false, true),
            ("one", false, false),
            ("two", true, true),
        ] {
            assert_eq!(sightings.hold(&key, what, is_so), was, "{what} {is_so}");
        }
        assert!(!sightings.hold(&Key::new("a", "y"), "two", false));
        sightings.forget(&key);
        assert!(sightings.held.lock().unwrap().is_empty());
    }
}
