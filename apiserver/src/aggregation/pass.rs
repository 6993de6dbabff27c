//! Passes a request on to the server of its group version.

use std::time::Duration;

use auth::User;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use hyper::upgrade::OnUpgrade;
use tokio::time::timeout;

use super::answer;
use super::state::Served;
use crate::context::Context;
use crate::outgoing::Backend;
use crate::proxy::{self, Arrival, headers};
use crate::request::RequestInfo;
use crate::status::{ApiError, ApiResult};

/// Every client asks for discovery first, and waits for the slowest server.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);
const REMOTE: &str = "x-remote-";
const EXTRA: &str = "x-remote-extra-";

/// An answer of this server in place of the other one's: plain text, as in Kubernetes.
fn plain(code: StatusCode, text: &str) -> Response {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, content_type);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

fn unavailable(text: &str) -> Response {
    plain(StatusCode::SERVICE_UNAVAILABLE, text)
}

pub(crate) async fn pass(
    context: &Context,
    arrival: Arrival<'_>,
    served: &Served,
) -> ApiResult<Response> {
    if is_ambiguous(&context.info) {
        let text = "a name in the path has an encoded slash";
        return Err(ApiError::bad_request(text));
    }
    if !served.remote.available {
        return Ok(unavailable("service unavailable"));
    }
    let backend = match &*served.backend {
        Ok(backend) => backend,
        Err(text) => return Ok(plain(StatusCode::INTERNAL_SERVER_ERROR, text)),
    };
    let is_upgrade = headers::is_upgrade(&context.headers);
    let client = arrival.extensions.remove::<OnUpgrade>();
    if is_upgrade && client.is_none() {
        let text = "this connection cannot be upgraded; use HTTP/1.1";
        return Err(ApiError::bad_request(text));
    }
    let request = request(context, arrival, backend, is_upgrade)?;
    let sent = backend.send(request);
    let answer = match context.info.is_resource {
        true => sent.await,
        false => {
            let late = |_| Err("context deadline exceeded".to_owned());
            timeout(DISCOVERY_TIMEOUT, sent).await.unwrap_or_else(late)
        }
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let text = format!("error trying to reach service: {error}");
            return Ok(unavailable(&text));
        }
    };
    let status = answer.status();
    match client.filter(|_| is_upgrade) {
        Some(client) if status == StatusCode::SWITCHING_PROTOCOLS => {
            return Ok(proxy::tunnel(context, client, answer));
        }
        Some(_) if !(status.is_client_error() || status.is_server_error()) => {
            let code = status.as_u16();
            return Ok(unavailable(&format!(
                "invalid upgrade response: status code {code}"
            )));
        }
        None if status == StatusCode::SWITCHING_PROTOCOLS => {
            return Ok(unavailable("the backend switched protocols unasked"));
        }
        _ => {}
    }
    // With this server's name behind it, a redirect would send clients and their credentials anywhere.
    if status.is_redirection() && answer.headers().contains_key(header::LOCATION) {
        let text = "the backend attempted to redirect this request, which is not permitted";
        return Ok(plain(StatusCode::BAD_GATEWAY, text));
    }
    let (mut parts, body) = answer.into_parts();
    headers::of_answer(&mut parts.headers, false);
    let body = Body::new(body);
    let body = match context.info.is_long_running() {
        true => body,
        false => answer::in_time(body, context.deadline),
    };
    Ok(Response::from_parts(parts, body))
}

/// Whether the other server may read another request than the one that was allowed: `things/a%2Fstatus` is one name here, and
/// for servers that decode the path first, as Go's do, a name and its subresource.
fn is_ambiguous(info: &RequestInfo) -> bool {
    let read = [
        &info.namespace,
        &info.resource,
        &info.name,
        &info.subresource,
    ];
    read.into_iter().any(|part| part.contains('/'))
}

