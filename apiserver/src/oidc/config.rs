//! The file of `--authentication-config`, as `apiserver.config.k8s.io` has it: read, judged with the texts of Kubernetes, and
//! compiled.

mod compile;
mod file;

use std::collections::BTreeSet;

use http::Uri;
use schema::field::{FieldError, Path, aggregate};

use super::claims::Mapping;
use crate::config_file;
use compile::mapping;
use file::{AnonymousFile, File, IssuerFile};

const ISSUERS_MAX: usize = 64;

/// Who may come without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anonymous {
    pub(crate) enabled: bool,
    /// Only for these paths; for all where there is none.
    pub(crate) paths: Vec<String>,
}

impl Anonymous {
    pub(crate) fn of(enabled: bool) -> Anonymous {
        Anonymous {
            enabled,
            paths: Vec::new(),
        }
    }

    pub(crate) fn may_ask(&self, path: &str) -> bool {
        self.enabled && (self.paths.is_empty() || self.paths.iter().any(|one| one == path))
    }
}

/// One issuer of tokens, ready but for its keys.
#[derive(Debug)]
pub(crate) struct IssuerSettings {
    pub(crate) url: String,
    /// Where the discovery document is.
    pub(crate) discovery_url: String,
    pub(crate) ca_pem: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) mapping: Mapping,
}

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) issuers: Vec<IssuerSettings>,
    /// None where the file says nothing about it.
    pub(crate) anonymous: Option<Anonymous>,
}

/// Reads the file; `own_issuers` are those of service account tokens, which nobody else may issue for.
pub(crate) fn parse(text: &str, own_issuers: &[String]) -> Result<Settings, String> {
    let file: File = config_file::read(text)?;
    let mut errors = Vec::new();
    let path = Path::new("jwt");
    if file.jwt.len() > ISSUERS_MAX {
        errors.push(FieldError::too_many(&path, file.jwt.len(), ISSUERS_MAX));
    }
    let mut urls = BTreeSet::new();
    let mut issuers = Vec::new();
    for (index, jwt) in file.jwt.into_iter().enumerate() {
        let path = path.index(index);
        let issuer_path = path.child("issuer");
        let url_path = issuer_path.child("url");
        if !urls.insert(jwt.issuer.url.clone()) {
            errors.push(FieldError::duplicate(&url_path, jwt.issuer.url.as_str()));
        }
        if own_issuers.contains(&jwt.issuer.url) {
            let text = format!(
                "URL must not overlap with disallowed issuers: [{}]",
                own_issuers.join(" ")
            );
            errors.push(FieldError::invalid(
                &url_path,
                jwt.issuer.url.as_str(),
                text,
            ));
        }
        issuer(&jwt.issuer, &issuer_path, &mut errors);
        let mapping = mapping(&jwt, &path, &mut errors);
        let discovery = match jwt.issuer.discovery_url.as_str() {
            "" => format!(
                "{}/.well-known/openid-configuration",
                jwt.issuer.url.trim_end_matches('/')
            ),
            given => given.to_owned(),
        };
        issuers.extend(mapping.map(|mapping| IssuerSettings {
            url: jwt.issuer.url,
            discovery_url: discovery,
            ca_pem: jwt.issuer.certificate_authority,
            audiences: jwt.issuer.audiences,
            mapping,
        }));
    }
    let anonymous = file.anonymous.map(|it| anonymous(it, &mut errors));
    if !errors.is_empty() {
        return Err(aggregate(&errors));
    }
    Ok(Settings { issuers, anonymous })
}

fn anonymous(file: AnonymousFile, errors: &mut Vec<FieldError>) -> Anonymous {
    let path = Path::new("anonymous").child("conditions");
    if !file.enabled && !file.conditions.is_empty() {
        let text = "enabled should be set to true when conditions are defined";
        errors.push(FieldError::invalid(&path, file.conditions.len(), text));
    }
    Anonymous {
        enabled: file.enabled,
        paths: file.conditions.into_iter().map(|it| it.path).collect(),
    }
}

