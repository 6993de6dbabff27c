//! Where two texts differ. It is found by looking around the place where they cease to be the same, which may be misread in
//! what is not JSON, or cut oddly: then more is kept than had to be, and nothing else.

use std::ops::Range;

/// Bytes that are compared at once.
const WIDE: usize = 16;
/// Bytes before a difference among which the beginning of a string is looked for.
const STRING_SEEN: usize = 512;
/// A word that differs ends where so much after it is the same.
const WORD_NEXT: usize = 8;
const WORD_LEN_MAX: usize = 80;
/// Of members or elements that only one of them has, so many bytes are looked through for where they are alike again.
const REACH: usize = 4096;
/// What is looked for there ends with a name, and has so many bytes.
const ANCHOR_MIN: usize = 4;
const ANCHOR_MAX: usize = 64;
/// So many places are looked at together for where one may begin.
const PLACES_WIDE: usize = 64;
/// Where both have something else, so many places of the text are looked for in the other.
const PLACES_MAX: usize = 24;
/// Bytes that are looked through, for each of the texts', and at most. Past that they are taken to be unlike.
const SOUGHT: usize = 8;
const SOUGHT_MAX: usize = 256 << 10;

/// After so many bytes as in the like text, some of it are left out, and bytes of the text are in their place.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) copied: usize,
    pub(crate) skipped: usize,
    pub(crate) own: Range<usize>,
}

/// Goes through two texts at once. After the last step the rest is the same.
pub(crate) struct Walk<'a> {
    text: &'a [u8],
    like: &'a [u8],
    /// How far each is gone through.
    at: usize,
    beside: usize,
    /// How many bytes may still be looked through.
    sought: usize,
}

/// From so many bytes before the place where the texts cease to be the same, so many bytes of each are not in the other.
struct Difference {
    before: usize,
    text: usize,
    like: usize,
}

impl Iterator for Walk<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let same = same(&self.text[self.at..], &self.like[self.beside..]);
        if self.at + same == self.text.len() && self.beside + same == self.like.len() {
            return None;
        }
        let found = self.difference(same);
        let copied = same - found.before;
        let start = self.at + copied;
        self.at = start + found.text;
        self.beside += copied + found.like;
        Some(Step {
            copied,
            skipped: found.like,
            own: start..self.at,
        })
    }
}

impl<'a> Walk<'a> {
    pub(crate) fn new(text: &'a [u8], like: &'a [u8]) -> Walk<'a> {
        Walk {
            text,
            like,
            at: 0,
            beside: 0,
            sought: SOUGHT_MAX.min(SOUGHT * (text.len() + like.len())),
        }
    }

    /// What differs after so many bytes that do not.
    fn difference(&mut self, same: usize) -> Difference {
        let (before, text) = self.text.split_at(self.at + same);
        let like = &self.like[self.beside + same..];
        if let Some((text, like)) = value(before, text, like) {
            return Difference {
                before: 0,
                text,
                like,
            };
        }
        // A name that differs differs as a whole, unless its beginning is gone by.
        let name = opening(before).map_or(0, |start| before.len() - start);
        let name = if name <= same { name } else { 0 };
        let text = &self.text[self.at + same - name..];
        let like = &self.like[self.beside + same - name..];
        let found = self.members(text, like);
        let (text, like) = found.unwrap_or_else(|| trimmed(text, like));
        Difference {
            before: name,
            text,
            like,
        }
    }

    /// How much each has of members or elements before both go on alike; none where that is not found.
    fn members(&mut self, text: &[u8], like: &[u8]) -> Option<(usize, usize)> {
        let is_on = |at: &usize| *at > 0;
        let added = self.find(anchor(like), text).filter(is_on);
        let sought = anchor(text);
        // What is no nearer than the other one counts for nothing.
        let within = match added {
            Some(added) if sought.len() >= ANCHOR_MIN => {
                &like[..like.len().min(added + sought.len() - 1)]
            }
            Some(_) | None => like,
        };
        let removed = self.find(sought, within).filter(is_on);
        match (added, removed) {
            (Some(added), Some(removed)) if added > removed => return Some((0, removed)),
            (Some(added), _) => return Some((added, 0)),
            (None, Some(removed)) => return Some((0, removed)),
            (None, None) => {}
        }
        let near = &text[..text.len().min(REACH)];
        let mut at = 0;
        for _ in 0..PLACES_MAX {
            at += token(near.get(at..)?);
            while !matches!(near.get(at)?, b',' | b'}' | b']') {
                at += token(&near[at..]);
            }
            if let Some(other) = self.find(anchor(&text[at..]), like) {
                return Some((at, other));
            }
        }
        None
    }

    /// Where this is within reach.
    fn find(&mut self, anchor: &[u8], within: &[u8]) -> Option<usize> {
        if anchor.len() < ANCHOR_MIN {
            // It is all that is left.
            let at = within.len().checked_sub(anchor.len())?;
            return within.ends_with(anchor).then_some(at);
        }
        let within = &within[..within.len().min(REACH)];
        self.sought = self.sought.checked_sub(within.len())?;
        place_of(anchor, within)
    }
}

