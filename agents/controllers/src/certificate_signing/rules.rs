//! What each of Kubernetes' signers signs: whose names, for which uses.

use super::request::Request;
use std::collections::BTreeSet;

pub(crate) const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub(crate) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub(crate) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub(crate) const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

const SIGNATURE: &str = "digital signature";
const ENCIPHERMENT: &str = "key encipherment";
const CLIENT: &str = "client auth";
const SERVER: &str = "server auth";

/// Whether the signer is one of those that are at home here.
pub(crate) fn is_own(signer: &str) -> bool {
    matches!(
        signer,
        API_CLIENT | KUBELET_CLIENT | KUBELET_SERVING | LEGACY_UNKNOWN
    )
}

/// Why the signer does not sign such a request, in Kubernetes' words.
pub(crate) fn check(signer: &str, request: &Request, usages: &[String]) -> Result<(), String> {
    match signer {
        API_CLIENT => api_client(usages),
        KUBELET_CLIENT => kubelet_client(request, usages),
        KUBELET_SERVING => kubelet_serving(request, usages),
        // Kept for what was there before signers had names: whoever approves says what is right.
        _ => Ok(()),
    }
}

fn api_client(usages: &[String]) -> Result<(), String> {
    let strange = |usage: &&String| ![SIGNATURE, ENCIPHERMENT, CLIENT].contains(&usage.as_str());
    if let Some(usage) = usages.iter().find(strange) {
        return Err(format!("invalid usage for client certificate: {usage}"));
    }
    if !usages.iter().any(|usage| usage == CLIENT) {
        return Err(format!(
            "missing required usage for client certificate: {CLIENT}"
        ));
    }
    Ok(())
}

pub(crate) fn kubelet_client(request: &Request, usages: &[String]) -> Result<(), String> {
    let names = &request.names;
    let wrong = if request.organizations != ["system:nodes"] {
        "subject organization is not system:nodes"
    } else if !names.dns.is_empty() {
        "DNS subjectAltNames are not allowed"
    } else if !names.emails.is_empty() {
        "Email subjectAltNames are not allowed"
    } else if !names.addresses.is_empty() {
        "IP subjectAltNames are not allowed"
    } else if !names.uris.is_empty() {
        "URI subjectAltNames are not allowed"
    } else if !request.common_name.starts_with("system:node:") {
        "subject common name does not begin with system:node:"
    } else {
        return exactly(usages, CLIENT);
    };
    Err(wrong.into())
}

fn kubelet_serving(request: &Request, usages: &[String]) -> Result<(), String> {
    let names = &request.names;
    if request.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes".into());
    }
    if names.dns.is_empty() && names.addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".into());
    }
    if !names.emails.is_empty() {
        return Err("Email subjectAltNames are not allowed".into());
    }
    if !names.uris.is_empty() {
        return Err("URI subjectAltNames are not allowed".into());
    }
    exactly(usages, SERVER)?;
    if !request.common_name.starts_with("system:node:") {
        return Err("subject common name does not begin with system:node:".into());
    }
    Ok(())
}

/// Signatures and this use, and encipherment, which only some kinds of keys can do.
fn exactly(usages: &[String], purpose: &str) -> Result<(), String> {
    let all = BTreeSet::from([SIGNATURE, ENCIPHERMENT, purpose]);
    let mut asked: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    asked.insert(ENCIPHERMENT);
    if asked == all {
        return Ok(());
    }
    let all: Vec<&str> = all.into_iter().collect();
    Err(format!("usages did not match [{}]", all.join(" ")))
}
