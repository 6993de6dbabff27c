//! Machines with members on them: started, killed, cut off from power, paused and started again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use store::etcd::Door;
use store::host::Host;
use store::{Config, InitialMember, Limits, Node, StartError, TlsIdentity};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::clock::SimClock;
use super::disk::{Crash, Disk, Flaw};
use super::line::{self, Line};
use super::net::{Net, address};
use super::raft::{Look, Oracle};
use super::record::Recorder;
use crate::etcd::client::Connection;

const CLUSTER: u64 = 0xc1;
/// After a process has ended by itself, until it is started again.
const SUPERVISOR: Duration = Duration::from_millis(200);

/// See the module head.
pub struct World {
    pub net: Net,
    pub record: Recorder,
    pub limits: Limits,
    start: Instant,
    seed: u64,
    flaw: Flaw,
    machines: Mutex<BTreeMap<u64, Machine>>,
    oracle: Mutex<Oracle>,
}

struct Machine {
    disk: Disk,
    clock: Arc<SimClock>,
    founders: Vec<InitialMember>,
    life: u64,
    process: Option<Process>,
    /// It was removed from the cluster, and is not started again.
    removed: bool,
}

/// A member as long as its process lives.
#[derive(Clone)]
pub struct Process {
    pub host: Arc<Host>,
    /// When it has started.
    pub node: Option<Arc<Node>>,
    door: Option<Door>,
    /// Told at its end.
    pub gone: CancellationToken,
    paused: bool,
    /// It was told to stop.
    stopping: bool,
}

/// Why a call of a client has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// Never asked.
    NotRunning,
    /// The process ended meanwhile.
    Died,
    TimedOut,
}

/// A member's data directory, on its disk.
pub fn home(id: u64) -> PathBuf {
    format!("/m{id}").into()
}

