//! What the agents of nodes and the scheduler say to each other, in an annotation of the Node, about how long work has to
//! wait there: the kernel's pressure stall figures, as shares of the last minute in which some task waited.
//!
//! A minute and no less, since the annotation is written at most once a minute: a figure over ten seconds would be older
//! than what it is about.

use crate::timestamp::{self, Micros};
use serde_json::{Value, json};

/// Set by the agent together with the status.
pub const ANNOTATION: &str = "node.kontiki.io/pressure";
/// On a hollow node: what its agent says of it, as `cpu=80,memory=5`.
pub const PRETENDED: &str = "kontiki.io/hollow-pressure";
/// What was said longer ago counts as unsaid: agents say it again every five minutes, so two of these are missing.
pub const AGE_MAX: Micros = timestamp::seconds(660);
/// So far the clock of a node may be ahead.
pub const AHEAD_MAX: Micros = timestamp::seconds(60);
/// The longest annotation that is read.
const LENGTH_MAX: usize = 256;

/// In whole percent, from 0 to 100.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Waiting for processors.
    pub cpu: u8,
    /// Waiting for memory.
    pub memory: u8,
    /// Waiting for disks.
    pub io: u8,
}

/// The names of the figures, in their order.
pub const FIGURES: [&str; 3] = ["cpu", "memory", "io"];

impl Pressure {
    /// In the order of [`FIGURES`].
    pub fn figures(&self) -> [u8; 3] {
        [self.cpu, self.memory, self.io]
    }

    /// Of three figures in their order.
    pub fn of([cpu, memory, io]: [u8; 3]) -> Pressure {
        Pressure { cpu, memory, io }
    }

    /// Whether any figure is at least so far from another's.
    pub fn is_far_from(&self, other: &Pressure, points: u8) -> bool {
        let pairs = self.figures().into_iter().zip(other.figures());
        pairs
            .map(|(one, other)| one.abs_diff(other))
            .any(|far| far >= points)
    }

    /// The annotation, as of this time.
    pub fn tell(&self, at: Micros) -> String {
        let Pressure { cpu, memory, io } = self;
        json!({"at": timestamp::time(at), "cpu": cpu, "memory": memory, "io": io}).to_string()
    }

    /// What an annotation says, and of when; nothing where any of it cannot be.
    pub fn read(annotation: &str) -> Option<(Pressure, Micros)> {
        if annotation.len() > LENGTH_MAX {
            return None;
        }
        let value: Value = serde_json::from_str(annotation).ok()?;
        let percent = |name: &str| {
            let figure = value.get(name)?.as_u64()?;
            u8::try_from(figure).ok().filter(|figure| *figure <= 100)
        };
        let [cpu, memory, io] = FIGURES.map(percent);
        let at = timestamp::parse(value.get("at")?.as_str()?)?;
        Some((Pressure::of([cpu?, memory?, io?]), at))
    }

    /// From `cpu=80,memory=5`; what is not named is 0. Nothing where any of it cannot be.
    pub fn pretended(text: &str) -> Option<Pressure> {
        let mut figures = [0; 3];
        if text.len() > LENGTH_MAX {
            return None;
        }
        for part in text.split(',') {
            let (name, figure) = part.split_once('=')?;
            let at = FIGURES.iter().position(|known| *known == name.trim())?;
            figures[at] = figure.trim().parse().ok().filter(|figure| *figure <= 100)?;
        }
        Some(Pressure::of(figures))
    }
}

/// Whether something that was said at `at` counts at `now`.
pub fn is_fresh(at: Micros, now: Micros) -> bool {
    at <= now.saturating_add(AHEAD_MAX) && now < expires(at)
}

/// When something that was said at `at` counts no more.
pub fn expires(at: Micros) -> Micros {
    at.saturating_add(AGE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read() {
        let pressure = Pressure::of([100, 0, 7]);
        let at = timestamp::seconds(1_767_225_600);
        let told = pressure.tell(at);
        assert!(told.contains("\"at\":\"2026-01-01T00:00:00Z\""), "{told}");
        assert_eq!(Pressure::read(&told), Some((pressure, at)));
    }

    #[test]
    fn what_cannot_be_is_not_read() {
        let at = "\"at\":\"2026-01-01T00:00:00Z\"";
        let long = format!(
            "{{{at},\"cpu\":1,\"memory\":1,\"io\":1}}{}",
            " ".repeat(300)
        );
        for odd in [
            "",
            "null",
            "[]",
            "80",
            "{",
            "{\"cpu\":1,\"memory\":1,\"io\":1}",
            "{\"at\":\"noon\",\"cpu\":1,\"memory\":1,\"io\":1}",
            &format!("{{{at},\"cpu\":1,\"memory\":1}}"),
            &format!("{{{at},\"cpu\":101,\"memory\":1,\"io\":1}}"),
            &format!("{{{at},\"cpu\":-1,\"memory\":1,\"io\":1}}"),
            &format!("{{{at},\"cpu\":1.5,\"memory\":1,\"io\":1}}"),
            &format!("{{{at},\"cpu\":\"1\",\"memory\":1,\"io\":1}}"),
            &long,
        ] {
            assert_eq!(Pressure::read(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_is_pretended_names_figures() {
        let read = |text| Pressure::pretended(text).map(|pressure| pressure.figures());
        assert_eq!(read("cpu=80, io=3"), Some([80, 0, 3]));
        assert_eq!(read("memory=100"), Some([0, 100, 0]));
        for odd in ["", "cpu", "cpu=101", "cpu=-1", "disk=1", "cpu=1,,"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_is_too_old_or_of_the_future_does_not_count() {
        let now = timestamp::seconds(1_000_000);
        assert!(is_fresh(now, now) && is_fresh(now + AHEAD_MAX, now));
        assert!(!is_fresh(now + AHEAD_MAX + 1, now));
        assert!(is_fresh(now - AGE_MAX + 1, now) && !is_fresh(now - AGE_MAX, now));
        assert!(!is_fresh(i64::MIN, now) && !is_fresh(i64::MAX, now));
        assert!(!is_fresh(now, i64::MAX));
    }

    #[test]
    fn a_change_is_far_when_any_figure_moved_far() {
        let one = Pressure::of([10, 10, 10]);
        assert!(!one.is_far_from(&Pressure::of([19, 1, 10]), 10));
        assert!(one.is_far_from(&Pressure::of([10, 10, 20]), 10));
    }
}
