//! Client certificates: asked for in the handshake, judged per request.
//!
//! A certificate that the cluster's CA did not sign is a 401 with a Status, as in Kubernetes, and not a broken
//! handshake that tells the user nothing. So the TLS layer accepts any chain (it only makes sure that the client holds
//! the key), and what it accepted means nothing until [`Trust::verify`] has seen it.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use auth::User;
use rustls::DigitallySignedStruct;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};

/// Chains whose verification is remembered; they are forgotten together when there are more.
const KNOWN_MAX: usize = 4_096;

/// What the client showed in the handshake, the leaf first. A request extension. Not verified against any CA.
#[derive(Clone, Debug)]
pub struct PeerCertificate {
    chain: Arc<[CertificateDer<'static>]>,
    /// Of all requests of the connection.
    known: Arc<Mutex<Option<Known>>>,
}

/// Whom the last request that was let in was found to come from.
#[derive(Debug)]
struct Known {
    by: Arc<Trust>,
    user: Arc<User>,
    /// Unix seconds.
    lifetime: RangeInclusive<i64>,
}

impl PeerCertificate {
    pub fn new(chain: impl Into<Arc<[CertificateDer<'static>]>>) -> PeerCertificate {
        PeerCertificate {
            chain: chain.into(),
            known: Arc::default(),
        }
    }

    /// Until when the certificate is valid, once a user was found by it, in Unix seconds.
    pub(crate) fn valid_until(&self) -> Option<i64> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map(|known| *known.lifetime.end())
    }
}

/// The verifier for a listener: asks for a certificate, accepts none and any. `inner` checks the signatures of the
/// handshake and names the CAs to the client.
pub fn ask_client_certificate(inner: Arc<dyn ClientCertVerifier>) -> Arc<dyn ClientCertVerifier> {
    Arc::new(Ask(inner))
}

#[derive(Debug)]
struct Ask(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Ask {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The CAs whose certificates identify users.
#[derive(Debug)]
pub(crate) struct Trust {
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Digests of chains that were verified: a connection's thousandth request costs a hash, not a signature.
    known: Mutex<HashSet<[u8; 32]>>,
}

impl Trust {
    /// Without a usable CA no certificate is trusted.
    pub(crate) fn new(ca_pem: &str) -> Trust {
        Trust::of(ca_pem).unwrap_or_else(|error| {
            tracing::warn!(error, "no client certificate is trusted");
            Trust {
                verifier: None,
                known: Mutex::default(),
            }
        })
    }

    /// An error unless every certificate of `ca_pem` is usable, and there is one.
    pub(crate) fn of(ca_pem: &str) -> Result<Trust, String> {
        let roots = trust::authorities(ca_pem.as_bytes())
            .map_err(|error| format!("an authority of clients is not usable: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| format!("the authorities of clients are not usable: {error}"))?;
        Ok(Trust {
            verifier: Some(verifier),
            known: Mutex::default(),
        })
    }

    /// The user whom the certificate names, when a CA of the cluster stands behind it and it is valid `now`. A connection's
    /// thousandth request costs a look at what its first one found out.
    pub(crate) fn user(
        self: &Arc<Self>,
        peer: &PeerCertificate,
        now: i64,
    ) -> Result<Arc<User>, String> {
        let mut known = peer.known.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |known: &&Known| Arc::ptr_eq(&known.by, self) && known.lifetime.contains(&now);
        if let Some(known) = known.as_ref().filter(holds) {
            return Ok(known.user.clone());
        }
        let leaf = self.verify(peer).map_err(|error| error.to_string())?;
        let found = auth::x509::user_and_lifetime(leaf, now);
        let (user, lifetime) = found.map_err(|error| error.to_string())?;
        let user = Arc::new(user.authenticated());
        *known = Some(Known {
            by: self.clone(),
            user: user.clone(),
            lifetime,
        });
        Ok(user)
    }

    /// The leaf, when a CA of the cluster stands behind it. Its validity in time is the caller's to check again with
    /// every request.
    pub(crate) fn verify<'a>(
        &self,
        peer: &'a PeerCertificate,
    ) -> Result<&'a CertificateDer<'static>, rustls::Error> {
        let (leaf, intermediates) = peer
            .chain
            .split_first()
            .ok_or(rustls::Error::NoCertificatesPresented)?;
        let mut hasher = Sha256::new();
        for certificate in peer.chain.iter() {
            hasher.update((certificate.len() as u64).to_be_bytes());
            hasher.update(certificate);
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(&digest) {
            return Ok(leaf);
        }
        let verifier = self
            .verifier
            .as_ref()
            .ok_or(rustls::Error::NoCertificatesPresented)?;
        verifier.verify_client_cert(leaf, intermediates, UnixTime::now())?;
        let mut known = known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(digest);
        Ok(leaf)
    }
}
