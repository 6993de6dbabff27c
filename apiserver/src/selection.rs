//! Which objects of a resource a list, watch or deletion of a collection is about.

use resources::Resource;
use schema::selector::{FieldSelector, FieldTerm, LabelSelector};

use crate::entry::Entry;
use crate::interest::{Interest, Term};
use crate::request::Query;
use crate::status::{ApiError, ApiResult};

/// Namespace, label selector and field selector, ready to be matched against cached entries.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// Keys that can match begin with this.
    pub(crate) prefix: String,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// Everything of a resource in a namespace (in all of them when it is empty).
    pub(crate) fn all(resource: &Resource, namespace: &str) -> Selection {
        let mut prefix = resources::storage_prefix(resource);
        if resource.namespaced && !namespace.is_empty() {
            prefix.push_str(namespace);
            prefix.push('/');
        }
        Selection {
            prefix,
            labels: LabelSelector::everything(),
            fields: FieldSelector { terms: Vec::new() },
        }
    }

    /// Reads `labelSelector` and `fieldSelector`; 400 where they do not parse or name a field that the kind lacks.
    pub(crate) fn from_query(
        resource: &Resource,
        namespace: &str,
        query: &Query,
    ) -> ApiResult<Selection> {
        let mut selection = Selection::all(resource, namespace);
        if let Some(text) = query.get("labelSelector") {
            selection.labels = LabelSelector::parse(text)
                .map_err(|error| ApiError::bad_request(error.to_string()))?;
        }
        if let Some(text) = query.get("fieldSelector") {
            let fields = FieldSelector::parse(text)
                .map_err(|error| ApiError::bad_request(error.to_string()))?;
            if let Some(term) = fields
                .terms
                .iter()
                .find(|term| !resource.selects_by(&term.field))
            {
                return Err(ApiError::bad_request(not_selectable(resource, &term.field)));
            }
            selection.fields = fields;
        }
        if let Some(namespace) = selection
            .fields
            .required_value("metadata.namespace")
            .filter(|_| namespace.is_empty())
        {
            selection.prefix = Selection::all(resource, namespace).prefix;
        }
        Ok(selection)
    }

    /// Only the object of this name; an empty name changes nothing.
    pub(crate) fn narrow_to_name(&mut self, name: &str) {
        if !name.is_empty() {
            self.fields.terms.push(FieldTerm {
                field: "metadata.name".to_owned(),
                equal: true,
                value: name.to_owned(),
            });
        }
    }

    /// Whether it is about more than one object, or what one node has.
    pub(crate) fn is_wide(&self) -> bool {
        let is_free = |field| self.fields.required_value(field).is_none();
        is_free("metadata.name") && is_free("spec.nodeName")
    }

    /// What all that is selected has in common, of a cache with this prefix: one term, and of those the one that fewest
    /// objects have. Where only the `forms` that a webhook makes show what is selected, the place alone is common.
    pub(crate) fn interest(&self, cache_prefix: &str, forms: bool) -> Interest {
        let namespace = self.prefix.strip_prefix(cache_prefix).unwrap_or_default();
        let fields = self.fields.terms.iter().filter(|term| term.equal);
        let fields = fields.filter(|term| !forms || is_of_place(term));
        let field = fields.min_by_key(|term| match &*term.field {
            "metadata.name" => 0,
            "metadata.namespace" => 2,
            _ => 1,
        });
        let label = self.labels.required_pair().filter(|_| !forms);
        let term = match (field, label) {
            (Some(term), _) => Term::Field(term.field.clone(), term.value.clone()),
            (None, Some((key, value))) => Term::Label(key.to_owned(), value.to_owned()),
            (None, None) => Term::Any,
        };
        Interest {
            namespace: namespace.trim_end_matches('/').to_owned(),
            term,
        }
    }

    /// Whether every object of the prefix is meant.
    pub(crate) fn is_plain(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether it depends on labels.
    pub(crate) fn has_labels(&self) -> bool {
        !self.labels.is_empty()
    }

    /// Whether it depends on fields that versions of an object may have differently.
    pub(crate) fn has_fields(&self) -> bool {
        self.fields.terms.iter().any(|term| !is_of_place(term))
    }

    /// Whether it may match the entry: namespace and name do, which are the same in all versions.
    pub(crate) fn may_match(&self, entry: &Entry) -> bool {
        entry.key().starts_with(&self.prefix)
            && self
                .fields
                .terms
                .iter()
                .filter(|term| is_of_place(term))
                .all(|term| (entry.field(&term.field) == term.value) == term.equal)
    }

    pub(crate) fn matches(&self, entry: &Entry) -> bool {
        entry.key().starts_with(&self.prefix)
            && (self.labels.is_empty() || self.labels.matches(entry.labels()))
            && self
                .fields
                .terms
                .iter()
                .all(|term| (entry.field(&term.field) == term.value) == term.equal)
    }
}

fn is_of_place(term: &FieldTerm) -> bool {
    matches!(&*term.field, "metadata.name" | "metadata.namespace")
}

/// As Kubernetes' conversion of field labels says it: kinds without fields of their own name the two that all have.
fn not_selectable(resource: &Resource, field: &str) -> String {
    match resource.field_selectors.is_empty() && resource.custom.is_none() {
        true => format!(
            "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        ),
        false => format!("field label not supported: {field}"),
    }
}
