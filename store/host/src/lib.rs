//! What a program takes from its machine besides network and storage: tasks, threads for work that blocks, chance, the wall
//! clock, and the order of hash tables.
//!
//! In the product these are tokio's tasks and threads, the system's random numbers and its clock. A simulation runs many
//! members and agents in one thread and puts a [`Host`] under each: it lives on in every task that a task of the program
//! starts, and then work that blocks is done in place, random numbers come from the host's seed, time of day from its clock,
//! and the machine can be stopped, for a while or for ever, between any two steps of any of its tasks. No configuration
//! leads to a host: whoever starts a program has to start it on one, in code.

mod map;
pub mod watch;

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::Stream;
use pin_project_lite::pin_project;
use rand::distr::{Distribution, StandardUniform};
use rand::rngs::{SmallRng, ThreadRng};
use rand::{RngExt, SeedableRng, TryRng};
use tokio::task::{JoinError, JoinHandle};

pub use map::{HashMap, HashSet, Hashing};

thread_local! {
    /// Whose task is being polled.
    static CURRENT: RefCell<Option<Arc<Host>>> = const { RefCell::new(None) };
}

/// A simulated machine; see the module head.
pub struct Host {
    rng: Mutex<SmallRng>,
    power: Mutex<Power>,
    clock: Option<Clock>,
}

/// Tells the time since 1970.
type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("power", &self.power).finish()
    }
}

#[derive(Debug)]
enum Power {
    On,
    /// Who wants to go on when it does.
    Paused(Vec<Waker>),
    Off,
}

/// What a step that blocks takes at most on a simulated machine.
const BLOCKING_MAX: Duration = Duration::from_millis(3);

impl Host {
    /// A machine with the real wall clock.
    pub fn new(seed: u64) -> Arc<Host> {
        Host::made(seed, None)
    }

    /// A machine whose wall clock is at so much since 1970.
    pub fn with_clock(
        seed: u64,
        clock: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Arc<Host> {
        Host::made(seed, Some(Box::new(clock)))
    }

    fn made(seed: u64, clock: Option<Clock>) -> Arc<Host> {
        Arc::new(Host {
            rng: Mutex::new(SmallRng::seed_from_u64(seed)),
            power: Mutex::new(Power::On),
            clock,
        })
    }

    /// A future, and the tasks that it starts, as part of this machine.
    pub fn run<F: Future>(self: &Arc<Self>, future: F) -> Hosted<F> {
        Hosted::new(Some(self.clone()), future)
    }

    /// As [`Host::run`], for a stream.
    pub fn pull<S: Stream>(self: &Arc<Self>, stream: S) -> Hosted<S> {
        Hosted::new(Some(self.clone()), stream)
    }

    /// Nothing on this machine takes another step until it is resumed. Time goes on.
    pub fn pause(&self) {
        let mut power = self.power();
        if matches!(*power, Power::On) {
            *power = Power::Paused(Vec::new());
        }
    }

    pub fn resume(&self) {
        let waiting = {
            let mut power = self.power();
            match std::mem::replace(&mut *power, Power::On) {
                Power::Paused(waiting) => waiting,
                Power::On => Vec::new(),
                Power::Off => {
                    *power = Power::Off;
                    Vec::new()
                }
            }
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Nothing on this machine takes another step, ever.
    pub fn power_off(&self) {
        *self.power() = Power::Off;
    }

    fn power(&self) -> MutexGuard<'_, Power> {
        self.power.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rng(&self) -> MutexGuard<'_, SmallRng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a task may take a step now.
    fn may_go_on(&self, context: &Context<'_>) -> bool {
        match &mut *self.power() {
            Power::On => true,
            Power::Paused(waiting) => {
                waiting.push(context.waker().clone());
                false
            }
            Power::Off => false,
        }
    }
}

pin_project! {
    /// See [`Host::run`].
    pub struct Hosted<W> {
        host: Option<Arc<Host>>,
        // Nothing when this is dropped: what work does at its end it does on its machine, too.
        #[pin]
        work: Option<W>,
    }

    impl<W> PinnedDrop for Hosted<W> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _entered = this.host.take().map(Entered::new);
            this.work.set(None);
        }
    }
}

impl<W> Hosted<W> {
    fn new(host: Option<Arc<Host>>, work: W) -> Hosted<W> {
        Hosted {
            host,
            work: Some(work),
        }
    }

    /// Takes a step of the work, where the machine may go on.
    fn step<T>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        step: impl FnOnce(Pin<&mut W>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let this = self.project();
        let work = this.work.as_pin_mut().expect("it is there until the drop");
        let Some(host) = this.host else {
            return step(work, context);
        };
        if !host.may_go_on(context) {
            return Poll::Pending;
        }
        let _entered = Entered::new(host.clone());
        step(work, context)
    }
}

impl<F: Future> Future for Hosted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.step(context, Future::poll)
    }
}

impl<S: Stream> Stream for Hosted<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.step(context, Stream::poll_next)
    }
}

/// As long as this lives, the host is the current one.
struct Entered(Option<Arc<Host>>);

impl Entered {
    fn new(host: Arc<Host>) -> Entered {
        Entered(CURRENT.replace(Some(host)))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // Not dropped while the place is borrowed: its end may be that of other work.
        drop(CURRENT.replace(self.0.take()));
    }
}

