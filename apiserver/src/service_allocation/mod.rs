//! Addresses and node ports of Services: chosen here, claimed as keys of the store in the same transaction as the
//! Service, so that no two Services ever share one, whoever writes through whichever member. Addresses are of the ranges of
//! the ServiceCIDRs, and each has an IPAddress that comes and goes with the claim.

mod addresses;
mod families;
mod range;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bytes::Bytes;
use kv::RangeRequest;
use resources::Resource;
use schema::Object;
use schema::field::{FieldError, Path};
use serde_json::Value;

pub(crate) use addresses::keep;
use families::Family;
pub(crate) use range::OwnRanges;
use range::{DRAWS, Ranges};

use crate::ApiServer;
use crate::context::Context;
use crate::status::{ApiError, ApiResult};
use crate::write::Extra;

const ADDRESS_PREFIX: &str = "/kontiki/clusterips/";
const PORT_PREFIX: &str = "/kontiki/nodeports/";

fn address_key(address: &str) -> String {
    format!("{ADDRESS_PREFIX}{address}")
}

fn port_key(port: u16, protocol: &str) -> String {
    format!("{PORT_PREFIX}{port}-{protocol}")
}

pub(crate) fn is_service(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "services"
}

/// The addresses that a Service has.
fn held(service: &Object) -> Vec<&str> {
    let mut held: Vec<&str> = Vec::new();
    if let Some(list) = service.get_array(&["spec", "clusterIPs"]) {
        held.extend(list.iter().filter_map(Value::as_str));
    }
    if held.is_empty() {
        held.extend(service.get_str(&["spec", "clusterIP"]));
    }
    // One of each family: an older server let a list have others, which were never claimed, and may be somebody else's.
    let mut seen = Vec::new();
    held.retain(|address| {
        let family = Family::of_text(address);
        let is_first = family.is_some() && !seen.contains(&family);
        seen.push(family);
        is_first
    });
    match families::is_external(service) {
        true => Vec::new(),
        false => held,
    }
}

fn wants_ports(service: &Object) -> bool {
    match service.get_str(&["spec", "type"]) {
        Some("NodePort") => true,
        Some("LoadBalancer") => {
            service.get_bool(&["spec", "allocateLoadBalancerNodePorts"]) != Some(false)
        }
        _ => false,
    }
}

/// Node ports that the Service names, with their protocols.
fn named_ports(service: &Object) -> Vec<(u16, String)> {
    let ports = service
        .get_array(&["spec", "ports"])
        .map(Vec::as_slice)
        .unwrap_or_default();
    ports
        .iter()
        .filter_map(|port| Some((on_node(port)?, protocol(port).to_owned())))
        .chain(health_port(service).map(|port| (port, "TCP".to_owned())))
        .collect()
}

/// The port of nodes that a port of a Service names.
fn on_node(port: &Value) -> Option<u16> {
    let number = port.get("nodePort").and_then(Value::as_u64)?;
    u16::try_from(number).ok().filter(|number| *number != 0)
}

fn protocol(port: &Value) -> &str {
    let protocol = port.get("protocol").and_then(Value::as_str);
    protocol.unwrap_or("TCP")
}

fn health_port(service: &Object) -> Option<u16> {
    let port = service.get_i64(&["spec", "healthCheckNodePort"])?;
    u16::try_from(port).ok().filter(|port| *port != 0)
}

fn wants_health_port(service: &Object) -> bool {
    service.get_str(&["spec", "type"]) == Some("LoadBalancer")
        && service.get_str(&["spec", "externalTrafficPolicy"]) == Some("Local")
}

/// What the caches know as taken. Claims in the store are the truth; this only saves lost transactions.
struct Taken {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<(u16, String)>,
}

