//! Label selectors and node selector terms, compiled once a pod and matched often.

pub use agent_runtime::kinds::Labels;
use serde_json::Value;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

/// One `key operator values` requirement.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    /// A requirement that the label has exactly this value.
    pub fn equals(key: &str, value: &str) -> Requirement {
        Requirement {
            key: key.into(),
            operator: Operator::In,
            values: vec![value.into()],
        }
    }

    /// `None` for an operator that does not exist: the caller treats the whole selector as matching nothing.
    fn parse(value: &Value) -> Option<Requirement> {
        let operator = match value.get("operator")?.as_str()? {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::Gt,
            "Lt" => Operator::Lt,
            _ => return None,
        };
        Some(Requirement {
            key: value.get("key")?.as_str()?.into(),
            operator,
            values: strings(value.get("values")),
        })
    }

    fn matches(&self, actual: Option<&str>) -> bool {
        match self.operator {
            Operator::In => actual.is_some_and(|actual| self.values.iter().any(|v| v == actual)),
            Operator::NotIn => actual.is_none_or(|actual| self.values.iter().all(|v| v != actual)),
            Operator::Exists => actual.is_some(),
            Operator::DoesNotExist => actual.is_none(),
            Operator::Gt => self.compare(actual, |actual, bound| actual > bound),
            Operator::Lt => self.compare(actual, |actual, bound| actual < bound),
        }
    }

    fn compare(&self, actual: Option<&str>, holds: fn(i64, i64) -> bool) -> bool {
        let bound = self.values.first().and_then(|v| v.parse().ok());
        match (actual.and_then(|a| a.parse().ok()), bound) {
            (Some(actual), Some(bound)) => holds(actual, bound),
            _ => false,
        }
    }
}

/// A compiled `metav1.LabelSelector`. The empty one matches everything; an absent one is `None` at its user and
/// matches nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// From the JSON form; `None` when absent or invalid.
    pub fn parse(value: Option<&Value>) -> Option<LabelSelector> {
        let value = value?.as_object()?;
        let mut requirements: Vec<Requirement> = labels(value.get("matchLabels"))
            .iter()
            .map(|(key, value)| Requirement::equals(key, value))
            .collect();
        for expression in value
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            requirements.push(Requirement::parse(expression)?);
        }
        Some(LabelSelector { requirements })
    }

    /// A selector that demands each of these labels.
    pub fn from_labels(labels: &Labels) -> LabelSelector {
        LabelSelector {
            requirements: labels
                .iter()
                .map(|(key, value)| Requirement::equals(key, value))
                .collect(),
        }
    }

    /// Whether there is nothing to demand.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Demands also what `other` demands.
    pub fn and(mut self, other: &LabelSelector) -> LabelSelector {
        self.requirements.extend(other.requirements.iter().cloned());
        self
    }

    /// Demands one more.
    pub fn push(&mut self, requirement: Requirement) {
        self.requirements.push(requirement);
    }

    /// Whether every requirement holds.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements
            .iter()
            .all(|r| r.matches(labels.get(&r.key).map(String::as_str)))
    }
}

/// One term of a node selector: every expression over labels and every one over fields must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeSelectorTerm {
    expressions: Vec<Requirement>,
    fields: Vec<Requirement>,
}

impl NodeSelectorTerm {
    /// `None` for an empty or invalid term; both match no node.
    pub fn parse(value: &Value) -> Option<NodeSelectorTerm> {
        let list = |name: &str| -> Option<Vec<Requirement>> {
            value
                .get(name)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(Requirement::parse)
                .collect()
        };
        let term = NodeSelectorTerm {
            expressions: list("matchExpressions")?,
            fields: list("matchFields")?,
        };
        (!term.expressions.is_empty() || !term.fields.is_empty()).then_some(term)
    }

    /// Whether the node with this name and these labels is meant. `metadata.name` is the only field there is.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.expressions
            .iter()
            .all(|r| r.matches(labels.get(&r.key).map(String::as_str)))
            && self
                .fields
                .iter()
                .all(|r| r.matches((r.key == "metadata.name").then_some(name)))
    }

    /// The node names this term allows when it pins them by field (how a DaemonSet addresses its node).
    pub fn pinned_names(&self) -> Option<Vec<&str>> {
        let mut pinned: Option<Vec<&str>> = None;
        for field in self
            .fields
            .iter()
            .filter(|f| f.key == "metadata.name" && f.operator == Operator::In)
        {
            let names = field.values.iter().map(String::as_str);
            pinned = Some(match pinned {
                None => names.collect(),
                Some(before) => names.filter(|name| before.contains(name)).collect(),
            });
        }
        pinned
    }
}

/// A JSON object of strings; anything else in it is skipped.
pub fn labels(value: Option<&Value>) -> Labels {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    let texts = entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_string())));
    texts.collect::<Labels>().shared()
}

/// A JSON array of strings; anything else in it is skipped.
pub fn strings(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items
        .filter_map(|item| item.as_str().map(str::to_string))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    }

    #[test]
    fn label_selector_operators() {
        let labels = map(&[("app", "web"), ("rank", "5")]);
        let table = [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "rank", "operator": "Gt", "values": ["4"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "rank", "operator": "Lt", "values": ["5"]}]}),
                false,
            ),
        ];
        for (selector, expected) in table {
            let compiled = LabelSelector::parse(Some(&selector)).unwrap();
            assert_eq!(compiled.matches(&labels), expected, "{selector}");
        }
        assert_eq!(LabelSelector::parse(None), None);
        let wrong = json!({"matchExpressions": [{"key": "a", "operator": "Is"}]});
        assert_eq!(LabelSelector::parse(Some(&wrong)), None);
    }

    #[test]
    fn node_selector_term_by_field_pins_the_name() {
        let term =
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]});
        let term = NodeSelectorTerm::parse(&term).unwrap();
        assert!(term.matches("n1", &Labels::new()) && !term.matches("n2", &Labels::new()));
        assert_eq!(term.pinned_names(), Some(vec!["n1"]));
        assert_eq!(NodeSelectorTerm::parse(&json!({})), None);
    }
}
