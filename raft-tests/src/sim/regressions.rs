//! Bugs that openraft has had, each as a story of a cluster in which it would show: by their numbers there, or by the
//! commits that mended them. Which is which stands in docs/reference/regressions.md.
//!
//! Everything that is asked is recorded and judged in the end, as in any run.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kv::{RangeRequest, RequestOp, Store, TxnRequest};
use store::Limits;

use super::disk::{Crash, Flaw};
use super::net::address;
use super::world::World;
use super::{becomes, dump, heal, listen_for_panics, panics};
use crate::judge::judge;
use crate::recording::{Found, Outcome, Pair, Put, Range, Request, Response};

const SECOND: Duration = Duration::from_secs(1);
/// Shorter than anybody waits before it stands for election.
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(8);

struct Scene {
    world: Arc<World>,
    members: Vec<u64>,
}

/// Tells of the panics that were listened for, where one of them ends the test.
struct Told;

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:#?}", panics());
        }
    }
}

/// Has a cluster formed, plays, and judges. `purging`: little stays in the log, so that snapshots are needed.
fn play<F: Future<Output = ()>>(
    seed: u64,
    members: u64,
    purging: bool,
    script: impl FnOnce(Arc<Scene>) -> F,
) {
    listen_for_panics();
    let _told = Told;
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime needs nothing");
    runtime.block_on(async {
        let world = World::new(seed, limits(purging), Flaw::None);
        let members: Vec<u64> = (1..=members).collect();
        world.found(&members);
        members.iter().for_each(|id| world.boot(*id));
        let scene = Arc::new(Scene { world, members });
        scene.led_by_one_of(&scene.members).await;
        script(scene.clone()).await;
        scene.ends_well().await;
    });
}

fn limits(purging: bool) -> Limits {
    let ms = Duration::from_millis;
    Limits {
        heartbeat: ms(50),
        election_min: ms(500),
        election_max: ms(750),
        snapshot_entries: if purging { 20 } else { 400 },
        log_entries_kept: if purging { 1 } else { 400 },
        request_deadline: SECOND,
        compare_interval: ms(500),
        disk_interval: ms(500),
        peer_silence: Duration::from_secs(3),
        ..Limits::default()
    }
}

impl Scene {
    /// Waits until one of these leads, and nobody who believes so beside it.
    async fn led_by_one_of(&self, of: &[u64]) -> u64 {
        let mut leader = None;
        let led = becomes(LONG, async || {
            let running = self.world.running();
            let leads = |id: u64| {
                let node = running.iter().find(|(other, _)| *other == id);
                node.is_some_and(|(_, node)| node.status().leader_id == id)
            };
            leader = of.iter().copied().find(|id| leads(*id));
            leader.is_some()
        });
        assert!(led.await, "none of {of:?} leads");
        leader.expect("it is there")
    }

    async fn led(&self) -> u64 {
        self.led_by_one_of(&self.members).await
    }

    fn others(&self, than: u64) -> Vec<u64> {
        let others = self.members.iter().filter(|id| **id != than);
        others.copied().collect()
    }

    /// Nothing passes between these and those.
    fn cut(&self, these: &[u64], those: &[u64]) {
        for a in these {
            for b in those {
                self.world.net.cut(*a, *b);
                self.world.net.cut(*b, *a);
            }
        }
    }

    /// A put of `k`, by a client that waits so long; nothing where it was not acknowledged.
    async fn put(&self, id: u64, value: &str, patience: Duration) -> Option<i64> {
        let (world, record) = (&self.world, &self.world.record);
        let put = Put {
            key: "k".into(),
            value: value.into(),
            ..Put::default()
        };
        let called = record.called(id as u32, id, Request::Put(put));
        let request = kv::PutRequest {
            key: "k".into(),
            value: value.to_string().into(),
            ..kv::PutRequest::default()
        };
        let request = TxnRequest {
            success: vec![RequestOp {
                request: Some(kv::Request::Put(request)),
            }],
            ..TxnRequest::default()
        };
        let asked = world.ask(id, patience, |node| async move { node.txn(request).await });
        let answered = asked.await;
        let revision = answered
            .as_ref()
            .ok()
            .and_then(|answer| answer.as_ref().ok());
        let revision = revision.map(|answer| answer.revision);
        let outcome = match revision {
            Some(revision) => Outcome::Ok {
                revision,
                response: Response::Put { prev: None },
            },
            None => Outcome::Unknown {
                message: "no good answer".into(),
            },
        };
        record.returned(called, outcome);
        revision
    }

