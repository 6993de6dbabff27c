//! Which devices the claims of a pod get on a node. Pure: values in, the allocations or the reason out.
//!
//! Claims, their requests and the devices of a request are gone through in order, and for each device the candidates in
//! theirs; where it does not go on, the last choice is taken back and the next one tried. So the first solution in this order is
//! found if there is one, as in Kubernetes. The devices of one request are interchangeable, so they are chosen in rising
//! order only: that leaves the first solution what it is, and spares the search all its permutations.
//!
//! The stack is a list, and every step is paid for, so that no claim can overflow the one or keep the scheduler.

mod counters;
#[cfg(test)]
mod exhaustive;
mod prepare;
mod result;
mod room;
mod rules;
#[cfg(test)]
mod tests;

pub use result::{Allotted, SCORE_BEST};

use super::capacity::Shares;
use super::claim::{Ask, DeviceClaim, DeviceClass};
use super::pool::Pool;
use super::slice::{DeviceId, PoolId};
use crate::selector::Labels;
use counters::Counters;
use prepare::{Candidate, Wanted};
use room::Room;
use rules::RuleState;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A claim cannot have more devices.
pub const DEVICES_MAX: usize = 32;

/// What there is on a node.
pub struct Offer<'a> {
    /// Its name.
    pub node: &'a str,
    /// Its labels.
    pub labels: &'a Labels,
    /// Pools of which something is reachable from it, in order.
    pub pools: Vec<(&'a PoolId, &'a Pool)>,
    /// Classes by name.
    pub classes: &'a BTreeMap<String, Arc<DeviceClass>>,
    /// Which devices somebody has alone.
    pub in_use: &'a dyn Fn(&DeviceId) -> bool,
    /// What is had of devices that are shared.
    pub shares: &'a Shares,
}

impl Offer<'_> {
    /// Whether somebody has the device, or a share of it.
    fn has_user(&self, id: &DeviceId) -> bool {
        (self.in_use)(id) || self.shares.has(id)
    }
}

/// Why there is no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There are not enough devices.
    NoneFit,
    /// That, and some pools could not be looked at.
    InvalidPools,
    /// It would take too long to find out.
    TooLong,
    /// Something is wrong with the claim or its class.
    Wrong(String),
}

impl Refusal {
    /// In the words of Kubernetes.
    pub fn words(&self) -> String {
        match self {
            Refusal::NoneFit => "cannot allocate all claims".into(),
            Refusal::InvalidPools => "invalid resource pools were encountered".into(),
            Refusal::TooLong => "timed out trying to allocate devices".into(),
            Refusal::Wrong(words) => words.clone(),
        }
    }
}

/// What may be done yet. One step is a look at a candidate, a rule or a counter; what an expression costs counts as well.
#[derive(Debug)]
pub struct Work {
    left: Cell<u64>,
    all: u64,
}

impl Work {
    /// So many steps.
    pub fn new(steps: u64) -> Work {
        Work {
            left: Cell::new(steps),
            all: steps,
        }
    }

    /// How many were done.
    pub fn done(&self) -> u64 {
        self.all - self.left.get()
    }

    /// Whether there was enough left.
    pub fn spend(&self, steps: u64) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(steps));
        left >= steps
    }
}

/// Gives devices to the claims, which have none: to each what it asks for, or to none.
pub fn allocate(
    claims: &[&DeviceClaim],
    offer: &Offer<'_>,
    work: &Work,
) -> Result<Vec<Allotted>, Refusal> {
    let mut search = Search::new(claims, offer, work)?;
    match search.run()? {
        true => Ok(search.allotted()),
        false if offer.pools.iter().any(|(_, pool)| !pool.is_valid()) => Err(Refusal::InvalidPools),
        false => Err(Refusal::NoneFit),
    }
}

/// How far the search is: which device of which request of which claim is next.
#[derive(Debug, Clone, Copy)]
struct Position {
    claim: usize,
    request: usize,
    /// Absent until one is chosen.
    ask: Option<usize>,
    device: usize,
}

/// What was decided at a position.
#[derive(Debug, Clone, Copy)]
enum Choice {
    /// One of the alternatives of a request.
    Ask {
        ask: usize,
        /// Whether all those before it would have given the claim too many devices.
        too_many: bool,
    },
    /// One of the candidates; another one may do as well.
    Device(usize),
    /// A device without which the request is not met.
    Must,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    at: Position,
    choice: Choice,
}

/// A device for a request.
#[derive(Debug, Clone, Copy)]
struct Pick {
    request: usize,
    ask: usize,
    candidate: usize,
}

enum Step {
    Done,
    On(Position),
    /// Nothing fits here.
    Stuck,
    /// The claim would have too many devices, whichever they are.
    TooMany,
}

