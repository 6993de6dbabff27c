//! Connections made from inside a pod's network namespace.
//!
//! A socket belongs to the namespace of the thread that made it, for as long as it lives. Entering another namespace
//! changes a thread for good, so each connection gets a thread of its own, which ends as soon as it is made.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// On the loopback address the answer comes at once, unless a server's queue is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An open network namespace: it stays the same one, whatever becomes of the process.
pub(super) struct Namespace(File);

impl Namespace {
    pub(super) fn of(pid: i64) -> io::Result<Namespace> {
        File::open(format!("/proc/{pid}/ns/net")).map(Namespace)
    }

    /// Connects to a port of the namespace's loopback address; the error reads as Go's network library would say it.
    pub(super) async fn dial(self, port: u16) -> Result<TcpStream, String> {
        let (answer, answered) = oneshot::channel();
        let work = move || {
            // Nobody waits any more when the client has gone meanwhile.
            let _ = answer.send(self.dial_here(port));
        };
        std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn(work)
            .map_err(|error| error.to_string())?;
        let stream = answered.await.map_err(|error| error.to_string())??;
        TcpStream::from_std(stream).map_err(|error| error.to_string())
    }

    /// Moves this thread into the namespace, never to return.
    fn dial_here(self, port: u16) -> Result<std::net::TcpStream, String> {
        let text = |error: io::Error| error.to_string();
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| format!("cannot enter the pod's network namespace: {error}"))?;
        let addresses = [
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ];
        let connect = |address| std::net::TcpStream::connect_timeout(address, CONNECT_TIMEOUT);
        let stream = connect(&addresses[0]).or_else(|first| {
            // The IPv4 answer is the one to report: IPv6 may be off altogether.
            connect(&addresses[1]).map_err(|_| refusal(&addresses[0].to_string(), &first))
        })?;
        stream.set_nonblocking(true).map_err(text)?;
        Ok(stream)
    }
}

/// Connects to a port of an address from where the agent is.
pub(super) async fn connect(ip: &str, port: u16) -> Result<TcpStream, String> {
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((ip, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(refusal(&format!("{ip}:{port}"), &error)),
        Err(_) => Err(format!("dial tcp {ip}:{port}: i/o timeout")),
    }
}

fn refusal(address: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("dial tcp {address}: connect: connection refused")
        }
        io::ErrorKind::TimedOut => format!("dial tcp {address}: i/o timeout"),
        _ => format!("dial tcp {address}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// The test's own namespace: entering it needs the same right, and leaves what listens here within reach.
    #[tokio::test]
    async fn a_port_of_the_namespace_is_reached_and_a_closed_one_is_refused() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = || Namespace::of(i64::from(std::process::id())).unwrap();
        let (mut near, mut far) = match own().dial(port).await {
            Ok(near) => (near, listener.accept().await.unwrap().0),
            Err(text) => {
                assert!(
                    text.starts_with("cannot enter the pod's network namespace: "),
                    "{text}"
                );
                eprintln!("skipped: {text}");
                return;
            }
        };
        near.write_all(b"hi").await.unwrap();
        let mut got = [0; 2];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hi");
        drop(listener);
        let text = own().dial(port).await.unwrap_err();
        assert_eq!(
            text,
            format!("dial tcp 127.0.0.1:{port}: connect: connection refused")
        );
    }
}
