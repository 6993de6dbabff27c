//! Figures of all rounds, and the table that is made of them.

use crate::cluster::System;
use crate::median;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(limit) => value >= limit,
            Bound::AtMost(limit) => value <= limit,
        }
    }

    pub(crate) fn text(self, unit: &str) -> String {
        match self {
            Bound::AtLeast(limit) => format!(">= {limit}{unit}"),
            Bound::AtMost(limit) => format!("<= {limit}{unit}"),
        }
    }
}

/// What Kontiki's figure is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Aim {
    None,
    /// In proportion to etcd's.
    Ratio(Bound),
    /// By itself, in the figure's unit.
    Alone(Bound),
}

impl Aim {
    pub(crate) const fn at_least(times: f64) -> Aim {
        Aim::Ratio(Bound::AtLeast(times))
    }

    pub(crate) const fn at_most(times: f64) -> Aim {
        Aim::Ratio(Bound::AtMost(times))
    }

    fn text(self, unit: &str) -> String {
        match self {
            Aim::None => String::new(),
            Aim::Ratio(bound) => bound.text("x"),
            Aim::Alone(bound) => bound.text(&format!(" {unit}")),
        }
    }

    /// Nothing where there is no aim; an aim without the figures to judge it is missed.
    fn verdict(self, ours: f64, etcd: f64) -> &'static str {
        let met = match self {
            Aim::None => return "",
            Aim::Ratio(bound) => bound.holds(ours / etcd),
            Aim::Alone(bound) => bound.holds(ours),
        };
        if met { "met" } else { "NOT MET" }
    }
}

/// One measured number. Figures of one workload, measure and unit belong together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) workload: String,
    pub(crate) measure: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    pub(crate) aim: Aim,
}

/// Shown only where it is not 0 for both.
pub(crate) const ERRORS: &str = "errors";

impl Figure {
    pub(crate) fn new(
        workload: &str,
        measure: &'static str,
        unit: &'static str,
        value: f64,
    ) -> Figure {
        Figure {
            workload: workload.to_string(),
            measure,
            unit,
            value,
            aim: Aim::None,
        }
    }

    pub(crate) fn aim(self, aim: Aim) -> Figure {
        Figure { aim, ..self }
    }
}

/// A line of the table: medians over the rounds, not a number where a system was not measured.
#[derive(Debug)]
pub(crate) struct Row {
    figure: Figure,
    ours: Vec<f64>,
    etcd: Vec<f64>,
}

/// In the order in which the figures came first.
pub(crate) fn rows(figures: &[(System, Figure)]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (system, figure) in figures {
        let same = |row: &Row| {
            (&row.figure.workload, row.figure.measure, row.figure.unit)
                == (&figure.workload, figure.measure, figure.unit)
        };
        let at = rows.iter().position(same).unwrap_or_else(|| {
            rows.push(Row {
                figure: figure.clone(),
                ours: Vec::new(),
                etcd: Vec::new(),
            });
            rows.len() - 1
        });
        match system {
            System::Kontiki => rows[at].ours.push(figure.value),
            System::Etcd => rows[at].etcd.push(figure.value),
        }
    }
    let silent = |row: &Row| {
        let mut values = row.ours.iter().chain(&row.etcd);
        row.figure.measure == ERRORS && values.all(|value| *value == 0.0)
    };
    rows.retain(|row| !silent(row));
    rows
}

const HEAD: [&str; 9] = [
    "workload", "measure", "unit", "ours", "etcd", "ratio", "aim", "met", "spread",
];

impl Row {
    fn cells(&self) -> [String; HEAD.len()] {
        let (ours, etcd) = (median(&self.ours), median(&self.etcd));
        let ratio = ours / etcd;
        let missing = || "-".to_string();
        [
            self.figure.workload.clone(),
            self.figure.measure.to_string(),
            self.figure.unit.to_string(),
            number(ours),
            number(etcd),
            match ratio.is_finite() {
                true if ratio < 0.1 => format!("{ratio:.4}"),
                true => format!("{ratio:.2}"),
                false => missing(),
            },
            self.figure.aim.text(self.figure.unit),
            self.figure.aim.verdict(ours, etcd).to_string(),
            format!("{} / {}", spread(&self.ours), spread(&self.etcd)),
        ]
    }
}

/// Aims that were met, and all.
pub(crate) fn score(rows: &[Row]) -> (usize, usize) {
    let verdicts = rows.iter().map(|row| row.cells()[7].clone());
    verdicts.fold((0, 0), |(met, all), verdict| match verdict.as_str() {
        "" => (met, all),
        verdict => (met + usize::from(verdict == "met"), all + 1),
    })
}

/// Three digits that count are enough for a figure that moves by some percent from round to round.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".into(),
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.1 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    }
}

/// From the lowest to the highest round, in percent of the median.
fn spread(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let percent = (high - low) / median(values) * 100.0;
    match values.len() {
        0 | 1 => "-".into(),
        _ if percent.is_finite() => format!("{percent:.0}%"),
        _ => "-".into(),
    }
}

