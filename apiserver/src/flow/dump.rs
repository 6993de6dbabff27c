//! What flow control does now, for people: `/debug/api_priority_and_fairness/..`, with Kubernetes' columns.

use super::FlowControl;
use super::level::Picture;

const PREFIX: &str = "/debug/api_priority_and_fairness/";
const LEVELS: [&str; 10] = [
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
];
const QUEUES: [&str; 6] = [
    "PriorityLevelName",
    "Index",
    "PendingRequests",
    "ExecutingRequests",
    "SeatsInUse",
    "NextDispatchR",
];

/// The text of one of these paths.
pub(crate) fn respond(control: &FlowControl, path: &str) -> Option<String> {
    let levels: Vec<(String, Picture)> = control
        .rules()
        .levels
        .iter()
        .map(|(name, configured)| (name.clone(), configured.level.picture()))
        .collect();
    match path.strip_prefix(PREFIX)? {
        "dump_priority_levels" => Some(aligned(&LEVELS, levels.iter().map(level_row))),
        "dump_queues" => Some(aligned(&QUEUES, levels.iter().flat_map(queue_rows))),
        _ => None,
    }
}

fn level_row((name, picture): &(String, Picture)) -> Vec<String> {
    let (counts, totals) = (picture.counts, picture.totals);
    let is_active = |queue: &&super::queues::Look| queue.waiting > 0 || queue.running > 0;
    vec![
        name.clone(),
        picture.queues.iter().filter(is_active).count().to_string(),
        (counts.running == 0 && counts.waiting == 0).to_string(),
        // A level that is gone is not shown any more.
        false.to_string(),
        counts.waiting.to_string(),
        counts.running.to_string(),
        totals.dispatched.to_string(),
        totals.rejected.to_string(),
        totals.timed_out.to_string(),
        totals.cancelled.to_string(),
    ]
}

fn queue_rows((name, picture): &(String, Picture)) -> Vec<Vec<String>> {
    let row = |(at, queue): (usize, &super::queues::Look)| {
        vec![
            name.clone(),
            at.to_string(),
            queue.waiting.to_string(),
            queue.running.to_string(),
            queue.seats.to_string(),
            format!("{:.3}ss", queue.tag_ms as f64 / 1_000.0),
        ]
    };
    picture.queues.iter().enumerate().map(row).collect()
}

/// Columns that end with a comma, under each other.
fn aligned(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines = vec![head.iter().map(|name| (*name).to_owned()).collect()];
    lines.extend(rows);
    let width = |column: usize| {
        let cells = lines
            .iter()
            .filter_map(|line: &Vec<String>| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let comma = if at + 1 < line.len() { "," } else { "" };
            row.push_str(&format!(
                "{:<width$} ",
                format!("{cell}{comma}"),
                width = width + 1
            ));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [
            vec!["exempt".to_owned(), "1".into()],
            vec!["a".into(), "20".into()],
        ];
        let text = aligned(&["Name", "Count"], rows.into_iter());
        assert_eq!(text, "Name,   Count\nexempt, 1\na,      20\n");
    }
}
