//! `resourceVersion`, `resourceVersionMatch`, `limit` and `continue`: what a read demands, checked as Kubernetes does.

use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::{DecodeError, Engine};
use kv::mutants::{Bug, planted};
use schema::field::{FieldError, Path};
use serde_json::{Value, json};

use crate::request::Query;
use crate::status::{ApiError, ApiResult};

/// Which state a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadAt {
    /// Also what `resourceVersion=0` gets, which in Kubernetes may be any past: a client that goes from one member to
    /// another never goes back in time here.
    MostRecent,
    NotOlderThan(i64),
    Exact(i64),
}

/// The paging and version options of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListOptions {
    pub(crate) at: ReadAt,
    /// 0 is no limit.
    pub(crate) limit: usize,
    /// Key (relative to the collection's prefix) to go on from.
    pub(crate) start: Option<String>,
    /// `at` stems from a continue token.
    pub(crate) continued: bool,
}

/// None where the version is absent or empty. 422 where it is not a number, in the words of Kubernetes' storage: what it
/// names is the field alone. (Kubernetes' code there is 500, which its own issues call a bug.)
pub(crate) fn parse_version(text: Option<&str>) -> ApiResult<Option<i64>> {
    let text = text.unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    match parse_uint(text) {
        Ok(number) => Ok(Some(i64::try_from(number).unwrap_or(i64::MAX))),
        Err(detail) => {
            let error = FieldError::invalid(&Path::new("resourceVersion"), text, detail);
            Err(ApiError::invalid_text(error.to_string()))
        }
    }
}

/// A number as Go's `strconv.ParseUint` reads it, or what that says of the text.
pub(crate) fn parse_uint(text: &str) -> Result<u64, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let why = match (is_number, text.parse()) {
        (true, Ok(number)) => return Ok(number),
        (true, Err(_)) => "value out of range",
        (false, _) => "invalid syntax",
    };
    Err(format!("strconv.ParseUint: parsing {text:?}: {why}"))
}

/// Refuses options of which something is wrong: all of it is told at once.
fn refuse_any(errors: &[FieldError]) -> ApiResult<()> {
    match errors {
        [] => Ok(()),
        errors => Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", errors)),
    }
}

fn forbidden(field: &str, text: &str) -> FieldError {
    FieldError::forbidden(&Path::new(field), text)
}

/// The value of an option; an empty one says nothing.
fn filled<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    query.get(name).filter(|text| !text.is_empty())
}

/// What is wrong with the match rule of a read, by Kubernetes' rules for lists.
fn match_errors(query: &Query) -> Vec<FieldError> {
    let field = "resourceVersionMatch";
    let Some(wanted) = filled(query, field) else {
        return Vec::new();
    };
    let version = filled(query, "resourceVersion");
    let mut errors = Vec::new();
    if version.is_none() {
        let text = "resourceVersionMatch is forbidden unless resourceVersion is provided";
        errors.push(forbidden(field, text));
    }
    if filled(query, "continue").is_some() {
        let text = "resourceVersionMatch is forbidden when continue is provided";
        errors.push(forbidden(field, text));
    }
    if !matches!(wanted, "Exact" | "NotOlderThan") {
        let known = &["Exact", "NotOlderThan", ""];
        errors.push(FieldError::not_supported(&Path::new(field), wanted, known));
    }
    if (wanted, version) == ("Exact", Some("0")) {
        let text = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
        errors.push(forbidden(field, text));
    }
    errors
}

/// What is wrong with the match rule and the initial events of a watch.
fn watch_errors(query: &Query) -> Vec<FieldError> {
    let field = "resourceVersionMatch";
    let wanted = filled(query, field);
    let asks_initial = filled(query, "sendInitialEvents").is_some();
    let mut errors = Vec::new();
    if asks_initial && wanted != Some("NotOlderThan") {
        let text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(forbidden(field, text));
    }
    let Some(wanted) = wanted else { return errors };
    if !asks_initial {
        let text =
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        errors.push(forbidden(field, text));
    }
    if wanted != "NotOlderThan" {
        let known = &["NotOlderThan"];
        errors.push(FieldError::not_supported(&Path::new(field), wanted, known));
    }
    if filled(query, "continue").is_some() {
        let text = "resourceVersionMatch is forbidden when continue is provided";
        errors.push(forbidden(field, text));
    }
    errors
}