    /// A put that has to succeed in the end.
    async fn must_put(&self, id: u64, value: &str) -> i64 {
        for attempt in 0..20 {
            let value = format!("{value} {attempt}");
            if let Some(revision) = self.put(id, &value, SECOND).await {
                return revision;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{id} does not get {value} written");
    }

    async fn must_put_many(&self, id: u64, count: usize) -> i64 {
        let mut revision = 0;
        for number in 0..count {
            revision = self.must_put(id, &format!("v{number}")).await;
        }
        revision
    }

    /// A read of `k`: the revision of the answer.
    async fn get(&self, id: u64, serializable: bool) -> Option<i64> {
        let (world, record) = (&self.world, &self.world.record);
        let range = Range {
            key: "k".into(),
            serializable,
            ..Range::default()
        };
        let called = record.called(100 + id as u32, id, Request::Range(range));
        let request = RangeRequest {
            key: "k".into(),
            serializable,
            ..RangeRequest::default()
        };
        let asked = world.ask(id, SECOND, |node| async move { node.range(request).await });
        let Ok(Ok(answer)) = asked.await else {
            let message = "no good answer".into();
            record.returned(called, Outcome::Unknown { message });
            return None;
        };
        let revision = answer.revision;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let pair = |kv: &kv::KeyValue| Pair {
            key: text(&kv.key),
            value: text(&kv.value),
            created: kv.create_revision,
            modified: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        };
        let found = Found {
            pairs: answer.body.kvs.iter().map(pair).collect(),
            count: answer.body.count,
            more: answer.body.more,
        };
        let response = Response::Range(found);
        record.returned(called, Outcome::Ok { revision, response });
        Some(revision)
    }

    /// What a member has, without asking another; 0 where it does not run.
    fn revision(&self, id: u64) -> i64 {
        let running = self.world.running();
        let node = running.iter().find(|(other, _)| *other == id);
        node.map_or(0, |(_, node)| node.revision())
    }

    async fn reaches(&self, id: u64, revision: i64) {
        let reached = becomes(LONG, async || self.revision(id) >= revision).await;
        let now = self.revision(id);
        assert!(reached, "{id} is at {now} and does not come to {revision}");
    }

    fn stop(&self, id: u64, how: Crash) {
        assert!(self.world.end(id, how), "{id} did not run");
    }

    /// Healed, it serves through every member, all have the same, and nothing is to be said against what was answered.
    async fn ends_well(&self) {
        heal(&self.world);
        for id in self.world.members() {
            self.must_put(id, "last words").await;
        }
        let mut dumps = Vec::new();
        let equal = becomes(LONG, async || {
            dumps.clear();
            for id in self.world.members() {
                dumps.extend(dump(&self.world, id).await);
            }
            let all = dumps.len() == self.world.members().len();
            all && dumps
                .windows(2)
                .all(|two| two[0].pairs == two[1].pairs && two[0].revision == two[1].revision)
        });
        assert!(equal.await, "the members differ: {dumps:#?}");
        let length = self.world.record.now();
        let (mut recording, mut violations, _) = self.world.record.take();
        recording.run.length = length;
        recording.dumps = dumps;
        recording.run.members = self.members.clone();
        violations.extend(judge(&recording));
        violations.extend(panics());
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

#[test]
fn issue_1802_two_of_five_commit_nothing() {
    play(1, 5, false, async |scene: Arc<Scene>| {
        for round in 0..4 {
            let leader = scene.led().await;
            let before = scene.must_put(leader, "before").await;
            let others = scene.others(leader);
            for id in &others {
                scene.reaches(*id, before).await;
            }
            let (near, far) = (others[round], scene.others(leader));
            let far: Vec<u64> = far.into_iter().filter(|id| *id != near).collect();
            scene.cut(&[leader], &far);
            let acknowledged = scene.put(leader, "by two", SHORT).await;
            assert_eq!(acknowledged, None, "{leader} and {near} alone");
            for id in &scene.members {
                assert_eq!(scene.revision(*id), before, "{id} has applied it");
            }
            scene.world.net.heal_all();
        }
    });
}

#[test]
fn cecb5de8_acks_of_what_was_overwritten_count_for_nothing() {
    play(2, 5, false, async |scene: Arc<Scene>| {
        for round in 0..4 {
            let old = scene.led().await;
            let friend = scene.others(old)[round];
            let most: Vec<u64> = scene
                .others(old)
                .into_iter()
                .filter(|id| *id != friend)
                .collect();
            scene.cut(&[old, friend], &most);
            for number in 0..3 {
                let value = format!("overwritten {round} {number}");
                assert_eq!(scene.put(old, &value, SHORT / 3).await, None);
            }
            let new = scene.led_by_one_of(&most).await;
            scene.must_put(new, "instead").await;
            scene.world.net.heal_all();
            scene.must_put(old, "together").await;
            // Now those whose logs were overwritten are needed.
            scene.cut(&[most[0]], &scene.others(most[0]));
            scene.must_put(friend, "without one").await;
            scene.world.net.heal_all();
        }
    });
}

#[test]
fn issue_1795_nobody_gets_anything_from_a_log_that_cannot_be_read() {
    play(3, 3, false, async |scene: Arc<Scene>| {
        let leader = scene.led().await;
        let others = scene.others(leader);
        scene.cut(&[others[0]], &scene.others(others[0]));
        scene.must_put_many(leader, 10).await;
        scene.stop(leader, Crash::Kill);
        let disk = scene.world.disk(leader).expect("it has a disk");
        assert!(disk.flip_bit(), "nothing was written");
        scene.world.boot(leader);
        let refused = becomes(LONG, async || {
            scene.world.record.take_refusal(leader).is_some()
        });
        assert!(refused.await, "it starts with a log that it cannot read");
        scene.world.net.heal_all();
        let revision = scene.must_put(others[0], "from the other").await;
        scene.reaches(others[0], revision).await;
        disk.mend();
    });
}

#[test]
fn issue_1747_reads_are_not_stale_while_the_lead_is_handed_over() {
    play(4, 3, false, async |scene: Arc<Scene>| {
        let mut moved = 0;
        for _ in 0..10 {
            let leader = scene.led().await;
            let others = scene.others(leader);
            let moving =
                scene
                    .world
                    .ask(leader, LONG, |node| async move { node.hand_over().await });
            let talking = async {
                for number in 0..12 {
                    let value = format!("v{number}");
                    scene.put(others[number % 2], &value, SECOND).await;
                    scene.get(leader, false).await;
                }
            };
            let (is_moved, ()) = tokio::join!(moving, talking);
            moved += usize::from(is_moved == Ok(true));
        }
        assert!(moved > 5, "handed over {moved} times only");
    });
}

#[test]
fn issue_1220_a_stale_log_gets_no_votes() {
    for seed in 1..=6 {
        play(seed, 3, false, async |scene: Arc<Scene>| {
            let leader = scene.led().await;
            let others = scene.others(leader);
            let (behind, ahead) = (others[0], others[1]);
            scene.cut(&[behind], &[leader, ahead]);
            let revision = scene.must_put_many(leader, 5).await;
            scene.reaches(ahead, revision).await;
            scene.stop(leader, Crash::Kill);
            scene.world.net.heal_all();
            assert_eq!(scene.led_by_one_of(&others).await, ahead);
            scene.reaches(behind, revision).await;
        });
    }
}

#[test]
fn issue_1892_a_snapshot_takes_the_place_of_what_was_never_committed() {
    play(6, 3, true, async |scene: Arc<Scene>| {
        let old = scene.led().await;
        let others = scene.others(old);
        scene.cut(&[old], &others);
        for number in 0..3 {
            let value = format!("never committed {number}");
            assert_eq!(scene.put(old, &value, SHORT / 3).await, None);
        }
        let new = scene.led_by_one_of(&others).await;
        let revision = scene.must_put_many(new, 60).await;
        scene.world.net.heal_all();
        scene.reaches(old, revision).await;
        assert!(scene.get(old, false).await.is_some());
    });
}

#[test]
fn issue_1960_a_lone_member_commits_whatever_order_its_disk_has() {
    play(7, 1, false, async |scene: Arc<Scene>| {
        let disk = scene.world.disk(1).expect("it has a disk");
        disk.set_pace(Some(Duration::from_millis(40)));
        for round in 0..5 {
            let values: Vec<String> = (0..20).map(|number| format!("{round} {number}")).collect();
            let puts = values.iter().map(|value| scene.put(1, value, LONG));
            let done = join_all(puts).await;
            assert!(done.iter().all(Option::is_some), "{done:?}");
        }
    });
}

#[test]
fn commit_97d92771_nothing_is_older_after_a_restart() {
    for (seed, members) in [(8, 1), (9, 3)] {
        play(seed, members, false, async |scene: Arc<Scene>| {
            for how in [Crash::Kill, Crash::PowerLoss, Crash::Kill] {
                let leader = scene.led().await;
                let revision = scene.must_put_many(leader, 10).await;
                for id in &scene.members {
                    scene.reaches(*id, revision).await;
                    scene.stop(*id, how);
                }
                scene.members.iter().for_each(|id| scene.world.boot(*id));
                for id in scene.members.clone() {
                    let mut first = None;
                    let answered = becomes(LONG, async || {
                        first = scene.get(id, false).await;
                        first.is_some()
                    });
                    assert!(answered.await, "{id} does not answer");
                    assert!(first >= Some(revision), "{id} answers of {first:?}");
                    // What it has said once it does not forget, also not for those who do not ask the others.
                    assert!(scene.get(id, true).await >= Some(revision));
                }
            }
        });
    }
}

#[test]
fn issue_1828_a_member_behind_a_purged_log_comes_along() {
    play(10, 3, true, async |scene: Arc<Scene>| {
        for round in 0..3 {
            let leader = scene.led().await;
            let behind = scene.others(leader)[round % 2];
            scene.cut(&[behind], &scene.others(behind));
            let revision = scene.must_put_many(leader, 60).await;
            scene.world.net.heal_all();
            // Nothing more is written that could help.
            scene.reaches(behind, revision).await;
        }
    });
}

#[test]
fn commit_01e813a5_a_snapshot_brings_the_members_along() {
    play(11, 3, true, async |scene: Arc<Scene>| {
        let leader = scene.led().await;
        let behind = scene.others(leader)[0];
        scene.cut(&[behind], &scene.others(behind));
        let added = scene.world.ask(leader, LONG, |node| async move {
            node.add_learner(4, "m4".into(), address(4)).await
        });
        assert!(matches!(added.await, Ok(Ok(()))));
        scene.world.add_machine(4, Vec::new());
        scene.world.boot(4);
        let promoted = becomes(LONG, async || {
            let asked =
                scene
                    .world
                    .ask(leader, SECOND, |node| async move { node.promote(4).await });
            matches!(asked.await, Ok(Ok(())))
        });
        assert!(promoted.await);
        let revision = scene.must_put_many(leader, 60).await;
        for id in &scene.members {
            scene.world.net.heal(behind, *id);
            scene.world.net.heal(*id, behind);
        }
        scene.reaches(behind, revision).await;
        let running = scene.world.running();
        let node = running.iter().find(|(id, _)| *id == behind);
        let members = node.expect("it runs").1.members();
        let voters: Vec<u64> = members
            .iter()
            .filter(|m| m.is_voter)
            .map(|m| m.id)
            .collect();
        assert_eq!(voters, [1, 2, 3, 4]);
        // Four need three: with the one that was behind, and without two others, nothing is done.
        let gone: Vec<u64> = scene
            .others(behind)
            .into_iter()
            .filter(|id| *id != leader)
            .collect();
        scene.stop(gone[0], Crash::Kill);
        scene.must_put(leader, "by three of four").await;
        scene.stop(4, Crash::Kill);
        assert_eq!(scene.put(leader, "by two of four", SHORT).await, None);
    });
}

#[test]
fn issue_1500_a_tail_that_nobody_else_has_is_cut_without_a_write() {
    play(12, 3, false, async |scene: Arc<Scene>| {
        for how in [None, Some(Crash::PowerLoss)] {
            let old = scene.led().await;
            let others = scene.others(old);
            scene.cut(&[old], &others);
            for number in 0..5 {
                let value = format!("tail {number}");
                assert_eq!(scene.put(old, &value, SHORT / 6).await, None);
            }
            scene.led_by_one_of(&others).await;
            if let Some(how) = how {
                scene.stop(old, how);
                scene.world.boot(old);
            }
            scene.world.net.heal_all();
            // Heartbeats only.
            tokio::time::sleep(2 * SECOND).await;
            assert!(
                scene.get(old, false).await.is_some(),
                "{old} does not answer"
            );
        }
    });
}

#[test]
fn commit_fbbf37b1_a_link_that_comes_and_goes_takes_no_progress_back() {
    play(13, 3, false, async |scene: Arc<Scene>| {
        let leader = scene.led().await;
        let others = scene.others(leader);
        scene.stop(others[1], Crash::Kill);
        let needed = others[0];
        scene.world.net.set_latency(Some(Duration::from_millis(30)));
        let world = scene.world.clone();
        let flapping = tokio::spawn(async move {
            for _ in 0..30 {
                world.net.cut(needed, leader);
                tokio::time::sleep(Duration::from_millis(60)).await;
                world.net.heal(needed, leader);
                tokio::time::sleep(Duration::from_millis(120)).await;
            }
        });
        let mut applied = 0;
        for number in 0..20 {
            scene.must_put(leader, &format!("v{number}")).await;
            let now = scene.revision(needed);
            assert!(now >= applied, "{needed} went back from {applied} to {now}");
            applied = now;
        }
        flapping.await.expect("it only waits");
    });
}

#[test]
fn issue_2080_a_leader_that_hears_nobody_keeps_nobody_from_electing() {
    for (seed, members) in [(14, 3), (15, 5)] {
        play(seed, members, false, async |scene: Arc<Scene>| {
            let old = scene.led().await;
            let others = scene.others(old);
            for id in &others {
                scene.world.net.cut(*id, old);
            }
            // Its heartbeats still come through.
            let new = scene.led_by_one_of(&others).await;
            scene.must_put(new, "without the old one").await;
        });
    }
}
