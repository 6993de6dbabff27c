//! The identity of a member that takes the place of a lost one. Its id, which the cluster chose, goes into its
//! environment and into its certificate; etcd's members need neither.

use std::fs;

use anyhow::{Context, Result};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::cluster::Cluster;

pub(super) fn become_member(cluster: &Cluster, index: usize, old: u64, new: u64) -> Result<()> {
    let folder = cluster.folder(index);
    let file = folder.join("server.env");
    let environment = fs::read_to_string(&file)?;
    let uri = member_uri(&environment, new).context("server.env has no cluster id")?;
    fs::write(&file, renamed(&environment, old, new))?;

    let pki = cluster.pki();
    let key = KeyPair::from_pem(&fs::read_to_string(pki.join("peer-ca.key"))?)?;
    let authority = fs::read_to_string(pki.join("peer-ca.crt"))?;
    let authority = Issuer::from_ca_cert_pem(&authority, key)?;
    let mut leaf = CertificateParams::new(["127.0.0.1".to_string(), "localhost".to_string()])?;
    leaf.subject_alt_names
        .push(SanType::URI(uri.as_str().try_into()?));
    leaf.distinguished_name = rcgen::DistinguishedName::new();
    leaf.distinguished_name
        .push(DnType::CommonName, "new-member");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &authority)?;
    let own = folder.join("pki");
    fs::write(own.join("peer.crt"), certificate.pem())?;
    fs::write(own.join("peer.key"), key.serialize_pem())?;
    Ok(())
}

/// The name that a certificate must have to be the member's.
fn member_uri(environment: &str, id: u64) -> Option<String> {
    let line = |name: &str| environment.lines().find_map(|line| line.strip_prefix(name));
    let cluster = u64::from_str_radix(line("KONTIKI_CLUSTER_ID=")?, 16).ok()?;
    Some(format!("spiffe://kontiki/{cluster:016x}/member/{id:016x}"))
}

fn renamed(environment: &str, old: u64, new: u64) -> String {
    environment.replace(&format!("={old:x}"), &format!("={new:x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVIRONMENT: &str = "KONTIKI_NAME=b\nKONTIKI_MEMBER_ID=2f\nKONTIKI_CLUSTER_ID=ab\n\
                               KONTIKI_INITIAL_MEMBERS=a=1f@127.0.0.1:1,b=2f@127.0.0.1:2\n";

    #[test]
    fn a_new_id_stands_wherever_the_old_one_did() {
        let text = renamed(ENVIRONMENT, 0x2f, 0x7e);
        assert!(text.contains("MEMBER_ID=7e\n"), "{text}");
        assert!(text.contains("a=1f@127.0.0.1:1,b=7e@127.0.0.1:2"), "{text}");
    }

    #[test]
    fn a_certificate_names_cluster_and_member() {
        let uri = "spiffe://kontiki/00000000000000ab/member/000000000000007e";
        assert_eq!(member_uri(ENVIRONMENT, 0x7e).as_deref(), Some(uri));
        assert_eq!(member_uri("", 0x7e), None);
    }
}
