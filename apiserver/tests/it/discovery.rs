//! Discovery, health, version.

mod aggregation;

use http::Method;
use serde_json::json;

use crate::server::Server;

#[tokio::test]
async fn both_forms_name_every_kind() {
    let server = Server::start().await;
    assert_eq!(server.get("/api").await.ok()["versions"][0], "v1");
    let groups = server.get("/apis").await.ok();
    assert!(
        groups["groups"]
            .as_array()
            .unwrap()
            .iter()
            .any(|group| group["name"] == "apps"
                && group["preferredVersion"]["groupVersion"] == "apps/v1")
    );
    let core = server.get("/api/v1").await.ok();
    let names: Vec<&str> = core["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    for name in [
        "pods",
        "pods/log",
        "pods/status",
        "namespaces/finalize",
        "serviceaccounts/token",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    // As Kubernetes has them.
    for (path, plural, hash) in [
        ("/api/v1", "pods", "xPOwRZ+Yhw8="),
        ("/api/v1", "events", "r2yiGXH7wu8="),
        ("/apis/events.k8s.io/v1", "events", "r2yiGXH7wu8="),
        ("/apis/apps/v1", "deployments", "8aSe+NMegvE="),
        (
            "/apis/autoscaling/v1",
            "horizontalpodautoscalers",
            "qwQve8ut294=",
        ),
    ] {
        let list = server.get(path).await.ok();
        let mut resources = list["resources"].as_array().into_iter().flatten();
        let resource = resources.find(|resource| resource["name"] == plural);
        assert_eq!(
            resource.unwrap()["storageVersionHash"],
            hash,
            "{path} {plural}"
        );
    }
    assert_eq!(server.get("/apis/apps").await.ok()["kind"], "APIGroup");
    assert_eq!(
        server.get("/apis/apps/v1").await.ok()["groupVersion"],
        "apps/v1"
    );
    assert_eq!(server.get("/apis/nothing").await.code, 404);

    let accept =
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let ask = |etag: Option<&str>| {
        let mut request = server
            .request(Method::GET, "/apis")
            .header("accept", accept);
        if let Some(etag) = etag {
            request = request.header("if-none-match", etag);
        }
        server.read(request.body(Default::default()).unwrap())
    };
    let aggregated = ask(None).await;
    let etag = aggregated.headers["etag"].to_str().unwrap().to_owned();
    assert!(
        aggregated.headers["content-type"]
            .to_str()
            .unwrap()
            .contains("as=APIGroupDiscoveryList")
    );
    let body = aggregated.ok();
    let apps = body["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["metadata"]["name"] == "apps")
        .unwrap();
    let deployments = apps["versions"][0]["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["resource"] == "deployments")
        .unwrap();
    assert_eq!(
        (
            deployments["scope"].as_str(),
            deployments["responseKind"]["kind"].as_str()
        ),
        (Some("Namespaced"), Some("Deployment"))
    );
    assert_eq!(ask(Some(&etag)).await.code, 304);
}

#[tokio::test]
async fn health_and_version_answer_anybody() {
    let server = Server::start().await;
    let anonymous = |uri: &str| {
        server.read(
            http::Request::builder()
                .uri(uri)
                .body(Default::default())
                .unwrap(),
        )
    };
    for uri in [
        "/healthz",
        "/livez",
        "/readyz",
        "/readyz/ping",
        "/livez/ping",
    ] {
        let answer = anonymous(uri).await;
        assert_eq!(
            (answer.code.as_u16(), answer.text.as_str()),
            (200, "ok"),
            "{uri}"
        );
    }
    let verbose = anonymous("/readyz?verbose").await;
    assert!(
        verbose.text.contains("[+]ping ok\n") && verbose.text.ends_with("readyz check passed\n")
    );
    let names = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("[+]"));
        lines
            .map(|line| line.trim_end_matches(" ok").to_owned())
            .collect()
    };
    let of_readiness = ["etcd-readiness", "informer-sync", "shutdown"];
    for endpoint in ["healthz", "livez"] {
        let others = names(&anonymous(&format!("/{endpoint}?verbose")).await.text);
        let mut expected = names(&verbose.text);
        expected.retain(|name| !of_readiness.contains(&name.as_str()));
        assert_eq!(others, expected, "{endpoint}");
        assert!(others.contains(&"autoregister-completion".to_owned()));
    }
    let paths = server.get("/").await.ok()["paths"].clone();
    for path in ["/livez/ping", "/readyz/poststarthook/crd-informer-synced"] {
        assert!(paths.as_array().unwrap().contains(&path.into()), "{path}");
        assert_eq!(anonymous(path).await.text, "ok", "{path}");
    }
    let excluded = anonymous("/readyz?verbose&exclude=nothing&exclude=etcd&exclude=also").await;
    assert!(
        excluded.text.contains("[+]etcd excluded: ok\n")
            && excluded.text.contains(
                "warn: some health checks cannot be excluded: no matches for \"also\",\"nothing\"\n"
            ),
        "{}",
        excluded.text
    );
    let levels = server.get("/metrics/slis").await.text;
    let line = "kubernetes_healthcheck{name=\"etcd\",type=\"readyz\"} 1";
    assert!(levels.lines().any(|one| one == line), "{levels}");
    assert!(!levels.contains("apiserver_"), "{levels}");
    let version = anonymous("/version").await.ok();
    assert!(
        version["gitVersion"]
            .as_str()
            .unwrap()
            .starts_with("v1.36.")
    );
    assert_eq!(anonymous("/metrics").await.code, 403);
    let metrics = server.get("/metrics").await.text;
    // The API's own figures, and those of the process's registry, where the store has its figures too.
    for name in [
        "apiserver_request_total",
        "apiserver_request_sli_duration_seconds_bucket",
        "apiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"} ",
        "kubernetes_build_info{",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.contains(name), "{name} is missing");
    }
    assert_eq!(
        server.get("/openid/v1/jwks").await.ok()["keys"][0]["kty"],
        "EC"
    );
}