/// The version at which a single object is asked for as it was. Kubernetes looks at no other `resourceVersionMatch` there.
pub(crate) fn exact_version(query: &Query, version: Option<i64>) -> ApiResult<Option<i64>> {
    match query.get("resourceVersionMatch") {
        Some("Exact") => refuse_any(&match_errors(query)).map(|()| version),
        _ => Ok(None),
    }
}

impl ListOptions {
    pub(crate) fn from_query(query: &Query) -> ApiResult<ListOptions> {
        let limit = number(query, "limit")?.unwrap_or(0).max(0);
        // A list does not use it, but what is no number is refused before anybody looks at the rest.
        number(query, "timeoutSeconds")?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut errors = match_errors(query);
        if query.get("sendInitialEvents").is_some() {
            let text = "sendInitialEvents is forbidden for list";
            errors.push(forbidden("sendInitialEvents", text));
        }
        refuse_any(&errors)?;
        let version_text = query.get("resourceVersion").unwrap_or_default();
        if let Some(token) = filled(query, "continue") {
            let (version, start) = decode_token(token)?;
            if !version_text.is_empty() && version_text != "0" {
                return Err(ApiError::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let at = if version < 0 {
                ReadAt::MostRecent
            } else {
                ReadAt::Exact(version)
            };
            return Ok(ListOptions {
                at,
                limit,
                start: Some(start),
                continued: true,
            });
        }
        let version = parse_version(Some(version_text)).map_err(|error| {
            ApiError::bad_request(format!("invalid resource version: {}", error.message))
        })?;
        let wanted = filled(query, "resourceVersionMatch");
        let at = match (version, wanted) {
            (None, _) => ReadAt::MostRecent,
            (Some(0), _) if planted(Bug::VersionZeroIsStale) => ReadAt::NotOlderThan(0),
            (Some(0), _) => ReadAt::MostRecent,
            (Some(version), Some("Exact")) => ReadAt::Exact(version),
            // Without a match rule a limit has always meant this version exactly.
            (Some(version), None) if limit > 0 => ReadAt::Exact(version),
            (Some(version), _) => ReadAt::NotOlderThan(version),
        };
        Ok(ListOptions {
            at,
            limit,
            start: None,
            continued: false,
        })
    }
}

/// The version options of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchOptions {
    /// None and 0 start with the objects that are there.
    pub(crate) version: Option<i64>,
    pub(crate) bookmarks: bool,
    pub(crate) initial_events: bool,
    pub(crate) timeout_seconds: Option<u64>,
}

impl WatchOptions {
    pub(crate) fn from_query(query: &Query) -> ApiResult<WatchOptions> {
        let timeout_seconds =
            number(query, "timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
        refuse_any(&watch_errors(query))?;
        let version = parse_version(query.get("resourceVersion"))?;
        let asks_initial = filled(query, "sendInitialEvents").is_some();
        Ok(WatchOptions {
            version,
            bookmarks: query.flag("allowWatchBookmarks"),
            initial_events: asks_initial && query.flag("sendInitialEvents"),
            timeout_seconds: timeout_seconds.filter(|seconds| *seconds > 0),
        })
    }
}

/// A number in the query; 400 where it is none, as an empty text is.
pub(crate) fn number(query: &Query, name: &str) -> ApiResult<Option<i64>> {
    match query.get(name) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            let digits = text.trim_start_matches(['-', '+']);
            let kind = if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
                "value out of range"
            } else {
                "invalid syntax"
            };
            ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: {kind}"))
        }),
    }
}

