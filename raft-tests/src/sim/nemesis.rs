//! What is done to a cluster. Each run draws its own mix: some faults never, some often.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};
use store::MemberError;
use tokio::time::{Instant, timeout};

use super::disk::Crash;
use super::net::address;
use super::schedule::{Strike, Target};
use super::world::{NoAnswer, World};
use crate::kinds::kinds;

kinds! {
    /// A kind of fault.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub enum Kind {
        /// One member without the others, the leader most often.
        Alone = "partition: alone",
        /// One direction of one link.
        OneWay = "partition: one way",
        /// One link, both directions.
        Link = "partition: link",
        /// One member hears from the others and cannot answer, or the other way around.
        HalfDeaf = "partition: half deaf",
        /// A link or a member comes and goes.
        Flapping = "partition: flapping",
        /// One is alone while another becomes the leader.
        LeftBehind = "partition: left behind",
        /// Everything takes long, or one link does.
        SlowLinks = "slow links",
        Reset = "reset",
        Kill = "kill",
        CrashLoop = "crash loop",
        Restart = "restart",
        PowerLoss = "power loss",
        PowerLossOfAll = "power loss of all",
        Pause = "pause",
        ClockJump = "clock jump",
        SlowDisk = "slow disk",
        FailedSync = "failed sync",
        DiskFull = "disk full",
        BitRot = "bit rot",
        Membership = "membership",
        HandOver = "hand over",
    }
}

use Kind::*;

const HANDS_OVER_WITHIN: Duration = Duration::from_secs(4);

impl Kind {
    /// How likely it is where it is drawn at all.
    fn weight(self) -> u32 {
        match self {
            Alone | Kill => 8,
            PowerLoss => 6,
            Pause => 5,
            OneWay | Link | HalfDeaf | Reset => 4,
            LeftBehind | ClockJump | SlowDisk | FailedSync | HandOver => 3,
            Flapping | SlowLinks | Restart | PowerLossOfAll | BitRot | Membership => 2,
            CrashLoop | DiskFull => 1,
        }
    }
}

/// The mix of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    kinds: Vec<Kind>,
    /// Between two faults.
    pub pause_max: Duration,
    /// Of one fault.
    pub length_max: Duration,
}

impl Plan {
    pub fn draw(rng: &mut SmallRng) -> Plan {
        let share = rng.random_range(0.15..0.8);
        let drawn = Kind::ALL.iter().filter(|_| rng.random_bool(share));
        let mut kinds: Vec<_> = drawn.copied().collect();
        if kinds.is_empty() {
            kinds.push(Kind::ALL[rng.random_range(0..Kind::ALL.len())]);
        }
        Plan {
            kinds,
            pause_max: Duration::from_millis(rng.random_range(100..1500)),
            length_max: Duration::from_millis(rng.random_range(200..3000)),
        }
    }

    pub fn next(&self, rng: &mut SmallRng) -> Kind {
        let mut drawn = rng.random_range(0..self.kinds.iter().map(|kind| kind.weight()).sum());
        let kind = self.kinds.iter().find(|kind| {
            let here = drawn < kind.weight();
            drawn = drawn.saturating_sub(kind.weight());
            here
        });
        kind.copied().unwrap_or(Kill)
    }
}

/// Does harm, one thing after the other, until the time is over.
pub async fn torment(world: Arc<World>, strikes: Vec<Strike>, until: Instant) {
    for strike in strikes {
        tokio::time::sleep_until(world.at(strike.at_ms)).await;
        let now = Instant::now();
        if now >= until {
            return;
        }
        let mut harm = Harm {
            world: &world,
            rng: &mut strike.seed.rng(),
            kind: strike.kind,
            target: strike.target,
            lasts: Duration::from_millis(strike.lasts_ms).min(until - now),
        };
        drop(tokio::time::timeout_at(until, harm.done()).await);
    }
}

