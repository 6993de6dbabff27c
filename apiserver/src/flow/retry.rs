//! How long a client that was refused should stay away: longer while many are refused. Pure; after Kubernetes' rule.

/// Seconds at most.
const RETRY_AFTER_MAX: u32 = 32;

#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryAfter {
    seconds: u32,
    /// When that was decided, in seconds.
    since: u64,
    refused: u64,
}

impl Default for RetryAfter {
    fn default() -> RetryAfter {
        RetryAfter {
            seconds: 1,
            since: 0,
            refused: 0,
        }
    }
}

impl RetryAfter {
    /// Counts a refusal, and says what to tell the client. Every so many seconds the answer doubles where more than three
    /// were refused for each of them, and falls by one where it was less than one.
    pub(crate) fn refuse(&mut self, now: u64) -> u32 {
        let passed = now.saturating_sub(self.since);
        let seconds = u64::from(self.seconds);
        if passed >= seconds {
            if passed >= 2 * u64::from(RETRY_AFTER_MAX) {
                self.seconds = 1;
            } else if self.refused > 3 * seconds {
                self.seconds = (self.seconds * 2).min(RETRY_AFTER_MAX);
            } else if self.refused < seconds {
                self.seconds = (self.seconds - 1).max(1);
            }
            self.since = now;
            self.refused = 0;
        }
        self.refused += 1;
        self.seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_stays_away_longer_and_comes_back() {
        let mut retry = RetryAfter::default();
        let mut now = 100;
        let mut seen = Vec::new();
        for _ in 0..200 {
            now += 1;
            for _ in 0..20 {
                seen.push(retry.refuse(now));
            }
        }
        seen.dedup();
        assert_eq!(seen, [1, 2, 4, 8, 16, 32]);
        // Few of them: down by and by.
        let mut seen = Vec::new();
        for _ in 0..4 {
            now += 40;
            seen.push(retry.refuse(now));
        }
        assert!(seen.windows(2).all(|pair| pair[0] >= pair[1]), "{seen:?}");
        now += 1_000;
        assert_eq!(retry.refuse(now), 1);
    }
}
