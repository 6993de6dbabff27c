//! Times as Go reads them, with what it says of others (`Parse` of its package time): an hour may have one digit, seconds a
//! fraction after a period or a comma, and an offset up to 24 hours.

use super::{canonical, days_in, days_since_1970, number};

/// How a field writes its times, which says what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `Time`: whole seconds; fractions are read and dropped.
    Seconds,
    /// `MicroTime`: a fraction of six digits, no more and no less.
    Micros,
}

impl Layout {
    fn text(self) -> &'static str {
        match self {
            Layout::Seconds => "2006-01-02T15:04:05Z07:00",
            Layout::Micros => "2006-01-02T15:04:05.000000Z07:00",
        }
    }

    /// Whether a text that [`canonical`] reads is read in this layout.
    fn takes_canonical(self, text: &str) -> bool {
        self == Layout::Seconds || text.len() == "2006-01-02T15:04:05.000000Z".len()
    }

    /// Whether a text that [`canonical`] reads is written in this layout, and so is what [`super::text_of`] says of its time.
    fn writes_canonical(self, text: &str) -> bool {
        let length = match self {
            Layout::Seconds => "2006-01-02T15:04:05Z".len(),
            Layout::Micros => "2006-01-02T15:04:05.000000Z".len(),
        };
        text.len() == length
    }
}

/// What [`read`] answers for a text that is written as times of this layout are; none for any other text, which may be one, too.
pub(crate) fn settled(text: &str, layout: Layout) -> Option<(i64, u32)> {
    match layout.writes_canonical(text) {
        true => canonical(text),
        false => None,
    }
}

/// Seconds since 1970 and nanoseconds, or why there are none in Go's words. A time that has no text of this form in UTC, since
/// it is in another year there, is none, unlike in Go: what is stored has to be read again.
pub(crate) fn read(text: &str, layout: Layout) -> Result<(i64, u32), String> {
    if let Some(found) = canonical(text).filter(|_| layout.takes_canonical(text)) {
        return Ok(found);
    }
    let mut reader = Reader {
        text,
        layout,
        rest: text.as_bytes(),
    };
    reader.read()
}

const ZONE: &str = "Z07:00";

struct Reader<'a> {
    text: &'a str,
    layout: Layout,
    rest: &'a [u8],
}