fn issuer(issuer: &IssuerFile, path: &Path, errors: &mut Vec<FieldError>) {
    let url_path = path.child("url");
    match issuer.url.as_str() {
        "" => errors.push(FieldError::required(&url_path, "URL is required")),
        url => check_url(url, &url_path, errors),
    }
    if !issuer.discovery_url.is_empty() {
        let path = path.child("discoveryURL");
        let same = |a: &str, b: &str| a.trim_end_matches('/') == b.trim_end_matches('/');
        if same(&issuer.discovery_url, &issuer.url) {
            let text = "discoveryURL must be different from URL";
            errors.push(FieldError::invalid(
                &path,
                issuer.discovery_url.as_str(),
                text,
            ));
        }
        check_url(&issuer.discovery_url, &path, errors);
    }
    let audiences = path.child("audiences");
    if issuer.audiences.is_empty() {
        let text = "at least one jwt.issuer.audiences is required";
        errors.push(FieldError::required(&audiences, text));
    }
    let mut known = BTreeSet::new();
    for (index, audience) in issuer.audiences.iter().enumerate() {
        let path = audiences.index(index);
        if audience.is_empty() {
            errors.push(FieldError::required(&path, "audience can't be empty"));
        }
        if !known.insert(audience) {
            errors.push(FieldError::duplicate(&path, audience.as_str()));
        }
    }
    let policy = path.child("audienceMatchPolicy");
    match (
        issuer.audience_match_policy.as_str(),
        issuer.audiences.len(),
    ) {
        ("MatchAny", _) | ("", 0 | 1) => {}
        ("", _) => {
            let text = "audienceMatchPolicy must be set to MatchAny for multiple audiences";
            errors.push(FieldError::invalid(&policy, "", text));
        }
        (other, _) => errors.push(FieldError::not_supported(&policy, other, &["MatchAny"])),
    }
    if !issuer.egress_selector_type.is_empty() {
        let path = path.child("egressSelectorType");
        let text = "there is no egress selector configuration here";
        errors.push(FieldError::invalid(
            &path,
            issuer.egress_selector_type.as_str(),
            text,
        ));
    }
    let bundle = issuer.certificate_authority.as_bytes();
    if !bundle.is_empty()
        && let Err(error) = trust::check_bundle(bundle)
    {
        errors.push(FieldError::invalid(
            &path.child("certificateAuthority"),
            "<omitted>",
            error,
        ));
    }
}

