//! `kontiki store member` and `move-leader`: the membership by hand, for clusters on several machines.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use store::etcd::client::{Client, ClientError, Member};

use super::{Session, table};
use crate::cli::{MemberAddArgs, MemberCommand};
use crate::resize::{self, WITHOUT_QUORUM};
use crate::up::{Progress, say};

const POLL: Duration = Duration::from_millis(500);
/// For a person to start the member, and for it to catch up.
const PATIENCE: Duration = Duration::from_secs(3600);

pub(super) async fn run(session: &Session, command: &MemberCommand) -> Result<()> {
    match command {
        MemberCommand::List(output) => {
            let (client, members) = session.members().await?;
            let leader = client.status().await?.leader;
            let json = output.json();
            list(&members, leader, json)
        }
        MemberCommand::Add(add) => {
            let client = session.any().await?;
            if client
                .members(true)
                .await?
                .iter()
                .any(|it| it.name == add.name)
            {
                bail!(
                    "there is a member {} already: `member replace` replaces one",
                    add.name
                );
            }
            join(session, add).await
        }
        MemberCommand::Replace(add) => replace(session, add).await,
        MemberCommand::Promote { member } => {
            let (client, members) = session.members().await?;
            let id = find(&members, member)?.id;
            client.promote_member(id).await?;
            say(&format!("Member {id:x} votes."));
            Ok(())
        }
        MemberCommand::Remove { member } => {
            let (client, members) = session.members().await?;
            let id = find(&members, member)?.id;
            // Of the cluster on this machine: else the next `up` would start it again.
            if let Some(home) = &session.home
                && let Some(name) = resize::remove(home, id).await?
            {
                say(&format!(
                    "Member {name} ({id:x}) is removed, with its process and its data."
                ));
                return Ok(());
            }
            client.remove_member(id).await?;
            say(&format!(
                "Member {id:x} is removed. Its process ends; see that it is not started again, and remove its data: the \
                 id is never used again."
            ));
            Ok(())
        }
    }
}

/// By name, or by id in hexadecimal.
fn find<'a>(members: &'a [Member], wanted: &str) -> Result<&'a Member> {
    let named: Vec<&Member> = members.iter().filter(|it| it.name == wanted).collect();
    let id = u64::from_str_radix(wanted.trim_start_matches("0x"), 16).ok();
    let of_id = members.iter().find(|member| Some(member.id) == id);
    match (named.as_slice(), of_id) {
        ([one], _) => Ok(one),
        ([], Some(one)) => Ok(one),
        ([], None) => Err(anyhow!(
            "there is no member {wanted}: `kontiki store member list` shows them"
        )),
        _ => Err(anyhow!(
            "there are several members {wanted}: say which by its id"
        )),
    }
}

fn list(members: &[Member], leader: u64, json: bool) -> Result<()> {
    let role = |member: &Member| match member.is_learner {
        true => "learner",
        false if member.id == leader => "leader",
        false => "voter",
    };
    if json {
        let members = members.iter().map(|member| {
            serde_json::json!({
                "id": format!("{:x}", member.id),
                "name": member.name,
                "role": role(member),
                "peer_address": member.peer_address,
                "client_urls": member.client_urls,
            })
        });
        let members: Vec<_> = members.collect();
        say(&serde_json::to_string_pretty(&members)?);
        return Ok(());
    }
    let head = ["ID", "NAME", "ROLE", "PEER ADDRESS", "CLIENT URL"];
    let mut lines = vec![head.map(String::from).to_vec()];
    lines.extend(members.iter().map(|member| {
        vec![
            format!("{:x}", member.id),
            member.name.clone(),
            role(member).into(),
            member.peer_address.clone(),
            member.client_urls.join(","),
        ]
    }));
    say(table(&lines).trim_end());
    Ok(())
}

