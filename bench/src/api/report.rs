//! What was measured of an API, the aims, what kube-apiserver needs for the same, and the table of all three.

use serde::Serialize;

use crate::store::load::Load;
use crate::store::report::{Bound, number};

/// Which figure of a row an aim or a published number is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Measure {
    /// Microseconds of the servers' CPU, for one request or one event.
    Cpu,
    /// Megabytes of answers for a second of CPU.
    Throughput,
    /// What the row is about, in its unit.
    Amount,
}

/// What is known of an operation before it is measured. The published figures are those of kube-apiserver 1.36 with etcd
/// on two cores, for pods of 4.2 to 5 KB, without etcd's own part.
struct Known {
    operation: &'static str,
    measure: Measure,
    aim: Option<Bound>,
    kube_apiserver: Option<f64>,
}

const fn known(
    operation: &'static str,
    measure: Measure,
    aim: Option<Bound>,
    kube_apiserver: Option<f64>,
) -> Known {
    Known {
        operation,
        measure,
        aim,
        kube_apiserver,
    }
}

const fn at_most(limit: f64) -> Option<Bound> {
    Some(Bound::AtMost(limit))
}

const fn at_least(limit: f64) -> Option<Bound> {
    Some(Bound::AtLeast(limit))
}

pub(super) const GET: &str = "GET, resourceVersion unset";
pub(super) const GET_CACHED: &str = "GET, resourceVersion=0";
pub(super) const GET_PROTOBUF: &str = "GET in protobuf";
pub(super) const LIST: &str = "LIST in JSON";
pub(super) const LIST_PROTOBUF: &str = "LIST in protobuf";
pub(super) const LIST_PAGE: &str = "LIST in JSON, limit=500";
pub(super) const LIST_TABLE: &str = "LIST as Table";
pub(super) const LIST_PARTIAL: &str = "LIST as PartialObjectMetadata";
pub(super) const LIST_PARTIAL_PROTOBUF: &str = "LIST as PartialObjectMetadata in protobuf";
pub(super) const CREATE: &str = "create";
pub(super) const CREATE_PROTOBUF: &str = "create in protobuf";
pub(super) const MERGE: &str = "merge patch";
pub(super) const STRATEGIC: &str = "strategic merge patch";
pub(super) const APPLY: &str = "server-side apply";
pub(super) const UPDATE: &str = "update";
pub(super) const DELETE: &str = "delete";
pub(super) const OPEN: &str = "open a watch, TLS handshake included";
pub(super) const DELIVER: &str = "deliver an event to a watcher";
pub(super) const DELIVER_BURST: &str = "the same, eight writers at full speed";
pub(super) const PASS_BY: &str = "an event that a watcher's selector does not match";
pub(super) const WATCH_BYTES: &str = "memory of an open watch";
pub(super) const IDLE: &str = "memory idle, without agents";
pub(super) const IDLE_ALL: &str = "memory idle, with scheduler and controllers";
pub(super) const PODS_BYTES: &str = "memory that pods add, for each byte of their JSON";
pub(super) const READY: &str = "restart until ready";
pub(super) const LARGE_BYTES: &str = "memory of a large definition";
pub(super) const LARGE_CPU: &str = "create a large definition";
pub(super) const ESTABLISHED: &str = "from create to Established and served, slowest of large ones";
pub(super) const SMALL_BYTES: &str = "memory of a small definition";
pub(super) const SMALL_CPU: &str = "create a small definition";

const KNOWN: &[Known] = &[
    known(GET, Measure::Cpu, at_most(60.0), Some(1010.0)),
    known(GET_CACHED, Measure::Cpu, at_most(60.0), Some(865.0)),
    known(LIST, Measure::Throughput, at_least(400.0), Some(37.0)),
    known(LIST_PROTOBUF, Measure::Cpu, None, Some(282_000.0)),
    known(LIST_PAGE, Measure::Throughput, at_least(400.0), Some(30.0)),
    known(LIST_TABLE, Measure::Cpu, None, Some(423_000.0)),
    known(LIST_PARTIAL, Measure::Cpu, None, Some(198_000.0)),
    known(CREATE, Measure::Cpu, at_most(250.0), Some(3_477.0)),
    known(MERGE, Measure::Cpu, at_most(300.0), Some(8_000.0)),
    known(STRATEGIC, Measure::Cpu, at_most(300.0), None),
    known(OPEN, Measure::Cpu, None, Some(3_650.0)),
    known(DELIVER, Measure::Cpu, at_most(8.0), Some(70.0)),
    known(DELIVER_BURST, Measure::Cpu, at_most(8.0), Some(70.0)),
    known(PASS_BY, Measure::Cpu, at_most(0.5), Some(8.0)),
    known(IDLE, Measure::Amount, at_most(40.0), Some(273.0)),
    known(PODS_BYTES, Measure::Amount, at_most(2.5), Some(16.0)),
    known(READY, Measure::Amount, at_most(1.0), Some(8.0)),
    known(LARGE_BYTES, Measure::Amount, at_most(200.0), Some(15_000.0)),
    known(LARGE_CPU, Measure::Cpu, None, Some(760_000.0)),
    known(ESTABLISHED, Measure::Amount, at_most(100.0), None),
];

