use rcgen::{KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};

use super::*;
use crate::user::{EXTRA_CREDENTIAL_ID, EXTRA_NODE_NAME, EXTRA_POD_UID};

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn signer() -> Signer {
    Signer::from_pem(&KeyPair::generate().unwrap().serialize_pem(), ISSUER).unwrap()
}

fn verifier(signer: &Signer) -> Verifier {
    Verifier::new(vec![signer.public_key().clone()], vec![ISSUER.to_owned()])
}

fn api() -> Vec<String> {
    vec![ISSUER.to_owned(), "api".to_owned()]
}

fn reference(name: &str) -> Reference {
    Reference {
        name: name.to_owned(),
        uid: format!("{name}-uid"),
    }
}

fn request() -> Request {
    Request {
        namespace: "ns".into(),
        service_account: reference("bot"),
        pod: Some(reference("web")),
        secret: None,
        node: Some(reference("n1")),
        audiences: vec!["api".into(), "vault".into()],
        expiration_seconds: 600,
        for_api: true,
    }
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Signs whatever it is given.
fn forge(signer: &Signer, header: &Value, payload: &Value) -> String {
    let message = format!("{}.{}", part(header), part(payload));
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &signer.key, Algorithm::ES256).unwrap();
    format!("{message}.{signature}")
}

fn payload() -> Value {
    json!({"aud": ["api"], "exp": NOW + 600, "iat": NOW, "nbf": NOW, "iss": ISSUER, "jti": "1", "sub": "system:serviceaccount:ns:bot",
        "kubernetes.io": {"namespace": "ns", "serviceaccount": {"name": "bot", "uid": "bot-uid"}}})
}

#[test]
fn issued_tokens_verify() {
    let signer = signer();
    let token = signer.issue(&request(), NOW, "an-id").unwrap();
    let claims = verifier(&signer).verify(&token, &api(), NOW + 1).unwrap();
    assert_eq!(claims.aud, ["api"]);
    assert_eq!((claims.iat, claims.nbf, claims.exp), (NOW, NOW, NOW + 600));
    assert_eq!(claims.sub, "system:serviceaccount:ns:bot");
    let bound: Vec<_> = claims
        .bound()
        .into_iter()
        .map(|(resource, namespace, reference)| {
            format!(
                "{resource} {namespace}/{} {}",
                reference.name, reference.uid
            )
        })
        .collect();
    assert_eq!(
        bound,
        ["serviceaccounts ns/bot bot-uid", "pods ns/web web-uid"]
    );
    let user = claims.user();
    assert_eq!(
        (user.name.as_str(), user.uid.as_str()),
        ("system:serviceaccount:ns:bot", "bot-uid")
    );
    assert_eq!(
        user.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:ns",
            "system:authenticated"
        ]
    );
    assert_eq!(user.extra[EXTRA_CREDENTIAL_ID], ["JTI=an-id"]);
    assert_eq!(user.extra[EXTRA_POD_UID], ["web-uid"]);
    assert_eq!(user.extra[EXTRA_NODE_NAME], ["n1"]);
    assert!(verifier(&signer).may_be_ours(&token));
}

#[test]
fn injected_tokens_live_longer_than_they_say() {
    let signer = signer();
    let injected = Request {
        expiration_seconds: 3607,
        ..request()
    };
    let claims = |request: &Request| {
        verifier(&signer)
            .verify(&signer.issue(request, NOW, "1").unwrap(), &api(), NOW)
            .unwrap()
    };
    assert_eq!(claims(&injected).exp, NOW + 365 * 24 * 3600);
    assert_eq!(claims(&injected).kubernetes.warnafter, Some(NOW + 3607));
    assert_eq!(
        claims(&Request {
            for_api: false,
            ..injected.clone()
        })
        .exp,
        NOW + 3607
    );
    assert_eq!(
        claims(&Request {
            pod: None,
            ..injected
        })
        .kubernetes
        .warnafter,
        None
    );
}

