//! What a request asks for, from its method and path alone. Pure: the whole routing table of the server is
//! [`RequestInfo::parse`], since resources are found by name in `resources::ALL` and not by routes.

use std::borrow::Cow;

use http::Method;
use schema::selector::FieldSelector;

/// Segments that nearly every path has at most: so much room is made for them at once.
const SEGMENTS: usize = 8;

/// A request taken apart as Kubernetes' authorizer sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// Percent-decoded path.
    pub(crate) path: String,
    /// get, list, watch, create, update, patch, delete, deletecollection; lower-case method for other paths.
    pub(crate) verb: &'static str,
    pub(crate) is_resource: bool,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) name: String,
    /// What follows the subresource (the target path of a proxy request).
    pub(crate) rest: String,
    /// Segments of the path before that.
    pub(crate) segments: usize,
    /// Whether the path itself says `watch`.
    pub(crate) by_prefix: bool,
}

impl RequestInfo {
    /// `path` is still percent-encoded, `query` is the parsed query.
    pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> RequestInfo {
        let mut info = RequestInfo {
            path: percent_decode(path, false),
            verb: method_verb(method),
            ..RequestInfo::default()
        };
        let mut segments: Vec<Cow<'_, str>> = Vec::with_capacity(SEGMENTS);
        segments.extend(
            path.split('/')
                .filter(|s| !s.is_empty())
                .map(|s| decoded(s, false)),
        );
        let segments: Vec<&str> = segments.iter().map(|s| &**s).collect();
        let mut parts = match segments.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = (*version).to_owned();
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.group = (*group).to_owned();
                info.version = (*version).to_owned();
                rest
            }
            _ => return info,
        };
        info.is_resource = true;
        let mut verb = resource_verb(method);
        if parts[0] == "watch" && parts.len() > 1 {
            // The deprecated prefix form, still used by hand and by old clients.
            verb = "watch";
            info.by_prefix = true;
            parts = &parts[1..];
        }
        if parts[0] == "namespaces" && parts.len() > 1 {
            info.namespace = parts[1].to_owned();
            // `namespaces/x`, `namespaces/x/status` and `namespaces/x/finalize` are about the namespace itself.
            if parts.len() > 2 && !matches!(parts[2], "status" | "finalize") {
                parts = &parts[2..];
            }
        }
        info.resource = parts[0].to_owned();
        info.name = parts.get(1).copied().unwrap_or_default().to_owned();
        info.subresource = parts.get(2).copied().unwrap_or_default().to_owned();
        info.rest = parts.get(3..).unwrap_or_default().join("/");
        info.segments = segments.len() - parts.len().saturating_sub(3);
        if info.name.is_empty() {
            verb = match verb {
                "get" => "list",
                "delete" => "deletecollection",
                other => other,
            };
        }
        // With a name in the path `watch` means nothing, as in Kubernetes: what is authorized is that one object.
        if verb == "list" && query.flag("watch") {
            verb = "watch";
        }
        // A list or watch that a field selector narrows to one name counts as access to that name.
        if info.name.is_empty()
            && matches!(verb, "list" | "watch" | "deletecollection")
            && let Some(name) = query.get("fieldSelector").and_then(single_name)
        {
            info.name = name;
        }
        info.verb = verb;
        info
    }

    /// Whether the name came from the path, not from a field selector.
    pub(crate) fn is_collection(&self) -> bool {
        matches!(self.verb, "list" | "watch" | "deletecollection")
    }

    /// Whether the selectors of its query count for who may do it: not of one object, and not in the old form of a watch,
    /// as in Kubernetes.
    pub(crate) fn has_selectors(&self) -> bool {
        self.is_collection() && !self.by_prefix
    }

    /// Whether a backend answers, in whatever form and by whatever method it likes.
    pub(crate) fn is_proxied(&self) -> bool {
        self.is_resource && self.subresource == "proxy"
    }

    /// Requests that live as long as their client: no deadline, no in-flight slot.
    pub(crate) fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || matches!(
                self.subresource.as_str(),
                "log" | "exec" | "attach" | "portforward" | "proxy"
            )
    }
}

fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "unknown",
    }
}

fn resource_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The one name that a field selector leaves, read by the same parser that evaluates it: two readings of one text
/// would authorize one thing and serve another.
fn single_name(selector: &str) -> Option<String> {
    let selector = FieldSelector::parse(selector).ok()?;
    let name = selector.required_value("metadata.name")?;
    (!name.is_empty() && !name.contains(['/', '%', '\\'])).then(|| name.to_owned())
}

/// The query string as ordered pairs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(raw: Option<&str>) -> Query {
        Query(
            raw.unwrap_or_default()
                .split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (percent_decode(key, true), percent_decode(value, true))
                })
                .collect(),
        )
    }

    /// A query of these pairs, which are not encoded.
    pub(crate) fn of(pairs: Vec<(String, String)>) -> Query {
        Query(pairs)
    }

    /// The same with this value, which is not encoded, and no other under its name.
    pub(crate) fn with(&self, name: &str, value: &str) -> Query {
        let others = self.0.iter().filter(|(key, _)| key != name).cloned();
        let new = (name.to_owned(), value.to_owned());
        Query(others.chain([new]).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Kubernetes' reading of booleans: present and neither `false` nor `0`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| !value.eq_ignore_ascii_case("false") && value != "0")
    }
}

