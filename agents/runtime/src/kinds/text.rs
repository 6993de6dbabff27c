//! Fields that take little room: there are a hundred thousand of each.

use super::Exact;
use crate::timestamp::{self, Micros};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

/// A text that does not grow: two words and exactly its length, where a `String` has a third word for room to grow.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(Box<str>);

impl Exact for Text {}

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        *self.0 == **other
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// When something happened, read once; by default never. What is not RFC 3339 counts as never, too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Micros);

impl Exact for Time {}

impl Default for Time {
    fn default() -> Self {
        Self(Micros::MIN)
    }
}

impl Time {
    /// When; none for never.
    pub fn micros(self) -> Option<Micros> {
        (self != Self::default()).then_some(self.0)
    }

    /// As it is written down; none for never.
    pub fn text(self) -> Option<String> {
        let micros = self.micros()?;
        Some(match micros.rem_euclid(timestamp::seconds(1)) {
            0 => timestamp::time(micros),
            _ => timestamp::micro_time(micros),
        })
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text().unwrap_or_default())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, encoder: S) -> Result<S::Ok, S::Error> {
        encoder.serialize_str(&self.text().unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        struct Moment;

        impl Visitor<'_> for Moment {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
                Ok(timestamp::parse(text).map_or_else(Time::default, Time))
            }
        }

        decoder.deserialize_str(Moment)
    }
}

/// A list that nearly always is empty, and then takes one word.
#[derive(Clone, PartialEq)]
pub struct Few<T>(Option<Box<Box<[T]>>>);

impl<T> Exact for Few<T> {}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Some(all) => all,
            None => &[],
        }
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(all: Vec<T>) -> Self {
        Self((!all.is_empty()).then(|| Box::new(all.into_boxed_slice())))
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Serialize> Serialize for Few<T> {
    fn serialize<S: Serializer>(&self, encoder: S) -> Result<S::Ok, S::Error> {
        encoder.collect_seq(self.iter())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        Vec::deserialize(decoder).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Pod;
    use serde_json::json;

    #[test]
    fn times_are_written_as_they_were_read_or_not_at_all() {
        let of = |times: [&str; 2]| {
            let pod = json!({"metadata": {"creationTimestamp": times[0]}, "status": {"startTime": times[1]}});
            serde_json::from_value::<Pod>(pod).unwrap()
        };
        let times = ["2026-01-01T00:00:01Z", "2026-01-01T00:00:01.500000Z"];
        let pod = of(times);
        let written = serde_json::to_value(&pod).unwrap();
        assert_eq!(written["metadata"]["creationTimestamp"], times[0]);
        assert_eq!(written["status"]["startTime"], times[1]);
        assert_eq!(pod.metadata.created(), timestamp::parse(times[0]).unwrap());
        assert!(pod.metadata.creation_timestamp < pod.status.start_time);
        let never = of(["", "yesterday"]);
        assert_eq!(never, Pod::default());
        assert_eq!(never.status.start_time.micros(), None);
        assert_eq!(serde_json::to_value(&never).unwrap(), json!({}));
    }

    #[test]
    fn what_is_nearly_always_empty_takes_a_word() {
        assert_eq!(size_of::<Few<String>>(), size_of::<usize>());
        let read = |text: &str| serde_json::from_str::<Few<i32>>(text).unwrap();
        assert!(read("[]").is_empty() && read("[]") == Few::default());
        let some = read("[1, 2]");
        assert_eq!(some.iter().sum::<i32>(), 3);
        assert_eq!(serde_json::to_string(&some).unwrap(), "[1,2]");
    }

    #[test]
    fn texts_compare_like_strings() {
        let text: Text = serde_json::from_str(r#""a\n""#).unwrap();
        let owned = "a\n".to_owned();
        assert!(text == "a\n" && text == owned && text != *"a");
        assert_eq!(format!("{text}{text:?}"), "a\n\"a\\n\"");
        assert_eq!((text.len(), Text::default().as_str()), (2, ""));
        assert_eq!(size_of::<Option<Text>>(), 16);
    }
}
