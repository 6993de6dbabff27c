//! An object against the rules of its schema.

use schema::field::{ErrorList, FieldError, Path};
use serde_json::{Map, Value as Json};

use super::compile::{Compiled, Part, Rules};
use crate::types::Type;
use crate::value::Value;
use crate::{BUDGET, EvalError, Program, Variables};

/// Bytes of a message that an expression makes.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
const NO_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What the rules say of an object.
#[derive(Debug, Default)]
pub struct Judgement {
    pub errors: ErrorList,
    /// Errors about what was so before, which do not refuse the write.
    pub warnings: Vec<String>,
}

impl Rules {
    /// Judges an object, which was pruned, has its defaults and fits its schema. `old` is the stored one on update.
    pub fn validate(&self, object: &Json, old: Option<&Json>) -> Judgement {
        self.validate_within(BUDGET, object, old)
    }

    pub(super) fn validate_within(
        &self,
        budget: u64,
        object: &Json,
        old: Option<&Json>,
    ) -> Judgement {
        let mut judge = Judge {
            judgement: Judgement::default(),
            budget: Some(budget),
        };
        judge.part(
            &self.0,
            object,
            Seen {
                old,
                parent_unchanged: false,
            },
            &Path::root(),
        );
        judge.judgement
    }
}

/// What the rules say of a default of the schema at `path`. Of what it costs as new and as unchanged, the `budget` pays the more.
pub(super) fn default_errors(
    part: &Part,
    default: &Json,
    path: &Path,
    budget: &mut Option<u64>,
) -> ErrorList {
    let before = *budget;
    for old in [None, Some(default)] {
        let mut judge = Judge {
            judgement: Judgement::default(),
            budget: before,
        };
        let seen = Seen {
            old,
            parent_unchanged: false,
        };
        judge.part(part, default, seen, path);
        *budget = (*budget).min(judge.budget);
        if !judge.judgement.errors.is_empty() {
            return judge.judgement.errors;
        }
    }
    ErrorList::new()
}

/// What was here before.
#[derive(Clone, Copy)]
struct Seen<'a> {
    old: Option<&'a Json>,
    /// Whether something around is as it was.
    parent_unchanged: bool,
}

impl<'a> Seen<'a> {
    fn unchanged(self, now: &Json) -> bool {
        self.parent_unchanged || self.old == Some(now)
    }

    fn below(self, unchanged: bool, old: Option<&'a Json>) -> Seen<'a> {
        Seen {
            old,
            parent_unchanged: unchanged,
        }
    }
}

struct Judge {
    judgement: Judgement,
    /// None once it is used up.
    budget: Option<u64>,
}

impl Judge {
    fn part(&mut self, part: &Part, value: &Json, seen: Seen<'_>, path: &Path) {
        // Rules about null belong to what contains it.
        if value.is_null() || self.budget.is_none() {
            return;
        }
        let seen = Seen {
            old: seen.old.filter(|old| !old.is_null()),
            ..seen
        };
        self.rules(part, value, seen, path);
        for inner in &part.all_of {
            self.part(inner, value, seen.below(false, seen.old), path);
        }
        match value {
            Json::Array(items) => self.items(part, items, value, seen, path),
            Json::Object(fields) => self.fields(part, fields, value, seen, path),
            _ => {}
        }
    }

    fn items(&mut self, part: &Part, items: &[Json], whole: &Json, seen: Seen<'_>, path: &Path) {
        let Some(inner) = &part.items else {
            return;
        };
        let unchanged = seen.unchanged(whole);
        let old = seen
            .old
            .and_then(Json::as_array)
            .filter(|_| part.correlates);
        for (at, item) in items.iter().enumerate() {
            let before =
                old.and_then(|old| old.iter().find(|other| alike(item, other, &part.list_keys)));
            self.part(inner, item, seen.below(unchanged, before), &path.index(at));
        }
    }

    fn fields(
        &mut self,
        part: &Part,
        fields: &Map<String, Json>,
        whole: &Json,
        seen: Seen<'_>,
        path: &Path,
    ) {
        if part.properties.is_empty() && part.additional.is_none() {
            return;
        }
        let unchanged = seen.unchanged(whole);
        let old = seen
            .old
            .and_then(Json::as_object)
            .filter(|_| part.correlates);
        let before = |name: &str| old.and_then(|old| old.get(name));
        for (name, inner) in &part.properties {
            if let Some(value) = fields.get(&**name) {
                self.part(
                    inner,
                    value,
                    seen.below(unchanged, before(name)),
                    &path.child(name),
                );
            }
        }
        let Some(inner) = &part.additional else {
            return;
        };
        let is_named = |key: &str| part.properties.iter().any(|(name, _)| &**name == key);
        for (key, value) in fields.iter().filter(|(key, _)| !is_named(key)) {
            self.part(
                inner,
                value,
                seen.below(unchanged, before(key)),
                &path.key(key),
            );
        }
    }