struct Search<'a> {
    claims: &'a [&'a DeviceClaim],
    offer: &'a Offer<'a>,
    work: &'a Work,
    candidates: Vec<Candidate<'a>>,
    /// By claim and request.
    wanted: Vec<Vec<Wanted<'a>>>,
    rules: Vec<Vec<RuleState<'a>>>,
    /// By claim: what it costs to look whether the rules hold with one device more.
    rule_costs: Vec<u64>,
    counters: Counters<'a>,
    room: Room,
    /// Which claims have a candidate.
    takers: Vec<Vec<usize>>,
    frames: Vec<Frame>,
    picks: Vec<Vec<Pick>>,
}

impl Search<'_> {
    fn run(&mut self) -> Result<bool, Refusal> {
        let mut at = Position {
            claim: 0,
            request: 0,
            ask: None,
            device: 0,
        };
        loop {
            self.spend(1)?;
            let next = match self.advance(at)? {
                Step::Done => return Ok(true),
                Step::On(next) => Some(next),
                Step::Stuck => self.retreat()?,
                Step::TooMany => self.retreat_from_too_many(at.claim)?,
            };
            match next {
                Some(next) => at = next,
                None => return Ok(false),
            }
        }
    }

    fn spend(&self, steps: u64) -> Result<(), Refusal> {
        match self.work.spend(steps) {
            true => Ok(()),
            false => Err(Refusal::TooLong),
        }
    }

    fn advance(&mut self, at: Position) -> Result<Step, Refusal> {
        let Some(requests) = self.wanted.get(at.claim) else {
            return Ok(Step::Done);
        };
        let Some(wanted) = requests.get(at.request) else {
            return Ok(Step::On(Position {
                claim: at.claim + 1,
                request: 0,
                ask: None,
                device: 0,
            }));
        };
        let Some(ask) = at.ask else {
            if wanted.is_choice {
                let choice = Choice::Ask {
                    ask: 0,
                    too_many: true,
                };
                self.frames.push(Frame { at, choice });
            }
            return Ok(Step::On(Position { ask: Some(0), ..at }));
        };
        let wanted = &wanted.asks[ask];
        if wanted.all.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Step::Stuck);
        }
        if at.device >= wanted.needed {
            return Ok(Step::On(Position {
                request: at.request + 1,
                ask: None,
                device: 0,
                ..at
            }));
        }
        if self.picks[at.claim].len() + wanted.needed - at.device > DEVICES_MAX {
            return Ok(Step::TooMany);
        }
        if let Some(all) = &wanted.all {
            let candidate = all[at.device];
            return self.put_must(at, ask, candidate);
        }
        let first = match self.picks[at.claim].last() {
            Some(before) if at.device > 0 => before.candidate + 1,
            _ => 0,
        };
        self.put_first(at, ask, first)
    }

    /// The next position after a device was put.
    fn after(at: Position) -> Step {
        Step::On(Position {
            device: at.device + 1,
            ..at
        })
    }

    fn put_must(&mut self, at: Position, ask: usize, candidate: usize) -> Result<Step, Refusal> {
        let pick = Pick {
            request: at.request,
            ask,
            candidate,
        };
        if !self.put(at.claim, pick, true)? {
            return Ok(Step::Stuck);
        }
        self.frames.push(Frame {
            at,
            choice: Choice::Must,
        });
        Ok(Search::after(at))
    }

    /// Puts the first candidate from `first` on that does.
    fn put_first(&mut self, at: Position, ask: usize, first: usize) -> Result<Step, Refusal> {
        for candidate in first..self.candidates.len() {
            self.spend(1)?;
            let pick = Pick {
                request: at.request,
                ask,
                candidate,
            };
            let usable = self.candidates[candidate].is_usable;
            if !usable || !self.is_free(at.claim, pick) || !self.selects(at.claim, pick)? {
                continue;
            }
            if self.put(at.claim, pick, false)? {
                self.frames.push(Frame {
                    at,
                    choice: Choice::Device(candidate),
                });
                return Ok(Search::after(at));
            }
        }
        Ok(Step::Stuck)
    }

    /// Takes back choices until one can be made otherwise. Gives back where that leads.
    fn retreat(&mut self) -> Result<Option<Position>, Refusal> {
        while let Some(Frame { at, choice }) = self.frames.pop() {
            match choice {
                Choice::Must => self.take_back(at.claim),
                Choice::Device(candidate) => {
                    self.take_back(at.claim);
                    let ask = at.ask.unwrap_or(0);
                    if let Step::On(next) = self.put_first(at, ask, candidate + 1)? {
                        return Ok(Some(next));
                    }
                }
                Choice::Ask { ask, .. } => {
                    if let Some(next) = self.next_ask(at, ask, false) {
                        return Ok(Some(next));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Goes on with the next alternative, if there is one.
    fn next_ask(&mut self, at: Position, before: usize, too_many: bool) -> Option<Position> {
        let ask = before + 1;
        if ask >= self.wanted[at.claim][at.request].asks.len() {
            return None;
        }
        let choice = Choice::Ask { ask, too_many };
        self.frames.push(Frame { at, choice });
        Some(Position {
            ask: Some(ask),
            ..at
        })
    }

    /// The claim would have too many devices. Which ones does not matter: only another alternative can help.
    fn retreat_from_too_many(&mut self, claim: usize) -> Result<Option<Position>, Refusal> {
        loop {
            self.drop_devices_of(claim);
            let Some(&Frame {
                at,
                choice: Choice::Ask { ask, too_many },
            }) = self.frames.last().filter(|frame| frame.at.claim == claim)
            else {
                return self.retreat();
            };
            self.frames.pop();
            if let Some(next) = self.next_ask(at, ask, too_many) {
                return Ok(Some(next));
            }
            if !too_many {
                return self.retreat();
            }
        }
    }

    /// Takes back the devices of the claim down to the last alternative.
    fn drop_devices_of(&mut self, claim: usize) {
        while let Some(frame) = self.frames.last()
            && frame.at.claim == claim
            && !matches!(frame.choice, Choice::Ask { .. })
        {
            self.frames.pop();
            self.take_back(claim);
        }
    }

    /// Whether nobody has the device who would mind.
    fn is_free(&self, claim: usize, pick: Pick) -> bool {
        let takers = &self.takers[pick.candidate];
        let device = self.candidates[pick.candidate].device;
        let admin = self.wanted[claim][pick.request].asks[pick.ask].ask.admin;
        match (device.shared, admin) {
            (true, true) => true,
            (true, false) => !(self.offer.in_use)(&device.id),
            (false, true) => !takers.contains(&claim),
            (false, false) => takers.is_empty() && !self.offer.has_user(&device.id),
        }
    }

    /// Gives the device to the claim, if all that has to hold does. `must`: the request is not met without it.
    fn put(&mut self, claim: usize, pick: Pick, must: bool) -> Result<bool, Refusal> {
        if !self.is_free(claim, pick) {
            return Ok(false);
        }
        let wanted = &self.wanted[claim][pick.request];
        let (name, ask) = (wanted.name, wanted.asks[pick.ask].ask);
        let device = self.candidates[pick.candidate].device;
        let tolerated = |taint: &crate::object::Taint| {
            let known = matches!(&*taint.effect, "NoSchedule" | "NoExecute");
            !known || ask.tolerations.iter().any(|t| t.tolerates(taint))
        };
        self.spend(self.rule_costs[claim] + self.cost(pick.candidate))?;
        if !device.taints.iter().all(tolerated) || !self.take(pick.candidate, ask) {
            return Ok(false);
        }
        let rules = &mut self.rules[claim];
        let mut added = rules.iter_mut();
        let broken = added.position(|rule| !rule.add(name, ask, device));
        if let Some(broken) = broken {
            for rule in &mut rules[..broken] {
                rule.remove(name, ask);
            }
            self.give_back(pick.candidate);
            if must {
                return Err(Refusal::Wrong(format!(
                    "claim {}, request {}: cannot add device {} because a claim constraint would not be satisfied",
                    self.claims[claim].full_name(),
                    ask.name,
                    device.id
                )));
            }
            return Ok(false);
        }
        self.takers[pick.candidate].push(claim);
        self.picks[claim].push(pick);
        Ok(true)
    }

    /// Takes back what the claim was given last.
    fn take_back(&mut self, claim: usize) {
        let Some(pick) = self.picks[claim].pop() else {
            return;
        };
        let wanted = &self.wanted[claim][pick.request];
        let ask = wanted.asks[pick.ask].ask;
        for rule in &mut self.rules[claim] {
            rule.remove(wanted.name, ask);
        }
        self.give_back(pick.candidate);
        self.takers[pick.candidate].pop();
    }

    /// In how many steps [`Self::take`] finds out.
    fn cost(&self, at: usize) -> u64 {
        let candidate = self.candidates[at];
        self.counters.cost(candidate) + self.room.cost(at, candidate.device)
    }

    /// Takes what the device needs of counters, and what is asked for of it if it is shared, if both is left. However many
    /// share a device, it counts once.
    fn take(&mut self, at: usize, ask: &Ask) -> bool {
        let (candidate, offer) = (self.candidates[at], self.offer);
        let counts = !self.has_share(at);
        if counts
            && !self
                .counters
                .take(candidate, &|id: &DeviceId| offer.has_user(id))
        {
            return false;
        }
        if !candidate.device.shared {
            return true;
        }
        let has_room = self.room.take(at, candidate.device, ask, offer.shares);
        if counts && !has_room {
            self.counters.give_back(candidate);
        }
        has_room
    }

    /// The device is not taken after all.
    fn give_back(&mut self, at: usize) {
        let candidate = self.candidates[at];
        if candidate.device.shared {
            self.room.give_back(at);
        }
        if !self.has_share(at) {
            self.counters.give_back(candidate);
        }
    }

    /// Whether anybody has a share of the device, if it is shared.
    fn has_share(&self, at: usize) -> bool {
        let device = self.candidates[at].device;
        device.shared && (self.room.is_used(at) || self.offer.shares.has(&device.id))
    }
}
