//! Label selectors against labels.

use crate::kinds::{LabelSelector, LabelSelectorRequirement, Labels};

impl LabelSelector {
    /// Whether the labels satisfy every requirement. An empty selector matches everything; an unknown operator nothing.
    pub fn matches(&self, labels: &Labels) -> bool {
        contains_all(labels, &self.match_labels)
            && self.match_expressions.iter().all(|r| r.matches(labels))
    }

    /// Whether there is no requirement at all.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }
}

impl LabelSelectorRequirement {
    /// Whether the labels satisfy this requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator.as_str() {
            "In" => value.is_some_and(|v| self.values.contains(v)),
            "NotIn" => value.is_none_or(|v| !self.values.contains(v)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    }
}

/// Whether `labels` has every pair of `wanted`.
pub fn contains_all(labels: &Labels, wanted: &Labels) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators() {
        let labels: Labels = [("a".to_owned(), "1".to_owned())].into();
        let check = |key: &str, operator: &str, values: &[&str]| {
            LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: values.iter().map(|v| (*v).to_owned()).collect(),
            }
            .matches(&labels)
        };
        assert!(check("a", "In", &["1", "2"]) && !check("b", "In", &["1"]));
        assert!(check("b", "NotIn", &["1"]) && !check("a", "NotIn", &["1"]));
        assert!(
            check("a", "Exists", &[])
                && check("b", "DoesNotExist", &[])
                && !check("a", "Sometimes", &[])
        );
        assert!(LabelSelector::default().matches(&labels));
    }
}
