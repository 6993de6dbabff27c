//! What lies between a client and a member: nothing but a process that may be gone, or stand still, at any moment. Requests
//! and answers are those of HTTP as at a port, with gRPC's frames in them.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{Stream, stream};
use http_body_util::{BodyStream, StreamBody};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use store::etcd::{Door, DoorSettings};
use store::host::Host;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;

/// A client's connection to one life of a member.
#[derive(Clone)]
pub struct Line {
    pub client: Arc<str>,
    pub door: Door,
    pub host: Arc<Host>,
    /// Told when the process has ended.
    pub gone: CancellationToken,
}

impl tower::Service<http::Request<Body>> for Line {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Line {
            client,
            door,
            host,
            gone,
        } = self.clone();
        Box::pin(async move {
            let (machine, at) = (host.clone(), door);
            let answering = machine.run(async move { at.call(&client, request).await });
            let answer = tokio::select! {
                biased;
                () = gone.cancelled() => return Err(lost()),
                answer = answering => answer,
            };
            Ok(answer.map(|body| {
                let frames = machine.pull(BodyStream::new(body));
                Body::new(StreamBody::new(unless_gone(frames, gone)))
            }))
        })
    }
}

fn lost() -> Status {
    Status::unavailable("connection lost")
}

/// The frames as they come, until the process ends: then none is the last.
fn unless_gone<T>(
    frames: impl Stream<Item = Result<T, Status>> + Send + 'static,
    gone: CancellationToken,
) -> impl Stream<Item = Result<T, Status>> + Send {
    let mut frames = Box::pin(frames);
    let mut gone = Box::pin(gone.cancelled_owned());
    let mut over = false;
    stream::poll_fn(move |context| {
        if over {
            return Poll::Ready(None);
        }
        if pin!(&mut gone).poll(context).is_ready() {
            over = true;
            return Poll::Ready(Some(Err(lost())));
        }
        frames.as_mut().poll_next(context)
    })
}

/// How the doors of a run are: sometimes everything goes in small pieces.
pub fn settings(seed: u64, member: u64) -> DoorSettings {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x646f_6f72);
    let mut pick = |of: [usize; 3]| of[rng.random_range(0..of.len())];
    DoorSettings {
        client_url: format!("http://m{member}:2379"),
        fragment_bytes: pick([120, 400, 1 << 20]),
        part_bytes: pick([100, 1000, 256 << 10]),
        progress_interval: Duration::from_millis(pick([700, 2000, 600_000]) as u64),
    }
}
