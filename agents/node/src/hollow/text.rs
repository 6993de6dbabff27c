//! The text of a pod, as what differs from that of another pod of the same owner: the pods of one template differ by little
//! more than their names and times, and a twentieth of their text is that.

use std::borrow::Cow;
use std::cell::RefCell;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

/// Shorter texts are hardly worth it, and longer ones are seldom of a template.
const PACKED_MIN: usize = 512;
const PACKED_MAX: usize = 64 << 10;
/// A text of which a larger share is its own is kept whole, and the next ones as what differs from it.
const OWN_SHARE: usize = 4;
/// Texts of so many owners are remembered by each thread.
const REMEMBERED: usize = 256;

thread_local! {
    static LATELY: RefCell<Vec<Arc<str>>> = const { RefCell::new(Vec::new()) };
}

/// See the module head.
#[derive(Clone)]
pub(super) enum Text {
    Plain(Box<str>),
    Packed {
        like: Arc<str>,
        /// Nothing, where it is the very text that others are packed against.
        own: Box<[u8]>,
        len: u32,
    },
}

impl Text {
    /// `owner` is what texts that are alike have in common.
    pub(super) fn of(text: &str, owner: &str) -> Text {
        if !(PACKED_MIN..=PACKED_MAX).contains(&text.len()) {
            return Text::Plain(text.into());
        }
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(owner);
        let at = hash as usize % REMEMBERED;
        LATELY.with_borrow_mut(|lately| {
            if lately.is_empty() {
                lately.resize_with(REMEMBERED, Arc::<str>::default);
            }
            let own = alike::pack(text.as_bytes(), lately[at].as_bytes());
            let own = own.filter(|own| own.len() <= text.len() / OWN_SHARE);
            let own = own.unwrap_or_else(|| {
                // The next may be more like this one. What it is little like it had better not keep in memory.
                lately[at] = text.into();
                Vec::new()
            });
            Text::Packed {
                like: lately[at].clone(),
                own: own.into(),
                len: text.len() as u32,
            }
        })
    }

    pub(super) fn whole(&self) -> Cow<'_, str> {
        match self {
            Text::Plain(text) => Cow::Borrowed(text),
            Text::Packed { like, own, .. } if own.is_empty() => Cow::Borrowed(like),
            Text::Packed { like, own, len } => {
                let mut whole = vec![0; *len as usize];
                let unpacked = alike::unpack(own, like.as_bytes(), &mut whole);
                let whole = unpacked.ok().and_then(|()| String::from_utf8(whole).ok());
                Cow::Owned(whole.unwrap_or_default())
            }
        }
    }
}

impl Default for Text {
    fn default() -> Text {
        Text::Plain(Box::default())
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.whole() == other.whole()
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.whole())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pod(name: &str, template: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"containers":[{{"args":["{template}"]}}]}}}}"#
        )
    }

    #[test]
    fn pods_of_an_owner_take_little_beside_the_first() {
        let template: String = (0..200).map(|at| format!("argument {at}, ")).collect();
        let texts = ["a", "b", "c"].map(|name| pod(name, &template));
        let packed = texts.each_ref().map(|text| Text::of(text, "owner"));
        for (text, packed) in texts.iter().zip(&packed) {
            assert_eq!(packed.whole(), *text);
        }
        for text in &packed[1..] {
            assert!(matches!(text, Text::Packed { own, .. } if own.len() < 10));
        }
        assert!(packed[1] != packed[2] && packed[1] == Text::of(&texts[1], "somebody else"));
        assert!(matches!(Text::of("short", "owner"), Text::Plain(_)));
        assert_eq!(Text::default().whole(), "");
    }

    #[test]
    fn a_text_that_is_little_like_another_does_not_keep_that_one() {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let template = |seed: u64| -> String {
            let words = (0..38_u64).map(|at| format!("{:016x}", hasher.hash_one((seed, at))));
            words.collect::<String>().repeat(3)
        };
        for seed in 0..4 {
            let text = pod("a", &template(seed));
            let packed = Text::of(&text, "owner");
            assert_eq!(packed.whole(), text);
            assert!(
                matches!(&packed, Text::Packed { like, own, .. } if own.is_empty() && **like == *text)
            );
        }
    }

    proptest! {
        #[test]
        fn every_text_comes_back(texts in prop::collection::vec("(a pod|[a-z]{3}|.){150,400}", 1..6)) {
            for text in texts {
                let packed = Text::of(&text, "owner");
                prop_assert_eq!(packed.whole(), text);
            }
        }
    }
}