fn request(
    context: &Context,
    arrival: Arrival<'_>,
    backend: &Backend,
    upgrade: bool,
) -> ApiResult<Request<Body>> {
    let asked = proxy::asked_host(&context.headers, arrival.uri);
    let way = headers::Way {
        peer: proxy::peer(arrival.extensions),
        host: asked,
        path: arrival.uri.path(),
        upgrade,
    };
    let mut headers = headers::of_request(&context.headers, &way);
    identify(&mut headers, &context.user).map_err(ApiError::internal)?;
    headers.remove(header::HOST);
    let target = arrival
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let uri: Uri = backend.url(target).parse().map_err(ApiError::internal)?;
    let mut request = Request::new(arrival.body.take());
    *request.method_mut() = arrival.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Says who asks, in place of whatever the client says of that.
pub(super) fn identify(headers: &mut HeaderMap, user: &User) -> Result<(), http::Error> {
    let forged: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(REMOTE))
        .cloned()
        .collect();
    for name in forged {
        headers.remove(name);
    }
    let mut add = |name: &str, value: &str| -> Result<(), http::Error> {
        let name: HeaderName = name.parse()?;
        headers.append(name, HeaderValue::from_bytes(value.as_bytes())?);
        Ok(())
    };
    add("x-remote-user", &user.name)?;
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid)?;
    }
    for group in &user.groups {
        add("x-remote-group", group)?;
    }
    for (key, values) in &user.extra {
        let name = format!("{EXTRA}{}", escaped(key));
        for value in values {
            add(&name, value)?;
        }
    }
    Ok(())
}

/// A key as part of a header's name: what cannot stand there is written as `%xx`.
fn escaped(key: &str) -> String {
    let mut name = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => name.push(byte as char),
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`'
            | b'|' | b'~' => {
                name.push(byte as char);
            }
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Query;
    use http::Method;

    #[test]
    fn a_path_means_the_same_to_both_servers() {
        let root = "/apis/w.io/v1";
        for (path, ambiguous) in [
            ("/namespaces/n/things/a/status", false),
            ("/namespaces/n/things/a%20b", false),
            // What follows the subresource is nobody's right.
            ("/namespaces/n/things/a/proxy/x%2Fy", false),
            ("/namespaces/n/things/a%2Fstatus", true),
            ("/namespaces/n%2Fthings/a", true),
            ("/namespaces/n/things%2fa", true),
            ("/namespaces/n/things/a/proxy%2Fx", true),
        ] {
            let path = format!("{root}{path}");
            let info = RequestInfo::parse(&Method::GET, &path, &Query::default());
            assert_eq!(is_ambiguous(&info), ambiguous, "{path}");
        }
    }

    #[test]
    fn who_asks_is_not_what_the_client_says() {
        let mut headers = HeaderMap::new();
        for name in [
            "x-remote-user",
            "x-remote-group",
            "x-remote-extra-a",
            "x-remote-uid",
            "x-remote-other",
        ] {
            headers.insert(name, HeaderValue::from_static("forged"));
        }
        headers.insert("x-own", HeaderValue::from_static("1"));
        let mut user = User::new("jane", ["dev", "ops"]);
        user.extra.insert(
            "example.com/Scope x%".to_owned(),
            vec!["a".to_owned(), "b".to_owned()],
        );
        identify(&mut headers, &user).unwrap();
        let seen: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        let extra = "x-remote-extra-example.com%2fscope%20x%25";
        let mut wanted = vec![
            ("x-own", "1"),
            ("x-remote-user", "jane"),
            ("x-remote-group", "dev"),
            ("x-remote-group", "ops"),
            (extra, "a"),
            (extra, "b"),
        ];
        let mut seen = seen;
        seen.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(seen, wanted);
        let broken = User::new("a\nx-remote-group: system:masters", Vec::<String>::new());
        assert!(identify(&mut HeaderMap::new(), &broken).is_err());
    }
}
