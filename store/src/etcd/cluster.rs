//! etcd's Cluster service over the store's membership.
//!
//! A member is always added as a learner, whatever the client asks: one that votes before it has the data can cost the
//! quorum. It is promoted when it has caught up.

use kv::MemberStatus;

use super::errors::Fault;
use super::front::Front;
use super::headed::Headed;
use super::message::{
    Member, MemberAddBody, MemberAddRequest, MemberId, MemberListRequest, MemberUpdateRequest,
    MembersBody,
};
use super::rpc::Call;

/// Learners at once, as in etcd.
const LEARNERS_MAX: usize = 1;

/// Served without a quorum unless it is asked to be linearizable.
pub(super) async fn list(
    call: Call,
    request: MemberListRequest,
) -> Result<Headed<MembersBody>, Fault> {
    if request.linearizable {
        call.front.backend.read_index().await?;
    }
    Ok(members_now(&call.front))
}

pub(super) async fn add(
    call: Call,
    request: MemberAddRequest,
) -> Result<Headed<MemberAddBody>, Fault> {
    let front = &call.front;
    let address = peer_address(&request.peer_urls)?;
    let members = front.backend.status().members;
    if members.iter().any(|member| member.peer_address == address) {
        return Err(Fault::PeerUrlExists);
    }
    if members.iter().filter(|member| !member.is_voter).count() >= LEARNERS_MAX {
        return Err(Fault::TooManyLearners);
    }
    let id = front.backend.add_member(address.clone()).await?;
    let added = MemberStatus {
        id,
        peer_address: address,
        ..MemberStatus::default()
    };
    let mut members = front.backend.status().members;
    // A follower that passed the request on may not have applied it yet.
    if !members.iter().any(|member| member.id == id) {
        members.push(added.clone());
    }
    Ok(front.now(MemberAddBody {
        member: described(front, vec![added]).pop(),
        members: described(front, members),
    }))
}

pub(super) async fn remove(call: Call, request: MemberId) -> Result<Headed<MembersBody>, Fault> {
    let gone = known(&call.front, request.id)?;
    call.front.backend.remove_member(gone.id).await?;
    let mut answer = members_now(&call.front);
    answer.body.members.retain(|member| member.id != gone.id);
    Ok(answer)
}

pub(super) async fn update(
    call: Call,
    request: MemberUpdateRequest,
) -> Result<Headed<MembersBody>, Fault> {
    let address = peer_address(&request.peer_urls)?;
    let known = known(&call.front, request.id)?;
    let members = call.front.backend.status().members;
    let taken = |other: &MemberStatus| other.id != known.id && other.peer_address == address;
    if members.iter().any(taken) {
        return Err(Fault::PeerUrlExists);
    }
    call.front.backend.update_member(known.id, address).await?;
    Ok(members_now(&call.front))
}

pub(super) async fn promote(call: Call, request: MemberId) -> Result<Headed<MembersBody>, Fault> {
    if known(&call.front, request.id)?.is_voter {
        return Err(Fault::NotLearner);
    }
    call.front.backend.promote_member(request.id).await?;
    let mut answer = members_now(&call.front);
    for member in &mut answer.body.members {
        member.is_learner &= member.id != request.id;
    }
    Ok(answer)
}

fn known(front: &Front, id: u64) -> Result<MemberStatus, Fault> {
    let mut members = front.backend.status().members.into_iter();
    members
        .find(|member| member.id == id)
        .ok_or(Fault::MemberNotFound)
}

fn members_now(front: &Front) -> Headed<MembersBody> {
    front.now(MembersBody {
        members: described(front, front.backend.status().members),
    })
}

fn described(front: &Front, members: Vec<MemberStatus>) -> Vec<Member> {
    let mut urls = front.backend.client_urls();
    // Its own it knows before it has published it.
    if !front.options.client_url.is_empty() {
        urls.insert(front.member_id, front.options.client_url.clone());
    }
    members
        .into_iter()
        .map(|status| Member {
            id: status.id,
            name: status.name,
            peer_urls: vec![format!("https://{}", status.peer_address)],
            client_urls: urls.get(&status.id).cloned().into_iter().collect(),
            is_learner: !status.is_voter,
        })
        .collect()
}

/// The `host:port` of the one URL. Members speak TLS on one address each.
fn peer_address(urls: &[String]) -> Result<String, Fault> {
    let [url] = urls else {
        return Err(Fault::BadMemberUrls);
    };
    let uri: http::Uri = url.parse().map_err(|_| Fault::BadMemberUrls)?;
    let bare = uri.path().is_empty() || uri.path() == "/";
    match (uri.scheme_str(), uri.host(), uri.port_u16()) {
        (Some("https"), Some(host), Some(port)) if bare && !host.is_empty() && port != 0 => {
            Ok(format!("{host}:{port}"))
        }
        _ => Err(Fault::BadMemberUrls),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_url_is_one_https_address_with_a_port() {
        let address = |urls: &[&str]| {
            let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
            peer_address(&urls)
        };
        assert_eq!(
            address(&["https://10.0.0.4:2380"]),
            Ok("10.0.0.4:2380".into())
        );
        assert_eq!(address(&["https://[::1]:2380/"]), Ok("[::1]:2380".into()));
        let bad: [&[&str]; 7] = [
            &[],
            &["https://a:1", "https://b:1"],
            &["http://10.0.0.4:2380"],
            &["10.0.0.4:2380"],
            &["https://10.0.0.4"],
            &["https://10.0.0.4:2380/path"],
            &["https://:2380"],
        ];
        for urls in bad {
            assert_eq!(address(urls), Err(Fault::BadMemberUrls), "{urls:?}");
        }
    }
}
