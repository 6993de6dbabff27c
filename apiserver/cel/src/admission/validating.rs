//! ValidatingAdmissionPolicy.

use serde_json::Value as Json;

use super::{
    Composed, Conditions, Inputs, OutOfBudget, POLICY_BUDGET, Run, Trouble, Wanted, compile, list,
    text,
};
use crate::Program;
use crate::rules::fit_message;
use crate::value::Value;

/// A compiled policy.
#[derive(Debug)]
pub struct ValidatingPolicy {
    conditions: Conditions,
    composed: Composed,
    validations: Vec<Validation>,
    annotations: Vec<AuditAnnotation>,
    fails_closed: bool,
}

#[derive(Debug)]
struct Validation {
    expression: String,
    program: Result<Program, String>,
    message: String,
    message_expression: Option<Result<Program, String>>,
    reason: String,
}

#[derive(Debug)]
struct AuditAnnotation {
    key: String,
    expression: String,
    program: Result<Program, String>,
}

/// A validation that does not hold, or that failed where that counts as much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The number of the validation.
    pub index: usize,
    pub message: String,
    /// Empty for the usual one.
    pub reason: String,
    /// What went wrong, where it is not the validation that does not hold.
    pub trouble: Option<Trouble>,
}

/// What comes of asking a policy.
#[derive(Debug, Default)]
pub struct Judgement {
    /// The validations that refuse.
    pub decisions: Vec<Decision>,
    pub annotations: Vec<Annotation>,
    /// What went wrong and does not count, as the failure policy says.
    pub ignored: Vec<Trouble>,
}

/// What goes into the audit log; an error refuses the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    pub key: String,
    pub value: Result<String, String>,
}

impl ValidatingPolicy {
    /// Compiles the spec of a policy. What does not compile fails when it is asked.
    pub fn compile(spec: &Json) -> ValidatingPolicy {
        let mut environment = super::declared(spec).environment();
        let composed = Composed::compile(spec, &mut environment);
        let mut messages = super::check::without_authorizer(spec).environment();
        messages.declare("variables", composed.ty());
        let validations = list(spec, "validations")
            .iter()
            .map(|validation| Validation {
                expression: text(validation, "expression").to_owned(),
                program: compile(&environment, text(validation, "expression"), Wanted::Bool),
                message: text(validation, "message").trim().to_owned(),
                message_expression: Some(text(validation, "messageExpression"))
                    .filter(|text| !text.is_empty())
                    .map(|text| compile(&messages, text, Wanted::String)),
                reason: text(validation, "reason").to_owned(),
            });
        let annotations = list(spec, "auditAnnotations")
            .iter()
            .map(|annotation| AuditAnnotation {
                key: text(annotation, "key").to_owned(),
                expression: text(annotation, "valueExpression").to_owned(),
                program: compile(
                    &environment,
                    text(annotation, "valueExpression"),
                    Wanted::StringOrNull,
                ),
            });
        ValidatingPolicy {
            conditions: Conditions::compile(spec),
            validations: validations.collect(),
            annotations: annotations.collect(),
            composed,
            fails_closed: super::fails_closed(spec),
        }
    }

    /// Asks the policy about a request.
    pub fn judge(&self, inputs: &Inputs<'_>) -> Judgement {
        let mut judgement = Judgement::default();
        match self.conditions.match_inputs(inputs) {
            Ok(true) => {}
            Ok(false) => return judgement,
            Err(text) => {
                self.fail(&mut judgement, 0, text);
                return judgement;
            }
        }
        let run = Run::new(inputs, &self.composed, POLICY_BUDGET);
        for (index, validation) in self.validations.iter().enumerate() {
            match run.evaluate(&validation.expression, &validation.program) {
                Ok(Ok(Value::Bool(true))) => {}
                Ok(Ok(_)) => match validation.refusal(&run) {
                    Ok(message) => judgement.decisions.push(Decision {
                        index,
                        message,
                        reason: validation.reason.clone(),
                        trouble: None,
                    }),
                    Err(OutOfBudget) => {
                        let text = format!("failed messageExpression: {}", super::NO_BUDGET);
                        self.fail(&mut judgement, index, text);
                    }
                },
                Ok(Err(text)) => self.fail(&mut judgement, index, text),
                Err(OutOfBudget) => {
                    // Nothing that was found before counts.
                    let mut alone = Judgement::default();
                    self.fail(&mut alone, index, super::NO_BUDGET.to_owned());
                    return alone;
                }
            }
        }
        judgement.annotations = self.annotate(inputs);
        judgement
    }

    /// Something went wrong: it refuses, or does not count.
    fn fail(&self, judgement: &mut Judgement, index: usize, message: String) {
        let trouble = Trouble::of(&message);
        if !self.fails_closed {
            judgement.ignored.push(trouble);
            return;
        }
        judgement.decisions.push(Decision {
            index,
            message,
            reason: String::new(),
            trouble: Some(trouble),
        });
    }

    fn annotate(&self, inputs: &Inputs<'_>) -> Vec<Annotation> {
        let run = Run::new(inputs, &self.composed, POLICY_BUDGET);
        let annotations = self.annotations.iter().filter_map(|annotation| {
            let value = match run.evaluate(&annotation.expression, &annotation.program) {
                Ok(Ok(Value::String(text))) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
                Ok(Ok(Value::String(_) | Value::Null)) => return None,
                Ok(Ok(other)) => Err(format!(
                    "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                    annotation.expression,
                    other.type_name()
                )),
                Ok(Err(_)) | Err(OutOfBudget) if !self.fails_closed => return None,
                Ok(Err(text)) => Err(text),
                Err(OutOfBudget) => Err(super::NO_BUDGET.to_owned()),
            };
            Some(Annotation { key: annotation.key.clone(), value })
        });
        annotations.collect()
    }
}

impl Validation {
    fn refusal(&self, run: &Run<'_>) -> Result<String, OutOfBudget> {
        if let Some(program) = &self.message_expression
            && let Ok(Value::String(text)) = run.evaluate("", program)?
            && let Some(message) = fit_message(&text)
        {
            return Ok(message);
        }
        if self.message.is_empty() {
            return Ok(format!("failed expression: {}", self.expression.trim()));
        }
        Ok(self.message.clone())
    }
}
