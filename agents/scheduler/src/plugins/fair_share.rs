//! FairShare: namespaces take turns, the one that has least of what the cluster has first (`shares`); within a namespace
//! priority and time decide.

use super::Sort;

pub(super) const SORT: Sort = Sort {
    name: "FairShare",
    rank: |_| 0,
    by_share: true,
};
