//! Client certificates: the cluster's CA makes users, any other CA makes 401.

use apiserver::PeerCertificate;
use http::{Method, Request};
use kv::mem::MemStore;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

use crate::server::{Answer, Server};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn client(authority: &Authority, name: &str, group: &str) -> PeerCertificate {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
        .distinguished_name
        .push(DnType::OrganizationName, group);
    params
        .extended_key_usages
        .push(ExtendedKeyUsagePurpose::ClientAuth);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    PeerCertificate::new([certificate.der().clone()])
}

async fn ask(server: &Server, peer: PeerCertificate, token: Option<&str>) -> Answer {
    let mut request = Request::builder()
        .method(Method::GET)
        .uri("/api/v1/nodes")
        .extension(peer);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    server.read(request.body(Default::default()).unwrap()).await
}

#[tokio::test]
async fn only_the_cluster_ca_names_users() {
    let (own, other) = (authority(), authority());
    let server = Server::with(MemStore::new(), own.pem()).await;
    for _ in 0..2 {
        ask(&server, client(&own, "root", "system:masters"), None)
            .await
            .ok();
    }
    let nobody = ask(&server, client(&own, "ann", "dev"), None).await;
    assert!(nobody.refused().2.contains("User \"ann\" cannot list"));
    let foreign = client(&other, "root", "system:masters");
    let refused = ask(&server, foreign.clone(), None).await;
    assert_eq!(refused.refused(), (401, "Unauthorized", "Unauthorized"));
    let by_token = ask(&server, foreign, Some("jane-token")).await;
    assert!(by_token.refused().2.contains("User \"jane\" cannot list"));
    let empty = PeerCertificate::new([]);
    assert_eq!(ask(&server, empty, None).await.refused().0, 401);
}
