//! What is wrong with the expressions of policies and webhooks.

use std::collections::BTreeMap;

use schema::field::{ErrorList, FieldError, Path};
use serde_json::Value as Json;

use super::{Composed, Declared, Wanted, compile, declared, list, mutating, text};
use crate::types::Type;
use crate::{Environment, Program};

fn complain(result: &Result<Program, String>, source: &str, path: &Path, errors: &mut ErrorList) {
    if let Err(problem) = result {
        errors.push(FieldError::invalid(path, source, problem.clone()));
    }
}

fn expression(
    environment: &Environment,
    source: &str,
    wanted: Wanted,
    path: &Path,
    errors: &mut ErrorList,
) {
    if !source.trim().is_empty() {
        complain(&compile(environment, source, wanted), source, path, errors);
    }
}

/// One of the conditions of a webhook or, with `params`, of a policy.
pub fn check_condition(source: &str, params: bool, path: &Path, errors: &mut ErrorList) {
    let declared = Declared {
        params,
        authorizer: true,
        ..Declared::default()
    };
    expression(&declared.environment(), source, Wanted::Bool, path, errors);
}

/// The variables, which are declared for what comes after them.
fn variables(spec: &Json, environment: &mut Environment, path: &Path, errors: &mut ErrorList) {
    let composed = Composed::compile(spec, environment);
    let path = path.child("variables");
    for (at, (variable, program)) in list(spec, "variables")
        .iter()
        .zip(&composed.programs)
        .enumerate()
    {
        let source = text(variable, "expression");
        if !source.trim().is_empty() {
            complain(program, source, &path.index(at).child("expression"), errors);
        }
    }
}

/// The expressions of a ValidatingAdmissionPolicy but for its conditions; `path` is that of the spec.
pub fn check_validating(spec: &Json, path: &Path, errors: &mut ErrorList) {
    let mut environment = declared(spec).environment();
    variables(spec, &mut environment, path, errors);
    let mut unprivileged = without_authorizer(spec).environment();
    Composed::compile(spec, &mut unprivileged);
    for (at, validation) in list(spec, "validations").iter().enumerate() {
        let path = path.child("validations").index(at);
        let mut check = |environment: &Environment, field: &str, wanted| {
            expression(
                environment,
                text(validation, field),
                wanted,
                &path.child(field),
                errors,
            );
        };
        check(&environment, "expression", Wanted::Bool);
        check(&unprivileged, "messageExpression", Wanted::String);
    }
    for (at, annotation) in list(spec, "auditAnnotations").iter().enumerate() {
        let path = path
            .child("auditAnnotations")
            .index(at)
            .child("valueExpression");
        expression(
            &environment,
            text(annotation, "valueExpression"),
            Wanted::StringOrNull,
            &path,
            errors,
        );
    }
}

/// The expressions of a MutatingAdmissionPolicy but for its conditions; `path` is that of the spec.
pub fn check_mutating(spec: &Json, path: &Path, errors: &mut ErrorList) {
    let declared = Declared {
        mutation: true,
        ..declared(spec)
    };
    let mut environment = declared.environment();
    variables(spec, &mut environment, path, errors);
    for (at, mutation) in list(spec, "mutations").iter().enumerate() {
        let (applies, source) = mutating::source(mutation);
        let (field, wanted) = if applies {
            ("applyConfiguration", Wanted::Object)
        } else {
            ("jsonPatch", Wanted::Patch)
        };
        let path = path
            .child("mutations")
            .index(at)
            .child(field)
            .child("expression");
        expression(&environment, source, wanted, &path, errors);
    }
}

/// Messages do not ask what users may do.
pub(super) fn without_authorizer(spec: &Json) -> Declared {
    Declared {
        authorizer: false,
        ..declared(spec)
    }
}

/// Larger policies are not checked for each of their kinds, since that is done while somebody waits.
const CHECKED_BYTES_MAX: usize = 128 * 1024;

/// What is wrong with the expressions of a ValidatingAdmissionPolicy for objects of a kind: field and text. `kind` is the
/// kind as `group/version, Kind=kind` reads.
pub fn type_check(
    spec: &Json,
    kinds: &[(String, Type)],
    param_object: Option<&Type>,
) -> Vec<(String, String)> {
    let bytes = |field: &str, of: &str| {
        list(spec, field)
            .iter()
            .map(|one| text(one, of).len())
            .sum::<usize>()
    };
    let all = bytes("variables", "expression")
        + bytes("validations", "expression")
        + bytes("validations", "messageExpression");
    if all > CHECKED_BYTES_MAX {
        return Vec::new();
    }
    let mut found: BTreeMap<(usize, &str), Vec<String>> = BTreeMap::new();
    for (kind, ty) in kinds {
        let declared = Declared {
            object: Some(ty.clone()),
            param_object: param_object.cloned(),
            ..declared(spec)
        };
        let mut environment = declared.environment();
        Composed::compile(spec, &mut environment);
        for (at, validation) in list(spec, "validations").iter().enumerate() {
            for field in ["expression", "messageExpression"] {
                let source = text(validation, field);
                if source.trim().is_empty() {
                    continue;
                }
                if let Err(error) = Program::compile(&environment, source) {
                    let texts = found.entry((at, field)).or_default();
                    texts.push(format!("{kind}: {error}\n"));
                }
            }
        }
    }
    let warnings = found
        .into_iter()
        .map(|((at, field), texts)| (format!("spec.validations[{at}].{field}"), texts.join("\n")));
    warnings.collect()
}
