//! What a cluster that nobody disturbs any more is asked.

use crate::recording::{Outcome, Put, Range, Request};

/// What a member is asked at the end: it has to write and to read.
pub fn last_words(member: u64) -> [Request; 2] {
    let key = format!("end/{member}");
    let read = Range {
        key: key.clone(),
        ..Range::default()
    };
    let put = Put {
        key,
        value: "here".into(),
        ..Put::default()
    };
    [Request::Put(put), Request::Range(read)]
}

pub fn is_answered(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Ok { .. })
}
