//! Certificate requests (PKCS #10) as they stand in CertificateSigningRequests: whether one can be read, and whether its key is
//! one. Whose it is and whether it is signed with that key is looked at by whoever signs it, as in Kubernetes.

use x509_parser::prelude::{FromDer, X509CertificationRequest};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

const RSA: &str = "1.2.840.113549.1.1.1";
const EC: &str = "1.2.840.10045.2.1";
const ED25519: &str = "1.3.101.112";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
/// The curves that Go knows, with the bytes of a coordinate.
const CURVES: &[(&str, usize)] = &[
    ("1.3.132.0.33", 28),
    (P256, 32),
    (P384, 48),
    ("1.3.132.0.35", 66),
];

/// Why this is no certificate request, in the words of Go's parser.
pub(super) fn broken(der: &[u8]) -> Option<&'static str> {
    match super::certificate::sequence_bytes(der) {
        None => return Some("asn1: structure error: malformed certificate request"),
        Some(bytes) if bytes > der.len() => return Some("asn1: syntax error: data truncated"),
        Some(bytes) if bytes < der.len() => return Some("asn1: syntax error: trailing data"),
        Some(_) => {}
    }
    let Ok((_, request)) = X509CertificationRequest::from_der(der) else {
        return Some("asn1: structure error: malformed certificate request");
    };
    broken_key(&request.certification_request_info.subject_pki)
}

/// A key of another algorithm is nobody's business here.
fn broken_key(key: &SubjectPublicKeyInfo<'_>) -> Option<&'static str> {
    let algorithm = &key.algorithm;
    let bytes = &*key.subject_public_key.data;
    match algorithm.algorithm.to_id_string().as_str() {
        RSA => match key.parsed() {
            Ok(PublicKey::RSA(key)) if !is_positive(key.modulus) => {
                Some("x509: RSA modulus is not a positive number")
            }
            Ok(PublicKey::RSA(key)) if !is_positive(key.exponent) => {
                Some("x509: RSA public exponent is not a positive number")
            }
            Ok(_) => None,
            Err(_) => Some("x509: invalid RSA public key"),
        },
        EC => {
            let curve = algorithm.parameters.as_ref().map(|any| any.as_oid());
            let Some(Ok(curve)) = curve else {
                return Some("x509: invalid ECDSA parameters");
            };
            let curve = curve.to_id_string();
            let Some((_, size)) = CURVES.iter().find(|(known, _)| *known == curve) else {
                return Some("x509: unsupported elliptic curve");
            };
            let is_uncompressed = bytes.len() == 2 * size + 1 && bytes[0] == 4;
            let is_point = is_uncompressed && is_on_curve(&curve, bytes);
            (!is_point).then_some("x509: failed to unmarshal elliptic curve point")
        }
        ED25519 if algorithm.parameters.is_some() => {
            Some("x509: Ed25519 key encoded with illegal parameters")
        }
        ED25519 if bytes.len() != 32 => Some("x509: wrong Ed25519 public key size"),
        _ => None,
    }
}

/// Whether an uncompressed point is one of the curve. Nothing here can tell of P-224 and P-521, which count as good: nobody
/// issues certificates for them without having looked at the request's signature.
fn is_on_curve(curve: &str, point: &[u8]) -> bool {
    match curve {
        P256 => p256::PublicKey::from_sec1_bytes(point).is_ok(),
        P384 => p384::PublicKey::from_sec1_bytes(point).is_ok(),
        _ => true,
    }
}

/// Of an integer in DER.
fn is_positive(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| *first < 0x80) && bytes.iter().any(|byte| *byte != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use p384::elliptic_curve::sec1::ToEncodedPoint;

    fn request() -> Vec<u8> {
        let pem = STANDARD
            .decode(super::super::tests::SIGNING_REQUEST)
            .unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        pem.contents
    }

    #[test]
    fn a_request_is_one_as_a_whole() {
        let good = request();
        assert_eq!(broken(&good), None);
        assert_eq!(
            broken(&good[..good.len() - 1]),
            Some("asn1: syntax error: data truncated")
        );
        let longer = [&good[..], &[0]].concat();
        assert_eq!(broken(&longer), Some("asn1: syntax error: trailing data"));
        for junk in [&b""[..], b"0", b"0\x03\x02\x01\x00", b"hello"] {
            assert!(broken(junk).is_some(), "{junk:?}");
        }
    }

    #[test]
    fn its_key_is_a_point_of_a_curve_that_is_known() {
        let good = request();
        let change = |from: &[u8], at: usize, to: u8| {
            let mut changed = good.clone();
            let start = changed.windows(from.len()).position(|part| part == from);
            changed[start.unwrap() + at] = to;
            broken(&changed)
        };
        let curve = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        assert_eq!(
            change(&curve, 7, 9),
            Some("x509: unsupported elliptic curve")
        );
        let point = [0x03, 0x42, 0x00, 0x04];
        let text = "x509: failed to unmarshal elliptic curve point";
        assert_eq!(change(&point, 3, 5), Some(text));
        let start = good.windows(4).position(|part| part == point).unwrap();
        for at in [4, 67] {
            let other = good[start + at] ^ 1;
            assert_eq!(change(&point, at, other), Some(text), "not on the curve");
        }
        let generator = p384::AffinePoint::GENERATOR.to_encoded_point(false);
        let mut large = generator.as_bytes().to_vec();
        assert!(is_on_curve(P384, &large));
        large[96] ^= 1;
        assert!(!is_on_curve(P384, &large));
        assert!(!is_positive(&[]) && !is_positive(&[0, 0]) && !is_positive(&[0x80]));
        assert!(is_positive(&[0, 0x80]) && is_positive(&[3]));
    }
}
