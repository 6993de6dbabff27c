//! Match conditions.

use serde_json::Value as Json;

use super::{Composed, Declared, Inputs, OutOfBudget, Run, Wanted, compile, list, text};
use crate::value::Value;
use crate::{BUDGET, Program};

/// A quarter of the budget of a request goes to conditions.
const CONDITIONS_BUDGET: u64 = BUDGET / 4;

/// The compiled `matchConditions` of a policy or a webhook.
#[derive(Debug, Default)]
pub struct Conditions {
    conditions: Vec<Condition>,
    fails_closed: bool,
    composed: Composed,
}

#[derive(Debug)]
struct Condition {
    name: String,
    expression: String,
    program: Result<Program, String>,
}

impl Conditions {
    /// Those of a webhook, or of a policy's spec: the object that has `matchConditions` and `failurePolicy`.
    pub fn compile(owner: &Json) -> Conditions {
        let declared = Declared {
            params: owner.get("paramKind").is_some_and(Json::is_object),
            authorizer: true,
            ..Declared::default()
        };
        let environment = declared.environment();
        let conditions = list(owner, "matchConditions")
            .iter()
            .map(|condition| Condition {
                name: text(condition, "name").to_owned(),
                expression: text(condition, "expression").to_owned(),
                program: compile(&environment, text(condition, "expression"), Wanted::Bool),
            });
        Conditions {
            conditions: conditions.collect(),
            fails_closed: super::fails_closed(owner),
            composed: Composed::default(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether all of them hold. One that does not hold outweighs those that fail; where some fail and none does not hold, the
    /// failure policy decides: an error, with its text, or no match.
    pub fn match_inputs(&self, inputs: &Inputs<'_>) -> Result<bool, String> {
        let run = Run::new(inputs, &self.composed, CONDITIONS_BUDGET);
        let mut failures = Vec::new();
        for condition in &self.conditions {
            match run.evaluate(&condition.expression, &condition.program) {
                Ok(Ok(Value::Bool(true))) => {}
                Ok(Ok(Value::Bool(false))) => return Ok(false),
                Ok(Ok(_)) => {
                    failures.push(format!("match condition {:?} is no bool", condition.name))
                }
                Ok(Err(text)) => failures.push(text),
                Err(OutOfBudget) => {
                    failures = vec![super::NO_BUDGET.to_owned()];
                    break;
                }
            }
        }
        match (failures.as_slice(), self.fails_closed) {
            ([], _) => Ok(true),
            (_, false) => Ok(false),
            ([one], true) => Err(one.clone()),
            (several, true) => Err(format!("[{}]", several.join(", "))),
        }
    }
}
