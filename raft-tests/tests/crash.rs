//! Real processes, real disks, SIGKILL.

use raft_tests::crash::{Options, run};
use std::time::Duration;

/// `KONTIKI_CRASH_SEED` repeats a schedule.
#[test]
fn no_acknowledged_write_is_lost_in_200_kills() {
    let seed = std::env::var("KONTIKI_CRASH_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let options = Options {
        program: env!("CARGO_BIN_EXE_raft-tests").into(),
        kills: 200,
        seed: seed.unwrap_or_else(rand::random),
        time_max: Duration::from_secs(480),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match runtime.block_on(run(&options, &|line| eprintln!("{line}"))) {
        Ok(outcome) => {
            eprintln!("{outcome:?}");
            assert_eq!(outcome.kills, 200);
            assert!(
                outcome.acknowledged > 2000,
                "too few writes to prove anything: {outcome:?}"
            );
        }
        Err(error) => panic!("{error:#}"),
    }
}
