//! Memory of a server: idle, and with many pods in it; and how long one needs to be ready again that has so many objects.

use anyhow::Result;

use super::http::Request;
use super::plane::{MANY, Plane, pods};
use super::report::{self, Row};
use super::{Bench, Rows};

pub(super) async fn run(bench: &Bench<'_>, plane: &mut Plane, rows: &mut Rows<'_>) -> Result<()> {
    if !plane.knows_processes() {
        bench.progress(
            plane,
            "memory is not measured: name the server's process with --pid",
        );
        return Ok(());
    }
    let idle = plane.settled_memory().await?;
    rows.keep(Row::amount(&plane.name, report::IDLE, idle / 1e6, "MB"));
    let mut there = 0;
    for target in &bench.args.population {
        bench.progress(plane, &format!("creates pods up to {target}"));
        plane.fill(MANY, there, *target).await?;
        there = there.max(*target);
        let memory = plane.settled_memory().await?;
        let json = json_bytes(plane, *target).await?;
        let note = format!(
            "{target} pods, {:.0} MB of JSON, {:.0} MB resident",
            json / 1e6,
            memory / 1e6
        );
        let each = (memory - idle) / json;
        rows.keep(Row::amount(&plane.name, report::PODS_BYTES, each, "bytes").note(note));
    }
    if plane.own.is_none() {
        return Ok(());
    }
    let objects = bench.args.objects;
    bench.progress(plane, &format!("creates pods up to {objects}"));
    plane.fill(MANY, there, objects).await?;
    for _ in 0..3 {
        let took = plane.restart().await?.as_secs_f64();
        let cpu = super::cpu_seconds(plane)?;
        let connection = plane.connect().await?;
        connection
            .ask(&Request::get(format!("{}?limit=1", pods(MANY))))
            .await?;
        let note = format!(
            "{objects} pods, {cpu:.2} s of CPU, {:.0} MB resident",
            plane.memory()? / 1e6
        );
        rows.keep(Row::amount(&plane.name, report::READY, took, "s").note(note));
    }
    Ok(())
}

/// Of all pods in one list: some thousands tell it for all, since they are alike.
async fn json_bytes(plane: &Plane, pods_there: u64) -> Result<f64> {
    const SAMPLE: u64 = 1_000;
    let sample = SAMPLE.min(pods_there);
    let connection = plane.connect().await?;
    let list = connection
        .ask(&Request::get(format!("{}?limit={sample}", pods(MANY))))
        .await?;
    Ok(list.len() as f64 * pods_there as f64 / sample as f64)
}