fn current() -> Option<Arc<Host>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Whether this runs on a simulated machine.
pub fn is_simulated() -> bool {
    CURRENT.with_borrow(Option::is_some)
}

/// The future as a task of the machine that this runs on.
pub fn here<F: Future>(future: F) -> Hosted<F> {
    Hosted::new(current(), future)
}

/// Starts a task on the machine that this runs on.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(here(future))
}

/// Does work that blocks on a thread for that. It goes on to its end when nobody waits for it any more.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let Some(host) = current() else {
        return tokio::task::spawn_blocking(work).await;
    };
    let takes = host.rng().random_range(Duration::ZERO..BLOCKING_MAX);
    let done = spawn(async move {
        tokio::time::sleep(takes).await;
        work()
    });
    done.await
}

/// The random numbers of the machine that this runs on; good for secrets in the product.
pub fn rng() -> Chance {
    match current() {
        None => Chance::System(rand::rng()),
        Some(host) => Chance::Seeded(host),
    }
}

/// One random value of the machine that this runs on; see [`rng`].
pub fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    rng().random()
}

/// The wall clock of the machine that this runs on: how long it is since 1970.
pub fn since_1970() -> Duration {
    let simulated = CURRENT.with_borrow(|host| Some(host.as_ref()?.clock.as_ref()?()));
    simulated.unwrap_or_else(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    })
}

/// See [`rng`].
#[derive(Debug)]
pub enum Chance {
    System(ThreadRng),
    Seeded(Arc<Host>),
}

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        match self {
            Chance::System(rng) => rng.try_next_u32(),
            Chance::Seeded(host) => host.rng().try_next_u32(),
        }
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        match self {
            Chance::System(rng) => rng.try_next_u64(),
            Chance::Seeded(host) => host.rng().try_next_u64(),
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        match self {
            Chance::System(rng) => rng.try_fill_bytes(bytes),
            Chance::Seeded(host) => host.rng().try_fill_bytes(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::StreamExt;

    use super::*;

    /// Counts in a task that another one started.
    async fn start_counting(counted: Arc<AtomicU32>) {
        spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
    }

    #[tokio::test]
    async fn a_paused_machine_takes_no_step_and_goes_on_later() {
        let (host, counted) = (Host::new(1), Arc::new(AtomicU32::new(0)));
        tokio::spawn(host.run(start_counting(counted.clone())));
        let others_go_on = async || {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            counted.load(Ordering::Relaxed)
        };
        let before = others_go_on().await;
        assert!(before > 10);
        host.pause();
        assert_eq!(others_go_on().await, before);
        host.resume();
        let after = others_go_on().await;
        assert!(after > before + 10);
        host.power_off();
        host.resume();
        assert_eq!(others_go_on().await, after);
    }

    #[tokio::test]
    async fn chance_is_the_hosts_in_its_tasks_and_nowhere_else() {
        async fn drawn() -> (u64, u64) {
            let here: u64 = rng().random();
            let there = blocking(|| rng().random::<u64>()).await.unwrap();
            (here, there)
        }
        let first = Host::new(7).run(drawn()).await;
        assert!(!is_simulated());
        assert!(matches!(rng(), Chance::System(_)));
        assert_eq!(Host::new(7).run(drawn()).await, first);
        assert_ne!(Host::new(8).run(drawn()).await, first);
    }

    #[tokio::test]
    async fn the_time_of_day_is_the_hosts_where_it_has_a_clock() {
        let day = Duration::from_secs(86_400);
        assert_eq!(
            Host::with_clock(1, move || day)
                .run(async { since_1970() })
                .await,
            day
        );
        for now in [since_1970(), Host::new(1).run(async { since_1970() }).await] {
            assert!(now > 365 * day);
        }
    }

    #[tokio::test]
    async fn tables_are_in_the_same_order_on_equal_hosts() {
        async fn order() -> Vec<u32> {
            (0..100)
                .map(|key| (key, ()))
                .collect::<HashMap<_, _>>()
                .into_keys()
                .collect()
        }
        let first = Host::new(1).run(order()).await;
        assert_eq!(Host::new(2).run(order()).await, first);
        assert_ne!(
            order().await,
            first,
            "the product's order is anybody's guess"
        );
    }

    #[tokio::test]
    async fn work_that_is_given_up_ends_on_its_machine() {
        struct Last(tokio::sync::mpsc::UnboundedSender<bool>);
        impl Drop for Last {
            fn drop(&mut self) {
                let _ = self.0.send(is_simulated());
            }
        }
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let forever = |last: Last| async move {
            let _last = last;
            std::future::pending::<()>().await
        };
        let host = Host::new(1);
        drop(host.run(forever(Last(said.clone()))));
        drop(here(forever(Last(said.clone()))));
        let last = Last(said);
        let mut pulled = host.pull(futures::stream::iter([1, 2]).map(move |n| {
            let _last = &last;
            n
        }));
        assert_eq!(pulled.next().await, Some(1));
        host.power_off();
        assert!(futures::poll!(pulled.next()).is_pending());
        drop(pulled);
        let all = [heard.recv().await, heard.recv().await, heard.recv().await];
        assert_eq!(all, [Some(true), Some(false), Some(true)]);
        assert!(!is_simulated());
    }

    #[tokio::test]
    async fn without_a_host_work_that_blocks_has_a_thread() {
        let own = std::thread::current().id();
        let other = blocking(|| std::thread::current().id()).await.unwrap();
        assert_ne!(own, other);
    }
}
