//! One decision about all pods of a group that wait.

use super::Key;
use super::room::{Relief, give_up_room, make_room};
use crate::config::Config;
use crate::object::{DefaultSpread, Pod};
use crate::plan::Plan;
use crate::queue::Queued;
use crate::resources::Resources;
use crate::schedule::{Decision, Diagnosis, schedule, schedule_asked};
use crate::world::World;
use agent_runtime::kinds::Time;
use agent_runtime::timestamp::Micros;
use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};

/// A pod that was assumed onto a node, and what has to be written first.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) queued: Queued,
    pub(crate) node: String,
    pub(crate) plan: Plan,
}

/// The outcome for a group.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Enough of them have a node, and have been assumed onto it.
    Placed {
        bound: Vec<Bound>,
        /// Those beyond the needed number that no node takes.
        refused: Vec<(Queued, Diagnosis)>,
    },
    /// Too few of them fit, and nothing was kept.
    Refused {
        waiting: Vec<Queued>,
        /// How many found a node.
        fit: usize,
        /// For the events and the conditions.
        message: String,
        /// The filters that refused any of them.
        plugins: BTreeSet<&'static str>,
        /// Who could make room.
        relief: Relief,
    },
    /// Too few of them are there, since some have gone.
    Incomplete(Vec<Queued>),
}

/// Decides about these pods, which are all of the group that wait. `start` and `pick` as for [`schedule`]. What one of them
/// gets by a claim those after it share.
pub(crate) fn place(
    world: &mut World,
    key: &Key,
    waiting: Vec<Queued>,
    start: &mut usize,
    pick: &mut dyn FnMut(usize) -> usize,
) -> Verdict {
    let mut pods = waiting.iter().map(|queued| &queued.pod);
    let share = pods.any(|pod| !pod.resource_claims.is_empty());
    if share {
        world.devices().decide_about_group(true);
    }
    let verdict = decide(world, key, waiting, start, pick);
    if share {
        world.devices().decide_about_group(false);
    }
    verdict
}

fn decide(
    world: &mut World,
    key: &Key,
    mut waiting: Vec<Queued>,
    start: &mut usize,
    pick: &mut dyn FnMut(usize) -> usize,
) -> Verdict {
    let min_count = world.queue.members().min_count(key);
    let needed = min_count.saturating_sub(world.placed_of(key));
    if waiting.len() < needed {
        return Verdict::Incomplete(waiting);
    }
    let kept = give_up_room(&waiting, world);
    // What is large finds its place before what is small has taken it.
    waiting.sort_by_cached_key(|queued| order(&queued.pod));
    let all = waiting.len();
    let (bound, refused) = try_all(world, waiting, start, pick);
    if bound.len() >= needed {
        return Verdict::Placed { bound, refused };
    }
    let fit = bound.len();
    let mut message = message(key, fit, all, needed, refused.first());
    let plugins = refused
        .iter()
        .flat_map(|(_, diagnosis)| diagnosis.plugins.iter().copied())
        .collect();
    let mut waiting: Vec<Queued> = refused.into_iter().map(|(queued, _)| queued).collect();
    for placed in bound.into_iter().rev() {
        world.take_back(&placed.queued.pod, &placed.plan);
        waiting.push(placed.queued);
    }
    waiting.sort_by_cached_key(|queued| order(&queued.pod));
    let pods = waiting.iter().map(|queued| queued.pod.clone()).collect();
    // Extenders may refuse whatever room is made, so none is where they have a say.
    let relief = match waiting.iter().any(|q| world.asked.contains_key(&q.pod.uid)) {
        true => Relief::Useless(None),
        false => make_room(world, key, pods, needed, &kept, pick),
    };
    match &relief {
        Relief::Waiting => {
            for (pod, node) in kept {
                world.snapshot.nominate(pod, &node);
            }
        }
        Relief::Useless(Some(words)) => {
            message.push_str(" preemption: ");
            message.push_str(words);
        }
        Relief::Evict { .. } | Relief::Useless(None) => {}
    }
    Verdict::Refused {
        relief,
        waiting,
        fit,
        message,
        plugins,
    }
}

fn order(pod: &Pod) -> (Reverse<i32>, Reverse<(i64, i64)>, Micros, String) {
    let Resources {
        milli_cpu, memory, ..
    } = pod.requests;
    (
        Reverse(pod.priority),
        Reverse((milli_cpu, memory)),
        pod.created,
        pod.uid.clone(),
    )
}

