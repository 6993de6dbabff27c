//! The file that says which resources are stored encrypted, and with which keys: Kubernetes' `EncryptionConfiguration`
//! (`apiserver.config.k8s.io/v1`), with its precedence, limits and texts.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::cipher::Kind;
use super::pattern::{Pattern, check_order, patterns};
use super::provider::{Key, Provider};

/// Why a configuration is refused; says what is wrong where, and nothing of a key.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum EncryptionError {
    #[error("the encryption configuration is not an EncryptionConfiguration: {0}")]
    Unreadable(String),
    #[error("the encryption configuration is invalid: {0}")]
    Invalid(String),
}

/// What is stored encrypted, and with which keys. Nothing, by default.
#[derive(Default)]
pub struct Encryption {
    rules: Vec<Rule>,
}

struct Rule {
    resources: Vec<Pattern>,
    providers: Vec<Provider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    kind: String,
    api_version: String,
    #[serde(default)]
    resources: Vec<FileRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<FileProvider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileProvider {
    aesgcm: Option<FileKeys>,
    aescbc: Option<FileKeys>,
    secretbox: Option<FileKeys>,
    identity: Option<Nothing>,
    kms: Option<Unsupported>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// A provider of Kubernetes that this server has not.
type Unsupported = serde::de::IgnoredAny;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKeys {
    #[serde(default)]
    keys: Vec<FileKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret: String,
}

const API_VERSION: &str = "apiserver.config.k8s.io/v1";
const KIND: &str = "EncryptionConfiguration";
/// What Kubernetes once wrote in its documentation, and takes since.
const FORMER: (&str, &str) = ("v1", "EncryptionConfig");

/// Base64 as Go reads it: what is left over in the last letter does not matter.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

impl Encryption {
    /// Reads a configuration in YAML or JSON.
    pub fn parse(text: &str) -> Result<Encryption, EncryptionError> {
        let mut options = serde_saphyr::Options::default();
        // A part of the text in the error might be a key.
        options.with_snippet = false;
        let file: File = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| EncryptionError::Unreadable(error.to_string()))?;
        let is = (file.api_version.as_str(), file.kind.as_str());
        if is != (API_VERSION, KIND) && is != FORMER {
            return Err(EncryptionError::Unreadable(format!(
                "it is a {:?} of {:?}; expected is a {KIND} of {API_VERSION}",
                file.kind, file.api_version
            )));
        }
        if file.resources.is_empty() {
            return Err(at_least_one("resources", "resources"));
        }
        let rules = file.resources.iter().enumerate();
        let rules = rules.map(|(at, rule)| self::rule(rule, &format!("resources[{at}]")));
        let rules = rules.collect::<Result<Vec<Rule>, _>>()?;
        check_order(rules.iter().map(|rule| rule.resources.as_slice()))?;
        Ok(Encryption { rules })
    }

    /// The providers of a resource, the one that writes first; none where nothing is said of it.
    pub(super) fn providers(&self, group: &str, plural: &str) -> Vec<&Provider> {
        let fits = |pattern: &&Pattern| pattern.fits(group, plural);
        let best = |rule: &Rule| rule.resources.iter().filter(fits).max().cloned();
        let Some(holds) = self.rules.iter().filter_map(best).max() else {
            return Vec::new();
        };
        // Rules of the same pattern are one after the other.
        let rules = self
            .rules
            .iter()
            .filter(|rule| rule.resources.contains(&holds));
        rules.flat_map(|rule| &rule.providers).collect()
    }
}

/// What is wrong with what stands at `path`.
pub(super) fn invalid(path: &str, what: &str) -> EncryptionError {
    EncryptionError::Invalid(format!("{path}: {what}"))
}

fn at_least_one(path: &str, of: &str) -> EncryptionError {
    invalid(
        path,
        &format!("Required value: at least one {of} is required"),
    )
}

fn rule(rule: &FileRule, path: &str) -> Result<Rule, EncryptionError> {
    let (resources, providers) = (format!("{path}.resources"), format!("{path}.providers"));
    if rule.resources.is_empty() {
        return Err(at_least_one(&resources, &resources));
    }
    if rule.providers.is_empty() {
        return Err(at_least_one(&providers, &providers));
    }
    let list = rule.providers.iter().enumerate();
    let list = list.map(|(at, one)| provider(one, &format!("{providers}[{at}]")));
    Ok(Rule {
        resources: patterns(&rule.resources, &resources)?,
        providers: list.collect::<Result<_, _>>()?,
    })
}

fn provider(provider: &FileProvider, path: &str) -> Result<Provider, EncryptionError> {
    let mut found: Vec<Provider> = Vec::new();
    for (kind, file) in [
        (Kind::AesGcm, &provider.aesgcm),
        (Kind::AesCbc, &provider.aescbc),
        (Kind::Secretbox, &provider.secretbox),
    ] {
        if let Some(file) = file {
            let keys = self::keys(kind, file, &format!("{path}.{}.keys", kind.name()))?;
            found.push(Provider::Keyed { kind, keys });
        }
    }
    found.extend(provider.identity.as_ref().map(|_| Provider::Identity));
    if provider.kms.is_some() {
        return Err(invalid(
            &format!("{path}.kms"),
            "Forbidden: this server has the providers aesgcm, aescbc, secretbox and identity; let a kube-apiserver write the \
             objects with one of them before they come here",
        ));
    }
    match found.pop() {
        None => Err(invalid(
            path,
            "Invalid value: {\"AESGCM\":null,\"AESCBC\":null,\"Secretbox\":null,\"Identity\":null,\"KMS\":null}: provider does not \
             contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity",
        )),
        Some(_) if !found.is_empty() => Err(invalid(
            path,
            "Invalid value: more than one provider specified in a single element, should split into different list elements",
        )),
        Some(provider) => Ok(provider),
    }
}

fn keys(kind: Kind, file: &FileKeys, path: &str) -> Result<Vec<Key>, EncryptionError> {
    if file.keys.is_empty() {
        return Err(at_least_one(path, "keys"));
    }
    let keys = file.keys.iter().enumerate();
    let keys = keys.map(|(at, key)| self::key(kind, key, &format!("{path}[{at}]")));
    keys.collect()
}

fn key(kind: Kind, key: &FileKey, path: &str) -> Result<Key, EncryptionError> {
    let mandatory = |field: &str| {
        let what = format!("Required value: {field} is a mandatory field for a key");
        invalid(&format!("{path}.{field}"), &what)
    };
    if key.name.is_empty() {
        return Err(mandatory("name"));
    }
    if key.secret.is_empty() {
        return Err(mandatory("secret"));
    }
    let path = format!("{path}.secret");
    // As a block of YAML it ends with a newline, which Go does not mind.
    let letters: String = key
        .secret
        .chars()
        .filter(|c| !"\r\n".contains(*c))
        .collect();
    let not_base64 = "Invalid value: \"REDACTED\": secrets must be base64 encoded";
    let secret = BASE64
        .decode(letters)
        .map_err(|_| invalid(&path, not_base64))?;
    Key::new(kind, &key.name, &secret).ok_or_else(|| {
        let (is, lengths) = (secret.len(), kind.key_lengths());
        let lengths: Vec<String> = lengths.iter().map(usize::to_string).collect();
        let lengths = lengths.join(" ");
        invalid(
            &path,
            &format!(
                "Invalid value: \"REDACTED\": secret is not of the expected length, got {is}, expected one of [{lengths}]"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn file(rules: &str) -> Result<Encryption, EncryptionError> {
        Encryption::parse(&format!(
            "apiVersion: {API_VERSION}\nkind: {KIND}\nresources:\n{rules}"
        ))
    }

    fn refusal(rules: &str) -> String {
        file(rules).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_most_specific_rule_holds() {
        let keys =
            |name: &str| format!("[{{aesgcm: {{keys: [{{name: {name}, secret: {SECRET}}}]}}}}]");
        let rules = [
            ("[secrets, jobs.batch]", keys("one")),
            ("[secrets]", "[{identity: {}}]".to_owned()),
            ("['*.apps', '*.']", keys("group")),
            ("['*.*']", keys("all")),
        ]
        .map(|(resources, providers)| {
            format!("- resources: {resources}\n  providers: {providers}\n")
        })
        .concat();
        let encryption = file(&rules).unwrap();
        let names = |group: &str, plural: &str| -> Vec<String> {
            let providers = encryption.providers(group, plural);
            let name = |provider: &&Provider| match provider {
                Provider::Identity => "identity".to_owned(),
                Provider::Keyed { keys, .. } => {
                    let mut parts = keys[0].prefix().split(':');
                    parts.nth(4).unwrap_or_default().to_owned()
                }
            };
            providers.iter().map(name).collect()
        };
        assert_eq!(names("", "secrets"), ["one", "identity"]);
        assert_eq!(names("", "configmaps"), ["group"]);
        assert_eq!(names("apps", "deployments"), ["group"]);
        assert_eq!(names("batch", "jobs"), ["one"]);
        assert_eq!(names("batch", "cronjobs"), ["all"]);
        assert!(Encryption::default().providers("", "secrets").is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_where_it_is() {
        let key = |name: &str, secret: &str| {
            format!(
                "- resources: [secrets]\n  providers: [{{aesgcm: {{keys: [{{name: '{name}', secret: '{secret}'}}]}}}}]"
            )
        };
        let short = "resources[0].providers[0].aesgcm.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 3, expected one of [16 24 32]";
        for (rules, part) in [
            (key("k", "QUJD"), short),
            (key("k", "%"), "secrets must be base64 encoded"),
            (
                key("", SECRET),
                "keys[0].name: Required value: name is a mandatory field for a key",
            ),
            (
                "- resources: [secrets]\n  providers: [{aescbc: {keys: []}}]".into(),
                "resources[0].providers[0].aescbc.keys: Required value: at least one keys is required",
            ),
            (
                key("a", SECRET).replace("aesgcm", "secretbox").replace(SECRET, "QUJD"),
                "secretbox.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 3, expected one of [32]",
            ),
            (
                key("a", "QUJD").replace("aesgcm", "aescbc"),
                "got 3, expected one of [16 24 32]",
            ),
            (
                "- resources: [secrets]\n  providers: [{aescbc: {keys: [{name: a, secret: AAECAwQFBgcICQoLDA0ODw==}]}, identity: {}}]".into(),
                "more than one provider specified in a single element",
            ),
            (
                "- resources: ['*.']\n  providers: [{identity: {}}]\n- resources: [secrets]\n  providers: [{identity: {}}]".into(),
                "resource \"secrets\" is masked by earlier rule \"*.\"",
            ),
            (
                "- resources: [secrets]\n  providers: []".into(),
                "at least one resources[0].providers is required",
            ),
            (
                "- resources: []\n  providers: [{identity: {}}]".into(),
                "at least one resources[0].resources is required",
            ),
            (
                "- resources: ['*']\n  providers: [{identity: {}}]".into(),
                "resources[0].resources[0]: Invalid value: \"*\": use '*.' to encrypt all",
            ),
            (
                "- resources: [secrets]\n  providers: [{}]".into(),
                "does not contain any",
            ),
            (
                "- resources: [secrets]\n  providers: [{kms: {name: a}}]".into(),
                "providers[0].kms: Forbidden",
            ),
            (
                "- resources: [secrets]\n  providers: [{rot13: {}}]".into(),
                "rot13",
            ),
        ] {
            let text = refusal(&rules);
            assert!(text.contains(part), "{rules}: {text}");
            assert!(!text.contains(SECRET), "{text}");
        }
        let text = Encryption::parse("kind: Secret\napiVersion: v1").err();
        assert!(text.unwrap().to_string().contains("expected is a"));
    }

    /// A file as Kubernetes' documentation has it, with all that its reader lets pass.
    #[test]
    fn a_file_of_a_kube_apiserver_is_taken_as_it_is() {
        let rules = format!(
            "- resources: [secrets]
  providers:
  - secretbox:
      keys:
      - name: a:b
        secret: |
          {SECRET}
  - aescbc:
      keys:
      - name: key1
        secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYX
      - name: key1
        secret: AAECAwQFBgcICQoLDA0ODx==
  - aesgcm:
      keys: [{{name: key1, secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYX}}]
  - identity: {{}}
"
        );
        let former = Encryption::parse(&format!(
            "kind: EncryptionConfig\napiVersion: v1\nresources:\n{rules}"
        ));
        for encryption in [file(&rules), former] {
            let encryption = encryption.unwrap();
            let prefixes: Vec<Vec<&str>> = encryption
                .providers("", "secrets")
                .into_iter()
                .map(|provider| match provider {
                    Provider::Identity => vec![],
                    Provider::Keyed { keys, .. } => keys.iter().map(Key::prefix).collect(),
                })
                .collect();
            let cbc = "k8s:enc:aescbc:v1:key1:";
            assert_eq!(
                prefixes,
                [
                    vec!["k8s:enc:secretbox:v1:a:b:"],
                    vec![cbc, cbc],
                    vec!["k8s:enc:aesgcm:v1:key1:"],
                    vec![]
                ]
            );
        }
    }
}