impl Taken {
    /// Only what is asked for: most updates of Services ask for neither, and there can be very many Services.
    fn read(server: &ApiServer, with_addresses: bool, with_ports: bool) -> Taken {
        let (mut services, mut addresses) = (Vec::new(), BTreeSet::new());
        if with_addresses || with_ports {
            services = server.world.list("", "services", "");
        }
        if with_addresses {
            addresses.extend(addresses::all(server));
            let of_services = services.iter();
            addresses.extend(
                of_services
                    .filter_map(|entry| entry.field("spec.clusterIP").parse::<IpAddr>().ok()),
            );
        }
        let ports = services
            .iter()
            .filter(|entry| {
                with_ports && matches!(entry.field("spec.type"), "NodePort" | "LoadBalancer")
            })
            .flat_map(|entry| named_ports(&entry.object()))
            .collect();
        Taken { addresses, ports }
    }
}

const TAKEN: &str = "provided IP is already allocated";
const OUTSIDE: &str = "the provided network does not match the current range";

fn owner(service: &Object) -> String {
    format!("{}/{}", service.namespace(), service.name())
}

fn invalid(service: &Object, error: FieldError) -> ApiError {
    ApiError::invalid("", "Service", service.name(), &[error])
}

/// An address that the client chose and cannot have.
fn refused(service: &Object, address: &str, why: &str) -> ApiError {
    let path = Path::new("spec").child("clusterIPs");
    let text = format!("failed to allocate IP {address}: {why}");
    let asked = families::addresses(service);
    invalid(service, FieldError::invalid(&path, asked, text))
}

fn port_taken(service: &Object, index: usize, port: u16) -> ApiError {
    let path = Path::new("spec")
        .child("ports")
        .index(index)
        .child("nodePort");
    invalid(
        service,
        FieldError::invalid(&path, port, "provided port is already allocated"),
    )
}

/// What a create has to claim.
pub(crate) enum Plan {
    Nothing,
    Service(Ranges),
}

impl Plan {
    pub(crate) fn for_create(
        server: &ApiServer,
        resource: &Resource,
        _object: &Object,
    ) -> ApiResult<Plan> {
        if is_service(resource) {
            Ok(Plan::Service(ranges(server)?))
        } else {
            Ok(Plan::Nothing)
        }
    }

    /// Whether there is nothing to choose.
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Plan::Nothing)
    }

    /// Chooses what is not chosen yet and lists the claims.
    pub(crate) fn fill(&self, server: &ApiServer, service: &mut Object) -> ApiResult<Extra> {
        let Plan::Service(ranges) = self else {
            return Ok(Extra::default());
        };
        let taken = Taken::read(server, true, wants_ports(service));
        let mut extra = Extra::default();
        settle_families(ranges, service, None)?;
        settle_addresses(ranges, &taken, service, None)?;
        settle_ports(server.config.node_ports, &taken, None, service)?;
        for address in held(service) {
            extra.claim(address_key(address), &owner(service));
        }
        for (port, protocol) in named_ports(service) {
            extra.claim(port_key(port, &protocol), &owner(service));
        }
        Ok(extra)
    }

    /// Adds what says whose the addresses are.
    pub(crate) async fn claim_address(
        &self,
        context: &Context,
        service: &Object,
        extra: &mut Extra,
    ) -> ApiResult<()> {
        if self.is_nothing() {
            return Ok(());
        }
        for address in held(service) {
            addresses::claim(context, service, address, extra).await?;
        }
        Ok(())
    }

    /// After a lost transaction: says which claim is taken where the client chose it. Ok where it was our choice.
    pub(crate) async fn check_claims(&self, server: &ApiServer, service: &Object) -> ApiResult<()> {
        let Plan::Service(_) = self else {
            return Ok(());
        };
        for address in held(service) {
            let claim = exists(server, address_key(address)).await?;
            if claim || exists(server, addresses::key(address)?).await? {
                return Err(refused(service, address, TAKEN));
            }
        }
        for (index, (port, protocol)) in named_ports(service).into_iter().enumerate() {
            if exists(server, port_key(port, &protocol)).await? {
                return Err(port_taken(service, index, port));
            }
        }
        Ok(())
    }
}

