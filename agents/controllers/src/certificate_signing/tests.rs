use super::*;
use crate::testing::{NOW, world_of};
use agent_runtime::{ControllerOptions, Signing};
use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, SanType};
use rules::{API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

const DAY: i64 = 24 * 60 * 60;

/// An authority that is valid for so many days after [`NOW`].
fn authority(days: i64) -> SigningPair {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "test-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let now = timestamp::parse(NOW).unwrap() / 1_000_000;
    let at = |seconds| time::OffsetDateTime::from_unix_timestamp(now + seconds).unwrap();
    (params.not_before, params.not_after) = (at(-DAY), at(days * DAY));
    SigningPair {
        certificate_pem: params.self_signed(&key).unwrap().pem(),
        key_pem: key.serialize_pem(),
    }
}

fn options(pair: Option<SigningPair>) -> Arc<ControllerOptions> {
    Arc::new(ControllerOptions {
        signing: Signing::by(pair),
        ..ControllerOptions::default()
    })
}

/// The names in a request: common name, organization, and what it is reached by.
fn pem(common_name: &str, organization: &str, names: &[SanType]) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, common_name);
    name.push(DnType::OrganizationName, organization);
    params.subject_alt_names = names.to_vec();
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

fn object(signer: &str, pem: &str, usages: &[&str], seconds: Option<i64>) -> Value {
    json!({
        "kind": "CertificateSigningRequest", "metadata": {"name": "r", "uid": "u"},
        "spec": {"signerName": signer, "request": STANDARD.encode(pem), "usages": usages, "expirationSeconds": seconds},
        "status": {"conditions": [{"type": "Approved", "status": "True"}]},
    })
}

fn plan(object: &Value, options: &Arc<ControllerOptions>) -> Plan {
    let world = world_of(std::slice::from_ref(object)).with_options(options.clone());
    reconcile(&Key::new("", "r"), &world)
}

/// What is written into the status.
fn status(object: &Value, options: &Arc<ControllerOptions>) -> Value {
    match plan(object, options).ops.as_slice() {
        [
            Op::Patch {
                subresource: Some("status"),
                body,
                ..
            },
        ] => body["status"].clone(),
        other => panic!("{other:?}"),
    }
}

fn certificate(object: &Value, options: &Arc<ControllerOptions>) -> Vec<u8> {
    let status = status(object, options);
    let pem = STANDARD
        .decode(status["certificate"].as_str().unwrap())
        .unwrap();
    x509_parser::pem::parse_x509_pem(&pem).unwrap().1.contents
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(Ia5String::try_from(name).unwrap())
}

fn address() -> SanType {
    SanType::IpAddress([10, 0, 0, 7].into())
}

