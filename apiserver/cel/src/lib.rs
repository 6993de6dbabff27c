//! CEL, the language of Kubernetes' validation rules and admission policies: parsed, checked against declared types, and run
//! at a metered cost.
//!
//! Why this is ours. The published evaluators neither check types nor count cost while they run, and what checks the rules
//! of strangers inside of every write needs both; their values are copies of the object, where ours look at its JSON. What is
//! left of such a library is a parser, and the language's grammar is a page.
//!
//! Nothing here does I/O or knows the time. Whatever a rule says, it cannot panic, recurse deeper than the parser allows, or
//! do more than its limit pays for.

pub mod admission;
mod ast;
pub mod authorizer;
mod check;
mod escape;
mod eval;
mod functions;
mod lexer;
mod meter;
mod operators;
mod parser;
pub mod rules;
pub mod types;
pub mod value;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use authorizer::{Authorizer, Check};
pub use escape::{escape, unescape};
pub use eval::Activation;
pub use meter::{BUDGET, CALL_COST_MAX, EvalError, Meter, Outcome};
pub use types::{ListType, ObjectType, Semantics, Type};
pub use value::{Value, to_json};

/// Something that is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// In characters from the start.
    pub at: u32,
    pub text: String,
}

/// Why an expression was not compiled, as cel-go prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError(pub String);

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CompileError {}

/// What an expression may name.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: Vec<(Arc<str>, Type)>,
    /// Whether `Object{}` and `JSONPatch{}` can be made.
    pub mutation: bool,
    /// Whether `cel.bind` names a value.
    pub bindings: bool,
}

impl Environment {
    pub fn new() -> Environment {
        Environment::default()
    }

    #[must_use]
    pub fn with(mut self, name: &str, ty: Type) -> Environment {
        self.declare(name, ty);
        self
    }

    pub fn declare(&mut self, name: &str, ty: Type) {
        self.variables.retain(|(known, _)| &**known != name);
        self.variables.push((name.into(), ty));
    }

    fn variable(&self, name: &str) -> Option<&Type> {
        let found = self.variables.iter().find(|(known, _)| &**known == name);
        found.map(|(_, ty)| ty)
    }
}

/// The type of the variable `authorizer`.
pub fn authorizer_type() -> Type {
    functions::named("authorizer")
}

/// The type of `authorizer.requestResource`.
pub fn resource_check_type() -> Type {
    functions::named("resource_check")
}

/// The type of quantities.
pub fn quantity_type() -> Type {
    functions::named("quantity")
}

/// The value of the variable `authorizer`, or, of a question about a certain resource, `authorizer.requestResource`.
pub fn check_value<'a>(check: Check) -> Value<'a> {
    Value::Check(Arc::new(check))
}

/// An expression that can be run.
#[derive(Debug, Clone)]
pub struct Program {
    expr: ast::Expr,
    result: Type,
    uses: BTreeSet<String>,
    fields: BTreeSet<String>,
}

impl Program {
    /// Parses and checks.
    pub fn compile(environment: &Environment, text: &str) -> Result<Program, CompileError> {
        let fail = |issues: Vec<Issue>| CompileError(report(text, issues));
        let mut expr =
            parser::parse(text, environment.bindings).map_err(|issue| fail(vec![issue]))?;
        let mut checker = check::Checker::new(environment);
        let result = checker.check(&mut expr);
        if !checker.issues.is_empty() {
            return Err(fail(checker.issues));
        }
        Ok(Program {
            expr,
            result,
            uses: checker.uses,
            fields: checker.fields,
        })
    }

    pub(crate) fn expr(&self) -> &ast::Expr {
        &self.expr
    }

    /// What the expression is known to give.
    pub fn result(&self) -> &Type {
        &self.result
    }

    /// Whether it names this variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.uses.contains(variable)
    }

    /// The fields that it takes of this variable.
    pub fn fields_of<'p>(&'p self, variable: &'p str) -> impl Iterator<Item = &'p str> {
        let all = self.fields.iter();
        all.filter_map(move |field| field.strip_prefix(variable)?.strip_prefix('.'))
    }

    /// Runs it, for at most [`CALL_COST_MAX`]; with what it cost.
    pub fn run<'a>(
        &self,
        activation: &dyn Activation<'a>,
        authorizer: Option<&dyn Authorizer>,
    ) -> (Outcome<'a>, u64) {
        self.run_within(CALL_COST_MAX, activation, authorizer)
    }

    pub fn run_within<'a>(
        &self,
        limit: u64,
        activation: &dyn Activation<'a>,
        authorizer: Option<&dyn Authorizer>,
    ) -> (Outcome<'a>, u64) {
        let mut meter = Meter::new(limit, authorizer);
        let mut machine = eval::Machine {
            meter: &mut meter,
            activation,
        };
        let outcome = machine.run(&self.expr);
        (outcome, meter.used())
    }
}

/// Variables by name.
#[derive(Debug, Clone, Default)]
pub struct Variables<'a>(Vec<(&'a str, Value<'a>)>);

impl<'a> Variables<'a> {
    pub fn new() -> Variables<'a> {
        Variables::default()
    }

    #[must_use]
    pub fn with(mut self, name: &'a str, value: Value<'a>) -> Variables<'a> {
        self.0.push((name, value));
        self
    }
}

impl<'a> Activation<'a> for Variables<'a> {
    fn variable(&self, name: &str) -> Option<Value<'a>> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone())
    }
}

/// The errors with their places, as cel-go prints them.
fn report(text: &str, mut issues: Vec<Issue>) -> String {
    issues.sort_by_key(|issue| issue.at);
    let lines: Vec<String> = issues.iter().map(|issue| describe(text, issue)).collect();
    lines.join("\n")
}

fn describe(text: &str, issue: &Issue) -> String {
    let mut start = 0;
    let mut place = (1, issue.at, "");
    for (number, line) in text.split('\n').enumerate() {
        let length = line.chars().count() as u32;
        if issue.at <= start + length {
            place = (number + 1, issue.at - start, line);
            break;
        }
        start += length + 1;
    }
    let (number, column, line) = place;
    let dots = ".".repeat(column as usize);
    format!(
        "ERROR: <input>:{number}:{}: {}\n | {line}\n | {dots}^",
        column + 1,
        issue.text
    )
}
