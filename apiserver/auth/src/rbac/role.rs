//! A role as it is asked: only the rules about the asked resource are looked at.

use std::collections::HashMap;

use crate::request::Attributes;
use crate::rule::Rule;

/// Rules with an index from a resource term of a rule to the rules that name it.
#[derive(Debug)]
pub(super) struct CompiledRole {
    pub(super) rules: Vec<Rule>,
    by_resource: HashMap<String, Vec<usize>>,
    with_paths: Vec<usize>,
}

impl CompiledRole {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        let mut by_resource: HashMap<String, Vec<usize>> = HashMap::new();
        let mut with_paths = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            for resource in &rule.resources {
                by_resource.entry(resource.clone()).or_default().push(index);
            }
            if !rule.non_resource_urls.is_empty() {
                with_paths.push(index);
            }
        }
        CompiledRole {
            rules,
            by_resource,
            with_paths,
        }
    }

    pub(super) fn allows(&self, attributes: &Attributes<'_>) -> bool {
        let any = |indexes: &[usize]| {
            indexes
                .iter()
                .any(|index| self.rules[*index].allows(attributes))
        };
        if !attributes.is_resource_request() {
            return any(&self.with_paths);
        }
        let named = |term: &str| {
            self.by_resource
                .get(term)
                .is_some_and(|indexes| any(indexes))
        };
        if named("*") {
            return true;
        }
        match attributes.subresource {
            "" => named(attributes.resource),
            subresource => {
                named(&format!("{}/{subresource}", attributes.resource))
                    || named(&format!("*/{subresource}"))
            }
        }
    }
}
