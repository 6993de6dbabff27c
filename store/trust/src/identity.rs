//! What one proves with who one is.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate, and its key.
pub struct Identity {
    /// The certificate first, then those between it and its authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// Of the first certificate, if whoever gave it has made no mistake.
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads both from PEM.
    pub fn of_pem(certificate: &[u8], key: &[u8]) -> Result<Identity, String> {
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| error.to_string())?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("its key: {error}"))?;
        Ok(Identity { chain, key })
    }
}
