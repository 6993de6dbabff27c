//! What watches brought, applied to the world.

use super::Scheduler;
use crate::feed::{OwnedSelector, Source};
use crate::snapshot::Millis;
use agent_runtime::Key;
use std::sync::Arc;

impl Scheduler {
    /// Applies to the world what the watches brought.
    pub(super) fn take_in(&mut self) {
        let now = self.now();
        let news = self.feed.take();
        for (source, key) in news.keys {
            let (namespace, name) = (&*key.namespace, &*key.name);
            let full = (namespace.to_string(), name.to_string());
            match source {
                Source::Node => self
                    .world
                    .set_node(name, value(&self.feed.nodes, &key), now),
                Source::Budget => self.world.set_budget(full, value(&self.feed.budgets, &key)),
                Source::Namespace => {
                    let labels =
                        value(&self.feed.namespaces, &key).map(|namespace| namespace.0.clone());
                    self.world.set_namespace(name, labels, now);
                }
                Source::Service => {
                    let selector =
                        value(&self.feed.services, &key).map(|service| service.0.clone());
                    self.world.set_service(full, selector);
                }
                Source::ReplicaSet => {
                    let owner = value(&self.feed.replica_sets, &key);
                    self.world.set_owner(
                        "ReplicaSet",
                        full,
                        owner.as_ref().map(|owner| selector_of(&owner.0)),
                    );
                }
                Source::StatefulSet => {
                    let owner = value(&self.feed.stateful_sets, &key);
                    self.world.set_owner(
                        "StatefulSet",
                        full,
                        owner.as_ref().map(|owner| selector_of(&owner.0)),
                    );
                }
                Source::ReplicationController => {
                    let owner = value(&self.feed.replication_controllers, &key);
                    let owner = owner.as_ref().map(|owner| selector_of(&owner.0));
                    self.world.set_owner("ReplicationController", full, owner);
                }
                Source::Claim
                | Source::Volume
                | Source::Class
                | Source::CsiNode
                | Source::Driver
                | Source::Capacity
                | Source::Attachment => self.take_in_volumes(source, &key, now),
                Source::DeviceClass | Source::Slice | Source::DeviceClaim => {
                    self.take_in_devices(source, &key, now);
                }
            }
        }
        for (key, pod) in news.pods {
            let name = (key.namespace.to_string(), key.name.to_string());
            self.world.set_pod(name, pod, now);
        }
    }

    fn take_in_volumes(&mut self, source: Source, key: &Key, now: Millis) {
        let name = &*key.name;
        let full = (key.namespace.to_string(), name.to_string());
        let (world, feed) = (&mut self.world, &self.feed);
        match source {
            Source::Claim => world.set_claim(full, value(&feed.claims, key), now),
            Source::Volume => world.set_volume(name, value(&feed.volumes, key), now),
            Source::Class => world.set_class(name, value(&feed.classes, key), now),
            Source::CsiNode => world.set_csi_node(name, value(&feed.csi_nodes, key), now),
            Source::Driver => world.set_driver(name, value(&feed.drivers, key), now),
            Source::Capacity => world.set_capacity(full, value(&feed.capacities, key), now),
            Source::Attachment => world.set_attachment(name, value(&feed.attachments, key), now),
            _ => {}
        }
    }

    pub(super) fn take_in_devices(&mut self, source: Source, key: &Key, now: Millis) {
        let name = &*key.name;
        let full = (key.namespace.to_string(), name.to_string());
        let (world, feed) = (&mut self.world, &self.feed);
        match source {
            Source::DeviceClass => {
                world.set_device_class(name, value(&feed.device_classes, key), now);
            }
            Source::Slice => world.set_slice(name, value(&feed.slices, key), now),
            Source::DeviceClaim => {
                world.set_device_claim(full, value(&feed.device_claims, key), now);
            }
            _ => {}
        }
    }
}

/// The compiled object in a cache, if it is there.
fn value<T: crate::feed::Compiled>(
    cache: &agent_runtime::Cache<crate::feed::Seen<T>>,
    key: &Key,
) -> Option<Arc<T>> {
    cache.by_key(key).map(|seen| seen.value.clone())
}

fn selector_of(owner: &OwnedSelector) -> (&str, Option<&crate::selector::LabelSelector>) {
    (&owner.uid, owner.selector.as_ref())
}