    fn rules(&mut self, part: &Part, value: &Json, seen: Seen<'_>, path: &Path) {
        for rule in &part.rules {
            if self.budget.is_none() {
                return;
            }
            if rule.uses_old && seen.old.is_none() && !rule.optional_old {
                continue;
            }
            self.rule(part, rule, value, seen, path);
        }
    }

    fn rule(&mut self, part: &Part, rule: &Compiled, value: &Json, seen: Seen<'_>, path: &Path) {
        let place = shown(path);
        let invalid = |text: String| FieldError::invalid(&place, part.type_name, text);
        let program = match &rule.program {
            Ok(program) => program,
            Err(text) => {
                self.judgement
                    .errors
                    .push(invalid(format!("rule compile error: {text}")));
                return;
            }
        };
        let variables = variables(&part.ty, rule, value, seen.old);
        let (outcome, cost) = program.run(&variables, None);
        if !self.pay(cost) {
            self.judgement.errors.push(invalid(NO_BUDGET.to_owned()));
            return;
        }
        match outcome {
            Ok(Value::Bool(true)) => {}
            Ok(_) => {
                let error = self.failure(part, rule, (value, &variables), path);
                if !rule.uses_old && seen.unchanged(value) {
                    self.judgement.warnings.push(error.to_string());
                } else {
                    self.judgement.errors.push(error);
                }
            }
            Err(error) => {
                if error.over_limit {
                    self.budget = None;
                }
                self.judgement.errors.push(invalid(failed(&error, rule)));
            }
        }
    }

    /// False when that is more than there is.
    fn pay(&mut self, cost: u64) -> bool {
        self.budget = self.budget.and_then(|budget| budget.checked_sub(cost));
        self.budget.is_some()
    }

    /// The error of a rule that does not hold.
    fn failure(
        &mut self,
        part: &Part,
        rule: &Compiled,
        (value, variables): (&Json, &Variables<'_>),
        path: &Path,
    ) -> FieldError {
        let mut place = shown(path);
        if let Some(field) = Some(rule.rule.field_path.trim()).filter(|field| !field.is_empty()) {
            place = Path::new(
                &format!("{path}{field}")
                    .trim_start_matches('.')
                    .replace("['", "[")
                    .replace("']", "]"),
            );
        }
        let detail = match &rule.message {
            Some(program) => {
                match self.message(program, &rule.rule.message_expression, variables) {
                    Ok(message) => message.unwrap_or_else(|| rule.message()),
                    Err(text) => {
                        self.budget = None;
                        return FieldError::invalid(&place, part.type_name, text);
                    }
                }
            }
            None => rule.message(),
        };
        match &*rule.rule.reason {
            "FieldValueForbidden" => FieldError::forbidden(&place, detail),
            "FieldValueRequired" => FieldError::required(&place, detail),
            // Whole objects and lists would only hide the text.
            "FieldValueDuplicate" if part.is_container() => FieldError::duplicate_part(&place),
            "FieldValueDuplicate" => FieldError::duplicate(&place, value.clone()),
            _ if part.is_container() => FieldError::invalid_part(&place, detail),
            _ => FieldError::invalid(&place, value.clone(), detail),
        }
    }

    /// The message that an expression makes, if it makes a fit one; the error ends everything.
    fn message(
        &mut self,
        program: &Program,
        source: &str,
        variables: &Variables<'_>,
    ) -> Result<Option<String>, String> {
        let (outcome, cost) = program.run(variables, None);
        if !self.pay(cost) {
            return Err("messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run".into());
        }
        match outcome {
            Ok(Value::String(text)) => Ok(fit(&text)),
            Ok(_) => Ok(None),
            Err(error) if error.over_limit => Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {source:?}"
            )),
            Err(_) => Ok(None),
        }
    }
}

/// A message of one line that is neither empty nor too long.
pub(crate) fn fit(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
    fits.then(|| text.to_owned())
}

/// The object itself is at no path.
fn shown(path: &Path) -> Path {
    if path.as_str().is_empty() {
        Path::new("<nil>")
    } else {
        path.clone()
    }
}

fn variables<'a>(
    ty: &Type,
    rule: &Compiled,
    value: &'a Json,
    old: Option<&'a Json>,
) -> Variables<'a> {
    let variables = Variables::new().with("self", Value::json(value, ty));
    let old = old.map(|old| Value::json(old, ty));
    match (rule.optional_old, old) {
        (true, old) => variables.with("oldSelf", Value::Optional(old.map(std::sync::Arc::new))),
        (false, Some(old)) => variables.with("oldSelf", old),
        (false, None) => variables,
    }
}

fn failed(error: &EvalError, rule: &Compiled) -> String {
    let rule = rule.describe();
    if error.text.starts_with("no such overload") {
        return format!(
            "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {rule}"
        );
    }
    if error.over_limit {
        return format!(
            "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {rule}"
        );
    }
    format!("{error} evaluating rule: {rule}")
}

/// Whether two items of a list with keys are the same item.
fn alike(a: &Json, b: &Json, keys: &[std::sync::Arc<str>]) -> bool {
    keys.iter().all(|key| a.get(&**key) == b.get(&**key))
}