/// The token of the page that begins at `start`; version -1 goes on without consistency.
pub(crate) fn encode_token(version: i64, start: &str) -> String {
    URL_SAFE_NO_PAD
        .encode(json!({ "v": "meta.k8s.io/v1", "rv": version, "start": start }).to_string())
}

/// In Go's words what is wrong with a text of base64 that has so many bytes.
fn illegal(error: &DecodeError, length: usize) -> String {
    let at = match error {
        DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => *at,
        DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => length,
    };
    format!("illegal base64 data at input byte {at}")
}

pub(crate) fn decode_token(token: &str) -> ApiResult<(i64, String)> {
    let refuse = |why: &str| {
        ApiError::bad_request(format!(
            "invalid continue token: continue key is not valid: {why}"
        ))
    };
    let bytes = URL_SAFE_NO_PAD
        .decode(token.trim_end_matches('='))
        .or_else(|error| STANDARD.decode(token).map_err(|_| error))
        .map_err(|error| refuse(&illegal(&error, token.len())))?;
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|error| refuse(&error.to_string()))?;
    if value["v"] != "meta.k8s.io/v1" {
        return Err(refuse(&format!(
            "server does not recognize this encoded version {}",
            value["v"].as_str().unwrap_or_default()
        )));
    }
    let version = value["rv"]
        .as_i64()
        .filter(|version| *version != 0 && *version >= -1);
    let version = version.ok_or_else(|| {
        refuse("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    })?;
    let start = value["start"].as_str().filter(|start| !start.is_empty());
    let start = start.ok_or_else(|| refuse("encoded start key empty (version meta.k8s.io/v1)"))?;
    if start.starts_with('/') || start.split('/').any(|segment| segment == "..") {
        return Err(refuse(start));
    }
    Ok((version, start.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(query: &str) -> Result<ListOptions, u16> {
        ListOptions::from_query(&Query::parse(Some(query))).map_err(|error| error.code)
    }

    #[test]
    fn the_version_table_of_kubernetes() {
        for (query, expected) in [
            ("", Ok(ReadAt::MostRecent)),
            ("resourceVersion=0", Ok(ReadAt::MostRecent)),
            ("resourceVersion=7", Ok(ReadAt::NotOlderThan(7))),
            ("resourceVersion=7&limit=2", Ok(ReadAt::Exact(7))),
            (
                "resourceVersion=7&resourceVersionMatch=Exact",
                Ok(ReadAt::Exact(7)),
            ),
            (
                "resourceVersion=0&resourceVersionMatch=NotOlderThan",
                Ok(ReadAt::MostRecent),
            ),
            (
                "resourceVersion=7&resourceVersionMatch=NotOlderThan&limit=5",
                Ok(ReadAt::NotOlderThan(7)),
            ),
            ("resourceVersion=0&resourceVersionMatch=Exact", Err(422)),
            ("resourceVersionMatch=Exact", Err(422)),
            ("resourceVersion=7&resourceVersionMatch=Maybe", Err(422)),
            ("resourceVersion=-1", Err(400)),
            ("resourceVersion=abc", Err(400)),
            ("resourceVersion=abc&limit=5", Err(400)),
            ("resourceVersion=18446744073709551616", Err(400)),
            ("limit=9223372036854775808", Err(400)),
            ("timeoutSeconds=abc", Err(400)),
            ("continue=nonsense", Err(400)),
            ("sendInitialEvents=true", Err(422)),
        ] {
            assert_eq!(list(query).map(|options| options.at), expected, "{query}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_kubernetes_words() {
        let told = |error: ApiError| (error.code, error.message);
        let refused = |query: &str| {
            let query = Query::parse(Some(query));
            told(ListOptions::from_query(&query).unwrap_err())
        };
        let watch = |query: &str| {
            let query = Query::parse(Some(query));
            told(WatchOptions::from_query(&query).unwrap_err())
        };
        let text = r#"resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax"#;
        for query in ["resourceVersion=abc", "resourceVersion=abc&limit=5"] {
            let of_list = format!("invalid resource version: {text}");
            assert_eq!(refused(query), (400, of_list), "{query}");
            assert_eq!(watch(query), (422, text.to_owned()), "{query}");
        }
        let invalid = |text: &str| {
            (
                422,
                format!("ListOptions.meta.k8s.io \"\" is invalid: {text}"),
            )
        };
        assert_eq!(
            refused("resourceVersion=0&resourceVersionMatch=Exact"),
            invalid(
                r#"resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0""#
            )
        );
        // All at once, and before the version is read.
        assert_eq!(
            refused("resourceVersion=abc&resourceVersionMatch=exact&sendInitialEvents=true"),
            invalid(
                r#"[resourceVersionMatch: Unsupported value: "exact": supported values: "Exact", "NotOlderThan", "", sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list]"#
            )
        );
        assert_eq!(
            watch("resourceVersionMatch=Exact"),
            invalid(
                r#"[resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided, resourceVersionMatch: Unsupported value: "Exact": supported values: "NotOlderThan"]"#
            )
        );
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        assert_eq!(parse_uint("18446744073709551615"), Ok(u64::MAX));
        for (text, why) in [
            ("18446744073709551616", "value out of range"),
            ("+5", "invalid syntax"),
            ("-1", "invalid syntax"),
            ("", "invalid syntax"),
        ] {
            let told = format!("strconv.ParseUint: parsing {text:?}: {why}");
            assert_eq!(parse_uint(text), Err(told));
        }
    }

    #[test]
    fn a_number_that_is_named_has_to_be_one() {
        let limit = |query: &str| {
            number(&Query::parse(Some(query)), "limit").map_err(|error| (error.code, error.message))
        };
        assert_eq!(limit("limits=5"), Ok(None));
        assert_eq!(limit("limit=-5"), Ok(Some(-5)));
        for (text, why) in [
            ("", "invalid syntax"),
            ("-", "invalid syntax"),
            ("five", "invalid syntax"),
            ("9223372036854775808", "value out of range"),
        ] {
            let told = format!("strconv.ParseInt: parsing {text:?}: {why}");
            assert_eq!(limit(&format!("limit={text}")), Err((400, told)), "{text}");
        }
    }

    #[test]
    fn tokens_round_trip_and_forgeries_do_not() {
        assert_eq!(
            decode_token(&encode_token(9, "a/b\0")).unwrap(),
            (9, "a/b\0".to_owned())
        );
        let query = format!("continue={}", encode_token(9, "a/b\0"));
        assert_eq!(list(&query).unwrap().at, ReadAt::Exact(9));
        assert_eq!(list(&format!("{query}&resourceVersion=4")).err(), Some(400));
        assert_eq!(
            list(&format!(
                "{query}&resourceVersionMatch=Exact&resourceVersion=4"
            ))
            .err(),
            Some(422)
        );
        for forged in [
            encode_token(0, "a"),
            encode_token(4, ""),
            encode_token(4, "../x"),
            encode_token(-7, "a"),
        ] {
            assert!(decode_token(&forged).is_err());
        }
        for (token, why) in [
            (
                "eyJ2IjoieCJ9",
                "server does not recognize this encoded version x",
            ),
            ("e30", "server does not recognize this encoded version "),
            ("ab!d", "illegal base64 data at input byte 2"),
        ] {
            assert_eq!(
                decode_token(token).unwrap_err().message,
                format!("invalid continue token: continue key is not valid: {why}")
            );
        }
    }

    #[test]
    fn initial_events_need_a_match_rule() {
        let watch = |query: &str| {
            WatchOptions::from_query(&Query::parse(Some(query))).map_err(|error| error.code)
        };
        assert!(
            watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan")
                .unwrap()
                .initial_events
        );
        assert_eq!(watch("sendInitialEvents=true").err(), Some(422));
        assert_eq!(
            watch("resourceVersion=1&resourceVersionMatch=NotOlderThan").err(),
            Some(422)
        );
        assert_eq!(
            watch("timeoutSeconds=99999999999999999999").err(),
            Some(400)
        );
    }
}
