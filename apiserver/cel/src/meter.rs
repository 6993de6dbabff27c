//! What an evaluation may cost, and how it fails.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use regex::Regex;

use crate::Value;
use crate::authorizer::Authorizer;
use crate::value::Steps;

/// Kubernetes' limit of one evaluation.
pub const CALL_COST_MAX: u64 = 1_000_000;
/// Kubernetes' limit of everything that is evaluated for one object.
pub const BUDGET: u64 = 10_000_000;

/// What compiling a pattern costs that is not a literal.
const REGEX_COST: u64 = 20_000;

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvalError {
    pub text: String,
    /// The limit is used up: nothing absorbs this.
    pub over_limit: bool,
}

impl EvalError {
    pub fn new(text: impl Into<String>) -> EvalError {
        EvalError {
            text: text.into(),
            over_limit: false,
        }
    }

    pub(crate) fn no_overload() -> EvalError {
        EvalError::new("no such overload")
    }

    pub(crate) fn no_key(key: impl fmt::Display) -> EvalError {
        EvalError::new(format!("no such key: {key}"))
    }

    /// Lists have numbers only.
    pub(crate) fn not_an_index(type_name: &str) -> EvalError {
        EvalError::new(format!("unsupported index type '{type_name}' in list"))
    }

    pub(crate) fn over_limit() -> EvalError {
        EvalError {
            text: "operation cancelled: actual cost limit exceeded".into(),
            over_limit: true,
        }
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for EvalError {}

pub type Outcome<'a> = Result<Value<'a>, EvalError>;

/// Counts what one evaluation costs.
pub struct Meter<'m> {
    pub(crate) used: u64,
    limit: u64,
    regexes: HashMap<String, Arc<Regex>>,
    pub(crate) authorizer: Option<&'m dyn Authorizer>,
}

impl<'m> Meter<'m> {
    pub fn new(limit: u64, authorizer: Option<&'m dyn Authorizer>) -> Meter<'m> {
        Meter {
            used: 0,
            limit,
            regexes: HashMap::new(),
            authorizer,
        }
    }

    /// What has been used up.
    pub fn used(&self) -> u64 {
        self.used
    }

    pub(crate) fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.used = self.used.saturating_add(cost);
        if self.used > self.limit {
            Err(EvalError::over_limit())
        } else {
            Ok(())
        }
    }

    /// For walking over so many bytes or items: a tenth for each.
    pub(crate) fn walk(&mut self, length: usize) -> Result<(), EvalError> {
        self.charge((length as u64).div_ceil(10))
    }

    /// Looks at two values together, and pays for what was looked at.
    pub(crate) fn compare<T>(
        &mut self,
        judge: impl FnOnce(&mut Steps) -> T,
    ) -> Result<T, EvalError> {
        let most = self.limit.saturating_sub(self.used).saturating_mul(10) + 1;
        let mut steps = Steps::new(most);
        let judged = judge(&mut steps);
        if steps.exhausted() {
            self.used = self.limit.saturating_add(1);
            return Err(EvalError::over_limit());
        }
        self.charge((most - steps.left()).div_ceil(10))?;
        Ok(judged)
    }

    /// A pattern that is known only now.
    pub(crate) fn regex(&mut self, pattern: &str) -> Result<Arc<Regex>, EvalError> {
        if let Some(known) = self.regexes.get(pattern) {
            return Ok(known.clone());
        }
        self.charge(REGEX_COST)?;
        let made = compile_regex(pattern).map_err(EvalError::new)?;
        self.regexes.insert(pattern.to_string(), made.clone());
        Ok(made)
    }
}

/// A pattern of Go's syntax; the error is Go's text.
pub(crate) fn compile_regex(pattern: &str) -> Result<Arc<Regex>, String> {
    schema::structural::pattern::compile(pattern)
}