pub(super) async fn move_leader(session: &Session, wanted: &str) -> Result<()> {
    let (client, members) = session.members().await?;
    let target = find(&members, wanted)?;
    let leader = client.status().await?.leader;
    if leader == target.id {
        say(&format!("Member {} leads already.", target.name));
        return Ok(());
    }
    // None but the leader itself can do it. Where it is known to be may be of use on its own machine only, so those
    // that were named are looked through, too.
    let known = members.iter().filter(|member| member.id == leader);
    let urls = known.flat_map(|member| &member.client_urls);
    for url in urls.chain(&session.endpoints) {
        let client = session.client(url)?;
        if client
            .status()
            .await
            .is_ok_and(|status| status.member_id == leader)
        {
            client.move_leader(target.id).await?;
            say(&format!("Member {} leads.", target.name));
            return Ok(());
        }
    }
    bail!("the leader {leader:x} cannot be reached from here: run this on its machine")
}

async fn replace(session: &Session, add: &MemberAddArgs) -> Result<()> {
    let (client, members) = session.members().await.context(WITHOUT_QUORUM)?;
    match to_replace(&members, add)? {
        Some(dead) => {
            if answers(session, &client, dead).await? {
                bail!(
                    "member {} answers: one that is to be replaced must have ended",
                    add.name
                );
            }
            client.remove_member(dead.id).await?;
            say(&format!("Member {} ({:x}) is removed.", add.name, dead.id));
        }
        None => say(&format!(
            "There is no member {} any more; it was added already.",
            add.name
        )),
    }
    join(session, add).await
}

/// The member that is to go; nothing where an earlier attempt has removed it and added the new one.
fn to_replace<'a>(members: &'a [Member], add: &MemberAddArgs) -> Result<Option<&'a Member>> {
    let added = |member: &Member| is_added(member, add) && member.name.is_empty();
    match find(members, &add.name) {
        Ok(dead) => Ok(Some(dead)),
        Err(_) if members.iter().any(added) => Ok(None),
        Err(error) => Err(error.context(format!(
            "nothing is replaced (if {} was removed already, `kontiki store member add` adds a new one)",
            add.name
        ))),
    }
}

/// Whether it is the learner that is to be added.
fn is_added(member: &Member, add: &MemberAddArgs) -> bool {
    member.is_learner && member.peer_address == add.peer
}

