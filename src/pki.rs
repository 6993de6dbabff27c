//! The cluster's certificates: one authority for API clients and servers, a second one for the members' peer
//! traffic (so that no API certificate can ever speak Raft), and the key that signs service account tokens.
//! All keys are ECDSA P-256: signing is what a handshake costs, and RSA costs fifty times as much.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;

const AUTHORITY_DAYS: i64 = 3650;
const LEAF_DAYS: i64 = 365;
/// A certificate that ends sooner than this is issued anew by the next start.
const RENEW_DAYS: i64 = 60;

/// What a leaf certificate is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    Client,
    Server,
    Both,
}

/// One certificate to issue.
pub(crate) struct Leaf<'a> {
    pub(crate) common_name: &'a str,
    pub(crate) organization: Option<&'a str>,
    /// DNS names and IP addresses.
    pub(crate) names: Vec<String>,
    /// URIs, such as a member's identity.
    pub(crate) uris: Vec<String>,
    pub(crate) usage: Usage,
}

/// A certificate and its key on disk.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pair {
    pub(crate) fn in_dir(dir: &Path, name: &str) -> Pair {
        Pair {
            cert: dir.join(format!("{name}.crt")),
            key: dir.join(format!("{name}.key")),
        }
    }

    fn exists(&self) -> bool {
        self.cert.exists() && self.key.exists()
    }
}

/// Which certificates are issued anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Renew {
    /// Those that are missing, end soon, or do not fit what is wanted now.
    #[default]
    WhereNeeded,
    All,
}

impl Renew {
    pub(crate) fn all_if(all: bool) -> Renew {
        match all {
            true => Renew::All,
            false => Renew::WhereNeeded,
        }
    }
}

/// A certificate authority whose key is at hand.
pub(crate) struct Authority {
    pub(crate) pair: Pair,
    renew: Renew,
}

impl Authority {
    /// Opens `<dir>/<name>.crt` and `.key`, and makes them where they are missing. An authority without its key is an
    /// error: a new one under the same name would be trusted by nobody who knows the old one.
    pub(crate) fn open_or_create(dir: &Path, name: &str, common_name: &str) -> Result<Authority> {
        let pair = Pair::in_dir(dir, name);
        match (pair.cert.exists(), pair.key.exists()) {
            (true, true) => {}
            (true, false) => bail!(
                "{} is there but its key is not: put {} back, or remove the certificate too to make a new authority",
                pair.cert.display(),
                pair.key.display()
            ),
            // The key is written first, so this is a creation that was cut short: the same key goes on.
            (false, true) => {
                let key = KeyPair::from_pem(&read(&pair.key)?)
                    .with_context(|| format!("{} is not a private key", pair.key.display()))?;
                write_public(&pair.cert, self_signed(common_name, &key)?.as_bytes())?;
            }
            (false, false) => {
                create_private_dir(dir)?;
                let key = KeyPair::generate()?;
                write_secret(&pair.key, key.serialize_pem().as_bytes())?;
                write_public(&pair.cert, self_signed(common_name, &key)?.as_bytes())?;
            }
        }
        Ok(Authority {
            pair,
            renew: Renew::WhereNeeded,
        })
    }

    pub(crate) fn renewing(self, renew: Renew) -> Authority {
        Authority { renew, ..self }
    }

    /// Issues `leaf` to `pair`, unless a certificate of this authority with the same names and enough life left is
    /// there already.
    pub(crate) fn ensure(&self, pair: &Pair, leaf: &Leaf) -> Result<()> {
        let fits = || pair.exists() && !needs_renewal(pair, leaf, &self.pair).unwrap_or(true);
        if self.renew == Renew::WhereNeeded && fits() {
            return Ok(());
        }
        let authority_key = KeyPair::from_pem(&read(&self.pair.key)?)
            .with_context(|| format!("{} is not a private key", self.pair.key.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&read(&self.pair.cert)?, authority_key)
            .with_context(|| format!("{} is not a certificate", self.pair.cert.display()))?;
        let key = KeyPair::generate()?;
        let cert = leaf.params()?.signed_by(&key, &issuer)?;
        if let Some(dir) = pair.key.parent() {
            create_private_dir(dir)?;
        }
        write_secret(&pair.key, key.serialize_pem().as_bytes())?;
        write_public(&pair.cert, cert.pem().as_bytes())
    }
}

fn self_signed(common_name: &str, key: &KeyPair) -> Result<String> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    valid_for(&mut params, AUTHORITY_DAYS);
    Ok(params.self_signed(key)?.pem())
}