#[test]
fn each_signer_has_its_rules_and_its_words() {
    const NODE: &str = "system:node:n1";
    const NODES: &str = "system:nodes";
    let client: &[&str] = &["digital signature", "client auth"];
    let both: &[&str] = &["digital signature", "key encipherment", "client auth"];
    let server: &[&str] = &["key encipherment", "digital signature", "server auth"];
    let email = SanType::Rfc822Name(Ia5String::try_from("a@b").unwrap());
    let uri = SanType::URI(Ia5String::try_from("spiffe://a").unwrap());
    let mails = [address(), email.clone()];
    let uris = [address(), uri.clone()];
    type Case<'a> = (
        &'a str,
        &'a str,
        &'a str,
        &'a [SanType],
        &'a [&'a str],
        &'a str,
    );
    let cases: &[Case] = &[
        (API_CLIENT, "jane", "dev", &[], client, ""),
        (API_CLIENT, "jane", "dev", &[], both, ""),
        (API_CLIENT, "jane", "dev", &[], &["client auth"], ""),
        (
            API_CLIENT,
            "jane",
            "dev",
            &[],
            &["digital signature"],
            "missing required usage for client certificate: client auth",
        ),
        (
            API_CLIENT,
            "jane",
            "dev",
            &[],
            server,
            "invalid usage for client certificate: server auth",
        ),
        (KUBELET_CLIENT, NODE, NODES, &[], client, ""),
        (KUBELET_CLIENT, NODE, NODES, &[], both, ""),
        (
            KUBELET_CLIENT,
            NODE,
            NODES,
            &[],
            &["client auth"],
            "usages did not match [client auth digital signature key encipherment]",
        ),
        (
            KUBELET_CLIENT,
            NODE,
            "dev",
            &[],
            client,
            "subject organization is not system:nodes",
        ),
        (
            KUBELET_CLIENT,
            "n1",
            NODES,
            &[],
            client,
            "subject common name does not begin with system:node:",
        ),
        (
            KUBELET_CLIENT,
            NODE,
            NODES,
            &[dns("n1")],
            client,
            "DNS subjectAltNames are not allowed",
        ),
        (
            KUBELET_CLIENT,
            NODE,
            NODES,
            &[address()],
            client,
            "IP subjectAltNames are not allowed",
        ),
        (
            KUBELET_CLIENT,
            NODE,
            NODES,
            std::slice::from_ref(&email),
            client,
            "Email subjectAltNames are not allowed",
        ),
        (
            KUBELET_CLIENT,
            NODE,
            NODES,
            std::slice::from_ref(&uri),
            client,
            "URI subjectAltNames are not allowed",
        ),
        (
            KUBELET_SERVING,
            NODE,
            NODES,
            &[dns("n1"), address()],
            server,
            "",
        ),
        (
            KUBELET_SERVING,
            NODE,
            NODES,
            &[],
            server,
            "DNS or IP subjectAltName is required",
        ),
        (
            KUBELET_SERVING,
            NODE,
            NODES,
            &mails,
            server,
            "Email subjectAltNames are not allowed",
        ),
        (
            KUBELET_SERVING,
            NODE,
            NODES,
            &uris,
            server,
            "URI subjectAltNames are not allowed",
        ),
        (
            KUBELET_SERVING,
            NODE,
            NODES,
            &[address()],
            client,
            "usages did not match [digital signature key encipherment server auth]",
        ),
        (
            KUBELET_SERVING,
            "n1",
            NODES,
            &[address()],
            server,
            "subject common name does not begin with system:node:",
        ),
        (LEGACY_UNKNOWN, "any", "any", &[dns("n1")], &["any"], ""),
    ];
    let options = options(Some(authority(3650)));
    for (signer, name, organization, names, usages, failure) in cases {
        let object = object(signer, &pem(name, organization, names), usages, None);
        let status = status(&object, &options);
        let condition = &status["conditions"][1];
        let case = format!("{signer} {name} {organization} {names:?} {usages:?}: {status}");
        if failure.is_empty() {
            assert!(status["certificate"].is_string(), "{case}");
            continue;
        }
        assert_eq!(condition["message"], *failure, "{case}");
        assert_eq!(condition["type"], "Failed");
        assert_eq!(condition["status"], "True");
        assert_eq!(condition["reason"], "SignerValidationFailure");
        assert_eq!(condition["lastUpdateTime"], NOW);
        assert_eq!(
            status["conditions"][0]["type"], "Approved",
            "the decision stays"
        );
    }
}

#[test]
fn a_certificate_says_what_was_asked_for_and_verifies() {
    let pair = authority(3650);
    let options = options(Some(pair.clone()));
    let usages = ["digital signature", "key encipherment", "server auth"];
    let names = [dns("n1.example"), address()];
    let request = pem("system:node:n1", "system:nodes", &names);
    let der = certificate(&object(KUBELET_SERVING, &request, &usages, None), &options);
    let (rest, read) = X509Certificate::from_der(&der).unwrap();
    assert!(rest.is_empty());
    let authority = x509_parser::pem::parse_x509_pem(pair.certificate_pem.as_bytes())
        .unwrap()
        .1;
    let authority = authority.parse_x509().unwrap();
    read.verify_signature(Some(authority.public_key()))
        .expect("signed by the authority");
    assert_eq!(read.issuer().as_raw(), authority.subject().as_raw());
    assert_eq!(
        read.subject().to_string(),
        "CN=system:node:n1, O=system:nodes"
    );
    let uses = read.key_usage().unwrap().unwrap();
    assert!(uses.critical && uses.value.digital_signature() && uses.value.key_encipherment());
    assert!(!uses.value.key_cert_sign() && !uses.value.key_agreement());
    let purposes = read.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && !purposes.client_auth && !purposes.any);
    let basic = read.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && !basic.value.ca);
    let names = read.subject_alternative_name().unwrap().unwrap();
    let names: Vec<_> = names
        .value
        .general_names
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["DNSName(n1.example)", "IPAddress(0a:00:00:07)"]);
    assert!(read.raw_serial().len() > 8);
}

