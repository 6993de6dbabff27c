//! Steps to bytes.

use crate::literal::{
    DIGIT_PLACES, Form, HEX_PLACES, Known, NOWHERE, NUMBER_MORE, NUMBER_SHIFT, SKIPS,
};
use crate::walk::Step;

/// What two texts that are alike differ by.
const OWN_USUAL: usize = 256;

pub(crate) struct Writer<'a> {
    text: &'a [u8],
    like: &'a [u8],
    /// How far the like text is gone through.
    beside: usize,
    known: Known,
    pub(crate) own: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(text: &'a [u8], like: &'a [u8]) -> Writer<'a> {
        Writer {
            text,
            like,
            beside: 0,
            known: Known::new(),
            own: Vec::with_capacity(OWN_USUAL),
        }
    }

    pub(crate) fn put(&mut self, step: &Step) {
        let literal = &self.text[step.own.clone()];
        let start = self.beside + step.copied;
        let skipped = &self.like[start..start + step.skipped];
        self.beside = start + step.skipped;
        self.number(step.copied);
        let known = self.known.find(self.text, literal);
        let form = match known {
            Some(_) => Form::Again,
            None => form_of(literal, skipped),
        };
        let skips = skipped.len() != literal.len();
        self.head(form, known.unwrap_or(literal.len()), skips);
        if skips {
            self.number(skipped.len());
        }
        match form {
            Form::Raw => self.own.extend_from_slice(literal),
            Form::Hex => self.halves(literal.iter(), &HEX_PLACES),
            Form::Digits => self.halves(literal.iter(), &DIGIT_PLACES),
            Form::Dashed => {
                let digits = literal.iter().filter(|byte| **byte != b'-');
                self.halves(digits, &HEX_PLACES);
            }
            Form::Again => return,
        }
        self.known.keep(step.own.clone());
    }

    fn head(&mut self, form: Form, number: usize, skips: bool) {
        let skips = if skips { SKIPS } else { 0 };
        let few = number.min(NUMBER_MORE);
        let number_bits = (few as u8) << NUMBER_SHIFT;
        self.own.push(form.tag() | skips | number_bits);
        if few == NUMBER_MORE {
            self.number(number - NUMBER_MORE);
        }
    }

    /// Seven bits a byte, the low ones first, and a bit that says that there are more.
    fn number(&mut self, mut number: usize) {
        while number > 0x7f {
            self.own.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.own.push(number as u8);
    }

    /// Letters by their places, the first in the high half of a byte.
    fn halves<'b>(&mut self, letters: impl Iterator<Item = &'b u8>, places: &[u8; 256]) {
        let mut first = None;
        for letter in letters {
            let place = places[usize::from(*letter)];
            match first.take() {
                None => first = Some(place << 4),
                Some(high) => self.own.push(high | place),
            }
        }
        self.own.extend(first);
    }
}

/// The form that takes the fewest bytes, of one that was not there before.
fn form_of(literal: &[u8], skipped: &[u8]) -> Form {
    let are_all = |places: &[u8; 256]| {
        let mut letters = literal.iter();
        letters.all(|letter| places[usize::from(*letter)] != NOWHERE)
    };
    if literal.is_empty() {
        Form::Raw
    } else if are_all(&DIGIT_PLACES) {
        Form::Digits
    } else if are_all(&HEX_PLACES) {
        Form::Hex
    } else if is_dashed(literal, skipped) {
        Form::Dashed
    } else {
        Form::Raw
    }
}

fn is_dashed(literal: &[u8], skipped: &[u8]) -> bool {
    let mut pairs = literal.iter().zip(skipped);
    let is_digit = |letter: u8| HEX_PLACES[usize::from(letter)] != NOWHERE;
    literal.len() == skipped.len()
        && pairs.all(|(own, like)| match like {
            b'-' => *own == b'-',
            _ => is_digit(*own),
        })
}
