//! Nothing is said against a perfect cluster.

use super::*;
use crate::judge::simulated::perfect;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// How many random recordings are looked at: always the same few, or as many new ones as `PROPTEST_CASES` says.
pub(super) fn config(usual: u32) -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok();
    let wanted = wanted.and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: wanted.unwrap_or(usual),
        rng_seed: wanted.map_or(RngSeed::Fixed(1), |_: u32| RngSeed::Random),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn nothing_is_said_against_a_perfect_cluster(seed in any::<u64>(), steps in 1_usize..250) {
        let recording = perfect(seed, steps);
        let found = judge(&recording);
        prop_assert!(found.is_empty(), "{found:#?}");
    }
}

/// Seeds and steps of recordings that were objected to once: the first explanation that fits is not the right one.
const HARD: &[(u64, usize)] = &[
    (157, 100),
    (356, 72),
    (606, 112),
    (1385, 174),
    (3366, 198),
    (5912, 230),
    (7749, 41),
    (7987, 169),
    (11603, 111),
    (14227, 206),
    (15597, 205),
    (15778, 82),
    (21384, 243),
    (21681, 116),
    (21925, 177),
    (22900, 245),
    (24701, 116),
    (26186, 137),
    (26848, 230),
    (28567, 98),
    (29621, 202),
    (30504, 52),
    (32812, 206),
    (34822, 217),
    (43563, 150),
    (44988, 158),
    (45070, 207),
    (45635, 169),
    (47630, 98),
    (49015, 225),
    (1085664, 250),
    (7168247267532473837, 69),
    (12147367541566344213, 45),
];

#[test]
fn another_explanation_is_found_where_the_first_does_not_hold() {
    for (seed, steps) in HARD {
        let found = judge(&perfect(*seed, *steps));
        assert!(found.is_empty(), "{seed} {steps}: {found:#?}");
    }
}
