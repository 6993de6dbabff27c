//! Which families of addresses a Service has, in which order: what is asked for, what the cluster has, and what the Service
//! had before. Pure; the addresses themselves are chosen afterwards.

use std::net::IpAddr;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::{Map, Value};

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    pub(super) fn named(text: &str) -> Option<Family> {
        match text {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        }
    }

    pub(super) fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Of an address as text; none where it is none.
    pub(super) fn of_text(address: &str) -> Option<Family> {
        address.parse().ok().map(Family::of)
    }

    fn other(self) -> Family {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }
}

const SINGLE: &str = "SingleStack";
const REQUIRE: &str = "RequireDualStack";
pub(super) const NONE: &str = "None";

fn path(field: &str) -> Path {
    Path::new("spec").child(field)
}

pub(super) fn is_external(service: &Object) -> bool {
    service.get_str(&["spec", "type"]) == Some("ExternalName")
}

fn texts(service: &Object, field: &str) -> Vec<String> {
    let list = service.get_array(&["spec", field]);
    let list = list.map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .filter_map(|text| text.as_str().map(str::to_owned))
        .collect()
}

/// The addresses that a Service names, `None` among them, in whichever field.
pub(super) fn addresses(service: &Object) -> Vec<String> {
    let list = texts(service, "clusterIPs");
    let first = service.get_str(&["spec", "clusterIP"]).unwrap_or_default();
    match list.is_empty() && !first.is_empty() {
        true => vec![first.to_owned()],
        false => list,
    }
}

/// Both fields of addresses say the same, a client may have set one of them only, and in the one spelling that an address has:
/// by it addresses are claimed.
pub(super) fn align(service: &mut Object) {
    let spelled = |text: &str| match text.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => text.to_owned(),
    };
    let all: Vec<String> = addresses(service)
        .iter()
        .map(|text| spelled(text))
        .collect();
    let Some(first) = all.first() else {
        return;
    };
    let single = service.get_str(&["spec", "clusterIP"]).unwrap_or_default();
    let single = match single.is_empty() {
        true => first.clone(),
        false => spelled(single),
    };
    service.set(&["spec", "clusterIP"], single);
    service.set(&["spec", "clusterIPs"], all);
}

/// An update that leaves the addresses out means "as they are"; one that changes the single address means the list, too.
pub(super) fn carry_over(new: &mut Object, old: &Object) {
    let first = |service: &Object| {
        let first = service.get_str(&["spec", "clusterIP"]);
        first.unwrap_or_default().to_owned()
    };
    if first(new).is_empty() && !first(old).is_empty() {
        new.set(&["spec", "clusterIP"], first(old));
    }
    let (listed, before) = (texts(new, "clusterIPs"), texts(old, "clusterIPs"));
    if first(new) == first(old) && listed.is_empty() && !before.is_empty() {
        new.set(&["spec", "clusterIPs"], before);
    } else if first(new) != first(old) && listed == before {
        new.set(&["spec", "clusterIPs"], vec![first(new)]);
    }
}

/// What a Service says of families.
struct Asked {
    policy: String,
    addresses: Vec<String>,
    families: Vec<Family>,
    /// Headless and without a selector: its endpoints are made by hand, of any family.
    by_hand: bool,
}

impl Asked {
    fn of(service: &Object) -> Asked {
        let text = |field: &str| {
            let text = service.get_str(&["spec", field]);
            text.unwrap_or_default().to_owned()
        };
        let selector = service
            .get(&["spec", "selector"])
            .and_then(Value::as_object);
        let families = texts(service, "ipFamilies");
        Asked {
            policy: text("ipFamilyPolicy"),
            addresses: texts(service, "clusterIPs"),
            families: families
                .iter()
                .filter_map(|name| Family::named(name))
                .collect(),
            by_hand: text("clusterIP") == NONE && selector.is_none_or(Map::is_empty),
        }
    }

    fn is_headless(&self) -> bool {
        self.addresses.first().is_some_and(|first| first == NONE)
    }

