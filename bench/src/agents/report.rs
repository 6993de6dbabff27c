//! What was measured, beside what is known and wanted, as a table and for programs.

use serde::Serialize;

use super::workloads::TIMES;
use crate::store::report::number;

/// A line; what was not measured is not a number, and null in JSON.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) members: u8,
    pub(super) mode: &'static str,
    /// As `5000/1000/10000`: nodes, pods before, pods measured.
    pub(super) sizes: String,
    pub(super) median: f64,
    pub(super) overall: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Of all servers, for a pod.
    pub(super) cpu_micros: f64,
    pub(super) memory_mb: f64,
    /// Kubernetes' threshold in pods a second.
    pub(super) threshold: Option<f64>,
    /// Whether it was run at the size for which the threshold holds: with fewer nodes everything is faster.
    pub(super) full: bool,
    /// What else is to be said.
    pub(super) note: String,
}

impl Row {
    pub(super) fn new(what: impl Into<String>, members: u8) -> Row {
        Row {
            what: what.into(),
            members,
            mode: "",
            sizes: String::new(),
            median: f64::NAN,
            overall: f64::NAN,
            p50_ms: f64::NAN,
            p99_ms: f64::NAN,
            cpu_micros: f64::NAN,
            memory_mb: f64::NAN,
            threshold: None,
            full: true,
            note: String::new(),
        }
    }

    /// Whether it is as many times better as it is to be; none where there is nothing that can be compared. The threshold is
    /// one for the average, and the median of the few seconds that a run takes would be of chance.
    fn verdict(&self) -> Option<bool> {
        let met = self.overall >= self.threshold? * TIMES;
        Some(met).filter(|_| self.full && self.overall.is_finite())
    }

    fn cells(&self) -> [String; HEAD.len()] {
        let shown = |value: f64| match value.is_finite() {
            true => number(value),
            false => String::new(),
        };
        let of_threshold = |times: f64| {
            let threshold = self.threshold.map(|threshold| number(threshold * times));
            threshold.unwrap_or_default()
        };
        [
            self.what.clone(),
            self.members.to_string(),
            self.mode.into(),
            self.sizes.clone(),
            shown(self.median),
            shown(self.overall),
            shown(self.p50_ms),
            shown(self.p99_ms),
            shown(self.cpu_micros),
            shown(self.memory_mb),
            of_threshold(1.0),
            of_threshold(TIMES),
            match self.verdict() {
                None => String::new(),
                Some(true) => "met".into(),
                Some(false) => "NOT MET".into(),
            },
            self.note.clone(),
        ]
    }

    /// For the progress.
    pub(super) fn told(&self) -> String {
        let cells = self.cells();
        let told = HEAD.iter().zip(&cells).skip(1);
        let told: Vec<String> = told
            .filter(|(_, cell)| !cell.is_empty())
            .map(|(head, cell)| format!("{head} {cell}"))
            .collect();
        format!("{}: {}", self.what, told.join(", "))
    }
}

const HEAD: [&str; 14] = [
    "what",
    "members",
    "mode",
    "nodes/before/pods",
    "pods/s median",
    "pods/s overall",
    "p50 ms",
    "p99 ms",
    "CPU us a pod",
    "MB",
    "Kubernetes'",
    "aim",
    "met",
    "",
];
/// Text; the rest are numbers.
const LEFT: [usize; 5] = [0, 2, 3, 12, 13];

pub(super) fn text(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(String::from)];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let columns = line.iter().zip(&widths).enumerate();
        let cells: Vec<String> = columns
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

/// Aims that were met, and all that could be judged.
pub(super) fn score(rows: &[Row]) -> (usize, usize) {
    let verdicts: Vec<bool> = rows.iter().filter_map(Row::verdict).collect();
    (verdicts.iter().filter(|met| **met).count(), verdicts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(median: f64, overall: f64) -> Row {
        Row {
            mode: "created",
            sizes: "500/100/1000".into(),
            median,
            overall,
            threshold: Some(270.0),
            ..Row::new("1 SchedulingBasic", 1)
        }
    }

    #[test]
    fn the_aim_is_ten_times_the_threshold() {
        assert_eq!(row(1.0, 2_700.0).verdict(), Some(true));
        assert_eq!(row(9_000.0, 2_699.0).verdict(), Some(false));
        // A run that is too short for samples has an average all the same.
        assert_eq!(row(f64::NAN, 2_700.0).verdict(), Some(true));
        assert_eq!(row(f64::NAN, f64::NAN).verdict(), None);
        let small = Row {
            full: false,
            ..row(1.0, 2_700.0)
        };
        assert_eq!(small.verdict(), None);
        let rows = [row(1.0, 2_700.0), row(1.0, 1.0), Row::new("memory", 1)];
        assert_eq!(score(&rows), (1, 2));
    }

    #[test]
    fn a_table_has_what_is_known_and_no_more() {
        let rows = [
            row(2_800.0, 2_750.5),
            Row {
                memory_mb: 91.0,
                ..Row::new("memory", 3)
            },
        ];
        let text = text(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let at = |line: &str, part: &str| line.find(part).map(|at| at + part.len());
        assert_eq!(
            at(lines[0], "pods/s median"),
            at(lines[1], "2800"),
            "{text}"
        );
        assert!(
            lines[1].contains("270") && lines[1].ends_with("met"),
            "{text}"
        );
        assert!(
            lines[2].contains("91.0") && !lines[2].contains("NaN"),
            "{text}"
        );
        let json = serde_json::to_value(&rows[1]).unwrap();
        assert!(json["median"].is_null() && json["memory_mb"] == 91.0);
    }
}
