//! The generic verbs, each written once for all kinds.

pub(crate) mod apply;
pub(crate) mod create;
mod defaulted;
pub(crate) mod delete;
pub(crate) mod delete_collection;
pub(crate) mod get;
mod indent;
pub(crate) mod list;
mod list_body;
mod list_forms;
mod list_json;
mod list_protobuf;
pub(crate) mod patch;
pub(crate) mod update;
pub(crate) mod watch;
mod watch_socket;
