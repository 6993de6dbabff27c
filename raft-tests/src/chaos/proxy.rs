//! A slow road between members: what comes to a member from some others is led through here, and each direction has a
//! delay of its own. Order is kept, as TCP keeps it.

use super::space::Space;
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Where it listens, in the member's namespace.
pub const PORT: u16 = 7480;
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks on their way; more wait in the kernel.
const CHUNKS: usize = 256;

/// Ends, with all connections through it, when it is dropped.
pub struct Proxy(tokio::task::AbortHandle);

impl Proxy {
    /// In front of a port of the namespace it is in.
    pub fn start(
        runtime: &Handle,
        space: &Arc<Space>,
        port: u16,
        there: Duration,
        back: Duration,
    ) -> Result<Proxy> {
        let listener = space.listen(PORT)?;
        let space = space.clone();
        let _inside = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        let task = runtime.spawn(serve(listener, space, port, there, back));
        Ok(Proxy(task.abort_handle()))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(
    listener: TcpListener,
    space: Arc<Space>,
    port: u16,
    there: Duration,
    back: Duration,
) {
    // Aborted when this task is.
    let mut connections = JoinSet::new();
    while let Ok((from, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let space = space.clone();
        connections.spawn(async move {
            let Ok(to) = space.dial(port).await else {
                return;
            };
            let (from_read, from_write) = from.into_split();
            let (to_read, to_write) = to.into_split();
            tokio::select! {
                () = carry(from_read, to_write, there) => {}
                () = carry(to_read, from_write, back) => {}
            }
        });
    }
}

/// Everything from one to the other, each byte so much later, until one of them ends.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: Duration) {
    let (put, mut take) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let read = async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = from.read(&mut chunk).await {
            let due = Instant::now() + delay;
            if put.send((due, chunk[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = take.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_later_and_in_order() {
        let (mut near, from) = tokio::io::duplex(64);
        let (to, mut far) = tokio::io::duplex(64);
        let delay = Duration::from_millis(100);
        let carried = tokio::spawn(carry(from, to, delay));
        let began = Instant::now();
        near.write_all(b"one").await.unwrap();
        near.write_all(b"two").await.unwrap();
        drop(near);
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "onetwo");
        assert!(began.elapsed() >= delay);
        carried.await.unwrap();
    }
}
