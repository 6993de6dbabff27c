//! Expressions about admission: policies, and the conditions of webhooks. Pure: what the request, the parameters and the
//! namespace are, and what users may do, is handed in.
//!
//! - `conditions`: match conditions, of policies and of webhooks
//! - `validating`, `mutating`: the policies
//! - `typed`: the types of the variables that have one
//! - `check`: what is wrong with the expressions of a policy

mod check;
mod conditions;
mod mutating;
#[cfg(test)]
mod tests;
mod typed;
mod validating;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value as Json;

pub use check::{check_condition, check_mutating, check_validating, type_check};
pub use conditions::Conditions;
pub use mutating::{Change, MutatingPolicy};
pub use typed::table_type;
pub use validating::{Annotation, Decision, Judgement, ValidatingPolicy};

use crate::authorizer::{Authorizer, Check};
use crate::types::{ObjectType, Type};
use crate::value::Value;
use crate::{Activation, BUDGET, CALL_COST_MAX, Environment, Outcome, Program};

const NO_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// How the text of an expression that did not compile begins.
const NOT_COMPILED: &str = "compilation error: ";

/// What kept an expression from having a result, for figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It does not compile.
    Compilation,
    /// It failed.
    Evaluation,
    /// It, or what came before it, cost too much.
    Budget,
}

impl Trouble {
    /// Told by the text of the error, as Kubernetes does.
    pub fn of(text: &str) -> Trouble {
        if text.starts_with(NOT_COMPILED) {
            Trouble::Compilation
        } else if text.contains(NO_BUDGET) {
            Trouble::Budget
        } else {
            Trouble::Evaluation
        }
    }
}

/// Which variables expressions may name.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    pub params: bool,
    pub authorizer: bool,
    /// Whether they make changes.
    pub mutation: bool,
    /// The type of the object; any where it is not known.
    pub object: Option<Type>,
    /// The type of the parameters.
    pub param_object: Option<Type>,
}

impl Declared {
    fn environment(&self) -> Environment {
        let object = self.object.clone().unwrap_or(Type::Dyn);
        let mut environment = Environment::new()
            .with("object", object.clone())
            .with("oldObject", object)
            .with("request", typed::request())
            .with("namespaceObject", typed::namespace());
        if self.params {
            environment.declare("params", self.param_object.clone().unwrap_or(Type::Dyn));
        }
        if self.authorizer {
            environment.declare("authorizer", crate::authorizer_type());
            environment.declare("authorizer.requestResource", crate::resource_check_type());
        }
        environment.mutation = self.mutation;
        environment
    }
}

/// What an expression has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Bool,
    String,
    StringOrNull,
    Any,
    Object,
    Patch,
}

impl Wanted {
    fn accepts(self, ty: &Type) -> bool {
        let named = |ty: &Type, name: &str| matches!(ty, Type::Opaque(known) if **known == *name);
        match self {
            Wanted::Bool => matches!(ty, Type::Bool),
            Wanted::String => matches!(ty, Type::String),
            Wanted::StringOrNull => matches!(ty, Type::String | Type::Null),
            Wanted::Any => true,
            Wanted::Object => named(ty, "Object"),
            Wanted::Patch => {
                matches!(ty, Type::List(list) if list.item.is_dyn() || named(&list.item, "JSONPatch"))
            }
        }
    }

    fn words(self) -> &'static str {
        match self {
            Wanted::Bool => "bool",
            Wanted::String => "string",
            Wanted::StringOrNull => "one of [string null_type]",
            Wanted::Any => "any",
            Wanted::Object => "Object",
            Wanted::Patch => "list(JSONPatch)",
        }
    }
}

/// Compiles an expression; the error is Kubernetes' text.
fn compile(environment: &Environment, text: &str, wanted: Wanted) -> Result<Program, String> {
    let program = Program::compile(environment, text)
        .map_err(|error| format!("compilation failed: {error}"))?;
    if wanted.accepts(program.result()) {
        return Ok(program);
    }
    Err(format!(
        "must evaluate to {} but got {}",
        wanted.words(),
        program.result()
    ))
}

/// The variables of a policy, in their order. Each sees those before it.
#[derive(Debug, Default)]
struct Composed {
    names: Vec<String>,
    /// Where a name stands first.
    places: HashMap<String, usize>,
    programs: Vec<Result<Program, String>>,
    types: Arc<ComposedType>,
}

/// The types of the variables so far; it grows while they are compiled.
#[derive(Debug, Default)]
struct ComposedType(RwLock<HashMap<Arc<str>, Type>>);

impl ObjectType for ComposedType {
    fn name(&self) -> &str {
        "kubernetes.variables"
    }

    fn field(&self, name: &str) -> Option<(Arc<str>, Type)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (name, ty) = known.get_key_value(name)?;
        Some((name.clone(), ty.clone()))
    }
}

impl Composed {
    /// Compiles the variables of a policy, and declares them.
    fn compile(spec: &Json, environment: &mut Environment) -> Composed {
        let mut composed = Composed::default();
        environment.declare("variables", composed.ty());
        for variable in list(spec, "variables") {
            let (name, source) = (text(variable, "name"), text(variable, "expression"));
            let program = compile(environment, source, Wanted::Any);
            let ty = program
                .as_ref()
                .map_or(Type::Dyn, |program| program.result().clone());
            let mut types = composed
                .types
                .0
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            types.insert(name.into(), ty);
            drop(types);
            let place = composed.names.len();
            composed.places.entry(name.to_owned()).or_insert(place);
            composed.programs.push(program);
            composed.names.push(name.to_owned());
        }
        composed
    }

    fn ty(&self) -> Type {
        Type::Object(self.types.clone())
    }

