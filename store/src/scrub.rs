//! All that is stored is read again once in a while. What clients ask for is checked whenever it is read, and a start
//! reads all of it; but a bit that turns meanwhile in what nobody asks for would be found when the other members, too,
//! have lost what it was a part of.
//!
//! A pass takes steps with pauses between them, so that clients do not notice. Where it finds damage, the member stops:
//! it is the same as damage that is found in any other way.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::core::Core;
use crate::data_dir::REPLACE;
use crate::env::ScrubPass;
use crate::host;
use crate::metrics::METRICS;
use crate::raft::log::LogStore;

/// Bytes a second, or more where the interval asks for it: a pass holds files that would be removed otherwise.
const RATE: u64 = 16 << 20;

/// The pause after a step of so many bytes, for a pass over `total` bytes that may take `most`.
fn pause(step: u64, total: u64, most: Duration) -> Duration {
    let wanted = total as f64 / most.as_secs_f64();
    Duration::from_secs_f64(step as f64 / wanted.max(RATE as f64))
}

/// What is read is not what was written; the rest is a disk or a system that could not do it now.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

impl Core {
    /// Passes begin half the interval after the one before and take as long at most, so that damage is found within
    /// the interval.
    pub async fn run_scrub(self: Arc<Self>, log: LogStore) {
        let half = self.config.limits.scrub_interval / 2;
        while !half.is_zero() {
            tokio::time::sleep(half).await;
            match self.scrub(&log, half).await {
                Ok(()) => METRICS.scrubs.inc(),
                Err(error) if is_damage(&error) => {
                    METRICS.scrubs_damaged.inc();
                    return self.fail(&format!(
                        "what is stored is damaged ({error}): this member's disk or memory is at fault. Put a new member \
                         in its place, under a new id and with an empty directory ({REPLACE})"
                    ));
                }
                Err(error) => {
                    tracing::warn!(%error, "what is stored could not be read again now");
                }
            }
        }
    }

    async fn scrub(&self, log: &LogStore, most: Duration) -> io::Result<()> {
        let (_, of_log) = log.extent();
        let total = self.replica.disk().opened().size_bytes() + of_log;
        let disk = self.replica.disk().clone();
        let state = blocking(move || disk.scrub()).await?;
        let log = log.stored_again();
        for pass in state.into_iter().chain([log]) {
            steps(pass, total, most).await?;
        }
        Ok(())
    }
}

/// One pass to its end.
async fn steps(mut pass: Box<dyn ScrubPass>, total: u64, most: Duration) -> io::Result<()> {
    loop {
        let (back, step) = blocking(move || {
            let step = pass.step()?;
            Ok((pass, step))
        })
        .await?;
        let Some(bytes) = step else {
            // Closing it may take a while, too.
            return blocking(move || {
                drop(back);
                Ok(())
            })
            .await;
        };
        METRICS.scrubbed_bytes.inc_by(bytes);
        tokio::time::sleep(pause(bytes, total, most)).await;
        pass = back;
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    host::blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_slow_where_it_may_be_and_fast_where_it_must() {
        let minutes = Duration::from_secs(300);
        assert_eq!(pause(RATE, 100 << 20, minutes), Duration::from_secs(1));
        // Sixteen gigabytes in five minutes: 54.6 MiB a second.
        let fast = pause(RATE, 16 << 30, minutes).as_secs_f64();
        assert!((0.29..0.30).contains(&fast), "{fast}");
        assert_eq!(pause(0, 0, minutes), Duration::ZERO);
    }

    #[test]
    fn a_disk_that_is_full_is_not_damaged() {
        assert!(is_damage(&crate::disk::damaged("a checksum")));
        assert!(!is_damage(&io::ErrorKind::StorageFull.into()));
    }
}
