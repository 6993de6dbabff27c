//! Which endpoints go into which slice, and what has to be written for it.

use super::topology::Part;
use super::written::{same_ports, written, written_ports};
use super::{Ports, stamp};
use crate::pod_control::controller_reference;
use crate::world::World;
use agent_runtime::kinds::{Endpoint, EndpointSlice, Labels, Service};
use agent_runtime::plan::Op;
use agent_runtime::resource_ref::{ENDPOINT_SLICES, SERVICES};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const PER_SLICE_MAX: usize = 100;

/// What a slice is to hold.
pub(super) struct Content {
    /// Which of the existing slices; `None` for a new one.
    slice: Option<usize>,
    ports: Ports,
    endpoints: Vec<Endpoint>,
}

/// Spreads endpoints over slices, those of each group over slices with its ports. Existing slices that are not among the
/// contents are no longer needed.
pub(super) fn contents(
    groups: Vec<(Ports, Vec<Endpoint>)>,
    existing: &[Arc<EndpointSlice>],
) -> Vec<Content> {
    let mut groups = groups;
    if groups.is_empty() {
        // A service without endpoints has one empty slice, so that its consumers know that there are none.
        groups.push((Vec::new(), Vec::new()));
    }
    let mut contents = Vec::new();
    for (ports, endpoints) in groups {
        let candidates: Vec<usize> = (0..existing.len())
            .filter(|i| {
                same_ports(&existing[*i].ports, &ports) && !existing[*i].metadata.is_deleting()
            })
            .collect();
        let slices: Vec<&EndpointSlice> = candidates.iter().map(|i| &*existing[*i]).collect();
        let (kept, fresh) = pack(&slices, endpoints);
        let kept = candidates.into_iter().zip(kept);
        let kept = kept.filter_map(|(index, endpoints)| Some((Some(index), endpoints?)));
        let fresh = fresh.into_iter().map(|endpoints| (None, endpoints));
        contents.extend(kept.chain(fresh).map(|(slice, endpoints)| Content {
            slice,
            ports: ports.clone(),
            endpoints,
        }));
    }
    contents
}

/// Gives ready endpoints the hints that they have in their slices now, so that slices in which nothing else changes are seen
/// to be the same.
pub(super) fn recall_hints(groups: &mut [(Ports, Vec<Endpoint>)], existing: &[Arc<EndpointSlice>]) {
    let mut known = BTreeMap::new();
    for endpoint in existing.iter().flat_map(|slice| &slice.endpoints) {
        if let Some(hints) = &endpoint.hints {
            known.entry(identity(endpoint)).or_insert(hints);
        }
    }
    let endpoints = groups.iter_mut().flat_map(|(_, endpoints)| endpoints);
    for endpoint in endpoints.filter(|endpoint| endpoint.conditions.ready == Some(true)) {
        endpoint.hints = known.get(&identity(endpoint)).copied().cloned();
    }
}

/// The contents as hints are shared out among them.
pub(super) fn parts<'a>(
    contents: &'a mut [Content],
    existing: &[Arc<EndpointSlice>],
) -> Vec<Part<'a>> {
    contents
        .iter_mut()
        .map(|content| {
            let before = content.slice.map(|index| &existing[index].endpoints);
            Part {
                is_written: before != Some(&content.endpoints),
                endpoints: &mut content.endpoints,
            }
        })
        .collect()
}

/// Writes the slices of a family of a service.
pub(super) struct Packing<'a> {
    pub(super) service: &'a Service,
    pub(super) family: &'static str,
    pub(super) labels: Labels,
    pub(super) world: &'a World,
    /// See [`trigger_time`](super::trigger_time).
    pub(super) trigger_time: Option<&'a str>,
}