#[test]
fn a_life_is_what_was_wished_within_bounds_and_begins_before_now() {
    let now = timestamp::parse(NOW).unwrap() / 1_000_000;
    for (wished, days, life) in [
        (None, 3650, 365 * DAY - 300),
        (Some(600), 3650, 600),
        (Some(1), 3650, 600),
        (Some(7 * 3600), 3650, 7 * 3600),
        (Some(8 * 3600), 3650, 8 * 3600 - 300),
        (Some(4000 * DAY), 36500, 365 * DAY - 300),
        (None, 100, 100 * DAY),
    ] {
        let object = object(
            API_CLIENT,
            &pem("jane", "dev", &[]),
            &["client auth"],
            wished,
        );
        let der = certificate(&object, &options(Some(authority(days))));
        let (_, read) = X509Certificate::from_der(&der).unwrap();
        let validity = read.validity();
        assert_eq!(validity.not_before.timestamp(), now - 300, "{wished:?}");
        assert_eq!(
            validity.not_after.timestamp(),
            now + life,
            "{wished:?} {days}"
        );
    }
}

/// Two organizations are two groups. Made with `openssl req -new -newkey rsa:2048 -nodes -subj /O=dev/O=ops/CN=jane`.
#[test]
fn a_request_with_several_groups_and_another_kind_of_key_loses_nothing() {
    let request = include_str!("two_groups.csr");
    let der = certificate(
        &object(API_CLIENT, request, &["client auth"], None),
        &options(Some(authority(3650))),
    );
    let (_, read) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(read.subject().to_string(), "O=dev, O=ops, CN=jane");
    assert_eq!(
        read.public_key().algorithm.algorithm.to_id_string(),
        "1.2.840.113549.1.1.1"
    );
}

#[test]
fn what_cannot_be_signed_now_waits_and_what_is_not_ours_is_left_alone() {
    let good = pem("jane", "dev", &[]);
    let request = object(API_CLIENT, &good, &["client auth"], None);
    let waiting = ["again in 30s"];
    assert_eq!(plan(&request, &options(None)).lines(), waiting);
    assert_eq!(
        plan(&request, &options(Some(authority(-1)))).lines(),
        waiting,
        "it has ended"
    );
    let mixed = SigningPair {
        key_pem: authority(1).key_pem,
        ..authority(3650)
    };
    assert_eq!(plan(&request, &options(Some(mixed))).lines(), waiting);
    let options = options(Some(authority(3650)));
    let none = |request: &Value| assert!(plan(request, &options).lines().is_empty(), "{request}");
    none(&object("example.com/other", &good, &["client auth"], None));
    none(&object(API_CLIENT, "nothing", &["client auth"], None));
    for status in [
        json!({}),
        json!({"conditions": [{"type": "Approved", "status": "True"}, {"type": "Failed", "status": "True"}]}),
        json!({"conditions": [{"type": "Denied", "status": "True"}]}),
        json!({"conditions": [{"type": "Approved", "status": "True"}], "certificate": "eA=="}),
    ] {
        let mut other = request.clone();
        other["status"] = status;
        none(&other);
    }
}

#[test]
fn a_request_that_its_key_did_not_sign_gets_nothing() {
    let text = pem("jane", "dev", &[]);
    let der = x509_parser::pem::parse_x509_pem(text.as_bytes())
        .unwrap()
        .1
        .contents;
    // Another name in the same place.
    let at = der.windows(4).position(|bytes| bytes == b"jane").unwrap();
    let mut forged = der;
    forged[at..at + 4].copy_from_slice(b"root");
    let body = STANDARD.encode(&forged);
    let text =
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
    let request = object(API_CLIENT, &text, &["client auth"], None);
    let options = options(Some(authority(3650)));
    assert_eq!(plan(&request, &options).lines(), ["again in 30s"]);
}