impl Leaf<'_> {
    fn params(&self) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(self.names.clone())?;
        for uri in &self.uris {
            params
                .subject_alt_names
                .push(SanType::URI(uri.as_str().try_into()?));
        }
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(organization) = self.organization {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization);
        }
        params
            .distinguished_name
            .push(DnType::CommonName, self.common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if self.usage != Usage::Server {
            params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
        }
        if self.usage != Usage::Client {
            params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, LEAF_DAYS);
        Ok(params)
    }
}

/// The key that signs service account tokens, shared by all members.
pub(crate) fn ensure_signing_key(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        create_private_dir(dir)?;
    }
    write_secret(path, KeyPair::generate()?.serialize_pem().as_bytes())
}

fn valid_for(params: &mut CertificateParams, days: i64) {
    // An hour back, for peers whose clock is a little behind.
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(days);
}

/// Whether the certificate ends soon, is of another authority or another key, or does not carry all the names that are
/// wanted now.
fn needs_renewal(pair: &Pair, leaf: &Leaf, authority: &Pair) -> Result<bool> {
    let pem = parse(&pair.cert)?;
    let cert = pem.parse_x509()?;
    let ends = cert.validity().not_after.to_datetime();
    if ends < OffsetDateTime::now_utc() + Duration::days(RENEW_DAYS) {
        return Ok(true);
    }
    let key = KeyPair::from_pem(&read(&pair.key)?)?;
    if cert.public_key().subject_public_key.data != key.public_key_raw() {
        return Ok(true);
    }
    let authority = parse(&authority.cert)?;
    if authority_key_id(&cert) != subject_key_id(&authority.parse_x509()?) {
        return Ok(true);
    }
    let mut present = Vec::new();
    if let Some(names) = cert.subject_alternative_name()? {
        for name in &names.value.general_names {
            match name {
                GeneralName::DNSName(dns) => present.push(dns.to_string()),
                GeneralName::URI(uri) => present.push(uri.to_string()),
                GeneralName::IPAddress(bytes) => {
                    if let Ok(v4) = <[u8; 4]>::try_from(*bytes) {
                        present.push(std::net::Ipv4Addr::from(v4).to_string());
                    } else if let Ok(v6) = <[u8; 16]>::try_from(*bytes) {
                        present.push(std::net::Ipv6Addr::from(v6).to_string());
                    }
                }
                _ => {}
            }
        }
    }
    Ok(leaf
        .names
        .iter()
        .chain(&leaf.uris)
        .any(|wanted| !present.contains(wanted)))
}

fn parse(cert: &Path) -> Result<Pem> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(read(cert)?.as_bytes())
        .map_err(|error| anyhow::anyhow!("{}: {error}", cert.display()))?;
    Ok(pem)
}

/// Until when the first certificate of a text is valid, in seconds since 1970.
pub(crate) fn end_of(pem: &str) -> Option<i64> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    Some(pem.parse_x509().ok()?.validity().not_after.timestamp())
}

/// Which key an authority has.
fn subject_key_id(cert: &X509Certificate) -> Option<Vec<u8>> {
    let mut extensions = cert.iter_extensions();
    extensions.find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

/// Which authority's key signed a certificate.
fn authority_key_id(cert: &X509Certificate) -> Option<Vec<u8>> {
    let mut extensions = cert.iter_extensions();
    extensions.find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => {
            id.key_identifier.as_ref().map(|id| id.0.to_vec())
        }
        _ => None,
    })
}

pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A directory that only its owner can enter.
pub(crate) fn create_private_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot create {}", dir.display()))
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_secret(path: &Path, content: &[u8]) -> Result<()> {
    write_with_mode(path, content, 0o600)
}

pub(crate) fn write_public(path: &Path, content: &[u8]) -> Result<()> {
    write_with_mode(path, content, 0o644)
}

