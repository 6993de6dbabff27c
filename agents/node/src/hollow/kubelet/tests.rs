use serde_json::json;
use tower::ServiceExt;

use super::*;
use crate::hollow::addresses::Addresses;
use crate::hollow::images::Images;
use crate::hollow::life::{Event, Life, Place};
use crate::hollow::nodes::{Behaviour, Node};
use crate::hollow::slim::Slim;
use crate::hollow::world::Entry;

#[test]
fn what_comes_through_the_proxy_of_a_node_is_asked_of_it() {
    for (uri, forwarded, expected) in [
        (
            "/configz",
            "/api/v1/nodes/n1/proxy/configz",
            Some("/configz?node=n1"),
        ),
        (
            "/metrics?a=b",
            "/api/v1/nodes/n1:10350/proxy/metrics",
            Some("/metrics?a=b&node=n1"),
        ),
        (
            "/pods",
            "/api/v1/nodes/https:n1:10350/proxy/pods",
            Some("/pods?node=n1"),
        ),
        ("/pods?node=n2", "/api/v1/nodes/n1/proxy/pods", None),
        ("/pods", "/api/v1/namespaces/d/pods/p/proxy/pods", None),
    ] {
        let found = naming(&uri.parse().unwrap(), forwarded);
        let found = found.map(|uri| uri.to_string());
        assert_eq!(found.as_deref(), expected, "{forwarded}");
    }
}

/// A pod that has run for most of a minute on the first node.
fn running(clock: &Clock) -> Entry {
    let container = json!({"name": "c", "image": "i", "livenessProbe": {"httpGet": {"port": 80}}});
    let object = json!({
        "metadata": {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": "1"},
        "spec": {"nodeName": "n-00000", "restartPolicy": "Always", "containers": [container]},
    });
    let mut life = Life::new(Slim::of(object).unwrap());
    let stages = Stages::default();
    let (mut addresses, mut images) = (Addresses::default(), Images::default());
    let mut place = Place {
        node: 0,
        node_name: "n-00000",
        host_ip: "10.0.0.1",
        addresses: &mut addresses,
        images: &mut images,
        stage: stages.get(u16::MAX),
        slow: 1,
    };
    life.step(
        Event::Look,
        &mut place,
        clock.now() - Duration::from_secs(55),
    );
    Entry {
        life,
        node: 0,
        stage: u16::MAX,
        seen: None,
        removed: false,
        listed: 1,
        queued: false,
        writing: false,
        due: None,
        refused_at: None,
        failures: 0,
    }
}

/// The second node is silent.
fn two_nodes() -> Router {
    let (clock, names) = (Clock::start(), Names::new("n", 2));
    let behaviours = [Behaviour::Steady, Behaviour::Silent];
    let nodes = (0..).zip(behaviours);
    let nodes = nodes.map(|(number, behaviour)| Node::new(number, names.of(number), behaviour));
    let mut world = World::new(nodes);
    world.places[0].pods.insert("u".into());
    world.pods.insert("u".into(), Box::new(running(&clock)));
    let size = Size {
        cpu_count: 1,
        memory_bytes: 1 << 30,
    };
    router(
        Arc::new(Mutex::new(world)),
        clock,
        names,
        (Stages::default(), 10),
        size,
        Value::Null,
        CancellationToken::new(),
    )
}

#[tokio::test]
async fn a_node_answers_through_the_proxy_of_an_api_server_unless_it_is_silent() {
    let router = two_nodes();
    for (path, node, code, part) in [
        ("/healthz", "n-00000", 200, "ok"),
        ("/healthz", "n-00001", 503, "silent"),
        ("/healthz", "n-00002", 404, "not one of the hollow nodes"),
        ("/pods", "n-00000", 200, "\"uid\":\"u\""),
        ("/pods", "n-00001", 503, "silent"),
        ("/runningpods/", "n-00000", 200, "\"image\":\"i\""),
        ("/runningpods", "n-00000", 200, "\"name\":\"p\""),
        ("/stats/summary", "n-00000", 200, "\"name\":\"p\""),
        ("/metrics/resource", "n-00000", 200, "pod=\"p\""),
        (
            "/metrics/probes",
            "n-00000",
            200,
            "probe_type=\"Liveness\",result=\"successful\"} 6",
        ),
    ] {
        let forwarded = format!("/api/v1/nodes/{node}/proxy{path}");
        let request = http::Request::get(path).header(FORWARDED_URI, forwarded);
        let request = request.body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), code, "{path} {node}");
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
        let text = String::from_utf8(body.unwrap().to_vec()).unwrap();
        assert!(text.contains(part), "{path} {node}: {text}");
    }
    let request = http::Request::get("/healthz").body(Body::empty()).unwrap();
    let answer = router.oneshot(request).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200, "the process is well");
}
