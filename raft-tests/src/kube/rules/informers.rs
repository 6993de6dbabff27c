//! K4: what a client keeps by list and watch is what the store had, with every transition once and in order.

use std::collections::BTreeMap;

use super::{Evidence, Verdict, is_shown_right};
use crate::kube::history::{EventKind, History, Horizon, Informer, Seen, Step, Truth, digest};

/// An answer takes no longer: nobody waits longer for one.
const ON_ITS_WAY: u64 = 4_000_000_000;

pub(super) fn check(history: &History) -> Vec<Verdict> {
    let truth = &history.truth;
    history
        .informers
        .iter()
        .enumerate()
        .filter_map(|(place, informer)| {
            let mut replay = Replay {
                truth,
                horizons: history.horizons.as_deref(),
                informer,
                place,
                at: 0,
                position: 0,
                shown: None,
                cache: BTreeMap::new(),
            };
            replay.all().err()
        })
        .collect()
}

/// The newest version behind which this member's server may have begun when it gave an answer that came at this time.
fn horizon(horizons: &[Horizon], member: u64, at: u64) -> i64 {
    let own = horizons.iter();
    let own = own.filter(|one| one.member == member && one.at <= at);
    let own: Vec<&Horizon> = own.collect();
    // Of a process that has just ended an answer may still be on its way.
    let since = own
        .iter()
        .rposition(|one| one.fresh && one.at + ON_ITS_WAY <= at);
    let of_process = own[since.unwrap_or(0)..].iter();
    of_process.map(|one| one.revision).max().unwrap_or(0)
}

struct Replay<'a> {
    truth: &'a Truth,
    horizons: Option<&'a [Horizon]>,
    informer: &'a Informer,
    place: usize,
    /// The step that is looked at.
    at: usize,
    /// Everything up to here was shown.
    position: i64,
    /// By this step.
    shown: Option<usize>,
    cache: BTreeMap<&'a str, i64>,
}

impl<'a> Replay<'a> {
    /// `what` is told in this step, or is missing before it, and has no stop. `others` are what it contradicts, besides what
    /// brought the informer where it is.
    fn wrong<T>(&self, rule: &str, what: &str, others: &[Evidence]) -> Result<T, Verdict> {
        let Informer { client, prefix, .. } = self.informer;
        let story = format!(
            "The informer of {prefix} (client {client}) has been shown everything up to version {}. Then {what}.",
            self.position
        );
        let told = |at| Evidence::Told(self.place, at);
        let mut evidence = others.to_vec();
        evidence.extend(self.shown.map(told));
        if self.shown != Some(self.at) {
            evidence.push(told(self.at));
        }
        Err(Verdict {
            rule: rule.into(),
            story,
            evidence,
        })
    }

    fn reach(&mut self, revision: i64) {
        self.position = revision;
        self.shown = Some(self.at);
    }

