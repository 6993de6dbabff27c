//! When pods of a job count as failed, when the job has succeeded, and when another pod takes the place of one that ends.

use std::collections::BTreeSet;

use schema::field::{ErrorList, FieldError, Path, go_quote};
use schema::names;
use serde_json::Value;

use super::{complain_of, items, not_negative};
use crate::look::{Look, whole};

const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const INDEXES_MAX: usize = 64 * 1024;

const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];

/// A list in the way in which Kubernetes quotes one.
fn listed(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| go_quote(value)).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

/// A text of a list, which is told where it is missing.
fn told_one_of(parent: &Value, field: &str, values: &[&str], path: &Path, errors: &mut ErrorList) {
    let text = parent.text(field);
    if text.is_empty() {
        errors.push(FieldError::required(&path.child(field), listed(values)));
    } else if !values.contains(&text) {
        errors.push(FieldError::not_supported(&path.child(field), text, values));
    }
}

fn limited(list: &[Value], max: usize, path: &Path, errors: &mut ErrorList) {
    if list.len() > max {
        errors.push(FieldError::too_many(path, list.len(), max));
    }
}

/// `podFailurePolicy`.
pub(super) fn failure(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let (policy, path) = (spec.at("podFailurePolicy"), path.child("podFailurePolicy"));
    limited(
        policy.list("rules"),
        RULES_MAX,
        &path.child("rules"),
        errors,
    );
    for (path, rule) in items(policy, "rules", &path) {
        let action = rule.text("action");
        if action == "FailIndex" && !spec.has("backoffLimitPerIndex") {
            let detail = "requires the backoffLimitPerIndex to be set";
            errors.push(FieldError::invalid(&path.child("action"), action, detail));
        }
        told_one_of(rule, "action", ACTIONS, &path, errors);
        let (has_codes, has_conditions) = (
            rule.has("onExitCodes"),
            !rule.list("onPodConditions").is_empty(),
        );
        if has_codes {
            exit_codes(
                rule.at("onExitCodes"),
                spec,
                &path.child("onExitCodes"),
                errors,
            );
        }
        conditions(rule, &path, errors);
        let detail = match (has_codes, has_conditions) {
            (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.push(FieldError::invalid_part(&path, detail));
    }
}

fn exit_codes(codes: &Value, spec: &Value, path: &Path, errors: &mut ErrorList) {
    told_one_of(codes, "operator", OPERATORS, path, errors);
    let pods = spec.at("template").at("spec");
    let mut containers = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|field| pods.list(field));
    let name = codes.text("containerName");
    if codes.has("containerName") && !containers.any(|container| container.text("name") == name) {
        let path = path.child("containerName");
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(&path, name, detail));
    }
    let (values, path) = (codes.list("values"), path.child("values"));
    if values.is_empty() {
        let detail = "at least one value is required";
        errors.push(FieldError::invalid(
            &path,
            codes.at("values").clone(),
            detail,
        ));
    }
    limited(values, EXIT_CODES_MAX, &path, errors);
    let numbers: Vec<i64> = values.iter().filter_map(whole).collect();
    let mut seen = BTreeSet::new();
    for (at, code) in numbers.iter().enumerate() {
        if *code == 0 && codes.text("operator") == "In" {
            let detail = "must not be 0 for the In operator";
            errors.push(FieldError::invalid(&path.index(at), *code, detail));
        }
        if !seen.insert(code) {
            errors.push(FieldError::duplicate(&path.index(at), *code));
        }
    }
    if !numbers.is_sorted() {
        errors.push(FieldError::invalid(&path, numbers, "must be ordered"));
    }
}

fn conditions(rule: &Value, path: &Path, errors: &mut ErrorList) {
    let list = path.child("onPodConditions");
    limited(rule.list("onPodConditions"), RULES_MAX, &list, errors);
    for (path, condition) in items(rule, "onPodConditions", path) {
        let kind = condition.text("type");
        complain_of(names::is_qualified_name(kind), "type", &path, kind, errors);
        told_one_of(condition, "status", STATUSES, &path, errors);
    }
}