    /// The variables that this one needs and that are not known yet, itself included, in an order in which they can be worked
    /// out.
    fn needed(&self, at: usize, known: &[Option<Outcome<'_>>]) -> BTreeSet<usize> {
        let mut needed = BTreeSet::new();
        let mut todo = vec![at];
        while let Some(at) = todo.pop() {
            if known[at].is_some() || !needed.insert(at) {
                continue;
            }
            if let Ok(program) = &self.programs[at] {
                let names = program.fields_of("variables");
                todo.extend(names.filter_map(|name| self.places.get(name)));
            }
        }
        needed
    }
}

/// What expressions look at. The JSON of absent things is null.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    pub object: &'a Json,
    pub old: &'a Json,
    /// The AdmissionRequest, without the objects.
    pub request: &'a Json,
    pub params: &'a Json,
    pub namespace: &'a Json,
    pub authorizer: Option<&'a dyn Authorizer>,
}

impl<'a> Inputs<'a> {
    fn variable(&self, name: &str) -> Option<Value<'a>> {
        Some(match name {
            "object" => Value::json(self.object, &Type::Dyn),
            "oldObject" => Value::json(self.old, &Type::Dyn),
            "params" => Value::json(self.params, &Type::Dyn),
            "request" => Value::json(self.request, typed::request_ref()),
            "namespaceObject" => Value::json(self.namespace, typed::namespace_ref()),
            "authorizer" => crate::check_value(Check::default()),
            "authorizer.requestResource" => crate::check_value(self.request_check()),
            _ => return None,
        })
    }

    fn request_check(&self) -> Check {
        let resource = &self.request["resource"];
        Check {
            group: text(resource, "group").to_owned(),
            resource: text(resource, "resource").to_owned(),
            subresource: text(self.request, "subResource").to_owned(),
            namespace: text(self.request, "namespace").to_owned(),
            name: text(self.request, "name").to_owned(),
            ..Check::default()
        }
    }
}

/// The budget is used up: nothing more is run.
struct OutOfBudget;

/// One round of expressions over the same inputs, with what they share: variables and budget.
struct Run<'a> {
    inputs: &'a Inputs<'a>,
    composed: &'a Composed,
    /// What the variables came to.
    known: RefCell<Vec<Option<Outcome<'a>>>>,
    budget: Cell<Option<u64>>,
}

impl<'a> Run<'a> {
    fn new(inputs: &'a Inputs<'a>, composed: &'a Composed, budget: u64) -> Run<'a> {
        Run {
            inputs,
            composed,
            known: RefCell::new(vec![None; composed.names.len()]),
            budget: Cell::new(Some(budget)),
        }
    }

    /// The value of an expression, or the text of why it has none.
    fn evaluate(
        &self,
        source: &str,
        program: &Result<Program, String>,
    ) -> Result<Result<Value<'a>, String>, OutOfBudget> {
        let program = match program {
            Ok(program) => program,
            Err(text) => return Ok(Err(format!("{NOT_COMPILED}{text}"))),
        };
        let (outcome, cost) = program.run_within(CALL_COST_MAX, self, self.inputs.authorizer);
        if !self.pay(cost) {
            return Err(OutOfBudget);
        }
        Ok(outcome.map_err(|error| format!("expression '{source}' resulted in error: {error}")))
    }

    /// False when that is more than there is.
    fn pay(&self, cost: u64) -> bool {
        self.budget.set(
            self.budget
                .get()
                .and_then(|budget| budget.checked_sub(cost)),
        );
        self.budget.get().is_some()
    }

    /// Works out one variable, all that it needs being known.
    fn work_out(&self, at: usize) {
        if self.known.borrow()[at].is_some() {
            return;
        }
        let outcome = match &self.composed.programs[at] {
            Ok(program) => {
                let (outcome, cost) =
                    program.run_within(CALL_COST_MAX, self, self.inputs.authorizer);
                self.pay(cost);
                outcome
            }
            Err(text) => Err(crate::EvalError::new(format!(
                "composited variable {:?} fails to compile: {text}",
                self.composed.names[at]
            ))),
        };
        let outcome = outcome.map_err(|error| crate::EvalError {
            text: format!(
                "composited variable {:?} fails to evaluate: {error}",
                self.composed.names[at]
            ),
            ..error
        });
        self.known.borrow_mut()[at] = Some(outcome);
    }
}

impl<'a> Activation<'a> for Run<'a> {
    fn variable(&self, name: &str) -> Option<Value<'a>> {
        self.inputs.variable(name)
    }

    /// Variables are worked out when the first expression asks. What a variable needs is worked out before it rather than
    /// inside of it, so that a long chain of them does not pile up on the stack.
    fn lazy(&self, variable: &str, field: &str) -> Option<Outcome<'a>> {
        if variable != "variables" {
            return None;
        }
        let at = *self.composed.places.get(field)?;
        let known = self.known.borrow()[at].clone();
        if known.is_some() {
            return known;
        }
        let needed = self.composed.needed(at, &self.known.borrow());
        needed.into_iter().for_each(|before| self.work_out(before));
        self.known.borrow()[at].clone()
    }
}

fn list<'a>(value: &'a Json, field: &str) -> &'a [Json] {
    let list = value.get(field).and_then(Json::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Json, field: &str) -> &'a str {
    let text = value.get(field).and_then(Json::as_str);
    text.unwrap_or_default()
}

fn declared(spec: &Json) -> Declared {
    let params = spec.get("paramKind").is_some_and(Json::is_object);
    Declared {
        params,
        authorizer: true,
        ..Declared::default()
    }
}

fn fails_closed(spec: &Json) -> bool {
    text(spec, "failurePolicy") != "Ignore"
}

/// The budget of everything but conditions.
const POLICY_BUDGET: u64 = BUDGET;