fn write_with_mode(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let staged = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&staged);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&staged)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&staged, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(names: &[&str]) -> Leaf<'static> {
        Leaf {
            common_name: "kube-apiserver",
            organization: None,
            names: names.iter().map(|name| name.to_string()).collect(),
            uris: vec![],
            usage: Usage::Server,
        }
    }

    #[test]
    fn a_leaf_is_kept_until_its_names_change() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path(), "ca", "kontiki-ca").unwrap();
        let pair = Pair::in_dir(dir.path(), "server");
        authority
            .ensure(&pair, &leaf(&["localhost", "127.0.0.1"]))
            .unwrap();
        let first = read(&pair.cert).unwrap();
        authority.ensure(&pair, &leaf(&["localhost"])).unwrap();
        assert_eq!(first, read(&pair.cert).unwrap());
        authority
            .ensure(&pair, &leaf(&["localhost", "10.0.0.7"]))
            .unwrap();
        assert_ne!(first, read(&pair.cert).unwrap());
    }

    #[test]
    fn a_leaf_that_has_lost_its_key_is_issued_anew_and_so_are_all_when_that_is_wished() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path(), "ca", "kontiki-ca").unwrap();
        let pair = Pair::in_dir(dir.path(), "server");
        authority.ensure(&pair, &leaf(&["localhost"])).unwrap();
        let first = read(&pair.cert).unwrap();
        // As after a renewal that was cut short between its two files.
        let key = KeyPair::generate().unwrap().serialize_pem();
        write_secret(&pair.key, key.as_bytes()).unwrap();
        authority.ensure(&pair, &leaf(&["localhost"])).unwrap();
        let second = read(&pair.cert).unwrap();
        assert_ne!(first, second);
        authority.ensure(&pair, &leaf(&["localhost"])).unwrap();
        assert_eq!(second, read(&pair.cert).unwrap());
        let renewing = authority.renewing(Renew::All);
        renewing.ensure(&pair, &leaf(&["localhost"])).unwrap();
        assert_ne!(second, read(&pair.cert).unwrap());
    }

    #[test]
    fn keys_are_readable_by_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path(), "ca", "kontiki-ca").unwrap();
        let mode = fs::metadata(&authority.pair.key)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_authority_without_its_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Authority::open_or_create(dir.path(), "ca", "kontiki-ca");
        let authority = open().unwrap();
        let cert = read(&authority.pair.cert).unwrap();
        fs::remove_file(&authority.pair.key).unwrap();
        let Err(error) = open() else {
            panic!("a new authority was made");
        };
        assert!(error.to_string().contains("ca.key"), "{error}");
        assert_eq!(read(&authority.pair.cert).unwrap(), cert);
    }

    #[test]
    fn a_creation_that_was_cut_short_goes_on_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Authority::open_or_create(dir.path(), "ca", "kontiki-ca").unwrap();
        let authority = open();
        let pair = Pair::in_dir(dir.path(), "server");
        authority.ensure(&pair, &leaf(&["localhost"])).unwrap();
        let issued = read(&pair.cert).unwrap();
        fs::remove_file(&authority.pair.cert).unwrap();
        open().ensure(&pair, &leaf(&["localhost"])).unwrap();
        assert_eq!(read(&pair.cert).unwrap(), issued);
    }

    #[test]
    fn certificates_of_a_former_authority_are_issued_anew() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Authority::open_or_create(dir.path(), "ca", "kontiki-ca").unwrap();
        let authority = open();
        let pair = Pair::in_dir(dir.path(), "server");
        authority.ensure(&pair, &leaf(&["localhost"])).unwrap();
        let issued = read(&pair.cert).unwrap();
        fs::remove_file(&authority.pair.cert).unwrap();
        fs::remove_file(&authority.pair.key).unwrap();
        open().ensure(&pair, &leaf(&["localhost"])).unwrap();
        assert_ne!(read(&pair.cert).unwrap(), issued);
    }

    #[test]
    fn opening_an_authority_again_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open_or_create(dir.path(), "ca", "kontiki-ca").unwrap();
        let before = read(&first.pair.cert).unwrap();
        let second = Authority::open_or_create(dir.path(), "ca", "kontiki-ca").unwrap();
        assert_eq!(before, read(&second.pair.cert).unwrap());
    }
}
