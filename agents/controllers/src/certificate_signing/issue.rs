//! The certificate itself.
//!
//! It is put together byte by byte, since the subject and the key of the request have to be in it as they are: one with two
//! organizations is a member of two groups, and any kind of key is somebody's. A library that takes names apart and puts
//! them together again keeps neither.

use super::request::{Names, Request};
use agent_runtime::SigningPair;
use agent_runtime::timestamp::{Micros, seconds};
use rcgen::{KeyPair, SigningKey};
use std::time::Duration;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

/// For peers whose clock is behind.
const BACKDATE: Micros = seconds(5 * 60);
/// Certificates of a shorter life get all of it from now on, longer ones have been valid for a while already.
const SHORT: Micros = seconds(8 * 60 * 60);
/// Nobody asks for less; less would be over almost as soon as it begins.
const LIFE_MIN: Micros = seconds(10 * 60);

/// What besides the request goes into a certificate.
pub(crate) struct Terms<'a> {
    pub(crate) usages: &'a [String],
    /// How long it is wished to be valid.
    pub(crate) seconds: Option<i64>,
    /// How long it may be at the most.
    pub(crate) longest: Duration,
    pub(crate) now: Micros,
    pub(crate) serial: u128,
}

/// Signs a certificate; the answer is PEM.
pub(crate) fn issue(
    request: &Request,
    pair: &SigningPair,
    terms: &Terms,
) -> Result<String, String> {
    request.verify()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(pair.certificate_pem.as_bytes())
        .map_err(|error| format!("the authority's certificate: {error}"))?;
    let (_, authority) = X509Certificate::from_der(&pem.contents)
        .map_err(|error| format!("the authority's certificate: {error}"))?;
    let key = KeyPair::from_pem(&pair.key_pem)
        .map_err(|_| "the authority's key cannot be used: it has to be in PKCS #8".to_owned())?;
    if authority.public_key().subject_public_key.data != key.public_key_raw() {
        return Err("the authority's certificate and key do not belong together".into());
    }
    let ends = authority.validity().not_after.timestamp();
    let (from, until) = validity(terms, seconds(ends))?;
    let algorithm = algorithm(&key)?;
    let body = sequence(&[
        // Version 3.
        tlv(0xa0, &tlv(0x02, &[2])),
        integer(terms.serial),
        algorithm.to_vec(),
        authority.subject().as_raw().to_vec(),
        sequence(&[moment(from)?, moment(until)?]),
        request.subject.clone(),
        request.public_key.clone(),
        tlv(0xa3, &sequence(&extensions(request, &authority, terms)?)),
    ]);
    let signature = key
        .sign(&body)
        .map_err(|_| "the authority's key does not sign".to_owned())?;
    let whole = sequence(&[body, algorithm.to_vec(), bits(&signature, 0)]);
    Ok(pem_text(&whole))
}

/// From when until when, in microseconds; not beyond the end of the authority.
fn validity(terms: &Terms, authority_ends: Micros) -> Result<(Micros, Micros), String> {
    let longest = i64::try_from(terms.longest.as_micros()).unwrap_or(i64::MAX);
    let life = match terms.seconds.map(seconds) {
        Some(wished) => wished.max(LIFE_MIN).min(longest),
        None => longest,
    };
    let taken = if life < SHORT { 0 } else { BACKDATE };
    let until = terms.now.saturating_add(life - taken).min(authority_ends);
    if until <= terms.now {
        return Err(
            "refusing to sign a certificate that expired in the past: the authority has ended"
                .into(),
        );
    }
    Ok((terms.now - BACKDATE, until))
}

fn extensions(
    request: &Request,
    authority: &X509Certificate<'_>,
    terms: &Terms,
) -> Result<Vec<Vec<u8>>, String> {
    let (uses, purposes) = uses(terms.usages)?;
    let mut all = Vec::new();
    if uses != 0 {
        all.push(extension(&[0x55, 0x1d, 0x0f], true, &use_bits(uses)));
    }
    if !purposes.is_empty() {
        let ids: Vec<_> = purposes.iter().map(|id| tlv(0x06, id)).collect();
        all.push(extension(&[0x55, 0x1d, 0x25], false, &sequence(&ids)));
    }
    // Not an authority.
    all.push(extension(&[0x55, 0x1d, 0x13], true, &sequence(&[])));
    let key_id =
        authority
            .iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
                _ => None,
            });
    if let Some(id) = key_id {
        let id = sequence(&[tlv(0x80, id)]);
        all.push(extension(&[0x55, 0x1d, 0x23], false, &id));
    }
    if !request.names.is_empty() {
        // Who has no other name is known by these alone, and whoever checks has to understand them.
        let is_alone = request.subject == sequence(&[]);
        let names = sequence(&general_names(&request.names));
        all.push(extension(&[0x55, 0x1d, 0x11], is_alone, &names));
    }
    Ok(all)
}

