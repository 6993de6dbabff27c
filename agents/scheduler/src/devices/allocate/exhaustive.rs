//! The same by trying everything: every choice of alternatives and every list of devices in the order of the search, until
//! one of them is right as a whole. Slow and obvious; the search is compared with it.

use super::{DEVICES_MAX, Offer};
use crate::devices::claim::{Ask, DeviceClaim, Mode, Request};
use crate::devices::slice::{Attribute, Device, Slice};

/// A device for what is asked for, by its claim.
type Given<'a> = (usize, &'a Request, &'a Ask, &'a Device);

/// For each claim: what is asked for by its full name, and the device. None if nothing is right.
pub(super) fn allocate(
    claims: &[&DeviceClaim],
    offer: &Offer<'_>,
) -> Option<Vec<Vec<(String, String)>>> {
    let requests: Vec<(usize, &Request)> = claims
        .iter()
        .enumerate()
        .flat_map(|(at, claim)| claim.spec.requests.iter().map(move |r| (at, r)))
        .collect();
    let found = of_requests(claims, offer, &requests, &mut Vec::new())?;
    let of_claim = |at: usize| {
        let given = found.iter().filter(move |(claim, ..)| *claim == at);
        given
            .map(|(_, _, ask, device)| (ask.full_name.clone(), device.id.device.to_string()))
            .collect()
    };
    Some((0..claims.len()).map(of_claim).collect())
}

fn of_requests<'a>(
    claims: &[&'a DeviceClaim],
    offer: &Offer<'a>,
    requests: &[(usize, &'a Request)],
    given: &mut Vec<Given<'a>>,
) -> Option<Vec<Given<'a>>> {
    // More devices do not put right what is wrong.
    if !is_right(claims, offer, given) {
        return None;
    }
    let Some(((claim, request), rest)) = requests.split_first() else {
        return Some(given.clone());
    };
    request.asks.iter().find_map(|ask| {
        lists(offer, ask).into_iter().find_map(|list| {
            let before = given.len();
            given.extend(list.iter().map(|device| (*claim, *request, ask, *device)));
            let found = of_requests(claims, offer, rest, given);
            given.truncate(before);
            found
        })
    })
}

/// The devices of the pools that may be used, with their slices.
fn devices<'a>(offer: &Offer<'a>) -> Vec<(&'a Slice, &'a Device)> {
    let mut all = Vec::new();
    for (_, pool) in &offer.pools {
        if pool.is_complete() && pool.is_valid() {
            for slice in pool.slices() {
                all.extend(slice.devices.iter().map(|device| (&**slice, device)));
            }
        }
    }
    all
}

/// Every list of devices of the right length that are what is asked for, in order.
fn lists<'a>(offer: &Offer<'a>, ask: &Ask) -> Vec<Vec<&'a Device>> {
    let selected = devices(offer).into_iter().filter(|(slice, device)| {
        let class = &offer.classes[&ask.class];
        let mut selectors = class.selectors.iter().chain(&ask.selectors);
        selectors.all(|selector| selector.matches(device).0 == Ok(true))
            && slice.nodes_of(device).have(offer.node, offer.labels)
    });
    let selected: Vec<&Device> = selected.map(|(_, device)| device).collect();
    let Mode::Exactly(count) = ask.mode else {
        let none = selected.is_empty();
        return if none { Vec::new() } else { vec![selected] };
    };
    let mut lists = vec![Vec::new()];
    for _ in 0..count {
        lists = lists
            .iter()
            .flat_map(|list: &Vec<&Device>| {
                selected.iter().map(move |device| {
                    let mut longer = list.clone();
                    longer.push(*device);
                    longer
                })
            })
            .collect();
    }
    lists
}

fn is_right(claims: &[&DeviceClaim], offer: &Offer<'_>, given: &[Given<'_>]) -> bool {
    let small = |at: usize| given.iter().filter(|(claim, ..)| *claim == at).count() <= DEVICES_MAX;
    // Whoever comes first has the device, and looks at nothing but its own claim if it is for upkeep.
    let mine = given
        .iter()
        .enumerate()
        .all(|(at, (claim, _, ask, device))| {
            let mut before = given[..at]
                .iter()
                .filter(|(.., other)| other.id == device.id);
            match ask.admin {
                true => before.all(|(other, ..)| other != claim),
                false => before.next().is_none() && !(offer.in_use)(&device.id),
            }
        });
    let tolerated = given.iter().all(|(_, _, ask, device)| {
        let mut taints = device.taints.iter();
        taints.all(|taint| ask.tolerations.iter().any(|t| t.tolerates(taint)))
    });
    let rules = claims.iter().enumerate().all(|(at, claim)| {
        claim.spec.rules.iter().all(|rule| {
            let about = given.iter().filter(|(of, request, ask, _)| {
                let named = |name: &String| *name == request.name || *name == ask.full_name;
                *of == at && (rule.requests.is_empty() || rule.requests.iter().any(named))
            });
            let values: Option<Vec<&Attribute>> = about
                .map(|(.., device)| device.attribute(&rule.attribute))
                .collect();
            values.is_some_and(|values| match rule.same {
                Some(true) => values.windows(2).all(|two| two[0] == two[1]),
                _ => (1..values.len()).all(|n| !values[..n].contains(&values[n])),
            })
        })
    });
    (0..claims.len()).all(small) && mine && tolerated && rules
}
