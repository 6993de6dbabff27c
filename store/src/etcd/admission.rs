//! Who may have how much under way: no client takes all of what there is for everybody.
//!
//! A client is a user, by his token, or else a certificate, whatever the number of its connections. Calls are of a few
//! classes, each with a bound for one client and one for all; beyond either a call is refused before anything is done
//! for it. Large ranges and large requests wait instead, since they end by themselves, in a line for each client.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Frame, SizeHint};
use kv::StoreError;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;

/// What a call takes a place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Goes through the log.
    Write,
    Read,
    /// Stays for long: watches, keep-alives, who waits for a lock.
    Stream,
    /// Has a password hashed, which is slow.
    Password,
    /// Not a call: one watch on a stream.
    Watch,
    /// Not a call: what calls come on.
    Connection,
}

const CLASSES: usize = 6;

/// Places for one client, and for all.
#[derive(Clone, Copy, Debug)]
struct Bound {
    each: usize,
    all: usize,
}

impl Class {
    /// By the method's path.
    pub(super) fn of(path: &str) -> Class {
        let (service, method) = path
            .trim_start_matches('/')
            .split_once('/')
            .unwrap_or((path, ""));
        match (service, method) {
            ("etcdserverpb.KV", "Put" | "DeleteRange" | "Txn" | "Compact")
            | ("etcdserverpb.Lease", "LeaseGrant" | "LeaseRevoke")
            | ("v3lockpb.Lock", "Unlock")
            | ("v3electionpb.Election", "Proclaim" | "Resign") => Class::Write,
            ("etcdserverpb.Auth", "Authenticate" | "UserAdd" | "UserChangePassword") => {
                Class::Password
            }
            ("etcdserverpb.Watch", _)
            | ("etcdserverpb.Lease", "LeaseKeepAlive")
            | ("v3lockpb.Lock", "Lock")
            | ("v3electionpb.Election", "Campaign" | "Observe") => Class::Stream,
            _ => Class::Read,
        }
    }

    /// The store takes 8192 writes at once, also of the API server in this process, which keeps a quarter.
    fn bound(self) -> Bound {
        let (each, all) = match self {
            Class::Write => (4096, 6144),
            Class::Read => (8192, 12_288),
            Class::Stream => (32_768, 65_536),
            Class::Password => (16, PASSWORDS),
            Class::Watch => (262_144, 524_288),
            Class::Connection => (2048, 4096),
        };
        Bound { each, all }
    }
}

/// Passwords that are hashed on a member, or wait for it.
pub(super) const PASSWORDS: usize = 64;

/// Large ranges of one client under way; a member has twice as many.
const LARGE_RANGES: usize = 32;

/// Bytes of the large requests of one client, from their beginning until they are answered; a member has twice as many.
const REQUEST_BYTES: usize = 64 << 20;

#[derive(Debug, Default)]
struct Counts([AtomicUsize; CLASSES]);

impl Counts {
    fn of(&self, class: Class) -> &AtomicUsize {
        &self.0[class as usize]
    }

    /// Takes a place if there is one.
    fn enter(&self, class: Class, most: usize) -> bool {
        let one_more = |count: usize| (count < most).then_some(count + 1);
        self.of(class)
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .is_ok()
    }

    fn leave(&self, class: Class) {
        self.of(class).fetch_sub(1, Ordering::AcqRel);
    }
}

/// One client, for as long as it has a connection or a call.
#[derive(Debug)]
pub(super) struct Client {
    own: Counts,
    all: Arc<All>,
    large_ranges: Arc<Semaphore>,
    request_bytes: Arc<Semaphore>,
    large_json: Arc<Semaphore>,
}

/// What all clients have together.
#[derive(Debug)]
struct All {
    counts: Counts,
    request_bytes: Arc<Semaphore>,
    /// What waits in a line of its client waits so long.
    patience: Duration,
}

/// For the bytes of a large request.
#[derive(Debug)]
pub(super) struct Room {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Client {
    fn new(all: Arc<All>) -> Arc<Client> {
        Arc::new(Client {
            own: Counts::default(),
            all,
            large_ranges: Arc::new(Semaphore::new(LARGE_RANGES)),
            request_bytes: Arc::new(Semaphore::new(REQUEST_BYTES)),
            large_json: Arc::new(Semaphore::new(1)),
        })
    }

    /// A place for a call.
    pub(super) fn enter(self: &Arc<Self>, class: Class) -> Result<Place, StoreError> {
        let bound = class.bound();
        if !self.own.enter(class, bound.each) {
            return Err(StoreError::Overloaded);
        }
        if !self.all.counts.enter(class, bound.all) {
            self.own.leave(class);
            return Err(StoreError::Overloaded);
        }
        let client = self.clone();
        Ok(Place { client, class })
    }

    /// A place for a large range, behind those of the same client alone.
    pub(super) async fn wait_for_large_range(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        self.in_time(self.large_ranges.clone().acquire_owned())
            .await
    }

    /// The place for a large answer as JSON, which one that does not read it keeps: so each client has its own.
    pub(super) async fn wait_for_large_json(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        self.in_time(self.large_json.clone().acquire_owned()).await
    }

