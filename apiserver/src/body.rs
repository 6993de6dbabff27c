//! Request bodies: read whole before the request takes one of the places for work, so that a slow client holds only
//! the bytes that it has sent, and these count against what its user may hold and against one budget for all.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::status::{ApiError, ApiResult};

/// Largest request body, as in Kubernetes.
pub(crate) const BYTES_MAX: usize = 3 * 1024 * 1024;
/// What all bodies that are being read or worked on may hold together.
const BUDGET_BYTES: usize = 256 * 1024 * 1024;
/// What the bodies of one user may hold: others find room whatever that user does.
pub(crate) const USER_BYTES: usize = BUDGET_BYTES / 8;
/// So much of the body of a refused request is still taken, and for so long: a client that is still sending does not
/// read yet, and closing on it would destroy the answer before it is seen.
const DRAIN_BYTES_MAX: usize = 512 * 1024 * 1024;
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// How many bytes of bodies the server holds.
pub(crate) struct Budget {
    common: Semaphore,
    user_bytes_max: usize,
    /// By user name; who holds nothing is not there.
    users: Mutex<HashMap<String, usize>>,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::new(BUDGET_BYTES, USER_BYTES)
    }
}

/// What the bytes of a body count against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account<'a> {
    Nothing,
    /// What this user may hold, and not what is left for all.
    User(&'a str),
    /// What this user may hold, and the budget for all.
    UserAndCommon(&'a str),
}

/// A body, and its share of the budget until it is dropped.
pub(crate) struct Held<'a> {
    pub(crate) bytes: Bytes,
    _share: Share<'a>,
}

/// Given back when it is dropped.
struct Share<'a> {
    budget: &'a Budget,
    account: Account<'a>,
    own_bytes: usize,
    common: Option<SemaphorePermit<'a>>,
}

impl Budget {
    fn new(common: usize, user_bytes_max: usize) -> Budget {
        Budget {
            common: Semaphore::new(common),
            user_bytes_max,
            users: Mutex::default(),
        }
    }

    /// Reads a body up to the limit; 413 above it, whatever Content-Length said, and 429 where the budget is spent.
    pub(crate) async fn read<'a>(
        &'a self,
        incoming: &mut Incoming,
        headers: &HeaderMap,
        account: Account<'a>,
    ) -> ApiResult<Held<'a>> {
        if headers
            .get(header::CONTENT_ENCODING)
            .is_some_and(|coding| coding != "identity")
        {
            return Err(ApiError::unsupported_media_text(
                "the Content-Encoding of the request is not supported",
            ));
        }
        refuse_declared(declared(headers))?;
        let mut share = Share {
            budget: self,
            account,
            own_bytes: 0,
            common: None,
        };
        incoming.begun = true;
        let bytes = collect(&mut incoming.body, |count| share.take(count)).await?;
        Ok(Held {
            bytes,
            _share: share,
        })
    }

    fn users(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share<'_> {
    fn take(&mut self, count: usize) -> ApiResult<()> {
        let spent = || ApiError::too_many_requests("too many requests, please try again later", 1);
        let (user, counts_in_common) = match self.account {
            Account::Nothing => return Ok(()),
            Account::User(user) => (user, false),
            Account::UserAndCommon(user) => (user, true),
        };
        let mut users = self.budget.users();
        let held = users.get(user).copied().unwrap_or_default();
        if held + count > self.budget.user_bytes_max {
            return Err(spent());
        }
        if counts_in_common {
            let more = u32::try_from(count)
                .ok()
                .and_then(|count| self.budget.common.try_acquire_many(count).ok())
                .ok_or_else(spent)?;
            match &mut self.common {
                Some(common) => common.merge(more),
                None => self.common = Some(more),
            }
        }
        match users.get_mut(user) {
            Some(held) => *held += count,
            None => {
                users.insert(user.to_owned(), count);
            }
        }
        self.own_bytes += count;
        Ok(())
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let (Account::User(user) | Account::UserAndCommon(user)) = self.account else {
            return;
        };
        let mut users = self.budget.users();
        if let Some(held) = users.get_mut(user) {
            *held -= self.own_bytes;
            if *held == 0 {
                users.remove(user);
            }
        }
    }
}

/// The body of a request on its way.
pub(crate) struct Incoming {
    body: Body,
    /// Whether any of it was asked for; a client that waits for `100 Continue` got it then, and sends.
    begun: bool,
}

impl Incoming {
    pub(crate) fn new(body: Body) -> Incoming {
        Incoming { body, begun: false }
    }

    /// The body itself, for those who pass it on without reading it.
    pub(crate) fn take(&mut self) -> Body {
        self.begun = true;
        std::mem::take(&mut self.body)
    }

    /// Takes the rest of a refused request's body from the client, within bounds, and drops it.
    pub(crate) async fn drain(&mut self, headers: &HeaderMap) {
        // Who asked first and got no word has sent nothing, and will not after this answer.
        let unasked = !self.begun && headers.contains_key(header::EXPECT);
        if self.body.is_end_stream() || unasked {
            return;
        }
        let rest = async {
            let mut taken = 0;
            while let Some(Ok(frame)) = self.body.frame().await {
                taken += frame.data_ref().map_or(0, Bytes::len);
                if taken > DRAIN_BYTES_MAX {
                    break;
                }
            }
        };
        // Whether it ended or took too long, the answer is next.
        let _ = tokio::time::timeout(DRAIN_TIME_MAX, rest).await;
    }
}

