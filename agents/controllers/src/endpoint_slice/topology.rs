//! Whose traffic an endpoint is for where a service has the annotation `service.kubernetes.io/topology-mode: Auto`: each zone
//! has endpoints in proportion to the processors of its nodes. The rules are those of `k8s.io/endpointslice/topologycache`
//! in Kubernetes 1.36; where that goes by the order of a map, here the first zone by name wins.

mod events;
mod nodes;

use agent_runtime::kinds::{Endpoint, Service};
pub(super) use events::told;
use nodes::Shares;
pub(super) use nodes::{shares, wire};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

const MODE: &str = "service.kubernetes.io/topology-mode";
/// The older name; where both are there it counts.
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
/// By so much an endpoint may get more traffic than its share, as a part of that.
const OVERLOAD_MAX: f64 = 0.2;

/// Whether the service wants its endpoints shared out among zones. A headless one may, as in Kubernetes: whoever reads its
/// slices finds the hints there.
pub(super) fn is_auto(service: &Service) -> bool {
    let annotations = &service.metadata.annotations;
    let mode = annotations.get(HINTS).or_else(|| annotations.get(MODE));
    mode.is_some_and(|mode| mode == "Auto" || mode == "auto")
}

/// Why endpoints bear no hints, in Kubernetes' words. It has words for nodes in a single zone too, but never says them: that
/// counts as nodes of which too little is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Withheld {
    /// The zone or the processors of a node are not known, or there are not two zones.
    NodesUnknown,
    /// Not every zone could have an endpoint.
    TooFew { endpoints: usize, zones: usize },
    /// Endpoints do not come in fractions: some zone's would be overloaded.
    Overload { endpoints: usize, zones: usize },
    /// The zone of an endpoint is not known.
    ZoneUnknown,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodesUnknown => f.write_str(
                "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes",
            ),
            Self::TooFew { endpoints, zones } => write!(
                f,
                "Insufficient number of endpoints ({endpoints} endpoints, {zones} zones)"
            ),
            Self::Overload { endpoints, zones } => write!(
                f,
                "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold ({endpoints} endpoints, {zones} zones)"
            ),
            Self::ZoneUnknown => f.write_str("One or more endpoints do not have a zone specified"),
        }
    }
}

/// The endpoints of a slice.
pub(super) struct Part<'a> {
    /// With the hints that they have now.
    pub(super) endpoints: &'a mut [Endpoint],
    /// Whether something else of the slice has changed, so that new hints cost no write of their own.
    pub(super) is_written: bool,
}

/// Endpoints by zone.
type Counts = BTreeMap<String, usize>;

/// How many endpoints a zone may have, and how many it should.
#[derive(Debug, PartialEq)]
struct Allocation {
    max: usize,
    desired: f64,
}

type Allocations<'z> = BTreeMap<&'z str, Allocation>;

