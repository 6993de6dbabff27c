//! The way in without a port, for clients in the same process: a simulation's, whose members have no sockets. It leads
//! to the same methods, with requests and answers of HTTP. No certificate is looked at: who has the member itself, from
//! which alone a door is made, can do all of this anyway, and says who calls.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tonic::body::Body;

use super::auth::ClientName;
use super::front::{Front, Options};
use super::methods;
use crate::node::Node;

/// What is otherwise than at a port.
#[derive(Clone, Debug)]
pub struct DoorSettings {
    /// Where etcd clients reach this member, as it says.
    pub client_url: String,
    /// How often a quiet watch that asked for it is told how far it is.
    pub progress_interval: Duration,
    /// A watch's answer of more bytes goes in pieces to who can put them together.
    pub fragment_bytes: usize,
    /// Parts of ranges, on their way and as a stream.
    pub part_bytes: usize,
}

/// See the module head. Clones are one door.
#[derive(Clone)]
pub struct Door(Arc<Front>);

impl Door {
    pub fn new(member: Arc<Node>, settings: DoorSettings) -> Door {
        let options = Options {
            client_url: settings.client_url,
            progress_interval: settings.progress_interval,
            fragment_bytes: settings.fragment_bytes,
            part_bytes: settings.part_bytes,
            stream_part_bytes: settings.part_bytes,
            ..Options::default()
        };
        Door(Front::new(member, options))
    }

    /// Calls a method of gRPC in the name of this client, as if on a connection of its own.
    pub fn call(
        &self,
        client: &str,
        mut request: http::Request<Body>,
    ) -> impl Future<Output = http::Response<Body>> + Send + use<> {
        let caller = self.0.clients.named(client.as_bytes());
        let name = ClientName(client.into());
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(name);
        methods::dispatch(self.0.clone(), request)
    }
}
