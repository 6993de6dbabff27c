//! `kontiki store status`: what each member says of itself, side by side.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use futures::future::join_all;
use serde::Serialize;
use store::MemberReport;
use store::etcd::client::{Member, MemberStatus};

use super::{Session, bytes, table};
use crate::probe::Probe;
use crate::up::say;

/// What one member answers.
#[derive(Default)]
struct Answer {
    status: MemberStatus,
    members: Vec<Member>,
    /// Of all members, by etcd's names.
    alarms: Vec<(u64, &'static str)>,
    metrics: BTreeMap<String, f64>,
}

impl Answer {
    /// Of a member that others have asked, which tell of its alarms, too.
    fn heard(report: MemberReport, alarms: &[(u64, &'static str)]) -> Answer {
        let metrics = [
            (COMPACT_REVISION, report.compact_revision as f64),
            (DISK_FREE, report.disk_free_bytes as f64),
        ];
        Answer {
            status: MemberStatus {
                member_id: report.member_id,
                version: report.version,
                revision: report.revision,
                leader: report.leader,
                raft_term: report.raft_term,
                raft_index: report.raft_index,
                raft_applied_index: report.raft_applied_index,
                size_bytes: report.size_bytes,
                is_learner: report.is_learner,
                ..MemberStatus::default()
            },
            members: Vec::new(),
            alarms: alarms.to_vec(),
            metrics: metrics
                .map(|(name, value)| (name.to_string(), value))
                .into(),
        }
    }

    fn own_alarms(&self) -> Vec<&'static str> {
        let own = self.alarms.iter();
        let own = own.filter(|(id, _)| *id == self.status.member_id);
        own.map(|(_, alarm)| *alarm).collect()
    }
}

const COMPACT_REVISION: &str = "etcd_debugging_mvcc_compact_revision";
const DISK_FREE: &str = "kontiki_store_disk_free_bytes";

/// One line.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    id: String,
    name: String,
    /// `leader`, `voter` or `learner`.
    role: &'static str,
    /// Whether it answers and knows of a leader, and there is no alarm.
    healthy: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    peer_address: String,
    client_url: String,
    /// What it says itself; absent where it does not answer.
    #[serde(flatten)]
    figures: Option<Figures>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Figures {
    version: String,
    revision: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    compact_revision: Option<u64>,
    raft_term: u64,
    raft_index: u64,
    raft_applied_index: u64,
    /// Log entries that the leader has and this member has not applied; absent where the leader does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag: Option<u64>,
    size_bytes: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_free_bytes: Option<u64>,
    alarms: Vec<&'static str>,
}

pub(super) async fn run(session: &Session, json: bool) -> Result<()> {
    let probe = Probe::new(&session.ca, &session.identity)?;
    let mut answers = ask(session, &probe, &session.endpoints).await?;
    // Members that are known from the membership and were not among the endpoints.
    let asked: BTreeSet<&String> = session.endpoints.iter().collect();
    let listed = answers.values().flat_map(|answer| &answer.members);
    let urls = listed.flat_map(|member| member.client_urls.clone());
    let more: BTreeSet<String> = urls.filter(|url| !asked.contains(url)).collect();
    let more: Vec<String> = more.into_iter().collect();
    answers.extend(ask(session, &probe, &more).await?);
    if answers.is_empty() {
        bail!("no member answers at {}", session.endpoints.join(", "));
    }
    hear_of_others(session, &mut answers).await?;
    let rows = rows(&answers);
    match json {
        true => say(&serde_json::to_string_pretty(&rows)?),
        false => say(render(&rows).trim_end()),
    }
    let unwell = rows.iter().filter(|row| !row.healthy).count();
    match unwell {
        0 => Ok(()),
        _ => bail!("{unwell} of {} members are not well", rows.len()),
    }
}

/// Has members that answer ask those that cannot be reached from here: their ports for clients are on their own machines.
async fn hear_of_others(session: &Session, answers: &mut BTreeMap<u64, Answer>) -> Result<()> {
    let named = answers.values().flat_map(|answer| &answer.members);
    if named
        .map(|member| member.id)
        .all(|id| answers.contains_key(&id))
    {
        return Ok(());
    }
    for url in answering_urls(session, answers) {
        let Ok(reports) = session.client(&url)?.reports().await else {
            continue;
        };
        let alarms = answers.values().map(|answer| answer.alarms.clone());
        let alarms = alarms.max_by_key(Vec::len).unwrap_or_default();
        for report in reports {
            let heard = answers.entry(report.member_id);
            heard.or_insert_with(|| Answer::heard(report, &alarms));
        }
        return Ok(());
    }
    Ok(())
}

/// Where one may ask again: the endpoints, and what members that answer have published.
fn answering_urls(session: &Session, answers: &BTreeMap<u64, Answer>) -> Vec<String> {
    let members = answers.values().flat_map(|answer| &answer.members);
    let published = members.filter(|member| answers.contains_key(&member.id));
    let published = published.flat_map(|member| member.client_urls.clone());
    session.endpoints.iter().cloned().chain(published).collect()
}

/// Asks all at once. By id of the member that answers: several ways may lead to one.
async fn ask(session: &Session, probe: &Probe, urls: &[String]) -> Result<BTreeMap<u64, Answer>> {
    let mut clients = Vec::new();
    for url in urls {
        clients.push(session.client(url)?);
    }
    let asked = clients.iter().map(|client| async move {
        let status = client.status().await.ok()?;
        // A learner does not say; the others do.
        let (members, alarms) = tokio::join!(client.members(false), client.alarms());
        let answer = Answer {
            members: members.unwrap_or_default(),
            alarms: alarms.unwrap_or_default(),
            metrics: metrics(probe, client.url()).await,
            status,
        };
        Some((answer.status.member_id, answer))
    });
    Ok(join_all(asked).await.into_iter().flatten().collect())
}

/// What only the metrics say; nothing where they do not come.
async fn metrics(probe: &Probe, url: &str) -> BTreeMap<String, f64> {
    let address = url.strip_prefix("https://").unwrap_or(url);
    let parts = address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let Some((host, port)) = parts else {
        return BTreeMap::new();
    };
    match probe.get_from(host, port, "/metrics").await {
        Ok((200, body)) => samples(&String::from_utf8_lossy(&body)),
        _ => BTreeMap::new(),
    }
}

/// Metrics without labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once(' '));
    pairs
        .filter_map(|(name, value)| Some((name.to_string(), value.trim().parse().ok()?)))
        .collect()
}

/// A line for each member that the newest membership names.
fn rows(answers: &BTreeMap<u64, Answer>) -> Vec<Row> {
    let newest = |answer: &&Answer| answer.status.raft_applied_index;
    let informed = answers.values().filter(|answer| !answer.members.is_empty());
    let members = informed.max_by_key(newest).map(|answer| &answer.members);
    let terms = answers.values().map(|answer| answer.status.raft_term);
    let term = terms.max().unwrap_or(0);
    let leader = answers
        .iter()
        .find(|(id, answer)| answer.status.leader == **id && answer.status.raft_term == term)
        .map(|(id, answer)| (*id, answer.status.raft_index));
    let members = members.into_iter().flatten();
    members
        .map(|member| row(member, answers.get(&member.id), leader))
        .collect()
}

fn row(member: &Member, answer: Option<&Answer>, leader: Option<(u64, u64)>) -> Row {
    let role = match leader {
        Some((id, _)) if id == member.id => "leader",
        _ if member.is_learner => "learner",
        _ => "voter",
    };
    let reason = match answer {
        None if member.client_urls.is_empty() => Some("has not started".to_string()),
        None => Some("does not answer".to_string()),
        Some(answer) if !answer.own_alarms().is_empty() => {
            Some(format!("alarm {}", answer.own_alarms().join(", ")))
        }
        Some(answer) if answer.status.leader == 0 => Some("no leader".to_string()),
        Some(answer) => answer.status.errors.first().cloned(),
    };
    Row {
        id: format!("{:x}", member.id),
        name: member.name.clone(),
        role,
        healthy: reason.is_none(),
        reason,
        peer_address: member.peer_address.clone(),
        client_url: member.client_urls.first().cloned().unwrap_or_default(),
        figures: answer.map(|answer| figures(answer, leader)),
    }
}

fn figures(answer: &Answer, leader: Option<(u64, u64)>) -> Figures {
    let status = &answer.status;
    let metric = |name: &str| answer.metrics.get(name).map(|value| *value as u64);
    Figures {
        version: status.version.clone(),
        revision: status.revision,
        compact_revision: metric(COMPACT_REVISION),
        raft_term: status.raft_term,
        raft_index: status.raft_index,
        raft_applied_index: status.raft_applied_index,
        lag: leader.map(|(_, index)| index.saturating_sub(status.raft_applied_index)),
        size_bytes: status.size_bytes,
        disk_free_bytes: metric(DISK_FREE),
        alarms: answer.own_alarms(),
    }
}

fn render(rows: &[Row]) -> String {
    let head = [
        "ID",
        "NAME",
        "ROLE",
        "REVISION",
        "COMPACTED",
        "TERM",
        "INDEX",
        "APPLIED",
        "LAG",
        "SIZE",
        "FREE",
        "VERSION",
        "HEALTH",
    ];
    let mut lines = vec![head.map(String::from).to_vec()];
    for row in rows {
        let said = row.figures.as_ref();
        let cell = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        let number = |value: &dyn Fn(&Figures) -> Option<u64>| {
            cell(said.and_then(value).map(|number| number.to_string()))
        };
        let size = |value: &dyn Fn(&Figures) -> Option<u64>| cell(said.and_then(value).map(bytes));
        lines.push(vec![
            row.id.clone(),
            cell(Some(row.name.clone()).filter(|name| !name.is_empty())),
            row.role.into(),
            number(&|said| u64::try_from(said.revision).ok()),
            number(&|said| said.compact_revision),
            number(&|said| Some(said.raft_term)),
            number(&|said| Some(said.raft_index)),
            number(&|said| Some(said.raft_applied_index)),
            number(&|said| said.lag),
            size(&|said| u64::try_from(said.size_bytes).ok()),
            size(&|said| said.disk_free_bytes),
            cell(said.map(|said| said.version.clone())),
            row.reason.clone().unwrap_or_else(|| "ok".into()),
        ]);
    }
    table(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Vec<Member> {
        let member = |id: u64, name: &str, is_learner| Member {
            id,
            name: name.into(),
            client_urls: vec![format!("https://127.0.0.1:{id}")],
            is_learner,
            ..Member::default()
        };
        vec![
            member(1, "m1", false),
            member(0x2a, "m2", false),
            member(3, "m3", true),
            Member {
                id: 4,
                ..Member::default()
            },
        ]
    }

    fn answer(member_id: u64, leader: u64, applied: u64) -> (u64, Answer) {
        let status = MemberStatus {
            member_id,
            leader,
            version: "3.6.14".into(),
            revision: 90,
            raft_term: 2,
            raft_index: 100,
            raft_applied_index: applied,
            size_bytes: 2048,
            ..MemberStatus::default()
        };
        let metrics = BTreeMap::from([("etcd_debugging_mvcc_compact_revision".into(), 7.0)]);
        let members = members();
        let answer = Answer {
            status,
            members,
            metrics,
            ..Answer::default()
        };
        (member_id, answer)
    }

    #[test]
    fn each_member_of_the_membership_has_a_line() {
        let mut answers = BTreeMap::from([answer(1, 0x2a, 95), answer(0x2a, 0x2a, 100)]);
        // A learner does not name the members.
        answers.insert(3, answer(3, 0x2a, 40).1);
        answers.get_mut(&3).unwrap().members.clear();
        let raised = [(1, "NOSPACE"), (7, "CORRUPT")];
        answers.get_mut(&1).unwrap().alarms.extend(raised);
        let text = render(&rows(&answers));
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| {
                line.split("  ")
                    .map(str::trim)
                    .filter(|cell| !cell.is_empty())
                    .collect()
            })
            .collect();
        let of_m1 = ["1", "m1", "voter", "90", "7", "2", "100", "95", "5"];
        let size = ["2.0 KiB", "-", "3.6.14"];
        let expected = [&of_m1[..], &size[..], &["alarm NOSPACE"][..]].concat();
        assert_eq!(lines[1], expected, "{text}");
        assert_eq!(lines[2][..3], ["2a", "m2", "leader"], "{text}");
        assert_eq!(lines[2].last(), Some(&"ok"));
        assert_eq!((lines[3][2], lines[3][8]), ("learner", "60"), "{text}");
        assert_eq!(lines[4].last(), Some(&"has not started"), "{text}");
    }

    #[test]
    fn without_a_quorum_it_is_said_who_is_left() {
        let answers = BTreeMap::from([answer(1, 0, 95)]);
        let rows = rows(&answers);
        let said: Vec<_> = rows
            .iter()
            .map(|row| (row.role, row.reason.as_deref(), row.figures.is_some()))
            .collect();
        let silent = Some("does not answer");
        assert_eq!(
            said,
            [
                ("voter", Some("no leader"), true),
                ("voter", silent, false),
                ("learner", silent, false),
                ("voter", Some("has not started"), false),
            ]
        );
        assert_eq!(rows[0].figures.as_ref().unwrap().lag, None);
    }

    #[test]
    fn what_is_heard_of_a_member_counts_as_if_it_had_answered() {
        let mut answers = BTreeMap::from([answer(1, 0x2a, 95)]);
        let report = MemberReport {
            member_id: 0x2a,
            revision: 90,
            compact_revision: 7,
            leader: 0x2a,
            raft_term: 2,
            raft_index: 100,
            raft_applied_index: 100,
            disk_free_bytes: 4096,
            ..MemberReport::default()
        };
        answers.insert(0x2a, Answer::heard(report, &[(0x2a, "NOSPACE")]));
        let rows = rows(&answers);
        let of_m2 = rows[1].figures.as_ref().unwrap();
        assert_eq!(
            (rows[1].role, rows[1].reason.as_deref()),
            ("leader", Some("alarm NOSPACE"))
        );
        assert_eq!(
            (of_m2.compact_revision, of_m2.disk_free_bytes),
            (Some(7), Some(4096))
        );
        assert_eq!(rows[0].figures.as_ref().unwrap().lag, Some(5));
    }

    #[test]
    fn programs_get_the_same_as_json() {
        let answers = BTreeMap::from([answer(0x2a, 0x2a, 100)]);
        let json = serde_json::to_value(rows(&answers)).unwrap();
        assert_eq!(json[1]["role"], "leader");
        assert_eq!(json[1]["raft_applied_index"], 100);
        assert_eq!(json[1]["compact_revision"], 7);
        assert_eq!(
            (&json[0]["healthy"], &json[0]["revision"]),
            (&false.into(), &serde_json::Value::Null)
        );
    }

    #[test]
    fn metrics_without_labels_are_read() {
        let text = "# TYPE a gauge\na 5\nb{c=\"d\"} 7\ne 1.5e3\n";
        let read = samples(text);
        assert_eq!((read.get("a"), read.get("e")), (Some(&5.0), Some(&1500.0)));
    }
}
