//! How long an object takes from JSON to protobuf and back, beside the way over a value.
//! `cargo run --release -p schema --example protobuf_speed -- pod.json 100000`
//!
//! The file is an object of a built-in kind as JSON, as `kubectl get --output json` prints it.

use std::hint::black_box;
use std::time::Instant;

use schema::protobuf::{self, Encoder, ProtobufError, Shown};
use schema::types::type_of_api_version;
use serde_json::Value;

/// Shows what one of so many steps takes, by the bytes of the object's JSON.
#[allow(clippy::print_stdout)]
fn measure(
    what: &str,
    (times, bytes): (u32, usize),
    mut step: impl FnMut() -> Result<(), ProtobufError>,
) -> Result<(), ProtobufError> {
    let start = Instant::now();
    for _ in 0..times {
        step()?;
    }
    let seconds = start.elapsed().as_secs_f64() / f64::from(times);
    let (micros, speed) = (seconds * 1e6, bytes as f64 / 1e6 / seconds);
    println!("{what:<32} {micros:>8.2} us {speed:>8.0} MB/s of JSON");
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: protobuf_speed <object.json> <times>";
    let mut arguments = std::env::args().skip(1);
    let text = std::fs::read_to_string(arguments.next().ok_or(usage)?)?;
    let times: u32 = arguments.next().ok_or(usage)?.parse()?;
    let value: Value = serde_json::from_str(&text)?;
    let name = |key: &str| value[key].as_str().unwrap_or_default();
    let ty = type_of_api_version(name("apiVersion"), name("kind"));
    let ty = ty.ok_or("the object is of no built-in kind")?;
    let json = value.to_string();
    let of = (times, json.len());
    let mut encoder = Encoder::default();
    let mut message = Vec::new();
    measure("JSON to protobuf", of, || {
        message.clear();
        encoder.message(Shown::Object(ty), json.as_bytes(), &mut message)
    })?;
    measure("JSON to a value to protobuf", of, || {
        let value: Value =
            serde_json::from_str(&json).map_err(|error| ProtobufError::Json(error.to_string()))?;
        black_box(protobuf::encode_message(ty, &value)?);
        Ok(())
    })?;
    measure("protobuf to a value", of, || {
        black_box(protobuf::decode_message(ty, &message)?);
        Ok(())
    })?;
    Ok(())
}
