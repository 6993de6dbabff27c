//! ResourceClaims and DeviceClasses, compiled once from the API objects.

use super::capacity::Amount;
use super::readiness::{Conditions, Readiness};
use super::selector::Selector;
use super::slice::{Amounts, DeviceId, terms};
use crate::object::{Toleration, controller_uid, text, toleration};
use crate::resources::items;
use crate::selector::{NodeSelectorTerm, strings};
use agent_runtime::timestamp::{self, Micros};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many pods can use a claim.
pub const RESERVED_MAX: usize = 256;

/// How many devices are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Every one that is selected.
    All,
    /// So many.
    Exactly(usize),
    /// One that we do not know.
    Unknown(String),
}

/// What is asked for: a request, or one of its alternatives.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// As messages call it.
    pub name: String,
    /// As results call it: with the name of the request before it, if it is an alternative.
    pub full_name: String,
    /// Of which class.
    pub class: String,
    /// How many.
    pub mode: Mode,
    /// Of devices that may be in use, for their upkeep.
    pub admin: bool,
    /// What is demanded besides the class.
    pub selectors: Vec<Selector>,
    /// Which taints do not matter.
    pub tolerations: Vec<Toleration>,
    /// The same as they were given, for the result.
    pub given_tolerations: Vec<Value>,
    /// How much of the device's capacity.
    pub capacity: BTreeMap<String, Amount>,
}

impl Ask {
    fn compile(object: &Value, name: String, full_name: String) -> Ask {
        let count = object.get("count").and_then(Value::as_i64).unwrap_or(1);
        let mode = match &*text(object, "/allocationMode") {
            "All" => Mode::All,
            "" | "ExactCount" => Mode::Exactly(usize::try_from(count).unwrap_or(0)),
            other => Mode::Unknown(other.to_owned()),
        };
        let capacity = object.pointer("/capacity/requests");
        let capacity = capacity.and_then(Value::as_object).into_iter().flatten();
        Ask {
            name,
            full_name,
            class: text(object, "/deviceClassName"),
            mode,
            admin: object.get("adminAccess").and_then(Value::as_bool) == Some(true),
            selectors: items(object, "selectors").map(Selector::compile).collect(),
            tolerations: items(object, "tolerations").map(toleration).collect(),
            given_tolerations: items(object, "tolerations").cloned().collect(),
            capacity: capacity
                .map(|(name, amount)| (name.clone(), Amount::compile(amount)))
                .collect(),
        }
    }
}

/// A request of a claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Its name.
    pub name: String,
    /// What is asked for: the first that can be had. None for a request of a kind that we do not know.
    pub asks: Vec<Ask>,
    /// Whether they are alternatives.
    pub is_choice: bool,
}

impl Request {
    fn compile(object: &Value) -> Request {
        let name = text(object, "/name");
        if let Some(exactly) = object.get("exactly").filter(|exactly| exactly.is_object()) {
            return Request {
                asks: vec![Ask::compile(exactly, name.clone(), name.clone())],
                is_choice: false,
                name,
            };
        }
        let alternative = |object: &Value| {
            let own = text(object, "/name");
            let full = format!("{name}/{own}");
            Ask::compile(object, own, full)
        };
        Request {
            asks: items(object, "firstAvailable").map(alternative).collect(),
            is_choice: true,
            name,
        }
    }
}

/// What holds between devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Requests or alternatives that it is about; none for all.
    pub requests: Vec<String>,
    /// The attribute with its domain.
    pub attribute: String,
    /// Whether all have to have the same value, or each its own; none for a rule of another kind.
    pub same: Option<bool>,
}

impl Rule {
    fn compile(object: &Value) -> Rule {
        let (matching, distinct) = (
            text(object, "/matchAttribute"),
            text(object, "/distinctAttribute"),
        );
        let (attribute, same) = match (matching.is_empty(), distinct.is_empty()) {
            (false, _) => (matching, Some(true)),
            (true, false) => (distinct, Some(false)),
            (true, true) => (String::new(), None),
        };
        Rule {
            requests: strings(object.get("requests")),
            attribute,
            same,
        }
    }
}