pub(crate) fn text(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(String::from)];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    let mut before = "";
    for line in &lines {
        let mut out = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            // A workload is named once.
            let cell = if column == 0 && cell == before {
                ""
            } else {
                cell
            };
            let padded = match column {
                3..=5 => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            };
            out.push_str(&padded);
            out.push_str("  ");
        }
        text.push_str(out.trim_end());
        text.push('\n');
        before = &line[0];
    }
    text
}

pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = format!("| {} |\n", HEAD.join(" | "));
    text.push_str("|---|---|---|---:|---:|---:|---|---|---|\n");
    for row in rows {
        text.push_str(&format!("| {} |\n", row.cells().join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(measure: &'static str, value: f64, aim: Aim) -> Figure {
        Figure::new("put", measure, "/s", value).aim(aim)
    }

    #[test]
    fn an_aim_is_met_at_its_bound() {
        let twice = Aim::at_least(2.0);
        assert_eq!(twice.verdict(200.0, 100.0), "met");
        assert_eq!(twice.verdict(199.0, 100.0), "NOT MET");
        let half = Aim::at_most(0.5);
        assert_eq!(half.verdict(50.0, 100.0), "met");
        assert_eq!(half.verdict(51.0, 100.0), "NOT MET");
        let alone = Aim::Alone(Bound::AtMost(16.0));
        assert_eq!(alone.verdict(16.0, f64::NAN), "met");
        assert_eq!(alone.verdict(17.0, 1000.0), "NOT MET");
        assert_eq!(Aim::None.verdict(1.0, 1.0), "");
    }

    #[test]
    fn an_aim_without_figures_is_not_met() {
        for aim in [
            Aim::at_least(2.0),
            Aim::at_most(2.0),
            Aim::Alone(Bound::AtMost(16.0)),
        ] {
            assert_eq!(aim.verdict(f64::NAN, 1.0), "NOT MET", "{aim:?}");
        }
        assert_eq!(Aim::at_most(2.0).verdict(1.0, f64::NAN), "NOT MET");
    }

    #[test]
    fn a_row_has_the_medians_and_their_ratio() {
        let aim = Aim::at_least(2.0);
        let figures: Vec<(System, Figure)> = [
            (System::Kontiki, 300.0),
            (System::Etcd, 100.0),
            (System::Etcd, 110.0),
            (System::Kontiki, 330.0),
            (System::Kontiki, 310.0),
            (System::Etcd, 90.0),
        ]
        .map(|(system, value)| (system, figure("rate", value, aim)))
        .to_vec();
        let rows = rows(&figures);
        assert_eq!(rows.len(), 1);
        assert_eq!(
            rows[0].cells(),
            [
                "put",
                "rate",
                "/s",
                "310",
                "100",
                "3.10",
                ">= 2x",
                "met",
                "10% / 20%"
            ]
        );
        assert_eq!(score(&rows), (1, 1));
    }

    #[test]
    fn a_system_that_was_not_measured_has_no_number() {
        let rows = rows(&[(System::Kontiki, figure("rate", 3.0, Aim::at_least(2.0)))]);
        let cells = rows[0].cells();
        assert_eq!((cells[4].as_str(), cells[5].as_str()), ("-", "-"));
        assert_eq!(cells[7], "NOT MET");
    }

    #[test]
    fn errors_are_shown_where_there_are_some() {
        let none = (System::Kontiki, figure(ERRORS, 0.0, Aim::None));
        let some = (System::Etcd, figure(ERRORS, 2.0, Aim::None));
        assert!(rows(std::slice::from_ref(&none)).is_empty());
        assert_eq!(rows(&[none, some]).len(), 1);
    }

    #[test]
    fn columns_are_aligned_and_a_workload_is_named_once() {
        let figures = [
            (System::Kontiki, figure("rate", 1234.6, Aim::at_least(2.0))),
            (System::Etcd, figure("rate", 1000.0, Aim::at_least(2.0))),
            (System::Kontiki, figure("p99 latency", 0.25, Aim::None)),
        ];
        let text = text(&rows(&figures));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("put "), "{text}");
        assert!(lines[2].starts_with("    "), "{text}");
        assert_eq!(lines[0].find("unit"), lines[1].find("/s"), "{text}");
        assert!(
            lines[1].contains("1235") && lines[1].contains("NOT MET"),
            "{text}"
        );
    }

    #[test]
    fn markdown_has_as_many_cells_in_each_line() {
        let rows = rows(&[(System::Etcd, figure("rate", 1.0, Aim::None))]);
        let text = markdown(&rows);
        let bars: Vec<usize> = text.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(bars, [HEAD.len() + 1; 3]);
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        let texts = [
            0.0,
            0.001_234,
            0.1234,
            1.234,
            12.34,
            123.4,
            12_345.6,
            f64::NAN,
        ]
        .map(number);
        assert_eq!(
            texts,
            ["0", "0.00123", "0.123", "1.23", "12.3", "123", "12346", "-"]
        );
    }
}
