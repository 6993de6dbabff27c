//! A member whose data is lost is replaced: it is removed, a new one is added as a learner, starts empty, and is
//! promoted as soon as the leader finds that it has caught up. Counted from its start to a linearizable read from it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::FutureExt;
use kv::{RangeRequest, RangeResponse};

use super::identity::become_member;
use super::message::{
    Empty, Headed, MEMBER_ADD, MEMBER_LIST, MEMBER_PROMOTE, MEMBER_REMOVE, MemberAddAnswer,
    MemberAddRequest, MemberId, MembersAnswer, RANGE,
};
use super::million::PREFIX;
use super::report::{Aim, Figure};
use super::restart::{PATIENCE, readable};
use super::wire::{Connection, Failure, within};
use super::{Bench, Stage, Workload, grouped, prefix_end, to_leader};
use crate::cluster::{Cluster, System};

pub(super) const WORKLOAD: Workload = Workload {
    name: "catch-up",
    stage: Stage::Loaded,
    run: |bench, cluster| run(bench, cluster).boxed(),
};

const ATTEMPT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

async fn run(bench: &Bench, cluster: &mut Cluster) -> Result<Vec<Figure>> {
    let name = format!("catch-up of an empty member, {} keys", grouped(bench.keys));
    let index = (cluster.leader().await? + 1) % 3;
    let url = format!("https://127.0.0.1:{}", cluster.peer_port(index));
    let leader = to_leader(cluster, 1).await?.remove(0);
    let old = member_at(&leader, &url).await?;
    cluster.kill(index)?;
    cluster.vacate(index)?;
    until(|| leader.ask::<Headed>(MEMBER_REMOVE, &old))
        .await
        .context("removing the member")?;
    let add = MemberAddRequest {
        peer_urls: vec![url],
        is_learner: true,
    };
    // etcd adds none in the first seconds after the others have lost touch with one.
    let added: MemberAddAnswer = until(|| leader.ask(MEMBER_ADD, &add))
        .await
        .context("adding a member")?;
    let id = added.member.context("the new member has no id")?.id;
    if cluster.system == System::Kontiki {
        become_member(cluster, index, old.id, id)?;
    }

    let new = MemberId { id };
    let began = Instant::now();
    cluster.start_member(index, false)?;
    until(|| leader.ask::<Headed>(MEMBER_PROMOTE, &new))
        .await
        .context("promoting the member")?;
    let promoted = began.elapsed().as_secs_f64();
    readable(cluster, index, bench.keys, began + PATIENCE).await?;
    let readable = began.elapsed().as_secs_f64();

    has_all(&cluster.connect(index).await?, bench.keys).await?;
    Ok(vec![
        Figure::new(&name, "until it votes", "s", promoted),
        Figure::new(&name, "until it answers", "s", readable).aim(Aim::at_most(0.5)),
    ])
}

async fn member_at(connection: &Connection, url: &str) -> Result<MemberId> {
    let list: MembersAnswer = within(ATTEMPT, connection.ask(MEMBER_LIST, &Empty {})).await?;
    let member = list
        .members
        .iter()
        .find(|member| member.peer_urls.iter().any(|own| own == url));
    let member = member.with_context(|| format!("no member is at {url}"))?;
    Ok(MemberId { id: member.id })
}

/// Repeats what is refused for now.
async fn until<A, F>(attempt: impl Fn() -> F) -> Result<A>
where
    F: Future<Output = Result<A, Failure>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match within(ATTEMPT, attempt()).await {
            Ok(answer) => return Ok(answer),
            Err(failure) if Instant::now() > deadline => return Err(failure.into()),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// That the member answered from data of its own.
async fn has_all(connection: &Connection, keys: u64) -> Result<()> {
    let request = RangeRequest {
        key: PREFIX.into(),
        range_end: prefix_end(PREFIX),
        count_only: true,
        serializable: true,
        ..Default::default()
    };
    let answer: RangeResponse = within(PATIENCE, connection.ask(RANGE, &request)).await?;
    match u64::try_from(answer.count) {
        Ok(count) if count == keys => Ok(()),
        _ => bail!("the new member has {} of {keys} keys", answer.count),
    }
}
