//! JSON as what differs from other JSON. Two pods of one template say the same for thousands of bytes, and differ in names,
//! identities, times and addresses. What is kept of the one beside the other is where these are, and each in as few bits as
//! its letters need; what one says several times is kept once.
//!
//! What is packed is a row of steps: take so many bytes as the like text has them, leave out the next so many of it, and have
//! these instead. So any bytes come back as they were, JSON or not; it is only from JSON that little is left. Where the steps
//! end the rest is as the like text has it. Architecture invariant: bytes to bytes, no state.

mod literal;
mod read;
mod walk;
mod write;

use std::fmt;

use self::read::Reader;
use self::walk::Walk;
use self::write::Writer;

/// What is not half as long as the text is not worth it.
const SHARE: usize = 2;

/// What differs in `text` from `like`, for [`unpack`]; none where the two are little alike, so that half of the text or more
/// would be kept.
pub fn pack(text: &[u8], like: &[u8]) -> Option<Vec<u8>> {
    pack_within(text, like, text.len() / SHARE)
}

fn pack_within(text: &[u8], like: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut writer = Writer::new(text, like);
    for step in Walk::new(text, like) {
        writer.put(&step);
        if writer.own.len() > most {
            return None;
        }
    }
    Some(writer.own)
}

/// Makes the text again from what [`pack`] has made of it and the like text. `into` has the length of the text and is filled.
///
/// # Errors
/// What was not packed so, or against something else, or from a text of another length. Not every damage is seen: where the
/// length comes out right, `into` has other bytes.
pub fn unpack(own: &[u8], like: &[u8], into: &mut [u8]) -> Result<(), Damaged> {
    Reader::new(own, like, into).run().ok_or(Damaged)
}

/// This is not what a text of that length was packed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is not what a text of that length was packed to")
    }
}

impl std::error::Error for Damaged {}

#[cfg(test)]
mod tests;