async fn exists(server: &ApiServer, key: String) -> ApiResult<bool> {
    let request = RangeRequest {
        key: Bytes::from(key),
        count_only: true,
        ..RangeRequest::default()
    };
    Ok(server.store.range(request).await?.body.count > 0)
}

/// Whether a text can be [`Config::service_cidr`](crate::Config::service_cidr) of a server that is advertised at an address.
///
/// # Errors
/// What is wrong with it, for whoever wrote it.
pub fn check_service_cidr(text: &str, advertised: IpAddr) -> Result<(), String> {
    OwnRanges::parse(text)?.check_advertised(advertised)
}

/// The blocks that this server was started with.
pub(crate) fn own_ranges(server: &ApiServer) -> ApiResult<OwnRanges> {
    OwnRanges::parse(&server.config.service_cidr).map_err(|error| {
        ApiError::internal(format!("the service address range is not usable: {error}"))
    })
}

fn ranges(server: &ApiServer) -> ApiResult<Ranges> {
    let own = own_ranges(server)?;
    let told = server.world.list("networking.k8s.io", "servicecidrs", "");
    let told: Vec<Object> = told.iter().map(|entry| entry.object()).collect();
    Ok(Ranges::of(own, told.iter()))
}

/// Settles which families a Service has.
fn settle_families(ranges: &Ranges, service: &mut Object, old: Option<&Object>) -> ApiResult<()> {
    families::align(service);
    let settled = families::settle(service, old, &ranges.families());
    settled.map_err(|errors| ApiError::invalid("", "Service", service.name(), &errors))
}

/// Whether an update leaves nothing to choose and nothing to look at.
fn has_all_addresses(service: &Object, old: &Object) -> bool {
    let (now, before) = (held(service), held(old));
    let wanted = service
        .get_array(&["spec", "ipFamilies"])
        .map_or(0, Vec::len);
    let is_headless = service.get_str(&["spec", "clusterIP"]) == Some(families::NONE);
    let is_complete = is_headless || families::is_external(service) || now.len() >= wanted;
    is_complete && now.iter().all(|address| before.contains(address))
}

/// Whether an update names another first address than there is: validation refuses that, as in Kubernetes, so nobody looks
/// whether the address can be had.
fn changes_first(service: &Object, old: &Object) -> bool {
    if families::is_external(service) || families::is_external(old) {
        return false;
    }
    let first = |service: &Object| -> Option<String> {
        let list = service.get_array(&["spec", "clusterIPs"])?;
        list.first()?.as_str().map(str::to_owned)
    };
    let (now, before) = (first(service), first(old));
    now.is_some() && before.is_some() && now != before
}

/// Settles the addresses of a Service whose families are settled: those of before stay, those that are named are looked at,
/// the rest is chosen.
fn settle_addresses(
    ranges: &Ranges,
    taken: &Taken,
    service: &mut Object,
    old: Option<&Object>,
) -> ApiResult<()> {
    let mut all = families::addresses(service);
    let is_headless = all.first().is_some_and(|first| first == families::NONE);
    if families::is_external(service) || is_headless {
        return Ok(());
    }
    let kept = old.map(held).unwrap_or_default();
    for address in all.iter().filter(|address| !kept.contains(&&***address)) {
        let number: Option<IpAddr> = address.parse().ok();
        match number.filter(|number| ranges.contain(*number)) {
            None => return Err(refused(service, address, OUTSIDE)),
            Some(number) if taken.addresses.contains(&number) => {
                return Err(refused(service, address, TAKEN));
            }
            Some(_) => {}
        }
    }
    let wanted = service.get_array(&["spec", "ipFamilies"]);
    let wanted = wanted.map(Vec::as_slice).unwrap_or_default().iter();
    let wanted = wanted.filter_map(|name| Family::named(name.as_str()?));
    for family in wanted.skip(all.len()) {
        let address = ranges.pick(family, &taken.addresses, &mut host::random);
        let full = || ApiError::internal("failed to allocate a serviceIP: range is full");
        all.push(address.ok_or_else(full)?.to_string());
    }
    if let Some(first) = all.first() {
        service.set(&["spec", "clusterIP"], first.as_str());
        service.set(&["spec", "clusterIPs"], all);
    }
    Ok(())
}

