//! Acting as somebody else within bounds: one right on who, another on what.

use auth::User;
use auth::user::EXTRA_NODE_NAME;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::json;

use crate::server::{Answer, Server};

/// Who asks, with which headers, and who that is then.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const JANE: (&str, &str) = ("impersonate-user", "jane");
const ME: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const BINDINGS: &str = "/kontiki/v1/bindings";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Ann may be Jane, and a service account any node it runs on, in lists of config maps; Ann may also ask who she is.
async fn start() -> Server {
    let server = Server::start().await;
    let group = "rbac.authorization.k8s.io";
    let rule = |groups: &[&str], resources: &[&str], verb: &str| json!({"apiGroups": groups, "resources": resources, "verbs": [verb]});
    let authentication = &["authentication.k8s.io"][..];
    let role = json!({"metadata": {"name": "acting"}, "rules": [
        rule(authentication, &["users", "groups"], "impersonate:user-info"),
        rule(authentication, &["nodes"], "impersonate:associated-node"),
        rule(&[""], &["configmaps"], "impersonate-on:user-info:list"),
        rule(&[""], &["configmaps"], "impersonate-on:associated-node:list"),
        rule(authentication, &["selfsubjectreviews"], "impersonate-on:associated-node:create"),
        {"nonResourceURLs": [BINDINGS], "verbs": ["impersonate-on:user-info:post"]}]});
    server
        .post(&format!("{RBAC}/clusterroles"), role)
        .await
        .ok();
    let mut every = rule(authentication, &["groups"], "impersonate:user-info");
    every["resourceNames"] = json!(["*"]);
    let many = json!({"metadata": {"name": "many"}, "rules": [
        every, rule(authentication, &["users"], "impersonate:user-info"),
        rule(&[""], &["configmaps"], "impersonate-on:user-info:list")]});
    server
        .post(&format!("{RBAC}/clusterroles"), many)
        .await
        .ok();
    let readers = json!({"metadata": {"name": "readers"}, "rules": [rule(&[""], &["configmaps", "pods"], "list")]});
    server
        .post(&format!("{RBAC}/clusterroles"), readers)
        .await
        .ok();
    let users = |names: &[&str]| -> Vec<serde_json::Value> {
        let names = names.iter();
        names
            .map(|name| json!({"kind": "User", "name": name, "apiGroup": group}))
            .collect()
    };
    for (role, subjects) in [
        ("acting", users(&["ann", "system:serviceaccount:ns:agent"])),
        ("readers", users(&["jane"])),
        ("many", users(&["bea"])),
    ] {
        let reference = json!({"kind": "ClusterRole", "name": role, "apiGroup": group});
        let binding =
            json!({"metadata": {"name": role}, "subjects": subjects, "roleRef": reference});
        let uri = format!("{RBAC}/clusterrolebindings");
        server.post(&uri, binding).await.ok();
    }
    // The newest reads: from then on this member's caches know of the rights.
    for kind in ["clusterroles", "clusterrolebindings"] {
        server.get(&format!("{RBAC}/{kind}")).await.ok();
    }
    server
}

async fn ask(
    server: &Server,
    user: &User,
    method: Method,
    uri: &str,
    acting: &[(&str, &str)],
) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .extension(user.clone());
    for (name, value) in acting {
        request = request.header(*name, *value);
    }
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let request = request
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()));
    server.read(request.unwrap()).await
}

