//! What claims become of whom, and which are refused: the rules and expressions of the file, compiled.

use std::collections::BTreeSet;

use cel::types::Type;
use cel::{Environment, Program};
use schema::field::{FieldError, Path};

use super::file::{Extra, Jwt, Prefixed};
use crate::oidc::claims::{ClaimRule, Mapping, Rule, Source, claims_environment, user_environment};

/// Compiles expressions, and complains about those that cannot be.
struct Compiler<'a> {
    environment: Environment,
    errors: &'a mut Vec<FieldError>,
}

impl Compiler<'_> {
    fn compile(&mut self, text: &str, path: &Path, accepts: &[Type]) -> Option<Program> {
        let program = match Program::compile(&self.environment, text) {
            Ok(program) => program,
            Err(error) => {
                let error = format!("compilation failed: {error}");
                self.errors.push(FieldError::invalid(path, text, error));
                return None;
            }
        };
        let result = program.result().to_string();
        let fits = program.result().is_dyn() || accepts.iter().any(|ty| ty.to_string() == result);
        if !fits {
            let wanted: Vec<String> = accepts.iter().map(Type::to_string).collect();
            let text_of = format!("must evaluate to {}", wanted.join(" or "));
            self.errors.push(FieldError::invalid(path, text, text_of));
            return None;
        }
        Some(program)
    }

    fn rule(&mut self, expression: &str, message: &str, path: &Path) -> Option<Rule> {
        Some(Rule {
            program: self.compile(expression, &path.child("expression"), &[Type::Bool])?,
            expression: expression.to_owned(),
            message: message.to_owned(),
        })
    }

    /// A claim or an expression; none where neither is given.
    fn source(
        &mut self,
        (claim, prefix, expression): (&str, Option<&str>, &str),
        path: &Path,
        accepts: &[Type],
    ) -> Option<Source> {
        match (claim, expression) {
            ("", "") => None,
            (name, "") => Some(Source::Claim {
                name: name.to_owned(),
                prefix: prefix.unwrap_or_default().to_owned(),
            }),
            ("", expression) => self
                .compile(expression, &path.child("expression"), accepts)
                .map(Source::Expression),
            _ => {
                let text = "claim and expression can't both be set";
                self.errors.push(FieldError::invalid(path, "", text));
                None
            }
        }
    }
}

fn texts() -> [Type; 2] {
    [Type::String, Type::list(Type::String)]
}

pub(super) fn mapping(jwt: &Jwt, path: &Path, errors: &mut Vec<FieldError>) -> Option<Mapping> {
    let before = errors.len();
    let claim_rules = claim_rules(jwt, path, errors);
    let maps = &jwt.claim_mappings;
    let path_of_maps = path.child("claimMappings");
    for (name, prefixed) in [("username", &maps.username), ("groups", &maps.groups)] {
        let path = path_of_maps.child(name).child("prefix");
        match (&prefixed.prefix, prefixed.claim.is_empty()) {
            (None, false) => errors.push(FieldError::required(
                &path,
                "prefix is required when claim is set. It can be set to an empty string to disable prefixing",
            )),
            (Some(prefix), true) => errors.push(FieldError::invalid(
                &path,
                prefix.as_str(),
                match prefixed.expression.is_empty() {
                    true => "non-empty prefix isn't allowed when claim is not set",
                    false => "prefix can't be set when expression is set",
                },
            )),
            _ => {}
        }
    }
    let mut compiler = Compiler {
        environment: claims_environment(),
        errors,
    };
    let prefixed = |it: &'_ Prefixed| (it.claim.clone(), it.prefix.clone(), it.expression.clone());
    let (claim, prefix, expression) = prefixed(&maps.username);
    let username = compiler.source(
        (&claim, prefix.as_deref(), &expression),
        &path_of_maps.child("username"),
        &[Type::String],
    );
    if claim.is_empty() && expression.is_empty() {
        let path = path_of_maps.child("username");
        let text = "claim or expression is required";
        compiler.errors.push(FieldError::required(&path, text));
    }
    let (claim, prefix, expression) = prefixed(&maps.groups);
    let groups = compiler.source(
        (&claim, prefix.as_deref(), &expression),
        &path_of_maps.child("groups"),
        &texts(),
    );
    let uid = compiler.source(
        (&maps.uid.claim, None, &maps.uid.expression),
        &path_of_maps.child("uid"),
        &[Type::String],
    );
    let extra = extra(&maps.extra, &path_of_maps.child("extra"), &mut compiler);
    if username_trusts_email(jwt) {
        let path = path_of_maps.child("username").child("expression");
        let text = "claims.email_verified must be used in claimMappings.username.expression or \
                    claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is \
                    used in claimMappings.username.expression";
        let expression = maps.username.expression.as_str();
        compiler
            .errors
            .push(FieldError::invalid(&path, expression, text));
    }
    compiler.environment = user_environment();
    let user_rules = user_rules(jwt, &path.child("userValidationRules"), &mut compiler);
    if errors.len() > before {
        return None;
    }
    Some(Mapping {
        claim_rules,
        username: username?,
        groups,
        uid,
        extra,
        user_rules,
    })
}

