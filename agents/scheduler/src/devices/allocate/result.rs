//! A solution as it stands in the status of a claim.

use super::{Pick, Search};
use crate::devices::capacity::share_id;
use crate::devices::claim::{Allocation, Config, DeviceClaim};
use crate::devices::slice::Nodes;
use crate::resources::items;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the first of the alternatives of a request counts; each further one counts one less.
pub const SCORE_BEST: i64 = 8;

/// What a claim gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Allotted {
    /// As it is written, but for the identities of shares.
    pub(super) json: Value,
    /// As it is read.
    pub(super) allocation: Allocation,
    /// How good the alternatives are that were chosen.
    pub score: i64,
    /// Which of the results are of devices that are shared.
    shared: Vec<usize>,
}

impl Allotted {
    /// As it is written and as it is read, with an identity for each share of a device, made of what chance gives.
    pub fn with_shares(self, mut chance: impl FnMut() -> u128) -> (Value, Allocation) {
        let Allotted {
            mut json,
            mut allocation,
            shared,
            ..
        } = self;
        for at in &shared {
            json["devices"]["results"][*at]["shareID"] = share_id(chance()).into();
        }
        if !shared.is_empty() {
            allocation = Allocation::compile(&json);
        }
        (json, allocation)
    }
}

impl Search<'_> {
    /// The solution that was found, for each claim.
    pub(super) fn allotted(&self) -> Vec<Allotted> {
        (0..self.claims.len())
            .map(|claim| self.of_claim(claim))
            .collect()
    }

    fn of_claim(&self, at: usize) -> Allotted {
        let claim = self.claims[at];
        let picks = &self.picks[at];
        let chosen = self.chosen(at);
        let results: Vec<Value> = picks.iter().map(|pick| self.of_device(at, *pick)).collect();
        let mut json = json!({"devices": {"results": results}});
        let config = self.config(claim, at, &chosen);
        if !config.is_empty() {
            json["devices"]["config"] = config.into();
        }
        if let Some(selector) = self.node_selector(picks) {
            json["nodeSelector"] = selector;
        }
        let choices = self.wanted[at].iter().zip(&chosen);
        let choices = choices.filter(|(wanted, _)| wanted.is_choice);
        let is_shared = |pick: &Pick| self.candidates[pick.candidate].device.shared;
        let shared = picks.iter().enumerate().filter(|(_, pick)| is_shared(pick));
        Allotted {
            allocation: Allocation::compile(&json),
            json,
            shared: shared.map(|(at, _)| at).collect(),
            score: choices.map(|(_, ask)| SCORE_BEST - *ask as i64).sum(),
        }
    }

    /// The alternative that was chosen for each request.
    fn chosen(&self, claim: usize) -> Vec<usize> {
        let mut chosen = vec![0; self.wanted[claim].len()];
        for frame in &self.frames {
            if let super::Choice::Ask { ask, .. } = frame.choice
                && frame.at.claim == claim
            {
                chosen[frame.at.request] = ask;
            }
        }
        chosen
    }

    fn of_device(&self, claim: usize, pick: Pick) -> Value {
        let ask = self.wanted[claim][pick.request].asks[pick.ask].ask;
        let device = self.candidates[pick.candidate].device;
        let id = &device.id;
        let mut result = json!({
            "request": ask.full_name, "driver": &*id.pool.driver, "pool": &*id.pool.pool, "device": &*id.device,
        });
        if ask.admin {
            result["adminAccess"] = true.into();
        }
        if !ask.given_tolerations.is_empty() {
            result["tolerations"] = ask.given_tolerations.clone().into();
        }
        if !device.conditions.is_empty() {
            result["bindingConditions"] = device.conditions.ready.clone().into();
            result["bindingFailureConditions"] = device.conditions.failed.clone().into();
        }
        if device.shared
            && let Some(taken) = device.taken_by(&ask.capacity)
            && !taken.is_empty()
        {
            let taken = taken.into_iter();
            let taken = taken.map(|(name, amount)| (name.to_owned(), Value::from(amount.text)));
            result["consumedCapacity"] = Value::Object(taken.collect());
        }
        result
    }

    /// Parameters for the drivers: those of the classes, each once, and then those of the claim.
    fn config(&self, claim: &DeviceClaim, at: usize, chosen: &[usize]) -> Vec<Value> {
        let mut by_class: BTreeMap<&str, usize> = BTreeMap::new();
        let mut of_classes: Vec<(&[Config], Vec<String>)> = Vec::new();
        for (wanted, ask) in self.wanted[at].iter().zip(chosen) {
            let wanted = &wanted.asks[*ask];
            let known = by_class.entry(&wanted.class.name).or_insert_with(|| {
                of_classes.push((&wanted.class.config, Vec::new()));
                of_classes.len() - 1
            });
            of_classes[*known].1.push(wanted.ask.full_name.clone());
        }
        let all = claim.spec.requests.len();
        let mut made = Vec::new();
        for (configs, requests) in of_classes {
            for config in configs {
                made.push(entry("FromClass", config, &requests, all));
            }
        }
        for config in &claim.spec.config {
            let is_for = |(request, ask): (&super::Wanted<'_>, &usize)| {
                let full = &request.asks[*ask].ask.full_name;
                let mut names = config.requests.iter();
                names.any(|name| *name == request.name || name == full)
            };
            let requests = self.wanted[at].iter().zip(chosen);
            let times = match config.requests.is_empty() {
                true => 1,
                false => requests.filter(|one| is_for(*one)).count(),
            };
            for _ in 0..times {
                made.push(entry("FromClaim", config, &config.requests, all));
            }
        }
        made
    }

    /// From where all of the devices can be reached; none for everywhere.
    fn node_selector(&self, picks: &[Pick]) -> Option<Value> {
        let (mut fields, mut expressions) = (Vec::new(), Vec::new());
        for pick in picks {
            let candidate = self.candidates[pick.candidate];
            let nodes = candidate.slice.nodes_of(candidate.device);
            if candidate.device.binds_to_node || matches!(nodes, Nodes::Named(_)) {
                let field =
                    json!({"key": "metadata.name", "operator": "In", "values": [self.offer.node]});
                return Some(json!({"nodeSelectorTerms": [{"matchFields": [field]}]}));
            }
            match nodes {
                Nodes::Selected(_, selector) => {
                    if let Some(term) = items(selector, "nodeSelectorTerms").next() {
                        add_new(items(term, "matchFields"), &mut fields);
                        add_new(items(term, "matchExpressions"), &mut expressions);
                    }
                }
                Nodes::Named(_) | Nodes::All | Nodes::None => {}
            }
        }
        let mut term = serde_json::Map::new();
        for (name, requirements) in [("matchFields", fields), ("matchExpressions", expressions)] {
            if !requirements.is_empty() {
                term.insert(name.into(), requirements.into());
            }
        }
        (!term.is_empty()).then(|| json!({"nodeSelectorTerms": [term]}))
    }
}

/// A list of all requests is left out, since none means all.
fn entry(source: &str, config: &Config, requests: &[String], all: usize) -> Value {
    let mut entry = config.rest.clone();
    entry.insert("source".into(), source.into());
    if !requests.is_empty() && requests.len() != all {
        entry.insert("requests".into(), requests.into());
    }
    Value::Object(entry)
}

/// Adds the requirements that are not there yet; the order of values does not matter.
fn add_new<'a>(from: impl Iterator<Item = &'a Value>, to: &mut Vec<Value>) {
    let essence = |requirement: &Value| {
        let mut values = crate::selector::strings(requirement.get("values"));
        values.sort();
        values.dedup();
        let text = |field| crate::object::text(requirement, field);
        (text("/key"), text("/operator"), values)
    };
    for requirement in from {
        if !to
            .iter()
            .any(|known| essence(known) == essence(requirement))
        {
            to.push(requirement.clone());
        }
    }
}
