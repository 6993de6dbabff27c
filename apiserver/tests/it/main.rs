//! In-process tests of the API: requests through the router, the store in memory.

mod admission;
mod apply;
mod bad_input;
mod client_certificate;
mod conformance;
mod conversions;
mod crud;
mod custom_fields;
mod custom_openapi;
mod custom_resources;
mod definitions;
mod delete;
mod discovery;
mod http;
mod list;
mod listener;
mod odd_store;
mod patch;
mod policies;
mod protobuf;
mod rules;
mod server;
mod start;
mod subresources;
mod watch;
mod webhooks;
