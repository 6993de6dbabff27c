//! Certificate signing requests.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

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

/// Whether base64 is of a PEM block of the right kind. Whoever signs it reads the rest.
fn holds_request(text: &str) -> bool {
    let head = b"-----BEGIN CERTIFICATE REQUEST-----";
    let pem = STANDARD.decode(text).unwrap_or_default();
    pem.windows(head.len()).any(|part| part == head)
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

/// CertificateSigningRequest.
pub(crate) fn signing_request(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    if !holds_request(spec.text("request")) {
        errors.push(FieldError::invalid(
            &path.child("request"),
            spec.text("request"),
            "PEM block type must be CERTIFICATE REQUEST",
        ));
    }
    let signer = spec.text("signerName");
    let signer_path = path.child("signerName");
    if signer.is_empty() {
        errors.push(FieldError::required(&signer_path, ""));
    } else {
        match signer.split_once('/') {
            Some((domain, rest)) if !rest.is_empty() => {
                super::complain(
                    names::is_dns1123_subdomain(domain),
                    &signer_path,
                    signer,
                    errors,
                );
                if !domain.contains('.') {
                    let detail = "should be a domain with at least two segments separated by dots";
                    errors.push(FieldError::invalid(&signer_path, domain, detail));
                }
            }
            _ => {
                let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
                errors.push(FieldError::invalid(&signer_path, signer, detail));
            }
        }
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
    let has = |kind: &str| {
        status(object)
            .list("conditions")
            .iter()
            .any(|c| c.text("type") == kind)
    };
    if has("Approved") && has("Denied") {
        let detail = "Approved and Denied conditions are mutually exclusive";
        let conditions = status(object).at("conditions").clone();
        errors.push(FieldError::invalid(
            &Path::new("status").child("conditions"),
            conditions,
            detail,
        ));
    }
}