fn check_url(url: &str, path: &Path, errors: &mut Vec<FieldError>) {
    let mut wrong = |text: &str| errors.push(FieldError::invalid(path, url, text));
    if url.contains('#') {
        return wrong("URL must not contain a fragment");
    }
    let Ok(parsed) = url.parse::<Uri>() else {
        return wrong("URL cannot be parsed");
    };
    if parsed.scheme_str() != Some("https") || parsed.host().is_none_or(str::is_empty) {
        wrong("URL scheme must be https");
    }
    if parsed
        .authority()
        .is_some_and(|it| it.as_str().contains('@'))
    {
        wrong("URL must not contain a username or password");
    }
    if parsed.query().is_some() {
        wrong("URL must not contain a query");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_file::API_VERSIONS;
    use serde_json::{Value, json};

    /// What is wrong with a file with this issuer; JSON is YAML.
    fn problem(change: impl FnOnce(&mut Value)) -> String {
        let mut jwt = json!({
            "issuer": {"url": "https://issuer.example", "audiences": ["a"]},
            "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
        });
        change(&mut jwt);
        let kind = "AuthenticationConfiguration";
        let file = json!({"apiVersion": API_VERSIONS[0], "kind": kind, "jwt": [jwt]});
        let own = ["https://own.example".to_owned()];
        parse(&file.to_string(), &own).err().unwrap_or_default()
    }

    #[test]
    fn issuers_are_judged_with_the_texts_of_kubernetes() {
        assert_eq!(problem(|_| {}), "");
        for (field, value, text) in [
            (
                "url",
                json!(""),
                "jwt[0].issuer.url: Required value: URL is required",
            ),
            (
                "url",
                json!("http://issuer.example"),
                "URL scheme must be https",
            ),
            (
                "url",
                json!("https://u:p@issuer.example"),
                "must not contain a username or password",
            ),
            (
                "url",
                json!("https://issuer.example?a=b"),
                "URL must not contain a query",
            ),
            (
                "url",
                json!("https://issuer.example#a"),
                "URL must not contain a fragment",
            ),
            (
                "url",
                json!("https://own.example"),
                "must not overlap with disallowed issuers",
            ),
            (
                "discoveryURL",
                json!("https://issuer.example/"),
                "must be different from URL",
            ),
            (
                "audiences",
                json!([]),
                "at least one jwt.issuer.audiences is required",
            ),
            (
                "audiences",
                json!(["a", "a"]),
                "jwt[0].issuer.audiences[1]: Duplicate value",
            ),
            (
                "audiences",
                json!(["a", "b"]),
                "must be set to MatchAny for multiple audiences",
            ),
            (
                "audienceMatchPolicy",
                json!("MatchAll"),
                "Unsupported value: \"MatchAll\"",
            ),
            (
                "certificateAuthority",
                json!("x"),
                "jwt[0].issuer.certificateAuthority: Invalid value",
            ),
            ("unknown", json!("x"), "unknown"),
        ] {
            let found = problem(|jwt| jwt["issuer"][field] = value.clone());
            assert!(found.contains(text), "{field} {value}: {found}");
        }
    }

    #[test]
    fn mappings_and_rules_are_judged_with_the_texts_of_kubernetes() {
        let username = |value: Value| ("claimMappings", json!({ "username": value }));
        let extra = |key: &str| {
            let extra = json!([{"key": key, "valueExpression": "claims.x"}]);
            (
                "claimMappings",
                json!({"username": {"claim": "sub", "prefix": ""}, "extra": extra}),
            )
        };
        for ((field, value), text) in [
            (
                username(json!({})),
                "username: Required value: claim or expression is required",
            ),
            (
                username(json!({"claim": "sub"})),
                "prefix is required when claim is set",
            ),
            (
                username(json!({"claim": "sub", "prefix": "", "expression": "claims.sub"})),
                "can't both be set",
            ),
            (
                username(json!({"prefix": "p", "expression": "claims.sub"})),
                "prefix can't be set when expression is set",
            ),
            (
                username(json!({"expression": "claims.sub +"})),
                "compilation failed",
            ),
            (
                username(json!({"expression": "1 + 1"})),
                "must evaluate to string",
            ),
            (
                username(json!({"expression": "claims.email"})),
                "claims.email_verified must be used",
            ),
            (
                username(json!({"expression": "claims['email']"})),
                "claims.email_verified must be used",
            ),
            (extra("foo"), "must be a domain-prefixed path"),
            (extra("a.k8s.io/foo"), "are reserved for Kubernetes use"),
            (extra("example.com/Foo"), "key must be lowercase"),
            (
                ("claimValidationRules", json!([{}])),
                "claim or expression is required",
            ),
            (
                (
                    "claimValidationRules",
                    json!([{"claim": "a", "message": "m"}]),
                ),
                "message can't be set when claim is set",
            ),
            (
                (
                    "claimValidationRules",
                    json!([{"expression": "claims.a"}, {"expression": "claims.a"}]),
                ),
                "Duplicate value",
            ),
            (
                (
                    "userValidationRules",
                    json!([{"expression": "user.name == 'x'"}]),
                ),
                "userValidationRules[0].expression",
            ),
            (
                (
                    "userValidationRules",
                    json!([{"expression": "user.username"}]),
                ),
                "must evaluate to bool",
            ),
        ] {
            let found = problem(|jwt| jwt[field] = value.clone());
            assert!(found.contains(text), "{field} {value}: {text}: {found}");
        }
        let verified = "claims.email_verified ? claims.email : claims.sub";
        let (field, value) = username(json!({ "expression": verified }));
        assert_eq!(problem(|jwt| jwt[field] = value), "");
    }
}