/// Fills in node ports; `own` are those that a Service which is there holds already. In a new one, ports with one number and
/// different protocols, such as those of DNS, share the port of nodes that is chosen or named for the first, as in Kubernetes.
fn settle_ports(
    (first, last): (u16, u16),
    taken: &Taken,
    own: Option<&[(u16, String)]>,
    service: &mut Object,
) -> ApiResult<()> {
    let (is_new, own) = (own.is_none(), own.unwrap_or_default());
    for (index, (port, protocol)) in named_ports(service).into_iter().enumerate() {
        if own.contains(&(port, protocol.clone())) {
            continue;
        }
        if !(first..=last).contains(&port) {
            let path = Path::new("spec")
                .child("ports")
                .index(index)
                .child("nodePort");
            let text = format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            );
            return Err(invalid(service, FieldError::invalid(&path, port, text)));
        }
        if taken.ports.contains(&(port, protocol)) {
            return Err(port_taken(service, index, port));
        }
    }
    let mut used: BTreeSet<u16> = taken.ports.iter().map(|(port, _)| *port).collect();
    used.extend(named_ports(service).iter().map(|(port, _)| *port));
    let mut pick = || -> ApiResult<u16> {
        let span = u64::from(last - first) + 1;
        let drawn = (0..DRAWS)
            .map(|_| first + (host::random::<u64>() % span) as u16)
            .find(|port| !used.contains(port));
        let port = drawn.or_else(|| (first..=last).find(|port| !used.contains(port)));
        let port =
            port.ok_or_else(|| ApiError::internal("failed to allocate a nodePort: range is full"))?;
        used.insert(port);
        Ok(port)
    };
    let mut held: BTreeSet<(u16, String)> = named_ports(service).into_iter().collect();
    if wants_ports(service)
        && let Some(ports) = service
            .get_mut(&["spec", "ports"])
            .and_then(Value::as_array_mut)
    {
        let number = |port: &Value| port.get("port").and_then(Value::as_u64);
        let mut of_number: BTreeMap<Option<u64>, u16> = BTreeMap::new();
        for port in &*ports {
            if let Some(on_node) = on_node(port) {
                of_number.entry(number(port)).or_insert(on_node);
            }
        }
        for port in ports {
            if port.get("nodePort").and_then(Value::as_u64).unwrap_or(0) != 0 {
                continue;
            }
            let of_first = of_number.get(&number(port)).copied();
            let shared = of_first
                .map(|on_node| (on_node, protocol(port).to_owned()))
                .filter(|pair| is_new && !taken.ports.contains(pair) && !held.contains(pair));
            let chosen = match shared {
                Some(pair) => pair,
                None => (pick()?, protocol(port).to_owned()),
            };
            of_number.entry(number(port)).or_insert(chosen.0);
            port["nodePort"] = chosen.0.into();
            held.insert(chosen);
        }
    }
    if wants_health_port(service) && health_port(service).is_none() {
        let port = pick()?;
        service.set(&["spec", "healthCheckNodePort"], port);
    }
    Ok(())
}

