//! What compiled schemas take in memory: compiles the schemas of a definition many times over and
//! looks at the process. `cargo run -p schema --example schema_memory -- crd.json 1000`
//!
//! The file is a CustomResourceDefinition as JSON.

use std::time::Instant;

use schema::Structural;
use serde_json::Value;

fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: schema_memory <crd.json> <times>";
    let mut arguments = std::env::args().skip(1);
    let text = std::fs::read_to_string(arguments.next().ok_or(usage)?)?;
    let times: usize = arguments.next().ok_or(usage)?.parse()?;
    let definition: Value = serde_json::from_str(&text)?;
    let versions = definition["spec"]["versions"].as_array();
    let schemas: Vec<&Value> = versions
        .into_iter()
        .flatten()
        .filter_map(|version| version.pointer("/schema/openAPIV3Schema"))
        .collect();
    let before = resident_kib().unwrap_or(0);
    let start = Instant::now();
    let compiled: Vec<Structural> = (0..times)
        .flat_map(|_| {
            schemas
                .iter()
                .filter_map(|schema| Structural::compile(schema))
        })
        .collect();
    let took = start.elapsed();
    let grown = resident_kib().unwrap_or(0).saturating_sub(before);
    let count = compiled.len().max(1) as u64;
    println!(
        "{} schemas of {} bytes of JSON: {} bytes each by estimate, {} KiB each of the process, {:?} each to compile",
        compiled.len(),
        text.len(),
        compiled.first().map_or(0, Structural::size_bytes),
        grown / count,
        took / u32::try_from(count)?,
    );
    Ok(())
}