/// A line of the table; what was not measured is not a number, and null in JSON.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// Which servers.
    pub(super) servers: String,
    pub(super) operation: String,
    pub(super) cpu_micros: f64,
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) mb_per_cpu_second: f64,
    pub(super) amount: f64,
    pub(super) unit: &'static str,
    /// Beside the operation: how many there were.
    pub(super) note: String,
}

impl Row {
    fn empty(servers: &str, operation: &str) -> Row {
        Row {
            servers: servers.into(),
            operation: operation.into(),
            cpu_micros: f64::NAN,
            per_second: f64::NAN,
            p50_ms: f64::NAN,
            p99_ms: f64::NAN,
            mb_per_cpu_second: f64::NAN,
            amount: f64::NAN,
            unit: "",
            note: String::new(),
        }
    }

    /// Of requests, each answered with so many bytes. Where `knows_cpu` is not, no process was watched.
    pub(super) fn of_load(
        servers: &str,
        operation: &str,
        load: &Load,
        bytes_each: f64,
        knows_cpu: bool,
    ) -> Row {
        let cpu_seconds = match knows_cpu {
            true => load.cost.servers.cpu_seconds,
            false => f64::NAN,
        };
        let operations = load.operations() as f64;
        Row {
            cpu_micros: cpu_seconds * 1e6 / operations,
            per_second: load.per_second(),
            p50_ms: load.quantile_ms(0.5),
            p99_ms: load.quantile_ms(0.99),
            mb_per_cpu_second: bytes_each * operations / 1e6 / cpu_seconds,
            ..Row::empty(servers, operation)
        }
    }

    pub(super) fn cpu(servers: &str, operation: &str, cpu_micros: f64) -> Row {
        Row {
            cpu_micros,
            ..Row::empty(servers, operation)
        }
    }

    pub(super) fn amount(servers: &str, operation: &str, amount: f64, unit: &'static str) -> Row {
        Row {
            amount,
            unit,
            ..Row::empty(servers, operation)
        }
    }

    pub(super) fn note(self, note: impl Into<String>) -> Row {
        Row {
            note: note.into(),
            ..self
        }
    }

    /// For the progress: what is known, with its names.
    pub(super) fn told(&self) -> String {
        let cells = self.cells();
        let told: Vec<String> = HEAD
            .iter()
            .zip(&cells)
            .skip(2)
            .filter(|(_, cell)| !cell.is_empty())
            .map(|(head, cell)| format!("{head} {cell}"))
            .collect();
        format!("{:<9} {}: {}", cells[0], cells[1], told.join(", "))
    }

    fn value(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Cpu => self.cpu_micros,
            Measure::Throughput => self.mb_per_cpu_second,
            Measure::Amount => self.amount,
        }
    }

    fn unit(&self, measure: Measure) -> &'static str {
        match measure {
            Measure::Cpu => "us",
            Measure::Throughput => "MB/s",
            Measure::Amount => self.unit,
        }
    }

    /// Whether its aim is met; none where it has none, or was not measured.
    fn verdict(&self) -> Option<bool> {
        let known = self.known()?;
        let value = self.value(known.measure);
        Some(known.aim?.holds(value)).filter(|_| value.is_finite())
    }

    fn known(&self) -> Option<&'static Known> {
        KNOWN.iter().find(|known| known.operation == self.operation)
    }

    fn cells(&self) -> [String; HEAD.len()] {
        let known = self.known();
        let unit = known.map_or("", |known| self.unit(known.measure));
        let amount = match self.amount.is_finite() {
            true => format!("{} {}", number(self.amount), self.unit),
            false => String::new(),
        };
        let operation = match self.note.is_empty() {
            true => self.operation.clone(),
            false => format!("{} ({})", self.operation, self.note),
        };
        [
            self.servers.clone(),
            operation,
            shown(self.cpu_micros),
            shown(self.per_second),
            shown(self.p50_ms),
            shown(self.p99_ms),
            shown(self.mb_per_cpu_second),
            amount,
            known
                .and_then(|known| known.aim)
                .map_or(String::new(), |aim| aim.text(&format!(" {unit}"))),
            match self.verdict() {
                None => String::new(),
                Some(true) => "met".into(),
                Some(false) => "NOT MET".into(),
            },
            known
                .and_then(|known| known.kube_apiserver)
                .map_or(String::new(), |value| format!("{} {unit}", number(value))),
        ]
    }
}

