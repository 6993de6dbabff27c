//! What is asked for and what there is, laid out for the search; and whether a device is what is asked for.

use super::counters::Counters;
use super::room::{Room, fits};
use super::rules::RuleState;
use super::{DEVICES_MAX, Offer, Pick, Refusal, Search, Work};
use crate::devices::claim::{Ask, DeviceClaim, DeviceClass, Mode, Request};
use crate::devices::pool::Pool;
use crate::devices::selector::Selector;
use crate::devices::slice::{Device, PoolId, Slice};
use std::collections::BTreeMap;

/// A device that is reachable from the node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) device: &'a Device,
    pub(super) slice: &'a Slice,
    pub(super) pool: &'a Pool,
    /// Whether its pool is whole and in order.
    pub(super) is_usable: bool,
}

/// A request.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) is_choice: bool,
    pub(super) asks: Vec<WantedAsk<'a>>,
}

/// What is asked for: a request, or an alternative of one.
pub(super) struct WantedAsk<'a> {
    pub(super) ask: &'a Ask,
    pub(super) class: &'a DeviceClass,
    /// How many devices.
    pub(super) needed: usize,
    /// Which ones, where all are asked for.
    pub(super) all: Option<Vec<usize>>,
    /// Which candidates are what is asked for, as far as that was found out.
    verdicts: BTreeMap<usize, bool>,
}

impl<'a> Search<'a> {
    /// An error where the claims cannot be met whatever is tried.
    pub(super) fn new(
        claims: &'a [&'a DeviceClaim],
        offer: &'a Offer<'a>,
        work: &'a Work,
    ) -> Result<Search<'a>, Refusal> {
        let candidates = candidates(offer, work)?;
        let mut search = Search {
            claims,
            offer,
            work,
            wanted: Vec::with_capacity(claims.len()),
            rules: Vec::with_capacity(claims.len()),
            rule_costs: Vec::with_capacity(claims.len()),
            counters: Counters::default(),
            room: Room::default(),
            takers: vec![Vec::new(); candidates.len()],
            candidates,
            frames: Vec::new(),
            picks: vec![Vec::new(); claims.len()],
        };
        for claim in claims {
            search.prepare(claim)?;
        }
        Ok(search)
    }

    fn prepare(&mut self, claim: &'a DeviceClaim) -> Result<(), Refusal> {
        let full_name = claim.full_name();
        let mut requests = Vec::with_capacity(claim.spec.requests.len());
        let mut least = 0usize;
        for request in &claim.spec.requests {
            let wanted = self.wanted(&full_name, request)?;
            let fewest = wanted.asks.iter().map(|ask| ask.needed).min();
            least = least.saturating_add(fewest.unwrap_or(0));
            requests.push(wanted);
        }
        if least > DEVICES_MAX {
            return Err(Refusal::Wrong(format!(
                "claim {full_name}: number of requested devices {least} exceeds the claim limit of {DEVICES_MAX}"
            )));
        }
        let mut rules = Vec::with_capacity(claim.spec.rules.len());
        for (at, rule) in claim.spec.rules.iter().enumerate() {
            let state = RuleState::of(rule).ok_or_else(|| {
                Refusal::Wrong(format!(
                    "claim {full_name}, constraint #{at}: empty constraint (unsupported constraint type?)"
                ))
            })?;
            rules.push(state);
        }
        let costs = claim.spec.rules.iter();
        let costs = costs.map(|rule| 1 + rule.requests.len() as u64);
        self.rule_costs.push(costs.sum());
        self.wanted.push(requests);
        self.rules.push(rules);
        Ok(())
    }

    fn wanted(&self, claim: &str, request: &'a Request) -> Result<Wanted<'a>, Refusal> {
        let asks = request.asks.iter().map(|ask| self.wanted_ask(claim, ask));
        let asks: Vec<WantedAsk<'a>> = asks.collect::<Result<_, Refusal>>()?;
        if asks.is_empty() {
            let name = &request.name;
            let words = format!("resource claim {claim}, request {name}: unknown request type");
            return Err(Refusal::Wrong(words));
        }
        Ok(Wanted {
            name: &request.name,
            is_choice: request.is_choice,
            asks,
        })
    }

    fn wanted_ask(&self, claim: &str, ask: &'a Ask) -> Result<WantedAsk<'a>, Refusal> {
        let wrong = |words: String| {
            let name = &ask.name;
            Refusal::Wrong(format!("claim {claim}, request {name}{words}"))
        };
        if let Some(at) = ask.selectors.iter().position(|s| !s.is_known()) {
            let why = "CEL expression empty (unsupported selector type?)";
            return Err(wrong(format!(", selector #{at}: {why}")));
        }
        let Some(class) = self.offer.classes.get(&ask.class) else {
            let class = &ask.class;
            return Err(wrong(format!(
                ": could not retrieve device class {class}: deviceclass.resource.k8s.io {class:?} not found"
            )));
        };
        let mut wanted = WantedAsk {
            ask,
            class,
            needed: 0,
            all: None,
            verdicts: BTreeMap::new(),
        };
        match &ask.mode {
            Mode::Exactly(count) => wanted.needed = *count,
            Mode::Unknown(mode) => {
                return Err(wrong(format!(": unsupported count mode {mode}")));
            }
            Mode::All => {
                for (id, pool) in &self.offer.pools {
                    must_be_whole(id, pool).map_err(&wrong)?;
                }
                let mut all = Vec::new();
                for (at, candidate) in self.candidates.iter().enumerate() {
                    // A device that is shared and too full is none of them.
                    if judge(claim, &wanted, *candidate, self.offer, self.work)?
                        && (!candidate.device.shared
                            || fits(candidate.device, ask, self.offer.shares, &[]).is_some())
                    {
                        all.push(at);
                    }
                }
                wanted.needed = all.len();
                wanted.all = Some(all);
            }
        }
        Ok(wanted)
    }

    /// Whether the device is what is asked for, whoever has it.
    pub(super) fn selects(&mut self, claim: usize, pick: Pick) -> Result<bool, Refusal> {
        let verdicts = &self.wanted[claim][pick.request].asks[pick.ask].verdicts;
        if let Some(known) = verdicts.get(&pick.candidate) {
            return Ok(*known);
        }
        let name = self.claims[claim].full_name();
        let (work, offer) = (self.work, self.offer);
        let candidate = self.candidates[pick.candidate];
        let wanted = &mut self.wanted[claim][pick.request].asks[pick.ask];
        let verdict = judge(&name, wanted, candidate, offer, work)?;
        wanted.verdicts.insert(pick.candidate, verdict);
        Ok(verdict)
    }
}

/// The devices that are reachable from the node. A look at each is paid for. As in Kubernetes, pools with devices that have to
/// be made ready first come after the others, and so do such slices of a pool.
fn candidates<'a>(offer: &Offer<'a>, work: &Work) -> Result<Vec<Candidate<'a>>, Refusal> {
    let mut candidates: Vec<Candidate<'a>> = Vec::new();
    let mut conditional: Vec<Candidate<'a>> = Vec::new();
    for (_, pool) in &offer.pools {
        let mut slices: Vec<&'a Slice> = Vec::new();
        for slice in pool.slices() {
            if !work.spend(1) {
                return Err(Refusal::TooLong);
            }
            if slice.reaches(offer.node, offer.labels) {
                slices.push(slice);
            }
        }
        slices.sort_by_key(|slice| slice.is_conditional);
        let all = match slices.last().is_some_and(|last| last.is_conditional) {
            true => &mut conditional,
            false => &mut candidates,
        };
        for slice in slices {
            all.extend(slice.devices.iter().map(|device| Candidate {
                device,
                slice,
                pool,
                is_usable: pool.is_complete() && pool.is_valid(),
            }));
        }
    }
    candidates.append(&mut conditional);
    match work.spend(candidates.len() as u64) {
        true => Ok(candidates),
        false => Err(Refusal::TooLong),
    }
}