/// As a Prometheus does it.
#[tokio::test]
async fn an_account_with_the_right_to_the_path_reads_the_figures() {
    let server = Server::start().await;
    server.account("default").await;
    let uri = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let issued = server.post(uri, request).await.ok();
    let token = issued["status"]["token"].as_str().unwrap().to_owned();
    let read = async |path: &str| {
        let request = http::Request::builder()
            .uri(path)
            .header("authorization", format!("Bearer {token}"));
        let request = request.body(Default::default()).unwrap();
        server.read(request).await.code.as_u16()
    };
    assert_eq!(read("/metrics").await, 403);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "scraper"},
        "rules": [{"nonResourceURLs": ["/metrics", "/metrics/cadvisor"], "verbs": ["get"]}]});
    server
        .post(&format!("{rbac}/clusterroles"), role)
        .await
        .ok();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "scraper"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "scraper"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "default"}]});
    let bindings = format!("{rbac}/clusterrolebindings");
    server.post(&bindings, binding).await.ok();
    let allowed = async {
        while read("/metrics").await != 200 {
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(30);
    let allowed = tokio::time::timeout(limit, allowed).await;
    allowed.expect("the binding holds");
    assert_eq!(
        read("/debug/api_priority_and_fairness/dump_queues").await,
        403
    );
}

#[tokio::test]
async fn every_cluster_has_its_own_objects() {
    let server = Server::start().await;
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        assert_eq!(
            server
                .get(&format!("/api/v1/namespaces/{namespace}"))
                .await
                .ok()["status"]["phase"],
            "Active"
        );
    }
    server
        .get("/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin")
        .await
        .ok();
    server
        .get("/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical")
        .await
        .ok();
    let service = server
        .get("/api/v1/namespaces/default/services/kubernetes")
        .await
        .ok();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    let range = server
        .get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes/status")
        .await
        .ok();
    assert_eq!(range["kind"], "ServiceCIDR");
    assert_eq!(range["spec"]["cidrs"][0], "10.96.0.0/12");
    assert_eq!(range["status"]["conditions"][0]["type"], "Ready");
    assert_eq!(range["status"]["conditions"][0]["status"], "True");
    let address = server
        .get("/apis/networking.k8s.io/v1/ipaddresses/10.96.0.1")
        .await
        .ok();
    assert_eq!(
        address["spec"]["parentRef"],
        json!({"resource": "services", "namespace": "default", "name": "kubernetes"})
    );
    let mut events = server
        .watch("/api/v1/namespaces/default/endpoints?watch=1")
        .await;
    let endpoints = events.next().await.unwrap();
    let subset = &endpoints["object"]["subsets"][0];
    assert_eq!(subset["addresses"][0]["ip"], "192.0.2.1");
    let mut events = server
        .watch("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?watch=1")
        .await;
    let slice = events.next().await.unwrap()["object"].clone();
    assert_eq!(
        slice["metadata"]["labels"]["kubernetes.io/service-name"],
        "kubernetes"
    );
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.0.2.1"]));
    // The service's only port, in both.
    assert_eq!(service["spec"]["ports"][0]["name"], "https");
    for ports in [&subset["ports"], &slice["ports"]] {
        assert_eq!(ports[0]["name"], "https");
        assert_eq!(ports[0]["port"], service["spec"]["ports"][0]["targetPort"]);
    }
}

#[tokio::test]
async fn openapi_documents_describe_what_is_served() {
    let server = Server::start().await;
    let index = server.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_owned();
    let document = server.get(&url).await;
    assert!(
        document.headers["cache-control"]
            .to_str()
            .unwrap()
            .contains("immutable")
    );
    let document = document.ok();
    assert_eq!(document["openapi"], "3.0.0");
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert!(
        patch["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .any(|parameter| parameter["name"] == "fieldValidation")
    );
    assert_eq!(
        server.get("/openapi/v3/apis/apps/v1?hash=old").await.code,
        301
    );
    assert_eq!(server.get("/openapi/v3/apis/none/v1").await.code, 404);
    let swagger = server.get("/openapi/v2").await;
    let etag = swagger.headers["etag"].clone();
    assert!(
        swagger.ok()["definitions"]
            .as_object()
            .unwrap()
            .contains_key("io.k8s.api.core.v1.Pod")
    );
    // kubectl asks by a name that is no media type, and refuses it in the answer.
    for asked in [
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    ] {
        let request = server
            .request(Method::GET, "/openapi/v2")
            .header("accept", asked)
            .body(Default::default())
            .unwrap();
        assert_eq!(
            server.read(request).await.headers["content-type"],
            "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
        );
    }
    let request = server
        .request(Method::GET, "/openapi/v2")
        .header("if-none-match", etag)
        .body(Default::default())
        .unwrap();
    assert_eq!(server.read(request).await.code, 304);
}
