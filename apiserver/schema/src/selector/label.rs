//! Label selectors: what they are, what they match, how they are written.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::SelectorError;
use super::parser::Parser;
use crate::field::{FieldError, Path, go_quote};
use crate::names;

/// How a requirement of a label selector compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Exists,
    DoesNotExist,
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    GreaterThan,
    LessThan,
}

/// One term of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: BTreeSet<String>,
}

/// A label selector: all requirements hold. Empty matches everything; [`LabelSelector::nothing`]
/// matches nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Requirement {
    pub(super) fn new(
        key: &str,
        operator: Operator,
        values: BTreeSet<String>,
    ) -> Result<Requirement, SelectorError> {
        let root = Path::root();
        check_key(key, root.child("key").as_str())?;
        let path = root.child("values");
        let list = || Value::from(values.iter().cloned().collect::<Vec<_>>());
        let refuse = |detail: &str| {
            let error = FieldError::invalid(&path, list(), detail);
            Err(SelectorError(error.to_string()))
        };
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return refuse("for 'in', 'notin' operators, values set can't be empty");
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals
                if values.len() != 1 =>
            {
                return refuse("exact-match compatibility requires one single value");
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return refuse("values set must be empty for exists and does not exist");
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    return refuse("for 'Gt', 'Lt' operators, exactly one value is required");
                }
                for (i, value) in values.iter().enumerate() {
                    if value.parse::<i64>().is_err() {
                        let error = FieldError::invalid(
                            &path.index(i),
                            value.as_str(),
                            "for 'Gt', 'Lt' operators, the value must be an integer",
                        );
                        return Err(SelectorError(error.to_string()));
                    }
                }
            }
            _ => {}
        }
        for (i, value) in values.iter().enumerate() {
            let errors = names::is_valid_label_value(value);
            if !errors.is_empty() {
                let path = path.index(i).key(key);
                let error = FieldError::invalid(&path, value.as_str(), errors.join("; "));
                return Err(SelectorError(error.to_string()));
            }
        }
        Ok(Requirement {
            key: key.to_owned(),
            operator,
            values,
        })
    }

    /// Whether a label with this value (or its absence) satisfies the requirement.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = || self.values.first().and_then(|v| number(v));
        match self.operator {
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Equals | Operator::DoubleEquals | Operator::In => {
                value.is_some_and(|v| self.values.contains(v))
            }
            Operator::NotEquals | Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::GreaterThan => {
                matches!((value.and_then(number), bound()), (Some(v), Some(b)) if v > b)
            }
            Operator::LessThan => {
                matches!((value.and_then(number), bound()), (Some(v), Some(b)) if v < b)
            }
        }
    }
}

impl LabelSelector {
    /// Matches everything.
    pub fn everything() -> LabelSelector {
        LabelSelector::default()
    }

    /// Matches nothing: what an absent `LabelSelector` of an object means.
    pub fn nothing() -> LabelSelector {
        LabelSelector {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// A label that whatever is selected has, when the selector says so.
    pub fn required_pair(&self) -> Option<(&str, &str)> {
        self.requirements.iter().find_map(|requirement| {
            let is_of_values = matches!(
                requirement.operator,
                Operator::Equals | Operator::DoubleEquals | Operator::In
            );
            let mut values = requirement.values.iter();
            match (values.next(), values.next()) {
                (Some(value), None) if is_of_values => Some((&*requirement.key, &**value)),
                _ => None,
            }
        })
    }

    /// Reads the query parameter `labelSelector`.
    pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
        Parser::new(text).selector()
    }

    /// The selector of a plain map, as in `spec.selector` of a Service: all pairs equal. An absent
    /// or empty map matches everything here; callers give it its own meaning.
    pub fn from_map(map: &Value) -> LabelSelector {
        let pairs = map.as_object().into_iter().flatten();
        let requirements = pairs
            .filter_map(|(key, value)| {
                Some(Requirement {
                    key: key.clone(),
                    operator: Operator::Equals,
                    values: BTreeSet::from([value.as_str()?.to_owned()]),
                })
            })
            .collect();
        LabelSelector {
            requirements,
            nothing: false,
        }
    }

    /// The `metav1.LabelSelector` of an object. Absent or null matches nothing, an empty one
    /// everything.
    pub fn from_object(selector: Option<&Value>) -> Result<LabelSelector, SelectorError> {
        let Some(selector) = selector.and_then(Value::as_object) else {
            return Ok(LabelSelector::nothing());
        };
        let mut requirements = Vec::new();
        let labels = selector.get("matchLabels").and_then(Value::as_object);
        for (key, value) in labels.into_iter().flatten() {
            let value = value.as_str().unwrap_or("").to_owned();
            requirements.push(Requirement::new(
                key,
                Operator::Equals,
                BTreeSet::from([value]),
            )?);
        }
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        for expression in expressions.into_iter().flatten() {
            let text = |k: &str| expression.get(k).and_then(Value::as_str).unwrap_or("");
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "{} is not a valid label selector operator",
                        go_quote(other)
                    )));
                }
            };
            let values = expression.get("values").and_then(Value::as_array);
            let values = values.into_iter().flatten().filter_map(Value::as_str);
            let values = values.map(str::to_owned).collect();
            requirements.push(Requirement::new(text("key"), operator, values)?);
        }
        Ok(LabelSelector::of(requirements))
    }

    pub(super) fn of(mut requirements: Vec<Requirement>) -> LabelSelector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        LabelSelector {
            requirements,
            nothing: false,
        }
    }

    /// Whether an object with these labels is selected.
    pub fn matches<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> bool {
        !self.nothing
            && self.requirements.iter().all(|r| {
                let value = labels.clone().find(|(k, _)| *k == r.key).map(|(_, v)| v);
                r.matches(value)
            })
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether nothing can be selected.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// The terms, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = || {
            let values: Vec<&str> = self.values.iter().map(String::as_str).collect();
            values.join(",")
        };
        let key = &self.key;
        match self.operator {
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Equals => write!(f, "{key}={}", list()),
            Operator::DoubleEquals => write!(f, "{key}=={}", list()),
            Operator::NotEquals => write!(f, "{key}!={}", list()),
            Operator::In => write!(f, "{key} in ({})", list()),
            Operator::NotIn => write!(f, "{key} notin ({})", list()),
            Operator::GreaterThan => write!(f, "{key}>{}", list()),
            Operator::LessThan => write!(f, "{key}<{}", list()),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

pub(super) fn check_key(key: &str, path: &str) -> Result<(), SelectorError> {
    let errors = names::is_qualified_name(key);
    if errors.is_empty() {
        return Ok(());
    }
    let error = FieldError::invalid(&Path::new(path), key, errors.join("; "));
    Err(SelectorError(error.to_string()))
}
