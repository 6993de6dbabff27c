//! Pods as they were last applied. The namespace of thousands is there once, and a name only in its pod.

use super::Name;
use crate::object::Pod;
use host::{HashMap, HashSet};
use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// By namespace and name.
#[derive(Default)]
pub(super) struct Pods(HashMap<String, HashSet<ByName>>);

/// A pod of a namespace, which is found by its name.
struct ByName(Arc<Pod>);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        &self.0.name
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

impl Hash for ByName {
    /// Like the text that it is looked up by.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.name.hash(hasher);
    }
}

impl Pods {
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.0.get(namespace)?.get(name).map(|ByName(pod)| pod)
    }

    /// A pod is now like this, or gone; answers what it was.
    pub(super) fn set(
        &mut self,
        (namespace, name): Name,
        new: Option<Arc<Pod>>,
    ) -> Option<Arc<Pod>> {
        if let Some(new) = new {
            let others = self.0.entry(namespace).or_default();
            return others.replace(ByName(new)).map(|ByName(old)| old);
        }
        let others = self.0.get_mut(&namespace)?;
        let old = others.take(name.as_str()).map(|ByName(old)| old);
        if others.is_empty() {
            self.0.remove(&namespace);
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_known_by_both_its_names_until_it_is_gone() {
        let mut pods = Pods::default();
        let name = |namespace: &str| (namespace.to_string(), "p".to_string());
        let pod = |uid: &str| {
            Some(Arc::new(Pod {
                name: "p".into(),
                uid: uid.into(),
                ..Pod::default()
            }))
        };
        assert_eq!(pods.set(name("a"), pod("1")), None);
        assert_eq!(pods.set(name("b"), pod("2")), None);
        assert_eq!(pods.set(name("a"), pod("3")), pod("1"));
        assert_eq!(pods.get("a", "p").cloned(), pod("3"));
        assert_eq!((pods.get("a", "q"), pods.get("c", "p")), (None, None));
        assert_eq!(pods.set(name("a"), None), pod("3"));
        assert_eq!(pods.set(name("a"), None), None);
        assert_eq!(pods.get("b", "p").cloned(), pod("2"));
        assert_eq!(pods.0.len(), 1);
    }
}
