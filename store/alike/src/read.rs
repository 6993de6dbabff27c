//! Bytes to the text again. What does not fit together ends it.

use std::ops::Range;

use crate::literal::{DIGITS, Form, HEX, Known, NUMBER_MORE, NUMBER_SHIFT, SKIPS};

/// Bits of the longest number.
const NUMBER_BITS: u32 = 32;

pub(crate) struct Reader<'a> {
    own: &'a [u8],
    /// What is left of the like text.
    like: &'a [u8],
    into: &'a mut [u8],
    filled: usize,
    known: Known,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(own: &'a [u8], like: &'a [u8], into: &'a mut [u8]) -> Reader<'a> {
        Reader {
            own,
            like,
            into,
            filled: 0,
            known: Known::new(),
        }
    }

    /// None where it is damaged.
    pub(crate) fn run(mut self) -> Option<()> {
        while !self.own.is_empty() {
            let copied = self.number()?;
            let copied = self.like(copied)?;
            self.put(copied)?;
            self.literal()?;
        }
        let rest = self.like;
        self.put(rest)?;
        (self.filled == self.into.len()).then_some(())
    }

    fn literal(&mut self) -> Option<()> {
        let tag = *self.own(1)?.first()?;
        let form = Form::of_tag(tag)?;
        let mut number = usize::from(tag >> NUMBER_SHIFT);
        if number == NUMBER_MORE {
            number += self.number()?;
        }
        let again = match form {
            Form::Again => Some(self.known.latest(number)?),
            Form::Raw | Form::Hex | Form::Dashed | Form::Digits => None,
        };
        let len = again.as_ref().map_or(number, Range::len);
        let skipped = match tag & SKIPS {
            0 => len,
            _ => self.number()?,
        };
        let skipped = self.like(skipped)?;
        let start = self.filled;
        if let Some(place) = again {
            return self.again(place);
        }
        match form {
            Form::Hex => self.halves(len, HEX)?,
            Form::Digits => self.halves(len, DIGITS)?,
            Form::Dashed => self.dashed(skipped)?,
            Form::Raw | Form::Again => {
                let raw = self.own(len)?;
                self.put(raw)?;
            }
        }
        self.known.keep(start..self.filled);
        Some(())
    }

    fn own(&mut self, len: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.own.split_at_checked(len)?;
        self.own = rest;
        Some(first)
    }

    fn like(&mut self, len: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.like.split_at_checked(len)?;
        self.like = rest;
        Some(first)
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = 0;
        for shift in (0..NUMBER_BITS).step_by(7) {
            let byte = *self.own(1)?.first()?;
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// The place of the next bytes, which are taken as filled.
    fn place(&mut self, len: usize) -> Option<&mut [u8]> {
        let start = self.filled;
        let end = start.checked_add(len)?;
        let place = self.into.get_mut(start..end)?;
        self.filled = end;
        Some(place)
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.place(bytes.len())?.copy_from_slice(bytes);
        Some(())
    }

    fn again(&mut self, place: Range<usize>) -> Option<()> {
        let (before, after) = self.into.split_at_mut_checked(self.filled)?;
        let again = before.get(place)?;
        after.get_mut(..again.len())?.copy_from_slice(again);
        self.filled += again.len();
        Some(())
    }

    fn halves(&mut self, len: usize, letters: &[u8; 16]) -> Option<()> {
        let packed = self.own(len.div_ceil(2))?;
        let place = self.place(len)?;
        for (pair, byte) in place.chunks_mut(2).zip(packed) {
            let halves = [byte >> 4, byte & 0xf];
            for (letter, half) in pair.iter_mut().zip(halves) {
                *letter = letters[usize::from(half)];
            }
        }
        Some(())
    }

    fn dashed(&mut self, like: &[u8]) -> Option<()> {
        let digits = like.iter().filter(|letter| **letter != b'-').count();
        let packed = self.own(digits.div_ceil(2))?;
        let place = self.place(like.len())?;
        let mut halves = packed.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        for (letter, like) in place.iter_mut().zip(like) {
            *letter = match like {
                b'-' => b'-',
                _ => HEX[usize::from(halves.next()?)],
            };
        }
        Some(())
    }
}
