//! Certificate signing requests.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;

use crate::look::{Look, spec, status};

/// CertificateSigningRequest.
pub(crate) fn signing_request(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    if spec.text("request").is_empty() {
        errors.push(FieldError::invalid(
            &path.child("request"),
            "",
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
    if spec.list("usages").is_empty() {
        errors.push(FieldError::required(&path.child("usages"), ""));
    }
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