/// Whether a name is made of an address that nobody looks whether it is verified.
fn username_trusts_email(jwt: &Jwt) -> bool {
    let maps = &jwt.claim_mappings;
    let extra = maps.extra.iter().map(|it| it.value_expression.as_str());
    let rules = jwt
        .claim_validation_rules
        .iter()
        .map(|it| it.expression.as_str());
    let mut all = [maps.username.expression.as_str()]
        .into_iter()
        .chain(extra)
        .chain(rules);
    names_claim(&maps.username.expression, "email")
        && !all.any(|it| names_claim(it, "email_verified"))
}

/// Whether an expression takes this claim.
fn names_claim(expression: &str, claim: &str) -> bool {
    let Ok(program) = Program::compile(&claims_environment(), expression) else {
        return false;
    };
    let in_brackets = [format!("claims[\"{claim}\"]"), format!("claims['{claim}']")];
    program.fields_of("claims").any(|field| field == claim)
        || in_brackets.iter().any(|it| expression.contains(it))
}

fn claim_rules(jwt: &Jwt, path: &Path, errors: &mut Vec<FieldError>) -> Vec<ClaimRule> {
    let path = path.child("claimValidationRules");
    let mut seen = BTreeSet::new();
    let mut compiler = Compiler {
        environment: claims_environment(),
        errors,
    };
    let mut rules = Vec::new();
    for (index, rule) in jwt.claim_validation_rules.iter().enumerate() {
        let path = path.index(index);
        let wrong = |field: &str, value: &str, text: &str| {
            FieldError::invalid(&path.child(field), value, text)
        };
        match (rule.claim.as_str(), rule.expression.as_str()) {
            ("", "") => {
                let text = "claim or expression is required";
                compiler.errors.push(FieldError::required(&path, text));
            }
            (claim, "") => {
                if !rule.message.is_empty() {
                    let text = "message can't be set when claim is set";
                    compiler.errors.push(wrong("message", &rule.message, text));
                }
                if !seen.insert(claim) {
                    compiler
                        .errors
                        .push(FieldError::duplicate(&path.child("claim"), claim));
                }
                rules.push(ClaimRule::Value {
                    claim: claim.to_owned(),
                    value: rule.required_value.clone(),
                });
            }
            ("", expression) => {
                if !rule.required_value.is_empty() {
                    let text = "requiredValue can't be set when expression is set";
                    compiler
                        .errors
                        .push(wrong("requiredValue", &rule.required_value, text));
                }
                if !seen.insert(expression) {
                    let path = path.child("expression");
                    compiler
                        .errors
                        .push(FieldError::duplicate(&path, expression));
                }
                let compiled = compiler.rule(expression, &rule.message, &path);
                rules.extend(compiled.map(ClaimRule::Expression));
            }
            _ => {
                let text = "claim and expression can't both be set";
                compiler
                    .errors
                    .push(FieldError::invalid(&path, rule.claim.as_str(), text));
            }
        }
    }
    rules
}

fn extra(all: &[Extra], path: &Path, compiler: &mut Compiler<'_>) -> Vec<(String, Program)> {
    let mut seen = BTreeSet::new();
    let mut compiled = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let path = path.index(index);
        let key = path.child("key");
        let domain = one.key.split_once('/').map(|(domain, _)| domain);
        let reserved = |domain: &str| {
            ["kubernetes.io", "k8s.io"]
                .iter()
                .any(|own| domain == *own || domain.ends_with(&format!(".{own}")))
        };
        let problem = match domain {
            _ if one.key.is_empty() => Some("key is required"),
            None | Some("") => Some("must be a domain-prefixed path (such as \"acme.io/foo\")"),
            Some(domain) if reserved(domain) => {
                Some("k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use")
            }
            _ if one.key.chars().any(char::is_uppercase) => Some("key must be lowercase"),
            _ => None,
        };
        if let Some(problem) = problem {
            compiler
                .errors
                .push(FieldError::invalid(&key, one.key.as_str(), problem));
        }
        if !seen.insert(&one.key) {
            compiler
                .errors
                .push(FieldError::duplicate(&key, one.key.as_str()));
        }
        let path = path.child("valueExpression");
        if one.value_expression.is_empty() {
            compiler
                .errors
                .push(FieldError::required(&path, "valueExpression is required"));
            continue;
        }
        let program = compiler.compile(&one.value_expression, &path, &texts());
        compiled.extend(program.map(|program| (one.key.clone(), program)));
    }
    compiled
}

fn user_rules(jwt: &Jwt, path: &Path, compiler: &mut Compiler<'_>) -> Vec<Rule> {
    let mut seen = BTreeSet::new();
    let mut rules = Vec::new();
    for (index, rule) in jwt.user_validation_rules.iter().enumerate() {
        let path = path.index(index);
        let of_expression = path.child("expression");
        if rule.expression.is_empty() {
            compiler.errors.push(FieldError::required(
                &of_expression,
                "expression is required",
            ));
            continue;
        }
        if !seen.insert(&rule.expression) {
            let expression = rule.expression.as_str();
            compiler
                .errors
                .push(FieldError::duplicate(&of_expression, expression));
        }
        rules.extend(compiler.rule(&rule.expression, &rule.message, &path));
    }
    rules
}