/// One fault.
struct Harm<'a> {
    world: &'a Arc<World>,
    rng: &'a mut SmallRng,
    kind: Kind,
    target: Target,
    lasts: Duration,
}

impl Harm<'_> {
    fn victim(&mut self) -> u64 {
        let members = self.world.members();
        let leader = self.world.leader();
        match (self.target, leader) {
            (Target::Leader, Some(leader)) => leader,
            (Target::Leader, None) => members[self.rng.random_range(0..members.len())],
            (Target::Nth(nth), _) => members[nth as usize % members.len()],
        }
    }

    fn others(&self, member: u64) -> Vec<u64> {
        let members = self.world.ever();
        members.into_iter().filter(|id| *id != member).collect()
    }

    fn tell(&self, what: String, members: &[u64]) -> usize {
        self.world.record.fault(self.kind.name(), what, members)
    }

    fn over(&self, fault: usize) {
        self.world.record.fault_over(fault);
    }

    async fn last(&self) {
        tokio::time::sleep(self.lasts).await;
    }

    async fn done(&mut self) {
        match self.kind {
            Alone | OneWay | Link | HalfDeaf | Flapping => self.partition().await,
            LeftBehind => self.left_behind().await,
            SlowLinks => self.slow_links().await,
            Reset => {
                for _ in 0..self.rng.random_range(1..6) {
                    if self.world.net.reset_one() {
                        let fault = self.tell("a connection breaks".into(), &[]);
                        self.over(fault);
                    }
                }
            }
            Kill => self.crash(Crash::Kill, 1).await,
            CrashLoop => {
                let times = self.rng.random_range(2..6);
                self.crash(Crash::Kill, times).await;
            }
            PowerLoss => self.crash(Crash::PowerLoss, 1).await,
            PowerLossOfAll => self.all_dark().await,
            Restart => {
                let victim = self.victim();
                let fault = self.tell(format!("{victim} is stopped in good order"), &[victim]);
                self.world.shut_down(victim).await;
                self.last().await;
                self.world.boot(victim);
                self.over(fault);
            }
            Pause => {
                let victim = self.victim();
                let fault = self.tell(format!("{victim} stands still"), &[victim]);
                self.world.set_paused(victim, true);
                self.last().await;
                self.world.set_paused(victim, false);
                self.over(fault);
            }
            ClockJump => {
                let victim = self.victim();
                let ms = self.rng.random_range(-3_600_000..=3_600_000);
                let fault = self.tell(format!("the clock of {victim} jumps {ms} ms"), &[victim]);
                if let Some(clock) = self.world.clock(victim) {
                    clock.jump(ms);
                }
                self.over(fault);
                // Whoever goes by the time that it is will trust what it knew, and there is news elsewhere.
                if self.rng.random_bool(0.5) {
                    self.kind = Alone;
                    self.partition().await;
                }
            }
            SlowDisk => {
                let victim = self.victim();
                let most = Duration::from_millis(self.rng.random_range(20..900));
                let fault = self.tell(format!("{victim} syncs within {most:?}"), &[victim]);
                if let Some(disk) = self.world.disk(victim) {
                    disk.set_pace(Some(most));
                    self.last().await;
                    disk.set_pace(None);
                }
                self.over(fault);
            }
            FailedSync => self.failed_sync().await,
            DiskFull => {
                let victim = self.victim();
                let fault = self.tell(format!("{victim} has no room"), &[victim]);
                if let Some(disk) = self.world.disk(victim) {
                    disk.set_full(true);
                    self.last().await;
                    disk.set_full(false);
                }
                self.over(fault);
            }
            BitRot => self.bit_rot().await,
            Membership => self.membership().await,
            HandOver => {
                let Some(leader) = self.world.leader() else {
                    return;
                };
                let fault = self.tell(format!("{leader} hands over"), &[leader]);
                let asked = self
                    .world
                    .ask(leader, HANDS_OVER_WITHIN, |node| async move {
                        node.hand_over().await
                    });
                let _: Result<bool, NoAnswer> = asked.await;
                self.over(fault);
            }
        }
    }

    /// The links that this fault cuts, and in words.
    fn links(&mut self) -> (Vec<(u64, u64)>, String, Vec<u64>) {
        let one = self.victim();
        let others = self.others(one);
        let two = others[self.rng.random_range(0..others.len())];
        let out = others.iter().map(|other| (one, *other));
        let back = others.iter().map(|other| (*other, one));
        match self.kind {
            OneWay => (
                vec![(one, two)],
                format!("nothing goes from {one} to {two}"),
                vec![one, two],
            ),
            Link => (
                vec![(one, two), (two, one)],
                format!("{one} and {two} do not reach each other"),
                vec![one, two],
            ),
            HalfDeaf if self.rng.random_bool(0.5) => (
                out.collect(),
                format!("nothing comes from {one}"),
                vec![one],
            ),
            HalfDeaf => (back.collect(), format!("nothing reaches {one}"), vec![one]),
            _ => (
                out.chain(back).collect(),
                format!("{one} is alone"),
                vec![one],
            ),
        }
    }

    /// One that does not lead is alone for a while, in which another becomes the leader. The log of that one need not go
    /// back as far as it has to: then a snapshot takes the place of its state, under the watches that it serves.
    async fn left_behind(&mut self) {
        let Some(leader) = self.world.leader() else {
            return;
        };
        let mut members = self.world.members();
        members.retain(|id| *id != leader);
        if members.is_empty() {
            return;
        }
        let one = members[self.rng.random_range(0..members.len())];
        let fault = self.tell(format!("{one} is left behind"), &[one]);
        let others = self.others(one);
        for other in &others {
            self.world.net.cut(one, *other);
            self.world.net.cut(*other, one);
        }
        self.last().await;
        let handing_over = self
            .world
            .ask(leader, HANDS_OVER_WITHIN, |node| async move {
                node.hand_over().await
            });
        let _: Result<bool, NoAnswer> = handing_over.await;
        for other in others {
            self.world.net.heal(one, other);
            self.world.net.heal(other, one);
        }
        self.over(fault);
    }

    /// All of them, or what goes from one member to another, which the others do not notice.
    async fn slow_links(&mut self) {
        let most = Duration::from_millis(self.rng.random_range(20..400));
        let net = &self.world.net.clone();
        if self.world.ever().len() < 2 || self.rng.random_bool(0.5) {
            let fault = self.tell(format!("messages take up to {most:?}"), &[]);
            net.set_latency(Some(most));
            self.last().await;
            net.set_latency(None);
            return self.over(fault);
        }
        let one = self.victim();
        let others = self.others(one);
        let two = others[self.rng.random_range(0..others.len())];
        let what = format!("messages from {one} to {two} take up to {most:?}");
        let fault = self.tell(what, &[one, two]);
        net.set_latency_of(one, two, Some(most));
        self.last().await;
        net.set_latency_of(one, two, None);
        self.over(fault);
    }

    async fn partition(&mut self) {
        if self.world.ever().len() < 2 {
            return;
        }
        let (links, what, members) = self.links();
        let fault = self.tell(what, &members);
        let turns = match self.kind {
            Flapping => self.rng.random_range(2..8),
            _ => 1,
        };
        for turn in 0..turns {
            if turn > 0 {
                tokio::time::sleep(self.lasts / 4).await;
            }
            for (from, to) in &links {
                self.world.net.cut(*from, *to);
            }
            tokio::time::sleep(self.lasts / turns).await;
            for (from, to) in &links {
                self.world.net.heal(*from, *to);
            }
        }
        self.over(fault);
    }

    async fn crash(&mut self, how: Crash, times: u32) {
        let victim = self.victim();
        let fault = self.tell(format!("{victim} is gone"), &[victim]);
        for _ in 0..times {
            self.world.end(victim, how);
            tokio::time::sleep(self.lasts / times).await;
            self.world.boot(victim);
            if times > 1 {
                let pause = Duration::from_millis(self.rng.random_range(1..200));
                tokio::time::sleep(pause).await;
            }
        }
        self.over(fault);
    }

    async fn all_dark(&mut self) {
        let members = self.world.members();
        let fault = self.tell("the power fails everywhere".into(), &[]);
        for member in &members {
            self.world.end(*member, Crash::PowerLoss);
        }
        tokio::time::sleep(self.lasts / 4).await;
        for member in members {
            let pause = Duration::from_millis(self.rng.random_range(0..300));
            tokio::time::sleep(pause).await;
            self.world.boot(member);
        }
        self.over(fault);
    }

    /// The member has to stop by itself: what has reached the disk is not known any more.
    async fn failed_sync(&mut self) {
        let victim = self.victim();
        let (Some(disk), Some(process)) = (self.world.disk(victim), self.world.process(victim))
        else {
            return;
        };
        let fault = self.tell(format!("syncs of {victim} fail"), &[victim]);
        disk.break_syncs();
        if timeout(self.lasts, process.gone.cancelled()).await.is_err() {
            // It had nothing to write, or is slow: it gets another disk.
            self.world.end(victim, Crash::PowerLoss);
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.world.boot(victim);
        }
        self.over(fault);
    }

    /// The member must not start with a log that is not what it wrote.
    async fn bit_rot(&mut self) {
        let victim = self.victim();
        let Some(disk) = self.world.disk(victim) else {
            return;
        };
        if !self.world.end(victim, Crash::Kill) {
            return;
        }
        let fault = self.tell(format!("a bit of the log of {victim} is wrong"), &[victim]);
        if disk.flip_bit() {
            self.world.boot(victim);
            tokio::time::sleep(Duration::from_millis(100)).await;
            // Another fault may end it before it has come to the log: then nothing was seen of it, and nothing taken either.
            let record = &self.world.record;
            record.take_refusal(victim);
            if disk.is_taken_rotten() {
                let story = format!("Member {victim} starts with a log in which a bit is wrong.");
                record.violation("damage not seen", story);
            }
            self.world.end(victim, Crash::Kill);
            disk.mend();
        }
        self.world.boot(victim);
        self.over(fault);
    }

    /// A new member comes, and later an old one goes.
    async fn membership(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(3);
        let members = self.world.members();
        let newcomer = self.world.ever().last().map_or(1, |last| last + 1);
        if members.len() > 4 {
            return;
        }
        let fault = self.tell(format!("{newcomer} joins"), &[newcomer]);
        let asked = members[self.rng.random_range(0..members.len())];
        let added = self.world.ask(asked, PATIENCE, |node| async move {
            node.add_learner(newcomer, format!("m{newcomer}"), address(newcomer))
                .await
        });
        if matches!(added.await, Ok(Err(_)) | Err(NoAnswer::NotRunning)) {
            return self.over(fault);
        }
        // It may have been added where there was no answer: then it is one that comes late.
        self.world.add_machine(newcomer, Vec::new());
        self.world.boot(newcomer);
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let promoted = self.world.ask(asked, PATIENCE, |node| async move {
                node.promote(newcomer).await
            });
            match promoted.await {
                Ok(Ok(())) => break,
                Ok(Err(MemberError::Refused(_))) => {}
                _ => break,
            }
        }
        self.over(fault);
        if members.len() <= 2 || self.rng.random_bool(0.3) {
            return;
        }
        let leaver = self.victim();
        if leaver == asked {
            return;
        }
        let fault = self.tell(format!("{leaver} is removed"), &[leaver]);
        let removed = self.world.ask(
            asked,
            PATIENCE,
            |node| async move { node.remove(leaver).await },
        );
        if matches!(removed.await, Ok(Ok(()))) {
            self.world.set_removed(leaver);
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.world.end(leaver, Crash::Kill);
        }
        self.over(fault);
    }
}