/// Reads a body that a node agent sent, up to the same limit.
pub(crate) async fn read_answer(mut body: Body) -> ApiResult<Bytes> {
    collect(&mut body, |_| Ok(())).await
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok())
}

fn refuse_declared(length: Option<u64>) -> ApiResult<()> {
    if length.is_some_and(|length| length > BYTES_MAX as u64) {
        return Err(ApiError::too_large(BYTES_MAX));
    }
    Ok(())
}

async fn collect(
    body: &mut Body,
    mut take: impl FnMut(usize) -> ApiResult<()>,
) -> ApiResult<Bytes> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::bad_request(format!("unable to read the request body: {error}"))
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if read.len() + data.len() > BYTES_MAX {
            return Err(ApiError::too_large(BYTES_MAX));
        }
        take(data.len())?;
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::StreamExt;

    use super::*;

    const ALL: Account<'static> = Account::UserAndCommon("jane");

    fn body_of(size: usize) -> Incoming {
        Incoming::new(Body::from(vec![b'x'; size]))
    }

    /// The code with which a body of that size is refused; 0 where it is read, and dropped.
    async fn refused(budget: &Budget, account: Account<'_>, size: usize) -> u16 {
        let (mut body, headers) = (body_of(size), HeaderMap::new());
        let read = budget.read(&mut body, &headers, account).await;
        read.err().map_or(0, |error| error.code)
    }

    #[tokio::test]
    async fn the_budget_is_shared_and_given_back() {
        let budget = Budget::new(10, 10);
        let headers = HeaderMap::new();
        let first = budget.read(&mut body_of(6), &headers, ALL).await.unwrap();
        let ann = Account::UserAndCommon("ann");
        let refusal = budget.read(&mut body_of(5), &headers, ann).await;
        let refusal = refusal.err().unwrap();
        assert_eq!((refusal.code, refusal.retry_after), (429, Some(1)));
        let second = budget.read(&mut body_of(4), &headers, ann).await.unwrap();
        assert_eq!((first.bytes.len(), second.bytes.len()), (6, 4));
        drop((first, second));
        assert_eq!(refused(&budget, ann, 10).await, 0);
        assert!(budget.users().is_empty(), "who holds nothing is forgotten");
    }

    #[tokio::test]
    async fn nobody_holds_what_is_meant_for_all() {
        let budget = Budget::new(10, 4);
        let headers = HeaderMap::new();
        let mut held = Vec::new();
        for account in [ALL, ALL, Account::UserAndCommon("ann")] {
            held.push(budget.read(&mut body_of(2), &headers, account).await.ok());
        }
        assert!(held.iter().all(Option::is_some));
        assert_eq!(refused(&budget, ALL, 1).await, 429, "jane has her share");
        let bob = Account::UserAndCommon("bob");
        assert_eq!(refused(&budget, bob, 4).await, 0, "others have theirs");
        held.push(budget.read(&mut body_of(4), &headers, bob).await.ok());
        // The budget is spent, and those who must get through do.
        let carl = Account::UserAndCommon("carl");
        assert_eq!(refused(&budget, carl, 1).await, 429);
        assert_eq!(refused(&budget, Account::Nothing, 100).await, 0);
        assert_eq!(refused(&budget, Account::User("carl"), 4).await, 0);
        assert_eq!(refused(&budget, Account::User("carl"), 5).await, 429);
        drop(held);
        assert_eq!(refused(&budget, ALL, 4).await, 0);
    }

    /// A body of several chunks, and how many of them were taken.
    fn counted(chunks: usize) -> (Incoming, Arc<AtomicUsize>) {
        let chunk = Bytes::from(vec![b'x'; BYTES_MAX / 4]);
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let chunks = futures::stream::iter(0..chunks).map(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(chunk.clone())
        });
        (Incoming::new(Body::from_stream(chunks)), sent)
    }

    #[tokio::test]
    async fn the_rest_of_a_refused_body_is_taken() {
        let expecting = HeaderMap::from_iter([(
            header::EXPECT,
            http::HeaderValue::from_static("100-continue"),
        )]);
        // Whoever waited for `100 Continue` had it as soon as the first chunk was asked for.
        for headers in [HeaderMap::new(), expecting] {
            for (budget, code) in [
                (Budget::default(), 413),
                (Budget::new(BYTES_MAX / 2, BYTES_MAX), 429),
            ] {
                let (mut body, sent) = counted(20);
                let refusal = budget.read(&mut body, &headers, ALL).await.err().unwrap();
                assert_eq!(refusal.code, code);
                let seen = sent.load(Ordering::Relaxed);
                assert!(seen < 20, "{seen} chunks were read before the refusal");
                body.drain(&headers).await;
                assert_eq!(sent.load(Ordering::Relaxed), 20, "{headers:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_nobody_asked_for_is_not_waited_for() {
        let mut headers = HeaderMap::new();
        headers.insert(header::EXPECT, "100-continue".parse().unwrap());
        headers.insert(header::CONTENT_LENGTH, (BYTES_MAX + 1).into());
        let budget = Budget::default();
        let (mut body, sent) = counted(20);
        let refusal = budget.read(&mut body, &headers, ALL).await.err().unwrap();
        assert_eq!(refusal.code, 413);
        body.drain(&headers).await;
        assert_eq!(sent.load(Ordering::Relaxed), 0);
    }
}
