//! What an operator does: looks at members, has them tidy up, and changes who is one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;

use super::{Client, PATIENCE};
use crate::etcd::client::Connection;
use crate::etcd::message::{
    DEFRAGMENT, Empty, MEMBER_ADD, MEMBER_LIST, MEMBER_PROMOTE, MEMBER_REMOVE, MEMBER_UPDATE,
    MOVE_LEADER, MemberAdd, MemberAdded, MemberId, MemberListRequest, MemberUpdate, Members,
    MoveLeader, Plain,
};
use crate::recording::Request;
use crate::sim::disk::Crash;
use crate::sim::line::Line;
use crate::sim::net::address;

/// A new member may take so long to come up to date, with pauses between.
const PROMOTIONS: u32 = 20;
/// Clusters of more do not grow.
const MEMBERS_MAX: usize = 4;

impl Client<'_> {
    fn line(&self) -> Option<Connection<Line>> {
        self.shared.world.line(self.member, "root")
    }

    /// What does not change any key.
    pub(super) async fn keep_up(&mut self) {
        let Some(line) = self.line() else {
            return;
        };
        match self.rng.random_range(0..6) {
            0 => drop(line.status(PATIENCE).await),
            1 => {
                let request = MemberListRequest {
                    linearizable: self.rng.random_bool(0.5),
                };
                drop(
                    line.unary::<_, Members>(MEMBER_LIST, request, PATIENCE)
                        .await,
                );
            }
            2 => drop(line.unary::<_, Plain>(DEFRAGMENT, Empty {}, PATIENCE).await),
            3 => {
                let members = self.shared.world.members();
                let target_id = members[self.rng.random_range(0..members.len())];
                let request = MoveLeader { target_id };
                drop(line.unary::<_, Plain>(MOVE_LEADER, request, PATIENCE).await);
            }
            _ => {
                let revision = match self.rng.random_bool(0.5) {
                    true => 0,
                    false => (self.shared.newest() - self.rng.random_range(0..20)).max(1),
                };
                drop(self.ask(Request::HashKv { revision }).await);
            }
        }
    }

    /// A new member comes, and later an old one goes.
    pub(super) async fn change_members(&mut self) {
        let shared = self.shared;
        // It takes long, and is not wanted all the time.
        if shared.calm.load(Ordering::Relaxed) || self.rng.random_bool(0.6) {
            return;
        }
        let Ok(_turn) = shared.members_change.try_lock() else {
            return;
        };
        if shared.world.members().len() > MEMBERS_MAX {
            return self.remove_one().await;
        }
        self.add_one().await;
        if self.rng.random_bool(0.6) {
            self.remove_one().await;
        }
    }

    async fn add_one(&mut self) {
        let world = &self.shared.world;
        let Some(line) = self.line() else {
            return;
        };
        // Machines go by the numbers of their members, and that of a new one is told in the answer.
        let nowhere = format!("https://nowhere{}:6480", self.shared.unique());
        let add = MemberAdd {
            peer_urls: vec![nowhere],
            is_learner: true,
        };
        let fault = world
            .record
            .fault("membership", "a member is added".into(), &[]);
        let added = line
            .unary::<_, MemberAdded>(MEMBER_ADD, add, PATIENCE)
            .await;
        world.record.fault_over(fault);
        let Some(id) = added.ok().and_then(|added| added.member).map(|new| new.id) else {
            return;
        };
        let fault = world
            .record
            .fault("membership", format!("{id} joins"), &[id]);
        world.add_machine(id, Vec::new());
        let update = MemberUpdate {
            id,
            peer_urls: vec![format!("https://{}", address(id))],
        };
        for _ in 0..PROMOTIONS {
            let Some(line) = self.line() else {
                break;
            };
            let updated = line.unary::<_, Members>(MEMBER_UPDATE, update.clone(), PATIENCE);
            if updated.await.is_ok() {
                break;
            }
            self.pause(50, 150).await;
            self.move_on();
        }
        world.boot(id);
        for _ in 0..PROMOTIONS {
            self.pause(50, 150).await;
            if self.change(MEMBER_PROMOTE, id).await {
                break;
            }
        }
        world.record.fault_over(fault);
    }

    /// Through any member but the one in question.
    async fn change(&mut self, path: &'static str, id: u64) -> bool {
        self.move_on();
        let Some(line) = self.line().filter(|_| self.member != id) else {
            return false;
        };
        line.unary::<_, Members>(path, MemberId { id }, PATIENCE)
            .await
            .is_ok()
    }

    async fn remove_one(&mut self) {
        let world = &self.shared.world;
        let members = world.members();
        if members.len() < 3 {
            return;
        }
        let leaver = members[self.rng.random_range(0..members.len())];
        let fault = world
            .record
            .fault("membership", format!("{leaver} is removed"), &[leaver]);
        if self.change(MEMBER_REMOVE, leaver).await {
            world.set_removed(leaver);
            tokio::time::sleep(Duration::from_millis(200)).await;
            world.end(leaver, Crash::Kill);
        }
        world.record.fault_over(fault);
    }
}
