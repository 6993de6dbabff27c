//! Addresses and node ports of Services: chosen here, claimed as keys of the store in the same transaction as the
//! Service, so that no two Services ever share one, whoever writes through whichever member. Addresses are of the ranges of
//! the ServiceCIDRs, and each has an IPAddress that comes and goes with the claim.

mod addresses;
mod families;
mod ports;
mod range;

use std::collections::BTreeSet;
use std::net::IpAddr;

use bytes::Bytes;
use kv::RangeRequest;
use resources::Resource;
use schema::Object;
use schema::field::{FieldError, Path};
use serde_json::Value;

pub(crate) use addresses::keep;
use families::Family;
use ports::{named_ports, port_key, port_taken, settle_ports, wants_ports};
pub(crate) use range::OwnRanges;
use range::Ranges;

use crate::ApiServer;
use crate::context::Context;
use crate::status::{ApiError, ApiResult};
use crate::write::Extra;

const ADDRESS_PREFIX: &str = "/kontiki/clusterips/";

fn address_key(address: &str) -> String {
    format!("{ADDRESS_PREFIX}{address}")
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
    ports::carry_over(new, old);
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
mod tests;
