//! Clients of the Kubernetes API of each member, with curl's means: HTTPS, JSON, the administrator's certificate. They
//! create, update, read, list and delete ConfigMaps.

use super::members::Member;
use super::objects::{Fate, Listed, Objects};
use super::shared::Shared;
use super::space::Space;
use crate::recording::{RestCall, RestFate};
use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_rustls::TlsConnector;

/// Of the API, in each member's namespace.
const PORT: u16 = 6443;
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Names that begin so are the clients'.
const NAME: &str = "chaos-";
const ANSWER: Duration = Duration::from_secs(4);
const THINK_MS: u64 = 400;
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What clients of the API share.
pub struct Api {
    tls: TlsConnector,
    objects: Mutex<Objects>,
}

/// What became of a request.
enum Said {
    /// Status and body.
    Answer(u16, Value),
    NeverSent(String),
    Lost(String),
}

impl Api {
    pub fn new(bundle: &Path) -> Result<Api> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(bundle.join("ca.crt"))?)?;
        let chain = CertificateDer::pem_file_iter(bundle.join("admin.crt"))?
            .collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(bundle.join("admin.key"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(Api {
            tls: TlsConnector::from(Arc::new(config)),
            objects: Mutex::default(),
        })
    }

    /// What is wrong, given what each member lists at the end.
    pub fn violations(&self, lists: &[Listed]) -> Vec<crate::recording::Violation> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.violations(lists)
    }

    /// How many objects were written.
    pub fn count(&self) -> usize {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.objects.len()
    }

    fn note(&self, note: impl FnOnce(&mut Objects)) {
        note(&mut self.objects.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Over a connection of its own.
    async fn send(
        &self,
        space: &Arc<Space>,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Said {
        let connect = async {
            let stream = space.dial(PORT).await?;
            let name = ServerName::try_from("127.0.0.1")?;
            let stream = self.tls.connect(name, stream).await?;
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            // Ends with the sender, or with an error that the request sees.
            tokio::spawn(connection);
            anyhow::Ok(sender)
        };
        let mut sender = match tokio::time::timeout(ANSWER, connect).await {
            Ok(Ok(sender)) => sender,
            Ok(Err(error)) => return Said::NeverSent(format!("{error:#}")),
            Err(_) => return Said::NeverSent("no connection in time".into()),
        };
        let bytes = body.map(|body| body.to_string()).unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1")
            .header("content-type", "application/json")
            .body(Full::new(bytes::Bytes::from(bytes)));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Said::NeverSent(error.to_string()),
        };
        let ask = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await?.to_bytes();
            anyhow::Ok((status, serde_json::from_slice(&body)?))
        };
        match tokio::time::timeout(ANSWER, ask).await {
            Ok(Ok((status, body))) => Said::Answer(status, body),
            Ok(Err(error)) => Said::Lost(format!("{error:#}")),
            Err(_) => Said::Lost("no answer in time".into()),
        }
    }

    /// Sends, and has it recorded.
    async fn ask(
        &self,
        shared: &Shared,
        client: u32,
        member: &Member,
        (method, path): (&str, &str),
        body: Option<Value>,
    ) -> Said {
        let called = shared.recorder.now();
        let words = match &body {
            Some(body) => format!("{method} {path} {body}"),
            None => format!("{method} {path}"),
        };
        let said = self.send(&member.space, method, path, body).await;
        let (fate, answer) = in_words(&said);
        let returned = (!matches!(said, Said::Lost(_))).then(|| shared.recorder.now());
        let call = RestCall {
            client,
            member: member.id(),
            called,
            returned,
            verb: method.to_lowercase(),
            request: words,
            fate,
            answer,
        };
        shared
            .recorder
            .change(|recording| recording.rest.push(call));
        said
    }

    /// All objects of the clients, in the newest state, as a member shows it.
    pub async fn list(&self, member: &Member) -> Result<Listed> {
        listed(
            member,
            self.send(&member.space, "GET", CONFIG_MAPS, None).await,
        )
    }
}

fn listed(member: &Member, said: Said) -> Result<Listed> {
    match said {
        Said::Answer(200, body) => {
            let items = body["items"].as_array().context("no items")?;
            let names = items
                .iter()
                .filter_map(|item| item["metadata"]["name"].as_str());
            Ok(Listed {
                member: member.name.clone(),
                version: version(&body).context("no version")?,
                names: names
                    .filter(|name| name.starts_with(NAME))
                    .map(String::from)
                    .collect(),
            })
        }
        Said::Answer(status, body) => bail!("{status}: {}", body["message"]),
        Said::NeverSent(why) | Said::Lost(why) => bail!(why),
    }
}

