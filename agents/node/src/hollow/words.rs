//! What simulated containers say: their logs, and the messages that they leave when they end. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

use crate::pod::plan::Observation;
use crate::runtime::hollow::{NOTICE, program, seconds};
use crate::runtime::{Exit, Observed, State};
use crate::spec::{Container, Pod};

/// Of what a container's command says, so much is in its log.
const LINES_MAX: usize = 1000;
const MESSAGE_BYTES_MAX: usize = 4096;
/// So much of a log stands for a message.
const TAIL_LINES_MAX: usize = 80;
const TAIL_BYTES_MAX: usize = 2048;
const FALLBACK: &str = "FallbackToLogsOnError";

/// The log of a container: that it is simulated, what it is, and what its command says.
pub(super) fn said(
    pod: &Pod,
    node: &str,
    container: &Observed,
    now: OffsetDateTime,
) -> Vec<(OffsetDateTime, String)> {
    let (began, ended) = match &container.state {
        State::Running { started_at } => (*started_at, None),
        State::Exited(exit) => (exit.started_at.unwrap_or(exit.finished_at), Some(exit)),
        State::Created => return Vec::new(),
    };
    let name = &container.identity.container;
    let who = format!(
        "container {name} of pod {}/{}, run {}, on node {node}",
        container.identity.pod_namespace, container.identity.pod_name, container.identity.attempt,
    );
    let mut all = vec![
        (began, NOTICE.to_owned()),
        (
            began,
            format!("{who}: started from image {}", container.image),
        ),
    ];
    if let Some((_, spec)) = pod.container(name) {
        let lines = program(&spec.command, &spec.args).lines.into_iter();
        let lines = lines.filter(|(_, line)| written(spec, line).is_none());
        let lines = lines.take(LINES_MAX);
        all.extend(lines.map(|(after, line)| (began.saturating_add(seconds(after)), line)));
    }
    if let Some(exit) = ended {
        all.push((
            exit.finished_at,
            format!("{who}: ended with code {}", exit.code),
        ));
    }
    let end = ended.map_or(now, |exit| exit.finished_at);
    all.retain(|(at, _)| *at <= end);
    all
}

fn message_path(container: &Container) -> &str {
    match container.termination_message_path.as_str() {
        "" => "/dev/termination-log",
        path => path,
    }
}

/// What a line of a command writes to the file of the container's message, and whether that is put after what is there.
fn written(container: &Container, line: &str) -> Option<(String, bool)> {
    let (text, path) = line.rsplit_once('>')?;
    if path.trim() != message_path(container) {
        return None;
    }
    let (text, appends) = match text.strip_suffix('>') {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (text, end) = match text.trim().strip_prefix("-n ") {
        Some(text) => (text, ""),
        None => (text, "\n"),
    };
    let text = text.trim().trim_matches(['"', '\'']);
    Some((format!("{text}{end}"), appends))
}

/// The messages that containers have left, by their ids: what they wrote to the file for it, or the end of their logs.
pub(super) fn messages(pod: &Pod, node: &str, observed: &Observation) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (_, container) in pod.all_containers() {
        let path = message_path(container);
        let mut words = container.command.iter().chain(&container.args);
        let falls_back = container.termination_message_policy == FALLBACK;
        if !falls_back && !words.any(|word| word.contains(path)) {
            continue;
        }
        let runs = observed.containers.get(&container.name);
        for run in runs.into_iter().flatten() {
            let Some(exit) = run.exit() else {
                continue;
            };
            let mut text = file(container, exit);
            if text.is_empty() && falls_back && exit.code != 0 {
                text = tail(said(pod, node, run, exit.finished_at));
            }
            if !text.is_empty() {
                all.insert(run.id.clone(), text);
            }
        }
    }
    all
}

