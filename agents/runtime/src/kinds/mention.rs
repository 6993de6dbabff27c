//! What objects are looked up by besides their owners, their labels and their node: what they name in their specification.

use super::{
    EndpointSlice, LabelSelector, Labels, ObjectMeta, PersistentVolume, PersistentVolumeClaim, Pod,
    SERVICE_NAME, Service,
};
use crate::cache::Key;
use serde_json::Value;
use std::collections::BTreeSet;

/// Something that objects name. [`Cache::mentioning`](crate::Cache::mentioning) finds those that do without a look at all
/// the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mention {
    /// A PersistentVolumeClaim: by pods that mount it, and by volumes that are taken or kept for it.
    Claim(Key),
    /// A PersistentVolume: by the claims that have or want it.
    Volume(String),
    /// A class of volumes, empty for none: by claims that have no volume, and by volumes that are kept for no claim.
    FreeOfClass(String),
    /// A claim that has left its volume: by volumes that are `Released` or `Failed`.
    LostClaim,
    /// A ResourceClaim: by pods that use it.
    DeviceClaim(Key),
    /// A ResourceClaimTemplate: by pods that want a claim of it.
    DeviceTemplate(Key),
    /// A Service: by its EndpointSlices, in a label.
    Service(Key),
    /// A pair of labels: by those of the namespace whose selector has it as its first. So each of them is found once among
    /// all pairs of a pod.
    Selected {
        /// Of who selects, and of the pods.
        namespace: String,
        /// The label.
        key: String,
        /// Its value.
        value: String,
    },
    /// No pair of labels: by those of the namespace whose selector names none, and may match any labels.
    SelectedOtherwise(String),
    /// The number of a port: by Services that have it on nodes or offer it at a load balancer.
    Port(i32),
}

impl Pod {
    /// Names of the PersistentVolumeClaims that the pod mounts, with those that are made for it (`ephemeral` volumes).
    pub fn volume_claims(&self) -> impl Iterator<Item = String> {
        let volumes = self.spec.volumes.iter();
        volumes.filter_map(move |volume| {
            match (&volume.persistent_volume_claim, &volume.ephemeral) {
                (Some(claim), _) => Some(claim.claim_name.clone()),
                (None, Some(_)) => Some(format!("{}-{}", self.metadata.name, volume.name)),
                (None, None) => None,
            }
        })
    }
}

pub(super) fn of_pod(pod: &Pod) -> Vec<Mention> {
    let key = |name: &str| Key::new(&pod.metadata.namespace, name);
    let mut mentions: Vec<Mention> = pod
        .volume_claims()
        .map(|name| Mention::Claim(key(&name)))
        .collect();
    let named = move |field: &'static str| {
        let entries = pod.spec.resource_claims.iter();
        entries.filter_map(move |entry| entry.get(field).and_then(Value::as_str))
    };
    let recorded = pod.status.resource_claim_statuses.iter();
    let recorded = recorded.filter_map(|status| status.resource_claim_name.as_deref());
    let extended = pod.status.extended_resource_claim_status.iter();
    let extended = extended.map(|status| status.resource_claim_name.as_str());
    let used = named("resourceClaimName").chain(recorded).chain(extended);
    mentions.extend(used.map(|name| Mention::DeviceClaim(key(name))));
    let templates = named("resourceClaimTemplateName");
    mentions.extend(templates.map(|name| Mention::DeviceTemplate(key(name))));
    mentions
}

pub(super) fn of_claim(claim: &PersistentVolumeClaim) -> Vec<Mention> {
    let volume = &claim.spec.volume_name;
    vec![match volume.is_empty() {
        true => Mention::FreeOfClass(claim.class_name().to_owned()),
        false => Mention::Volume(volume.clone()),
    }]
}

