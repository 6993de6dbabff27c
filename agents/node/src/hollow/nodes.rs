//! One hollow node: who it is, what the API was told of it, and what it has to tell next. Pure; times are those since the
//! process began, which no setting of a clock moves.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use agent_runtime::pressure::{self, Pressure};
use agent_runtime::timestamp::Micros;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::addresses::{self, Addresses};
use super::images::Images;
use super::interned::{Interned, group};
use crate::clock;
use crate::node::{self, Capacity, Conditions, Health, Machine, Transitions};
use crate::pod::admission::site::Site;
use crate::pod::desired::version;
use crate::runtime::RuntimeInfo;
use crate::{HollowConfig, NodeConfig};

/// Turns how a node behaves while it runs.
pub(super) const BEHAVIOUR: &str = "kontiki.io/hollow-behaviour";
pub(super) const LEASE_SECONDS: i64 = 40;

/// How a node behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// As it should.
    #[default]
    Steady,
    /// As one that is switched off: it tells nothing of itself and of its pods, and takes no orders.
    Silent,
    /// Everything of its pods takes longer.
    Slow,
    /// It is ready and not ready in turns.
    Flapping,
}

impl Behaviour {
    /// By its name; none for anything else.
    pub(super) fn named(name: &str) -> Option<Behaviour> {
        match name {
            "steady" => Some(Behaviour::Steady),
            "silent" => Some(Behaviour::Silent),
            "slow" => Some(Behaviour::Slow),
            "flapping" => Some(Behaviour::Flapping),
            _ => None,
        }
    }
}

/// How often nodes tell of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Periods {
    /// Between renewals of a node's lease.
    pub lease: Duration,
    /// Between reports of an unchanged status.
    pub report: Duration,
    /// How long a flapping node is ready, and how long not.
    pub flap: Duration,
}

impl Default for Periods {
    fn default() -> Periods {
        Periods {
            lease: Duration::from_secs(10),
            report: Duration::from_secs(300),
            flap: Duration::from_secs(60),
        }
    }
}

/// Names of nodes by number, and back.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
    count: u32,
    width: usize,
}

impl Names {
    pub(super) fn new(prefix: &str, count: u32) -> Names {
        Names {
            prefix: format!("{prefix}-"),
            count,
            // The number of nodes may grow without new names for the old ones.
            width: 5,
        }
    }

    pub(super) fn of(&self, number: u32) -> String {
        format!("{}{number:0width$}", self.prefix, width = self.width)
    }

    pub(super) fn number(&self, name: &str) -> Option<u32> {
        let digits = name.strip_prefix(&self.prefix)?;
        let plain = digits.len() == self.width && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse().ok().filter(|_| plain)?;
        (number < self.count).then_some(number)
    }
}

/// What a node has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    Register,
    Report,
}

/// The node as the API shows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    pub(super) uid: String,
    pub(super) behaviour: Option<Behaviour>,
    /// How long work shall seem to wait on it.
    pressure: Option<Pressure>,
    /// It says how long work waits on it, whoever wrote that.
    tells_pressure: bool,
    version: u64,
    conditions: Conditions,
    transitions: Transitions,
    /// None where it does not say what it has room for.
    site: Option<Site>,
    /// What its allocatable lacks of what somebody has given it.
    extended: Map<String, Value>,
}

impl Shown {
    pub(super) fn of(node: &Value) -> Shown {
        let text = |path: &str| {
            node.pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let behaviour = &node["metadata"]["annotations"][BEHAVIOUR];
        Shown {
            uid: text("/metadata/uid").to_owned(),
            version: version(node),
            behaviour: behaviour.as_str().and_then(Behaviour::named),
            pressure: node["metadata"]["annotations"][pressure::PRETENDED]
                .as_str()
                .and_then(Pressure::pretended),
            tells_pressure: node["metadata"]["annotations"][pressure::ANNOTATION].is_string(),
            conditions: node::conditions_of(&node["status"]),
            transitions: node::transitions_of(node),
            site: node["status"]["allocatable"]
                .is_object()
                .then(|| Site::of(node)),
            extended: node::extended(node),
        }
    }
}

thread_local! {
    static CONDITIONS: RefCell<Interned<Conditions>> = const { RefCell::new(Interned::new()) };
    static TRANSITIONS: RefCell<Interned<Transitions>> = const { RefCell::new(Interned::new()) };
}

fn interned_conditions(conditions: Conditions) -> Arc<Conditions> {
    let group = group(&conditions);
    CONDITIONS.with_borrow_mut(|all| all.share(group, conditions))
}

/// Those of nodes that came in the same second.
fn interned_transitions(transitions: Transitions) -> Arc<Transitions> {
    let group = group(&transitions);
    TRANSITIONS.with_borrow_mut(|all| all.share(group, transitions))
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) addresses: Addresses,
    pub(super) images: Images,
    /// From the command line.
    given: Behaviour,
    /// From the annotation.
    asked: Option<Behaviour>,
    /// How long work shall seem to wait, from another annotation.
    pressure: Option<Pressure>,
    /// What is being told of that, and what was told last.
    pressure_told: [Option<Pressure>; 2],
    /// Empty while it is not registered.
    uid: String,
    /// The newest that was shown of it: a watch may be behind the answers to writes.
    version: u64,
    told: Arc<Conditions>,
    transitions: Arc<Transitions>,
    site: Option<Site>,
    /// What its allocatable lacks, as the API has it.
    extended: Map<String, Value>,
    /// What is being told of that, and what was told last.
    extended_told: [Map<String, Value>; 2],
    /// When the status was told, and whether as ready.
    reported: Option<(Duration, bool)>,
}