/// Whether a member runs. Its port for clients is reached from its own machine, mostly, so the others are asked, too.
async fn answers(session: &Session, client: &Client, member: &Member) -> Result<bool> {
    let reports = client.reports().await?;
    if reports.iter().any(|report| report.member_id == member.id) {
        return Ok(true);
    }
    for url in &member.client_urls {
        let status = session.client(url)?.status().await;
        if status.is_ok_and(|status| status.member_id == member.id) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where a new member is.
enum Joining {
    Votes,
    /// For this.
    Waiting(String),
}

/// Lets a learner vote, if it can; an error if it never will.
async fn promoted(client: &Client, id: u64) -> Result<Joining> {
    match client.promote_member(id).await {
        Ok(()) => return Ok(Joining::Votes),
        Err(ClientError::Refused { text, .. }) if text.contains("member not found") => {
            bail!("member {id:x} was removed meanwhile")
        }
        Err(ClientError::Refused { text, .. }) if text.contains("permission denied") => {
            bail!("member {id:x} is added, but letting it vote is not allowed: {text}")
        }
        Err(_) => {}
    }
    let members = client.members(false).await.unwrap_or_default();
    let member = members.iter().find(|member| member.id == id);
    Ok(match member {
        // Somebody else was faster.
        Some(member) if !member.is_learner => Joining::Votes,
        Some(member) if !member.name.is_empty() => {
            Joining::Waiting("waiting for the member to catch up".into())
        }
        _ => Joining::Waiting("waiting for the member to start".into()),
    })
}

/// Adds a learner, says how it is started, waits until it has caught up, and lets it vote.
async fn join(session: &Session, add: &MemberAddArgs) -> Result<()> {
    let (host, port) = add
        .peer
        .rsplit_once(':')
        .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        .ok_or_else(|| anyhow!("{} is not HOST:PORT", add.peer))?;
    let (client, members) = session.members().await?;
    // Of an earlier attempt.
    let added = members.iter().find(|member| is_added(member, add));
    let id = match added {
        Some(learner) => learner.id,
        None => client.add_member(&add.peer).await?,
    };
    for line in instructions(&add.name, host, port, id) {
        say(&line);
    }
    if add.no_wait {
        return Ok(());
    }
    let progress = Progress::new("waiting for the member to start");
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Whoever was asked may be gone by now.
        let asked = match session.any().await {
            Ok(client) => promoted(&client, id).await?,
            Err(error) => Joining::Waiting(format!("waiting: {}", error.root_cause())),
        };
        match asked {
            Joining::Votes => break,
            Joining::Waiting(why) if Instant::now() > deadline => bail!(
                "member {id:x} has not caught up ({why}): when it has, `kontiki store member promote {id:x}`"
            ),
            Joining::Waiting(why) => progress.say(&why),
        }
        tokio::time::sleep(POLL).await;
    }
    progress.done();
    say(&format!(
        "Member {} ({id:x}) has caught up, and votes.",
        add.name
    ));
    Ok(())
}

fn instructions(name: &str, host: &str, port: &str, id: u64) -> Vec<String> {
    let host = host.trim_matches(['[', ']']);
    let mut lines = vec![
        format!(
            "Member {name} has the id {id:x}. Where the cluster's authorities are kept, make its certificates:"
        ),
        String::new(),
        format!("  kontiki pki --dir ./cluster --add-member {name}={host} --member-id {id:x}"),
        String::new(),
        format!(
            "and copy them to its machine, whose /var/lib/kontiki/server must be empty. Then start it there:"
        ),
        String::new(),
        "  systemctl enable --now kontiki-server".to_string(),
        String::new(),
    ];
    if port != "6480" {
        lines.push(format!(
            "(Its server.env must have port {port} in KONTIKI_PEER_LISTEN and KONTIKI_PEER_ADVERTISE.)"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_by_its_name_or_its_id() {
        let member = |id, name: &str| Member {
            id,
            name: name.into(),
            ..Member::default()
        };
        let members = [
            member(0xa1, "a"),
            member(0xb, "b"),
            member(0xc, "c"),
            member(0xd, "c"),
        ];
        let id = |wanted| find(&members, wanted).map(|member| member.id).ok();
        assert_eq!(id("a"), Some(0xa1));
        assert_eq!(id("a1"), Some(0xa1));
        // A name goes before an id that looks like it.
        assert_eq!(id("b"), Some(0xb));
        assert_eq!((id("c"), id("0xc")), (None, Some(0xc)));
        assert_eq!(id("e"), None);
    }

    #[test]
    fn a_slip_of_the_pen_replaces_nobody() {
        let member = |name: &str, peer: &str, is_learner| Member {
            id: 1,
            name: name.into(),
            peer_address: peer.into(),
            is_learner,
            ..Member::default()
        };
        let add = |name: &str| MemberAddArgs {
            name: name.into(),
            peer: "h:4".into(),
            no_wait: false,
        };
        let mut members = vec![member("a", "h:1", false), member("b", "h:2", false)];
        let found = to_replace(&members, &add("b")).unwrap();
        assert_eq!(found, Some(&members[1]));
        let refused = to_replace(&members, &add("bb")).unwrap_err();
        assert!(
            format!("{refused:#}").contains("no member bb"),
            "{refused:#}"
        );
        // An earlier attempt has got as far as that.
        members[1] = member("", "h:4", true);
        assert_eq!(to_replace(&members, &add("b")).unwrap(), None);
    }

    #[test]
    fn it_is_said_how_the_new_member_is_started() {
        let text = instructions("b", "[fd00::9]", "6480", 0xabc).join("\n");
        assert!(
            text.contains("--add-member b=fd00::9 --member-id abc"),
            "{text}"
        );
        assert!(!text.contains("PEER_LISTEN"));
        assert!(
            instructions("b", "h", "7000", 1)
                .join("\n")
                .contains("port 7000")
        );
    }
}
