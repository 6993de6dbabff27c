//! What every agent (scheduler, controllers, node agent) shares: a client of the Kubernetes API, one list+watch per
//! kind with indexed caches, a work queue, plans and their executor, leader election and event recording.
//!
//! Architecture invariant: an agent sees the cluster only through the HTTP API. Whether that API is reached over TLS or
//! by a call into the same process is decided by whoever builds the [`Client`], never by the agent.

pub mod cache;
pub mod cidr;
pub mod client;
pub mod context;
pub mod elector;
pub mod error;
pub mod events;
pub mod execute;
pub mod host_path;
pub mod hub;
pub mod kinds;
pub mod kubeconfig;
pub mod local_path;
pub mod metrics;
pub mod nameless;
pub mod outgoing;
pub mod plan;
pub mod pod_routes;
pub mod pressure;
pub mod quantity;
pub mod queue;
mod reflector;
pub mod resource_ref;
pub mod selector;
pub mod timestamp;
mod told;
mod transport;
pub mod watch;
pub mod worker;

pub use cache::{Cache, Change, Key};
pub use cidr::{Cidr, NodeRanges};
pub use client::{
    Body, BoxError, Client, ClientConfig, DeleteParams, Identity, InProcessService, ListParams,
    PatchType, Propagation, Stored, WatchParams,
};
pub use context::{AgentContext, ControllerOptions, Signing, SigningPair};
pub use elector::{Elector, ElectorConfig};
pub use error::ApiError;
pub use events::{EventRecorder, EventType};
pub use hub::Hub;
pub use nameless::Nameless;
pub use plan::{Op, Plan};
pub use queue::Queue;
pub use resource_ref::ResourceRef;
pub use told::Told;
