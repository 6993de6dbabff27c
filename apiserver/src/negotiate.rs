//! What the client sent and what it wants back: content types in, Accept out, and the three forms of an answer
//! (the object, a Table, PartialObjectMetadata).

use std::borrow::Cow;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use resources::Resource;
use schema::Object;
use schema::protobuf::ProtobufError;
use serde_json::{Value, json};

use crate::decode;
use crate::status::{self, ApiError, ApiResult};

pub(crate) const JSON: &str = "application/json";
pub(crate) const YAML: &str = "application/yaml";
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// What bodies may be written in.
const READ: &[&str] = &[JSON, YAML, PROTOBUF];
/// What answers are written in.
const WRITTEN: &[&str] = &[JSON, YAML, PROTOBUF];
/// Headers of an answer: with room for them from the beginning, their table is not made anew on the way.
const HEADERS: usize = 8;
/// Answers above this are compressed for clients that accept gzip.
pub(crate) const GZIP_BYTES_MIN: usize = 128 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFormat {
    Json,
    Yaml,
    Protobuf,
}

/// The format of a request body.
pub(crate) fn body_format(headers: &HeaderMap) -> ApiResult<BodyFormat> {
    match media_type(headers).as_str() {
        // Not `text/plain`, which a page of another site may send with the browser's client certificate.
        "" | JSON => Ok(BodyFormat::Json),
        YAML | "application/x-yaml" | "text/yaml" => Ok(BodyFormat::Yaml),
        PROTOBUF => Ok(BodyFormat::Protobuf),
        _ => Err(ApiError::unsupported_media(READ)),
    }
}

/// The Content-Type without parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    Table {
        version: &'static str,
        include: Include,
    },
    Partial {
        version: &'static str,
        /// Whether a list was asked for; what is shown has to be one then, and must not be one else.
        of_list: bool,
    },
}

/// What an answer is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// How to write the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) encoding: Encoding,
    pub(crate) pretty: bool,
    pub(crate) form: Form,
}

impl Output {
    pub(crate) const PLAIN: Output = Output {
        encoding: Encoding::Json,
        pretty: false,
        form: Form::Object,
    };

    /// Whether cached bytes can be sent as they are.
    pub(crate) fn is_plain(&self) -> bool {
        *self == Output::PLAIN
    }

    /// Whether a list is sent object by object, as it is stored or transcoded from that.
    pub(crate) fn is_streamed(&self) -> bool {
        let is_table = matches!(self.form, Form::Table { .. });
        self.is_plain() || self.encoding == Encoding::Protobuf && !is_table
    }

    pub(crate) fn content_type(&self) -> &'static str {
        match self.encoding {
            Encoding::Json => JSON,
            Encoding::Yaml => YAML,
            Encoding::Protobuf => PROTOBUF,
        }
    }
}

/// What a resource can be shown as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// As a Table, and as mere metadata.
    pub(crate) other_forms: bool,
    /// Objects in protobuf, which custom resources do not have.
    pub(crate) protobuf: bool,
}

impl Offer {
    pub(crate) const EVERYTHING: Offer = Offer {
        other_forms: true,
        protobuf: true,
    };
}

/// The clauses of Accept, best first: by the quality that the client gives them, and wildcards after what is named.
fn clauses(accept: &str) -> Vec<&str> {
    let mut clauses: Vec<&str> = accept.split(',').collect();
    let quality = |clause: &str| {
        let mut parameters = clause.split(';').skip(1).map(str::trim);
        let said = parameters.find_map(|parameter| parameter.strip_prefix("q="));
        said.and_then(|said| said.parse().ok()).unwrap_or(1.0_f64)
    };
    let wildcards = |clause: &str| clause.matches('*').count();
    if clauses.len() > 1 {
        clauses.sort_by(|a, b| {
            let by_quality = quality(b).total_cmp(&quality(a));
            by_quality.then_with(|| wildcards(a).cmp(&wildcards(b)))
        });
    }
    clauses
}

/// What the rows of a Table hold besides their cells.
fn include(query: &crate::request::Query) -> ApiResult<Include> {
    match query.get("includeObject") {
        None | Some("" | "Metadata") => Ok(Include::Metadata),
        Some("None") => Ok(Include::None),
        Some("Object") => Ok(Include::Object),
        Some(other) => Err(ApiError::bad_request(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be 'Metadata', 'Object', 'None', or empty",
            status::quoted(other)
        ))),
    }
}

