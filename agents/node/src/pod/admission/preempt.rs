//! Whom a node ends so that it can take a critical pod that does not fit. Pure.
//!
//! As a kubelet chooses: best effort pods rather than burstable ones and these rather than guaranteed ones, as few as will do,
//! and those that ask for little. First it is found which guaranteed pods have to go even when all others do, then which
//! burstable ones beside those, then which of best effort.

use std::cmp::Reverse;

use serde_json::Value;

use super::share::Share;
use super::{is_critical, priority};

/// The reason of the event and of the status of a pod that is ended, and what both say.
pub(crate) const REASON: &str = "Preempting";
pub(crate) const MESSAGE: &str = "Preempted in order to admit critical pod";
/// The reason when there is nobody whose end would help.
pub(super) const IN_VAIN: &str = "UnexpectedAdmissionError";

/// How much of a resource there is too little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) resource: String,
    pub(super) amount: i64,
}

/// A pod that the node has taken.
#[derive(Debug, Clone)]
pub(crate) struct Holder<'a> {
    uid: &'a str,
    share: &'a Share,
    rank: Rank,
}

/// What decides whether a pod may be ended for another one, and how soon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rank {
    priority: Option<i64>,
    is_critical: bool,
    class: Class,
}

/// In the order in which pods go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Class {
    #[default]
    BestEffort,
    Burstable,
    Guaranteed,
}

impl Rank {
    /// From the object as the API has it.
    pub(crate) fn of(pod: &Value) -> Rank {
        Rank {
            priority: priority(pod),
            is_critical: is_critical(pod),
            class: match pod["status"]["qosClass"].as_str() {
                Some("Guaranteed") => Class::Guaranteed,
                Some("Burstable") => Class::Burstable,
                _ => Class::BestEffort,
            },
        }
    }

    /// How soon it gets what it waits for beside others: the lower the sooner.
    pub(super) fn turn(self) -> (Reverse<i64>, u8) {
        let class = match self.class {
            Class::Guaranteed => 0,
            Class::Burstable => 1,
            Class::BestEffort => 2,
        };
        (Reverse(self.priority.unwrap_or(0)), class)
    }

    fn gives_way_to(self, pod: &Value) -> bool {
        let more_important = || self.priority.zip(priority(pod)).is_some_and(|(a, b)| a < b);
        is_critical(pod) && !self.is_critical || more_important()
    }
}

impl<'a> Holder<'a> {
    pub(crate) fn new(uid: &'a str, share: &'a Share, rank: Rank) -> Holder<'a> {
        Holder { uid, share, rank }
    }

    pub(super) fn share(&self) -> &Share {
        self.share
    }

    fn has(&self, resource: &str) -> i64 {
        match resource {
            "pods" => 1,
            _ => self.share.amounts.get(resource),
        }
    }
}

