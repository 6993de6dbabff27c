//! The text of a pod, as what differs from that of another pod of the same owner: the pods of one template differ by little
//! more than their names and times, and an eighth of their text is that.

use std::borrow::Cow;
use std::cell::RefCell;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use lz4_flex::block;

/// Shorter texts are hardly worth it, and the compressor sees no further than the larger number.
const PACKED_MIN: usize = 512;
const PACKED_MAX: usize = 64 << 10;
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
            let mut like = lately[at].clone();
            let mut own = pack(text, &like);
            if like.is_empty() || own.len() > text.len() / 4 {
                // The next may be more like this one. What it is little like it had better not keep in memory.
                lately[at] = text.into();
                like = Arc::default();
                own = pack(text, "");
            }
            match own.len() <= text.len() / 2 {
                true => Text::Packed {
                    like,
                    own: own.into(),
                    len: text.len() as u32,
                },
                false => Text::Plain(text.into()),
            }
        })
    }

    pub(super) fn whole(&self) -> Cow<'_, str> {
        match self {
            Text::Plain(text) => Cow::Borrowed(text),
            Text::Packed { like, own, len } => {
                let whole = block::decompress_with_dict(own, *len as usize, like.as_bytes());
                let whole = whole.ok().and_then(|whole| String::from_utf8(whole).ok());
                Cow::Owned(whole.unwrap_or_default())
            }
        }
    }
}

fn pack(text: &str, like: &str) -> Vec<u8> {
    match like.is_empty() {
        true => block::compress(text.as_bytes()),
        false => block::compress_with_dict(text.as_bytes(), like.as_bytes()),
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
            assert!(matches!(text, Text::Packed { own, .. } if own.len() < 100));
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
            assert!(matches!(&packed, Text::Packed { like, .. } if like.is_empty()));
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