/// Decodes `%XX` (and `+` where `form` is set). What is not valid stays as it is; what is not UTF-8 is replaced.
pub(crate) fn percent_decode(text: &str, form: bool) -> String {
    decoded(text, form).into_owned()
}

/// The same, for who only reads it.
fn decoded(text: &str, form: bool) -> Cow<'_, str> {
    if !(text.contains('%') || form && text.contains('+')) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| bytes.get(i).and_then(|b| (*b as char).to_digit(16));
        match bytes[at] {
            b'%' => match (hex(at + 1), hex(at + 2)) {
                (Some(high), Some(low)) => {
                    out.push((high * 16 + low) as u8);
                    at += 3;
                }
                _ => {
                    out.push(b'%');
                    at += 1;
                }
            },
            b'+' if form => {
                out.push(b' ');
                at += 1;
            }
            byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
    let text = String::from_utf8(out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    Cow::Owned(text)
}

/// Encodes one query value or path segment.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte as char)
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, uri: &str) -> RequestInfo {
        let (path, query) = uri
            .split_once('?')
            .map_or((uri, None), |(p, q)| (p, Some(q)));
        RequestInfo::parse(&method, path, &Query::parse(query))
    }

    fn shape(method: Method, uri: &str) -> String {
        let i = parse(method, uri);
        [
            i.verb,
            &i.group,
            &i.version,
            &i.namespace,
            &i.resource,
            &i.name,
            &i.subresource,
        ]
        .join("|")
    }

    #[test]
    fn paths_become_verbs_and_names() {
        for (method, uri, expected) in [
            (Method::GET, "/api/v1/pods", "list||v1||pods||"),
            (Method::GET, "/api/v1/pods?watch=1", "watch||v1||pods||"),
            (Method::GET, "/api/v1/pods?watch=false", "list||v1||pods||"),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods/b",
                "get||v1|a|pods|b|",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a",
                "get||v1|a|namespaces|a|",
            ),
            (
                Method::PUT,
                "/api/v1/namespaces/a/finalize",
                "update||v1|a|namespaces|a|finalize",
            ),
            (Method::GET, "/api/v1/namespaces", "list||v1||namespaces||"),
            (
                Method::POST,
                "/apis/apps/v1/namespaces/a/deployments",
                "create|apps|v1|a|deployments||",
            ),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection|apps|v1|a|deployments||",
            ),
            (
                Method::PATCH,
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                "patch|apps|v1|a|deployments|d|scale",
            ),
            (
                Method::GET,
                "/api/v1/watch/namespaces/a/pods",
                "watch||v1|a|pods||",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Db&watch=true",
                "watch||v1|a|pods|b|",
            ),
            (Method::GET, "/healthz", "get||||||"),
            (Method::GET, "/api/v1", "get||||||"),
            (Method::GET, "//api//v1//pods", "list||v1||pods||"),
            (
                Method::GET,
                "/api/v1/n%61mespaces/%61%2Fb/pods/c+d%",
                "get||v1|a/b|pods|c+d%|",
            ),
        ] {
            assert_eq!(shape(method, uri), expected, "{uri}");
        }
    }

    #[test]
    fn what_is_authorized_is_what_is_served() {
        let named = parse(Method::GET, "/api/v1/namespaces/n/secrets/x?watch=1");
        assert_eq!((named.verb, named.name.as_str()), ("get", "x"));
        let by_selector = "/api/v1/namespaces/n/secrets?watch=1&fieldSelector=metadata.name%3Dx";
        let named = parse(Method::GET, by_selector);
        assert_eq!((named.verb, named.name.as_str()), ("watch", "x"));
        // One term, whose value has a comma in it; not a second term that names an object.
        let escaped = "/api/v1/namespaces/n/secrets?fieldSelector=metadata.namespace!%3Da%5C,metadata.name%3Dx";
        let all = parse(Method::GET, escaped);
        assert_eq!((all.verb, all.name.as_str()), ("list", ""));
    }

    #[test]
    fn selectors_count_for_collections_alone() {
        for (method, uri, counts) in [
            (Method::GET, "/api/v1/pods", true),
            (Method::GET, "/api/v1/pods?watch=1", true),
            (Method::DELETE, "/api/v1/namespaces/n/pods", true),
            (Method::GET, "/api/v1/watch/pods", false),
            (Method::GET, "/api/v1/namespaces/n/pods/p", false),
            (Method::POST, "/api/v1/namespaces/n/pods", false),
        ] {
            assert_eq!(parse(method, uri).has_selectors(), counts, "{uri}");
        }
    }

    #[test]
    fn decoding_survives_bad_escapes() {
        assert_eq!(percent_decode("a%2Fb%", false), "a/b%");
        assert_eq!(percent_decode("%zz+%ff", true), "%zz \u{fffd}");
        assert_eq!(percent_decode(&percent_encode("ü/ a"), false), "ü/ a");
    }
}
