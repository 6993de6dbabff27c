//! A fault in the recording, for as long as it lasts.

use super::plan::Planned;
use super::rig::Rig;

/// Over when this goes.
pub struct Under<'a> {
    rig: &'a Rig,
    number: usize,
}

impl<'a> Under<'a> {
    pub fn new(rig: &'a Rig, fault: &Planned, what: String, members: &[usize]) -> Under<'a> {
        let ids = rig.ids(members.iter().copied());
        let number = rig.recorder().fault(fault.kind.name(), what, ids);
        Under { rig, number }
    }

    /// Adds to what it was, in words.
    pub fn note(&self, words: &str) {
        self.rig.recorder().noted(self.number, words);
    }
}

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.rig.recorder().undone(self.number);
    }
}
