//! The authorities that the system trusts.

use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Where systems keep them, in the order in which Go looks.
const FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Read once: they are hundreds. Without any, handshakes fail: nobody is trusted by default.
pub(crate) fn authorities() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let file = FILES.iter().find_map(|file| std::fs::read(file).ok());
        Arc::new(usable(&file.unwrap_or_default()))
    };
    ROOTS.get_or_init(read).clone()
}

/// A root that this TLS cannot read is one less to trust.
fn usable(pem: &[u8]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem).flatten() {
        let _ = roots.add(certificate);
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_cannot_be_read_does_not_hide_the_others() {
        let key = rcgen::KeyPair::generate().unwrap();
        let root = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let root = root.self_signed(&key).unwrap().pem();
        let broken = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";
        assert_eq!(usable(format!("{broken}{root}").as_bytes()).len(), 1);
        assert!(usable(b"").is_empty());
    }
}
