//! Asks at the end, when nobody disturbs, whether a right that is taken away and a token whose account is gone are refused
//! on every member within a second.

use std::sync::Arc;
use std::time::Duration;

use auth::User;
use http::Method;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::history::Right;
use super::rest::{Rest, Shared};

/// For a change to reach all members.
const EFFECTIVE_WITHIN: Duration = Duration::from_secs(1);
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
    look(
        &mut eve,
        members,
        ("eve lists what she may list", given),
        true,
        |code| code == 200,
    )
    .await;
    let taken = remove(&admin, &format!("{RBAC}/rolebindings/look")).await?;
    look(
        &mut eve,
        members,
        ("eve lists what she might list before", taken),
        false,
        |code| code == 200,
    )
    .await;

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
    let what = ("a token is good", given);
    look(&mut account, members, what, true, |code| code != 401).await;
    let taken = remove(&admin, &format!("{ACCOUNTS}/probe")).await?;
    look(
        &mut account,
        members,
        ("a token is good whose account is gone", taken),
        false,
        |code| code != 401,
    )
    .await;
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

/// Asks every member, a second later. With what is asked comes the request that gave it or took it away.
async fn look(
    asking: &mut Rest,
    members: &[u64],
    (what, change): (&str, usize),
    expected: bool,
    allows: impl Fn(u16) -> bool,
) {
    tokio::time::sleep(EFFECTIVE_WITHIN).await;
    for member in members {
        asking.member = *member;
        let (place, answered) = asking.ask_as(Method::GET, MAPS, None).await;
        let Ok((code, _)) = answered else {
            continue;
        };
        let right = Right {
            what: what.into(),
            member: *member,
            expected,
            found: allows(code),
            asks: [change, place],
        };
        asking
            .shared
            .scribe
            .change(|history| history.rights.push(right));
    }
}
