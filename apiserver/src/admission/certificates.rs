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
const UNREADABLE: &str = "failed to parse CSR: it is no certificate request in PEM";

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
            .authorize_in_place(&context.user, &attributes)
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
    let groups = pem.ok().as_deref().map_or(Err(UNREADABLE), organizations);
    let groups = groups.map_err(|text| admission.forbid(request, text))?;
    if !groups.iter().any(|group| group == GROUP_MASTERS) {
        return Ok(());
    }
    let text = format!("use of {API_CLIENT} signer with {GROUP_MASTERS} group is not allowed");
    Err(admission.forbid(request, &text))
}

/// The organizations in the subject of a certificate request: the groups that the certificate would be good for. What
/// cannot be read here may be readable to whoever signs it, so it is an error.
fn organizations(pem: &[u8]) -> Result<Vec<String>, &'static str> {
    let der = CertificateSigningRequestDer::from_pem_slice(pem).map_err(|_| UNREADABLE)?;
    let (_, request) = X509CertificationRequest::from_der(&der).map_err(|_| UNREADABLE)?;
    let subject = &request.certification_request_info.subject;
    subject
        .iter_organization()
        .map(|organization| organization.as_str().map(str::to_owned))
        .collect::<Result<_, _>>()
        .map_err(|_| "failed to parse CSR: an organization in the subject is not readable")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::string::BmpString;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    fn request(organization: DnValue) -> String {
        let mut params = CertificateParams::default();
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "jane");
        name.push(DnType::OrganizationName, organization);
        let key = KeyPair::generate().unwrap();
        params.serialize_request(&key).unwrap().pem().unwrap()
    }

    #[test]
    fn groups_stand_in_the_subject() {
        let pem = request(GROUP_MASTERS.into());
        assert_eq!(organizations(pem.as_bytes()).unwrap(), [GROUP_MASTERS]);
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_nothing() {
        assert_eq!(organizations(b"nothing"), Err(UNREADABLE));
        let other =
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
        assert_eq!(organizations(other.as_bytes()), Err(UNREADABLE));
        let wide = BmpString::try_from(GROUP_MASTERS).unwrap();
        let pem = request(DnValue::BmpString(wide));
        assert!(organizations(pem.as_bytes()).is_err());
    }
}
