//! Serves the page to the person who started it, and to nobody else: on loopback, under a path that cannot be guessed,
//! with the name in the request checked (a foreign site may point its name here), and for actions its origin, too.

use super::state::look;
use super::{Action, Cluster};
use crate::report::page::{fill, hash};
use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::{JoinSet, spawn_blocking};

const PAGE: &str = include_str!("assets/page.html");
const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = include_str!("assets/page.js");
/// Of an action.
const BODY_BYTES_MAX: usize = 1024;
/// A browser opens six.
const CONNECTIONS_MAX: usize = 32;

/// Where the page is, for a browser.
pub fn url(address: SocketAddr, token: &str) -> String {
    format!("http://{address}/{token}/")
}

/// Serves until it is dropped.
pub async fn serve(
    listener: TcpListener,
    token: String,
    cluster: Arc<dyn Cluster>,
) -> io::Result<()> {
    let door = Arc::new(Door {
        authority: listener.local_addr()?.to_string(),
        token,
    });
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            continue;
        }
        let (door, cluster) = (door.clone(), cluster.clone());
        let answer = service_fn(move |request| {
            let (door, cluster) = (door.clone(), cluster.clone());
            async move { Ok::<_, Infallible>(answer(&door, cluster, request).await) }
        });
        connections.spawn(async move {
            let mut server = http1::Builder::new();
            let served = server.timer(TokioTimer::new());
            // A browser that goes away is no error.
            let _ended = served.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

struct Door {
    /// Address and port, as a browser names them.
    authority: String,
    token: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Page,
    State,
    Act,
}

impl Door {
    /// Where a request may go.
    fn way(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<Way, StatusCode> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if header(header::HOST) != Some(self.authority.as_str()) {
            return Err(StatusCode::FORBIDDEN);
        }
        let within = path
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(self.token.as_str()));
        match (method, within) {
            (&Method::GET, Some("/")) => Ok(Way::Page),
            (&Method::GET, Some("/state")) => Ok(Way::State),
            (&Method::POST, Some("/act")) => {
                let own = format!("http://{}", self.authority);
                let json = header(header::CONTENT_TYPE) == Some("application/json");
                match header(header::ORIGIN) == Some(own.as_str()) && json {
                    true => Ok(Way::Act),
                    false => Err(StatusCode::FORBIDDEN),
                }
            }
            (_, Some("/" | "/state" | "/act")) => Err(StatusCode::METHOD_NOT_ALLOWED),
            _ => Err(StatusCode::NOT_FOUND),
        }
    }
}

async fn answer(
    door: &Door,
    cluster: Arc<dyn Cluster>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let outcome = match door.way(&parts.method, parts.uri.path(), &parts.headers) {
        Ok(Way::Page) => Ok(("text/html; charset=utf-8", page())),
        Ok(Way::State) => state(cluster).await,
        Ok(Way::Act) => match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => act(cluster, body.to_bytes()).await,
            Err(_) => Err((StatusCode::PAYLOAD_TOO_LARGE, String::new())),
        },
        Err(status) => Err((status, String::new())),
    };
    let (status, kind, text) = match outcome {
        Ok((kind, text)) => (StatusCode::OK, kind, text),
        Err((status, text)) => (status, "text/plain; charset=utf-8", text),
    };
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::REFERRER_POLICY, "no-referrer")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::CONTENT_SECURITY_POLICY, policy())
        .header("cross-origin-resource-policy", "same-origin")
        .body(Full::new(Bytes::from(text)))
        .expect("constant headers are valid")
}

type Answer = Result<(&'static str, String), (StatusCode, String)>;

async fn state(cluster: Arc<dyn Cluster>) -> Answer {
    let state = spawn_blocking(move || serde_json::to_string(&look(cluster.as_ref()))).await;
    match state {
        Ok(Ok(json)) => Ok(("application/json", json)),
        _ => Err((StatusCode::INTERNAL_SERVER_ERROR, "no state".into())),
    }
}

async fn act(cluster: Arc<dyn Cluster>, body: Bytes) -> Answer {
    let action: Action = serde_json::from_slice(&body)
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    if !action.fits(cluster.members().len()) {
        return Err((StatusCode::BAD_REQUEST, "no such member or link".into()));
    }
    match spawn_blocking(move || cluster.act(action)).await {
        Ok(Ok(())) => Ok(("application/json", "{}".into())),
        Ok(Err(error)) => Err((StatusCode::CONFLICT, format!("{error:#}"))),
        Err(_) => Err((StatusCode::INTERNAL_SERVER_ERROR, "it has panicked".into())),
    }
}

fn page() -> String {
    fill(PAGE, &[("style", STYLE), ("script", SCRIPT)])
}

/// The page's own style and script, and requests to where it came from.
fn policy() -> String {
    format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(method: Method, path: &str, headers: &[(&str, &str)]) -> Result<Way, StatusCode> {
        let door = Door {
            authority: "127.0.0.1:99".into(),
            token: "secret".into(),
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            map.insert(name, value.parse().unwrap());
        }
        door.way(&method, path, &map)
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:99");
    const ORIGIN: (&str, &str) = ("origin", "http://127.0.0.1:99");
    const JSON: (&str, &str) = ("content-type", "application/json");

    #[test]
    fn only_who_knows_the_path_and_calls_it_by_its_address_gets_in() {
        assert_eq!(way(Method::GET, "/secret/", &[HOST]), Ok(Way::Page));
        assert_eq!(way(Method::GET, "/secret/state", &[HOST]), Ok(Way::State));
        for path in [
            "/",
            "/secret",
            "/secre/",
            "/secrets/",
            "/guess/state",
            "//secret/",
        ] {
            assert_eq!(
                way(Method::GET, path, &[HOST]),
                Err(StatusCode::NOT_FOUND),
                "{path}"
            );
        }
        let foreign = ("host", "evil.example:99");
        assert_eq!(
            way(Method::GET, "/secret/", &[foreign]),
            Err(StatusCode::FORBIDDEN)
        );
        assert_eq!(
            way(Method::GET, "/secret/", &[]),
            Err(StatusCode::FORBIDDEN)
        );
    }

    #[test]
    fn only_the_page_itself_acts() {
        let post = |headers: &[(&str, &str)]| way(Method::POST, "/secret/act", headers);
        assert_eq!(post(&[HOST, ORIGIN, JSON]), Ok(Way::Act));
        let foreign = ("origin", "http://evil.example");
        let form = ("content-type", "application/x-www-form-urlencoded");
        for headers in [
            [HOST, foreign, JSON],
            [HOST, HOST, JSON],
            [HOST, ORIGIN, form],
        ] {
            assert_eq!(post(&headers), Err(StatusCode::FORBIDDEN), "{headers:?}");
        }
        let got = way(Method::GET, "/secret/act", &[HOST, ORIGIN, JSON]);
        assert_eq!(got, Err(StatusCode::METHOD_NOT_ALLOWED));
    }

    #[test]
    fn an_action_names_members_that_are_there() {
        let read = |text| serde_json::from_str::<Action>(text).ok();
        assert_eq!(read(r#"{"cut":[0,2]}"#), Some(Action::Cut(0, 2)));
        assert_eq!(read(r#"{"kill":1}"#), Some(Action::Kill(1)));
        assert_eq!(read(r#"{"wipe":1}"#), None);
        assert!(Action::Cut(0, 2).fits(3) && Action::Start(2).fits(3));
        assert!(
            !Action::Cut(1, 1).fits(3) && !Action::Heal(0, 3).fits(3) && !Action::Kill(3).fits(3)
        );
    }
}
