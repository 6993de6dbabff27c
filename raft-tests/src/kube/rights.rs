//! Asks at the end, when nobody disturbs, whether a right that is taken away and a token whose account is gone are refused
//! on every member within a second.

use std::sync::Arc;
use std::time::Duration;

use auth::User;
use http::Method;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::history::{Access, Right};
use super::rest::{Rest, Shared};

/// For a change to reach all members.
const EFFECTIVE_WITHIN: Duration = Duration::from_secs(1);
/// For a member that nobody disturbs to say what it makes of a request.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
const AGAIN: Duration = Duration::from_millis(100);
const JSON: &str = "application/json";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

/// See the module head. None where a member does not do what is asked, which others notice.
pub async fn probe(
    shared: Arc<Shared>,
    members: &[u64],
    client: u32,
    mut rng: SmallRng,
) -> Option<()> {
    let mut own = || SmallRng::seed_from_u64(rng.random());
    let mut admin = Rest::new(shared.clone(), client, own());
    admin.member = *members.first()?;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "look"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    });
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "look"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "look"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "eve"}]
    });
    make(&admin, &format!("{RBAC}/roles"), &role).await?;
    let (given, _) = make(&admin, &format!("{RBAC}/rolebindings"), &binding).await?;
    let eve = User::new("eve", Vec::<String>::new()).authenticated();
    let mut eve = Rest::with_user(shared.clone(), client + 1, own(), eve);
    let what = "eve, who was given the right, lists config maps";
    look(&mut eve, members, (what, given), Access::Allowed).await;
    let taken = remove(&admin, &format!("{RBAC}/rolebindings/look")).await?;
    let what = "eve, whose right was taken away, lists config maps";
    look(&mut eve, members, (what, taken), Access::Forbidden).await;

    make(
        &admin,
        ACCOUNTS,
        &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "probe"}}),
    )
    .await?;
    let wish =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let (given, made) = make(&admin, &format!("{ACCOUNTS}/probe/token"), &wish).await?;
    let token = made["status"]["token"].as_str()?;
    let mut account = Rest::with_token(shared, client + 2, own(), token);
    // It is known, and has no rights.
    let what = "an account without rights lists config maps with its token";
    look(&mut account, members, (what, given), Access::Forbidden).await;
    let taken = remove(&admin, &format!("{ACCOUNTS}/probe")).await?;
    let what = "an account that is gone lists config maps with its token";
    look(&mut account, members, (what, taken), Access::Unknown).await;
    Some(())
}

/// The place of the request, and what was made.
async fn make(admin: &Rest, path: &str, body: &Value) -> Option<(usize, Value)> {
    let (place, answered) = admin.ask_as(Method::POST, path, Some((JSON, body))).await;
    match answered {
        Ok((201, made)) => Some((place, made)),
        _ => None,
    }
}

/// The place of the request.
async fn remove(admin: &Rest, path: &str) -> Option<usize> {
    let (place, answered) = admin.ask_as(Method::DELETE, path, None).await;
    matches!(answered, Ok((200, _))).then_some(place)
}

/// Asks every member, a second later, until it says what it makes of it. With what is asked comes the request that gave the
/// right or took it away.
async fn look(asking: &mut Rest, members: &[u64], (what, change): (&str, usize), expected: Access) {
    tokio::time::sleep(EFFECTIVE_WITHIN).await;
    for member in members {
        asking.member = *member;
        let (place, found) = insist(asking).await;
        let right = Right {
            what: what.into(),
            member: *member,
            expected,
            found,
            asks: [change, place],
        };
        asking
            .shared
            .scribe
            .change(|history| history.rights.push(right));
    }
}

/// What a member makes of the request; nothing where it does not say so in time: an answer that says nothing of rights, or
/// none, is no answer. And the last request.
async fn insist(asking: &Rest) -> (usize, Option<Access>) {
    let until = Instant::now() + ANSWERS_WITHIN;
    loop {
        let (place, answered) = asking.ask_as(Method::GET, MAPS, None).await;
        let found = answered.ok().and_then(|(code, _)| Access::of(code));
        if found.is_some() || Instant::now() > until {
            return (place, found);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use bytes::Bytes;
    use futures::future::BoxFuture;
    use http::{Request, StatusCode};

    use super::super::scribe::Scribe;
    use super::super::wire::{Answer, Broken, Pieces, Road};
    use super::*;

    /// A member that answers with these codes, one after the other, and then with the last one for ever.
    struct Codes(Mutex<Vec<Option<u16>>>);

    struct Nothing;

    impl Pieces for Nothing {
        fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, Broken>>> {
            Box::pin(std::future::ready(None))
        }
    }

    impl Road for Codes {
        fn ready(&self) -> Vec<u64> {
            vec![1]
        }

        fn send(
            &self,
            _client: u32,
            _member: u64,
            _user: Option<User>,
            _request: Request<Bytes>,
        ) -> BoxFuture<'_, Result<Answer, Broken>> {
            let mut codes = self.0.lock().unwrap();
            let code = match codes.len() {
                1 => codes[0],
                _ => codes.remove(0),
            };
            let answer = code.map(|code| Answer::new(StatusCode::from_u16(code).unwrap(), Nothing));
            Box::pin(std::future::ready(answer.ok_or(Broken::Refused)))
        }
    }

    /// What is found of a member that answers so, and how often it is asked.
    async fn found(codes: &[Option<u16>]) -> (Option<Access>, usize) {
        let scribe = Arc::new(Scribe::new(Instant::now()));
        let shared = Shared {
            wire: Arc::new(Codes(Mutex::new(codes.to_vec()))),
            scribe: scribe.clone(),
            stop: AtomicBool::new(false),
        };
        let dice = SmallRng::seed_from_u64(1);
        let mut eve = Rest::new(Arc::new(shared), 1, dice);
        look(&mut eve, &[1], ("eve lists", 0), Access::Forbidden).await;
        scribe.change(|history| {
            assert_eq!(history.rights[0].asks, [0, history.asks.len() - 1]);
            (history.rights[0].found, history.asks.len())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_says_nothing_of_rights_is_no_refusal() {
        let forbidden = (Some(Access::Forbidden), 3);
        assert_eq!(found(&[Some(503), None, Some(403)]).await, forbidden);
        assert_eq!(found(&[Some(200)]).await, (Some(Access::Allowed), 1));
        assert_eq!(found(&[Some(401)]).await, (Some(Access::Unknown), 1));
        for never in [Some(503), Some(404), None] {
            let (found, times) = found(&[never]).await;
            assert!(found.is_none() && times > 10, "{never:?}");
        }
    }
}
