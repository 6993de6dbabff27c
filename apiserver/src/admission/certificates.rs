//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may approve and sign for a signer, and
//! whom nobody gets a certificate for by asking.

use auth::Attributes;
use auth::user::GROUP_MASTERS;
use base64::Engine;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use schema::Object;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use crate::admission::{Admission, Operation};
use crate::status::ApiResult;

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";

fn signer(request: &Object) -> &str {
    request.get_str(&["spec", "signerName"]).unwrap_or_default()
}

/// Approving needs a right on the signer besides that on the request.
pub(super) fn approval(admission: &Admission<'_>, object: Option<&Object>) -> ApiResult<()> {
    match object {
        Some(request) if updates(admission, "approval") => require(admission, request, "approve"),
        _ => Ok(()),
    }
}

/// So does signing: putting a certificate, or why there is none, into the status.
pub(super) fn signing(admission: &Admission<'_>, object: Option<&Object>) -> ApiResult<()> {
    let (Some(new), Some(old)) = (object, admission.old) else {
        return Ok(());
    };
    let same = |field: &str| new.get(&["status", field]) == old.get(&["status", field]);
    if !updates(admission, "status") || (same("certificate") && same("conditions")) {
        return Ok(());
    }
    require(admission, new, "sign")
}

fn updates(admission: &Admission<'_>, subresource: &str) -> bool {
    admission.operation == Operation::Update
        && admission.is(GROUP, REQUESTS)
        && admission.subresource == subresource
}

fn require(admission: &Admission<'_>, request: &Object, verb: &'static str) -> ApiResult<()> {
    let name = signer(request);
    let domain = name.split('/').next().unwrap_or_default();
    let all_of_domain = format!("{domain}/*");
    let allowed = [name, &all_of_domain].into_iter().any(|name| {
        let attributes = Attributes {
            verb,
            group: GROUP,
            version: "*",
            resource: "signers",
            name,
            ..Attributes::default()
        };
        let context = admission.context;
        context
            .server
            .authorizer
            .authorize(&context.user, &attributes)
            .allowed
    });
    if allowed {
        return Ok(());
    }
    let text = format!("user not permitted to {verb} requests with signerName {name:?}");
    Err(admission.forbid(request, &text))
}

/// Nobody becomes an administrator by a request.
pub(super) fn subject(admission: &Admission<'_>, object: Option<&Object>) -> ApiResult<()> {
    let Some(request) = object.filter(|_| admission.creates(GROUP, REQUESTS)) else {
        return Ok(());
    };
    if signer(request) != API_CLIENT {
        return Ok(());
    }
    let pem = request.get_str(&["spec", "request"]).unwrap_or_default();
    let pem = base64::engine::general_purpose::STANDARD.decode(pem);
    let groups = pem.ok().as_deref().map(organizations).unwrap_or_default();
    if !groups.iter().any(|group| group == GROUP_MASTERS) {
        return Ok(());
    }
    let text = format!("use of {API_CLIENT} signer with {GROUP_MASTERS} group is not allowed");
    Err(admission.forbid(request, &text))
}

/// The organizations in the subject of a certificate request: the groups that the certificate would be good for.
fn organizations(pem: &[u8]) -> Vec<String> {
    let Ok(der) = CertificateSigningRequestDer::from_pem_slice(pem) else {
        return Vec::new();
    };
    let Ok((_, request)) = X509CertificationRequest::from_der(&der) else {
        return Vec::new();
    };
    let subject = &request.certification_request_info.subject;
    subject
        .iter_organization()
        .filter_map(|organization| organization.as_str().ok())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    #[test]
    fn groups_stand_in_the_subject() {
        let mut params = CertificateParams::default();
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "jane");
        name.push(DnType::OrganizationName, GROUP_MASTERS);
        let key = KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        assert_eq!(organizations(pem.as_bytes()), [GROUP_MASTERS]);
        assert_eq!(organizations(b"nothing"), [""; 0]);
    }
}