#[test]
fn time_and_audience_bound_a_token() {
    let signer = signer();
    let verifier = verifier(&signer);
    let token = signer.issue(&request(), NOW, "1").unwrap();
    let verify = |audiences: &[String], now| verifier.verify(&token, audiences, now).map(|_| ());
    assert_eq!(verify(&api(), NOW + 600 + 60), Ok(()));
    assert_eq!(verify(&api(), NOW + 600 + 61), Err(Error::Expired));
    assert_eq!(verify(&api(), NOW - 60), Ok(()));
    assert_eq!(verify(&api(), NOW - 61), Err(Error::NotYetValid));
    assert_eq!(verify(&["vault".into()], NOW), Ok(()));
    assert_eq!(
        verify(&[], NOW),
        Err(Error::Audience {
            audiences: request().audiences,
            targets: vec![]
        })
    );
    assert_eq!(
        verify(&["other".into()], NOW).unwrap_err().to_string(),
        r#"token audiences ["api" "vault"] is invalid for the target audiences ["other"]"#
    );
    for now in [i64::MIN, i64::MAX] {
        assert!(verify(&api(), now).is_err());
    }
}

#[test]
fn keys_rotate() {
    let (old, new, foreign) = (signer(), signer(), signer());
    let both = Verifier::new(
        vec![new.public_key().clone(), old.public_key().clone()],
        vec![ISSUER.into()],
    );
    for signer in [&old, &new] {
        assert!(
            both.verify(&signer.issue(&request(), NOW, "1").unwrap(), &api(), NOW)
                .is_ok()
        );
    }
    let token = foreign.issue(&request(), NOW, "1").unwrap();
    assert_eq!(both.verify(&token, &api(), NOW), Err(Error::UnknownKey));
    // A foreign key under a known id, and a known key without an id.
    let header = json!({"alg": "ES256", "kid": old.public_key().id()});
    assert_eq!(
        both.verify(&forge(&foreign, &header, &payload()), &api(), NOW),
        Err(Error::Signature)
    );
    assert!(
        both.verify(
            &forge(&old, &json!({"alg": "ES256"}), &payload()),
            &api(),
            NOW
        )
        .is_ok()
    );
    assert_eq!(
        both.verify(
            &forge(&foreign, &json!({"alg": "ES256"}), &payload()),
            &api(),
            NOW
        ),
        Err(Error::Signature)
    );
}

#[test]
fn a_file_may_have_keys_that_are_only_accepted() {
    let keys: Vec<KeyPair> = (0..3).map(|_| KeyPair::generate().unwrap()).collect();
    let [new, old, older] = keys.as_slice() else {
        unreachable!("there are three")
    };
    let file = format!(
        "{}\n{}{}",
        new.serialize_pem(),
        old.serialize_pem(),
        older.public_key_pem()
    );
    let (signer, accepted) = signing_keys(&file, ISSUER).unwrap();
    let id = |key: &KeyPair| {
        let signer = Signer::from_pem(&key.serialize_pem(), ISSUER).unwrap();
        signer.public_key().id().to_owned()
    };
    assert_eq!(signer.public_key().id(), id(new));
    let ids: Vec<&str> = accepted.iter().map(PublicKey::id).collect();
    assert_eq!(ids, [id(old), id(older)]);
    for broken in [
        "",
        "no key",
        &format!("{file}-----BEGIN PUBLIC KEY-----\nMAo=\n"),
    ] {
        assert!(signing_keys(broken, ISSUER).is_err(), "{broken}");
    }
    // What signs moves to the front, what is known stays, and the oldest goes.
    let verifier = verifier(&signer);
    let ids = |verifier: &Verifier| -> Vec<String> {
        verifier.keys.iter().map(|key| key.id.clone()).collect()
    };
    let led = verifier.led_by(accepted);
    assert_eq!(ids(&led), [id(old), id(older), id(new)]);
    let many = (0..40).fold(led, |verifier, _| {
        verifier.led_by(vec![self::signer().public_key().clone()])
    });
    assert_eq!(many.keys.len(), KEYS_MAX);
    assert!(!ids(&many).contains(&id(new)));
}

