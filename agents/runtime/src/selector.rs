//! Label selectors against labels, and node selectors against nodes.

use crate::kinds::{
    LabelSelector, LabelSelectorRequirement, Labels, Node, NodeSelector, NodeSelectorRequirement,
    NodeSelectorTerm, PodPlacement,
};

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

impl NodeSelector {
    /// Whether a term fits the node. A selector without terms fits none.
    pub fn matches(&self, node: &Node) -> bool {
        self.node_selector_terms
            .iter()
            .any(|term| term.matches(node))
    }
}

impl NodeSelectorTerm {
    /// Whether the node satisfies every requirement. A term without requirements fits none.
    pub fn matches(&self, node: &Node) -> bool {
        let labels = &node.metadata.labels;
        let mut fields = self.match_fields.iter();
        (!self.match_expressions.is_empty() || !self.match_fields.is_empty())
            && self.match_expressions.iter().all(|r| r.matches(labels))
            && fields.all(|r| r.matches_name(&node.metadata.name))
    }
}

impl NodeSelectorRequirement {
    /// Whether the labels satisfy this requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let compared = || {
            let [bound] = self.values.as_slice() else {
                return None;
            };
            let bound: i64 = bound.parse().ok()?;
            Some(value?.parse::<i64>().ok()?.cmp(&bound))
        };
        match self.operator.as_str() {
            "In" => value.is_some_and(|v| self.values.contains(v)),
            "NotIn" => value.is_none_or(|v| !self.values.contains(v)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => compared().is_some_and(|order| order.is_gt()),
            "Lt" => compared().is_some_and(|order| order.is_lt()),
            _ => false,
        }
    }

    /// Whether this is a requirement of the name, the only field there is, and the name satisfies it.
    fn matches_name(&self, name: &str) -> bool {
        let [wanted] = self.values.as_slice() else {
            return false;
        };
        self.key == "metadata.name"
            && match self.operator.as_str() {
                "In" => wanted == name,
                "NotIn" => wanted != name,
                _ => false,
            }
    }
}

impl PodPlacement {
    /// Whether the node has the labels and the name that a pod of this template asks for.
    pub fn selects(&self, node: &Node) -> bool {
        let affinity = self.affinity.as_ref();
        let required = affinity
            .and_then(|affinity| affinity.node_affinity.as_ref())
            .and_then(|nodes| {
                nodes
                    .required_during_scheduling_ignored_during_execution
                    .as_ref()
            });
        (self.node_name.is_empty() || self.node_name == node.metadata.name)
            && contains_all(&node.metadata.labels, &self.node_selector)
            && required.is_none_or(|selector| selector.matches(node))
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

    #[test]
    fn node_terms_are_alternatives_and_an_empty_one_fits_nothing() {
        let node: Node = serde_json::from_value(
            serde_json::json!({"metadata": {"name": "n1", "labels": {"zone": "a", "cores": "8"}}}),
        )
        .unwrap();
        let fits = |required: serde_json::Value| {
            let affinity = serde_json::json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}});
            let placement: PodPlacement = serde_json::from_value(affinity).unwrap();
            placement.selects(&node)
        };
        let terms = |terms: serde_json::Value| serde_json::json!({"nodeSelectorTerms": terms});
        let label = |key: &str, operator: &str, value: &str| serde_json::json!({"matchExpressions": [{"key": key, "operator": operator, "values": [value]}]});
        let name = |operator: &str, values: &[&str]| serde_json::json!({"matchFields": [{"key": "metadata.name", "operator": operator, "values": values}]});
        let both = serde_json::json!([label("zone", "In", "b"), label("cores", "Gt", "4")]);
        assert!(fits(terms(both)));
        assert!(!fits(terms(serde_json::json!([label("zone", "In", "b")]))));
        assert!(!fits(terms(serde_json::json!([label("cores", "Lt", "8")]))));
        assert!(!fits(terms(serde_json::json!([label("zone", "Gt", "1")]))));
        assert!(fits(terms(serde_json::json!([name("In", &["n1"])]))));
        assert!(!fits(terms(serde_json::json!([name("NotIn", &["n1"])]))));
        assert!(!fits(terms(serde_json::json!([name("In", &["n1", "n2"])]))));
        assert!(!fits(terms(serde_json::json!([{}]))) && !fits(terms(serde_json::json!([]))));
        assert!(PodPlacement::default().selects(&node));
    }
}