/// `podReplacementPolicy`: with a policy of failures, only what has failed is replaced.
pub(super) fn replacement(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let supported: &[&str] = match spec.has("podFailurePolicy") {
        true => &["Failed"],
        false => &["Failed", "TerminatingOrFailed"],
    };
    let field = "podReplacementPolicy";
    if spec.has(field) && !supported.contains(&spec.text(field)) {
        let path = path.child(field);
        errors.push(FieldError::not_supported(
            &path,
            spec.text(field),
            supported,
        ));
    }
}

/// `successPolicy`.
pub(super) fn success(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let (policy, path) = (spec.at("successPolicy"), path.child("successPolicy"));
    if policy.is_null() {
        return;
    }
    if spec.text("completionMode") != "Indexed" {
        let detail = "requires indexed completion mode";
        errors.push(FieldError::invalid(&path, policy.clone(), detail));
        return;
    }
    let (rules, rules_path) = (policy.list("rules"), path.child("rules"));
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&rules_path, detail));
    }
    limited(rules, RULES_MAX, &rules_path, errors);
    // Without completions the job is refused for that.
    let completions = spec.int("completions").unwrap_or(i64::from(i32::MAX));
    for (path, rule) in items(policy, "rules", &path) {
        success_rule(rule, completions, &path, errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &Path, errors: &mut ErrorList) {
    let (indexes, count) = ("succeededIndexes", "succeededCount");
    if !rule.has(indexes) && !rule.has(count) {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(path, detail));
    }
    let text = rule.text(indexes);
    if text.len() > INDEXES_MAX {
        errors.push(FieldError::too_long(&path.child(indexes), INDEXES_MAX));
    }
    let total = match intervals(text, completions) {
        Ok(total) => total,
        Err(message) => {
            let detail = format!("error parsing succeededIndexes: {message}");
            errors.push(FieldError::invalid(&path.child(indexes), text, detail));
            0
        }
    };
    not_negative(rule, count, path, errors);
    let mut at_most = |max: i64, what: &str| {
        if let Some(number) = rule.int(count).filter(|number| *number > max) {
            let detail = format!("must be less than or equal to {max} (the number of {what})");
            errors.push(FieldError::invalid(&path.child(count), number, detail));
        }
    };
    at_most(completions, "specified completions");
    if rule.has(indexes) {
        at_most(total, "indexes in the specified succeededIndexes field");
    }
}

/// How many indexes a text like `0,2-4` names, each below a count and all in order.
fn intervals(text: &str, below: i64) -> Result<i64, String> {
    let (mut last, mut total): (Option<i64>, i64) = (None, 0);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let (first, end) = bounds(interval, below)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(not_increasing(last, first));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

fn not_increasing(previous: i64, current: i64) -> String {
    format!("non-increasing order, previous: {previous}, current: {current}")
}

fn bounds(interval: &str, below: i64) -> Result<(i64, i64), String> {
    let parts: Vec<&str> = interval.split('-').collect();
    if parts.len() > 2 {
        return Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            go_quote(interval)
        ));
    }
    let index = |part: &str| -> Result<i64, String> {
        let number: i64 = part.parse().map_err(|_| {
            format!(
                "cannot convert string to integer for index: {}",
                go_quote(part)
            )
        })?;
        match number < below {
            true => Ok(number),
            false => Err(format!("too large index: {}", go_quote(part))),
        }
    };
    let first = index(parts[0])?;
    let Some(end) = parts.get(1) else {
        return Ok((first, first));
    };
    let end = index(end)?;
    match first < end {
        true => Ok((first, end)),
        false => Err(not_increasing(first, end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted_or_refused() {
        for (text, expected) in [
            ("", Ok(0)),
            ("0", Ok(1)),
            ("0,2-4", Ok(4)),
            (
                "0-1-2",
                Err(
                    "the fragment \"0-1-2\" violates the requirement that an index interval can have at most two parts separated by '-'",
                ),
            ),
            (
                "a",
                Err("cannot convert string to integer for index: \"a\""),
            ),
            ("7", Err("too large index: \"7\"")),
            ("1,1", Err("non-increasing order, previous: 1, current: 1")),
            ("3-2", Err("non-increasing order, previous: 3, current: 2")),
        ] {
            assert_eq!(
                intervals(text, 7),
                expected.map_err(str::to_owned),
                "{text}"
            );
        }
    }
}