#[test]
fn forged_tokens_are_refused() {
    let signer = signer();
    let verifier = verifier(&signer);
    let kid = signer.public_key().id();
    let good = forge(&signer, &json!({"alg": "ES256", "kid": kid}), &payload());
    assert!(verifier.verify(&good, &api(), NOW).is_ok());
    let unsigned = |header: Value| format!("{}.{}.", part(&header), part(&payload()));
    let mut other_payload = payload();
    other_payload["kubernetes.io"]["serviceaccount"]["name"] = "admin".into();
    let pieces: Vec<&str> = good.split('.').collect();
    let hmac = {
        // The public key as an HMAC secret, the classic confusion.
        let message = format!(
            "{}.{}",
            part(&json!({"alg": "HS256", "kid": kid})),
            part(&payload())
        );
        let secret = EncodingKey::from_secret(signer.public_key().x.as_bytes());
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &secret, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    };
    let table = [
        (unsigned(json!({"alg": "none"})), Error::Algorithm),
        (
            unsigned(json!({"alg": "None", "kid": kid})),
            Error::Algorithm,
        ),
        (
            unsigned(json!({"alg": "ES256", "kid": kid})),
            Error::Signature,
        ),
        (
            unsigned(json!({"alg": "RS256", "kid": kid})),
            Error::Algorithm,
        ),
        (unsigned(json!({"kid": kid})), Error::Malformed),
        (hmac, Error::Algorithm),
        (
            forge(
                &signer,
                &json!({"alg": "ES256", "kid": "../../etc/passwd"}),
                &payload(),
            ),
            Error::UnknownKey,
        ),
        (
            forge(
                &signer,
                &json!({"alg": "ES256", "kid": kid, "crit": ["b64"], "b64": false}),
                &payload(),
            ),
            Error::Algorithm,
        ),
        (
            forge(&signer, &json!({"alg": ["ES256"]}), &payload()),
            Error::Malformed,
        ),
        (
            format!("{}.{}.{}", pieces[0], part(&other_payload), pieces[2]),
            Error::Signature,
        ),
        (
            format!(
                "{}.{}.{}",
                pieces[0],
                pieces[1],
                URL_SAFE_NO_PAD.encode([0_u8; 64])
            ),
            Error::Signature,
        ),
        (format!("{good}x"), Error::Signature),
        (format!("{good}.x"), Error::Malformed),
        (good.replace('.', ""), Error::Malformed),
        (String::new(), Error::Malformed),
        ("..".into(), Error::Malformed),
        ("é.é.é".into(), Error::Malformed),
        ("a".repeat(1 << 20), Error::Malformed),
        // Well signed, but with claims that do not fit together.
        (
            forge(&signer, &json!({"alg": "ES256"}), &other_payload),
            Error::Subject,
        ),
        (
            forge(&signer, &json!({"alg": "ES256"}), &json!({"aud": "api"})),
            Error::Malformed,
        ),
        (
            forge(&signer, &json!({"alg": "ES256"}), &json!([])),
            Error::Malformed,
        ),
    ];
    for (token, error) in table {
        let shown: String = token.chars().take(60).collect();
        assert_eq!(verifier.verify(&token, &api(), NOW), Err(error), "{shown}");
    }
    let mut foreign_issuer = payload();
    foreign_issuer["iss"] = "https://evil".into();
    let token = forge(&signer, &json!({"alg": "ES256"}), &foreign_issuer);
    assert_eq!(verifier.verify(&token, &api(), NOW), Err(Error::Issuer));
    assert!(!verifier.may_be_ours(&token));
}

#[test]
fn documents_and_key_ids_are_those_of_kubernetes() {
    let pair = KeyPair::generate().unwrap();
    let signer = Signer::from_pem(&pair.serialize_pem(), ISSUER).unwrap();
    let expected = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info()));
    assert_eq!(signer.public_key().id(), expected);
    assert_eq!(
        PublicKey::from_pem(&pair.public_key_pem()).unwrap().id(),
        expected
    );
    let jwks = verifier(&signer).jwks();
    assert_eq!(jwks["keys"][0]["kid"], expected);
    assert_eq!(jwks["keys"][0]["crv"], "P-256");
    assert_eq!(
        verifier(&signer).openid_configuration("https://x/openid/v1/jwks")["issuer"],
        ISSUER
    );
}

#[test]
fn other_keys_are_refused() {
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    assert!(matches!(
        Signer::from_pem(&p384.serialize_pem(), ISSUER),
        Err(Error::Key)
    ));
    assert!(matches!(
        PublicKey::from_pem(&p384.public_key_pem()),
        Err(Error::Key)
    ));
    for pem in [
        "",
        "x",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ] {
        assert!(matches!(Signer::from_pem(pem, ISSUER), Err(Error::Key)));
    }
}