    fn write(self, service: &mut Object) {
        let families: Vec<&str> = self.families.iter().map(|family| family.name()).collect();
        service.set(&["spec", "ipFamilies"], families);
        service.set(&["spec", "ipFamilyPolicy"], self.policy);
        if !self.addresses.is_empty() {
            service.set(&["spec", "clusterIPs"], self.addresses);
        }
    }
}

/// Settles policy and families of a Service whose fields of addresses are aligned; `configured` is what the cluster has, its
/// first one that of Services that ask for none. An update may add or drop the second family, never change the first.
pub(super) fn settle(
    service: &mut Object,
    old: Option<&Object>,
    configured: &[Family],
) -> Result<(), ErrorList> {
    if is_external(service) {
        return Ok(());
    }
    let old = old.filter(|old| !is_external(old));
    take_policy(service, old);
    if let Some(old) = old
        && is_as_before(service, old)
    {
        return Ok(());
    }
    let mut errors = shape(service);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut asked = Asked::of(service);
    if let Some(old) = old {
        compare(&mut asked, &Asked::of(old), &mut errors);
    }
    check_policy(&asked, &mut errors);
    infer(&mut asked, configured, &mut errors);
    if errors.is_empty() && !asked.by_hand {
        check_configured(&asked, configured, &mut errors);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    complete(&mut asked, configured);
    asked.write(service);
    Ok(())
}

/// Without a word an update keeps the policy; a new Service has one family, unless its endpoints are made by hand.
fn take_policy(service: &mut Object, old: Option<&Object>) {
    let before = old.and_then(|old| old.get_str(&["spec", "ipFamilyPolicy"]));
    let default = match Asked::of(service).by_hand {
        true => REQUIRE,
        false => SINGLE,
    };
    service.set_default(&["spec", "ipFamilyPolicy"], before.unwrap_or(default));
}

/// Nothing is asked for that is not there: what was let in once stays, whatever became of the cluster's ranges. An update
/// without a word about families has those of before.
fn is_as_before(service: &mut Object, old: &Object) -> bool {
    let same =
        |service: &Object, field: &str| service.get(&["spec", field]) == old.get(&["spec", field]);
    if !same(service, "ipFamilyPolicy") || !same(service, "clusterIPs") {
        return false;
    }
    if texts(service, "ipFamilies").is_empty()
        && let Some(families) = old.get(&["spec", "ipFamilies"])
    {
        service.set(&["spec", "ipFamilies"], families.clone());
    }
    same(service, "ipFamilies")
}

/// What is wrong whatever the cluster has.
fn shape(service: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (listed, wanted) = (texts(service, "clusterIPs"), texts(service, "ipFamilies"));
    let list = path("clusterIPs");
    let wrong = |detail: &str| FieldError::invalid(&list, listed.clone(), detail);
    let first = service.get_str(&["spec", "clusterIP"]).unwrap_or_default();
    if listed.first().is_some_and(|one| one != first) {
        errors.push(wrong("first value must match `clusterIP`"));
    }
    for (at, name) in wanted.iter().enumerate() {
        let path = path("ipFamilies").index(at);
        if Family::named(name).is_none() {
            let error = FieldError::not_supported(&path, name.as_str(), &["IPv4", "IPv6"]);
            errors.push(error);
        }
        if wanted[..at].contains(name) {
            errors.push(FieldError::duplicate(&path, name.as_str()));
        }
    }
    let (before, is_none) = (errors.len(), listed.first().is_some_and(|one| one == NONE));
    if is_none && listed.len() > 1 {
        errors.push(wrong("'None' must be the first and only value"));
    }
    for (at, address) in listed.iter().enumerate().skip(usize::from(is_none)) {
        let details = names::is_valid_ip(address).into_iter();
        let path = list.index(at);
        errors.extend(details.map(|text| FieldError::invalid(&path, address.as_str(), text)));
    }
    let are_valid = errors.len() == before;
    if listed.len() > 2 {
        errors.push(wrong("may only hold up to 2 values"));
    }
    if !are_valid {
        return errors;
    }
    let families: Vec<Family> = listed
        .iter()
        .filter_map(|text| Family::of_text(text))
        .collect();
    if listed.len() > 1 && families.iter().all(|family| *family == families[0]) {
        errors.push(wrong("may specify no more than one IP for each IP family"));
    }
    let named = wanted.iter().map(|name| Family::named(name));
    for (at, (family, named)) in families.into_iter().zip(named).enumerate() {
        if let Some(named) = named.filter(|named| *named != family) {
            let name = named.name();
            let detail = format!("expected an {name} value as indicated by `ipFamilies[{at}]`");
            errors.push(FieldError::invalid(
                &list.index(at),
                listed[at].as_str(),
                detail,
            ));
        }
    }
    errors
}

/// Between before and now: the second family and its address are released by asking for one family, and only so.
fn compare(asked: &mut Asked, before: &Asked, errors: &mut ErrorList) {
    let policy = path("ipFamilyPolicy");
    if asked.policy == SINGLE {
        if asked.addresses == before.addresses {
            asked.addresses.truncate(1);
        }
        if asked.families == before.families {
            asked.families.truncate(1);
        }
    } else {
        if !asked.addresses.is_empty() && asked.addresses.len() < before.addresses.len() {
            let detail = "must be 'SingleStack' to release the secondary cluster IP";
            errors.push(FieldError::invalid(&policy, asked.policy.as_str(), detail));
        }
        if !asked.families.is_empty() && asked.families.len() < before.families.len() {
            let detail = "must be 'SingleStack' to release the secondary IP family";
            errors.push(FieldError::invalid(&policy, asked.policy.as_str(), detail));
        }
    }
    if asked.is_headless() || before.is_headless() {
        return;
    }
    let detail = "may not change once set";
    if let ([_, now], [_, was]) = (&asked.addresses[..], &before.addresses[..])
        && now != was
    {
        let path = path("clusterIPs").index(1);
        errors.push(FieldError::invalid(&path, asked.addresses.clone(), detail));
    }
    let pairs = asked.families.iter().zip(&before.families);
    if pairs.clone().any(|(now, was)| now != was) {
        let names: Vec<&str> = asked.families.iter().map(|family| family.name()).collect();
        let path = path("ipFamilies").index(0);
        errors.push(FieldError::invalid(&path, names, detail));
    }
}

fn check_policy(asked: &Asked, errors: &mut ErrorList) {
    if asked.policy != SINGLE {
        return;
    }
    for (count, what) in [
        (asked.addresses.len(), "cluster IPs"),
        (asked.families.len(), "IP families"),
    ] {
        if count == 2 {
            let detail = format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            );
            let path = path("ipFamilyPolicy");
            errors.push(FieldError::invalid(&path, SINGLE, detail));
        }
    }
}