pub(super) fn of_volume(volume: &PersistentVolume) -> Vec<Mention> {
    let mut mentions = vec![match &volume.spec.claim_ref {
        None => Mention::FreeOfClass(volume.class_name().to_owned()),
        Some(claim) => Mention::Claim(Key::new(&claim.namespace, &claim.name)),
    }];
    if matches!(volume.status.phase.as_str(), "Released" | "Failed") {
        mentions.push(Mention::LostClaim);
    }
    mentions
}

pub(super) fn of_slice(slice: &EndpointSlice) -> Vec<Mention> {
    let meta = &slice.metadata;
    let service = meta.labels.get(SERVICE_NAME);
    let service = service.map(|name| Mention::Service(Key::new(&meta.namespace, name)));
    service.into_iter().collect()
}

pub(super) fn of_service(service: &Service) -> Vec<Mention> {
    let spec = &service.spec;
    let mut mentions = of_pairs(&service.metadata, &spec.selector);
    let is_balanced = spec.kind == "LoadBalancer";
    let mut numbers = BTreeSet::new();
    if is_balanced || spec.kind == "NodePort" {
        let on_nodes = spec.ports.iter().map(|port| port.node_port);
        let on_nodes = on_nodes.chain([spec.health_check_node_port]);
        numbers.extend(on_nodes.filter(|number| *number != 0));
    }
    if is_balanced {
        numbers.extend(spec.ports.iter().map(|port| port.port));
    }
    mentions.extend(numbers.into_iter().map(Mention::Port));
    mentions
}

/// Of who selects by these pairs, and nothing where there is none.
pub(super) fn of_pairs(meta: &ObjectMeta, pairs: &Labels) -> Vec<Mention> {
    let first = pairs.iter().next();
    let first = first.map(|(key, value)| Mention::Selected {
        namespace: meta.namespace.clone(),
        key: key.clone(),
        value: value.clone(),
    });
    first.into_iter().collect()
}

