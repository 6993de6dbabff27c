//! Definitions of custom resources: some with the schema of a pod, and very many small ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::http::{Connection, Request};
use super::objects::{GROUP, definition, definition_name, large_spec, small_spec};
use super::plane::{DEFINITIONS, Make, Plane};
use super::report::{self, Row};
use super::{Bench, Rows};
use crate::store::load::{Latencies, Meter, Span, micros_since};

/// As the index of the server's documents names what is in each of them.
const CORE_DOCUMENT: &str = "/openapi/v3/api/v1";
const POD_SPEC: &str = "io.k8s.api.core.v1.PodSpec";
const PATIENCE: Duration = Duration::from_secs(60);
/// Who create the small ones.
const CLIENTS: usize = 8;

pub(super) async fn run(bench: &Bench<'_>, plane: &Plane, rows: &mut Rows<'_>) -> Result<()> {
    let connection = plane.connect().await?;
    let document = connection.ask(&Request::get(CORE_DOCUMENT)).await?.json()?;
    let large = large_spec(&document, POD_SPEC)?;
    drop(document);
    let count = bench.args.large_definitions;
    let idle = plane.settled_memory().await?;
    bench.progress(plane, &format!("creates {count} large definitions"));
    let meter = Meter::at(plane.pids())?;
    let mut micros = Vec::new();
    for number in 0..count {
        micros.push(established(&connection, number, &large).await?);
    }
    let cpu = meter.stop()?.servers.cpu_seconds;
    let note = format!(
        "{count} of {} kB",
        definition(0, &large).to_string().len() / 1000
    );
    let latencies = Latencies::new(micros);
    rows.keep(cost(plane, report::LARGE_CPU, cpu, count).note(note.clone()));
    let slowest = latencies.quantile_ms(1.0);
    rows.keep(Row {
        p50_ms: latencies.quantile_ms(0.5),
        p99_ms: latencies.quantile_ms(0.99),
        ..Row::amount(&plane.name, report::ESTABLISHED, slowest, "ms")
    });
    let with_large = plane.settled_memory().await?;
    let each = (with_large - idle) / count as f64 / 1e3;
    rows.keep(Row::amount(&plane.name, report::LARGE_BYTES, each, "kB").note(note));

    let small = bench.args.small_definitions;
    bench.progress(plane, &format!("creates {small} small definitions"));
    let row = plane
        .row(
            report::SMALL_CPU,
            CLIENTS,
            Span::Operations(small),
            create_small(count),
        )
        .await?;
    rows.keep(row.note(format!("{small} of them, {CLIENTS} clients")));
    let each = (plane.settled_memory().await? - with_large) / small as f64 / 1e3;
    let note = format!("{small} of them, {:.0} MB resident", plane.memory()? / 1e6);
    rows.keep(Row::amount(&plane.name, report::SMALL_BYTES, each, "kB").note(note));
    healthy(plane, count + small, rows).await
}

fn cost(plane: &Plane, operation: &str, cpu_seconds: f64, count: u64) -> Row {
    let micros = match plane.knows_processes() {
        true => cpu_seconds * 1e6 / count as f64,
        false => f64::NAN,
    };
    Row::cpu(&plane.name, operation, micros)
}

/// Creates a definition and waits until it is established and its objects are served; how many microseconds that took.
async fn established(connection: &Connection, number: u64, spec: &Value) -> Result<u32> {
    let text = definition(number, spec).to_string();
    let began = Instant::now();
    let deadline = began + PATIENCE;
    let mut answer = connection.ask(&Request::post(DEFINITIONS, text)).await?;
    let path = format!("{DEFINITIONS}/{}", definition_name(number));
    while !is_established(&answer.json()?) {
        wait(deadline).await?;
        answer = connection.ask(&Request::get(path.as_str())).await?;
    }
    let objects = Request::get(objects_path(number));
    while connection.call(&objects).await?.status != 200 {
        wait(deadline).await?;
    }
    Ok(micros_since(began))
}

async fn wait(deadline: Instant) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(1);
    if Instant::now() > deadline {
        bail!("a definition is not established within {PATIENCE:?}");
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

fn objects_path(number: u64) -> String {
    format!("/apis/{GROUP}/v1/kinds{number}")
}

fn is_established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Established" && condition["status"] == "True")
}

/// Definitions from number `first` on.
fn create_small(first: u64) -> Make {
    const NUMBER: u64 = 111_222_333;
    let text = definition(NUMBER, &small_spec()).to_string();
    let mark = NUMBER.to_string();
    Arc::new(move |_, number| {
        let body = text.replace(&mark, &(first + number).to_string());
        Request::post(DEFINITIONS, body)
    })
}

/// With so many definitions: the server is ready, writes and reads, and can say all that there is.
async fn healthy(plane: &Plane, count: u64, rows: &mut Rows<'_>) -> Result<()> {
    let connection = plane.connect().await?;
    connection
        .ask(&Request::get("/readyz"))
        .await
        .context("the server is not ready")?;
    let last = count - 1;
    let object = serde_json::json!({ "apiVersion": format!("{GROUP}/v1"), "kind": format!("Kind{last}"),
        "metadata": { "name": "one" }, "spec": { "size": 1 } });
    let path = format!(
        "/apis/{GROUP}/v1/namespaces/{}/kinds{last}",
        super::plane::WRITTEN
    );
    connection
        .ask(&Request::post(path.as_str(), object.to_string()))
        .await?;
    for (what, path) in [
        ("discovery of the group", format!("/apis/{GROUP}/v1")),
        (
            "OpenAPI of the group",
            format!("/openapi/v3/apis/{GROUP}/v1"),
        ),
        ("a GET beside them", format!("{path}/one")),
    ] {
        let meter = Meter::at(plane.pids())?;
        let began = Instant::now();
        let answer = connection.ask(&Request::get(path)).await?;
        let ms = f64::from(micros_since(began)) / 1e3;
        let cpu = meter.stop()?.servers.cpu_seconds;
        let size = format!("{count} definitions, {:.1} MB", answer.len() as f64 / 1e6);
        rows.keep(
            Row {
                p50_ms: ms,
                ..cost(plane, what, cpu, 1)
            }
            .note(size),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_definition_is_established_when_it_says_so() {
        let with = |status: &str| {
            json!({ "status": { "conditions": [
            { "type": "NamesAccepted", "status": "True" }, { "type": "Established", "status": status } ] } })
        };
        assert!(is_established(&with("True")));
        assert!(!is_established(&with("False")));
        assert!(!is_established(&json!({})));
    }

    #[test]
    fn small_definitions_follow_the_large_ones() {
        let make = create_small(50);
        let made: Value = serde_json::from_slice(&make(3, 7).body).unwrap();
        assert_eq!(made, definition(57, &small_spec()));
    }
}