    /// Room for a large request: behind those of the same client, and then of all.
    pub(super) async fn wait_for_room(&self, bytes: usize) -> Result<Room, StoreError> {
        let bytes = u32::try_from(bytes).map_err(|_| StoreError::Overloaded)?;
        let (own, all) = (self.request_bytes.clone(), self.all.request_bytes.clone());
        let own = self.in_time(own.acquire_many_owned(bytes)).await?;
        let all = self.in_time(all.acquire_many_owned(bytes)).await?;
        Ok(Room {
            _own: own,
            _all: all,
        })
    }

    async fn in_time(
        &self,
        place: impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>>,
    ) -> Result<OwnedSemaphorePermit, StoreError> {
        match tokio::time::timeout(self.all.patience, place).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(StoreError::Overloaded),
        }
    }
}

/// Given back when the call, or the connection, has ended.
#[derive(Debug)]
pub(super) struct Place {
    client: Arc<Client>,
    class: Class,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.client.all.counts.leave(self.class);
        self.client.own.leave(self.class);
    }
}

/// All clients that are there.
#[derive(Debug)]
pub(super) struct Clients {
    all: Arc<All>,
    known: Mutex<BTreeMap<Name, Weak<Client>>>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    /// The hash of it.
    Certificate(Vec<u8>),
    User(String),
}

impl Clients {
    pub(super) fn new(patience: Duration) -> Clients {
        Clients {
            all: Arc::new(All {
                counts: Counts::default(),
                request_bytes: Arc::new(Semaphore::new(2 * REQUEST_BYTES)),
                patience,
            }),
            known: Mutex::default(),
        }
    }

    /// The client with this certificate.
    pub(super) fn named(&self, certificate: &[u8]) -> Arc<Client> {
        use sha2::Digest;
        self.known(Name::Certificate(
            sha2::Sha256::digest(certificate).to_vec(),
        ))
    }

    /// The client who is this user, wherever he connects from.
    pub(super) fn user(&self, name: String) -> Arc<Client> {
        self.known(Name::User(name))
    }

    fn known(&self, name: Name) -> Arc<Client> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = known.get(&name).and_then(Weak::upgrade) {
            return client;
        }
        known.retain(|_, client| client.strong_count() > 0);
        let client = self.nameless();
        known.insert(name, Arc::downgrade(&client));
        client
    }

    /// A connection that is a client of its own.
    pub(super) fn nameless(&self) -> Arc<Client> {
        Client::new(self.all.clone())
    }
}

/// A body that keeps something, as its call's place, until it has been sent or given up.
pub(super) struct Held<T> {
    pub(super) body: Body,
    pub(super) _kept: T,
}

impl<T: Unpin> hyper::body::Body for Held<T> {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_does_not_take_all_places_and_gives_them_back() {
        let clients = Clients::new(Duration::from_millis(50));
        let (a, b) = (clients.named(b"a"), clients.named(b"b"));
        let bound = Class::Write.bound();
        let take = |client: &Arc<Client>| {
            let mut places = Vec::new();
            while let Ok(place) = client.enter(Class::Write) {
                places.push(place);
            }
            places
        };
        let of_a = take(&a);
        assert_eq!(of_a.len(), bound.each);
        assert!(
            clients.named(b"a").enter(Class::Write).is_err(),
            "the same client"
        );
        assert!(a.enter(Class::Read).is_ok(), "another class");
        let of_b = take(&b);
        assert_eq!(of_a.len() + of_b.len(), bound.all);
        drop(of_a);
        assert_eq!(take(&b).len(), bound.each - of_b.len());
        assert_eq!(take(&a).len(), bound.each.min(bound.all - of_b.len()));
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let clients = Clients::new(Duration::from_millis(50));
        let a = clients.named(b"a");
        let place = a.enter(Class::Stream).unwrap();
        drop(a);
        assert!(
            Arc::ptr_eq(&place.client, &clients.named(b"a")),
            "its call goes on"
        );
        drop(place);
        drop(clients.named(b"b"));
        drop(clients.named(b"c"));
        let kept = clients.user("u".into());
        assert!(Arc::ptr_eq(&kept, &clients.user("u".into())));
        assert_eq!(clients.known.lock().unwrap().len(), 1);
    }

    #[test]
    fn every_method_is_of_a_class() {
        let paths = super::super::methods::METHODS
            .iter()
            .map(|method| method.path);
        let of = |class| {
            paths
                .clone()
                .filter(|path| Class::of(path) == class)
                .count()
        };
        assert_eq!((of(Class::Write), of(Class::Stream)), (9, 5));
        assert_eq!(of(Class::Password), 3);
    }

    #[tokio::test]
    async fn large_ranges_of_a_client_wait_for_each_other_and_not_for_ever() {
        let clients = Clients::new(Duration::from_millis(50));
        let (a, b) = (clients.named(b"a"), clients.user("b".into()));
        let mut places = Vec::new();
        for _ in 0..LARGE_RANGES {
            places.push(a.wait_for_large_range().await.unwrap());
        }
        let refused = a.wait_for_large_range().await.unwrap_err();
        assert_eq!(refused, StoreError::Overloaded);
        assert!(b.wait_for_large_range().await.is_ok());
        let (served, ()) = tokio::join!(a.wait_for_large_range(), async {
            places.pop();
        });
        assert!(served.is_ok());
    }
}