/// Parameters for the driver.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Requests or alternatives that it is for; none for all.
    pub requests: Vec<String>,
    /// The rest, as it was given.
    pub rest: serde_json::Map<String, Value>,
}

impl Config {
    fn compile(object: &Value) -> Config {
        let mut rest = object.as_object().cloned().unwrap_or_default();
        rest.remove("requests");
        Config {
            requests: strings(object.get("requests")),
            rest,
        }
    }
}

/// What a claim is for. It never changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spec {
    /// What is asked for.
    pub requests: Vec<Request>,
    /// What has to hold for all of it.
    pub rules: Vec<Rule>,
    /// For the drivers.
    pub config: Vec<Config>,
}

/// A device that a claim has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Had {
    /// Which.
    pub id: DeviceId,
    /// For which request or alternative.
    pub request: String,
    /// Only for its upkeep: it is free for others all the same.
    pub admin: bool,
    /// Which share of it; none where it is the claim's alone.
    pub share: Option<Share>,
    /// What its driver has to say before a pod can have it.
    pub conditions: Conditions,
}

/// A share of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Its identity.
    pub id: String,
    /// What it takes of capacities.
    pub consumed: Amounts,
}

impl Had {
    fn compile(result: &Value) -> Had {
        let id = text(result, "/shareID");
        let consumed = result.get("consumedCapacity").and_then(Value::as_object);
        let consumed = consumed.into_iter().flatten();
        let consumed = consumed
            .map(|(name, amount)| (name.clone(), Amount::compile(amount).thousandths))
            .collect();
        Had {
            id: DeviceId::compile(result),
            request: text(result, "/request"),
            admin: result.get("adminAccess").and_then(Value::as_bool) == Some(true),
            share: (!id.is_empty()).then_some(Share { id, consumed }),
            conditions: Conditions::compile(result),
        }
    }

    /// Whether it has to be made ready first.
    pub fn waits(&self) -> bool {
        !self.conditions.is_empty()
    }
}

/// What a claim has.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// The devices.
    pub devices: Vec<Had>,
    /// From where they can be reached: any of the terms; absent for everywhere.
    pub nodes: Option<Vec<NodeSelectorTerm>>,
}

impl Allocation {
    /// Compiles `status.allocation`.
    pub fn compile(object: &Value) -> Allocation {
        let results = object.get("devices").unwrap_or(&Value::Null);
        let selector = object.get("nodeSelector").filter(|s| s.is_object());
        Allocation {
            devices: items(results, "results").map(Had::compile).collect(),
            nodes: selector.map(terms),
        }
    }

    /// The devices, or shares of them, that nobody else can have meanwhile.
    pub fn taken(&self) -> impl Iterator<Item = &Had> {
        self.devices.iter().filter(|had| !had.admin)
    }

    /// Whether any of the devices has to be made ready first.
    pub fn waits(&self) -> bool {
        self.devices.iter().any(Had::waits)
    }
}

/// A ResourceClaim.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceClaim {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The identity of this incarnation.
    pub uid: String,
    /// The revision that this was read from.
    pub resource_version: String,
    /// The pod that it was made for, if it was.
    pub controller_uid: Option<String>,
    /// Whether it was made for what that pod asks for by the names of extended resources.
    pub extended: bool,
    /// Whether deletion was asked for.
    pub deleting: bool,
    /// What it is for.
    pub spec: Arc<Spec>,
    /// What it has.
    pub allocation: Option<Allocation>,
    /// Since when, by the clock of the scheduler that gave it.
    pub allocated_at: Option<Micros>,
    /// How far the devices are that it has.
    pub readiness: Readiness,
    /// Uids of those that use it.
    pub reserved_for: Vec<String>,
}

