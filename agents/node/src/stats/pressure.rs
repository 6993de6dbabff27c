//! How long work waits on this machine, from the kernel, and when that is worth a write.

use std::time::Duration;

use agent_runtime::pressure::{FIGURES, Pressure};

/// A change of so many points is told before the status is due.
const FAR_POINTS: u8 = 10;
/// But not more often than this.
const PAUSE: Duration = Duration::from_secs(60);

/// None where the kernel does not count it.
pub(crate) fn measure() -> Option<Pressure> {
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/pressure/{name}"));
        some_of_a_minute(&text.ok()?)
    };
    let [cpu, memory, io] = FIGURES.map(read);
    Some(Pressure::of([cpu?, memory?, io?]))
}

/// `avg60` of the line `some`, in whole percent.
fn some_of_a_minute(text: &str) -> Option<u8> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let mut fields = line.split_ascii_whitespace();
    let figure: f64 = fields
        .find_map(|field| field.strip_prefix("avg60="))?
        .parse()
        .ok()?;
    (0.0..=100.5)
        .contains(&figure)
        .then(|| (figure.round() as u8).min(100))
}

/// Whether what was told `since` ago is so far from what is that it is told before its time.
pub(crate) fn is_news(told: Option<Pressure>, now: Option<Pressure>, since: Duration) -> bool {
    let far = match (told, now) {
        (Some(told), Some(now)) => told.is_far_from(&now, FAR_POINTS),
        (told, now) => told.is_some() != now.is_some(),
    };
    far && since >= PAUSE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figure_of_a_minute_is_read() {
        let text = "some avg10=80.42 avg60=36.51 avg300=28.54 total=23397346248\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(some_of_a_minute(text), Some(37));
        assert_eq!(some_of_a_minute("some avg60=100.00\n"), Some(100));
        for odd in [
            "",
            "full avg60=1.00",
            "some avg10=1.00",
            "some avg60=x",
            "some avg60=NaN",
            "some avg60=-1",
            "some avg60=1e9",
        ] {
            assert_eq!(some_of_a_minute(odd), None, "{odd}");
        }
    }

    #[test]
    fn at_rest_nothing_is_told_before_its_time_and_in_turmoil_once_a_minute() {
        let of = |cpu| Some(Pressure::of([cpu, 0, 0]));
        let hour = Duration::from_secs(3600);
        assert!(!is_news(of(5), of(14), hour), "what moves little waits");
        assert!(is_news(of(5), of(15), PAUSE) && is_news(of(5), None, PAUSE));
        assert!(!is_news(of(5), of(90), PAUSE - Duration::from_nanos(1)));
        assert!(!is_news(None, None, hour));
    }
}