/// Where this stands first. Of most places a look at many at once shows that it does not begin there.
fn place_of(anchor: &[u8], within: &[u8]) -> Option<usize> {
    let head = anchor.first_chunk::<ANCHOR_MIN>()?;
    let places = (within.len() + 1).checked_sub(anchor.len())?;
    let mut at = 0;
    while at < places {
        let end = places.min(at + PLACES_WIDE);
        let wide = within[at..].first_chunk::<{ PLACES_WIDE + ANCHOR_MIN - 1 }>();
        if wide.is_none_or(|wide| has_head(wide, *head)) {
            let found = (at..end).find(|at| within[*at..].starts_with(anchor));
            if found.is_some() {
                return found;
            }
        }
        at = end;
    }
    None
}

/// Whether these bytes stand in one of the places. All are compared, without a jump: so a processor compares many in one step.
fn has_head(wide: &[u8; PLACES_WIDE + ANCHOR_MIN - 1], head: [u8; ANCHOR_MIN]) -> bool {
    let [a, b, c, d] = head;
    let mut found = false;
    for at in 0..PLACES_WIDE {
        let is_here =
            (wide[at] == a) & (wide[at + 1] == b) & (wide[at + 2] == c) & (wide[at + 3] == d);
        found |= is_here;
    }
    found
}

/// How many bytes are the same.
fn same(text: &[u8], like: &[u8]) -> usize {
    let (wide, _) = text.as_chunks::<WIDE>();
    let (wide_like, _) = like.as_chunks::<WIDE>();
    let wide = wide.iter().zip(wide_like);
    let wide = WIDE * wide.take_while(|(one, other)| one == other).count();
    let rest = text[wide..].iter().zip(&like[wide..]);
    wide + rest.take_while(|(one, other)| one == other).count()
}

/// The lengths without what both end with.
fn trimmed(text: &[u8], like: &[u8]) -> (usize, usize) {
    let ends = text.iter().rev().zip(like.iter().rev());
    let same = ends.take_while(|(one, other)| one == other).count();
    (text.len() - same, like.len() - same)
}

/// How much differs of the values in which these begin to differ; none where they are not two values, or not of one kind.
fn value(before: &[u8], text: &[u8], like: &[u8]) -> Option<(usize, usize)> {
    let found = word(text, like);
    let found = found.or_else(|| match opening(before) {
        Some(_) => string(before, text, like),
        None => scalar(before, text, like),
    });
    let (text_len, like_len) = found?;
    let found = trimmed(&text[..text_len], &like[..like_len]);
    (found != (0, 0)).then_some(found)
}

/// The ends of what is left of the words that differ, where the texts go on alike there.
fn word(text: &[u8], like: &[u8]) -> Option<(usize, usize)> {
    let end = |rest: &[u8]| {
        let mut letters = rest.iter().take(WORD_LEN_MAX);
        letters.position(|letter| !letter.is_ascii_alphanumeric())
    };
    let (text_end, like_end) = (end(text)?, end(like)?);
    let next = text[text_end..].first_chunk::<WORD_NEXT>()?;
    let is_same = like[like_end..].starts_with(next);
    (is_same && !is_name(text, text_end)).then_some((text_end, like_end))
}

