//! How many seats each priority level has: the nominal limits by shares, what may be lent and borrowed, and the limits of
//! now, which follow the demand. Pure; after Kubernetes' rules for concurrency borrowing.

/// What a priority level says about its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) shares: u32,
    pub(crate) lendable_percent: u32,
    /// None: as much as there is.
    pub(crate) borrowing_percent: Option<u32>,
}

/// The seats of a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) nominal: u32,
    /// What is left when all that may be lent is lent.
    pub(crate) lower: u32,
    /// With all that may be borrowed.
    pub(crate) upper: u32,
}

/// Divides `total` seats by shares; every share that is not zero gets a seat at least.
pub(crate) fn divide(total: u32, shares: &[Share]) -> Vec<Bounds> {
    let sum: u64 = shares.iter().map(|share| u64::from(share.shares)).sum();
    let bounds = |share: &Share| {
        let all = u64::from(total) * u64::from(share.shares);
        let nominal = u32::try_from(all.div_ceil(sum.max(1))).unwrap_or(u32::MAX);
        let part = |percent: u32| {
            let part = (u64::from(nominal) * u64::from(percent) + 50) / 100;
            u32::try_from(part).unwrap_or(u32::MAX)
        };
        Bounds {
            nominal,
            lower: nominal.saturating_sub(part(share.lendable_percent)),
            upper: match share.borrowing_percent {
                Some(percent) => nominal.saturating_add(part(percent)),
                None => total.max(nominal),
            },
        }
    };
    shares.iter().map(bounds).collect()
}

/// What a level wanted since the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Demand {
    /// The most seats that were in use and waited for at once.
    pub(crate) highest: u32,
    /// What it will want, most likely.
    pub(crate) smoothed: f64,
}

/// The limits of now. Each level keeps what it used, up to its nominal limit; what is left over goes to all in
/// proportion to what they want, within their bounds. Also answers that proportion.
pub(crate) fn allocate(total: u32, levels: &[(Bounds, Demand)]) -> (Vec<u32>, f64) {
    let floor =
        |(bounds, demand): &(Bounds, Demand)| bounds.lower.max(bounds.nominal.min(demand.highest));
    let floors: Vec<f64> = levels.iter().map(|level| f64::from(floor(level))).collect();
    let clamped = |level: usize, fraction: f64| {
        let (bounds, demand) = &levels[level];
        let target = demand.smoothed.max(floors[level]).max(1e-6);
        let most = f64::from(bounds.upper).max(floors[level]);
        (fraction * target).clamp(floors[level], most)
    };
    let sum = |fraction: f64| -> f64 { (0..levels.len()).map(|at| clamped(at, fraction)).sum() };
    // The sum grows with the fraction: halve the interval until the fraction fits.
    let (mut low, mut high) = (0.0, 1.0);
    while sum(high) < f64::from(total) && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        match sum(middle) <= f64::from(total) {
            true => low = middle,
            false => high = middle,
        }
    }
    let limits = (0..levels.len()).map(|at| clamped(at, low).round() as u32);
    (limits.collect(), low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(shares: u32, lendable_percent: u32) -> Share {
        Share {
            shares,
            lendable_percent,
            borrowing_percent: None,
        }
    }

    /// Kubernetes' levels in the order of its documentation.
    fn bootstrap() -> Vec<Bounds> {
        let shares = [
            (0, 0),
            (5, 0),
            (30, 33),
            (40, 25),
            (10, 0),
            (40, 50),
            (100, 90),
            (20, 50),
        ];
        divide(600, &shares.map(|(shares, lend)| share(shares, lend)))
    }

    #[test]
    fn seats_are_divided_by_shares() {
        let bounds = bootstrap();
        let nominal: Vec<u32> = bounds.iter().map(|bounds| bounds.nominal).collect();
        // As a Kubernetes API server of 600 reports them.
        assert_eq!(nominal, [0, 13, 74, 98, 25, 98, 245, 49]);
        let lower: Vec<u32> = bounds.iter().map(|bounds| bounds.lower).collect();
        assert_eq!(lower, [0, 13, 50, 73, 25, 49, 24, 24]);
        assert!(bounds.iter().all(|bounds| bounds.upper == 600));
        let bounded = Share {
            borrowing_percent: Some(50),
            ..share(1, 0)
        };
        assert_eq!(divide(10, &[bounded])[0].upper, 15);
        assert_eq!(divide(1, &[share(1, 0), share(1_000, 0)])[0].nominal, 1);
        assert!(divide(600, &[]).is_empty());
    }

    #[test]
    fn who_wants_more_borrows_from_who_wants_nothing() {
        let levels: Vec<(Bounds, Demand)> = bootstrap()
            .into_iter()
            .enumerate()
            .map(|(at, bounds)| {
                let wanted = if at == 7 { 300 } else { 0 };
                let demand = Demand {
                    highest: wanted,
                    smoothed: f64::from(wanted),
                };
                (bounds, demand)
            })
            .collect();
        let (limits, _) = allocate(600, &levels);
        assert!(limits[7] > 300, "{limits:?}");
        // Nobody falls below what is not for lending.
        for ((bounds, _), limit) in levels.iter().zip(&limits) {
            assert!(*limit >= bounds.lower, "{limits:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn all_seats_are_given_within_bounds(
            levels in proptest::collection::vec((0u32..100, 0u32..=100, proptest::option::of(0u32..400), 0u32..900), 1..12)
        ) {
            let shares: Vec<Share> = levels
                .iter()
                .map(|(shares, lend, borrow, _)| Share { shares: *shares, lendable_percent: *lend, borrowing_percent: *borrow })
                .collect();
            let bounds = divide(600, &shares);
            let wanted: Vec<(Bounds, Demand)> = bounds
                .iter()
                .zip(&levels)
                .map(|(bounds, level)| (*bounds, Demand { highest: level.3, smoothed: f64::from(level.3) }))
                .collect();
            let (limits, _) = allocate(600, &wanted);
            let floors: Vec<u32> = wanted.iter().map(|(b, d)| b.lower.max(b.nominal.min(d.highest))).collect();
            for (at, limit) in limits.iter().enumerate() {
                assert!(*limit >= floors[at] && *limit <= bounds[at].upper.max(floors[at]));
            }
            let sum: u32 = limits.iter().sum();
            let most: u32 = bounds.iter().zip(&floors).map(|(b, floor)| b.upper.max(*floor)).sum();
            let least: u32 = floors.iter().sum();
            // All that can be given is given, but for what rounding takes.
            let expected = 600.max(least).min(most.max(least));
            assert!(sum.abs_diff(expected) <= limits.len() as u32, "{sum} of {expected}: {limits:?}");
        }
    }
}
