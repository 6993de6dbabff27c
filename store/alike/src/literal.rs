//! The forms in which bytes are kept that the like text has not.

use std::ops::Range;

/// In how many bits the letters are kept, or where they are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are.
    Raw,
    /// Two hexadecimal digits a byte: a container's identity.
    Hex,
    /// The same, of as many bytes as are left out, and with dashes where these have them: a UID.
    Dashed,
    /// Two of [`DIGITS`] a byte: times, addresses, numbers.
    Digits,
    /// As one kept before.
    Again,
}

/// Bits of a step's first byte that tell the form.
pub(crate) const FORM_BITS: u8 = 0b111;
/// Set where it is told how much is left out; else that is as much as is put in its place.
pub(crate) const SKIPS: u8 = 1 << 3;
/// Above these is the length, or which one it is again; the largest number says that the rest of it follows.
pub(crate) const NUMBER_SHIFT: u32 = 4;
pub(crate) const NUMBER_MORE: usize = 15;

pub(crate) const HEX: &[u8; 16] = b"0123456789abcdef";
pub(crate) const DIGITS: &[u8; 16] = b"0123456789.-:TZ/";
pub(crate) static HEX_PLACES: [u8; 256] = places(HEX);
pub(crate) static DIGIT_PLACES: [u8; 256] = places(DIGITS);
/// The place of a letter that is not among them.
pub(crate) const NOWHERE: u8 = u8::MAX;

const fn places(letters: &[u8; 16]) -> [u8; 256] {
    let mut places = [NOWHERE; 256];
    let mut at = 0;
    while at < letters.len() {
        places[letters[at] as usize] = at as u8;
        at += 1;
    }
    places
}

impl Form {
    pub(crate) fn tag(self) -> u8 {
        match self {
            Form::Raw => 0,
            Form::Hex => 1,
            Form::Dashed => 2,
            Form::Digits => 3,
            Form::Again => 4,
        }
    }

    pub(crate) fn of_tag(tag: u8) -> Option<Form> {
        let all = [
            Form::Raw,
            Form::Hex,
            Form::Dashed,
            Form::Digits,
            Form::Again,
        ];
        all.into_iter().find(|form| form.tag() == tag & FORM_BITS)
    }
}

/// Shorter ones take no more than to say that they come again.
const KNOWN_LEN_MIN: usize = 3;
/// So many are known.
const KNOWN: usize = 32;

/// Where in the text the latest ones are that were put there. Writer and reader have the same.
pub(crate) struct Known {
    places: [(usize, usize); KNOWN],
    count: usize,
}

impl Known {
    pub(crate) fn new() -> Known {
        Known {
            places: [(0, 0); KNOWN],
            count: 0,
        }
    }

    pub(crate) fn keep(&mut self, place: Range<usize>) {
        if place.len() >= KNOWN_LEN_MIN {
            self.places[self.count % KNOWN] = (place.start, place.end);
            self.count += 1;
        }
    }

    /// The latest is 0.
    pub(crate) fn latest(&self, back: usize) -> Option<Range<usize>> {
        if back >= self.count.min(KNOWN) {
            return None;
        }
        let (start, end) = self.places[(self.count - 1 - back) % KNOWN];
        Some(start..end)
    }

    /// Which one has these letters.
    pub(crate) fn find(&self, text: &[u8], literal: &[u8]) -> Option<usize> {
        if literal.len() < KNOWN_LEN_MIN {
            return None;
        }
        let mut all = (0..KNOWN).map_while(|back| self.latest(back));
        all.position(|place| text[place] == *literal)
    }
}
