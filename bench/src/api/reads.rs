//! GET and LIST in every form, of pods that do not change meanwhile.

use std::sync::Arc;

use anyhow::Result;

use super::http::{JSON, PROTOBUF, Request};
use super::plane::{Make, Plane, READ, numbered, pods};
use super::report::{self, Row};
use super::{Bench, Rows};

const GET_CLIENTS: usize = 8;
const LIST_CLIENTS: usize = 2;
const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";
const PARTIAL: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const PARTIAL_PROTOBUF: &str =
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

pub(super) async fn run(bench: &Bench<'_>, plane: &Plane, rows: &mut Rows<'_>) -> Result<()> {
    let pods = bench.args.listed_pods;
    bench.progress(plane, &format!("creates {pods} pods to read"));
    plane.fill(READ, 0, pods).await?;
    for (operation, query, accept) in [
        (report::GET, "", JSON),
        (report::GET_CACHED, "?resourceVersion=0", JSON),
        (report::GET_PROTOBUF, "", PROTOBUF),
    ] {
        let make = get(pods, query, accept);
        let row = plane.row(operation, GET_CLIENTS, bench.span(), make);
        rows.keep(row.await?.note(format!("{GET_CLIENTS} clients")));
    }
    for (operation, query, accept) in [
        (report::LIST, "", JSON),
        (report::LIST_PROTOBUF, "", PROTOBUF),
        (report::LIST_PAGE, "?limit=500", JSON),
        (report::LIST_TABLE, "", TABLE),
        (report::LIST_PARTIAL, "", PARTIAL),
        (report::LIST_PARTIAL_PROTOBUF, "", PARTIAL_PROTOBUF),
    ] {
        let row: Row = plane
            .row(operation, LIST_CLIENTS, bench.span(), list(query, accept))
            .await?;
        rows.keep(row.note(format!("of {pods} pods")));
    }
    Ok(())
}

/// Another pod each time.
fn get(count: u64, query: &'static str, accept: &'static str) -> Make {
    Arc::new(move |_, number| {
        let name = numbered(number.wrapping_mul(7919) % count);
        Request::get(format!("{}/{name}{query}", pods(READ))).accepting(accept)
    })
}

fn list(query: &'static str, accept: &'static str) -> Make {
    Arc::new(move |_, _| Request::get(format!("{}{query}", pods(READ))).accepting(accept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pods_that_are_there_are_asked_for() {
        let make = get(10, "?resourceVersion=0", JSON);
        for number in 0..100 {
            let path = make(0, number).path;
            let name = path.rsplit('/').next().unwrap();
            let name = name.strip_suffix("?resourceVersion=0").unwrap();
            assert!((0..10).any(|known| numbered(known) == name), "{path}");
        }
    }
}