fn shown(value: f64) -> String {
    match value.is_finite() {
        true => number(value),
        false => String::new(),
    }
}

const HEAD: [&str; 11] = [
    "servers",
    "operation",
    "CPU us",
    "/s",
    "p50 ms",
    "p99 ms",
    "MB/s a core",
    "amount",
    "aim",
    "met",
    "kube-apiserver",
];
/// Text; the rest are numbers.
const LEFT: [usize; 3] = [0, 1, 9];

/// Aims that were met, and all that could be judged.
pub(super) fn score(rows: &[Row]) -> (usize, usize) {
    let verdicts: Vec<bool> = rows.iter().filter_map(Row::verdict).collect();
    (verdicts.iter().filter(|met| **met).count(), verdicts.len())
}

pub(super) fn text(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(String::from)];
    lines.extend(rows.iter().map(Row::cells));
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| {
            let widths = lines.iter().map(|line| line[column].chars().count());
            widths.max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| match LEFT.contains(&column) {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Everything, for programs.
pub(super) fn json(rows: &[Row]) -> serde_json::Value {
    let rows: Vec<serde_json::Value> = rows
        .iter()
        .map(|row| {
            let mut value = serde_json::to_value(row).unwrap_or_default();
            value["met"] = row.verdict().into();
            if let Some(known) = row.known() {
                value["kube_apiserver"] = known.kube_apiserver.into();
                value["measure"] = format!("{:?}", known.measure).to_lowercase().into();
            }
            value
        })
        .collect();
    serde_json::json!({ "rows": rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_known_once() {
        let mut names: Vec<&str> = KNOWN.iter().map(|known| known.operation).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KNOWN.len());
    }

    #[test]
    fn an_aim_is_about_its_measure() {
        let slow = Row {
            mb_per_cpu_second: 10.0,
            ..Row::cpu("a", GET, 61.0)
        };
        assert_eq!(slow.verdict(), Some(false));
        assert_eq!(Row::cpu("a", GET, 60.0).verdict(), Some(true));
        assert_eq!(Row::amount("a", READY, 0.9, "s").verdict(), Some(true));
        let list = Row {
            mb_per_cpu_second: 400.0,
            ..Row::cpu("a", LIST, 1e9)
        };
        assert_eq!(list.verdict(), Some(true));
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        let unknown = Row::cpu("a", GET, f64::NAN);
        assert_eq!(unknown.verdict(), None);
        assert_eq!(unknown.cells()[2], "");
        assert_eq!(score(&[unknown, Row::cpu("a", GET, 1.0)]), (1, 1));
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [
            Row::cpu("1 member", GET, 55.5).note("8 clients"),
            Row::amount("1 member", IDLE, 41.0, "MB"),
        ];
        let text = text(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("(8 clients)") && lines[1].contains("<= 60 us"));
        assert!(
            lines[1].contains(" met ") && lines[1].ends_with("1010 us"),
            "{text}"
        );
        assert!(
            lines[2].contains("41.0 MB") && lines[2].contains("NOT MET"),
            "{text}"
        );
        let at = |line: &str, part: &str| line.find(part).map(|at| at + part.len());
        assert_eq!(at(lines[0], "CPU us"), at(lines[1], "55.5"));
    }

    #[test]
    fn programs_get_numbers_and_nulls() {
        let json = json(&[Row::cpu("1 member", GET, 55.5)]);
        let row = &json["rows"][0];
        assert_eq!(
            (row["cpu_micros"].as_f64(), row["met"].as_bool()),
            (Some(55.5), Some(true))
        );
        assert!(row["p50_ms"].is_null());
        assert_eq!(row["kube_apiserver"], 1010.0);
    }
}
