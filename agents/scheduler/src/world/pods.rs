//! Pods as they were last applied. The namespace of thousands is there once.

use super::Name;
use crate::object::Pod;
use host::HashMap;
use std::sync::Arc;

/// By namespace and name.
#[derive(Default)]
pub(super) struct Pods(HashMap<String, HashMap<String, Arc<Pod>>>);

impl Pods {
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.0.get(namespace)?.get(name)
    }

    /// A pod is now like this, or gone; answers what it was.
    pub(super) fn set(
        &mut self,
        (namespace, name): Name,
        new: Option<Arc<Pod>>,
    ) -> Option<Arc<Pod>> {
        if let Some(new) = new {
            return self.0.entry(namespace).or_default().insert(name, new);
        }
        let others = self.0.get_mut(&namespace)?;
        let old = others.remove(&name);
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
