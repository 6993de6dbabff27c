//! Everything in the API server that reads what a stranger sent, as functions of bytes that must not panic, and that
//! hold the laws which they state. Two drivers share the list: the test here changes the seeds at random, with the same
//! chances in each run; `make fuzz` goes where the coverage of the code grows.
//!
//! Architecture invariant: a target is pure, and one entry of [`TARGETS`].

pub mod chance;
pub mod change;
pub mod samples;
mod targets;

/// One reader of bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What `make fuzz` calls it.
    pub name: &'static str,
    /// What it reads and what has to hold, one sentence.
    pub help: &'static str,
    /// Inputs that get somewhere.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Panics where a law is broken.
    pub run: fn(&[u8]),
}

/// All of them.
pub static TARGETS: &[Target] = &[
    targets::bodies::JSON,
    targets::bodies::YAML,
    targets::bodies::PROTOBUF,
    targets::bodies::PICK,
    targets::kinds::KINDS,
    targets::kinds::DEFINITIONS,
    targets::patches::JSON_PATCH,
    targets::patches::MERGE_PATCH,
    targets::patches::STRATEGIC_PATCH,
    targets::patches::APPLY,
    targets::patches::MANAGED_FIELDS,
    targets::texts::LABEL_SELECTOR,
    targets::texts::FIELD_SELECTOR,
    targets::texts::QUANTITY,
    targets::texts::TIME,
    targets::texts::JSON_PATH,
    targets::texts::NAMES,
    targets::texts::CEL,
    targets::credentials::TOKENS,
    targets::credentials::CERTIFICATE,
    targets::tunnels::SPDY,
    targets::tunnels::SPDY_HEADERS,
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