/// Picks the best clause of Accept that this server can answer.
pub(crate) fn output(
    headers: &HeaderMap,
    query: &crate::request::Query,
    offer: Offer,
) -> ApiResult<Output> {
    let pretty = match query.get("pretty") {
        Some(_) => query.flag("pretty"),
        None => headers
            .get(header::USER_AGENT)
            .and_then(|agent| agent.to_str().ok())
            .is_some_and(|agent| {
                ["curl", "Wget", "Mozilla/5.0"]
                    .iter()
                    .any(|tool| agent.starts_with(tool))
            }),
    };
    let mut said = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    // Nearly nobody says it in several headers.
    let first = said.next().unwrap_or_default();
    let accept: Cow<'_, str> = match said.next() {
        None => Cow::Borrowed(first),
        Some(second) => {
            let all: Vec<&str> = [first, second].into_iter().chain(said).collect();
            Cow::Owned(all.join(","))
        }
    };
    if accept.trim().is_empty() {
        return Ok(Output {
            pretty,
            ..Output::PLAIN
        });
    }
    for clause in clauses(&accept) {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameter = |name: &str| {
            let mut parameters = parts.clone().filter_map(|part| part.split_once('='));
            parameters
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value)
        };
        let is = |name: &str| media.eq_ignore_ascii_case(name);
        let encoding = if is(JSON) || is("*/*") || is("application/*") {
            Encoding::Json
        } else if is(YAML) {
            Encoding::Yaml
        } else if is(PROTOBUF) && (offer.protobuf || parameter("as").is_some()) {
            Encoding::Protobuf
        } else {
            continue;
        };
        let (kind, group, version) = (parameter("as"), parameter("g"), parameter("v"));
        // Another form is a kind of a group in a version, and all three have to be said.
        let version = match (group, version) {
            (None, None) if kind.is_none() => "",
            (Some("meta.k8s.io"), Some("v1")) => "meta.k8s.io/v1",
            (Some("meta.k8s.io"), Some("v1beta1")) => "meta.k8s.io/v1beta1",
            _ => continue,
        };
        let form = match kind {
            None if version.is_empty() => Form::Object,
            None => continue,
            Some(_) if !offer.other_forms => continue,
            Some("Table") => Form::Table {
                version,
                include: include(query)?,
            },
            Some(kind @ ("PartialObjectMetadata" | "PartialObjectMetadataList")) => {
                let of_list = kind.ends_with("List");
                Form::Partial { version, of_list }
            }
            Some(_) => continue,
        };
        return Ok(Output {
            encoding,
            pretty,
            form,
        });
    }
    Err(ApiError::not_acceptable(match offer.protobuf {
        true => WRITTEN,
        false => &[JSON, YAML],
    }))
}

/// Refuses metadata in the other number than what is shown has, in Kubernetes' words.
pub(crate) fn check_number(output: &Output, resource: &Resource, is_list: bool) -> ApiResult<()> {
    let Form::Partial { of_list, .. } = output.form else {
        return Ok(());
    };
    if of_list == is_list {
        return Ok(());
    }
    let kind = match is_list {
        true => &resource.list_kind,
        false => &resource.kind,
    };
    let shown = match (&resource.custom, is_list) {
        (Some(_), true) => "unstructured.UnstructuredList".to_owned(),
        (Some(_), false) => "unstructured.Unstructured".to_owned(),
        (None, _) => format!("{}.{kind}", decode::go_package(&resource.group)),
    };
    Err(ApiError::not_acceptable_text(match is_list {
        true => format!(
            "you requested PartialObjectMetadata, but the requested object is a list (*{shown})"
        ),
        false => format!(
            "you requested PartialObjectMetadataList, but the requested object is not a list (*{shown})"
        ),
    }))
}

/// Whether the client takes gzip.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value.split(',').any(|coding| {
                let mut parts = coding.split(';').map(str::trim);
                parts.next() == Some("gzip") && parts.next() != Some("q=0")
            })
        })
}

