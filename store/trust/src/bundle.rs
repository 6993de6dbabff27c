//! The authorities that somebody gives: the `caBundle` of a configuration, the CA of a cluster.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// All certificates of a PEM text. One that cannot be an authority is an error; that there is none is not.
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    read(pem).map(|(roots, _)| roots)
}

/// Whether [`Servers::Bundle`](crate::Servers::Bundle) takes it.
pub fn check_bundle(pem: &[u8]) -> Result<(), String> {
    bundle(pem).map(drop)
}

/// The authorities, and the certificates that they were made of.
pub(crate) fn bundle(pem: &[u8]) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    let (roots, own) = read(pem).map_err(|error| unusable(&error))?;
    if roots.is_empty() {
        return Err(unusable(&"unable to parse bytes as PEM block"));
    }
    Ok((roots, own))
}

pub(crate) fn unusable(error: &dyn std::fmt::Display) -> String {
    format!("unable to load root certificates: {error}")
}

fn read(pem: &[u8]) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    let (mut roots, mut own) = (RootCertStore::empty(), Vec::new());
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        let added = roots.add(certificate.clone());
        added.map_err(|error| error.to_string())?;
        own.push(certificate);
    }
    Ok((roots, own))
}

/// Takes a certificate that somebody of the bundle signed, and one that the bundle itself has, as Go does. The latter may
/// be an authority, too: whoever makes one certificate with `openssl req -x509` has made such a one.
#[derive(Debug)]
pub(crate) struct OfBundle {
    pub(crate) chains: Arc<WebPkiServerVerifier>,
    pub(crate) own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OfBundle {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.own.iter().any(|own| own[..] == end_entity[..]) {
            return check_trusted(end_entity, server_name, now);
        }
        self.chains
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// What is left to check of a certificate that is trusted itself: its time, its name and its purpose.
fn check_trusted(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, rustls::Error> {
    let refuse = |error: CertificateError| Err(rustls::Error::InvalidCertificate(error));
    let Ok((_, read)) = X509Certificate::from_der(certificate) else {
        return refuse(CertificateError::BadEncoding);
    };
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if seconds < read.validity().not_before.timestamp() {
        return refuse(CertificateError::NotValidYet);
    }
    if seconds > read.validity().not_after.timestamp() {
        return refuse(CertificateError::Expired);
    }
    verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name)?;
    match read.extended_key_usage() {
        Ok(None) => Ok(ServerCertVerified::assertion()),
        Ok(Some(usage)) if usage.value.any || usage.value.server_auth => {
            Ok(ServerCertVerified::assertion())
        }
        Ok(Some(_)) => refuse(CertificateError::InvalidPurpose),
        Err(_) => refuse(CertificateError::BadEncoding),
    }
}