/// What a container that has ended has written to the file of its message.
fn file(container: &Container, exit: &Exit) -> String {
    let program = program(&container.command, &container.args);
    // Times on record are rounded: one that came to its own end has said everything.
    let is_whole = program.end.is_some_and(|(_, code)| code == exit.code);
    let ran = exit.finished_at - exit.started_at.unwrap_or(exit.finished_at);
    let ran = Duration::try_from(ran).unwrap_or_default();
    let mut text = String::new();
    for (at, line) in program.lines {
        if let Some((more, appends)) = written(container, &line)
            && (is_whole || at <= ran)
        {
            match appends {
                true => text.push_str(&more),
                false => text = more,
            }
        }
    }
    while text.len() > MESSAGE_BYTES_MAX {
        text.pop();
    }
    text
}

/// The end of a log.
fn tail(lines: Vec<(OffsetDateTime, String)>) -> String {
    let skipped = lines.len().saturating_sub(TAIL_LINES_MAX);
    let lines = lines.into_iter().skip(skipped);
    let text: String = lines.map(|(_, line)| format!("{line}\n")).collect();
    let mut cut = text.len().saturating_sub(TAIL_BYTES_MAX);
    while !text.is_char_boundary(cut) {
        cut += 1;
    }
    text[cut..].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::container::identity;

    /// The message of a container that has ended with this code.
    fn message(script: &str, policy: &str, code: i64) -> Option<String> {
        let container = json!({"name": "c", "image": "i", "command": ["sh", "-c", script],
            "terminationMessagePolicy": policy});
        let metadata = json!({"name": "p", "namespace": "d", "uid": "u"});
        let pod = json!({"metadata": metadata, "spec": {"containers": [container]}});
        let pod = Pod::decode(&pod).unwrap();
        let at = OffsetDateTime::UNIX_EPOCH;
        let observed = Observed {
            id: "id".to_owned(),
            identity: identity(&pod, "c", 0),
            state: State::Exited(Exit {
                code,
                oom_killed: false,
                start_error: None,
                started_at: Some(at),
                finished_at: at + Duration::from_secs(1),
            }),
            created_at: at,
            image: "i".to_owned(),
            image_id: String::new(),
            labels: BTreeMap::new(),
            ip: None,
            pid: None,
            limits: None,
        };
        messages(&pod, "n", &Observation::new(vec![observed])).remove("id")
    }

    #[test]
    fn a_container_leaves_what_it_wrote_for_that() {
        for (script, code, expected) in [
            (
                "echo -n DONE > /dev/termination-log; exit 3",
                3,
                Some("DONE"),
            ),
            (
                "echo \"no luck\" > /dev/termination-log; exit 3",
                3,
                Some("no luck\n"),
            ),
            (
                "echo a > /dev/termination-log; echo b >> /dev/termination-log",
                0,
                Some("a\nb\n"),
            ),
            ("echo a > /tmp/x; exit 3", 3, None),
            ("sleep 9; echo a > /dev/termination-log", 143, None),
            ("exit 3", 3, None),
        ] {
            let found = message(script, "File", code);
            assert_eq!(found.as_deref(), expected, "{script}");
        }
    }

    #[test]
    fn the_end_of_its_log_stands_for_it_where_it_failed() {
        let found = message("echo why; exit 3", FALLBACK, 3).unwrap();
        let end = "why\ncontainer c of pod d/p, run 0, on node n: ended with code 3\n";
        assert!(found.starts_with(NOTICE) && found.ends_with(end), "{found}");
        assert_eq!(message("echo why", FALLBACK, 0), None);
        let written = message("echo -n x > /dev/termination-log; exit 3", FALLBACK, 3);
        assert_eq!(written.as_deref(), Some("x"));
    }

    #[test]
    fn a_long_log_is_cut_at_its_beginning() {
        let at = OffsetDateTime::UNIX_EPOCH;
        let lines = (0..100).map(|number| (at, format!("{number}"))).collect();
        assert!(tail(lines).starts_with("20\n"));
        let lines = vec![(at, "ü".repeat(2000)), (at, "end".to_owned())];
        let text = tail(lines);
        assert!(text.len() <= TAIL_BYTES_MAX && text.ends_with("end\n"));
    }
}
