//! SPDY/3.1, as far as Kubernetes uses it: exec, attach and port-forward of kubectl before 1.31.
//!
//! Newer clients speak WebSocket, which the rest of the system speaks too. This crate is the server's side of the
//! old protocol: a codec ([`frame`], [`headers`]), the rules of a connection ([`connection`]), both without I/O, an
//! async shell ([`session`]), and the two uses ([`remotecommand`], [`portforward`]), which turn the streams of a
//! session into WebSocket channel frames or into connections.
//!
//! The clients' library (spdystream) neither sends WINDOW_UPDATE nor obeys it. Windows are therefore enforced only
//! against a peer that has shown to know them; against others the bound is the socket's own back-pressure.

pub mod connection;
mod dictionary;
pub mod frame;
pub mod headers;
pub mod portforward;
pub mod remotecommand;
pub mod session;
pub mod upgrade;

pub use remotecommand::{NodeChannels, Options, serve_remotecommand};
pub use upgrade::{is_upgrade, negotiate, upgrade_response_headers};