impl World {
    pub fn new(seed: u64, limits: Limits, flaw: Flaw) -> Arc<World> {
        let start = Instant::now();
        Arc::new(World {
            net: Net::new(seed ^ 0x6e65_7477),
            record: Recorder::new(start),
            limits,
            start,
            seed,
            flaw,
            machines: Mutex::default(),
            oracle: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rng(&self, member: u64, life: u64) -> SmallRng {
        let salt = member.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ life.wrapping_mul(0xbf58_476d);
        SmallRng::seed_from_u64(self.seed ^ salt)
    }

    /// Puts machines there for a new cluster.
    pub fn found(&self, members: &[u64]) {
        let founders: Vec<_> = members.iter().map(|id| initial(*id)).collect();
        for id in members {
            self.add_machine(*id, founders.clone());
        }
    }

    /// A machine for a member that joins, or for a founder.
    pub fn add_machine(&self, id: u64, founders: Vec<InitialMember>) {
        let mut rng = self.rng(id, 0);
        // Clocks of real machines are that good.
        let drift = rng.random_range(-100..=100);
        let machine = Machine {
            disk: Disk::new(rng.random(), self.flaw),
            clock: Arc::new(SimClock::new(self.start, drift)),
            founders,
            life: 0,
            process: None,
            removed: false,
        };
        self.lock().insert(id, machine);
    }

    /// A time of this run, by the milliseconds since it began.
    pub fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// All that are in the cluster, as far as is known here.
    pub fn members(&self) -> Vec<u64> {
        let machines = self.lock();
        let present = machines.iter().filter(|(_, machine)| !machine.removed);
        present.map(|(id, _)| *id).collect()
    }

    pub fn ever(&self) -> Vec<u64> {
        self.lock().keys().copied().collect()
    }

    pub fn set_removed(&self, id: u64) {
        if let Some(machine) = self.lock().get_mut(&id) {
            machine.removed = true;
        }
    }

    pub fn disks(&self) -> BTreeMap<u64, Disk> {
        let machines = self.lock();
        let disks = machines
            .iter()
            .map(|(id, machine)| (*id, machine.disk.clone()));
        disks.collect()
    }

    pub fn disk(&self, id: u64) -> Option<Disk> {
        self.lock().get(&id).map(|machine| machine.disk.clone())
    }

    pub fn clock(&self, id: u64) -> Option<Arc<SimClock>> {
        self.lock().get(&id).map(|machine| machine.clock.clone())
    }

    pub fn process(&self, id: u64) -> Option<Process> {
        self.with_process(id, |process| process.clone())
    }

    /// Looks at a process, or changes what is known of it; nothing where a member does not run.
    fn with_process<T>(&self, id: u64, then: impl FnOnce(&mut Process) -> T) -> Option<T> {
        let mut machines = self.lock();
        Some(then(machines.get_mut(&id)?.process.as_mut()?))
    }

    /// Of those with a process that is not paused.
    pub fn running(&self) -> Vec<(u64, Arc<Node>)> {
        let machines = self.lock();
        let running = machines.iter().filter_map(|(id, machine)| {
            let process = machine.process.as_ref().filter(|process| !process.paused)?;
            Some((*id, process.node.clone()?))
        });
        running.collect()
    }

    /// Shows everything to the [`Oracle`].
    pub fn look(&self) {
        let mut oracle = self.oracle();
        let machines = self.lock();
        for (id, machine) in machines.iter() {
            let journal = machine.disk.take_journal();
            journal.iter().for_each(|logged| oracle.logged(*id, logged));
        }
        for (id, machine) in machines.iter() {
            let process = machine.process.as_ref();
            if let Some(node) = process.and_then(|process| process.node.as_ref()) {
                oracle.look(Look {
                    member: *id,
                    life: machine.life,
                    state: node.raft_state(),
                    digest: node.state_digest(),
                });
            }
        }
    }

    pub fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Snapshots that took the place of a member's state.
    pub fn installed(&self) -> u64 {
        let machines = self.lock();
        machines
            .values()
            .map(|machine| machine.disk.installed())
            .sum()
    }

    /// Starts a member that does not run. Whether it comes up is told by [`Process::node`].
    pub fn boot(self: &Arc<Self>, id: u64) {
        let Some((process, config)) = self.prepare(id) else {
            return;
        };
        let world = self.clone();
        tokio::spawn(async move {
            let settings = line::settings(world.seed, id);
            let starting = process.host.run(async move {
                let node = Node::start(config).await?;
                let door = Door::new(node.clone(), settings);
                Ok::<_, StartError>((node, door))
            });
            let started = tokio::select! {
                biased;
                () = process.gone.cancelled() => return,
                started = starting => started,
            };
            match started {
                Ok((node, door)) => {
                    world.set_node(id, &process, &node, door);
                    world.supervise(id, process, node).await;
                }
                Err(error) => {
                    world
                        .record
                        .note(format!("member {id} does not start: {error}"));
                    world.record.refused(id, error.to_string());
                    world.end(id, Crash::Kill);
                }
            }
        });
    }

    fn prepare(&self, id: u64) -> Option<(Process, Config)> {
        let mut machines = self.lock();
        let machine = machines.get_mut(&id)?;
        if machine.process.is_some() || machine.removed {
            return None;
        }
        machine.life += 1;
        let life = machine.life;
        let process = Process {
            host: self.host(machine, self.rng(id, life).random()),
            node: None,
            door: None,
            gone: CancellationToken::new(),
            paused: false,
            stopping: false,
        };
        machine.process = Some(process.clone());
        let nobody = TlsIdentity {
            ca_pem: Vec::new(),
            cert_pem: Vec::new(),
            key_pem: Vec::new(),
        };
        let config = Config {
            name: format!("m{id}"),
            peer_listen: address(id),
            peer_advertise: address(id),
            client_address: format!("m{id}:6443"),
            initial_members: machine.founders.clone(),
            limits: self.limits.clone(),
            clock: machine.clock.clone(),
            network: self.net.of(id, life),
            engine: machine.disk.engine(),
            ..Config::new(home(id), CLUSTER, id, nobody)
        };
        Some((process, config))
    }

    /// The machine for one life of a process, with its wall clock.
    fn host(&self, machine: &Machine, seed: u64) -> Arc<Host> {
        let clock = machine.clock.clone();
        let ms = move || u64::try_from(store::env::Clock::unix_ms(&*clock)).unwrap_or(0);
        Host::with_clock(seed, move || Duration::from_millis(ms()))
    }

    fn set_node(&self, id: u64, of: &Process, node: &Arc<Node>, door: Door) {
        self.with_process(id, |process| {
            if Arc::ptr_eq(&process.host, &of.host) {
                process.node = Some(node.clone());
                process.door = Some(door);
            }
        });
    }

    /// Waits for the end of a process. One that ends by itself is started again, unless it has no place any more.
    async fn supervise(self: Arc<Self>, id: u64, process: Process, node: Arc<Node>) {
        let failed = process.host.run(node.failed());
        let why = tokio::select! {
            biased;
            () = process.gone.cancelled() => return,
            why = failed => why,
        };
        self.record.note(format!("member {id} has stopped: {why}"));
        self.record.stopped(id, &why);
        self.end(id, Crash::Kill);
        if self.record.is_removed(&why) {
            return self.set_removed(id);
        }
        tokio::time::sleep(SUPERVISOR).await;
        self.boot(id);
    }

    /// Whether it was told to stop and has not come to its end.
    pub fn is_stopping(&self, id: u64) -> bool {
        self.process(id).is_some_and(|process| process.stopping)
    }

    /// Ends a process at once; false where there is none.
    pub fn end(&self, id: u64, how: Crash) -> bool {
        let (process, disk) = {
            let mut machines = self.lock();
            let Some(machine) = machines.get_mut(&id) else {
                return false;
            };
            let Some(process) = machine.process.take() else {
                return false;
            };
            (process, machine.disk.clone())
        };
        process.host.power_off();
        disk.crash(how);
        match how {
            Crash::Kill => self.net.process_gone(id),
            Crash::PowerLoss => self.net.power_gone(id),
        }
        process.gone.cancel();
        true
    }

    /// Stops a member in good order; false where there is none.
    pub async fn shut_down(&self, id: u64) -> bool {
        let stopping = self.with_process(id, |process| {
            process.stopping = true;
            process.clone()
        });
        let Some(process) = stopping else {
            return false;
        };
        if let Some(node) = process.node {
            let stopping = process.host.run(async move { node.shutdown().await });
            let in_time = tokio::time::timeout(Duration::from_secs(10), stopping);
            let stopped = tokio::select! {
                biased;
                // Something else has ended it.
                () = process.gone.cancelled() => return false,
                stopped = in_time => stopped,
            };
            if stopped.is_err() {
                self.record
                    .violation("stop", format!("member {id} does not stop in order"));
            }
        }
        self.end(id, Crash::Kill)
    }

    pub fn set_paused(&self, id: u64, paused: bool) -> bool {
        let host = self.with_process(id, |process| {
            process.paused = paused;
            process.host.clone()
        });
        let Some(host) = host else {
            return false;
        };
        match paused {
            true => host.pause(),
            false => host.resume(),
        }
        true
    }

    /// A client's connection to a member; nothing where it does not run.
    pub fn line(&self, id: u64, client: &str) -> Option<Connection<Line>> {
        let process = self.process(id)?;
        Some(Connection::over(Line {
            client: client.into(),
            door: process.door?,
            host: process.host,
            gone: process.gone,
        }))
    }

    /// Asks a member something on its own machine.
    pub async fn ask<T, F>(
        &self,
        id: u64,
        deadline: Duration,
        question: impl FnOnce(Arc<Node>) -> F,
    ) -> Result<T, NoAnswer>
    where
        F: Future<Output = T>,
    {
        let process = self.process(id).ok_or(NoAnswer::NotRunning)?;
        let node = process.node.ok_or(NoAnswer::NotRunning)?;
        let answering = process.host.run(question(node));
        tokio::select! {
            biased;
            () = process.gone.cancelled() => Err(NoAnswer::Died),
            answered = tokio::time::timeout(deadline, answering) => {
                answered.map_err(|_| NoAnswer::TimedOut)
            }
        }
    }

    /// Who leads, as most say that can be asked.
    pub fn leader(&self) -> Option<u64> {
        let running = self.running();
        let leads = running.iter().find(|(id, node)| {
            let status = kv::Store::status(&**node);
            status.leader_id == *id
        });
        leads.map(|(id, _)| *id)
    }

    pub fn syncs(&self) -> u64 {
        self.lock()
            .values()
            .map(|machine| machine.disk.syncs())
            .sum()
    }
}

fn initial(id: u64) -> InitialMember {
    InitialMember {
        id,
        name: format!("m{id}"),
        peer_address: address(id),
    }
}
