use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::CertificateError;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::*;

/// What certificates here are for.
const NAME: &str = "hook.n.svc";

fn params() -> CertificateParams {
    CertificateParams::new(vec![NAME.to_owned()]).unwrap()
}

/// A certificate that has signed itself, as DER and PEM. It may be an authority.
fn own(change: impl FnOnce(&mut CertificateParams)) -> (CertificateDer<'static>, String) {
    let mut params = params();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    (made.der().clone(), made.pem())
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
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
    assert_eq!(verify(&certificate, &pem, NAME), Ok(()));
    let (leaf, leaf_pem) = own(|params| params.is_ca = IsCa::ExplicitNoCa);
    assert_eq!(verify(&leaf, &leaf_pem, NAME), Ok(()));
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
            NAME,
        ),
        CertificateError::Expired,
    );
    is(
        refused(
            |params| params.not_before = rcgen::date_time_ymd(3001, 1, 1),
            NAME,
        ),
        CertificateError::NotValidYet,
    );
    is(
        refused(
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            NAME,
        ),
        CertificateError::InvalidPurpose,
    );
    // Another one of the same make is not in the bundle.
    let (other, _) = own(|_| {});
    assert!(verify(&other, &pem, NAME).is_err());
}

#[test]
fn what_an_authority_of_the_bundle_signed_is_trusted_for_its_name() {
    let (authority, stranger) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let signed = params().signed_by(&key, &authority).unwrap();
    assert_eq!(verify(signed.der(), &authority.pem(), NAME), Ok(()));
    let both = format!("{}{}", stranger.pem(), authority.pem());
    assert_eq!(verify(signed.der(), &both, NAME), Ok(()));
    assert!(verify(signed.der(), &authority.pem(), "other.n.svc").is_err());
    assert!(verify(signed.der(), &stranger.pem(), NAME).is_err());
}

#[test]
fn a_bundle_has_certificates() {
    let config = |pem: &[u8]| client_config(Servers::Bundle(pem), None);
    assert_eq!(
        config(b"nothing").unwrap_err(),
        "unable to load root certificates: unable to parse bytes as PEM block"
    );
    let broken = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";
    assert!(config(broken.as_bytes()).is_err());
    assert!(check_bundle(broken.as_bytes()).is_err());
    assert!(config(b"").is_ok());
    // Whoever asks for authorities alone may have none.
    assert!(authorities(b"").unwrap().is_empty());
    assert!(authorities(broken.as_bytes()).is_err());
    assert_eq!(authorities(own(|_| {}).1.as_bytes()).unwrap().len(), 1);
}

#[test]
fn a_certificate_is_shown_with_its_own_key_or_not_at_all() {
    let key = KeyPair::generate().unwrap();
    let certificate = params().self_signed(&key).unwrap().pem();
    let shown = |certificate: &str, key: &str| {
        let identity = Some((certificate.as_bytes(), key.as_bytes()));
        let config = client_config(Servers::Anyone, identity)?;
        Ok::<bool, String>(config.client_auth_cert_resolver.has_certs())
    };
    assert_eq!(shown(&certificate, &key.serialize_pem()), Ok(true));
    let of_another = KeyPair::generate().unwrap().serialize_pem();
    for (certificate, key) in [
        (certificate.as_str(), of_another.as_str()),
        (certificate.as_str(), ""),
        ("", of_another.as_str()),
    ] {
        let error = shown(certificate, key).unwrap_err();
        assert!(error.starts_with("the client certificate: "), "{error}");
    }
    let nobody = client_config(Servers::Of(RootCertStore::empty()), None).unwrap();
    assert!(!nobody.client_auth_cert_resolver.has_certs());
}