/// Of who selects so, and nothing without a selector.
pub(super) fn of_selector(meta: &ObjectMeta, selector: Option<&LabelSelector>) -> Vec<Mention> {
    match selector {
        None => Vec::new(),
        Some(selector) if selector.match_labels.is_empty() => {
            vec![Mention::SelectedOtherwise(meta.namespace.clone())]
        }
        Some(selector) => of_pairs(meta, &selector.match_labels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{Kind, ReplicaSet, Service};
    use serde_json::json;

    fn of<T: Kind>(object: Value) -> Vec<Mention> {
        serde_json::from_value::<T>(object).unwrap().mentions()
    }

    #[test]
    fn pods_name_the_claims_that_they_mount_and_use() {
        let key = |name: &str| Key::new("a", name);
        let meta = json!({"name": "p", "namespace": "a"});
        assert!(
            of::<Pod>(
                json!({"metadata": meta, "spec": {"volumes": [{"name": "x", "emptyDir": {}}]}})
            )
            .is_empty()
        );
        let volumes = json!([{"name": "x", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "y", "ephemeral": {}}]);
        let claims = json!([{"name": "g", "resourceClaimName": "d"}, {"name": "h", "resourceClaimTemplateName": "t"}]);
        let status = json!({"resourceClaimStatuses": [{"name": "h", "resourceClaimName": "p-h"}, {"name": "none"}],
            "extendedResourceClaimStatus": {"resourceClaimName": "e"}});
        let pod = json!({"metadata": meta, "spec": {"volumes": volumes, "resourceClaims": claims}, "status": status});
        let expected = [
            Mention::Claim(key("c")),
            Mention::Claim(key("p-y")),
            Mention::DeviceClaim(key("d")),
            Mention::DeviceClaim(key("p-h")),
            Mention::DeviceClaim(key("e")),
            Mention::DeviceTemplate(key("t")),
        ];
        assert_eq!(of::<Pod>(pod), expected);
    }

    #[test]
    fn claims_and_volumes_name_each_other_or_their_class() {
        let free = |class: &str| [Mention::FreeOfClass(class.into())];
        let old = json!({"annotations": {"volume.beta.kubernetes.io/storage-class": "old"}});
        assert_eq!(of::<PersistentVolumeClaim>(json!({})), free(""));
        let spec = json!({"storageClassName": "new"});
        assert_eq!(
            of::<PersistentVolumeClaim>(json!({ "spec": spec })),
            free("new")
        );
        assert_eq!(
            of::<PersistentVolumeClaim>(json!({"metadata": old, "spec": spec})),
            free("old")
        );
        let bound = json!({"spec": {"storageClassName": "new", "volumeName": "v"}});
        assert_eq!(
            of::<PersistentVolumeClaim>(bound),
            [Mention::Volume("v".into())]
        );
        assert_eq!(of::<PersistentVolume>(json!({ "spec": spec })), free("new"));
        assert_eq!(
            of::<PersistentVolume>(json!({"metadata": old, "spec": spec})),
            free("old")
        );
        let left = json!({"spec": {"claimRef": {"namespace": "a", "name": "c"}}, "status": {"phase": "Released"}});
        assert_eq!(
            of::<PersistentVolume>(left),
            [Mention::Claim(Key::new("a", "c")), Mention::LostClaim]
        );
        let taken = json!({"spec": {"claimRef": {"namespace": "a", "name": "c"}}});
        assert_eq!(
            of::<PersistentVolume>(taken),
            [Mention::Claim(Key::new("a", "c"))]
        );
    }

    #[test]
    fn slices_name_their_service() {
        let slice = |labels: Value| {
            of::<EndpointSlice>(
                json!({"metadata": {"name": "s-1", "namespace": "a", "labels": labels}}),
            )
        };
        assert!(slice(json!({"app": "web"})).is_empty());
        let service = [Mention::Service(Key::new("a", "s"))];
        assert_eq!(slice(json!({SERVICE_NAME: "s"})), service);
    }

    #[test]
    fn services_name_the_ports_that_they_have_outside_the_cluster() {
        let ports =
            json!([{"port": 80, "nodePort": 30080}, {"port": 53, "nodePort": 30053}, {"port": 53}]);
        let table: [(&str, &[i32]); 4] = [
            ("ClusterIP", &[]),
            ("ExternalName", &[]),
            ("NodePort", &[30053, 30080, 32000]),
            ("LoadBalancer", &[53, 80, 30053, 30080, 32000]),
        ];
        for (kind, numbers) in table {
            let spec = json!({"type": kind, "ports": ports, "healthCheckNodePort": 32000});
            let expected: Vec<Mention> = numbers.iter().copied().map(Mention::Port).collect();
            assert_eq!(of::<Service>(json!({ "spec": spec })), expected, "{kind}");
        }
    }

    #[test]
    fn who_selects_is_found_by_one_pair() {
        let meta = json!({"name": "s", "namespace": "a"});
        let service = |selector: Value| {
            of::<Service>(json!({"metadata": meta, "spec": {"selector": selector}}))
        };
        let set = |selector: Value| {
            of::<ReplicaSet>(json!({"metadata": meta, "spec": {"selector": selector}}))
        };
        let first = [Mention::Selected {
            namespace: "a".into(),
            key: "app".into(),
            value: "web".into(),
        }];
        let any = [Mention::SelectedOtherwise("a".into())];
        let pairs = json!({"tier": "x", "app": "web"});
        let expressions = json!([{"key": "app", "operator": "Exists"}]);
        assert!(service(Value::Null).is_empty() && set(Value::Null).is_empty());
        assert!(service(json!({})).is_empty());
        assert_eq!(service(pairs.clone()), first);
        assert_eq!(set(json!({})), any);
        assert_eq!(
            set(json!({"matchLabels": pairs, "matchExpressions": expressions})),
            first
        );
        assert_eq!(set(json!({ "matchExpressions": expressions })), any);
    }
}