fn general_names(names: &Names) -> Vec<Vec<u8>> {
    let dns = names.dns.iter().map(|name| tlv(0x82, name.as_bytes()));
    let emails = names.emails.iter().map(|name| tlv(0x81, name.as_bytes()));
    let addresses = names.addresses.iter().map(|bytes| tlv(0x87, bytes));
    let uris = names.uris.iter().map(|uri| tlv(0x86, uri.as_bytes()));
    dns.chain(emails).chain(addresses).chain(uris).collect()
}

/// The bits of `keyUsage`, and the object identifiers of `extKeyUsage`, of these usages.
fn uses(usages: &[String]) -> Result<(u16, Vec<&'static [u8]>), String> {
    const PKIX: [u8; 7] = [0x2b, 6, 1, 5, 5, 7, 3];
    const fn pkix(last: u8) -> [u8; 8] {
        let [a, b, c, d, e, f, g] = PKIX;
        [a, b, c, d, e, f, g, last]
    }
    static PURPOSES: [(&str, &[u8]); 13] = [
        ("any", &[0x55, 0x1d, 0x25, 0]),
        ("server auth", &pkix(1)),
        ("client auth", &pkix(2)),
        ("code signing", &pkix(3)),
        ("email protection", &pkix(4)),
        ("s/mime", &pkix(4)),
        ("ipsec end system", &pkix(5)),
        ("ipsec tunnel", &pkix(6)),
        ("ipsec user", &pkix(7)),
        ("timestamping", &pkix(8)),
        ("ocsp signing", &pkix(9)),
        ("microsoft sgc", &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 10, 3, 3]),
        (
            "netscape sgc",
            &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1],
        ),
    ];
    let (mut bits, mut purposes, mut unknown) = (0, Vec::new(), Vec::new());
    for usage in usages {
        bits |= match usage.as_str() {
            "signing" | "digital signature" => 1 << 15,
            "content commitment" => 1 << 14,
            "key encipherment" => 1 << 13,
            "data encipherment" => 1 << 12,
            "key agreement" => 1 << 11,
            "cert sign" => 1 << 10,
            "crl sign" => 1 << 9,
            "encipher only" => 1 << 8,
            "decipher only" => 1 << 7,
            usage => {
                match PURPOSES.iter().find(|(name, _)| *name == usage) {
                    Some((_, id)) if purposes.contains(id) => {}
                    Some((_, id)) => purposes.push(*id),
                    None => unknown.push(format!("{usage:?}")),
                }
                0
            }
        };
    }
    if unknown.is_empty() {
        return Ok((bits, purposes));
    }
    Err(format!(
        "unrecognized usage values: [{}]",
        unknown.join(" ")
    ))
}

/// A bit string without trailing zeros, as DER wants named bits.
fn use_bits(uses: u16) -> Vec<u8> {
    let [first, second] = uses.to_be_bytes();
    match second {
        0 => bits(&[first], first.trailing_zeros()),
        _ => bits(&[first, second], second.trailing_zeros()),
    }
}

/// How the authority signs, DER.
fn algorithm(key: &KeyPair) -> Result<&'static [u8], String> {
    let known: [(&rcgen::SignatureAlgorithm, &[u8]); 4] = [
        (
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
        ),
        (
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
        ),
        (&rcgen::PKCS_ED25519, &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70]),
        (
            &rcgen::PKCS_RSA_SHA256,
            &[
                0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 11, 5, 0,
            ],
        ),
    ];
    let found = known
        .iter()
        .find(|(algorithm, _)| *algorithm == key.algorithm());
    found
        .map(|(_, der)| *der)
        .ok_or_else(|| "the authority has a kind of key that is not known here".into())
}

/// A time: with two digits of the year until 2049, with four later.
fn moment(micros: Micros) -> Result<Vec<u8>, String> {
    let at = OffsetDateTime::from_unix_timestamp(micros.div_euclid(1_000_000))
        .map_err(|_| "a time that cannot be written".to_owned())?;
    let (month, day) = (u8::from(at.month()), at.day());
    let (hour, minute, second) = at.to_hms();
    let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    Ok(match at.year() {
        year @ 1950..2050 => tlv(0x17, format!("{:02}{rest}", year % 100).as_bytes()),
        year => tlv(0x18, format!("{year:04}{rest}").as_bytes()),
    })
}

fn extension(id: &[u8], is_critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if is_critical {
        tlv(0x01, &[0xff])
    } else {
        vec![]
    };
    sequence(&[tlv(0x06, id), critical, tlv(0x04, value)])
}

/// A positive number.
fn integer(number: u128) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let skipped = bytes.iter().take_while(|byte| **byte == 0).count();
    let mut content = bytes[skipped..].to_vec();
    if content.first().is_none_or(|first| *first >= 0x80) {
        content.insert(0, 0);
    }
    tlv(0x02, &content)
}

/// A bit string of whose last byte so many bits do not count.
fn bits(bytes: &[u8], unused: u32) -> Vec<u8> {
    let unused = u8::try_from(unused).unwrap_or(0) & 7;
    tlv(0x03, &[&[unused], bytes].concat())
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// A tag, the length, and so many bytes.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let skipped = length.iter().take_while(|byte| **byte == 0).count();
            let significant = &length[skipped..];
            out.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
            out.extend(significant);
        }
    }
    out.extend(content);
    out
}

fn pem_text(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
