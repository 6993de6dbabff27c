//! `kontiki store member` and `move-leader`: the membership by hand, for clusters on several machines.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use store::etcd::client::{Client, ClientError, Member};

use super::{Session, table};
use crate::cli::{MemberAddArgs, MemberCommand};
use crate::resize::WITHOUT_QUORUM;
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
            join(&client, add).await
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
            client.remove_member(id).await?;
            say(&format!(
                "Member {id:x} is removed. Stop its process and remove its data: the id is never used again."
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
    match find(&members, &add.name) {
        Ok(dead) => {
            // It publishes it soon after its first start: who has not may run all the same.
            let Some(url) = dead.client_urls.first() else {
                bail!(
                    "member {} has not published where its clients reach it, so nobody can tell whether it runs: one \
                     that is to be replaced must have ended. If it has, remove it first: `kontiki store member remove {}`",
                    add.name,
                    add.name
                );
            };
            let status = session.client(url)?.status().await;
            if status.is_ok_and(|status| status.member_id == dead.id) {
                bail!(
                    "member {} answers: one that is to be replaced must have ended",
                    add.name
                );
            }
            client.remove_member(dead.id).await?;
            say(&format!("Member {} ({:x}) is removed.", add.name, dead.id));
        }
        // An earlier attempt has removed it and not got further.
        Err(_) => say(&format!(
            "There is no member {} any more; it is added.",
            add.name
        )),
    }
    join(&client, add).await
}

/// Adds a learner, says how it is started, waits until it has caught up, and lets it vote.
async fn join(client: &Client, add: &MemberAddArgs) -> Result<()> {
    let (host, port) = add
        .peer
        .rsplit_once(':')
        .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        .ok_or_else(|| anyhow!("{} is not HOST:PORT", add.peer))?;
    let members = client.members(true).await?;
    // Of an earlier attempt.
    let added = members
        .iter()
        .find(|it| it.is_learner && it.peer_address == add.peer);
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
        match client.promote_member(id).await {
            Ok(()) => break,
            Err(ClientError::Refused { text, .. }) if text.contains("member not found") => {
                bail!("member {id:x} was removed meanwhile")
            }
            Err(error) if Instant::now() > deadline => {
                return Err(error).context(format!(
                    "member {id:x} has not caught up yet: when it has, `kontiki store member promote {id:x}`"
                ));
            }
            Err(_) => {}
        }
        let members = client.members(false).await.unwrap_or_default();
        let started = members.iter().any(|it| it.id == id && !it.name.is_empty());
        progress.say(match started {
            true => "waiting for the member to catch up",
            false => "waiting for the member to start",
        });
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