impl DeviceClaim {
    /// Compiles an API object.
    pub fn compile(object: &Value) -> DeviceClaim {
        let null = Value::Null;
        let annotations = object.pointer("/metadata/annotations").unwrap_or(&null);
        let devices = object.pointer("/spec/devices").unwrap_or(&null);
        let status = object.get("status").unwrap_or(&null);
        let deletion = object.pointer("/metadata/deletionTimestamp");
        let allocation = status.get("allocation").filter(|a| a.is_object());
        let allocation = allocation.map(Allocation::compile);
        let name = text(object, "/metadata/name");
        let readiness = allocation.as_ref().map(|a| Readiness::of(&name, a, status));
        DeviceClaim {
            namespace: text(object, "/metadata/namespace"),
            name,
            uid: text(object, "/metadata/uid"),
            resource_version: text(object, "/metadata/resourceVersion"),
            controller_uid: controller_uid(object),
            extended: annotations.get(super::extended::ANNOTATION) == Some(&"true".into()),
            deleting: deletion.is_some_and(Value::is_string),
            spec: Arc::new(Spec {
                requests: items(devices, "requests").map(Request::compile).collect(),
                rules: items(devices, "constraints").map(Rule::compile).collect(),
                config: items(devices, "config").map(Config::compile).collect(),
            }),
            allocation,
            allocated_at: timestamp::parse(&text(status, "/allocation/allocationTimestamp")),
            readiness: readiness.unwrap_or_default(),
            reserved_for: items(status, "reservedFor")
                .map(|consumer| text(consumer, "/uid"))
                .collect(),
        }
    }

    /// Namespace and name.
    pub fn key(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }

    /// Whether the pod may use it.
    pub fn is_reserved_for(&self, uid: &str) -> bool {
        self.reserved_for.iter().any(|reserved| reserved == uid)
    }

    /// Whether it was made for the extended resources of the pod: one of another pod is not this pod's to delete.
    pub fn was_made_for(&self, uid: &str) -> bool {
        self.extended && self.controller_uid.as_deref() == Some(uid)
    }

    /// Whether nobody but the pod could miss what it has.
    pub fn is_idle_but_for(&self, uid: &str) -> bool {
        match &*self.reserved_for {
            [] => true,
            [only] => only == uid,
            _ => false,
        }
    }

    /// How messages name it.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A DeviceClass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceClass {
    /// Name.
    pub name: String,
    /// `metadata.creationTimestamp`; RFC 3339 text sorts by time.
    pub created: String,
    /// The extended resource that its devices stand for, beside the one that is called after the class.
    pub extended_resource: Option<String>,
    /// What its devices are.
    pub selectors: Vec<Selector>,
    /// For the drivers.
    pub config: Vec<Config>,
}

impl DeviceClass {
    /// Compiles an API object.
    pub fn compile(object: &Value) -> DeviceClass {
        let spec = object.get("spec").unwrap_or(&Value::Null);
        DeviceClass {
            name: text(object, "/metadata/name"),
            created: text(object, "/metadata/creationTimestamp"),
            extended_resource: Some(text(spec, "/extendedResourceName"))
                .filter(|resource| !resource.is_empty()),
            selectors: items(spec, "selectors").map(Selector::compile).collect(),
            config: items(spec, "config").map(Config::compile).collect(),
        }
    }
}

/// A claim as a pod names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodClaim {
    /// What containers call it.
    pub name: String,
    /// Which one it is.
    pub source: ClaimSource,
}

/// Which claim a pod means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClaimSource {
    /// This one.
    Named(String),
    /// One that is made for the pod; absent until it is known which.
    Made(Option<String>),
    /// None, and none is needed.
    Needless,
    /// It does not say so that we understand it.
    Unknown,
}

/// The claims that a pod names.
pub fn pod_claims(spec: &Value, status: &Value) -> Vec<PodClaim> {
    let source = |claim: &Value| {
        let named = text(claim, "/resourceClaimName");
        if !named.is_empty() {
            return ClaimSource::Named(named);
        }
        if text(claim, "/resourceClaimTemplateName").is_empty() {
            return ClaimSource::Unknown;
        }
        let name = text(claim, "/name");
        let mut made = items(status, "resourceClaimStatuses");
        match made.find(|made| text(made, "/name") == name) {
            None => ClaimSource::Made(None),
            Some(made) => match text(made, "/resourceClaimName") {
                made if made.is_empty() => ClaimSource::Needless,
                made => ClaimSource::Made(Some(made)),
            },
        }
    };
    items(spec, "resourceClaims")
        .map(|claim| PodClaim {
            name: text(claim, "/name"),
            source: source(claim),
        })
        .collect()
}
