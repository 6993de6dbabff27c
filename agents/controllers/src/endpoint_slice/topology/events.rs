//! What a service's events say of its hints.

use super::Withheld;
use crate::world::World;
use agent_runtime::events::reference;
use agent_runtime::kinds::Service;
use agent_runtime::plan::{Op, Report};
use agent_runtime::resource_ref::SERVICES;
use agent_runtime::{EventType, Key};
use std::time::Duration;

const ENABLED: &str = "TopologyAwareHintsEnabled";
const DISABLED: &str = "TopologyAwareHintsDisabled";
/// What is withheld for the same reason is told again after so long at the latest, if the service is looked at.
const REPEAT_MAX: Duration = Duration::from_secs(600);

/// The event about a service's hints of a family, after they were shared out or withheld; `None` where the service does not
/// ask for them (any more). Hints that come and go are told once, and a new leader tells those that it finds, as in
/// Kubernetes; what keeps them away is told now and then.
pub(in crate::endpoint_slice) fn told(
    outcome: Option<Result<(), Withheld>>,
    service: &Service,
    family: &'static str,
    world: &World,
) -> Option<Op> {
    let key = Key::of(&service.metadata);
    let shared = matches!(outcome, Some(Ok(())));
    let before = world.hold(&key, family, shared);
    let (kind, reason, why) = match outcome {
        Some(Ok(())) if before => return None,
        Some(Ok(())) => {
            let why = "Topology Aware Hints has been enabled".to_owned();
            (EventType::Normal, ENABLED, why)
        }
        Some(Err(withheld)) => (EventType::Warning, DISABLED, withheld.to_string()),
        None if before => {
            let why = "Topology Aware Hints has been disabled".to_owned();
            (EventType::Warning, DISABLED, why)
        }
        None => return None,
    };
    let message = format!("{why}, addressType: {family}");
    if matches!(outcome, Some(Err(_))) {
        let is_early = world.permit(&key, &message, REPEAT_MAX).is_err();
        if is_early && !before {
            return None;
        }
    }
    Some(Op::Event(Box::new(Report {
        regarding: reference(&SERVICES, &service.metadata),
        kind,
        reason,
        message,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_runtime::Plan;

    #[test]
    fn hints_that_come_and_go_are_told_once() {
        let world = crate::testing::world("");
        let service: Service = crate::testing::object("{metadata: {name: web, namespace: a}}");
        let few = Some(Err(Withheld::TooFew {
            endpoints: 1,
            zones: 2,
        }));
        let too_few = "Warning a/web TopologyAwareHintsDisabled: Insufficient number of endpoints (1 endpoints, 2 zones), addressType: IPv4";
        let unknown = "Warning a/web TopologyAwareHintsDisabled: One or more endpoints do not have a zone specified, addressType: IPv4";
        let enabled = "Normal a/web TopologyAwareHintsEnabled: Topology Aware Hints has been enabled, addressType: IPv4";
        let enabled_too = "Normal a/web TopologyAwareHintsEnabled: Topology Aware Hints has been enabled, addressType: IPv6";
        let disabled = "Warning a/web TopologyAwareHintsDisabled: Topology Aware Hints has been disabled, addressType: IPv4";
        let (given, ask_not) = (Some(Ok(())), None);
        for (at, (outcome, family, expected)) in [
            (ask_not, "IPv4", None),
            (few, "IPv4", Some(too_few)),
            (few, "IPv4", None),
            (Some(Err(Withheld::ZoneUnknown)), "IPv4", Some(unknown)),
            (given, "IPv4", Some(enabled)),
            (given, "IPv4", None),
            (given, "IPv6", Some(enabled_too)),
            // They were there, so that it is told though it was told a moment ago.
            (few, "IPv4", Some(too_few)),
            (given, "IPv4", Some(enabled)),
            (ask_not, "IPv4", Some(disabled)),
            (ask_not, "IPv4", None),
        ]
        .into_iter()
        .enumerate()
        {
            let op = told(outcome, &service, family, &world);
            let lines = Plan::of(op.into_iter().collect()).lines();
            let expected: Vec<String> = expected
                .map(|text| format!("event {text}"))
                .into_iter()
                .collect();
            assert_eq!(lines, expected, "{at}");
        }
    }
}
