//! What a peer's certificate is checked against: the `caBundle` that its configuration carries, else the system's roots.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

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
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match ca_pem {
        None => builder.dangerous().with_custom_certificate_verifier(anyone),
        Some([]) => builder.with_root_certificates(system().clone()),
        Some(ca_pem) => builder.with_root_certificates(bundle(ca_pem)?),
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

fn bundle(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|error| format!("unable to load root certificates: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("unable to load root certificates: {error}"))?;
    }
    if roots.is_empty() {
        return Err(
            "unable to load root certificates: unable to parse bytes as PEM block".to_owned(),
        );
    }
    Ok(roots)
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
    use super::*;

    #[test]
    fn a_bundle_has_certificates() {
        assert!(client_config(b"nothing").unwrap_err().contains("PEM"));
        let broken = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";
        assert!(client_config(broken.as_bytes()).is_err());
        assert!(client_config(b"").is_ok());
    }
}