/// The object cut down to its metadata.
pub(crate) fn partial(object: &Object, version: &str) -> Value {
    let metadata = object.metadata().cloned().unwrap_or_default();
    json!({ "kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata })
}

/// A Table of objects. `metadata` is the list's, or has the version of the one object.
pub(crate) fn table(
    resource: &Resource,
    objects: &[Object],
    metadata: Value,
    (version, include): (&str, Include),
    with_columns: bool,
    now: i64,
) -> Value {
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut row = json!({ "cells": resources::table(resource, object, now) });
            match include {
                Include::None => row["object"] = Value::Null,
                Include::Metadata => row["object"] = partial(object, version),
                Include::Object => row["object"] = object.value().clone(),
            }
            row
        })
        .collect();
    let columns: Value = if with_columns {
        resource
            .columns
            .iter()
            .map(|column| {
                json!({
                    "name": column.name, "type": column.r#type, "format": column.format,
                    "description": column.description, "priority": column.priority
                })
            })
            .collect()
    } else {
        Value::Null
    };
    json!({ "kind": "Table", "apiVersion": version, "metadata": metadata, "columnDefinitions": columns, "rows": rows })
}

/// One object in the form that was asked for.
pub(crate) fn shape(output: &Output, resource: &Resource, object: Object, now: i64) -> Value {
    match output.form {
        Form::Object => object.into_value(),
        Form::Partial { version, .. } => partial(&object, version),
        Form::Table { version, include } => {
            let metadata = json!({ "resourceVersion": object.resource_version() });
            table(resource, &[object], metadata, (version, include), true, now)
        }
    }
}

/// Encodes a value as the client wants it. Not every value has a form in protobuf: 406 then, as Kubernetes says it.
pub(crate) fn encode(output: &Output, value: &Value) -> ApiResult<Bytes> {
    match output.encoding {
        Encoding::Json => {}
        Encoding::Yaml => {
            if let Ok(text) = serde_saphyr::to_string(value) {
                return Ok(Bytes::from(text));
            }
        }
        Encoding::Protobuf => {
            let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
            let fails = not_marshalable(text("apiVersion"), text("kind"));
            let encoded = schema::protobuf::encode_any(value);
            return encoded.map(Bytes::from).map_err(fails);
        }
    }
    let encoded = match (status::in_order(value), output.pretty) {
        (Some(status), true) => serde_json::to_vec_pretty(&status),
        (Some(status), false) => serde_json::to_vec(&status),
        (None, true) => serde_json::to_vec_pretty(value),
        (None, false) => serde_json::to_vec(value),
    };
    let mut encoded = encoded.expect("a JSON value always encodes");
    encoded.push(b'\n');
    Ok(Bytes::from(encoded))
}

/// A kind that has no protobuf is not acceptable; anything else that does not encode is the server's fault.
pub(crate) fn not_marshalable(api_version: &str, kind: &str) -> impl Fn(ProtobufError) -> ApiError {
    let version = api_version.rsplit('/').next().unwrap_or_default();
    let name = format!("{version}.{kind}");
    move |error| match error {
        ProtobufError::UnknownKind { .. } => ApiError::not_marshalable(&name),
        error => ApiError::internal(error.to_string()),
    }
}

/// An answer of encoded bytes, compressed where that pays.
pub(crate) fn respond_bytes(
    headers: &HeaderMap,
    code: StatusCode,
    content_type: &'static str,
    body: Bytes,
) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    let body = if body.len() >= GZIP_BYTES_MIN && accepts_gzip(headers) {
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
            .headers_mut()
            .insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        gzip(&body)
    } else {
        body
    };
    *response.body_mut() = Body::from(body);
    response
}

fn gzip(body: &[u8]) -> Bytes {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(
        Vec::with_capacity(body.len() / 4),
        flate2::Compression::fast(),
    );
    encoder
        .write_all(body)
        .expect("writing to memory cannot fail");
    Bytes::from(encoder.finish().expect("writing to memory cannot fail"))
}