impl Reader<'_> {
    fn read(&mut self) -> Result<(i64, u32), String> {
        let year = self.year()?;
        self.letter("-")?;
        let month = self.number("01")?;
        if !(1..=12).contains(&month) {
            return Err(self.out_of_range("month"));
        }
        self.letter("-")?;
        let day = self.number("02")?;
        self.letter("T")?;
        let hour = self.below(24, "hour", "15")?;
        self.letter(":")?;
        let minute = self.below(60, "minute", "04")?;
        self.letter(":")?;
        let second = self.below(60, "second", "05")?;
        let nanos = self.fraction()?;
        let offset = self.offset()?;
        if !self.rest.is_empty() {
            let (text, rest) = (quoted(self.text.as_bytes()), quoted(self.rest));
            return Err(format!("parsing time {text}: extra text: {rest}"));
        }
        if day < 1 || day > days_in(year, month) {
            return Err(self.out_of_range("day"));
        }
        let of_day = i64::from(hour * 3_600 + minute * 60 + second);
        let seconds = days_since_1970(year, month, day) * 86_400 + of_day - offset;
        if seconds < days_since_1970(0, 1, 1) * 86_400
            || seconds >= days_since_1970(10_000, 1, 1) * 86_400
        {
            return Err(self.out_of_range("year"));
        }
        Ok((seconds, nanos))
    }

    fn year(&mut self) -> Result<u32, String> {
        let split = self.rest.split_at_checked(4);
        let (digits, rest) = split.ok_or_else(|| self.misfit(self.rest, "2006"))?;
        let year = number(digits).ok_or_else(|| self.misfit(self.rest, "2006"))?;
        self.rest = rest;
        Ok(year)
    }

    fn letter(&mut self, letter: &str) -> Result<(), String> {
        match self.rest.strip_prefix(letter.as_bytes()) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(self.misfit(self.rest, letter)),
        }
    }

    /// A number of two digits; of an hour one is enough.
    fn number(&mut self, element: &str) -> Result<u32, String> {
        let is_digit = |at: usize| self.rest.get(at).is_some_and(u8::is_ascii_digit);
        let length = match (is_digit(0), is_digit(1)) {
            (true, true) => 2,
            (true, false) if element == "15" => 1,
            _ => return Err(self.misfit(self.rest, element)),
        };
        let (digits, rest) = self.rest.split_at(length);
        let read = number(digits).ok_or_else(|| self.misfit(self.rest, element))?;
        self.rest = rest;
        Ok(read)
    }

    fn below(&mut self, bound: u32, what: &str, element: &str) -> Result<u32, String> {
        let read = self.number(element)?;
        if read >= bound {
            return Err(self.out_of_range(what));
        }
        Ok(read)
    }

    /// Nanoseconds.
    fn fraction(&mut self) -> Result<u32, String> {
        let digits = match self.rest {
            [b'.' | b',', digits @ ..] => digits,
            _ => &[],
        };
        let length = digits.iter().take_while(|digit| digit.is_ascii_digit());
        let length = match (length.count(), self.layout) {
            (0, Layout::Seconds) => return Ok(0),
            (length, Layout::Seconds) => length,
            (6.., Layout::Micros) => 6,
            (_, Layout::Micros) => return Err(self.misfit(self.rest, ".000000")),
        };
        let (digits, rest) = digits.split_at(length);
        self.rest = rest;
        let padded = digits.iter().chain(std::iter::repeat(&b'0')).take(9);
        Ok(padded.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0')))
    }

    /// Seconds east of Greenwich.
    fn offset(&mut self) -> Result<i64, String> {
        if let [b'Z', rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(0);
        }
        let [sign, h1, h2, b':', m1, m2, rest @ ..] = self.rest else {
            return Err(self.misfit(self.rest, ZONE));
        };
        let hours = number(&[*h1, *h2]);
        let minutes = hours.and_then(|_| number(&[*m1, *m2]));
        if minutes.is_some_and(|minutes| minutes > 60) {
            return Err(self.out_of_range("time zone offset minute"));
        }
        if hours.is_some_and(|hours| hours > 24) {
            return Err(self.out_of_range("time zone offset hour"));
        }
        let (Some(hours), Some(minutes)) = (hours, minutes) else {
            return Err(self.misfit(self.rest, ZONE));
        };
        let seconds = i64::from(hours * 3_600 + minutes * 60);
        let offset = match sign {
            b'+' => seconds,
            b'-' => -seconds,
            _ => return Err(self.misfit(self.rest, ZONE)),
        };
        self.rest = rest;
        Ok(offset)
    }

    fn misfit(&self, at: &[u8], element: &str) -> String {
        let (text, layout) = (quoted(self.text.as_bytes()), self.layout.text());
        let at = quoted(at);
        format!("parsing time {text} as \"{layout}\": cannot parse {at} as \"{element}\"")
    }

    fn out_of_range(&self, what: &str) -> String {
        let text = quoted(self.text.as_bytes());
        format!("parsing time {text}: {what} out of range")
    }
}