/// Gives each pod a node if one takes it, again and again as long as that helps: a pod may need another one of its group
/// to be near.
fn try_all(
    world: &mut World,
    waiting: Vec<Queued>,
    start: &mut usize,
    pick: &mut dyn FnMut(usize) -> usize,
) -> (Vec<Bound>, Vec<(Queued, Diagnosis)>) {
    let config = world.config.clone();
    let mut bound = Vec::new();
    let mut open: VecDeque<Queued> = waiting.into();
    loop {
        let before = bound.len();
        let mut refused: Vec<(Queued, Diagnosis)> = Vec::new();
        while let Some(queued) = open.pop_front() {
            let alike = |(other, _): &&(Queued, Diagnosis)| {
                // What extenders say is of one pod.
                !world.asked.contains_key(&queued.pod.uid)
                    && fares_as(&other.pod, &queued.pod, &config)
            };
            let known = refused.iter().find(alike);
            let found = match known.map(|(_, diagnosis)| diagnosis.clone()) {
                Some(diagnosis) => Err(diagnosis),
                None => try_one(world, &queued.pod, start, pick),
            };
            match found {
                Ok((node, plan)) => bound.push(Bound { queued, node, plan }),
                Err(diagnosis) => refused.push((queued, diagnosis)),
            }
        }
        let again = |(queued, _): &(Queued, Diagnosis)| depends_on_others(&queued.pod, &config);
        let again = refused.iter().any(again);
        if bound.len() == before || !again {
            return (bound, refused);
        }
        open = refused.into_iter().map(|(queued, _)| queued).collect();
    }
}

/// Whether a pod may fit because another one was placed, and not only in spite of it.
pub(super) fn depends_on_others(pod: &Pod, config: &Config) -> bool {
    let by_default = |list: &[crate::object::SpreadConstraint]| list.iter().any(|c| c.hard);
    let spread = config.profile(pod).map(|profile| &profile.args.spread);
    !pod.affinity.is_empty()
        || !pod.spread.is_empty()
        || matches!(spread, Some(DefaultSpread::List(list)) if by_default(list))
}

/// Whether a pod finds no node if the other one has found none: then nobody need look again, since there is only less room.
pub(super) fn fares_as(one: &Pod, other: &Pod, config: &Config) -> bool {
    let essence = |pod: &Pod| Pod {
        name: String::new(),
        uid: String::new(),
        resource_version: Box::default(),
        created: 0,
        generation: 0,
        scheduled_condition: None,
        deadline: Time::default(),
        ..pod.clone()
    };
    let alike = one.requests == other.requests && one.labels == other.labels;
    let may_claim = one.has_claims() || !one.extended.is_empty();
    alike && !may_claim && !depends_on_others(one, config) && essence(one) == essence(other)
}

/// Assumes the pod onto the node that it gets.
fn try_one(
    world: &mut World,
    pod: &std::sync::Arc<Pod>,
    start: &mut usize,
    pick: &mut dyn FnMut(usize) -> usize,
) -> Result<(String, Plan), Diagnosis> {
    let Some(profile) = world.config.profile(pod).cloned() else {
        return Err(Diagnosis::default());
    };
    let decision = match world.asked.get(&pod.uid) {
        Some(asked) => schedule_asked(pod, &world.snapshot, &profile, *start, pick, asked),
        None => schedule(pod, &world.snapshot, &profile, *start, pick),
    };
    match decision {
        Decision::Unschedulable(diagnosis) => Err(diagnosis),
        Decision::Bind {
            node, evaluated, ..
        } => {
            *start = (*start + evaluated) % world.snapshot.node_count().max(1);
            let plan = world.plan(pod, &node, &profile);
            plan.assume(&mut world.snapshot, &node);
            world.snapshot.assume(pod.clone(), &node);
            Ok((node, plan))
        }
    }
}

/// `2 of 4 pods of pod group "g" fit, 3 are needed: 0/5 nodes ..`
fn message(
    (_, name): &Key,
    fit: usize,
    all: usize,
    needed: usize,
    first: Option<&(Queued, Diagnosis)>,
) -> String {
    let why = first.map(|(_, diagnosis)| diagnosis.message(None));
    format!(
        "{fit} of {all} waiting pods of pod group {name:?} fit, and {needed} are needed: {}",
        why.unwrap_or_default()
    )
}
