//! Client certificates: the subject's common name is the user, its organizations are the groups.
//!
//! The chain is verified by rustls against the client CA during the handshake. A connection can outlive its
//! certificate, so that validity is checked here again for each request, together with the key usage.

use std::ops::RangeInclusive;

use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::user::{EXTRA_CREDENTIAL_ID, User};

/// The object identifier that Kubernetes registered for a user's uid in a certificate subject.
const UID_OID: &str = "1.3.6.1.4.1.57683.2";

/// Why a certificate does not identify anybody. All of these are answered with 401.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("x509: malformed certificate")]
    Malformed,
    #[error("x509: certificate has expired or is not yet valid")]
    OutsideValidity,
    #[error("x509: certificate specifies an incompatible key usage")]
    KeyUsage,
    #[error("x509: a certificate authority cannot be a client")]
    Authority,
    #[error("x509: certificate has no common name")]
    NoCommonName,
    #[error("expected 1 UID, but found multiple")]
    SeveralUids,
}

/// Reads the user from a client certificate in DER form. `now` is in seconds since 1970.
pub fn user_from_cert(der: &[u8], now: i64) -> Result<User, Error> {
    user_and_lifetime(der, now).map(|(user, _)| user)
}

/// The same, with the time in which it holds.
pub fn user_and_lifetime(der: &[u8], now: i64) -> Result<(User, RangeInclusive<i64>), Error> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Error::Malformed)?;
    if !rest.is_empty() {
        return Err(Error::Malformed);
    }
    check_usable(&certificate, now)?;
    let mut user = User {
        groups: texts(
            &certificate,
            x509_parser::oid_registry::OID_X509_ORGANIZATION_NAME
                .to_id_string()
                .as_str(),
        )?,
        ..User::default()
    };
    // The last common name counts where a subject has several, as in Go.
    user.name = texts(
        &certificate,
        x509_parser::oid_registry::OID_X509_COMMON_NAME
            .to_id_string()
            .as_str(),
    )?
    .pop()
    .filter(|name| !name.is_empty())
    .ok_or(Error::NoCommonName)?;
    let mut uids = texts(&certificate, UID_OID)?;
    if uids.len() > 1 {
        return Err(Error::SeveralUids);
    }
    user.uid = uids.pop().unwrap_or_default();
    user.extra.insert(
        EXTRA_CREDENTIAL_ID.to_owned(),
        vec![format!("X509SHA256={}", hex(&Sha256::digest(der)))],
    );
    let validity = certificate.validity();
    let lifetime = validity.not_before.timestamp()..=validity.not_after.timestamp();
    Ok((user.authenticated(), lifetime))
}

fn check_usable(certificate: &X509Certificate<'_>, now: i64) -> Result<(), Error> {
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() || now > validity.not_after.timestamp() {
        return Err(Error::OutsideValidity);
    }
    if certificate.is_ca() {
        return Err(Error::Authority);
    }
    let usage = certificate
        .extended_key_usage()
        .map_err(|_| Error::Malformed)?;
    match usage {
        // A certificate without the extension may be used for anything.
        None => Ok(()),
        Some(usage) if usage.value.client_auth || usage.value.any => Ok(()),
        Some(_) => Err(Error::KeyUsage),
    }
}

fn texts(certificate: &X509Certificate<'_>, oid: &str) -> Result<Vec<String>, Error> {
    let attributes = certificate
        .subject()
        .iter_attributes()
        .filter(|attribute| attribute.attr_type().to_id_string() == oid);
    attributes
        .map(|attribute| {
            attribute
                .as_str()
                .map(str::to_owned)
                .map_err(|_| Error::Malformed)
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn params(names: &[(DnType, &str)]) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = time::OffsetDateTime::from_unix_timestamp(NOW - 60).unwrap();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(NOW + 60).unwrap();
        params
    }

    fn der(params: CertificateParams) -> Vec<u8> {
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .to_vec()
    }

    fn uid() -> DnType {
        DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2])
    }

    #[test]
    fn subject_becomes_user() {
        let der = der(params(&[
            (DnType::OrganizationName, "system:nodes"),
            (DnType::CommonName, "system:node:n1"),
            (uid(), "42"),
        ]));
        let user = user_from_cert(&der, NOW).unwrap();
        assert_eq!(user.name, "system:node:n1");
        assert_eq!(user.uid, "42");
        assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
        assert_eq!(user.node_identity(), Some("n1"));
        assert!(user.extra[EXTRA_CREDENTIAL_ID][0].starts_with("X509SHA256="));
    }

    #[test]
    fn unusable_certificates_identify_nobody() {
        let jane = [(DnType::CommonName, "jane")];
        let good = der(params(&jane));
        assert_eq!(user_from_cert(&good, NOW + 61), Err(Error::OutsideValidity));
        assert_eq!(user_from_cert(&good, NOW - 61), Err(Error::OutsideValidity));
        assert_eq!(
            user_from_cert(&good[..good.len() - 1], NOW),
            Err(Error::Malformed)
        );
        assert_eq!(
            user_from_cert(&[good.clone(), vec![0]].concat(), NOW),
            Err(Error::Malformed)
        );
        assert_eq!(user_from_cert(b"", NOW), Err(Error::Malformed));

        let mut server = params(&jane);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        assert_eq!(user_from_cert(&der(server), NOW), Err(Error::KeyUsage));

        let mut any = params(&jane);
        any.extended_key_usages = vec![];
        assert_eq!(user_from_cert(&der(any), NOW).unwrap().name, "jane");

        let mut authority = params(&jane);
        authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        assert_eq!(user_from_cert(&der(authority), NOW), Err(Error::Authority));

        assert_eq!(
            user_from_cert(
                &der(params(&[(DnType::OrganizationName, "system:masters")])),
                NOW
            ),
            Err(Error::NoCommonName)
        );
        assert_eq!(
            user_from_cert(&der(params(&[(DnType::CommonName, "")])), NOW),
            Err(Error::NoCommonName)
        );
    }
}
