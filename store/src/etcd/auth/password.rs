//! Passwords: bcrypt, which is slow on purpose. So it runs on threads that may block, few at once, and who comes when
//! many wait is turned away.

use std::sync::Arc;

use kv::StoreError;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::etcd::admission::PASSWORDS;
use crate::etcd::errors::Fault;

/// At once at most.
const RUNNING: usize = 2;
/// More bytes do not count in bcrypt; Go's refuses them.
const PASSWORD_BYTES_MAX: usize = 72;
/// Costs of hashes that clients have computed: each step doubles the time, and everybody waits for it.
const COSTS: std::ops::RangeInclusive<u32> = 4..=14;

pub(super) struct Hashing {
    running: Arc<Semaphore>,
    waiting: Semaphore,
    cost: u32,
}

impl Hashing {
    pub(super) fn new(cost: u32) -> Hashing {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Hashing {
            running: Arc::new(Semaphore::new(running(processors))),
            waiting: Semaphore::new(PASSWORDS),
            cost,
        }
    }

    pub(super) async fn hash(
        &self,
        tasks: &TaskTracker,
        password: String,
    ) -> Result<String, Fault> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(Fault::PasswordTooLong);
        }
        let cost = self.cost;
        let hashed = self
            .run(tasks, move || bcrypt::hash(password, cost))
            .await?;
        hashed.map_err(|error| Fault::Internal(error.to_string()))
    }

    /// Whether the hash is of this password; without a hash it is not, which takes as long to say.
    pub(super) async fn verify(
        &self,
        tasks: &TaskTracker,
        password: String,
        hash: Option<&str>,
    ) -> Result<bool, Fault> {
        let is_known = hash.is_some();
        let hash = hash.map_or_else(|| nobodys(self.cost), String::from);
        let verified = self.run(tasks, move || bcrypt::verify(password, &hash));
        Ok(verified.await?.unwrap_or(false) && is_known)
    }

    async fn run<T: Send + 'static>(
        &self,
        tasks: &TaskTracker,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let place = self.waiting.try_acquire();
        let _place = place.map_err(|_| StoreError::Overloaded)?;
        let running = self.running.clone().acquire_owned().await;
        let running = running.map_err(|_| StoreError::Stopped)?;
        let done = tasks.spawn_blocking(move || {
            let _running = running;
            work()
        });
        done.await.map_err(|_| StoreError::Stopped.into())
    }
}

/// Signing in shall not take all of a small machine.
fn running(processors: usize) -> usize {
    (processors / 2).clamp(1, RUNNING)
}

/// A hash that no password is known for.
fn nobodys(cost: u32) -> String {
    format!("$2b${cost:02}${}", "a".repeat(21) + &"u".repeat(32))
}

/// Whether bcrypt can read it, in reasonable time.
pub(super) fn is_hash(hash: &[u8]) -> bool {
    let parts = std::str::from_utf8(hash).ok();
    let parts = parts.and_then(|hash| hash.parse::<bcrypt::HashParts>().ok());
    parts.is_some_and(|parts| COSTS.contains(&parts.get_cost()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_opens_to_its_password_alone() {
        let (hashing, tasks) = (Hashing::new(4), TaskTracker::new());
        let hash = hashing.hash(&tasks, "secret".into()).await.unwrap();
        assert!(is_hash(hash.as_bytes()) && hash.starts_with("$2b$04$"));
        for (password, hash, want) in [
            ("secret", Some(hash.as_str()), true),
            ("Secret", Some(hash.as_str()), false),
            ("secret", None, false),
            ("secret", Some("no hash"), false),
        ] {
            let matches = hashing.verify(&tasks, password.into(), hash).await;
            assert_eq!(matches, Ok(want), "{password} {hash:?}");
        }
        let long = "p".repeat(73);
        assert_eq!(
            hashing.hash(&tasks, long).await,
            Err(Fault::PasswordTooLong)
        );
    }

    #[tokio::test]
    async fn who_comes_when_many_wait_is_turned_away() {
        let (hashing, tasks) = (Hashing::new(4), TaskTracker::new());
        let all = hashing
            .waiting
            .acquire_many(PASSWORDS as u32)
            .await
            .unwrap();
        let turned_away = hashing.verify(&tasks, "p".into(), None).await;
        assert_eq!(turned_away, Err(StoreError::Overloaded.into()));
        drop(all);
        assert_eq!(hashing.verify(&tasks, "p".into(), None).await, Ok(false));
    }

    #[test]
    fn half_of_a_small_machine_is_left_to_others() {
        assert_eq!([1, 2, 3, 4, 64].map(running), [1, 1, 1, 2, 2]);
    }

    #[test]
    fn hashes_that_take_for_ever_are_none() {
        // The stand-in is read as a hash, so it costs what one costs.
        assert!(is_hash(nobodys(10).as_bytes()));
        assert!(!is_hash(nobodys(31).as_bytes()));
        assert!(!is_hash(b"$2b$10$short") && !is_hash(b"") && !is_hash(&[0xff; 60]));
    }
}
