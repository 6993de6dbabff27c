//! From the claims of a token to a user, by what the configuration says; pure.

use auth::User;
use cel::types::Type;
use cel::{Environment, Program, Value, Variables};
use serde_json::{Map, Value as Json, json};

/// Where a part of the user comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Claim { name: String, prefix: String },
    Expression(Program),
}

/// What a token has to say.
#[derive(Debug)]
pub(crate) enum ClaimRule {
    Value { claim: String, value: String },
    Expression(Rule),
}

/// An expression that has to be true.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) program: Program,
    pub(crate) expression: String,
    pub(crate) message: String,
}

/// The compiled rules and mappings of an issuer.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) claim_rules: Vec<ClaimRule>,
    pub(crate) username: Source,
    pub(crate) groups: Option<Source>,
    pub(crate) uid: Option<Source>,
    pub(crate) extra: Vec<(String, Program)>,
    pub(crate) user_rules: Vec<Rule>,
}

/// What expressions about claims may name.
pub(crate) fn claims_environment() -> Environment {
    Environment::new().with("claims", Type::map(Type::String, Type::Dyn))
}

/// What expressions about the user may name.
pub(crate) fn user_environment() -> Environment {
    Environment::new().with("user", user_type())
}

fn user_type() -> Type {
    let known = schema::types::type_named("authentication.UserInfo");
    known.map_or(Type::Dyn, cel::admission::table_type)
}

impl Mapping {
    /// The user that these claims name, or why they name none.
    pub(crate) fn user(&self, claims: &Json) -> Result<User, String> {
        for rule in &self.claim_rules {
            rule.check(claims)?;
        }
        let name = self.name(claims)?;
        let groups = match &self.groups {
            None => Vec::new(),
            Some(Source::Claim { name, prefix }) => match claims.get(name) {
                None => Vec::new(),
                Some(value) => {
                    let groups =
                        texts(value).ok_or_else(|| format!("oidc: parse groups claim {name:?}"))?;
                    groups
                        .iter()
                        .map(|group| format!("{prefix}{group}"))
                        .collect()
                }
            },
            Some(Source::Expression(program)) => {
                nonempty_texts(&run(program, "claims", claims)?)
                    .ok_or("oidc: error evaluating group claim expression: no list of strings")?
            }
        };
        let uid = match &self.uid {
            None => String::new(),
            Some(Source::Claim { name, .. }) => {
                text(claims.get(name)).ok_or_else(|| format!("oidc: parse uid claim {name:?}"))?
            }
            Some(Source::Expression(program)) => text(Some(&run(program, "claims", claims)?))
                .ok_or("oidc: error evaluating uid claim expression: no string")?,
        };
        let mut user = User::new(name, groups);
        user.uid = uid;
        for (key, program) in &self.extra {
            let values = nonempty_texts(&run(program, "claims", claims)?).ok_or_else(|| {
                format!(
                    "oidc: error evaluating extra claim expression of {key:?}: no list of strings"
                )
            })?;
            if !values.is_empty() {
                user.extra.insert(key.clone(), values);
            }
        }
        let info = user.to_user_info();
        for rule in &self.user_rules {
            rule.check("user", &info)?;
        }
        Ok(user)
    }

    fn name(&self, claims: &Json) -> Result<String, String> {
        let name = match &self.username {
            Source::Claim { name, prefix } => {
                let value = text(claims.get(name))
                    .ok_or_else(|| format!("oidc: parse username claims {name:?}: no such text"))?;
                let verified = claims.get("email_verified");
                if name == "email" && verified.is_some_and(|it| *it != Json::Bool(true)) {
                    return Err("oidc: email not verified".to_owned());
                }
                match value.is_empty() {
                    true => value,
                    false => format!("{prefix}{value}"),
                }
            }
            Source::Expression(program) => text(Some(&run(program, "claims", claims)?))
                .ok_or("oidc: error evaluating username claim expression: no string")?,
        };
        match name.is_empty() {
            true => Err("oidc: the username is empty".to_owned()),
            false => Ok(name),
        }
    }
}

impl ClaimRule {
    fn check(&self, claims: &Json) -> Result<(), String> {
        match self {
            ClaimRule::Value { claim, value } => match claims.get(claim) {
                None => Err(format!(
                    "oidc: required claim {claim} not present in ID token"
                )),
                Some(Json::String(found)) if found == value => Ok(()),
                Some(_) => Err(format!(
                    "oidc: required claim {claim} value does not match. Want = {value}"
                )),
            },
            ClaimRule::Expression(rule) => rule.check("claims", claims),
        }
    }
}

impl Rule {
    fn check(&self, variable: &str, about: &Json) -> Result<(), String> {
        match run(&self.program, variable, about)? {
            Json::Bool(true) => Ok(()),
            _ if !self.message.is_empty() => {
                Err(format!("oidc: validation rule failed: {}", self.message))
            }
            _ => Err(format!(
                "oidc: validation expression {:?} failed",
                self.expression
            )),
        }
    }
}

/// The value of an expression over one variable.
fn run(program: &Program, variable: &str, about: &Json) -> Result<Json, String> {
    let ty = match variable {
        "user" => user_type(),
        _ => Type::Dyn,
    };
    let variables = Variables::new().with(variable, Value::json(about, &ty));
    let (outcome, _) = program.run(&variables, None);
    let value = outcome.map_err(|error| format!("oidc: expression failed: {error}"))?;
    cel::to_json(&value).ok_or_else(|| "oidc: an expression has no plain value".to_owned())
}

fn text(value: Option<&Json>) -> Option<String> {
    value?.as_str().map(str::to_owned)
}

/// One text or a list of them; null is none.
fn texts(value: &Json) -> Option<Vec<String>> {
    match value {
        Json::Null => Some(Vec::new()),
        Json::String(one) => Some(vec![one.clone()]),
        Json::Array(several) => several.iter().map(|one| text(Some(one))).collect(),
        _ => None,
    }
}

/// As Kubernetes reads what an expression gives: empty texts are none.
fn nonempty_texts(value: &Json) -> Option<Vec<String>> {
    let mut all = texts(value)?;
    all.retain(|text| !text.is_empty());
    Some(all)
}

/// The claims as expressions see them.
pub(crate) fn object(claims: &Map<String, Json>) -> Json {
    json!(claims)
}