/// As the report shows it. Where it only reads, nothing comes of it in any case.
fn in_words(said: &Said) -> (RestFate, String) {
    let (status, body) = match said {
        Said::Answer(status, body) => (status, body),
        Said::NeverSent(why) => return (RestFate::Refused, why.clone()),
        Said::Lost(why) => return (RestFate::Unknown, why.clone()),
    };
    let version = version(body).unwrap_or(0);
    let what = match (&body["items"], body["message"].as_str()) {
        (Value::Array(items), _) => format!("{} objects", items.len()),
        (_, Some(message)) => message.to_string(),
        _ => body["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_string(),
    };
    let fate = match status {
        200..=299 => RestFate::Done(version),
        500.. => RestFate::Unknown,
        _ => RestFate::Refused,
    };
    (fate, format!("{status} {what}"))
}

fn version(body: &Value) -> Option<i64> {
    body["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

/// What became of a write. A client error means that nothing came of it, but for a conflict, or a name that is gone: an
/// earlier attempt of the server's own may have done that.
fn fate(said: &Said) -> Fate {
    match said {
        Said::Answer(200..=299, body) => version(body).map_or(Fate::Unknown, Fate::Done),
        Said::Answer(400 | 401 | 403 | 413 | 422 | 429, _) | Said::NeverSent(_) => Fate::Refused,
        Said::Answer(..) | Said::Lost(_) => Fate::Unknown,
    }
}

/// Works until told to stop, each time through another member.
pub async fn work_on(shared: Arc<Shared>, api: Arc<Api>, client: u32, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x4e57 ^ u64::from(client) << 16);
    let mut standing: Vec<(String, i64)> = Vec::new();
    let mut known = 0;
    let mut counter = 0;
    while !shared.clients_stop.load(Ordering::SeqCst) {
        let member = &shared.members[rng.random_range(0..shared.members.len())];
        let ask = |what, body| api.ask(&shared, client, member, what, body);
        let chosen = standing
            .len()
            .checked_sub(1)
            .map(|last| rng.random_range(0..=last));
        match (rng.random_range(0..10), chosen) {
            (0..4, _) | (_, None) => {
                counter += 1;
                let name = format!("{NAME}{client}-{counter}");
                let body = Some(object(&name, 0, 0));
                let said = ask(("POST", CONFIG_MAPS), body).await;
                let fate = fate(&said);
                api.note(|objects| objects.created(&name, fate));
                if let Fate::Done(version) = fate {
                    known = version.max(known);
                    standing.push((name, version));
                }
            }
            (4..6, Some(index)) => {
                counter += 1;
                let (name, at) = standing[index].clone();
                let path = format!("{CONFIG_MAPS}/{name}");
                let body = object(&name, at, counter);
                match fate(&ask(("PUT", &path), Some(body)).await) {
                    Fate::Done(version) => {
                        known = version.max(known);
                        standing[index].1 = version;
                        api.note(|objects| objects.updated(&name, version));
                    }
                    Fate::Refused => {}
                    // Whatever its version is now, it is not known; it stays as it is.
                    Fate::Unknown => {
                        standing.swap_remove(index);
                    }
                }
            }
            (6 | 7, Some(index)) => {
                let (name, _) = standing.swap_remove(index);
                let path = format!("{CONFIG_MAPS}/{name}");
                let said = ask(("DELETE", &path), None).await;
                // The answer may be a Status, without a version.
                let fate = match (&said, fate(&said)) {
                    (Said::Answer(200..=299, _), _) => Fate::Done(0),
                    (_, fate) => fate,
                };
                api.note(|objects| objects.deleted(&name, fate));
            }
            _ => {
                let said = ask(("GET", CONFIG_MAPS), None).await;
                if let Ok(list) = listed(member, said) {
                    api.note(|objects| objects.stepped(client, &member.name, known, list.version));
                    known = list.version.max(known);
                } else {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
        let pause = rng.random_range(0..THINK_MS);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

fn object(name: &str, version: i64, number: u32) -> Value {
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"number": number.to_string()},
    });
    if version > 0 {
        object["metadata"]["resourceVersion"] = version.to_string().into();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_refusal_had_no_effect() {
        let answer = |status, body| fate(&Said::Answer(status, body));
        let done = json!({"metadata": {"resourceVersion": "7"}});
        assert_eq!(answer(201, done), Fate::Done(7));
        assert_eq!(answer(422, json!({})), Fate::Refused);
        assert_eq!(answer(409, json!({})), Fate::Unknown);
        assert_eq!(answer(404, json!({})), Fate::Unknown);
        assert_eq!(answer(503, json!({})), Fate::Unknown);
        assert_eq!(answer(504, json!({})), Fate::Unknown);
        assert_eq!(fate(&Said::Lost("x".into())), Fate::Unknown);
        assert_eq!(fate(&Said::NeverSent("x".into())), Fate::Refused);
    }

    #[test]
    fn the_report_says_what_came_of_a_call() {
        let list = json!({"items": [{}, {}], "metadata": {"resourceVersion": "7"}});
        let said = in_words(&Said::Answer(200, list));
        assert_eq!(said, (RestFate::Done(7), "200 2 objects".into()));
        let said = in_words(&Said::Answer(409, json!({"message": "again"})));
        assert_eq!(said, (RestFate::Refused, "409 again".into()));
        assert_eq!(in_words(&Said::Lost("x".into())).0, RestFate::Unknown);
    }

    #[test]
    fn an_update_names_the_version_that_it_replaces() {
        assert!(object("a", 0, 1)["metadata"]["resourceVersion"].is_null());
        assert_eq!(object("a", 4, 1)["metadata"]["resourceVersion"], "4");
    }
}
