//! The API with nothing but curl: verbs, lists in pieces, a watch, and readable refusals of everything that is wrong.

use crate::cluster::{Cluster, Runtime};
use crate::tools::{Following, have, run};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// curl with the administrator's certificate.
struct Curl<'a> {
    cluster: &'a Cluster,
}

/// Status code and body.
type Answer = (u16, Value);

impl Curl<'_> {
    fn command(&self, path: &str) -> Command {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--cacert"])
            .arg(self.cluster.pki("ca.crt"));
        command.arg(format!("{}{path}", self.cluster.url(1)));
        command
    }

    fn admin(&self, path: &str) -> Command {
        let mut command = self.command(path);
        command
            .arg("--cert")
            .arg(self.cluster.pki("admin.crt"))
            .arg("--key")
            .arg(self.cluster.pki("admin.key"));
        command
    }

    fn answer(&self, mut command: Command, input: &str) -> Answer {
        command.args(["--write-out", "\n%{http_code}"]);
        let said = run(command, input);
        let (body, code) = said
            .stdout
            .rsplit_once('\n')
            .unwrap_or_else(|| panic!("{said}"));
        let code = code.parse().unwrap_or_else(|_| panic!("{said}"));
        (
            code,
            serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_string())),
        )
    }

    fn get(&self, path: &str) -> Answer {
        self.answer(self.admin(path), "")
    }

    fn send(&self, method: &str, path: &str, kind: &str, body: &str) -> Answer {
        let mut command = self.admin(path);
        command.args([
            "-X",
            method,
            "-H",
            &format!("Content-Type: {kind}"),
            "--data-binary",
            "@-",
        ]);
        self.answer(command, body)
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, "application/json", &body.to_string())
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"a": "1"}})
}

