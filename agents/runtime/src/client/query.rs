//! The query of a path.

use crate::resource_ref::push_escaped;

#[derive(Default)]
pub(super) struct Query(String);

impl Query {
    pub(super) fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            push_escaped(&mut self.0, value);
        }
    }

    pub(super) fn onto(self, mut path: String) -> String {
        path.push_str(&self.0);
        path
    }
}
