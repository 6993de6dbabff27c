//! The same by trying everything: every choice of alternatives and every list of devices in the order of the search, until
//! one of them is right as a whole. Slow and obvious; the search is compared with it. It knows one capacity and one counter.

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

/// The devices of the pools that may be used, with their slices: those of pools that have something to wait for come last,
/// and so do such slices of a pool.
fn devices<'a>(offer: &Offer<'a>) -> Vec<(&'a Slice, &'a Device)> {
    let waits = |slice: &Slice| slice.devices.iter().any(|d| !d.conditions.ready.is_empty());
    let mut all = Vec::new();
    for (number, (_, pool)) in offer.pools.iter().enumerate() {
        if !pool.is_complete() || !pool.is_valid() {
            continue;
        }
        let mut here = pool
            .slices()
            .filter(|s| s.reaches(offer.node, offer.labels));
        let pool_waits = here.any(|slice| waits(slice));
        for slice in pool.slices() {
            for device in &slice.devices {
                all.push(((pool_waits, number, waits(slice)), (&**slice, device)));
            }
        }
    }
    all.sort_by_key(|(order, _)| *order);
    all.into_iter().map(|(_, device)| device).collect()
}

/// Every list of devices of the right length that are what is asked for, in order.
fn lists<'a>(offer: &Offer<'a>, ask: &Ask) -> Vec<Vec<&'a Device>> {
    let selected = devices(offer).into_iter().filter(|(slice, device)| {
        let class = &offer.classes[&ask.class];
        let mut selectors = class.selectors.iter().chain(&ask.selectors);
        selectors.all(|selector| selector.matches(device).0 == Ok(true))
            && slice.nodes_of(device).have(offer.node, offer.labels)
            && needs(ask, device).is_some()
    });
    let mut selected: Vec<&Device> = selected.map(|(_, device)| device).collect();
    let Mode::Exactly(count) = ask.mode else {
        // Of devices that are shared, all means those with room.
        selected.retain(|device| !device.shared || left(offer, device, &[ask]));
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

/// How much memory of a device is asked for. No other capacity is known here, and one policy: whole steps of two up to six.
/// None where it is not to be had.
fn needs(ask: &Ask, device: &Device) -> Option<i128> {
    let asked = ask.capacity.get("memory").map(|amount| amount.thousandths);
    let Some(memory) = device.capacity.get("memory") else {
        return asked.is_none().then_some(0);
    };
    let value = memory.value.thousandths;
    let most = if device.shared {
        value.min(6_000)
    } else {
        value
    };
    let needs = match (device.shared, asked) {
        (true, asked) => (1..).map(|n| n * 2_000).find(|n| *n >= asked.unwrap_or(0)),
        (false, asked) => asked.or(Some(value)),
    };
    needs.filter(|needs| *needs <= most)
}

/// Whether there is room for all of these in a device that is shared.
fn left(offer: &Offer<'_>, device: &Device, asks: &[&Ask]) -> bool {
    let Some(memory) = device.capacity.get("memory") else {
        return true;
    };
    let new: Option<i128> = asks.iter().map(|ask| needs(ask, device)).sum();
    let old = offer.shares.consumed(&device.id, "memory");
    new.is_some_and(|new| old + new <= memory.value.thousandths)
}

/// Whether all devices have what they take of the one counter of their pool, those in use and those that are given.
fn counted(offer: &Offer<'_>, given: &[Given<'_>]) -> bool {
    let takes = |device: &Device| -> i128 {
        let sets = device.consumes.iter();
        sets.map(|one| one.counters.get("power").unwrap_or(&0))
            .sum()
    };
    let has_user = |device: &Device| (offer.in_use)(&device.id) || offer.shares.has(&device.id);
    let in_use: i128 = devices(offer)
        .iter()
        .filter(|(_, device)| has_user(device))
        .map(|(_, device)| takes(device))
        .sum();
    let mut new = 0;
    for (at, (.., device)) in given.iter().enumerate() {
        let before = given[..at].iter().any(|(.., other)| other.id == device.id);
        // However many share a device, it counts once.
        let again = before || offer.shares.has(&device.id);
        if !(device.shared && again) {
            new += takes(device);
        }
    }
    let slices = offer.pools.iter().flat_map(|(_, pool)| pool.slices());
    let mut sets = slices.flat_map(|slice| slice.counters.values());
    let all = sets.next().and_then(|set| set.get("power"));
    // Who takes nothing does not mind that others have taken too much.
    new == 0 || all.is_none_or(|all| in_use + new <= *all)
}

fn is_right(claims: &[&DeviceClaim], offer: &Offer<'_>, given: &[Given<'_>]) -> bool {
    let small = |at: usize| given.iter().filter(|(claim, ..)| *claim == at).count() <= DEVICES_MAX;
    // Whoever comes first has the device, and looks at nothing but its own claim if it is for upkeep. One that is shared is
    // given to a request once, and as often as there is room.
    let mine = given
        .iter()
        .enumerate()
        .all(|(at, (claim, request, ask, device))| {
            let mut before = given[..at]
                .iter()
                .filter(|(.., other)| other.id == device.id);
            match (device.shared, ask.admin) {
                (true, admin) => {
                    let again = before.any(|(of, r, ..)| of == claim && r.name == request.name);
                    !again && (admin || !(offer.in_use)(&device.id))
                }
                (false, true) => before.all(|(other, ..)| other != claim),
                (false, false) => {
                    let shared = offer.shares.has(&device.id);
                    before.next().is_none() && !(offer.in_use)(&device.id) && !shared
                }
            }
        });
    let room = given
        .iter()
        .filter(|(.., device)| device.shared)
        .all(|(.., device)| {
            let of_device = given.iter().filter(|(.., other)| other.id == device.id);
            let asks: Vec<&Ask> = of_device.map(|(_, _, ask, _)| *ask).collect();
            left(offer, device, &asks)
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
    (0..claims.len()).all(small) && mine && room && counted(offer, given) && tolerated && rules
}
