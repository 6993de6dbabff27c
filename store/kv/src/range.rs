//! Reading a range of keys, now or as of an older revision.
//!
//! A read has two halves. [`RangePlan::new`] needs only the catalog: it refuses bad revisions, counts, and notes which
//! keys changed since the wanted revision. [`RangePlan::run`] reads data, and may do so from a snapshot of the data
//! after the catalog has moved on. An old revision is today's data with the later changes undone, each through the
//! previous value that the first later event carries; its cost is what has changed, not what there is.
//!
//! An answer in key order need not be held as a whole: its size is known beforehand, from the catalog or by a first pass
//! over the same data, and its pairs are handed out as they are read ([`RangePlan::each`], [`PartWriter`]).

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::{Bytes, BytesMut};

use crate::catalog::Catalog;
use crate::command::Refusal;
use crate::counted::{KVS_TAG, PairSize};
use crate::keys::KeyRange;
use crate::message::{KeyValue, RangeRequest, RangeResponse, SortOrder, SortTarget};
use crate::mutants::{Bug, planted};
use crate::view::{Broken, Data, EventId, View};

/// Refuses what is wrong in itself, whatever the state is.
pub fn check_range(request: &RangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(Refusal::InvalidSortOption);
    }
    Ok(())
}

impl RangeRequest {
    /// Whether pairs can be handed out as they are read. If not, they are sorted after all have been read.
    pub fn is_in_key_order(&self) -> bool {
        let by_key = self.sort_target == SortTarget::Key as i32;
        by_key && self.sort_order != SortOrder::Descend as i32
    }

    /// Whether a revision decides about each pair.
    pub fn has_filter(&self) -> bool {
        self.min_mod_revision != 0
            || self.max_mod_revision != 0
            || self.min_create_revision != 0
            || self.max_create_revision != 0
    }

    /// So many pairs are read at most; `None` where all are, whatever is shown of them.
    pub fn read_at_most(&self) -> Option<u64> {
        let limit = u64::try_from(self.limit).ok().filter(|limit| *limit > 0)?;
        (self.is_in_key_order() && !self.has_filter()).then_some(limit)
    }
}