#[test]
fn verbs_lists_and_watches() {
    if !have("curl") {
        return;
    }
    let cluster = Cluster::start(1, Runtime::Hollow);
    let curl = Curl { cluster: &cluster };
    for index in 0..5 {
        let (code, created) = curl.post(
            MAPS,
            &config_map(&format!("m{index}"), &json!({"set": "five"})),
        );
        assert_eq!(code, 201, "{created}");
        assert!(
            created["metadata"]["uid"].is_string()
                && created["metadata"]["resourceVersion"].is_string()
        );
    }
    let (code, one) = curl.get(&format!("{MAPS}/m0"));
    assert_eq!((code, &one["data"]["a"]), (200, &json!("1")));
    let count = |path: &str| curl.get(path).1["items"].as_array().map_or(0, Vec::len);
    assert_eq!(count(&format!("{MAPS}?labelSelector=set%3Dfive")), 5);
    assert_eq!(
        count(&format!("{MAPS}?labelSelector=set%20notin%20(five)%2Cset")),
        0
    );
    assert_eq!(
        count(&format!("{MAPS}?fieldSelector=metadata.name%3Dm3")),
        1
    );

    let mut names = Vec::new();
    let mut path = format!("{MAPS}?labelSelector=set%3Dfive&limit=2");
    loop {
        let (code, page) = curl.get(&path);
        assert_eq!(code, 200, "{page}");
        let items = page["items"].as_array().cloned().unwrap_or_default();
        assert!(items.len() <= 2);
        names.extend(
            items
                .iter()
                .filter_map(|item| item["metadata"]["name"].as_str().map(str::to_string)),
        );
        match page["metadata"]["continue"]
            .as_str()
            .filter(|token| !token.is_empty())
        {
            Some(token) => {
                path = format!(
                    "{MAPS}?labelSelector=set%3Dfive&limit=2&continue={}",
                    escape(token)
                )
            }
            None => break,
        }
    }
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4"]);

    let version = curl.get(MAPS).1["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .to_string();
    let mut watch = curl.admin(&format!("{MAPS}?watch=1&resourceVersion={version}"));
    watch
        .arg("--no-buffer")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let watch = Following::start(watch);
    let (code, patched) = curl.send(
        "PATCH",
        &format!("{MAPS}/m0"),
        "application/merge-patch+json",
        r#"{"data": {"a": "2"}}"#,
    );
    assert_eq!((code, &patched["data"]["a"]), (200, &json!("2")));
    let line = watch.line("the modification", |line| line.contains("MODIFIED"));
    let event: Value = serde_json::from_str(&line).expect("a line is one event");
    assert_eq!(event["object"]["metadata"]["name"], "m0");
    let (code, _) = curl.send("DELETE", &format!("{MAPS}/m0"), "application/json", "{}");
    assert_eq!(code, 200);
    watch.line("the deletion", |line| line.contains("DELETED"));
    assert_eq!(curl.get(&format!("{MAPS}/m0")).0, 404);
}

fn escape(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| {
            if safe(byte) {
                (byte as char).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[test]
fn what_is_wrong_is_refused_and_said() {
    if !have("curl") {
        return;
    }
    let cluster = Cluster::start(1, Runtime::Hollow);
    let curl = Curl { cluster: &cluster };
    let refused = |(code, status): Answer, expected: u16, reason: &str, text: &str| {
        assert_eq!(code, expected, "{status}");
        assert_eq!(
            (&status["kind"], &status["code"]),
            (&json!("Status"), &json!(expected)),
            "{status}"
        );
        assert_eq!(status["reason"], json!(reason), "{status}");
        assert!(
            status["message"]
                .as_str()
                .is_some_and(|message| message.contains(text)),
            "{text}: {status}"
        );
    };

    refused(
        curl.get(&format!("{MAPS}/nope")),
        404,
        "NotFound",
        "configmaps \"nope\" not found",
    );
    for path in [
        "/apis/nosuch/v1/things",
        "/apis/apps/v9/deployments",
        "/api/v1/nosuchthings",
    ] {
        let (code, _) = curl.get(path);
        assert_eq!(code, 404, "{path}");
    }
    let send = |body: &str| curl.send("POST", MAPS, "application/json", body);
    assert_eq!(send("{\"apiVersion\": ").0, 400);
    assert_eq!(
        send(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))).0,
        400
    );
    assert_eq!(
        send(r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": []}"#)
            .0,
        400
    );
    refused(
        curl.post(
            MAPS,
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}),
        ),
        400,
        "BadRequest",
        "",
    );
    refused(
        curl.post(MAPS, &config_map("Not_A_Name", &json!({}))),
        422,
        "Invalid",
        "metadata.name: Invalid value: \"Not_A_Name\"",
    );
    refused(
        curl.post(MAPS, &config_map("x", &json!({"a b": "c"}))),
        422,
        "Invalid",
        "metadata.labels: Invalid value",
    );
    let huge = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "x".repeat(4 << 20)}});
    // Over HTTP/1.1: on HTTP/2 the stream is reset while the body is still on its way, and curl drops the answer.
    let mut command = curl.admin(MAPS);
    command.args([
        "--http1.1",
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        "@-",
    ]);
    refused(
        curl.answer(command, &huge.to_string()),
        413,
        "RequestEntityTooLarge",
        "limit is 3145728",
    );

    let (_, mut stored) = curl.post(MAPS, &config_map("busy", &json!({})));
    assert_eq!(
        curl.send(
            "PATCH",
            &format!("{MAPS}/busy"),
            "application/merge-patch+json",
            r#"{"data": {"a": "2"}}"#
        )
        .0,
        200
    );
    stored["data"]["a"] = json!("3");
    refused(
        curl.send(
            "PUT",
            &format!("{MAPS}/busy"),
            "application/json",
            &stored.to_string(),
        ),
        409,
        "Conflict",
        "the object has been modified; please apply your changes to the latest version and try again",
    );
    refused(
        curl.post(MAPS, &config_map("busy", &json!({}))),
        409,
        "AlreadyExists",
        "configmaps \"busy\" already exists",
    );
    refused(
        curl.send("PATCH", &format!("{MAPS}/busy"), "application/xml", "{}"),
        415,
        "UnsupportedMediaType",
        "",
    );
    refused(
        curl.get(&format!("{MAPS}?resourceVersion=x")),
        422,
        "Invalid",
        "resourceVersion: Invalid value: \"x\"",
    );

    let anonymous = curl.answer(curl.command(MAPS), "");
    assert!(anonymous.0 == 401 || anonymous.0 == 403, "{anonymous:?}");
    let mut command = curl.command(MAPS);
    command.args(["-H", "Authorization: Bearer nonsense"]);
    refused(
        curl.answer(command, ""),
        401,
        "Unauthorized",
        "Unauthorized",
    );

    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
    let (code, token) = curl.post(path, &request);
    assert_eq!(code, 201, "{token}");
    let mut command = curl.command(MAPS);
    command.args([
        "-H",
        &format!(
            "Authorization: Bearer {}",
            token["status"]["token"].as_str().unwrap_or_default()
        ),
    ]);
    refused(
        curl.answer(command, ""),
        403,
        "Forbidden",
        "configmaps is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\"",
    );
}