/// An answer of one JSON value.
pub(crate) fn respond_value(
    headers: &HeaderMap,
    output: &Output,
    code: StatusCode,
    value: &Value,
) -> Response {
    match encode(output, value) {
        Ok(body) => respond_bytes(headers, code, output.content_type(), body),
        Err(error) => {
            let status = encode(output, &error.to_status());
            let status = status.expect("a Status has a form in every encoding");
            let content_type = output.content_type();
            respond_bytes(headers, error.status_code(), content_type, status)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Query;

    #[test]
    fn a_body_is_what_its_sender_says() {
        for (media, format) in [
            ("application/json; charset=utf-8", Some(BodyFormat::Json)),
            ("application/yaml", Some(BodyFormat::Yaml)),
            (PROTOBUF, Some(BodyFormat::Protobuf)),
            ("text/plain", None),
            ("application/x-www-form-urlencoded", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
            assert_eq!(body_format(&headers).ok(), format, "{media}");
        }
        assert_eq!(body_format(&HeaderMap::new()).ok(), Some(BodyFormat::Json));
    }

    fn accept(text: &str) -> Result<Form, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(text).unwrap());
        output(&headers, &Query::default(), Offer::EVERYTHING)
            .map(|output| output.form)
            .map_err(|error| error.code)
    }

    #[test]
    fn several_headers_are_one_list_and_case_does_not_matter() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for &value in values {
                headers.append(header::ACCEPT, HeaderValue::from_static(value));
            }
            output(&headers, &Query::default(), Offer::EVERYTHING)
                .map(|output| (output.encoding, output.form))
                .map_err(|error| error.code)
        };
        let table = Form::Table {
            version: "meta.k8s.io/v1beta1",
            include: Include::Metadata,
        };
        assert_eq!(of(&[]), Ok((Encoding::Json, Form::Object)));
        for (values, expected) in [
            (&["  "][..], Ok((Encoding::Json, Form::Object))),
            (&["", ""][..], Err(406)),
            (&["application/cbor"][..], Err(406)),
            (
                &["application/cbor", "text/plain", "Application/YAML"][..],
                Ok((Encoding::Yaml, Form::Object)),
            ),
            (
                &["APPLICATION/JSON; v=v1beta1 ;v=v1; as=Table; g=meta.k8s.io"][..],
                Ok((Encoding::Json, table)),
            ),
            // Names of parameters and their values are as they are.
            (
                &["application/json;AS=Table"][..],
                Ok((Encoding::Json, Form::Object)),
            ),
            (
                &["application/json;as=table;g=meta.k8s.io;v=v1"][..],
                Err(406),
            ),
            (&["application/json;as=Table"][..], Err(406)),
            (&["application/json;as=Table;v=v1"][..], Err(406)),
            (&["application/json;as=Table;g=meta.k8s.io"][..], Err(406)),
            (
                &["application/json;as=Table;g=meta.k8s.io;v=v2"][..],
                Err(406),
            ),
            (&["application/json;g=meta.k8s.io;v=v1"][..], Err(406)),
            (&["application/json;v=v1"][..], Err(406)),
            // What is wanted most comes first, and a wildcard is wanted less than a name.
            (
                &["application/json;q=0.5,application/yaml"][..],
                Ok((Encoding::Yaml, Form::Object)),
            ),
            (
                &["application/yaml; q=0.1, application/json;q=0.9"][..],
                Ok((Encoding::Json, Form::Object)),
            ),
            (
                &["*/*,application/yaml"][..],
                Ok((Encoding::Yaml, Form::Object)),
            ),
            (
                &["text/html,application/xml;q=0.9,*/*;q=0.8"][..],
                Ok((Encoding::Json, Form::Object)),
            ),
        ] {
            assert_eq!(of(values), expected, "{values:?}");
        }
    }

    #[test]
    fn what_rows_hold_is_checked_where_there_are_rows() {
        let of = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            let query = Query::parse(Some("includeObject=all"));
            output(&headers, &query, Offer::EVERYTHING).map_err(|error| error.message)
        };
        assert!(of(JSON).is_ok());
        assert_eq!(
            of("application/json;as=Table;g=meta.k8s.io;v=v1").unwrap_err(),
            "Unable to convert to Table as requested: includeObject: Invalid value: \"all\": must be 'Metadata', 'Object', 'None', or empty"
        );
    }

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(
            accept(kubectl),
            Ok(Form::Table {
                version: "meta.k8s.io/v1",
                include: Include::Metadata
            })
        );
        assert_eq!(
            accept("application/vnd.kubernetes.protobuf,application/json"),
            Ok(Form::Object)
        );
        assert_eq!(
            accept("application/json;as=Nothing;v=v1,*/*"),
            Ok(Form::Object)
        );
        assert_eq!(accept("application/cbor"), Err(406));
        assert_eq!(accept(PROTOBUF), Ok(Form::Object));
        assert_eq!(
            accept("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
            Ok(Form::Partial {
                version: "meta.k8s.io/v1",
                of_list: false
            })
        );
    }
}
