//! The client and the caches against servers that misbehave.

mod caches;
mod client;
mod elections;
mod plans;
mod server;