/// As the package time quotes, which is not how others do.
fn quoted(text: &[u8]) -> String {
    let mut out = String::from("\"");
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(*byte)]),
            b' '..=b'\x7f' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the source of Go's package time.
    #[test]
    fn times_are_read_as_go_reads_them() {
        for (text, layout, time) in [
            ("1970-01-01T00:00:01Z", Layout::Seconds, (1, 0)),
            ("1970-01-01T00:00:01.000002Z", Layout::Seconds, (1, 2_000)),
            ("1970-01-01T00:00:01,5Z", Layout::Seconds, (1, 500_000_000)),
            (
                "1970-01-01T0:00:01.12345678912Z",
                Layout::Seconds,
                (1, 123_456_789),
            ),
            ("1970-01-02T01:00:00+24:00", Layout::Seconds, (3_600, 0)),
            ("1969-12-31T23:59:00-00:60", Layout::Seconds, (3_540, 0)),
            ("2000-02-29T00:00:00Z", Layout::Seconds, (951_782_400, 0)),
            ("1970-01-01T00:00:01.000002Z", Layout::Micros, (1, 2_000)),
            (
                "1970-01-01T01:00:01.000002+01:00",
                Layout::Micros,
                (1, 2_000),
            ),
        ] {
            assert_eq!(read(text, layout), Ok(time), "{text}");
        }
    }

    #[test]
    fn others_are_refused_in_gos_words() {
        let seconds =
            |rest: &str| format!(" as \"2006-01-02T15:04:05Z07:00\": cannot parse {rest}");
        let micros =
            |rest: &str| format!(" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse {rest}");
        for (text, layout, said) in [
            ("", Layout::Seconds, seconds("\"\" as \"2006\"")),
            ("now", Layout::Seconds, seconds("\"now\" as \"2006\"")),
            ("2026-11-21", Layout::Seconds, seconds("\"\" as \"T\"")),
            ("2026-1-21", Layout::Seconds, seconds("\"1-21\" as \"01\"")),
            (
                "2026-11-21t02:16:31Z",
                Layout::Seconds,
                seconds("\"t02:16:31Z\" as \"T\""),
            ),
            (
                "2026-11-21T02:16:31",
                Layout::Seconds,
                seconds("\"\" as \"Z07:00\""),
            ),
            (
                "2026-11-21T02:16:31.Z",
                Layout::Seconds,
                seconds("\".Z\" as \"Z07:00\""),
            ),
            (
                "2026-11-21T02:16:31*01:00",
                Layout::Seconds,
                seconds("\"*01:00\" as \"Z07:00\""),
            ),
            (
                "2026-13-21T02:16:31Z",
                Layout::Seconds,
                ": month out of range".to_owned(),
            ),
            (
                "2026-02-29T02:16:31Z",
                Layout::Seconds,
                ": day out of range".to_owned(),
            ),
            (
                "2026-02-28T24:16:31Z",
                Layout::Seconds,
                ": hour out of range".to_owned(),
            ),
            (
                "2026-02-28T23:16:60Z",
                Layout::Seconds,
                ": second out of range".to_owned(),
            ),
            (
                "2026-02-28T23:16:59+25:00",
                Layout::Seconds,
                ": time zone offset hour out of range".to_owned(),
            ),
            (
                "2026-02-28T23:16:59Zulu",
                Layout::Seconds,
                ": extra text: \"ulu\"".to_owned(),
            ),
            (
                "9999-12-31T23:59:30-12:00",
                Layout::Seconds,
                ": year out of range".to_owned(),
            ),
            (
                "2026-11-21T02:16:31Z",
                Layout::Micros,
                micros("\"Z\" as \".000000\""),
            ),
            (
                "2026-11-21T02:16:31.5Z",
                Layout::Micros,
                micros("\".5Z\" as \".000000\""),
            ),
            (
                "2026-11-21T02:16:31.1234567Z",
                Layout::Micros,
                micros("\"7Z\" as \"Z07:00\""),
            ),
        ] {
            let said = format!("parsing time \"{text}\"{said}");
            assert_eq!(read(text, layout), Err(said));
        }
        let odd = read("ü\"", Layout::Seconds).unwrap_err();
        assert!(
            odd.starts_with("parsing time \"\\xc3\\xbc\\\"\" as"),
            "{odd}"
        );
    }
}
