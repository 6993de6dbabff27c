//! Addresses and node ports of Services: chosen here, claimed as keys of the store in the same transaction as the
//! Service, so that no two Services ever share one, whoever writes through whichever member. Addresses are of the ranges of
//! the ServiceCIDRs, and each has an IPAddress that comes and goes with the claim.

mod addresses;
mod range;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use bytes::Bytes;
use kv::RangeRequest;
use resources::Resource;
use schema::Object;
use schema::field::{FieldError, Path};
use serde_json::{Map, Value, json};

pub(crate) use addresses::keep;
pub(crate) use range::Range;
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

fn needs_address(service: &Object) -> bool {
    service.get_str(&["spec", "type"]) != Some("ExternalName")
        && service
            .get_str(&["spec", "clusterIP"])
            .unwrap_or_default()
            .is_empty()
}

fn has_address(service: &Object) -> Option<&str> {
    service
        .get_str(&["spec", "clusterIP"])
        .filter(|address| !address.is_empty() && *address != "None")
        .filter(|_| service.get_str(&["spec", "type"]) != Some("ExternalName"))
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
        .filter_map(|port| {
            let number = port
                .get("nodePort")
                .and_then(Value::as_u64)
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port != 0)?;
            let protocol = port
                .get("protocol")
                .and_then(Value::as_str)
                .unwrap_or("TCP");
            Some((number, protocol.to_owned()))
        })
        .chain(health_port(service).map(|port| (port, "TCP".to_owned())))
        .collect()
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
    addresses: BTreeSet<Ipv4Addr>,
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
                    .filter_map(|entry| entry.field("spec.clusterIP").parse::<Ipv4Addr>().ok()),
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

fn owner(service: &Object) -> String {
    format!("{}/{}", service.namespace(), service.name())
}

fn invalid(service: &Object, error: FieldError) -> ApiError {
    ApiError::invalid("", "Service", service.name(), &[error])
}

fn address_path() -> Path {
    Path::new("spec").child("clusterIPs").index(0)
}

