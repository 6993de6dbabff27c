//! Durations as Go prints them, since the messages of a kubelet have them in that form.

use time::Duration;

/// A whole number of seconds as Go prints durations: `10s`, `1m20s`, `5m0s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let seconds = duration.whole_seconds().max(0);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// A time to the millisecond as Go prints it: `0s`, `12ms`, `1.5s`, `1m2.25s`.
pub(crate) fn go_millis(duration: std::time::Duration) -> String {
    let millis = duration.as_millis();
    match (millis / 1000, millis % 1000) {
        (0, 0) => "0s".to_owned(),
        (0, rest) => format!("{rest}ms"),
        (seconds, rest) => {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            let whole = go_duration(Duration::seconds(seconds));
            if rest == 0 {
                whole
            } else {
                let (whole, rest) = (whole.trim_end_matches('s'), format!("{rest:03}"));
                format!("{whole}.{}s", rest.trim_end_matches('0'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_the_millisecond_read_like_those_of_go() {
        for (millis, text) in [
            (0, "0s"),
            (7, "7ms"),
            (1_000, "1s"),
            (1_050, "1.05s"),
            (62_250, "1m2.25s"),
            (3_600_001, "1h0m0.001s"),
        ] {
            assert_eq!(go_millis(std::time::Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn durations_are_written_as_in_go() {
        for (seconds, text) in [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")] {
            assert_eq!(go_duration(Duration::seconds(seconds)), text);
        }
    }
}
