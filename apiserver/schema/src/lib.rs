//! What a Kubernetes object is, as pure functions on values: its schema table, its encodings
//! (JSON, YAML, protobuf), its patches, selectors, names, quantities and the OpenAPI documents.
//!
//! Architecture invariant: nothing here does I/O, knows the time or knows which kinds the server
//! serves. The table in `data/` describes built-in types, `structural` those of custom resources;
//! the list of served kinds lives in `resources`.

pub mod apply;
pub mod decode;
pub mod field;
pub mod jsonpath;
pub mod letters;
pub mod names;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod pick;
pub mod protobuf;
pub mod quantity;
pub mod read;
pub mod renew;
pub mod selector;
pub mod structural;
pub mod time;
pub mod types;

pub use object::Object;
pub use structural::{Schema, Structural};
pub use types::{Type, type_named, type_of};