/// Carries the allocations of the old Service over, adds what the new type needs, releases what it does not.
pub(crate) async fn for_update(
    context: &Context,
    resource: &Resource,
    new: &mut Object,
    old: &Object,
) -> ApiResult<Extra> {
    let server = &*context.server;
    if !is_service(resource) {
        return Ok(Extra::default());
    }
    carry_over(new, old);
    let old_ports = named_ports(old);
    if families_of(new) != families_of(old) {
        settle_families(&ranges(server)?, new, Some(old))?;
    }
    // Most updates ask for no address: then nobody looks which are taken.
    let is_refused = changes_first(new, old);
    let is_settled = is_refused || has_all_addresses(new, old);
    let mut taken = Taken::read(server, !is_settled, wants_ports(new));
    taken.ports.retain(|port| !old_ports.contains(port));
    if !is_settled {
        settle_addresses(&ranges(server)?, &taken, new, Some(old))?;
    }
    settle_ports(server.config.node_ports, &taken, Some(&old_ports), new)?;
    let mut extra = Extra::default();
    if is_refused {
        return Ok(extra);
    }
    let (before, after) = (held(old), held(new));
    for address in before.iter().filter(|address| !after.contains(address)) {
        extra.release(address_key(address));
        extra.release(addresses::key(address)?);
    }
    for address in after.iter().filter(|address| !before.contains(address)) {
        extra.claim(address_key(address), &owner(new));
        addresses::claim(context, new, address, &mut extra).await?;
    }
    let new_ports = named_ports(new);
    for (port, protocol) in old_ports.iter().filter(|port| !new_ports.contains(port)) {
        extra.release(port_key(*port, protocol));
    }
    for (port, protocol) in new_ports.iter().filter(|port| !old_ports.contains(port)) {
        extra.claim(port_key(*port, protocol), &owner(new));
    }
    Ok(extra)
}

/// All that a Service says of its addresses.
fn families_of(service: &Object) -> [Option<&Value>; 4] {
    ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]
        .map(|field| service.get(&["spec", field]))
}

/// An update that leaves the allocated values out means "as they are".
fn carry_over(new: &mut Object, old: &Object) {
    if families::is_external(new) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            new.remove(&["spec", field]);
        }
    } else if !families::is_external(old) {
        families::carry_over(new, old);
    }
    if wants_health_port(new)
        && health_port(new).is_none()
        && let Some(port) = health_port(old)
    {
        new.set(&["spec", "healthCheckNodePort"], port);
    }
    if !wants_health_port(new) {
        new.remove(&["spec", "healthCheckNodePort"]);
    }
    let same_type = new.get_str(&["spec", "type"]) == old.get_str(&["spec", "type"]);
    let old_ports = old
        .get_array(&["spec", "ports"])
        .cloned()
        .unwrap_or_default();
    let wants = wants_ports(new);
    let Some(ports) = new
        .get_mut(&["spec", "ports"])
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    let asked: BTreeSet<u64> = (ports.iter())
        .filter_map(|port| port.get("nodePort").and_then(Value::as_u64))
        .collect();
    for port in ports {
        // As in Kubernetes: under one name a port may change its number and keep what it is reached by.
        let name = |port: &Value| {
            let name = port.get("name").and_then(Value::as_str);
            name.unwrap_or_default().to_owned()
        };
        let unset = port.get("nodePort").and_then(Value::as_u64).unwrap_or(0) == 0;
        let before = old_ports
            .iter()
            .find(|other| name(other) == name(port))
            .and_then(|other| other.get("nodePort"));
        let before = before.and_then(Value::as_u64).filter(|port| *port != 0);
        match before {
            Some(before) if wants && unset && !asked.contains(&before) => {
                port["nodePort"] = before.into();
            }
            // Back to ClusterIP: ports that were only carried along are given back.
            Some(before)
                if !wants
                    && !same_type
                    && port.get("nodePort").and_then(Value::as_u64) == Some(before) =>
            {
                if let Some(port) = port.as_object_mut() {
                    port.remove("nodePort");
                }
            }
            _ => {}
        }
    }
}

