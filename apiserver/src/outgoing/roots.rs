//! What a peer's certificate is checked against: the `caBundle` that its configuration carries, else the system's roots.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where systems keep their roots, in the order in which Go looks.
const SYSTEM_FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS towards a peer. Without any root the handshake fails: nobody is trusted by default.
pub(super) fn client_config(ca_pem: &[u8]) -> Result<Arc<ClientConfig>, String> {
    config(Some(ca_pem), None)
}

/// The same, or towards anybody where there is no `ca_pem` at all, with the certificate and key that are shown there.
pub(super) fn config(
    ca_pem: Option<&[u8]>,
    identity: Option<(&str, &str)>,
) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let anyone = Arc::new(Anyone(provider.signature_verification_algorithms));
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match ca_pem {
        None => builder.dangerous().with_custom_certificate_verifier(anyone),
        Some([]) => builder.with_root_certificates(system().clone()),
        Some(ca_pem) => {
            let (roots, own) = bundle(ca_pem)?;
            let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| format!("unable to load root certificates: {error}"))?;
            let verifier = Arc::new(OfBundle { chains, own });
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        }
    };
    let Some((certificate, key)) = identity else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let unusable = |error: &dyn std::fmt::Display| format!("the client certificate: {error}");
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| unusable(&error))?;
    let config = builder.with_client_auth_cert(chain, key);
    config.map(Arc::new).map_err(|error| unusable(&error))
}

/// TLS towards a peer of whom nothing is known but its address: encrypted, and not authenticated.
pub(crate) fn unverified() -> Result<Arc<ClientConfig>, String> {
    config(None, None)
}

/// Takes a certificate that somebody of the bundle signed, and one that the bundle itself has, as Go does. The latter may
/// be an authority, too: whoever makes one certificate with `openssl req -x509` has made such a one.
#[derive(Debug)]
struct OfBundle {
    chains: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
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

/// Takes any certificate whose key the peer has.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Whether these can be roots.
pub(crate) fn check(pem: &[u8]) -> Result<(), String> {
    bundle(pem).map(|_| ())
}

/// The roots, and what they were made of.
fn bundle(pem: &[u8]) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    let (mut roots, mut own) = (RootCertStore::empty(), Vec::new());
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|error| format!("unable to load root certificates: {error}"))?;
        roots
            .add(certificate.clone())
            .map_err(|error| format!("unable to load root certificates: {error}"))?;
        own.push(certificate);
    }
    if roots.is_empty() {
        return Err(
            "unable to load root certificates: unable to parse bytes as PEM block".to_owned(),
        );
    }
    Ok((roots, own))
}

/// Read once: they are hundreds.
fn system() -> &'static Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        if let Some(pem) = SYSTEM_FILES
            .iter()
            .find_map(|file| std::fs::read(file).ok())
        {
            for certificate in CertificateDer::pem_slice_iter(&pem).flatten() {
                // A root that this TLS cannot read is one less to trust.
                let _ = roots.add(certificate);
            }
        }
        Arc::new(roots)
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};

    use super::*;

    /// A certificate that has signed itself, as DER and PEM.
    fn own(change: impl FnOnce(&mut CertificateParams)) -> (CertificateDer<'static>, String) {
        let mut params = CertificateParams::new(vec!["hook.n.svc".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        (made.der().clone(), made.pem())
    }

    fn verify(
        certificate: &CertificateDer<'_>,
        bundle_pem: &str,
        name: &'static str,
    ) -> Result<(), rustls::Error> {
        let (roots, own) = bundle(bundle_pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let chains = chains.build().unwrap();
        let name = ServerName::try_from(name).unwrap();
        let verifier = OfBundle { chains, own };
        let verified = verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now());
        verified.map(|_| ())
    }

    #[test]
    fn a_certificate_of_the_bundle_needs_no_other_authority() {
        let (certificate, pem) = own(|_| {});
        assert_eq!(verify(&certificate, &pem, "hook.n.svc"), Ok(()));
        let refused = |change: fn(&mut CertificateParams), name| {
            let (certificate, pem) = own(change);
            verify(&certificate, &pem, name).unwrap_err()
        };
        let is = |error: rustls::Error, expected: CertificateError| {
            assert_eq!(error, rustls::Error::InvalidCertificate(expected));
        };
        let text = refused(|_| {}, "other.n.svc").to_string();
        assert!(text.contains("not valid for name"), "{text}");
        is(
            refused(
                |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1),
                "hook.n.svc",
            ),
            CertificateError::Expired,
        );
        is(
            refused(
                |params| params.not_before = rcgen::date_time_ymd(3001, 1, 1),
                "hook.n.svc",
            ),
            CertificateError::NotValidYet,
        );
        is(
            refused(
                |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
                "hook.n.svc",
            ),
            CertificateError::InvalidPurpose,
        );
        // Another one of the same make is not in the bundle.
        let (other, _) = own(|_| {});
        assert!(verify(&other, &pem, "hook.n.svc").is_err());
    }

    #[test]
    fn a_bundle_has_certificates() {
        assert!(client_config(b"nothing").unwrap_err().contains("PEM"));
        let broken = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";
        assert!(client_config(broken.as_bytes()).is_err());
        assert!(client_config(b"").is_ok());
    }
}
