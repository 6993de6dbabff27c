//! URLs, as Go's `url.ParseRequestURI` reads them.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use super::Function;
use crate::meter::{EvalError, Meter, Outcome};
use crate::value::{Key, Map, Text, Value};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    /// With the port.
    host: String,
    path: String,
    query: String,
}

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "url",
        signatures: &["(string) url"],
        native: parse_url,
    },
    Function {
        name: "isURL",
        signatures: &["(string) bool"],
        native: is_url,
    },
    Function {
        name: "getScheme",
        signatures: &["url.() string"],
        native: |_, args| part(args, |url| url.scheme.clone()),
    },
    Function {
        name: "getHost",
        signatures: &["url.() string"],
        native: |_, args| part(args, |url| url.host.clone()),
    },
    Function {
        name: "getHostname",
        signatures: &["url.() string"],
        native: |_, args| part(args, |url| split_host(&url.host).0.to_string()),
    },
    Function {
        name: "getPort",
        signatures: &["url.() string"],
        native: |_, args| part(args, |url| split_host(&url.host).1.to_string()),
    },
    Function {
        name: "getEscapedPath",
        signatures: &["url.() string"],
        native: |_, args| part(args, |url| url.path.clone()),
    },
    Function {
        name: "getQuery",
        signatures: &["url.() map<string, list<string>>"],
        native: get_query,
    },
];

fn split_host(host: &str) -> (&str, &str) {
    if let Some(rest) = host.strip_prefix('[') {
        let (name, port) = rest.split_once(']').unwrap_or((rest, ""));
        return (name, port.trim_start_matches(':'));
    }
    host.rsplit_once(':').unwrap_or((host, ""))
}

fn is_scheme(text: &str) -> bool {
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(letters)
}

fn is_host(host: &str) -> bool {
    let (name, port) = split_host(host);
    let bracketed = host.starts_with('[');
    let port_is_number = port.chars().all(|c| c.is_ascii_digit());
    let name_is_fine = if bracketed {
        name.split('%')
            .next()
            .is_some_and(|name| name.parse::<Ipv6Addr>().is_ok())
    } else {
        !name.contains(|c: char| c.is_ascii_control() || " \"<>[]\\^`{|}#:".contains(c))
    };
    port_is_number && name_is_fine
}

pub(crate) fn parse(text: &str) -> Option<Url> {
    if text.is_empty() || text.contains(|c: char| c.is_ascii_control()) {
        return None;
    }
    let (before, query) = text.split_once('?').unwrap_or((text, ""));
    let (scheme, rest) = match before.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
        _ => (String::new(), before),
    };
    if !rest.starts_with('/') {
        // Something like `mailto:x`, which has neither host nor path.
        let opaque = !scheme.is_empty();
        return opaque.then(|| Url {
            scheme,
            host: String::new(),
            path: String::new(),
            query: query.into(),
        });
    }
    let (host, path) = match rest.strip_prefix("//") {
        Some(rest) if !scheme.is_empty() => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        _ => ("", rest),
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let well_formed = is_host(host) && escapes_are_whole(path);
    // A fragment is no part of what it follows.
    let (path, query) = match path.split_once('#') {
        Some((path, _)) => (path, ""),
        None => (path, query.split('#').next().unwrap_or_default()),
    };
    well_formed.then(|| Url {
        scheme,
        host: host.into(),
        path: escape_path(path),
        query: query.into(),
    })
}

fn escapes_are_whole(path: &str) -> bool {
    let bytes = path.as_bytes();
    let mut escapes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    escapes.all(|(at, _)| {
        bytes
            .get(at + 1..at + 3)
            .is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    })
}

fn escape_path(path: &str) -> String {
    let mut made = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*".contains(&byte) {
            made.push(byte as char);
        } else {
            made.push_str(&format!("%{byte:02X}"));
        }
    }
    made
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut made = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => made.push(b' '),
            b'%' => {
                let high = (bytes.next()? as char).to_digit(16)?;
                let low = (bytes.next()? as char).to_digit(16)?;
                made.push((high * 16 + low) as u8);
            }
            other => made.push(other),
        }
    }
    String::from_utf8(made).ok()
}

fn text<'x>(meter: &mut Meter<'_>, args: &'x [Value<'_>]) -> Result<&'x str, EvalError> {
    let [Value::String(text)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.walk(text.len())?;
    Ok(text)
}

fn parse_url<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let text = text(meter, args)?;
    let url = parse(text).ok_or_else(|| {
        EvalError::new(format!(
            "URL parse error during conversion from string: parse {text:?}: invalid URI for request"
        ))
    })?;
    Ok(Value::Url(Arc::new(url)))
}

fn is_url<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Bool(parse(text(meter, args)?).is_some()))
}

fn part<'a>(args: &[Value<'a>], of: fn(&Url) -> String) -> Outcome<'a> {
    match args {
        [Value::Url(url)] => Ok(Value::text(of(url))),
        _ => Err(EvalError::no_overload()),
    }
}

fn get_query<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Url(url)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.walk(url.query.len())?;
    let mut made: BTreeMap<Key<'a>, Vec<Value<'a>>> = BTreeMap::new();
    for pair in url.query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(name), Some(value)) = (unescape(name), unescape(value)) {
            made.entry(Key::String(Text::Shared(name.into())))
                .or_default()
                .push(Value::text(value));
        }
    }
    let made = made
        .into_iter()
        .map(|(key, values)| (key, Value::list(values)));
    Ok(Value::Map(Map::Owned(Arc::new(made.collect()))))
}
