//! PrioritySort: priority, then time, which is what decides in every sort where nothing else does.

use super::Sort;

pub(super) const SORT: Sort = Sort {
    name: "PrioritySort",
    rank: |_| 0,
    by_share: false,
};
