//! The page of a night: what was run on what, how it ended, and the figures.

use super::{Ended, Ran};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What stands at the top.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub tier: String,
    pub commit: String,
    pub machine: String,
    /// In UTC.
    pub began: String,
    pub seconds: u64,
    pub seed: u64,
}

/// Lines of a part's output that are shown: its summary is at its end.
const LINES: usize = 14;

/// In Markdown.
pub fn page(head: &Head, ran: &[Ran], missing: &[String]) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    line(format!("# {}: {}", head.tier, verdict(ran)));
    line(String::new());
    line(format!("- commit {}", head.commit));
    line(format!("- machine: {}", head.machine));
    line(format!(
        "- began {}, took {}",
        head.began,
        minutes(head.seconds)
    ));
    line(format!("- seed {}", head.seed));
    for words in missing {
        line(format!("- not run: {words}"));
    }
    line(String::new());
    line("| part | runs | sound | incomplete | violated | failed | time |".into());
    line("|---|---:|---:|---:|---:|---:|---:|".into());
    for (name, runs) in by_part(ran) {
        let of = |ended: Ended| runs.iter().filter(|run| run.ended == ended).count();
        let seconds: u64 = runs.iter().map(|run| run.seconds).sum();
        line(format!(
            "| {name} | {} | {} | {} | {} | {} | {} |",
            runs.len(),
            of(Ended::Sound),
            of(Ended::Incomplete),
            of(Ended::Violated),
            of(Ended::Failed),
            minutes(seconds)
        ));
    }
    let faults = faults(ran);
    if !faults.is_empty() {
        let words: Vec<String> = faults
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        line(String::new());
        line(format!("Faults of the chaos runs: {}.", words.join(", ")));
    }
    let bad: Vec<&Ran> = ran.iter().filter(|run| run.is_bad()).collect();
    if !bad.is_empty() {
        line(String::new());
        line("## What failed".into());
        for run in bad {
            line(format!(
                "- {} ({}): `{}`",
                run.name, run.folder, run.command
            ));
        }
    }
    for (name, runs) in by_part(ran) {
        let Some(last) = runs.iter().rfind(|run| run.is_bad()).or(runs.last()) else {
            continue;
        };
        line(String::new());
        line(format!("## {name}"));
        line(format!("`{}`", last.command));
        line(String::new());
        line("```".into());
        let lines: Vec<&str> = last.output.lines().collect();
        for words in &lines[lines.len().saturating_sub(LINES)..] {
            line((*words).to_string());
        }
        line("```".into());
    }
    text
}

/// In a few words.
pub fn verdict(ran: &[Ran]) -> &'static str {
    match is_sound(ran) {
        false => "FAILED",
        true => "nothing is wrong",
    }
}

/// Whether something was run and nothing is wrong with it. A part all of whose runs came to nothing is wrong, unless they
/// were to end when their time was over.
pub fn is_sound(ran: &[Ran]) -> bool {
    let comes_to_something = |runs: &[&Ran]| {
        let mut runs = runs.iter();
        runs.any(|run| run.ended == Ended::Sound || run.bounded)
    };
    let mut parts = by_part(ran).into_iter();
    let good = |runs: &[&Ran]| !runs.iter().any(|run| run.is_bad()) && comes_to_something(runs);
    !ran.is_empty() && parts.all(|(_, runs)| good(&runs))
}

fn by_part(ran: &[Ran]) -> Vec<(&str, Vec<&Ran>)> {
    let mut parts: Vec<(&str, Vec<&Ran>)> = Vec::new();
    for run in ran {
        match parts.iter_mut().find(|(name, _)| *name == run.name) {
            Some((_, runs)) => runs.push(run),
            None => parts.push((run.name, vec![run])),
        }
    }
    parts
}

fn faults(ran: &[Ran]) -> BTreeMap<&str, usize> {
    let mut sum: BTreeMap<&str, usize> = BTreeMap::new();
    for run in ran {
        for (kind, count) in &run.faults {
            *sum.entry(kind).or_default() += count;
        }
    }
    sum
}

fn minutes(seconds: u64) -> String {
    let mut text = String::new();
    // To a String it cannot fail.
    let _ = match seconds {
        0..60 => write!(text, "{seconds} s"),
        60..7200 => write!(text, "{} min {} s", seconds / 60, seconds % 60),
        _ => write!(text, "{} h {} min", seconds / 3600, seconds / 60 % 60),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(name: &'static str, ended: Ended, output: &str) -> Ran {
        Ran {
            name,
            command: format!("raft-tests {name}"),
            folder: format!("{name}-1"),
            ended,
            seconds: 90,
            output: output.into(),
            faults: BTreeMap::from([("kill".to_string(), 2)]),
            bounded: false,
        }
    }

    #[test]
    fn what_came_to_nothing_is_not_sound() {
        let incomplete = |name| ran(name, Ended::Incomplete, "");
        let sound = |name| ran(name, Ended::Sound, "");
        assert!(!is_sound(&[]));
        assert!(is_sound(&[
            sound("sim"),
            sound("chaos"),
            incomplete("chaos")
        ]));
        assert!(!is_sound(&[
            sound("sim"),
            incomplete("chaos"),
            incomplete("chaos")
        ]));
        let bounded = Ran {
            bounded: true,
            ..incomplete("kills")
        };
        assert!(is_sound(&[bounded]));
        assert!(!is_sound(&[sound("sim"), ran("sim", Ended::Violated, "")]));
    }

    #[test]
    fn the_page_counts_runs_and_shows_the_end_of_what_they_said() {
        let long: String = (0..40).map(|number| format!("line {number}.\n")).collect();
        let runs = [
            ran("chaos", Ended::Sound, &long),
            ran("chaos", Ended::Incomplete, "the leader never changed"),
            ran("sim", Ended::Sound, "1000 seeds"),
        ];
        let head = Head {
            tier: "nightly".into(),
            commit: "abc".into(),
            ..Head::default()
        };
        let missing = ["kube-sim".to_string()];
        let page = page(&head, &runs, &missing);
        assert!(page.starts_with("# nightly: nothing is wrong\n"));
        assert!(page.contains("| chaos | 2 | 1 | 1 | 0 | 0 | 3 min 0 s |"));
        assert!(page.contains("- not run: kube-sim"));
        assert!(page.contains("6 kill"));
        assert!(page.contains("the leader never changed") && page.contains("1000 seeds"));
        assert!(!page.contains("line 39."), "the last of a part is shown");
    }

    #[test]
    fn what_failed_is_named_and_shown() {
        let runs = [
            ran("chaos", Ended::Violated, "VIOLATION: lost write"),
            ran("chaos", Ended::Sound, "nothing"),
        ];
        let page = page(&Head::default(), &runs, &[]);
        assert!(page.contains("FAILED") && page.contains("- chaos (chaos-1): `raft-tests chaos`"));
        assert!(page.contains("VIOLATION: lost write"));
    }
}
