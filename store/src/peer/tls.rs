//! Mutual TLS between members, and who a certificate says its owner is.

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio::io::BufReader;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::env::{ByteStream, Network, Voucher};

/// The certificates of a member, as PEM.
#[derive(Clone)]
pub struct TlsIdentity {
    /// Authorities whose members are trusted.
    pub ca_pem: Vec<u8>,
    /// This member's certificate and, after it, intermediates.
    pub cert_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsIdentity(..)")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the peer {0} cannot be read as PEM")]
    Pem(&'static str, #[source] rustls::pki_types::pem::Error),
    #[error("the peer certificate, key and authority do not work together")]
    Setup(#[source] Error),
    #[error(
        "the peer certificate is not of this member: it needs the URI name {wanted}, it has {found}"
    )]
    WrongIdentity { wanted: String, found: String },
}

/// What a member's certificate says of it.
pub fn peer_uri(cluster_id: u64, member_id: u64) -> String {
    format!("spiffe://kontiki/{cluster_id:016x}/member/{member_id:016x}")
}

/// The member that a certificate names, if it is of this cluster.
pub fn member_of(certificate: &CertificateDer<'_>, cluster_id: u64) -> Option<u64> {
    let names = uris(certificate);
    let prefix = peer_uri(cluster_id, 0);
    let prefix = prefix.strip_suffix("0000000000000000")?;
    names
        .iter()
        .find_map(|uri| u64::from_str_radix(uri.strip_prefix(prefix)?, 16).ok())
}

fn uris(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return Vec::new();
    };
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    let uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            x509_parser::extensions::GeneralName::URI(uri) => Some(uri.to_string()),
            _ => None,
        });
    uris.collect()
}

/// Ready to dial and to listen.
pub struct Tls {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    cluster_id: u64,
    pub server: Arc<ServerConfig>,
}

const PROTOCOL: &[u8] = b"kontiki-peer/1";

impl Tls {
    pub fn new(identity: &TlsIdentity, cluster_id: u64, member_id: u64) -> Result<Tls, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for ca in CertificateDer::pem_slice_iter(&identity.ca_pem) {
            roots
                .add(ca.map_err(|error| TlsError::Pem("authority", error))?)
                .map_err(TlsError::Setup)?;
        }
        let roots = Arc::new(roots);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&identity.cert_pem).collect();
        let chain = chain.map_err(|error| TlsError::Pem("certificate", error))?;
        let key = PrivateKeyDer::from_pem_slice(&identity.key_pem)
            .map_err(|error| TlsError::Pem("key", error))?;
        if chain.first().and_then(|own| member_of(own, cluster_id)) != Some(member_id) {
            let found = chain
                .first()
                .map(|own| uris(own).join(", "))
                .unwrap_or_default();
            return Err(TlsError::WrongIdentity {
                wanted: peer_uri(cluster_id, member_id),
                found,
            });
        }
        let clients =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        let clients =
            clients.map_err(|error| TlsError::Setup(Error::General(error.to_string())))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Setup)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(TlsError::Setup)?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Tls {
            provider,
            roots,
            chain,
            key,
            cluster_id,
            server: Arc::new(server),
        })
    }

    /// For a connection to this member and no other.
    pub fn client(&self, member_id: u64) -> Result<Arc<ClientConfig>, TlsError> {
        let verifier = MemberVerifier {
            roots: self.roots.clone(),
            algorithms: self.provider.signature_verification_algorithms,
            cluster_id: self.cluster_id,
            member_id,
        };
        let mut client = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(TlsError::Setup)?;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Arc::new(client))
    }
}

/// The certificates of a member, which are replaced when their files are. Connections that are open go on with those that
/// they were made with.
pub struct Certificates {
    cluster_id: u64,
    member_id: u64,
    current: RwLock<Arc<Tls>>,
}

impl Certificates {
    fn new(
        identity: &TlsIdentity,
        cluster_id: u64,
        member_id: u64,
    ) -> Result<Certificates, TlsError> {
        Ok(Certificates {
            cluster_id,
            member_id,
            current: RwLock::new(Arc::new(Tls::new(identity, cluster_id, member_id)?)),
        })
    }

