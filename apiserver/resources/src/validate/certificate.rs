//! Certificate signing requests.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schema::Object;
use schema::field::{ErrorList, FieldError, Path, go_quote};
use schema::names;
use serde_json::Value;

use super::pkcs10;
use crate::look::{Look, spec, status};

/// What a certificate may be good for, in the order of the letters.
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Why base64 is of no certificate request in PEM. What stands before and after the first block is nobody's business.
fn broken_request(text: &str) -> Option<&'static str> {
    let pem = STANDARD.decode(text).unwrap_or_default();
    let blocks = pem_blocks(&String::from_utf8_lossy(&pem));
    match blocks.first() {
        Some(block) if block.kind == "CERTIFICATE REQUEST" => pkcs10::broken(&block.content),
        _ => Some("PEM block type must be CERTIFICATE REQUEST"),
    }
}

fn usages(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let usages = spec.list("usages");
    if usages.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let mut seen = BTreeSet::new();
    for (at, usage) in usages.iter().enumerate() {
        let usage = usage.as_str().unwrap_or_default();
        if !USAGES.contains(&usage) {
            errors.push(FieldError::not_supported(&path.index(at), usage, USAGES));
        }
        if !seen.insert(usage) {
            errors.push(FieldError::duplicate(&path.index(at), usage));
        }
    }
}

/// Who signs: a domain of several labels, and a name in it.
fn signer_name(signer: &str, path: &Path, errors: &mut ErrorList) {
    let parts: Vec<&str> = signer.split('/').collect();
    let &[domain, name] = &parts[..] else {
        let detail =
            "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(path, signer, detail));
        return;
    };
    if domain.len() > DOMAIN_MAX {
        errors.push(FieldError::too_long(path, DOMAIN_MAX));
    }
    broken_label(domain, names::is_dns1123_label, path, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, detail));
    }
    broken_label(name, names::is_dns1123_subdomain, path, errors);
    if signer.len() > SIGNER_MAX {
        errors.push(FieldError::too_long(path, SIGNER_MAX));
    }
}

const DOMAIN_MAX: usize = 253;
/// A domain, a label of a DNS name in another domain, and what stands between them.
const SIGNER_MAX: usize = DOMAIN_MAX + 1 + DOMAIN_MAX + 1 + 63;

/// What is wrong with the first label that is no good.
fn broken_label(text: &str, rule: fn(&str) -> Vec<String>, path: &Path, errors: &mut ErrorList) {
    let mut labels = text.split('.').map(|label| (label, rule(label)));
    if let Some((label, messages)) = labels.find(|(_, messages)| !messages.is_empty()) {
        for message in messages {
            let detail = format!("validating label {}: {message}", go_quote(label));
            errors.push(FieldError::invalid(path, text, detail));
        }
    }
}

/// CertificateSigningRequest.
pub(crate) fn signing_request(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    let request = spec.text("request");
    if let Some(detail) = broken_request(request) {
        errors.push(FieldError::invalid(&path.child("request"), request, detail));
    }
    let signer = spec.text("signerName");
    let signer_path = path.child("signerName");
    if signer.is_empty() {
        errors.push(FieldError::required(&signer_path, ""));
    } else {
        signer_name(signer, &signer_path, errors);
    }
    usages(spec, &path.child("usages"), errors);
    if let Some(seconds) = spec
        .int("expirationSeconds")
        .filter(|seconds| *seconds < 600)
    {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid(
            &path.child("expirationSeconds"),
            seconds,
            detail,
        ));
    }
}

/// What the approver and the signer of a request write: its conditions and its certificate.
pub(crate) fn signing_request_subresource(
    subresource: &str,
    new: &Object,
    old: &Object,
    errors: &mut ErrorList,
) {
    let path = Path::new("status");
    let (before, after) = (types(old), types(new));
    conditions(new, &before, &path.child("conditions"), errors);
    let count = |types: &[&str], kind: &str| types.iter().filter(|one| **one == kind).count();
    for kind in ["Approved", "Denied", "Failed"] {
        if count(&after, kind) < count(&before, kind) {
            let detail = format!("updates may not remove a condition of type {kind:?}");
            errors.push(FieldError::forbidden(&path.child("conditions"), detail));
        }
    }
    if subresource == "status" {
        for kind in ["Approved", "Denied"] {
            if count(&after, kind) > count(&before, kind) {
                let detail = format!("updates may not add a condition of type {kind:?}");
                errors.push(FieldError::forbidden(&path.child("conditions"), detail));
            }
        }
    }
    let (had, has) = (
        status(old).text("certificate"),
        status(new).text("certificate"),
    );
    if had == has {
        return;
    }
    let path = path.child("certificate");
    if let (Some(detail), None) = (broken_certificate(has), broken_certificate(had)) {
        errors.push(FieldError::invalid(&path, "<certificate data>", detail));
    }
    if !had.is_empty() {
        let detail = "updates may not modify existing certificate content";
        errors.push(FieldError::forbidden(&path, detail));
    }
}

