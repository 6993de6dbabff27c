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

/// A text that is nearly always empty, and then takes one word.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seldom(Option<Box<Text>>);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Seldom {
    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().map_or("", Text::as_str)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<String> for Seldom {
    fn from(text: String) -> Self {
        Self((!text.is_empty()).then(|| Box::new(text.into())))
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Serialize for Seldom {
    fn serialize<S: Serializer>(&self, encoder: S) -> Result<S::Ok, S::Error> {
        encoder.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Seldom {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        String::deserialize(decoder).map(Self::from)
    }
}

/// What has `as_str` is read and compared like a text.
macro_rules! texts {
    ($($name:ident)*) => { $(
        impl Exact for $name {}

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                self.as_str()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                text.to_owned().into()
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl PartialEq<String> for $name {
            fn eq(&self, other: &String) -> bool {
                self.as_str() == other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.as_str(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    )* };
}
texts!(Text Seldom);

/// When something happened, read once; by default never. What is not RFC 3339 counts as never, too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Micros);

impl Exact for Time {}

impl Default for Time {
    fn default() -> Self {
        Self(Micros::MIN)
    }
}

impl From<Option<Micros>> for Time {
    fn from(micros: Option<Micros>) -> Self {
        micros.map_or_else(Self::default, Self)
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
                Ok(timestamp::parse(text).into())
            }
        }

        decoder.deserialize_str(Moment)
    }
}

/// A list that nearly always is empty, and then takes one word.
#[derive(Clone, PartialEq, Eq, Hash)]
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

impl<T: PartialEq<U>, U, const N: usize> PartialEq<[U; N]> for Few<T> {
    fn eq(&self, other: &[U; N]) -> bool {
        self[..] == other[..]
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
        assert_eq!(some, [1, 2]);
        assert_eq!(serde_json::to_string(&some).unwrap(), "[1,2]");
    }

    #[test]
    fn texts_compare_like_strings() {
        let text: Text = serde_json::from_str(r#""a\n""#).unwrap();
        let owned = "a\n".to_owned();
        assert!(text == "a\n" && text == owned && text != *"a");
        assert_eq!(format!("{text}{text:?}"), "a\n\"a\\n\"");
        assert_eq!((text.len(), Text::default().as_str()), (2, ""));
        assert_eq!((size_of::<Text>(), size_of::<Seldom>()), (16, 8));
        let read = |text: &str| serde_json::from_str::<Seldom>(text).unwrap();
        let (none, some) = (read(r#""""#), read(r#""a""#));
        assert_eq!((&none, none.as_str()), (&Seldom::default(), ""));
        assert!(some == "a" && some != none && some.starts_with('a'));
        assert_eq!(serde_json::to_string(&some).unwrap(), r#""a""#);
    }
}