#[tokio::test]
async fn a_right_with_bounds_holds_for_what_it_says() {
    let server = start().await;
    let ann = User::new("ann", ["system:authenticated"]);
    let jane = JANE;
    let list = ask(&server, &ann, Method::GET, MAPS, &[jane]).await;
    assert_eq!(list.code, StatusCode::OK, "{}", list.text);
    let with_group = [jane, ("impersonate-group", "dev")];
    let list = ask(&server, &ann, Method::GET, MAPS, &with_group).await;
    assert_eq!(list.code, StatusCode::OK, "{}", list.text);

    let masters = [jane, ("impersonate-group", "system:masters")];
    let uid = [jane, ("impersonate-uid", "7")];
    let node = [("impersonate-user", "system:node:n1")];
    let cases: &[Case] = &[
        (
            PODS,
            &[jane],
            "pods is forbidden: User \"ann\" cannot impersonate-on:user-info:list resource \"pods\" in API group \"\" in the namespace \"default\"",
        ),
        (
            "/metrics",
            &[jane],
            "forbidden: User \"ann\" cannot impersonate-on:user-info:get path \"/metrics\"",
        ),
        (
            MAPS,
            &uid,
            "uids.authentication.k8s.io \"7\" is forbidden: User \"ann\" cannot impersonate:user-info resource \"uids\" in API group \"authentication.k8s.io\" at the cluster scope",
        ),
        (
            MAPS,
            &masters,
            "groups.authentication.k8s.io \"system:masters\" is forbidden: User \"ann\" cannot impersonate:user-info resource \"groups\" in API group \"authentication.k8s.io\" at the cluster scope: impersonating the system:masters group is not allowed",
        ),
        (
            MAPS,
            &node,
            "configmaps is forbidden: User \"ann\" cannot impersonate-on:arbitrary-node:list resource \"configmaps\" in API group \"\" in the namespace \"default\"",
        ),
    ];
    for (uri, acting, message) in cases {
        let answer = ask(&server, &ann, Method::GET, uri, acting).await;
        assert_eq!(answer.refused(), (403, "Forbidden", *message));
    }
    let half = [("impersonate-group", "dev")];
    let answer = ask(&server, &ann, Method::GET, MAPS, &half).await;
    let (code, reason, message) = answer.refused();
    assert_eq!((code, reason), (400, "BadRequest"));
    assert!(
        message.ends_with("without impersonating a user name"),
        "{message}"
    );
}

/// A right on the name `*` is one on all groups, of which it is asked where there are four or more.
#[tokio::test]
async fn many_groups_may_be_one_right() {
    let server = start().await;
    let bea = User::new("bea", ["system:authenticated"]);
    let groups = ["a", "b", "c", "d"].map(|group| ("impersonate-group", group));
    let all = [&[JANE][..], &groups[..]].concat();
    let list = ask(&server, &bea, Method::GET, MAPS, &all).await;
    assert_eq!(list.code, StatusCode::OK, "{}", list.text);
    let few = ask(&server, &bea, Method::GET, MAPS, &all[..4]).await;
    let text = "groups.authentication.k8s.io \"a\" is forbidden: User \"bea\" cannot impersonate:user-info resource \"groups\" in API group \"authentication.k8s.io\" at the cluster scope";
    assert_eq!(few.refused(), (403, "Forbidden", text));
}

#[tokio::test]
async fn an_agent_acts_as_the_node_that_it_runs_on() {
    let server = start().await;
    let mut agent = User::service_account("ns", "agent", "1");
    let node = vec!["n1".to_owned()];
    agent.extra.insert(EXTRA_NODE_NAME.to_owned(), node);
    let own = [("impersonate-user", "system:node:n1")];
    let review = ask(&server, &agent, Method::POST, ME, &own).await;
    assert_eq!(review.code, StatusCode::CREATED, "{}", review.text);
    assert_eq!(
        review.body["status"]["userInfo"]["groups"],
        json!(["system:nodes", "system:authenticated"])
    );
    let other = [("impersonate-user", "system:node:n2")];
    let answer = ask(&server, &agent, Method::POST, ME, &other).await;
    let (code, _, message) = answer.refused();
    assert_eq!(code, 403);
    assert!(
        message.contains("cannot impersonate-on:arbitrary-node:create"),
        "{message}"
    );
}

/// The bounds were asked of the request, and its items are what is done.
#[tokio::test]
async fn a_right_with_bounds_is_none_to_many_bindings() {
    let server = start().await;
    let ann = User::new("ann", ["system:authenticated"]);
    let answer = ask(&server, &ann, Method::POST, BINDINGS, &[JANE]).await;
    let text = "users \"jane\" is forbidden: User \"ann\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope";
    assert_eq!(answer.refused(), (403, "Forbidden", text));
}