fn types(object: &Object) -> Vec<&str> {
    let conditions = status(object).list("conditions").iter();
    conditions.map(|condition| condition.text("type")).collect()
}

/// What was there before may stay as it is.
fn conditions(object: &Object, before: &[&str], path: &Path, errors: &mut ErrorList) {
    let mut sorted = before.to_vec();
    sorted.sort_unstable();
    let had_twice = sorted.windows(2).any(|pair| pair[0] == pair[1]);
    let had_both = before.contains(&"Approved") && before.contains(&"Denied");
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (at, condition) in status(object).list("conditions").iter().enumerate() {
        let (path, whole) = (path.index(at), path);
        let kind = condition.text("type");
        if kind.is_empty() && !before.contains(&"") {
            errors.push(FieldError::required(&path.child("type"), ""));
        }
        let allowed: &[&str] = match kind {
            "Approved" | "Denied" | "Failed" => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        match condition.text("status") {
            "" => errors.push(FieldError::required(&path.child("status"), "")),
            value if !allowed.contains(&value) => {
                let error = FieldError::not_supported(&path.child("status"), value, allowed);
                errors.push(error);
            }
            _ => {}
        }
        let other = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && seen.contains(other) && !had_both {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(whole, kind, detail));
        }
        if !seen.insert(kind) && !had_twice {
            errors.push(FieldError::duplicate(&path.child("type"), kind));
        }
    }
}

/// Why base64 is of no certificates in PEM, in Kubernetes' words; none where it is, or is of nothing.
fn broken_certificate(text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let pem = STANDARD.decode(text).unwrap_or_default();
    let blocks = pem_blocks(&String::from_utf8_lossy(&pem));
    for block in &blocks {
        if block.kind != "CERTIFICATE" {
            return Some(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.kind
            ));
        }
        if block.has_headers {
            return Some("no PEM block headers are permitted".to_owned());
        }
        if !is_sequence(&block.content) {
            return Some("x509: malformed certificate".to_owned());
        }
    }
    let none = "must contain at least one CERTIFICATE PEM block";
    blocks.is_empty().then(|| none.to_owned())
}

struct Block {
    kind: String,
    has_headers: bool,
    content: Vec<u8>,
}

/// What is no block is skipped, as in Go.
fn pem_blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, bool, String)> = None;
    for line in text.lines().map(str::trim_end) {
        let begins = line.strip_prefix("-----BEGIN ");
        if let Some(kind) = begins.and_then(|rest| rest.strip_suffix("-----")) {
            open = Some((kind, false, String::new()));
            continue;
        }
        let Some((kind, has_headers, content)) = &mut open else {
            continue;
        };
        let ends = line.strip_prefix("-----END ");
        if ends.and_then(|rest| rest.strip_suffix("-----")) == Some(*kind) {
            if let Ok(content) = STANDARD.decode(content.as_bytes()) {
                blocks.push(Block {
                    kind: (*kind).to_owned(),
                    has_headers: *has_headers,
                    content,
                });
            }
            open = None;
        } else if line.contains(':') {
            *has_headers = true;
        } else {
            content.push_str(line.trim());
        }
    }
    blocks
}

/// Whether this is one DER sequence, which is all that is looked at of a certificate here.
fn is_sequence(der: &[u8]) -> bool {
    sequence_bytes(der) == Some(der.len())
}

/// How long the DER sequence says to be that begins here, its head included.
pub(super) fn sequence_bytes(der: &[u8]) -> Option<usize> {
    let (length, head) = match der {
        [0x30, short @ 0..=0x7f, ..] => (usize::from(*short), 2),
        [0x30, 0x81, length, ..] => (usize::from(*length), 3),
        [0x30, 0x82, high, low, ..] => ((usize::from(*high) << 8) | usize::from(*low), 4),
        [0x30, 0x83, a, b, c, ..] => (
            (usize::from(*a) << 16) | (usize::from(*b) << 8) | usize::from(*c),
            5,
        ),
        _ => return None,
    };
    (length > 0).then_some(head + length)
}