    fn all(&mut self) -> Result<(), Verdict> {
        for (at, stepped) in self.informer.steps.iter().enumerate() {
            self.at = at;
            self.step(&stepped.step)?;
        }
        if let Some(last) = self.informer.settled {
            self.is_complete(last)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &'a Step) -> Result<(), Verdict> {
        match step {
            Step::Listed {
                member,
                revision,
                items,
                ..
            } => self.listed(*member, *revision, items),
            Step::Watch { .. } | Step::Left { .. } => Ok(()),
            Step::Expired {
                member,
                asked,
                oldest,
            } => self.expired(*member, asked.unwrap_or(self.position), *oldest),
            Step::Event { kind, seen } => self.event(*kind, seen),
            Step::Bookmark { revision } => {
                if *revision < self.position {
                    let what = format!("a bookmark says {revision}");
                    return self.wrong("K3: back in time", &what, &[]);
                }
                self.nothing_missed(*revision + 1)?;
                self.reach(*revision);
                Ok(())
            }
        }
    }

    /// A version is too old only where the member need not know what came after it.
    fn expired(&self, member: u64, asked: i64, oldest: Option<i64>) -> Result<(), Verdict> {
        const RULE: &str = "K4: expired for nothing";
        if let Some(oldest) = oldest.filter(|oldest| *oldest <= asked) {
            let what = format!(
                "member {member} says that {asked} is too old, and that it knows all that came after {oldest}"
            );
            return self.wrong(RULE, &what, &[]);
        }
        let Some(horizons) = self.horizons else {
            return Ok(());
        };
        let now = self.informer.steps[self.at].at;
        match horizon(horizons, member, now) {
            behind if behind > asked => Ok(()),
            behind => {
                let what = format!(
                    "member {member} says that {asked} is too old, though it has to know all that came after {behind}"
                );
                self.wrong(RULE, &what, &[])
            }
        }
    }

    fn nothing_missed(&self, until: i64) -> Result<(), Verdict> {
        match self
            .truth
            .between(&self.informer.prefix, self.position, until)
        {
            None => Ok(()),
            Some((revision, key)) => {
                let what = format!(
                    "it was told of {}, and not before of the change of {key} at {revision}",
                    until.max(revision + 1) - 1
                );
                let missed = [Evidence::Change(revision)];
                self.wrong("K4: missed transition", &what, &missed)
            }
        }
    }

    fn listed(&mut self, member: u64, revision: i64, items: &'a [Seen]) -> Result<(), Verdict> {
        if revision < self.position {
            let what = format!("member {member} answers a list of version {revision}");
            return self.wrong("K3: back in time", &what, &[]);
        }
        for seen in items {
            if let Err(what) = is_shown_right(self.truth, seen) {
                let stored = [Evidence::Change(seen.revision)];
                return self.wrong("K2: wrong state", &what, &stored);
            }
        }
        self.reach(revision);
        self.cache = items
            .iter()
            .map(|seen| (seen.key.as_str(), seen.revision))
            .collect();
        self.is_right(revision)
    }

    fn event(&mut self, kind: EventKind, seen: &'a Seen) -> Result<(), Verdict> {
        let revision = seen.revision;
        if revision <= self.position {
            let what = format!(
                "{kind:?} of {} at {revision} comes again, or late",
                seen.key
            );
            return self.wrong("K4: duplicate transition", &what, &[]);
        }
        self.nothing_missed(revision)?;
        let before = self.truth.before(&seen.key, revision);
        let right = match (kind, before, self.truth.change(&seen.key, revision)) {
            (EventKind::Added, None, Some(Some(now)))
            | (EventKind::Modified, Some(_), Some(Some(now))) => digest(now) == seen.digest,
            (EventKind::Deleted, Some((_, was)), Some(None)) => digest(was) == seen.digest,
            _ => false,
        };
        if !right {
            let key = &seen.key;
            let what = format!(
                "it was told {kind:?} of {key} at {revision}, which is not what happened then"
            );
            let happened = [Evidence::Change(revision)];
            return self.wrong("K4: wrong transition", &what, &happened);
        }
        self.reach(revision);
        match kind {
            EventKind::Deleted => self.cache.remove(seen.key.as_str()),
            _ => self.cache.insert(&seen.key, revision),
        };
        Ok(())
    }

    /// The cache is the list of a version.
    fn is_right(&self, revision: i64) -> Result<(), Verdict> {
        let prefix = &self.informer.prefix;
        let all: BTreeMap<&str, i64> = self.truth.list(prefix, revision).into_iter().collect();
        let keys = all.keys().chain(self.cache.keys());
        let mut keys = keys.filter(|key| all.get(**key) != self.cache.get(**key));
        match keys.next() {
            None => Ok(()),
            Some(key) => {
                let (has, was) = (self.cache.get(key), all.get(key));
                let was_or_had = was.or(has);
                let at = |found: Option<&i64>| {
                    found.map_or("not there".into(), |revision| format!("at {revision}"))
                };
                let (has, was) = (at(has), at(was));
                let what =
                    format!("it has {key} {has} where the store had it {was} as of {revision}");
                let made = was_or_had.map(|revision| Evidence::Change(*revision));
                self.wrong("K4: wrong cache", &what, made.as_slice())
            }
        }
    }

    fn is_complete(&mut self, last: i64) -> Result<(), Verdict> {
        self.at = self.shown.unwrap_or(self.at);
        if let Some((revision, key)) =
            self.truth
                .between(&self.informer.prefix, self.position, last + 1)
        {
            let what =
                format!("it was not told of {key} at {revision}, long after the end of all writes");
            let missed = [Evidence::Change(revision)];
            return self.wrong("K4: missed transition", &what, &missed);
        }
        self.is_right(last.max(self.position))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::rules_of;
    use super::*;
    use crate::kube::history::Stepped;

    fn object(value: &str) -> Value {
        json!({"metadata": {"namespace": "n", "uid": "u"}, "data": {"v": value}})
    }

    fn seen(name: &str, value: &str, revision: i64) -> Seen {
        Seen {
            key: format!("configmaps/n/{name}"),
            uid: "u".into(),
            revision,
            digest: digest(&object(value)),
        }
    }

    /// `a` is there from 2 on, changes at 4 and goes at 6; `b` comes at 5. At 7 there is something else.
    fn truth() -> Truth {
        let mut truth = Truth::default();
        truth.put(2, "configmaps/n/a", Some(object("1")));
        truth.put(4, "configmaps/n/a", Some(object("2")));
        truth.put(5, "configmaps/n/b", Some(object("3")));
        truth.put(6, "configmaps/n/a", None);
        truth.put(7, "secrets/n/a", Some(object("4")));
        truth
    }

    /// When everything happens, longer after the beginning than any answer takes.
    const AT: u64 = 10 * ON_ITS_WAY;

    fn listed(revision: i64, items: Vec<Seen>) -> Step {
        Step::Listed {
            member: 1,
            revision,
            items,
            asked: None,
        }
    }

    fn event(kind: EventKind, seen: Seen) -> Step {
        Step::Event { kind, seen }
    }

    fn steps() -> Vec<Step> {
        vec![
            listed(3, vec![seen("a", "1", 2)]),
            Step::Watch { member: 1, from: 3 },
            event(EventKind::Modified, seen("a", "2", 4)),
            event(EventKind::Added, seen("b", "3", 5)),
            Step::Bookmark { revision: 5 },
            event(EventKind::Deleted, seen("a", "2", 6)),
            Step::Bookmark { revision: 7 },
        ]
    }

    fn expired(asked: Option<i64>, oldest: Option<i64>) -> Step {
        Step::Expired {
            member: 1,
            asked,
            oldest,
        }
    }

    fn rule(steps: Vec<Step>) -> Option<String> {
        rule_with(steps, None)
    }

    fn rule_with(steps: Vec<Step>, horizons: Option<Vec<Horizon>>) -> Option<String> {
        let informer = Informer {
            client: 1,
            prefix: "configmaps/".into(),
            steps: steps
                .into_iter()
                .map(|step| Stepped { at: AT, step })
                .collect(),
            settled: Some(7),
        };
        let history = History {
            truth: truth(),
            informers: vec![informer],
            horizons,
            ..History::default()
        };
        rules_of(&check(&history)).pop()
    }

    #[test]
    fn every_transition_once_and_in_order() {
        assert_eq!(rule(steps()), None);
        for (without, wrong) in [(2, "missed"), (3, "missed"), (5, "missed")] {
            let mut steps = steps();
            steps.remove(without);
            assert_eq!(rule(steps), Some(format!("K4: {wrong} transition")));
        }
        let mut twice = steps();
        twice.insert(3, twice[2].clone());
        assert_eq!(rule(twice).as_deref(), Some("K4: duplicate transition"));
        let mut swapped = steps();
        swapped.swap(2, 3);
        assert_eq!(rule(swapped).as_deref(), Some("K4: missed transition"));
    }

    #[test]
    fn a_transition_is_what_happened() {
        let mut wrong = steps();
        wrong[2] = event(EventKind::Added, seen("a", "2", 4));
        assert_eq!(rule(wrong).as_deref(), Some("K4: wrong transition"));
        let mut wrong = steps();
        wrong[5] = event(EventKind::Deleted, seen("a", "1", 6));
        assert_eq!(rule(wrong).as_deref(), Some("K4: wrong transition"));
    }

    #[test]
    fn the_end_is_known() {
        let mut short = steps();
        short.truncate(5);
        assert_eq!(rule(short).as_deref(), Some("K4: missed transition"));
    }

    #[test]
    fn a_list_is_of_its_version_and_no_older_than_before() {
        let mut again = steps();
        again.insert(4, expired(None, None));
        again.insert(5, listed(5, vec![seen("a", "2", 4), seen("b", "3", 5)]));
        assert_eq!(rule(again.clone()), None);
        again[5] = listed(4, vec![seen("a", "2", 4)]);
        assert_eq!(rule(again.clone()).as_deref(), Some("K3: back in time"));
        again[5] = listed(5, vec![seen("a", "2", 4)]);
        assert_eq!(rule(again).as_deref(), Some("K4: wrong cache"));
        let mut bookmark = steps();
        bookmark.push(Step::Bookmark { revision: 6 });
        assert_eq!(rule(bookmark).as_deref(), Some("K3: back in time"));
    }

    #[test]
    fn a_version_is_too_old_only_for_who_need_not_know_it() {
        let horizon = |member, at, revision, fresh| Horizon {
            member,
            at,
            revision,
            fresh,
        };
        // It knows everything up to 5.
        let told = |step: Step, horizons: &[Horizon]| {
            let mut steps = steps();
            steps.truncate(5);
            steps.extend([step, listed(6, vec![seen("b", "3", 5)])]);
            rule_with(steps, Some(horizons.to_vec()))
        };
        let wrong = Some("K4: expired for nothing".to_string());
        let plain = || expired(None, Some(9));
        assert_eq!(told(plain(), &[horizon(1, 5, 6, false)]), None);
        assert_eq!(
            told(plain(), &[horizon(1, 5, 5, false)]),
            wrong,
            "it knows 6"
        );
        assert_eq!(told(plain(), &[]), wrong);
        assert_eq!(told(plain(), &[horizon(2, 5, 6, false)]), wrong, "another");
        assert_eq!(
            told(plain(), &[horizon(1, AT + 1, 6, false)]),
            wrong,
            "later"
        );
        let before = horizon(1, 5, 6, false);
        let restarted = |at| [before, horizon(1, at, 3, true)];
        assert_eq!(
            told(plain(), &restarted(AT - ON_ITS_WAY)),
            wrong,
            "a new process"
        );
        assert_eq!(told(plain(), &restarted(AT - 1)), None, "it was on its way");
        // What is said has to fit, also where nothing is known of the server.
        assert_eq!(told(expired(None, Some(5)), &[before]), wrong);
        assert_eq!(
            told(expired(Some(2), None), &[horizon(1, 5, 3, false)]),
            None
        );
        assert_eq!(
            told(expired(Some(3), None), &[horizon(1, 5, 3, false)]),
            wrong
        );
        let mut contradicts = steps();
        contradicts.truncate(5);
        contradicts.push(expired(None, Some(4)));
        assert_eq!(rule(contradicts), wrong);
    }
}