fn address_taken(service: &Object, address: &str) -> ApiError {
    let path = Path::new("spec").child("clusterIPs");
    let text = format!("failed to allocate IP {address}: provided IP is already allocated");
    invalid(service, FieldError::invalid(&path, json!([address]), text))
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
        check_families(service)?;
        settle_address(ranges, &taken, service)?;
        settle_ports(server.config.node_ports, &taken, &[], service)?;
        if let Some(address) = has_address(service) {
            extra.claim(address_key(address), &owner(service));
        }
        for (port, protocol) in named_ports(service) {
            extra.claim(port_key(port, &protocol), &owner(service));
        }
        Ok(extra)
    }

    /// Adds what says whose the address is.
    pub(crate) async fn claim_address(
        &self,
        context: &Context,
        service: &Object,
        extra: &mut Extra,
    ) -> ApiResult<()> {
        match (self, has_address(service)) {
            (Plan::Service(_), Some(address)) => {
                addresses::claim(context, service, address, extra).await
            }
            _ => Ok(()),
        }
    }

    /// After a lost transaction: says which claim is taken where the client chose it. Ok where it was our choice.
    pub(crate) async fn check_claims(&self, server: &ApiServer, service: &Object) -> ApiResult<()> {
        let Plan::Service(_) = self else {
            return Ok(());
        };
        if let Some(address) = has_address(service) {
            let claim = exists(server, address_key(address)).await?;
            if claim || exists(server, addresses::key(address)?).await? {
                return Err(address_taken(service, address));
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

fn ranges(server: &ApiServer) -> ApiResult<Ranges> {
    let own = Range::parse(&server.config.service_cidr)
        .ok_or_else(|| ApiError::internal("the service address range is not usable"))?;
    let told = server.world.list("networking.k8s.io", "servicecidrs", "");
    let told: Vec<Object> = told.iter().map(|entry| entry.object()).collect();
    Ok(Ranges::of(own, told.iter()))
}

fn settle_address(ranges: &Ranges, taken: &Taken, service: &mut Object) -> ApiResult<()> {
    if service.get_str(&["spec", "type"]) == Some("ExternalName") {
        return Ok(());
    }
    if needs_address(service) {
        let wanted = service
            .get(&["spec", "clusterIPs"])
            .and_then(|list| list.get(0))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        // What is wanted is looked at as if it were in the other field.
        if !wanted.is_empty() {
            service.set(&["spec", "clusterIP"], wanted);
        }
    }
    if needs_address(service) {
        let address = ranges
            .pick(&taken.addresses, &mut host::random)
            .ok_or_else(|| ApiError::internal("failed to allocate a serviceIP: range is full"))?;
        service.set(&["spec", "clusterIP"], address.to_string());
    } else if let Some(text) = has_address(service).map(str::to_owned) {
        let address: Option<Ipv4Addr> = text.parse().ok();
        match address {
            Some(address) if ranges.contain(address) && taken.addresses.contains(&address) => {
                return Err(address_taken(service, &text));
            }
            Some(address) if ranges.contain(address) => {}
            _ => {
                let detail = format!(
                    "failed to allocate IP {text}: the provided network does not match the current range"
                );
                return Err(invalid(
                    service,
                    FieldError::invalid(&address_path(), text, detail),
                ));
            }
        }
    }
    complete_families(service);
    Ok(())
}

/// What a Service says of families.
fn families(service: &Object) -> [Option<&Value>; 2] {
    ["ipFamilyPolicy", "ipFamilies"].map(|field| service.get(&["spec", field]))
}

/// This cluster has IPv4 service addresses only. A headless Service without a selector may have endpoints of any family,
/// for they are made by hand.
fn check_families(service: &Object) -> ApiResult<()> {
    let spec = service.get(&["spec"]).unwrap_or(&Value::Null);
    let text = |field: &str| spec.get(field).and_then(Value::as_str).unwrap_or_default();
    let selector = spec.get("selector").and_then(Value::as_object);
    let is_by_hand = text("clusterIP") == "None" && selector.is_none_or(Map::is_empty);
    if text("type") == "ExternalName" || is_by_hand {
        return Ok(());
    }
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if text("ipFamilyPolicy") == "RequireDualStack" {
        let detail = "this cluster is not configured for dual-stack services";
        let policy = text("ipFamilyPolicy");
        errors.push(FieldError::invalid(
            &path.child("ipFamilyPolicy"),
            policy,
            detail,
        ));
    }
    let families = spec.get("ipFamilies").and_then(Value::as_array);
    for (at, family) in families.into_iter().flatten().enumerate() {
        if family != "IPv4" {
            let path = path.child("ipFamilies").index(at);
            let detail = "not configured on this cluster";
            errors.push(FieldError::invalid(&path, family.clone(), detail));
        }
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid("", "Service", service.name(), &errors)),
    }
}

/// The list forms of the address and the families that Kubernetes fills in with it.
fn complete_families(service: &mut Object) {
    if let Some(address) = service.get_str(&["spec", "clusterIP"]).map(str::to_owned) {
        service.set(&["spec", "clusterIPs"], json!([address]));
    }
    service.set_default(&["spec", "ipFamilies"], json!(["IPv4"]));
    service.set_default(&["spec", "ipFamilyPolicy"], "SingleStack");
}

/// Fills in node ports; `own` are those that the Service holds already.
fn settle_ports(
    (first, last): (u16, u16),
    taken: &Taken,
    own: &[(u16, String)],
    service: &mut Object,
) -> ApiResult<()> {
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
    if wants_ports(service)
        && let Some(ports) = service
            .get_mut(&["spec", "ports"])
            .and_then(Value::as_array_mut)
    {
        for port in ports {
            if port.get("nodePort").and_then(Value::as_u64).unwrap_or(0) == 0 {
                port["nodePort"] = pick()?.into();
            }
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
    // What was let in once stays.
    if families(new) != families(old) {
        check_families(new)?;
    }
    let old_ports = named_ports(old);
    let kept_address = has_address(old).is_some() && has_address(old) == has_address(new);
    let mut taken = Taken::read(server, !kept_address, wants_ports(new));
    taken.ports.retain(|port| !old_ports.contains(port));
    if !kept_address {
        settle_address(&ranges(server)?, &taken, new)?;
    }
    settle_ports(server.config.node_ports, &taken, &old_ports, new)?;
    let mut extra = Extra::default();
    let (before, after) = (has_address(old), has_address(new));
    if before != after {
        if let Some(address) = before {
            extra.release(address_key(address));
            extra.release(addresses::key(address)?);
        }
        if let Some(address) = after {
            extra.claim(address_key(address), &owner(new));
            addresses::claim(context, new, address, &mut extra).await?;
        }
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

/// An update that leaves the allocated values out means "as they are".
fn carry_over(new: &mut Object, old: &Object) {
    let external = new.get_str(&["spec", "type"]) == Some("ExternalName");
    if external {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            new.remove(&["spec", field]);
        }
    } else if needs_address(new) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = old.get(&["spec", field]).cloned() {
                new.set_default(&["spec", field], value);
            }
        }
        if needs_address(new)
            && let Some(value) = old.get(&["spec", "clusterIP"]).cloned()
        {
            new.set(&["spec", "clusterIP"], value);
        }
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
    for port in ports {
        let key = |port: &Value| (port.get("port").cloned(), port.get("protocol").cloned());
        let unset = port.get("nodePort").and_then(Value::as_u64).unwrap_or(0) == 0;
        let before = old_ports
            .iter()
            .find(|other| key(other) == key(port))
            .and_then(|other| other.get("nodePort"));
        let before = before.and_then(Value::as_u64).filter(|port| *port != 0);
        match before {
            Some(before) if wants && unset => port["nodePort"] = before.into(),
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
    if let Some(address) = has_address(service) {
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

    #[test]
    fn an_address_that_is_asked_for_is_of_the_range_and_free_whichever_field_has_it() {
        let range = Range::parse("10.96.0.0/28").unwrap();
        let ranges = Ranges::of(range, std::iter::empty());
        let taken = Taken {
            addresses: BTreeSet::from([Ipv4Addr::new(10, 96, 0, 3)]),
            ports: BTreeSet::new(),
        };
        let settled = |spec: Value| {
            let object = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec});
            let mut service = Object::new(object).unwrap();
            settle_address(&ranges, &taken, &mut service).map(|()| service)
        };
        let in_one = |address: &str| json!({ "clusterIP": address });
        let in_list = |address: &str| json!({ "clusterIPs": [address] });
        for address in ["8.8.8.8", "10.96.0.3", "10.96.0.16"] {
            assert!(settled(in_one(address)).is_err(), "{address}");
            assert!(settled(in_list(address)).is_err(), "{address}");
        }
        for (asked, address) in [("10.96.0.5", Some("10.96.0.5")), ("None", None)] {
            for spec in [in_one(asked), in_list(asked)] {
                assert_eq!(has_address(&settled(spec).unwrap()), address);
            }
        }
        let service = settled(json!({})).unwrap();
        let address = has_address(&service).unwrap().parse().unwrap();
        assert!(ranges.contain(address) && !taken.addresses.contains(&address));
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
        let mut plain = old.clone();
        plain.set(&["spec", "type"], "ClusterIP");
        carry_over(&mut plain, &old);
        assert!(named_ports(&plain).is_empty());
    }
}
