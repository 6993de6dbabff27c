//! What every answer has beside its own: the name of the request, warnings, and the form of errors.

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::context::Warnings;
use crate::negotiate::{self, Output};
use crate::request::Query;
use crate::status::ApiError;

/// Of this name nothing has to be checked with each request.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Of a request's headers what counts when it is over and has failed: whether its error may come packed, and whether its body
/// is on its way.
pub(super) struct Kept {
    accept_encoding: Option<HeaderValue>,
    expect: Option<HeaderValue>,
}

impl Kept {
    pub(super) fn of(headers: &HeaderMap) -> Kept {
        Kept {
            accept_encoding: headers.get(header::ACCEPT_ENCODING).cloned(),
            expect: headers.get(header::EXPECT).cloned(),
        }
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let kept = [
            (header::ACCEPT_ENCODING, &self.accept_encoding),
            (header::EXPECT, &self.expect),
        ];
        let kept = kept.into_iter();
        kept.filter_map(|(name, value)| Some((name, value.clone()?)))
            .collect()
    }
}

/// Whether the request only tries, for figures: what it says is not looked through yet. Said twice it is said once.
pub(super) fn dry_run_of(query: &Query) -> &'static str {
    let mut label = "";
    for value in query.all("dryRun") {
        match value {
            "All" => label = "All",
            _ => return "invalid",
        }
    }
    label
}

/// What the client calls the request, or a new name for it.
pub(super) fn audit_id(headers: &HeaderMap) -> String {
    headers
        .get(AUDIT_ID)
        .filter(|id| id.len() <= 64)
        .and_then(|id| id.to_str().ok())
        .filter(|id| !id.is_empty())
        .map_or_else(crate::chance::name, str::to_owned)
}

/// The name of the request for its answer. It is of no use to answers that follow, so HTTP/2 is not to keep it in the table
/// of a connection's headers: there it would take the place of those that stay the same, and be compared with every later one.
fn id_header(id: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(id).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The Status of an error, in the encoding that was asked for.
pub(super) fn respond_error(headers: &HeaderMap, output: &Output, error: &ApiError) -> Response {
    let mut response =
        negotiate::respond_value(headers, output, error.status_code(), &error.to_status());
    if let Some(seconds) = error.retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The header for a warning, in UTF-8.
fn warning(text: &str) -> Option<HeaderValue> {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace(char::is_control, " ");
    HeaderValue::from_bytes(format!("299 - \"{escaped}\"").as_bytes()).ok()
}

/// Adds what was said on the way, and the name of the request.
pub(super) fn add_headers(response: &mut Response, warnings: &Warnings, id: &str) {
    for text in warnings.take() {
        if let Some(value) = warning(&text) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    if let Some(id) = id_header(id) {
        response.headers_mut().insert(AUDIT_ID, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_written_as_it_would_be_with_all_headers() {
        let of = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            let pairs = pairs.iter().map(|&(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            });
            pairs.collect()
        };
        let gzip = ("accept-encoding", "gzip");
        let waits = ("expect", "100-continue");
        for headers in [
            of(&[]),
            of(&[gzip, ("accept", "application/json")]),
            of(&[waits, ("content-length", "7")]),
            of(&[gzip, waits]),
        ] {
            let kept = Kept::of(&headers).headers();
            let told = |headers: &HeaderMap| {
                let packed = negotiate::accepts_gzip(headers);
                (packed, headers.contains_key(header::EXPECT))
            };
            assert_eq!(told(&kept), told(&headers), "{headers:?}");
        }
    }

    #[test]
    fn the_name_of_a_request_is_kept_out_of_tables() {
        let value = id_header("one").unwrap();
        assert!(value == "one" && value.is_sensitive());
        assert!(id_header("a\nb").is_none());
    }

    #[test]
    fn figures_tell_tries_from_deeds_and_from_nonsense() {
        for (query, label) in [
            ("limit=5", ""),
            ("dryRun=All", "All"),
            ("dryRun=All&dryRun=All", "All"),
            ("dryRun=", "invalid"),
            ("dryRun=All&dryRun=Some", "invalid"),
        ] {
            assert_eq!(dry_run_of(&Query::parse(Some(query))), label, "{query}");
        }
    }
}
