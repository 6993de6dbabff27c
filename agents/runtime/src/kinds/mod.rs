//! Slim typed structs of the kinds that agents read: only the fields that somebody looks at.
//!
//! They are for reading and for building status patches. Whole objects are never written from them, or unknown fields
//! would be lost: writers send patches, or change a `Value` fetched for the purpose.
//! Every field tolerates absence and `null`, and a field at its default is left out when written.

mod autoscaling;
mod batch;
mod core;
mod devices;
mod labels;
mod list;
mod mention;
mod meta;
mod network;
mod node;
mod pod;
mod pod_status;
mod text;
mod volume;
mod workloads;

pub use self::core::*;
pub use autoscaling::*;
pub use batch::*;
pub use devices::*;
pub use labels::Labels;
pub use list::{Alike, List};
pub use mention::Mention;
pub use meta::*;
pub use network::*;
pub use node::*;
pub use pod::*;
pub use pod_status::*;
pub use text::{Few, Seldom, Text, Time};
pub use volume::*;
pub use workloads::*;

use crate::resource_ref::ResourceRef;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// A kind that can be kept in a cache.
pub trait Kind: DeserializeOwned + Send + Sync + 'static {
    /// Whether somebody looks objects up by their owners, their node or what they mention, or those without a controller. What
    /// is not indexed is not found so.
    const IS_INDEXED: bool = true;
    /// Whether there may be so many that a cache should find one by the hash of its name, and put them in order only when it is
    /// asked for a list of them.
    const IS_MANY: bool = false;
    /// What to list and watch.
    fn resource() -> ResourceRef;
    /// Metadata. What is not indexed may have none.
    fn meta(&self) -> &ObjectMeta;
    /// Who it is; of the metadata of what is not indexed a cache asks for nothing else.
    fn identity(&self) -> Identity<'_> {
        self.meta().identity()
    }
    /// The node that the object belongs to, for the node index.
    fn node_name(&self) -> &str {
        ""
    }
    /// What the object is looked up by besides.
    fn mentions(&self) -> Vec<Mention> {
        Vec::new()
    }
}

/// Declares structs in the shape described in the module head.
macro_rules! fields {
    ($( $(#[$attr:meta])* pub struct $name:ident { $( $(#[$field_attr:meta])* pub $field:ident : $ty:ty, )* } )*) => { $(
        $(#[$attr])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        #[allow(missing_docs, reason = "fields carry the names and meaning of the Kubernetes API")]
        pub struct $name {
            $(
                $(#[$field_attr])*
                #[serde(deserialize_with = "crate::kinds::nullable", skip_serializing_if = "crate::kinds::is_default")]
                pub $field: $ty,
            )*
        }
        impl $crate::kinds::Exact for $name {}
    )* };
}
pub(crate) use fields;

/// Gives a kind its place in the API, and says what its objects mention.
macro_rules! kind {
    ($name:ident, $resource:expr $(, mentions: $mentions:expr)?) => {
        impl $crate::kinds::Kind for $name {
            fn resource() -> $crate::resource_ref::ResourceRef {
                $resource
            }
            fn meta(&self) -> &$crate::kinds::ObjectMeta {
                &self.metadata
            }
            $(
                fn mentions(&self) -> Vec<$crate::kinds::Mention> {
                    let of: fn(&Self) -> Vec<$crate::kinds::Mention> = $mentions;
                    of(self)
                }
            )?
        }
    };
}
pub(crate) use kind;

pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Default + Exact + Deserialize<'de>>(
    decoder: D,
) -> Result<T, D::Error> {
    let mut value = Option::<T>::deserialize(decoder)?.unwrap_or_default();
    value.make_exact();
    Ok(value)
}

/// What may have reserved more memory than it fills while it was read. What stays in a cache must not: a list of one grows to
/// room for four.
pub(crate) trait Exact {
    /// Gives back what is reserved and not filled. Fields of fields are read with their own call.
    fn make_exact(&mut self) {}
}

impl<T: Exact> Exact for Vec<T> {
    fn make_exact(&mut self) {
        self.shrink_to_fit();
    }
}

impl<T> Exact for Box<[T]> {}

impl<T: Exact> Exact for Box<T> {
    fn make_exact(&mut self) {
        (**self).make_exact();
    }
}

impl<T: Exact> Exact for Option<T> {
    fn make_exact(&mut self) {
        if let Some(value) = self {
            value.make_exact();
        }
    }
}

/// These are exact as they are read.
macro_rules! exact {
    ($($ty:ty),*) => { $(impl Exact for $ty {})* };
}
exact!(bool, i32, i64, String, Labels, serde_json::Value);

impl<V> Exact for BTreeMap<String, V> {}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The name and metadata of any object: what a cache of `PartialObjectMetadata` holds.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PartialObject {
    /// Metadata.
    pub metadata: ObjectMeta,
}

impl Kind for PartialObject {
    fn resource() -> ResourceRef {
        ResourceRef::new("", "", "", "", true)
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_unknown_fields_are_tolerated() {
        let text = r#"{"metadata":{"name":"p","creationTimestamp":null,"labels":null,"x":1},"spec":{"containers":[{"name":"c","image":"i","ports":null,"livenessProbe":{"httpGet":{"port":"http"},"periodSeconds":3}}],"new":{}},"status":null}"#;
        let pod: Pod = serde_json::from_str(text).unwrap();
        assert_eq!(pod.metadata.name, "p");
        assert_eq!(pod.spec.containers[0].image, "i");
        let again: Pod = serde_json::from_str(&serde_json::to_string(&pod).unwrap()).unwrap();
        assert_eq!(pod, again);
    }

    #[test]
    fn nothing_is_reserved_that_is_not_filled() {
        let text = r#"{"metadata":{"finalizers":["a"],"ownerReferences":[{"name":"o"}]},"spec":{"containers":[{"ports":[{"name":"p"}]}],
            "tolerations":[{"key":"a"},{"key":"b"}]},"status":{"conditions":[{"type":"a"},{"type":"b"},{"type":"c"},{"type":"d"},{"type":"e"}]}}"#;
        let pod: Pod = serde_json::from_str(text).unwrap();
        assert_eq!(pod.metadata.finalizers, ["a"]);
        assert_eq!(pod.metadata.owner_references.len(), 1);
        assert_eq!(pod.spec.containers[0].ports.capacity(), 1);
        assert_eq!(pod.spec.tolerations.len(), 2);
        assert_eq!(pod.status.conditions.len(), 5);
    }

    #[test]
    fn a_pod_is_small() {
        // A hundred thousand of them stay in the controllers' cache: think before you give it a field that nobody looks at.
        // With the two counts of its Arc it fills one of the allocator's sizes.
        assert!(size_of::<Pod>() <= 384 - 16, "{}", size_of::<Pod>());
        assert!(size_of::<Container>() <= 112, "{}", size_of::<Container>());
    }
}
