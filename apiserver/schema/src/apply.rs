//! Server-side apply and the fields that managers own: `application/apply-patch+yaml` and
//! `metadata.managedFields`.
//!
//! Every writer owns the fields it set. Who applies a configuration owns what stands in it, loses
//! the fields that it names no longer, and is told when it would change what another one owns. The
//! rules are those of Kubernetes' structured merge; the schema table says which lists have keys and
//! what is one value as a whole.
//!
//! - `set`: paths of fields as a tree, and its written form, `FieldsV1`
//! - `element`: one step of a path
//! - `atom`: what the schema says of a place
//! - `fields`, `added`, `compare`, `merge`, `remove`, `check`: the walks along values
//! - `managers`: the entries of `managedFields`, and what an update does to them
//! - `apart`: an update of entries that stay text where it does not touch them
//! - `versions`: the same write in the versions that the entries have
//! - `operation`: applying, with its conflicts
//! - `overlay`: a configuration laid over an object, without owners
//! - `client_side`: what was applied by kubectl without the server's help before

mod added;
mod apart;
mod atom;
mod check;
mod client_side;
mod compare;
mod element;
mod fields;
mod managers;
mod merge;
mod operation;
mod overlay;
mod remove;
mod set;
mod versions;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod samples;

pub use apart::updated_apart;
pub use element::InOrder;
pub use managers::{Who, entered, same_but_times, updated};
pub use operation::{ApplyError, Conflict, apply, apply_to, fits};
pub use overlay::overlay;
pub use versions::Versions;