fn must_be_whole(id: &PoolId, pool: &Pool) -> Result<(), String> {
    let why = match (pool.is_complete(), pool.is_valid()) {
        (false, _) => "being updated",
        (true, false) => "invalid",
        (true, true) => return Ok(()),
    };
    Err(format!(
        ": asks for all devices, but resource pool {id} is currently {why}"
    ))
}

fn judge(
    claim: &str,
    wanted: &WantedAsk<'_>,
    candidate: Candidate<'_>,
    offer: &Offer<'_>,
    work: &Work,
) -> Result<bool, Refusal> {
    let device = candidate.device;
    let amounts = wanted.ask.capacity.len() + device.capacity.len();
    if !work.spend(1 + amounts as u64) {
        return Err(Refusal::TooLong);
    }
    let of_class = format!("class {}", wanted.class.name);
    let of_claim = format!("claim {claim}");
    let selects = all_match(&of_class, &wanted.class.selectors, device, work)?
        && all_match(&of_claim, &wanted.ask.selectors, device, work)?;
    Ok(selects
        && device.taken_by(&wanted.ask.capacity).is_some()
        && (!candidate.slice.per_device || device.nodes.have(offer.node, offer.labels)))
}

/// What running an expression costs at least, beside showing it what the device is.
const EXPRESSION_COST: u64 = 10;

fn all_match(
    whose: &str,
    selectors: &[Selector],
    device: &Device,
    work: &Work,
) -> Result<bool, Refusal> {
    let shown = (device.attributes.len() + device.capacity.len()) as u64;
    for (at, selector) in selectors.iter().enumerate() {
        let (matches, cost) = selector.matches(device);
        if !work.spend(cost + EXPRESSION_COST + shown) {
            return Err(Refusal::TooLong);
        }
        match matches {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) if error.starts_with("CEL compile error") => {
                return Err(Refusal::Wrong(format!("{whose}: selector #{at}: {error}")));
            }
            Err(error) => {
                let id = &device.id;
                let words = format!("{whose}: selector #{at} on device {id}: {error}");
                return Err(Refusal::Wrong(words));
            }
        }
    }
    Ok(true)
}
