//! What the server adds to, and demands of, new objects.

use serde_json::{Value, json};

use crate::server::{PODS, Server, pod};

const SERVICES: &str = "/api/v1/namespaces/default/services";

#[tokio::test]
async fn pods_get_account_priority_and_tolerations() {
    let server = Server::start().await;
    server.account("default").await;
    let created = server.post(PODS, pod("p")).await.ok();
    assert_eq!(created["spec"]["serviceAccountName"], "default");
    let volume = &created["spec"]["volumes"][0];
    assert!(
        volume["name"]
            .as_str()
            .unwrap()
            .starts_with("kube-api-access-")
    );
    assert_eq!(
        volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"],
        3607
    );
    let mount = &created["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(
        mount["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    assert_eq!(created["spec"]["priority"], 0);
    assert_eq!(created["spec"]["tolerations"].as_array().unwrap().len(), 2);
    let mut other = pod("q");
    other["spec"]["serviceAccountName"] = "none".into();
    let refused = server.post(PODS, other).await;
    assert_eq!(
        refused.refused(),
        (
            403,
            "Forbidden",
            "pods \"q\" is forbidden: error looking up service account default/none: serviceaccount \"none\" not found"
        )
    );
    let mut classless = pod("r");
    classless["spec"]["priorityClassName"] = "urgent".into();
    assert!(
        server
            .post(PODS, classless)
            .await
            .refused()
            .2
            .ends_with("no PriorityClass with name urgent was found")
    );
}

fn service(name: &str, extra: Value) -> Value {
    let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    for (key, value) in extra.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    service
}

#[tokio::test]
async fn service_addresses_are_unique_and_come_back() {
    let server = Server::start().await;
    // So many at once that some certainly draw the same port and have to draw again.
    const COUNT: usize = 150;
    let makes = (0..COUNT).map(|index| {
        let server = &server;
        async move {
            server
                .post(
                    SERVICES,
                    service(&format!("s{index}"), json!({"type": "NodePort"})),
                )
                .await
                .ok()
        }
    });
    let made = futures::future::join_all(makes).await;
    let mut addresses: Vec<&str> = made
        .iter()
        .map(|service| service["spec"]["clusterIP"].as_str().unwrap())
        .collect();
    let mut ports: Vec<i64> = made
        .iter()
        .map(|service| service["spec"]["ports"][0]["nodePort"].as_i64().unwrap())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!((addresses.len(), ports.len()), (COUNT, COUNT));
    let wanted = json!({"clusterIP": addresses[0]});
    let taken = server.post(SERVICES, service("copy", wanted.clone())).await;
    assert_eq!(taken.refused().0, 422);
    assert!(
        taken
            .refused()
            .2
            .contains("provided IP is already allocated")
    );
    let owner = made
        .iter()
        .find(|service| service["spec"]["clusterIP"] == addresses[0])
        .unwrap();
    server
        .delete(
            &format!("{SERVICES}/{}", owner["metadata"]["name"].as_str().unwrap()),
            json!(null),
        )
        .await
        .ok();
    server.post(SERVICES, service("copy", wanted)).await.ok();
    let headless = server
        .post(SERVICES, service("headless", json!({"clusterIP": "None"})))
        .await
        .ok();
    assert_eq!(headless["spec"]["clusterIP"], "None");
    let external = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ext"}, "spec": {"type": "ExternalName", "externalName": "example.com"}});
    assert!(
        server.post(SERVICES, external).await.ok()["spec"]
            .get("clusterIP")
            .is_none_or(|ip| ip == "")
    );
    let outside = server
        .post(
            SERVICES,
            service("outside", json!({"clusterIP": "192.168.7.7"})),
        )
        .await;
    assert_eq!(outside.refused().0, 422);
}

#[tokio::test]
async fn limit_ranges_fill_in_and_bound() {
    let server = Server::start().await;
    server.account("default").await;
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}}]}});
    server
        .post("/api/v1/namespaces/default/limitranges", range)
        .await
        .ok();
    server
        .get("/api/v1/namespaces/default/limitranges")
        .await
        .ok();
    let created = server.post(PODS, pod("p")).await.ok();
    let resources = &created["spec"]["containers"][0]["resources"];
    assert_eq!(
        (&resources["limits"]["cpu"], &resources["requests"]["cpu"]),
        (&json!("500m"), &json!("100m"))
    );
    let mut greedy = pod("q");
    greedy["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}});
    let refused = server.post(PODS, greedy).await;
    assert_eq!(
        refused.refused().2,
        "pods \"q\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
}