/// Addresses that are named tell their families.
fn infer(asked: &mut Asked, configured: &[Family], errors: &mut ErrorList) {
    let known = asked.families.len();
    for (at, address) in asked.addresses.iter().enumerate().skip(known) {
        let Some(family) = Family::of_text(address) else {
            break;
        };
        if configured.contains(&family) {
            asked.families.push(family);
        } else {
            let detail = format!("{} is not configured on this cluster", family.name());
            let path = path("clusterIPs").index(at);
            errors.push(FieldError::invalid(&path, asked.addresses.clone(), detail));
        }
    }
}

fn check_configured(asked: &Asked, configured: &[Family], errors: &mut ErrorList) {
    if asked.policy == REQUIRE && configured.len() < 2 {
        let detail = "this cluster is not configured for dual-stack services";
        let path = path("ipFamilyPolicy");
        errors.push(FieldError::invalid(&path, REQUIRE, detail));
    }
    for (at, family) in asked.families.iter().enumerate() {
        if !configured.contains(family) {
            let path = path("ipFamilies").index(at);
            let detail = "not configured on this cluster";
            errors.push(FieldError::invalid(&path, family.name(), detail));
        }
    }
}

/// What nobody asked for is the cluster's first family, and both where that is wanted and there.
fn complete(asked: &mut Asked, configured: &[Family]) {
    if asked.families.is_empty() {
        asked.families.extend(configured.first());
    }
    let both = asked.by_hand || configured.len() == 2;
    if asked.policy != SINGLE
        && both
        && let [only] = asked.families[..]
    {
        asked.families.push(only.other());
    }
}

#[cfg(test)]
mod tests;