/// Gives the ready endpoints of a service's slices of one family their hints, or takes them all where they cannot be shared
/// out. Slices that are not written anyway keep theirs as long as no zone has too many by it; in the others each endpoint is
/// for its own zone, except for those that a zone has too many of.
///
/// # Errors
/// Why there are no hints.
pub(super) fn share_out(parts: &mut [Part<'_>], shares: Option<&Shares>) -> Result<(), Withheld> {
    let shared = try_share_out(parts, shares);
    if shared.is_err() {
        let endpoints = parts.iter_mut().flat_map(|part| part.endpoints.iter_mut());
        endpoints.for_each(|endpoint| endpoint.hints = None);
    }
    shared
}

fn try_share_out(parts: &mut [Part<'_>], shares: Option<&Shares>) -> Result<(), Withheld> {
    let endpoints = parts.iter().flat_map(|part| part.endpoints.iter());
    let ready = endpoints.filter(|endpoint| is_ready(endpoint)).count();
    let allocations = allocations(shares.ok_or(Withheld::NodesUnknown)?, ready)?;
    let mut hinted = Counts::new();
    for part in parts.iter_mut().filter(|part| !part.is_written) {
        match kept(part.endpoints, &hinted, &allocations) {
            Some(counts) => {
                for (zone, count) in counts {
                    *hinted.entry(zone).or_default() += count;
                }
            }
            None => part.is_written = true,
        }
    }
    for endpoint in to_hint(parts) {
        let zone = endpoint.zone.clone().filter(|zone| !zone.is_empty());
        let zone = zone.ok_or(Withheld::ZoneUnknown)?;
        endpoint.hints = Some(for_zone(&zone));
        *hinted.entry(zone).or_default() += 1;
    }
    let (giving, receiving) = transfers(&allocations, &hinted);
    transfer(parts, giving, receiving);
    Ok(())
}

/// The ready endpoints of the slices that are written.
fn to_hint<'p>(parts: &'p mut [Part<'_>]) -> impl Iterator<Item = &'p mut Endpoint> {
    parts
        .iter_mut()
        .filter(|part| part.is_written)
        .flat_map(|part| part.endpoints.iter_mut())
        .filter(|endpoint| is_ready(endpoint))
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.ready == Some(true)
}

fn for_zone(zone: &str) -> Value {
    json!({"forZones": [{"name": zone}]})
}

/// The zone that an endpoint is for, if it is for one and nothing else.
fn zone_hinted(endpoint: &Endpoint) -> Option<&str> {
    let hints = endpoint.hints.as_ref()?.as_object()?;
    let [zone] = hints.get("forZones")?.as_array()?.as_slice() else {
        return None;
    };
    zone["name"].as_str().filter(|_| hints.len() == 1)
}

/// How many of so many endpoints each zone may have and should have. The least is what keeps them within the overload; what
/// is beyond the least of all zones may be in any of them.
fn allocations(shares: &Shares, endpoints: usize) -> Result<Allocations<'_>, Withheld> {
    let zones = shares.len();
    if zones > endpoints {
        return Err(Withheld::TooFew { endpoints, zones });
    }
    let mut least_of_all = 0;
    let mut allocations = Allocations::new();
    for (zone, share) in shares {
        let desired = share * endpoints as f64;
        let least = (desired * (1.0 / (1.0 + OVERLOAD_MAX))).ceil();
        let max = least as usize;
        least_of_all += max;
        let desired = desired.max(least);
        allocations.insert(zone, Allocation { max, desired });
    }
    let Some(spare) = endpoints.checked_sub(least_of_all) else {
        return Err(Withheld::Overload { endpoints, zones });
    };
    for allocation in allocations.values_mut() {
        allocation.max += spare;
    }
    Ok(allocations)
}

/// The endpoints of a slice by the zones that they are for now; `None` where the slice cannot stay as it is, after so many in
/// others: one is for no zone, for one that has no share (any more), or for one that has enough.
fn kept(endpoints: &[Endpoint], hinted: &Counts, allocations: &Allocations<'_>) -> Option<Counts> {
    let mut counts = Counts::new();
    for endpoint in endpoints.iter().filter(|endpoint| is_ready(endpoint)) {
        let zone = zone_hinted(endpoint)?;
        *counts.entry(zone.to_owned()).or_default() += 1;
    }
    for (zone, count) in &counts {
        let others = hinted.get(zone).copied().unwrap_or(0);
        let allocation = allocations.get(zone.as_str())?;
        if others + count > allocation.max {
            return None;
        }
    }
    Some(counts)
}

/// How many endpoints zones give to others, and how many others receive. Whoever has most gives to whoever lacks most, until
/// it would make too little of a difference.
fn transfers<'z>(
    allocations: &Allocations<'z>,
    hinted: &Counts,
) -> (BTreeMap<&'z str, usize>, BTreeMap<&'z str, usize>) {
    let (mut surplus, mut lack) = (BTreeMap::new(), BTreeMap::new());
    for (zone, allocation) in allocations {
        let over = hinted.get(*zone).copied().unwrap_or(0) as f64 - allocation.desired;
        if over > 0.0 {
            surplus.insert(*zone, over);
        } else if over < 0.0 {
            lack.insert(*zone, -over);
        }
    }
    let (mut giving, mut receiving) = (BTreeMap::new(), BTreeMap::new());
    while let (Some((from, over)), Some((to, under))) = (most(&surplus), most(&lack)) {
        if over.max(under) < 1.0 || over.min(under) < 0.5 {
            break;
        }
        *giving.entry(from).or_default() += 1;
        *receiving.entry(to).or_default() += 1;
        surplus.insert(from, over - 1.0);
        lack.insert(to, under - 1.0);
    }
    (giving, receiving)
}

/// The zone with the greatest amount above nothing.
fn most<'z>(zones: &BTreeMap<&'z str, f64>) -> Option<(&'z str, f64)> {
    let mut most: Option<(&'z str, f64)> = None;
    for (zone, amount) in zones {
        if *amount > most.map_or(0.0, |(_, amount)| amount) {
            most = Some((*zone, *amount));
        }
    }
    most
}

/// Passes endpoints of the zones that give on to those that receive.
fn transfer(
    parts: &mut [Part<'_>],
    mut giving: BTreeMap<&str, usize>,
    mut receiving: BTreeMap<&str, usize>,
) {
    for endpoint in to_hint(parts) {
        let zone = endpoint.zone.as_deref().unwrap_or_default();
        let Some(left) = giving.get_mut(zone).filter(|left| **left > 0) else {
            continue;
        };
        let Some((to, wanted)) = receiving.iter_mut().find(|(_, wanted)| **wanted > 0) else {
            return;
        };
        *left -= 1;
        *wanted -= 1;
        endpoint.hints = Some(for_zone(to));
    }
}

#[cfg(test)]
mod reconciled;
#[cfg(test)]
mod tests;