/// The ends of strings that are not names. Names that differ in a number, as those of list entries by their address, say the
/// same of something else.
fn string(before: &[u8], text: &[u8], like: &[u8]) -> Option<(usize, usize)> {
    let is_escaped = is_escaped(before, before.len());
    let (text_end, like_end) = (closing(text, is_escaped), closing(like, is_escaped));
    let is_digit = |rest: &[u8]| rest.first().is_some_and(u8::is_ascii_digit);
    let are_values = !is_name(text, text_end) && !is_name(like, like_end);
    (are_values || is_digit(text) && is_digit(like)).then_some((text_end, like_end))
}

/// The ends of numbers, and of words that stand for values.
fn scalar(before: &[u8], text: &[u8], like: &[u8]) -> Option<(usize, usize)> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let end = |rest: &[u8]| rest.iter().take_while(|byte| is_part(byte)).count();
    let has_begun = before.last().is_some_and(is_part);
    let (text_end, like_end) = (end(text), end(like));
    let is_end = |rest: &[u8], at: usize| matches!(rest.get(at), Some(b',' | b']' | b'}'));
    let are_scalars = has_begun || text_end > 0 && like_end > 0;
    (are_scalars && is_end(text, text_end) && is_end(like, like_end))
        .then_some((text_end, like_end))
}

/// Whether the quote that closes a string is that of a member's name.
fn is_name(text: &[u8], quote: usize) -> bool {
    text[quote..].starts_with(b"\":")
}

/// Whether what is at this place stands behind a backslash of its own.
fn is_escaped(text: &[u8], at: usize) -> bool {
    let before = text[..at].iter().rev().take(STRING_SEEN);
    before.take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Where the string begins within which this ends. A string that began long ago is taken to begin here.
fn opening(before: &[u8]) -> Option<usize> {
    let from = before.len().saturating_sub(STRING_SEEN);
    let mut end = before.len();
    while let Some(at) = before[from..end].iter().rposition(|byte| *byte == b'"') {
        let at = from + at;
        if !is_escaped(before, at) {
            let may_open = at == 0 || matches!(before[at - 1], b':' | b',' | b'[' | b'{');
            let may_close = matches!(before.get(at + 1), Some(b':' | b',' | b']' | b'}'));
            return (may_open && !may_close).then_some(at);
        }
        end = at;
    }
    (from > 0).then_some(before.len())
}

/// Where the quote is that ends the string within which this begins, or where this ends.
fn closing(rest: &[u8], mut is_escaped: bool) -> usize {
    let quote = rest.iter().position(|byte| {
        let closes = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        closes
    });
    quote.unwrap_or(rest.len())
}

/// The beginning of this, to the end of the first name or string in it.
fn anchor(rest: &[u8]) -> &[u8] {
    let rest = &rest[..rest.len().min(ANCHOR_MAX)];
    let Some(quote) = rest.iter().position(|byte| *byte == b'"') else {
        return rest;
    };
    let quote = quote + 1 + closing(&rest[quote + 1..], false);
    let end = if is_name(rest, quote) {
        quote + 2
    } else {
        quote + 1
    };
    &rest[..end.max(ANCHOR_MIN).min(rest.len())]
}

/// The length of the string, number or sign at the beginning; at least 1. One that does not end is longer than what is left.
fn token(rest: &[u8]) -> usize {
    match rest.split_first() {
        Some((b'"', rest)) => closing(rest, false) + 2,
        _ => {
            let is_sign = |byte: &u8| b"\",:[]{}".contains(byte);
            rest.iter().take_while(|byte| !is_sign(byte)).count().max(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_is_found_as_by_looking_at_each(
            within in "[ab]{0,20}([ab]{3}x){0,60}[abx]{0,40}",
            anchor in "[abx]{4,9}",
            (from, len) in (0..300_usize, 4..20_usize),
        ) {
            let within = within.as_bytes();
            let part = within.get(from..from + len).unwrap_or(b"none");
            for anchor in [anchor.as_bytes(), part] {
                let mut windows = within.windows(anchor.len());
                let expected = windows.position(|window| window == anchor);
                prop_assert_eq!(place_of(anchor, within), expected);
            }
        }
    }
}
