//! What a client is told of a Secret whose certificate and key do not belong together, in the words of Go's `X509KeyPair`.
//! It is stored all the same.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use resources::Resource;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use schema::Object;

/// The warning about a Secret of the type for TLS; none about anything else.
pub(crate) fn warning(resource: &Resource, object: &Object) -> Option<String> {
    let is_secret = resource.group.is_empty() && resource.plural == "secrets";
    if !is_secret || object.get_str(&["type"]) != Some("kubernetes.io/tls") {
        return None;
    }
    let data = |key: &str| {
        let text = object.get_str(&["data", key]).unwrap_or_default();
        STANDARD.decode(text).unwrap_or_default()
    };
    let text = mismatch(&data("tls.crt"), &data("tls.key"))?;
    Some(format!("tls: {text}"))
}

fn mismatch(certificate_pem: &[u8], key_pem: &[u8]) -> Option<&'static str> {
    let chain = CertificateDer::pem_slice_iter(certificate_pem).collect::<Result<Vec<_>, _>>();
    let chain = match chain {
        Ok(chain) if !chain.is_empty() => chain,
        _ => return Some("failed to find any PEM data in certificate input"),
    };
    let Ok(key) = PrivateKeyDer::from_pem_slice(key_pem) else {
        return Some("failed to find any PEM data in key input");
    };
    // Of a kind of key that this TLS does not know nothing is said: others may.
    let key = rustls::crypto::ring::sign::any_supported_type(&key).ok()?;
    match CertifiedKey::new(chain, key).keys_match() {
        // A key that does not tell its public half may fit.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => None,
        Err(Error::InconsistentKeys(_)) => Some("private key does not match public key"),
        Err(_) => Some("failed to parse certificate"),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn a_key_belongs_to_its_certificate() {
        let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let certificate = CertificateParams::default().self_signed(&own).unwrap();
        let certificate = certificate.pem();
        let of = |certificate: &str, key: &str| mismatch(certificate.as_bytes(), key.as_bytes());
        assert_eq!(of(&certificate, &own.serialize_pem()), None);
        assert_eq!(
            of(&certificate, &other.serialize_pem()),
            Some("private key does not match public key")
        );
        assert_eq!(
            of("", &own.serialize_pem()),
            Some("failed to find any PEM data in certificate input")
        );
        assert_eq!(
            of(&certificate, "x"),
            Some("failed to find any PEM data in key input")
        );
    }
}