    fn current(&self) -> Arc<Tls> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn replace(&self, identity: &TlsIdentity) -> Result<(), TlsError> {
        let tls = Arc::new(Tls::new(identity, self.cluster_id, self.member_id)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = tls;
        Ok(())
    }
}

/// How the two ends of a connection know of each other who they are.
#[derive(Clone)]
pub enum Proof {
    Certificates(Arc<Certificates>),
    /// On a network that knows it by itself, see [`Network::voucher`].
    Network(Arc<dyn Voucher>),
}

impl Proof {
    pub fn new(
        network: &dyn Network,
        identity: &TlsIdentity,
        cluster_id: u64,
        member_id: u64,
    ) -> Result<Proof, TlsError> {
        Ok(match network.voucher() {
            Some(voucher) => Proof::Network(voucher),
            None => Proof::Certificates(Arc::new(Certificates::new(
                identity, cluster_id, member_id,
            )?)),
        })
    }

    /// From now on with these certificates. On an error those of before stay.
    pub fn replace(&self, identity: &TlsIdentity) -> Result<(), TlsError> {
        match self {
            Proof::Certificates(certificates) => certificates.replace(identity),
            Proof::Network(_) => Ok(()),
        }
    }

    /// Goes on only if it is this member that was dialled.
    pub async fn connect(
        &self,
        member_id: u64,
        address: &str,
        stream: Box<dyn ByteStream>,
    ) -> io::Result<Box<dyn ByteStream>> {
        match self {
            Proof::Network(voucher) if voucher.member_at(address) == Some(member_id) => Ok(stream),
            Proof::Network(_) => Err(io::Error::other("another member is there")),
            Proof::Certificates(certificates) => {
                let config = certificates
                    .current()
                    .client(member_id)
                    .map_err(io::Error::other)?;
                // The verifier goes by the member's id; the name only has to be well-formed.
                let name = ServerName::try_from("member.kontiki.internal");
                let name = name.map_err(io::Error::other)?;
                let stream = gathered(stream);
                let stream = TlsConnector::from(config).connect(name, stream).await?;
                Ok(Box::new(stream))
            }
        }
    }

    /// Answers which member of this cluster has dialled, if it is one.
    pub async fn accept(
        &self,
        cluster_id: u64,
        address: &str,
        stream: Box<dyn ByteStream>,
    ) -> io::Result<(Box<dyn ByteStream>, Option<u64>)> {
        match self {
            Proof::Network(voucher) => Ok((stream, voucher.member_at(address))),
            Proof::Certificates(certificates) => {
                let acceptor = TlsAcceptor::from(certificates.current().server.clone());
                let stream = acceptor.accept(gathered(stream)).await?;
                let chain = stream.get_ref().1.peer_certificates();
                let proved = chain.and_then(|chain| member_of(chain.first()?, cluster_id));
                Ok((Box::new(stream), proved))
            }
        }
    }
}

/// What is taken from the network at once, for TLS, which asks for 4 KiB at a time: a batch of writes is more.
const READ_BYTES: usize = 32 << 10;

fn gathered(stream: Box<dyn ByteStream>) -> BufReader<Box<dyn ByteStream>> {
    BufReader::with_capacity(READ_BYTES, stream)
}

/// Accepts exactly the certificate of one member. Addresses play no part: they change, ids do not. Otherwise it is
/// the standard verification of chain, validity and purpose.
#[derive(Debug)]
struct MemberVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    cluster_id: u64,
    member_id: u64,
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        if member_of(end_entity, self.cluster_id) != Some(self.member_id) {
            return Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            ));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("members speak TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_has_come_is_taken_at_once() {
        let (mut near, far) = tokio::io::duplex(READ_BYTES);
        near.write_all(&[1; 10_000]).await.unwrap();
        let mut far = gathered(Box::new(far));
        let mut first = [0; 4096];
        far.read_exact(&mut first).await.unwrap();
        assert_eq!(far.buffer().len(), 10_000 - first.len());
    }
}
