//! A network namespace with a thread in it. What is connected, listened on or started there belongs to that namespace
//! wherever it goes afterwards: the clients' connections are made in the member's own namespace, on its loopback, where
//! its port for etcd clients is, and no fault of the network between members touches them.

use anyhow::{Context, Result, anyhow};
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::Duration;

/// On loopback an answer comes at once, or never.
const DIAL: Duration = Duration::from_secs(1);
/// What a job in the namespace may take.
const JOB: Duration = Duration::from_secs(60);

type Job = Box<dyn FnOnce() + Send>;

/// See the module head. The thread ends with the last handle, and with the thread all processes that were started to end
/// with it.
pub struct Space {
    name: String,
    jobs: mpsc::Sender<Job>,
}

impl Space {
    /// Enters a namespace that `ip netns add` has made.
    pub fn enter(name: &str) -> Result<Space> {
        let path = format!("/run/netns/{name}");
        let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        let (jobs, todo) = mpsc::channel::<Job>();
        let (entered, outcome) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name.to_string());
        thread.spawn(move || {
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            let moved = rustix::thread::move_into_link_name_space(file.as_fd(), kind);
            let inside = moved.is_ok();
            let _ = entered.send(moved);
            while inside && let Ok(job) = todo.recv() {
                job();
            }
        })?;
        outcome
            .recv()
            .context("the thread ended")?
            .with_context(|| format!("cannot enter the namespace {name}"))?;
        Ok(Space {
            name: name.to_string(),
            jobs,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Does something within the namespace, and waits for it.
    pub fn within<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (done, result) = mpsc::channel();
        let job = Box::new(move || {
            let _ = done.send(job());
        });
        self.jobs
            .send(job)
            .map_err(|_| anyhow!("the thread in {} is gone", self.name))?;
        result
            .recv_timeout(JOB)
            .with_context(|| format!("nothing comes out of {}", self.name))
    }

    /// A connection to a port on the namespace's loopback.
    pub async fn dial(&self, port: u16) -> io::Result<tokio::net::TcpStream> {
        let (done, result) = tokio::sync::oneshot::channel();
        let job = Box::new(move || {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let stream = TcpStream::connect_timeout(&address, DIAL).and_then(|stream| {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok(stream)
            });
            let _ = done.send(stream);
        });
        let gone = || io::Error::other("the namespace's thread is gone");
        self.jobs.send(job).map_err(|_| gone())?;
        tokio::net::TcpStream::from_std(result.await.map_err(|_| gone())??)
    }

    /// A listener on all addresses of the namespace.
    pub fn listen(&self, port: u16) -> Result<TcpListener> {
        let listener = self.within(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))??;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}