impl Node {
    pub(super) fn new(number: u32, name: String, given: Behaviour) -> Node {
        Node {
            number,
            name,
            given,
            addresses: Addresses::default(),
            images: Images::default(),
            asked: None,
            pressure: None,
            pressure_told: [None; 2],
            uid: String::new(),
            version: 0,
            told: Arc::default(),
            transitions: Arc::default(),
            site: None,
            extended: Map::new(),
            extended_told: Default::default(),
            reported: None,
        }
    }

    /// What decides about its pods.
    pub(super) fn site(&self, template: &Template) -> Cow<'_, Site> {
        match &self.site {
            Some(site) => Cow::Borrowed(site),
            None => {
                let config = template.config(self);
                Cow::Owned(node::site(None, &config, &Capacity::of(&config)))
            }
        }
    }

    pub(super) fn behaviour(&self) -> Behaviour {
        self.asked.unwrap_or(self.given)
    }

    pub(super) fn is_silent(&self) -> bool {
        self.behaviour() == Behaviour::Silent
    }

    pub(super) fn is_registered(&self) -> bool {
        !self.uid.is_empty()
    }

    /// The API has taken it as ready.
    pub(super) fn is_ready(&self) -> bool {
        self.is_registered() && self.reported.is_some_and(|(_, ready)| ready)
    }

    /// The API has taken what it says of itself.
    pub(super) fn is_told(&self) -> bool {
        self.is_registered() && self.reported.is_some()
    }

    pub(super) fn uid(&self) -> &str {
        &self.uid
    }

    /// Evenly over a period, by its number.
    pub(super) fn phase(&self, period: Duration, count: u32) -> Duration {
        period.mul_f64(f64::from(self.number) / f64::from(count.max(1)))
    }

    /// Whether it says that it is ready, and when it will say something else.
    fn readiness(&self, now: Duration, periods: &Periods, count: u32) -> (bool, Option<Duration>) {
        if self.behaviour() != Behaviour::Flapping {
            return (true, None);
        }
        let flap = periods.flap.max(Duration::from_millis(1));
        let shifted = now + self.phase(flap * 2, count);
        let turns = shifted.as_nanos() / flap.as_nanos();
        let into =
            Duration::from_nanos(u64::try_from(shifted.as_nanos() % flap.as_nanos()).unwrap_or(0));
        (turns.is_multiple_of(2), Some(now + flap - into))
    }

    /// What it has to tell now, or when it has to look again.
    pub(super) fn errand(
        &self,
        now: Duration,
        periods: &Periods,
        count: u32,
    ) -> Result<Errand, Option<Duration>> {
        if self.is_silent() {
            return Err(None);
        }
        if !self.is_registered() {
            return Ok(Errand::Register);
        }
        let (ready, change) = self.readiness(now, periods, count);
        match self.reported {
            Some((at, told))
                if told == ready
                    && self.pressure_told[1] == self.pressure
                    && !self.lacks()
                    && now < at + periods.report =>
            {
                Err(Some(change.map_or(at + periods.report, |change| {
                    change.min(at + periods.report)
                })))
            }
            _ => Ok(Errand::Report),
        }
    }

    /// Takes in what a watch or an answer shows. True where the node has something to tell or to do because of it.
    pub(super) fn see(&mut self, shown: Shown) -> bool {
        let is_new = self.uid != shown.uid;
        if !is_new && shown.version < self.version {
            return false;
        }
        self.version = shown.version;
        self.site = shown.site.or(self.site.take());
        if shown.extended.is_empty() {
            self.extended_told[1].clear();
        }
        self.extended = shown.extended;
        let before = self.behaviour();
        self.asked = shown.behaviour;
        let pressure = std::mem::replace(&mut self.pressure, shown.pressure);
        let contradicted = self
            .told
            .iter()
            .any(|(kind, status)| shown.conditions.get(kind) != Some(status));
        if is_new {
            self.uid = shown.uid;
            // Of what another life of the process told, only that there is something to take back is of interest.
            self.pressure_told[1] = shown.tells_pressure.then(Pressure::default);
        }
        if is_new || contradicted {
            self.told = interned_conditions(shown.conditions);
            self.transitions = interned_transitions(shown.transitions);
            self.reported = None;
        }
        let pressed = pressure != self.pressure;
        is_new || contradicted || pressed || self.lacks() || before != self.behaviour()
    }

    /// The API has it no more.
    pub(super) fn lose(&mut self) {
        self.uid.clear();
        self.asked = None;
        self.pressure = None;
        self.pressure_told = [None; 2];
        self.reported = None;
        self.told = Arc::default();
        self.transitions = Arc::default();
        self.site = None;
        self.extended.clear();
        self.extended_told = Default::default();
    }

    /// The status to tell, and whether it is ready in it.
    pub(super) fn status(
        &mut self,
        template: &Template,
        now: (Duration, OffsetDateTime),
        count: u32,
    ) -> (Value, bool) {
        let (ready, _) = self.readiness(now.0, &template.periods, count);
        let runtime = match ready {
            true => Ok(RuntimeInfo {
                version: concat!("hollow://", env!("CARGO_PKG_VERSION")).to_owned(),
                hollow: true,
                ..RuntimeInfo::default()
            }),
            false => Err("this hollow node flaps".to_owned()),
        };
        let config = template.config(self);
        let machine = Machine::pretended(&self.name);
        let health = Health::of(runtime);
        let capacity = Capacity::of(&config);
        let mut status = node::status(&config, &capacity, &machine, &health, template.port);
        let mut transitions = Transitions::clone(&self.transitions);
        node::stamp(&mut status, &mut transitions, now.1);
        if transitions != *self.transitions {
            self.transitions = interned_transitions(transitions);
        }
        if let Some(allocatable) = status["allocatable"].as_object_mut() {
            allocatable.extend(self.extended.clone());
        }
        self.extended_told[0] = self.extended.clone();
        (status, ready)
    }

    /// Its allocatable lacks something that it was not told yet. Told once is enough: what the API does not take by then it
    /// would be told without end.
    fn lacks(&self) -> bool {
        !self.extended.is_empty() && self.extended != self.extended_told[1]
    }

    /// The metadata to tell with the status: how long work seems to wait, or that nothing is known of it any more.
    pub(super) fn told_pressure(&mut self, now: Micros) -> Option<Value> {
        self.pressure_told[0] = self.pressure;
        let known = self.pressure.is_some() || self.pressure_told[1].is_some();
        known.then(|| node::told_of(self.pressure, now))
    }

    /// The reasons of the events that tell what this status says otherwise than the API did before; none for one that has just
    /// come.
    pub(super) fn news(&self, status: &Value) -> Vec<&'static str> {
        match self.told.is_empty() {
            true => Vec::new(),
            false => node::news(&self.told, &node::conditions_of(status)),
        }
    }

    /// The status was taken as it was told.
    pub(super) fn reported(&mut self, status: &Value, ready: bool, now: Duration) {
        self.told = interned_conditions(node::conditions_of(status));
        self.pressure_told[1] = self.pressure_told[0];
        self.extended_told[1] = self.extended_told[0].clone();
        self.reported = Some((now, ready));
    }

    pub(super) fn object(&self, template: &Template) -> Value {
        let mut object = node::object(&template.config(self));
        let range = addresses::range(self.number);
        object["spec"]["podCIDRs"] = json!([range]);
        object["spec"]["podCIDR"] = range.into();
        object
    }

    /// The spec of its lease now.
    pub(super) fn lease_spec(&self, now: OffsetDateTime) -> Value {
        json!({
            "holderIdentity": self.name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": clock::format_micro(now),
        })
    }
}

/// What all hollow nodes have in common.
pub(super) struct Template {
    pub(super) config: NodeConfig,
    pub(super) zones: u32,
    pub(super) periods: Periods,
    /// Of the server that answers for all of them.
    pub(super) port: u16,
}

impl Template {
    /// The configuration of one.
    fn config(&self, node: &Node) -> NodeConfig {
        let mut config = self.config.clone();
        config.node_name.clone_from(&node.name);
        if self.zones > 0 {
            let zone = format!("zone-{}", node.number % self.zones + 1);
            config
                .labels
                .insert("topology.kubernetes.io/zone".to_owned(), zone);
            config.labels.insert(
                "topology.kubernetes.io/region".to_owned(),
                "hollow".to_owned(),
            );
        }
        config
    }
}

/// The size that a hollow node pretends.
pub(super) fn size(cpu_count: u32, memory_bytes: u64) -> HollowConfig {
    HollowConfig {
        cpu_count,
        memory_bytes,
        ..HollowConfig::default()
    }
}

#[cfg(test)]
mod tests;
