//! TLS towards servers: whom to take for the one that is meant, and who we are to it.
//!
//! Below all others, since API server and agents call out alike, and neither sees the other's crates. It is made of bytes
//! only: where certificates come from, what they are called in messages to users, and all sockets are the callers'.
//! What it says about authorities is what Go's client of Kubernetes says, for which users search.

mod anyone;
mod bundle;
mod identity;
mod system;

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::{ClientConfig, RootCertStore};

use anyone::Anyone;
use bundle::{OfBundle, bundle, unusable};
pub use bundle::{authorities, check_bundle};
pub use identity::Identity;

/// Whom to take for the server.
#[derive(Clone, Debug)]
pub enum Servers<'a> {
    /// Whoever answers, as long as it has the key of the certificate that it shows.
    Anyone,
    /// Who has a certificate of these authorities, or one of these very certificates; PEM. Where it is empty, those of the
    /// system are meant.
    Bundle(&'a [u8]),
    /// Who has a certificate of these authorities. Where there is none, nobody.
    Of(RootCertStore),
}

/// TLS towards them, with the certificate and the key that are shown there, PEM. What comes after the handshake (ALPN) is
/// left to who calls.
pub fn client_config(
    servers: Servers<'_>,
    identity: Option<(&[u8], &[u8])>,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let anyone = Anyone(provider.signature_verification_algorithms);
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match servers {
        Servers::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(anyone)),
        Servers::Bundle([]) => builder.with_root_certificates(system::authorities()),
        Servers::Bundle(pem) => {
            let (roots, own) = bundle(pem)?;
            let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            let chains = chains.build().map_err(|error| unusable(&error))?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(OfBundle { chains, own }))
        }
        Servers::Of(roots) => builder.with_root_certificates(roots),
    };
    let Some((certificate, key)) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let unusable = |error: String| format!("the client certificate: {error}");
    let Identity { chain, key } = Identity::of_pem(certificate, key).map_err(unusable)?;
    let config = builder.with_client_auth_cert(chain, key);
    config.map_err(|error| unusable(error.to_string()))
}

#[cfg(test)]
mod tests;
