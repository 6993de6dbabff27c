//! Requests and what Kubernetes documents as their answers, as data: `tests/golden/*.http`. Each file is a conversation
//! with a server of its own.
//!
//! ```text
//! ### What it shows
//! POST /api/v1/namespaces/default/configmaps
//! content-type: application/json
//! {"metadata": {"name": "a"}}
//! -> 201
//! content-type: application/json
//! {"metadata": {"name": "a", "resourceVersion": "{{version}}"}}
//! ```
//!
//! An answer has to have what stands here: an object these fields and perhaps others, `"*"` something, `null` nothing, a list
//! just these items. `{{name}}` stands for what was there the first time. A body that is no JSON is compared as text. Lines
//! that begin with `#` and a space say where it is written.

use std::collections::BTreeMap;
use std::path::Path;

use axum::body::Body;
use http::Method;
use serde_json::Value;

use crate::server::{Answer, Server};

type Known = BTreeMap<String, String>;

#[derive(Debug, Default)]
struct Exchange {
    title: String,
    method: String,
    uri: String,
    headers: Vec<(String, String)>,
    body: String,
    code: u16,
    answer_headers: Vec<(String, String)>,
    answer: String,
}

fn exchanges(text: &str) -> Vec<Exchange> {
    let blocks = text
        .split("\n### ")
        .map(|block| block.trim_start_matches("### "));
    let blocks = blocks.filter(|block| block.contains("\n-> "));
    blocks.map(exchange).collect()
}

fn exchange(block: &str) -> Exchange {
    let (asked, answered) = block.split_once("\n-> ").expect("an answer");
    let mut lines = asked.lines().filter(|line| !line.starts_with("# "));
    let title = lines.next().expect("a title").to_owned();
    let line = lines.next().expect("a request");
    let (method, uri) = line.split_once(' ').expect("a method and a path");
    let (headers, body) = parted(lines);
    let mut lines = answered.lines().filter(|line| !line.starts_with("# "));
    let code = lines.next().and_then(|code| code.trim().parse().ok());
    let (answer_headers, answer) = parted(lines);
    Exchange {
        title,
        method: method.into(),
        uri: uri.into(),
        headers,
        body,
        code: code.expect("a status code"),
        answer_headers,
        answer,
    }
}

/// Headers are `lower-case-name: value`, until the first line that is none.
fn parted<'a>(lines: impl Iterator<Item = &'a str>) -> (Vec<(String, String)>, String) {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    let mut headers = Vec::new();
    let mut body: Vec<&str> = Vec::new();
    for line in lines {
        match line.split_once(": ").filter(|(name, _)| is_name(name)) {
            Some((name, value)) if body.is_empty() => headers.push((name.into(), value.into())),
            _ => body.push(line),
        }
    }
    (headers, body.join("\n").trim().to_owned())
}

fn filled(text: &str, known: &Known) -> String {
    let mut text = text.to_owned();
    for (name, value) in known {
        text = text.replace(&format!("{{{{{name}}}}}"), value);
    }
    text
}

/// What is not as it should be, with its path.
fn differs(expected: &Value, found: &Value, path: &str, known: &mut Known) -> Option<String> {
    let wrong = || Some(format!("{path}: expected {expected}, found {found}"));
    match (expected, found) {
        (Value::String(text), _) if text == "*" => found.is_null().then(wrong).flatten(),
        (Value::String(text), Value::String(value)) => {
            let name = text
                .strip_prefix("{{")
                .and_then(|text| text.strip_suffix("}}"));
            match name {
                Some(name) => {
                    known.insert(name.into(), value.clone());
                    None
                }
                None => (text != value).then(wrong).flatten(),
            }
        }
        (Value::Object(fields), _) => fields.iter().find_map(|(name, field)| {
            differs(field, &found[name], &format!("{path}.{name}"), known)
        }),
        (Value::Array(items), Value::Array(there)) if items.len() == there.len() => (0..)
            .zip(items.iter().zip(there))
            .find_map(|(n, (item, found))| differs(item, found, &format!("{path}[{n}]"), known)),
        _ => (expected != found).then(wrong).flatten(),
    }
}

fn judge(exchange: &Exchange, answer: &Answer, known: &mut Known) -> Result<(), String> {
    if answer.code.as_u16() != exchange.code {
        return Err(format!("expected {}, found {}", exchange.code, answer.code));
    }
    for (name, value) in &exchange.answer_headers {
        let found = answer.headers.get_all(name).iter();
        let found: Vec<&str> = found.filter_map(|value| value.to_str().ok()).collect();
        let good = match value.as_str() {
            "*" => !found.is_empty(),
            value => found.contains(&value),
        };
        if !good {
            return Err(format!(
                "header {name}: expected {value:?}, found {found:?}"
            ));
        }
    }
    let expected = filled(&exchange.answer, known);
    if expected.is_empty() {
        return Ok(());
    }
    match serde_json::from_str::<Value>(&expected) {
        Ok(expected) => differs(&expected, &answer.body, "", known).map_or(Ok(()), Err),
        Err(_) if expected == answer.text.trim() => Ok(()),
        Err(_) => Err(format!("expected {expected:?}, found {:?}", answer.text)),
    }
}

async fn talk(file: &Path) -> (usize, Vec<String>) {
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(file).unwrap();
    let server = Server::start().await;
    let mut known = Known::new();
    let mut wrong = Vec::new();
    let all = exchanges(&text);
    for exchange in &all {
        let method: Method = exchange.method.parse().expect("a method");
        let mut request = server.request(method, &filled(&exchange.uri, &known));
        for (header, value) in &exchange.headers {
            request = request.header(header, value);
        }
        if !exchange.body.is_empty()
            && !exchange
                .headers
                .iter()
                .any(|(name, _)| name == "content-type")
        {
            request = request.header("content-type", "application/json");
        }
        let body = filled(&exchange.body, &known);
        let answer = server.read(request.body(Body::from(body)).unwrap()).await;
        if let Err(why) = judge(exchange, &answer, &mut known) {
            let Answer { code, text, .. } = &answer;
            wrong.push(format!(
                "{name}: {}: {why}\n  {code} {text}",
                exchange.title
            ));
        }
    }
    (all.len(), wrong)
}

#[tokio::test]
async fn every_answer_is_as_documented() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let (mut exchanges, mut wrong) = (0, Vec::new());
    for file in &files {
        let (count, found) = talk(file).await;
        assert!(count > 0, "{}: nothing in it", file.display());
        exchanges += count;
        wrong.extend(found);
    }
    assert!(
        wrong.is_empty(),
        "{} of {exchanges}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn what_is_missing_or_other_is_found() {
    let differs = |expected: &str, found: &str| {
        let [expected, found] = [expected, found].map(|text| serde_json::from_str(text).unwrap());
        differs(&expected, &found, "", &mut Known::new())
    };
    assert_eq!(
        differs(r#"{"a": {"b": 1}}"#, r#"{"a": {"b": 1, "c": 2}}"#),
        None
    );
    let wrong = Some(".a.b: expected 1, found 2".to_owned());
    assert_eq!(differs(r#"{"a": {"b": 1}}"#, r#"{"a": {"b": 2}}"#), wrong);
    assert!(differs("[1]", "[1, 2]").is_some());
    assert!(differs(r#"{"a": "*"}"#, "{}").is_some());
    assert!(differs(r#"{"a": null}"#, r#"{"a": 1}"#).is_some());
    assert_eq!(differs(r#"{"a": null}"#, "{}"), None);
}
