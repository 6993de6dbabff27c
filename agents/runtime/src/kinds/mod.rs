//! Slim typed structs of the kinds that agents read: only the fields that somebody looks at.
//!
//! They are for reading and for building status patches. Whole objects are never written from them, or unknown fields
//! would be lost: writers send patches, or change a `Value` fetched for the purpose.
//! Every field tolerates absence and `null`, and a field at its default is left out when written.

mod autoscaling;
mod batch;
mod core;
mod meta;
mod network;
mod node;
mod pod;
mod pod_status;
mod volume;
mod workloads;

pub use self::core::*;
pub use autoscaling::*;
pub use batch::*;
pub use meta::*;
pub use network::*;
pub use node::*;
pub use pod::*;
pub use pod_status::*;
pub use volume::*;
pub use workloads::*;

use crate::resource_ref::ResourceRef;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// A kind that can be kept in a cache.
pub trait Kind: DeserializeOwned + Send + Sync + 'static {
    /// What to list and watch.
    fn resource() -> ResourceRef;
    /// Metadata.
    fn meta(&self) -> &ObjectMeta;
    /// The node that the object belongs to, for the node index.
    fn node_name(&self) -> &str {
        ""
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
    )* };
}
pub(crate) use fields;

/// Gives a kind its place in the API.
macro_rules! kind {
    ($name:ident, $resource:expr) => {
        impl $crate::kinds::Kind for $name {
            fn resource() -> $crate::resource_ref::ResourceRef {
                $resource
            }
            fn meta(&self) -> &$crate::kinds::ObjectMeta {
                &self.metadata
            }
        }
    };
}
pub(crate) use kind;

pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    decoder: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(decoder)?.unwrap_or_default())
}

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
        assert_eq!(
            pod.spec.containers[0]
                .liveness_probe
                .as_ref()
                .unwrap()
                .period_seconds,
            Some(3)
        );
        let again: Pod = serde_json::from_str(&serde_json::to_string(&pod).unwrap()).unwrap();
        assert_eq!(pod, again);
    }
}
