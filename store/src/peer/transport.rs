//! Connections to other members: where they are, dialling them, and one caller for each member and lane.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::env::{ByteStream, Network};
use crate::peer::call::{CallError, Caller};
use crate::peer::tls::Tls;
use crate::peer::wire::{Connection, Hello, Lane, Request, Response, Welcome};

/// To reach a member, shake hands and be welcome.
const DIAL_DEADLINE: Duration = Duration::from_secs(2);

/// See the module head.
pub struct Transport {
    pub cluster_id: u64,
    pub me: u64,
    network: Arc<dyn Network>,
    tls: Arc<Tls>,
    addresses: RwLock<BTreeMap<u64, String>>,
    callers: Mutex<BTreeMap<(u64, Lane), Caller>>,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

impl Transport {
    pub fn new(
        cluster_id: u64,
        me: u64,
        network: Arc<dyn Network>,
        tls: Arc<Tls>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Transport> {
        let (addresses, callers) = Default::default();
        Arc::new(Transport {
            cluster_id,
            me,
            network,
            tls,
            addresses,
            callers,
            tasks,
            stop,
        })
    }

    /// Learns where members are. The newest word counts.
    pub fn learn_addresses(&self, known: impl IntoIterator<Item = (u64, String)>) {
        let mut addresses = self
            .addresses
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        addresses.extend(known.into_iter().filter(|(_, address)| !address.is_empty()));
    }

    /// A new connection to a member, proved to be that member of this cluster.
    pub async fn dial(&self, to: u64, lane: Lane) -> io::Result<Connection> {
        let dial = async {
            let address = self
                .addresses
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&to)
                .cloned();
            let unknown = || {
                io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("no address of member {to:016x}"),
                )
            };
            let stream = self.network.dial(address.ok_or_else(unknown)?).await?;
            let config = self.tls.client(to).map_err(io::Error::other)?;
            // The verifier goes by the member's id; the name only has to be well-formed.
            let name = ServerName::try_from("member.kontiki.internal").map_err(io::Error::other)?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            let mut connection = Connection::new(Box::new(stream) as Box<dyn ByteStream>);
            let hello = Hello {
                cluster_id: self.cluster_id,
                from: self.me,
                to,
                lane,
            };
            connection.writer.message(&hello).await?;
            match connection.reader.message(DIAL_DEADLINE).await? {
                Welcome::Accepted => Ok(connection),
                Welcome::Refused(why) => Err(io::Error::new(io::ErrorKind::ConnectionRefused, why)),
            }
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection within the deadline");
        timeout(DIAL_DEADLINE, dial).await.map_err(late)?
    }

    /// Calls a member and waits for its answer, at most this long.
    pub async fn call(
        self: &Arc<Self>,
        to: u64,
        lane: Lane,
        request: Request,
        deadline: Duration,
    ) -> Result<Response, CallError> {
        let caller = {
            let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
            callers
                .entry((to, lane))
                .or_insert_with(|| Caller::start(self, to, lane))
                .clone()
        };
        caller.call(request, deadline).await
    }
}
