//! MutatingAdmissionPolicy.

use serde_json::Value as Json;

use super::{
    Composed, Conditions, Inputs, OutOfBudget, POLICY_BUDGET, Run, Wanted, compile, list, text,
};
use crate::{Program, to_json};

/// A compiled policy.
#[derive(Debug)]
pub struct MutatingPolicy {
    conditions: Conditions,
    composed: Composed,
    mutations: Vec<Mutation>,
    pub fails_closed: bool,
    /// Whether it is asked again when others changed the object after it.
    pub reinvoked: bool,
}

#[derive(Debug)]
struct Mutation {
    applies: bool,
    expression: String,
    program: Result<Program, String>,
}

/// What a mutation does to the object.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The object gets what stands here.
    Apply(Json),
    /// RFC 6902.
    Patch(Json),
}

/// The expression of a mutation.
pub(super) fn source(mutation: &Json) -> (bool, &str) {
    let applies = text(mutation, "patchType") == "ApplyConfiguration";
    let owner = mutation.get(if applies {
        "applyConfiguration"
    } else {
        "jsonPatch"
    });
    (applies, owner.map_or("", |owner| text(owner, "expression")))
}

impl MutatingPolicy {
    /// Compiles the spec of a policy. What does not compile fails when it is asked.
    pub fn compile(spec: &Json) -> MutatingPolicy {
        let declared = super::Declared {
            mutation: true,
            ..super::declared(spec)
        };
        let mut environment = declared.environment();
        let composed = Composed::compile(spec, &mut environment);
        let mutations = list(spec, "mutations").iter().map(|mutation| {
            let (applies, expression) = source(mutation);
            let wanted = if applies {
                Wanted::Object
            } else {
                Wanted::Patch
            };
            Mutation {
                applies,
                expression: expression.to_owned(),
                program: compile(&environment, expression, wanted),
            }
        });
        MutatingPolicy {
            conditions: Conditions::compile(spec),
            mutations: mutations.collect(),
            composed,
            fails_closed: super::fails_closed(spec),
            reinvoked: text(spec, "reinvocationPolicy") == "IfNeeded",
        }
    }

    /// Whether the conditions hold.
    pub fn matches(&self, inputs: &Inputs<'_>) -> Result<bool, String> {
        self.conditions.match_inputs(inputs)
    }

    pub fn mutations(&self) -> usize {
        self.mutations.len()
    }

    /// What one of the mutations says about the object as it is now.
    pub fn mutate(&self, index: usize, inputs: &Inputs<'_>) -> Result<Change, String> {
        let mutation = &self.mutations[index];
        let run = Run::new(inputs, &self.composed, POLICY_BUDGET);
        let value = match run.evaluate(&mutation.expression, &mutation.program) {
            Ok(value) => value?,
            Err(OutOfBudget) => return Err(super::NO_BUDGET.to_owned()),
        };
        let json = to_json(&value).ok_or_else(|| {
            format!(
                "expression '{}' has a result that is no JSON",
                mutation.expression
            )
        })?;
        Ok(if mutation.applies {
            Change::Apply(json)
        } else {
            Change::Patch(json)
        })
    }
}