/// Plans and runs in one go.
pub fn range(
    view: &dyn View,
    request: &RangeRequest,
) -> Result<Result<RangeResponse, Refusal>, Broken> {
    match RangePlan::new(view, request) {
        Ok(plan) => plan.run(view).map(Ok),
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// Refuses a revision that cannot be read.
pub(crate) fn check_revision(view: &dyn View, revision: i64) -> Result<(), Refusal> {
    if revision > view.revision() {
        return Err(Refusal::FutureRevision);
    }
    let compact_revision = view.compact_revision();
    if revision > 0 && revision < compact_revision && !planted(Bug::ReadsCompacted) {
        return Err(Refusal::Compacted { compact_revision });
    }
    Ok(())
}

/// See the module head.
pub struct RangePlan {
    request: RangeRequest,
    range: KeyRange,
    count: i64,
    /// Keys that differ from today's data, ascending, with the event that first changed them.
    undo: Vec<(Bytes, EventId, bool)>,
}

impl RangePlan {
    pub fn new(view: &dyn View, request: &RangeRequest) -> Result<RangePlan, Refusal> {
        check_range(request)?;
        check_revision(view, request.revision)?;
        let range = KeyRange::new(&request.key, &request.range_end);
        let mut count = view.count(&range);
        let mut undo = Vec::new();
        let is_past = request.revision < view.revision() || view.is_changing();
        if request.revision > 0 && is_past {
            for (key, change, alive) in view.changed_after(&range, request.revision) {
                count += i64::from(change.before) - i64::from(alive);
                undo.push((key, change.id(), change.before));
            }
        }
        Ok(RangePlan {
            request: request.clone(),
            range,
            count,
            undo,
        })
    }

    /// `data` must be of the moment at which the plan was made.
    pub fn run<D: Data + ?Sized>(&self, data: &D) -> Result<RangeResponse, Broken> {
        if self.request.count_only {
            return Ok(RangeResponse {
                kvs: Vec::new(),
                more: false,
                count: self.count,
            });
        }
        let mut kvs = Vec::new();
        if self.is_in_key_order() {
            let more = self.each(data, &mut |kv| {
                kvs.push(kv);
                ControlFlow::Continue(())
            })?;
            return Ok(RangeResponse {
                kvs,
                more,
                count: self.count,
            });
        }
        // Where pairs are sorted after reading, the limit cannot stop the reading.
        self.visit(data, &mut |kv| {
            if self.passes(&kv) {
                kvs.push(kv);
            }
            ControlFlow::Continue(())
        })?;
        self.sort(&mut kvs);
        let limit = usize::try_from(self.limit()).unwrap_or(usize::MAX);
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        let kvs = kvs.into_iter().map(|kv| self.shown(kv)).collect();
        Ok(RangeResponse {
            kvs,
            more,
            count: self.count,
        })
    }

    /// Keys in the range, whatever limit and filters say.
    pub fn count(&self) -> i64 {
        self.count
    }

    /// How large the answer is, where the catalog knows it: newest pairs in key order, all or the first ones.
    /// `catalog` must be of the moment at which the plan was made.
    pub fn known_size(&self, catalog: &Catalog) -> Option<AnswerSize> {
        if self.request.count_only {
            return Some(AnswerSize::default());
        }
        if !self.undo.is_empty() || self.request.has_filter() || !self.is_in_key_order() {
            return None;
        }
        let weight = catalog.weigh(&self.range, Some(self.limit()));
        Some(AnswerSize {
            bytes: match self.request.keys_only {
                true => weight.keys_only,
                false => weight.whole,
            },
            more: self.count as u64 > weight.keys,
        })
    }

    /// How large the answer is, by reading all of it. For a plan in key order; `data` as in [`RangePlan::run`].
    pub fn measure<D: Data + ?Sized>(&self, data: &D) -> Result<AnswerSize, Broken> {
        let mut bytes = 0;
        let more = self.each(data, &mut |kv| {
            bytes += u64::from(PairSize::of(&kv).whole);
            ControlFlow::Continue(())
        })?;
        Ok(AnswerSize { bytes, more })
    }

    /// Shows the pairs of the answer as they are read; answers whether the range has more than the limit lets through.
    /// For a plan in key order; `data` as in [`RangePlan::run`].
    pub fn each<D: Data + ?Sized>(
        &self,
        data: &D,
        visit: &mut dyn FnMut(KeyValue) -> ControlFlow<()>,
    ) -> Result<bool, Broken> {
        assert!(self.is_in_key_order(), "a sort needs all pairs");
        let mut more = false;
        if self.request.count_only {
            return Ok(more);
        }
        let mut left = self.limit();
        self.visit(data, &mut |kv| {
            if !self.passes(&kv) {
                return ControlFlow::Continue(());
            }
            if left == 0 {
                more = true;
                return ControlFlow::Break(());
            }
            left -= 1;
            visit(self.shown(kv))
        })?;
        Ok(more)
    }

    fn limit(&self) -> u64 {
        let limit = u64::try_from(self.request.limit);
        limit.ok().filter(|limit| *limit > 0).unwrap_or(u64::MAX)
    }

    fn shown(&self, mut kv: KeyValue) -> KeyValue {
        if self.request.keys_only {
            kv.value = Bytes::new();
        }
        kv
    }

    fn visit<D: Data + ?Sized>(
        &self,
        data: &D,
        visit: &mut dyn FnMut(KeyValue) -> ControlFlow<()>,
    ) -> Result<(), Broken> {
        if let KeyRange::One(key) = &self.range {
            let kv = match self.undo.first() {
                Some(undo) => before(data, undo)?,
                // The catalog knows without a read that it is not there.
                None if self.count == 0 => None,
                None => data.get(key)?,
            };
            if let Some(kv) = kv {
                let _: ControlFlow<()> = visit(kv);
            }
            return Ok(());
        }
        let mut undo = self.undo.iter().peekable();
        let mut failed = None;
        let mut stopped = false;
        data.scan(&self.range, &mut |kv| {
            let step = || -> Result<ControlFlow<()>, Broken> {
                while let Some(earlier) = undo.next_if(|(key, ..)| *key < kv.key) {
                    if let Some(old) = before(data, earlier)?
                        && visit(old).is_break()
                    {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                match undo.next_if(|(key, ..)| *key == kv.key) {
                    Some(same) => {
                        Ok(before(data, same)?.map_or(ControlFlow::Continue(()), &mut *visit))
                    }
                    None => Ok(visit(kv)),
                }
            };
            let flow = step().unwrap_or_else(|broken| {
                failed = Some(broken);
                ControlFlow::Break(())
            });
            stopped = flow.is_break();
            flow
        })?;
        if let Some(broken) = failed {
            return Err(broken);
        }
        if !stopped {
            for later in undo {
                if let Some(old) = before(data, later)?
                    && visit(old).is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }

    /// See [`RangeRequest::is_in_key_order`].
    pub fn is_in_key_order(&self) -> bool {
        self.request.is_in_key_order()
    }

    fn passes(&self, kv: &KeyValue) -> bool {
        let request = &self.request;
        let at_most = |max: i64, have: i64| max == 0 || have <= max;
        let at_least = |min: i64, have: i64| min == 0 || have >= min;
        at_most(request.max_mod_revision, kv.mod_revision)
            && at_least(request.min_mod_revision, kv.mod_revision)
            && at_most(request.max_create_revision, kv.create_revision)
            && at_least(request.min_create_revision, kv.create_revision)
    }

    /// Stable, so that equal pairs stay in key order. A target other than the key without an order ascends, as in etcd.
    fn sort(&self, kvs: &mut [KeyValue]) {
        let target = SortTarget::try_from(self.request.sort_target).unwrap_or(SortTarget::Key);
        let compare = |a: &KeyValue, b: &KeyValue| -> Ordering {
            match target {
                SortTarget::Key => a.key.cmp(&b.key),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::Create => a.create_revision.cmp(&b.create_revision),
                SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
                SortTarget::Value => a.value.cmp(&b.value),
            }
        };
        if self.request.sort_order == SortOrder::Descend as i32 {
            kvs.sort_by(|a, b| compare(b, a));
        } else {
            kvs.sort_by(compare);
        }
    }
}

/// The key as it was before the event.
fn before<D: Data + ?Sized>(
    data: &D,
    undo: &(Bytes, EventId, bool),
) -> Result<Option<KeyValue>, Broken> {
    let (key, id, existed) = undo;
    if !existed {
        return Ok(None);
    }
    let event = data.event(*id)?;
    match event.prev_kv {
        Some(prev) if prev.key == *key => Ok(Some(prev)),
        _ => Err(Broken(format!(
            "event {}.{} does not carry the previous value of its key",
            id.revision, id.sub
        ))),
    }
}

/// What is known of an answer before its pairs are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerSize {
    /// Of the pairs as they are encoded in the answer.
    pub bytes: u64,
    /// More pairs are in the range than the limit let through.
    pub more: bool,
}

/// Encodes pairs as they stand in a [`RangeResponse`], in parts of whole pairs.
pub struct PartWriter {
    part_bytes: usize,
    part: BytesMut,
}

impl PartWriter {
    /// A part is not larger than this, but for a single pair that is.
    pub fn new(part_bytes: usize) -> PartWriter {
        PartWriter {
            part_bytes,
            part: BytesMut::new(),
        }
    }

    /// Adds a pair; answers the part before it if that is full.
    pub fn push(&mut self, kv: &KeyValue) -> Option<Bytes> {
        let size = PairSize::of(kv).whole as usize;
        let full = !self.part.is_empty() && self.part.len() + size > self.part_bytes;
        let part = full.then(|| {
            let next = BytesMut::with_capacity(self.part_bytes.max(size));
            std::mem::replace(&mut self.part, next).freeze()
        });
        prost::encoding::message::encode(KVS_TAG, kv, &mut self.part);
        part
    }

    /// The last part; empty where there is nothing left.
    pub fn finish(self) -> Bytes {
        self.part.freeze()
    }
}
