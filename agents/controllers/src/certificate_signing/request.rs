//! What a certificate request says: read once, checked by [`super::rules`], and copied into the certificate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

/// A request that was read, with the parts of it that go into the certificate as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    der: Vec<u8>,
    /// The subject, DER. Not taken apart: a certificate is for exactly whom the request names.
    pub(super) subject: Vec<u8>,
    /// The public key with its algorithm, DER.
    pub(super) public_key: Vec<u8>,
    /// The last common name in the subject.
    pub(crate) common_name: String,
    /// The organizations in the subject.
    pub(crate) organizations: Vec<String>,
    pub(crate) names: Names,
}

/// Other names of the subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) dns: Vec<String>,
    pub(crate) emails: Vec<String>,
    /// Four or sixteen bytes.
    pub(crate) addresses: Vec<Vec<u8>>,
    pub(crate) uris: Vec<String>,
}

impl Request {
    /// Reads the field of a CertificateSigningRequest: PEM in base64.
    pub(crate) fn read(field: &str) -> Result<Self, String> {
        const TYPE: &str = "PEM block type must be CERTIFICATE REQUEST";
        let text = STANDARD.decode(field).map_err(|error| error.to_string())?;
        let mut blocks = Pem::iter_from_buffer(&text);
        let pem = blocks.next().and_then(Result::ok).ok_or(TYPE)?;
        if pem.label != "CERTIFICATE REQUEST" {
            return Err(TYPE.into());
        }
        Self::of_der(&pem.contents)
    }

    fn of_der(der: &[u8]) -> Result<Self, String> {
        let unreadable = |what: &str| format!("the certificate request is malformed: {what}");
        let (rest, read) = X509CertificationRequest::from_der(der)
            .map_err(|error| unreadable(&error.to_string()))?;
        if !rest.is_empty() {
            return Err(unreadable("trailing data"));
        }
        let info = &read.certification_request_info;
        let mut common_name = String::new();
        for name in info.subject.iter_common_name() {
            let text = name.as_str().map_err(|_| unreadable("common name"))?;
            text.clone_into(&mut common_name);
        }
        let organizations = info.subject.iter_organization();
        let organizations = organizations.map(|name| name.as_str().map(str::to_owned));
        let mut names = Names::default();
        for attribute in info.iter_attributes() {
            let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else {
                continue;
            };
            for extension in &asked.extensions {
                let is_read = match extension.parsed_extension() {
                    ParsedExtension::SubjectAlternativeName(all) => {
                        all.general_names.iter().all(|name| names.add(name))
                    }
                    ParsedExtension::ParseError { .. } => false,
                    _ => true,
                };
                if !is_read {
                    return Err(unreadable("extension"));
                }
            }
        }
        Ok(Self {
            der: der.to_vec(),
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            common_name,
            organizations: organizations
                .collect::<Result<_, _>>()
                .map_err(|_| unreadable("organization"))?,
            names,
        })
    }

    /// Whether who made it has the key that it is about.
    pub(super) fn verify(&self) -> Result<(), String> {
        let wrong =
            |error: String| format!("unable to verify certificate request signature: {error}");
        let (_, read) =
            X509CertificationRequest::from_der(&self.der).map_err(|e| wrong(e.to_string()))?;
        read.verify_signature().map_err(|e| wrong(e.to_string()))
    }
}

impl Names {
    /// Adds a name, if it is of the kinds that go into certificates. Whether it could be read.
    fn add(&mut self, name: &GeneralName<'_>) -> bool {
        match name {
            GeneralName::DNSName(name) => self.dns.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) if matches!(bytes.len(), 4 | 16) => {
                self.addresses.push(bytes.to_vec());
            }
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::IPAddress(_) | GeneralName::Invalid(..) => return false,
            _ => {}
        }
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