impl Packing<'_> {
    pub(super) fn plan(&self, contents: &[Content], existing: &[Arc<EndpointSlice>]) -> Vec<Op> {
        let mut ops = Vec::new();
        let mut used = vec![false; existing.len()];
        for content in contents {
            match content.slice {
                Some(index) => {
                    used[index] = true;
                    ops.extend(self.update(&existing[index], &content.endpoints));
                }
                None => ops.push(self.create(&content.ports, &content.endpoints)),
            }
        }
        let unused = existing
            .iter()
            .zip(&used)
            .filter(|(slice, used)| !**used && !slice.metadata.is_deleting());
        // Additions first: between two writes there should rather be too many endpoints than none.
        ops.extend(unused.map(|(slice, _)| Op::delete(&ENDPOINT_SLICES, &slice.metadata)));
        ops
    }

    fn update(&self, slice: &EndpointSlice, endpoints: &[Endpoint]) -> Option<Op> {
        let same_labels = slice.metadata.labels == self.labels;
        if same_labels && slice.endpoints == endpoints {
            return None;
        }
        let mut metadata =
            json!({"uid": slice.metadata.uid, "resourceVersion": slice.metadata.resource_version});
        if !same_labels {
            let gone = slice
                .metadata
                .labels
                .keys()
                .filter(|key| !self.labels.contains_key(*key))
                .map(|key| (key.clone(), Value::Null));
            let wanted = self
                .labels
                .iter()
                .map(|(key, value)| (key.clone(), value.as_str().into()));
            metadata["labels"] = gone.chain(wanted).collect::<serde_json::Map<_, _>>().into();
        }
        stamp(
            &mut metadata,
            self.trigger_time,
            &slice.metadata.annotations,
        );
        Some(Op::merge(
            &ENDPOINT_SLICES,
            &slice.metadata,
            json!({"metadata": metadata, "endpoints": written(endpoints)}),
        ))
    }

    fn create(&self, ports: &Ports, endpoints: &[Endpoint]) -> Op {
        let meta = &self.service.metadata;
        let prefix = format!("{}-", meta.name);
        let mut body = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": self.family,
            "metadata": {
                "name": self.world.generate_name(&prefix), "generateName": prefix, "namespace": meta.namespace,
                "labels": self.labels, "ownerReferences": [controller_reference(&SERVICES, meta)],
            },
            "endpoints": written(endpoints), "ports": written_ports(ports),
        });
        stamp(&mut body["metadata"], self.trigger_time, &Labels::new());
        Op::create(&ENDPOINT_SLICES, &meta.namespace, body)
    }
}

/// What an endpoint is known by: its pod, and its addresses.
fn identity(endpoint: &Endpoint) -> (String, Vec<String>) {
    let target = endpoint.target_ref.as_ref();
    let uid = target.map(|target| target.uid.clone()).unwrap_or_default();
    (uid, endpoint.addresses.clone())
}

/// Spreads endpoints over slices: each stays where it is, new ones fill slices with room (a changed slice first), the
/// rest makes new slices. `None` for a slice that is no longer needed.
fn pack(
    slices: &[&EndpointSlice],
    endpoints: Vec<Endpoint>,
) -> (Vec<Option<Vec<Endpoint>>>, Vec<Vec<Endpoint>>) {
    let mut rest: BTreeMap<_, Endpoint> =
        endpoints.into_iter().map(|e| (identity(&e), e)).collect();
    if rest.is_empty() {
        // One empty slice is enough.
        let kept = (0..slices.len()).map(|i| (i == 0).then(Vec::new)).collect();
        return (
            kept,
            if slices.is_empty() {
                vec![Vec::new()]
            } else {
                Vec::new()
            },
        );
    }
    let mut kept: Vec<Vec<Endpoint>> = slices
        .iter()
        .map(|slice| {
            slice
                .endpoints
                .iter()
                .filter_map(|e| rest.remove(&identity(e)))
                .collect()
        })
        .collect();
    let mut order: Vec<usize> = (0..slices.len()).filter(|i| !kept[*i].is_empty()).collect();
    order.sort_by_key(|i| {
        (
            kept[*i] == slices[*i].endpoints,
            std::cmp::Reverse(kept[*i].len()),
        )
    });
    let mut waiting: Vec<Endpoint> = rest.into_values().collect();
    // A slice that becomes empty is reused before a new one is made.
    order.extend((0..slices.len()).filter(|i| kept[*i].is_empty()));
    for index in order {
        let room = PER_SLICE_MAX
            .saturating_sub(kept[index].len())
            .min(waiting.len());
        kept[index].extend(waiting.drain(..room));
    }
    let fresh = waiting
        .chunks(PER_SLICE_MAX)
        .map(<[Endpoint]>::to_vec)
        .collect();
    (
        kept.into_iter()
            .map(|content| (!content.is_empty()).then_some(content))
            .collect(),
        fresh,
    )
}