/// Who has to go; an error in words where not even all of them are enough.
pub(super) fn victims(
    pod: &Value,
    missing: &[Missing],
    holders: &[Holder<'_>],
) -> Result<Vec<String>, String> {
    let of = |class: Class| {
        let lower = holders.iter().filter(|one| one.rank.gives_way_to(pod));
        lower.filter(|one| one.rank.class == class).collect()
    };
    let classes = [Class::Guaranteed, Class::Burstable, Class::BestEffort];
    let [guaranteed, burstable, best_effort]: [Vec<&Holder<'_>>; 3] = classes.map(of);
    let rest = without(missing, &burstable);
    let guaranteed = fewest(guaranteed, without(&rest, &best_effort))
        .map_err(|_| in_vain(missing, holders, pod))?;
    let rest = without(missing, &guaranteed);
    let burstable = fewest(burstable, without(&rest, &best_effort)).map_err(|left| none(&left))?;
    let rest = without(&rest, &burstable);
    let best_effort = fewest(best_effort, rest).map_err(|left| none(&left))?;
    let all = best_effort.into_iter().chain(burstable).chain(guaranteed);
    Ok(all.map(|one| one.uid.to_owned()).collect())
}

/// What is missing even when all of them go.
fn in_vain(missing: &[Missing], holders: &[Holder<'_>], pod: &Value) -> String {
    let lower = holders.iter().filter(|one| one.rank.gives_way_to(pod));
    none(&without(missing, &lower.collect::<Vec<_>>()))
}

fn none(missing: &[Missing]) -> String {
    let told = missing.iter();
    let told = told.map(|one| format!("(res: {}, q: {}), ", one.resource, one.amount));
    let told: String = told.collect();
    format!(
        "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to \
         preempt: no set of running pods found to reclaim resources: [{told}]"
    )
}

/// What is missing when these go.
fn without(missing: &[Missing], going: &[&Holder<'_>]) -> Vec<Missing> {
    let left = missing.iter().map(|one| {
        let given = going.iter().map(|holder| holder.has(&one.resource));
        let given = given.fold(0_i64, i64::saturating_add);
        Missing {
            resource: one.resource.clone(),
            amount: one.amount.saturating_sub(given),
        }
    });
    left.filter(|one| one.amount > 0).collect()
}

/// As few of them as give what is missing: always the one that gives the most of it, and of equals the smallest. What is
/// missing still where all are too few.
fn fewest<'a, 'b>(
    mut holders: Vec<&'b Holder<'a>>,
    mut missing: Vec<Missing>,
) -> Result<Vec<&'b Holder<'a>>, Vec<Missing>> {
    let mut going = Vec::new();
    while !missing.is_empty() {
        let nearest = (0..holders.len()).min_by(|a, b| {
            let (a, b) = (holders[*a], holders[*b]);
            let order = distance(a, &missing).total_cmp(&distance(b, &missing));
            order.then_with(|| size(a).cmp(&size(b)))
        });
        let Some(nearest) = nearest else {
            return Err(missing);
        };
        let one = holders.remove(nearest);
        missing = without(&missing, &[one]);
        going.push(one);
    }
    Ok(going)
}

/// How far the pod is from giving what is missing: each resource counts the same, whatever the amounts.
fn distance(holder: &Holder<'_>, missing: &[Missing]) -> f64 {
    let open = missing.iter().map(|one| {
        let left = one.amount.saturating_sub(holder.has(&one.resource)).max(0);
        (left as f64 / one.amount as f64).powi(2)
    });
    open.sum()
}

fn size(holder: &Holder<'_>) -> (i64, i64) {
    (holder.has("memory"), holder.has("cpu"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::CRITICAL_PRIORITY;
    use super::*;

    /// Name, class, priority, thousandths of a core, bytes.
    type Row = (&'static str, &'static str, i64, i64, i64);

    fn pod((name, class, priority, cpu, memory): Row) -> Value {
        let requests = json!({"cpu": format!("{cpu}m"), "memory": memory});
        json!({"metadata": {"uid": name}, "status": {"qosClass": class},
            "spec": {"priority": priority, "containers": [{"resources": {"requests": requests}}]}})
    }

    fn chosen(rows: &[Row], missing: &[(&str, i64)], priority: i64) -> Result<String, String> {
        let pods: Vec<Value> = rows.iter().copied().map(pod).collect();
        let shares: Vec<Share> = pods.iter().map(Share::of).collect();
        let holders: Vec<Holder<'_>> = pods
            .iter()
            .zip(&shares)
            .map(|(pod, share)| {
                Holder::new(
                    pod["metadata"]["uid"].as_str().unwrap(),
                    share,
                    Rank::of(pod),
                )
            })
            .collect();
        let missing: Vec<Missing> = missing
            .iter()
            .map(|(resource, amount)| Missing {
                resource: (*resource).to_owned(),
                amount: *amount,
            })
            .collect();
        let asking = json!({"spec": {"priority": priority}});
        victims(&asking, &missing, &holders).map(|all| all.join(" "))
    }

    const ROWS: &[Row] = &[
        ("best", "BestEffort", 0, 0, 0),
        ("small", "Burstable", 0, 100, 100),
        ("large", "Burstable", 0, 300, 300),
        ("sure", "Guaranteed", 0, 100, 100),
        ("surer", "Guaranteed", 0, 300, 300),
        ("system", "Guaranteed", CRITICAL_PRIORITY, 900, 900),
    ];

    #[test]
    fn those_of_the_lower_class_go_and_as_few_as_will_do() {
        let cases: &[(&[(&str, i64)], &str)] = &[
            (&[("cpu", 50)], "small"),
            (&[("cpu", 150)], "large"),
            (&[("cpu", 350)], "large small"),
            (&[("cpu", 450)], "large small sure"),
            (&[("cpu", 650)], "large small surer"),
            (&[("memory", 800)], "large small surer sure"),
            (&[("pods", 1)], "best"),
            (&[("pods", 1), ("memory", 90)], "small"),
            (&[("pods", 2), ("cpu", 250)], "best large"),
        ];
        for (missing, expected) in cases {
            let told = chosen(ROWS, missing, CRITICAL_PRIORITY);
            assert_eq!(told.as_deref(), Ok(*expected), "{missing:?}");
        }
    }

    #[test]
    fn nobody_is_ended_in_vain_or_for_an_equal() {
        assert_eq!(
            chosen(ROWS, &[("cpu", 900), ("memory", 100)], CRITICAL_PRIORITY).unwrap_err(),
            "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods \
             to preempt: no set of running pods found to reclaim resources: [(res: cpu, q: 100), ]"
        );
        let more = chosen(ROWS, &[("cpu", 900)], CRITICAL_PRIORITY + 1);
        assert_eq!(more.as_deref(), Ok("system"));
    }

    #[test]
    fn a_pod_that_is_not_critical_ends_only_what_is_less_important() {
        assert!(chosen(ROWS, &[("cpu", 50)], 0).is_err());
        assert_eq!(chosen(ROWS, &[("cpu", 50)], 1).as_deref(), Ok("small"));
    }
}