/// Gives back what a Service held.
pub(crate) fn for_delete(resource: &Resource, service: &Object) -> Extra {
    let mut extra = Extra::default();
    if !is_service(resource) {
        return extra;
    }
    for address in held(service) {
        extra.release(address_key(address));
        if let Ok(key) = addresses::key(address) {
            extra.release(key);
        }
    }
    for (port, protocol) in named_ports(service) {
        extra.release(port_key(port, &protocol));
    }
    extra
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_that_is_asked_for_is_of_the_range_and_free_whichever_field_has_it() {
        let range = OwnRanges::parse("10.96.0.0/28").unwrap();
        let ranges = Ranges::of(range, std::iter::empty());
        let taken = Taken {
            addresses: BTreeSet::from(["10.96.0.3".parse().unwrap()]),
            ports: BTreeSet::new(),
        };
        let settled = |spec: Value| {
            let object = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec});
            let mut service = Object::new(object).unwrap();
            settle_families(&ranges, &mut service, None)?;
            settle_addresses(&ranges, &taken, &mut service, None).map(|()| service)
        };
        let in_one = |address: &str| json!({ "clusterIP": address });
        let in_list = |address: &str| json!({ "clusterIPs": [address] });
        for address in ["8.8.8.8", "10.96.0.3", "10.96.0.16"] {
            assert!(settled(in_one(address)).is_err(), "{address}");
            assert!(settled(in_list(address)).is_err(), "{address}");
        }
        for (asked, address) in [("10.96.0.5", Some("10.96.0.5")), ("None", None)] {
            for spec in [in_one(asked), in_list(asked)] {
                assert_eq!(held(&settled(spec).unwrap()).first().copied(), address);
            }
        }
        let service = settled(json!({})).unwrap();
        let address = held(&service)[0].parse().unwrap();
        assert!(ranges.contain(address) && !taken.addresses.contains(&address));
    }

    #[test]
    fn each_family_has_an_address_in_its_order_and_an_update_adds_what_lacks() {
        let own = OwnRanges::parse("10.96.0.0/28").unwrap();
        let more = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["fd00::/112", "10.96.0.0/28"]}});
        let more = [Object::new(more).unwrap()];
        let ranges = Ranges::of(own, more.iter());
        let taken = Taken {
            addresses: BTreeSet::new(),
            ports: BTreeSet::new(),
        };
        let settle = |service: &mut Object, old: Option<&Object>| {
            settle_families(&ranges, service, old).unwrap();
            assert!(
                old.is_none_or(|old| !has_all_addresses(service, old)) || held(service).len() == 1
            );
            settle_addresses(&ranges, &taken, service, old).unwrap();
        };
        let service = |spec: Value| {
            let object = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec});
            Object::new(object).unwrap()
        };
        let mut dual =
            service(json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]}));
        settle(&mut dual, None);
        let found = held(&dual);
        assert!(found[0].starts_with("fd00::") && found[1].starts_with("10.96.0."));
        assert_eq!(dual.get_str(&["spec", "clusterIP"]), Some(found[0]));

        let mut old = service(json!({}));
        settle(&mut old, None);
        let mut new = service(json!({"ipFamilyPolicy": "RequireDualStack"}));
        carry_over(&mut new, &old);
        settle(&mut new, Some(&old));
        assert_eq!(held(&new)[0], held(&old)[0]);
        assert!(held(&new)[1].starts_with("fd00::"));
        let mut single = service(json!({"ipFamilyPolicy": "SingleStack"}));
        carry_over(&mut single, &new);
        settle(&mut single, Some(&new));
        assert_eq!(held(&single), held(&old));
    }

    #[test]
    fn another_first_address_is_left_to_validation() {
        let service = |spec: Value| Object::new(json!({ "spec": spec })).unwrap();
        let listed = |list: &[&str]| service(json!({"clusterIP": list[0], "clusterIPs": list}));
        let external = service(json!({"type": "ExternalName"}));
        for (before, now, expected) in [
            (listed(&["10.0.0.1"]), listed(&["10.0.0.2"]), true),
            (listed(&["10.0.0.1"]), listed(&["None"]), true),
            (listed(&["None"]), listed(&["10.0.0.1"]), true),
            (
                listed(&["10.0.0.1"]),
                listed(&["10.0.0.1", "fd00::1"]),
                false,
            ),
            (listed(&["10.0.0.1"]), external.clone(), false),
            (external, listed(&["10.0.0.1"]), false),
            // Stored before there were lists: validation has nothing to compare.
            (
                service(json!({"clusterIP": "10.0.0.1"})),
                listed(&["10.0.0.2"]),
                false,
            ),
        ] {
            assert_eq!(changes_first(&now, &before), expected, "{before:?} {now:?}");
        }
    }

    #[test]
    fn a_service_holds_one_address_of_each_family() {
        let holds = |spec: Value| {
            let service = Object::new(json!({ "spec": spec })).unwrap();
            held(&service).join(" ")
        };
        let listed = |list: &[&str]| json!({"clusterIP": list[0], "clusterIPs": list});
        assert_eq!(holds(listed(&["10.0.0.1", "fd00::1"])), "10.0.0.1 fd00::1");
        assert_eq!(holds(listed(&["10.0.0.1", "10.0.0.2"])), "10.0.0.1");
        assert_eq!(holds(listed(&["None"])), "");
        assert_eq!(holds(json!({"clusterIP": "10.0.0.1"})), "10.0.0.1");
        let elsewhere = json!({"type": "ExternalName", "clusterIP": "10.0.0.1"});
        assert_eq!(holds(elsewhere), "");
    }

    #[test]
    fn updates_keep_what_they_do_not_mention() {
        let old = Object::new(
            json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30_001}]}}),
        )
        .unwrap();
        let mut new = Object::new(
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}}),
        )
        .unwrap();
        carry_over(&mut new, &old);
        assert_eq!(new.get_str(&["spec", "clusterIP"]), Some("10.0.0.9"));
        assert_eq!(named_ports(&new), [(30_001, "TCP".to_owned())]);
        let ports = |ports: Value| {
            Object::new(json!({"spec": {"type": "NodePort", "ports": ports}})).unwrap()
        };
        let named = ports(json!([{"name": "a", "port": 80, "nodePort": 30_001},
            {"name": "b", "port": 81, "nodePort": 30_002}]));
        // "a" has another number now, the number of "b" is under another name, and what "b" had is asked for.
        let mut renumbered = ports(
            json!([{"name": "a", "port": 8080}, {"name": "c", "port": 81},
            {"name": "b", "port": 82}, {"name": "d", "port": 83, "nodePort": 30_002}]),
        );
        carry_over(&mut renumbered, &named);
        let kept = renumbered.get_array(&["spec", "ports"]).unwrap().iter();
        let kept: Vec<_> = kept
            .map(|port| port.get("nodePort").and_then(Value::as_u64))
            .collect();
        assert_eq!(kept, [Some(30_001), None, None, Some(30_002)]);
        let mut plain = old.clone();
        plain.set(&["spec", "type"], "ClusterIP");
        carry_over(&mut plain, &old);
        assert!(named_ports(&plain).is_empty());
    }

    #[test]
    fn ports_of_one_number_share_a_port_of_nodes_in_a_new_service() {
        let taken = |ports: &[(u16, &str)]| Taken {
            addresses: BTreeSet::new(),
            ports: ports.iter().map(|(n, p)| (*n, (*p).to_owned())).collect(),
        };
        let settled = |ports: Value, taken: Taken, own: Option<&[(u16, String)]>| {
            let spec = json!({"type": "NodePort", "ports": ports});
            let mut service = Object::new(json!({"spec": spec})).unwrap();
            settle_ports((30_000, 30_009), &taken, own, &mut service).unwrap();
            let ports = named_ports(&service);
            ports.into_iter().map(|port| port.0).collect::<Vec<_>>()
        };
        let dns = || json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 80, "protocol": "TCP"}]);
        let found = settled(dns(), taken(&[]), None);
        assert!(found[0] == found[1] && found[1] != found[2], "{found:?}");
        let found = settled(dns(), taken(&[]), Some(&[]));
        assert_ne!(found[0], found[1], "an update chooses each");

        let named = || json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP", "nodePort": 30_005}]);
        assert_eq!(settled(named(), taken(&[]), None), [30_005, 30_005]);
        let found = settled(named(), taken(&[(30_005, "UDP")]), None);
        assert_ne!(found[0], 30_005, "another service has it");
        let twice = json!([{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "TCP"}]);
        let found = settled(twice, taken(&[]), None);
        assert_ne!(found[0], found[1]);
    }
}
