//! IPAddresses: each says which Service has an address. They are made and removed in the transactions of the Services; what
//! is amiss nevertheless, because it is from before there were any or somebody meddled, is put right now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use resources::Resource;
use schema::Object;
use serde_json::json;

use super::families::Family;
use super::held;
use crate::ApiServer;
use crate::bootstrap::internal;
use crate::context::Context;
use crate::managed::{self, Owner};
use crate::status::{ApiError, ApiResult};
use crate::verbs::create;
use crate::write::{Extra, Step};

const GROUP: &str = "networking.k8s.io";
const PLURAL: &str = "ipaddresses";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
const SERVER: Owner<'static> = Owner::Manager(managed::SERVER, "");
/// Between looks, as in Kubernetes.
const LOOK_EVERY: Duration = Duration::from_secs(180);
/// An address this young may be of a Service that has not been seen yet.
const YOUNG_SECONDS: i64 = 60;
/// Objects that are read in one step.
const AT_ONCE: usize = 64;

fn kind() -> ApiResult<&'static Resource> {
    resources::find(GROUP, "v1", PLURAL).ok_or_else(ApiError::no_such_resource)
}

/// Where the store has the object of an address.
pub(super) fn key(address: &str) -> ApiResult<String> {
    Ok(resources::storage_key(kind()?, "", address))
}

/// All addresses that have one, whosever they are, as of this member's cache.
pub(super) fn all(server: &ApiServer) -> Vec<IpAddr> {
    let all = server.world.list(GROUP, PLURAL, "");
    all.iter()
        .filter_map(|entry| entry.name().parse().ok())
        .collect()
}

fn object(address: &str, (namespace, name): (&str, &str)) -> ApiResult<Object> {
    let family = Family::of_text(address).unwrap_or(Family::V4).name();
    let labels = json!({ FAMILY: family, MANAGED_BY: ALLOCATOR });
    let parent = json!({"resource": "services", "namespace": namespace, "name": name});
    let object = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "IPAddress",
        "metadata": {"name": address, "labels": labels}, "spec": {"parentRef": parent}
    });
    Object::new(object).map_err(|_| ApiError::internal("an IPAddress is not an object"))
}

/// Gives a Service its address, or loses the transaction where somebody has it.
pub(super) async fn claim(
    context: &Context,
    service: &Object,
    address: &str,
    extra: &mut Extra,
) -> ApiResult<()> {
    let kind = kind()?;
    let mut object = object(address, (service.namespace(), service.name()))?;
    managed::track_new(context, kind, SERVER, &mut object).await;
    object.set_uid(&crate::chance::uuid().to_string());
    object.set_creation_timestamp(&schema::time::now_rfc3339(context.now));
    let server = &context.server;
    server
        .also_create(kind, &key(address)?, object, extra)
        .await
}

/// Puts right what is amiss, for as long as the server runs.
pub(crate) async fn keep(server: &Arc<ApiServer>) {
    loop {
        if let Err(error) = put_right(server).await {
            let message = error.message;
            tracing::debug!(message, "addresses of services are put right later");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// All objects of a kind. Others may have their turn in between: there can be very many.
async fn objects(server: &ApiServer, group: &str, plural: &str) -> Vec<Object> {
    let mut objects = Vec::new();
    for some in server.world.list(group, plural, "").chunks(AT_ONCE) {
        objects.extend(some.iter().map(|entry| entry.object()));
        tokio::task::yield_now().await;
    }
    objects
}

async fn put_right(server: &Arc<ApiServer>) -> ApiResult<()> {
    let kind = kind()?;
    let services = objects(server, "", "services").await;
    let addresses = objects(server, GROUP, PLURAL).await;
    let context = internal(server, kind, "", "");
    let (missing, orphans) = amiss(&services, &addresses, context.now);
    for (address, (namespace, name)) in missing {
        // Both lists are not of one moment: a Service that went in between took its address along.
        let service = server.world.get("", "services", namespace, name);
        let has = service.is_some_and(|service| held(&service.object()).contains(&address));
        if !has {
            continue;
        }
        tracing::warn!(
            namespace,
            name,
            address,
            "the address of a service is not allocated; repairing"
        );
        let object = object(address, (namespace, name))?;
        match create::create_object(&context, kind, object, false, SERVER).await {
            Err(error) if error.reason != "AlreadyExists" => stop_at(error, name)?,
            _ => {}
        }
    }
    for (name, uid) in orphans {
        tracing::warn!(name, "an address is of no service; removing it");
        let mut decide = |old: &Object| {
            Ok(match old.uid() == uid && old.finalizers().is_empty() {
                true => Step::RemoveAsIs(Extra::default()),
                false => Step::Keep(old.clone()),
            })
        };
        match server.change(kind, "", name, false, &mut decide).await {
            Err(error) if error.code != 404 => stop_at(error, name)?,
            _ => {}
        }
    }
    Ok(())
}

/// What is wrong with one does not keep the others from being put right, but for a store that does not answer, or has too
/// much to do.
fn stop_at(error: ApiError, name: &str) -> ApiResult<()> {
    if error.code >= 500 || error.code == 429 {
        return Err(error);
    }
    let message = error.message;
    tracing::warn!(name, message, "an address cannot be put right");
    Ok(())
}

/// Addresses of Services that nothing says of, with the Services, and those that are said to be of a Service that has them
/// not, with their uids.
type Amiss<'a> = (Vec<(&'a str, (&'a str, &'a str))>, Vec<(&'a str, &'a str)>);

fn amiss<'a>(services: &'a [Object], addresses: &'a [Object], now: i64) -> Amiss<'a> {
    let mut owners: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for service in services {
        let owner = (service.namespace(), service.name());
        let theirs = held(service).into_iter();
        owners.extend(theirs.map(|address| (address, owner)));
    }
    let known: BTreeSet<&str> = addresses.iter().map(Object::name).collect();
    let missing = owners
        .iter()
        .filter(|(address, _)| !known.contains(*address));
    let missing = missing.map(|(address, service)| (*address, *service));
    let is_orphan = |address: &&Object| {
        let parent = |field: &str| {
            let text = address.get_str(&["spec", "parentRef", field]);
            text.unwrap_or_default()
        };
        let of_service = parent("group").is_empty() && parent("resource") == "services";
        let owner = (parent("namespace"), parent("name"));
        let is_held = of_service && owners.get(address.name()) == Some(&owner);
        let created = address.creation_timestamp().and_then(schema::time::parse);
        let is_old = created.is_none_or(|created| now - created > YOUNG_SECONDS);
        address.label(MANAGED_BY) == Some(ALLOCATOR) && !is_held && is_old
    };
    let orphans = addresses.iter().filter(is_orphan);
    let orphans = orphans.map(|address| (address.name(), address.uid()));
    (missing.collect(), orphans.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_services_name_each_other() {
        let service = |name: &str, address: &str| {
            let object = json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"type": "ClusterIP", "clusterIP": address}});
            Object::new(object).unwrap()
        };
        let made = |address: &str, name: &str, created: i64| {
            let mut object = object(address, ("n", name)).unwrap();
            object.set_uid(address);
            object.set_creation_timestamp(&schema::time::now_rfc3339(created));
            object
        };
        let now = 1_800_000_000;
        let services = [
            service("a", "10.0.0.1"),
            service("b", "10.0.0.2"),
            service("headless", "None"),
            service("c", "10.0.0.3"),
        ];
        let mut by_hand = made("10.0.0.6", "nobody", 0);
        by_hand.metadata_mut().remove("labels");
        let mut gateway = made("10.0.0.7", "a", 0);
        gateway.set(&["spec", "parentRef", "resource"], "gateways");
        let addresses = [
            made("10.0.0.1", "a", 0),
            made("10.0.0.3", "other", 0),
            made("10.0.0.4", "gone", now - 61),
            made("10.0.0.5", "new", now - 60),
            by_hand,
            gateway,
        ];
        let (missing, orphans) = amiss(&services, &addresses, now);
        assert_eq!(missing, [("10.0.0.2", ("n", "b"))]);
        let orphans: Vec<&str> = orphans.into_iter().map(|(name, _)| name).collect();
        assert_eq!(orphans, ["10.0.0.3", "10.0.0.4", "10.0.0.7"]);
        let (missing, orphans) = amiss(&services[..1], &addresses[..1], now);
        assert!(missing.is_empty() && orphans.is_empty());

        let mut dual = service("a", "10.0.0.1");
        dual.set(&["spec", "clusterIPs"], json!(["10.0.0.1", "fd00::1"]));
        let dual = [dual];
        let (missing, _) = amiss(&dual, &addresses[..1], now);
        assert_eq!(missing, [("fd00::1", ("n", "a"))]);
        let second = object("fd00::1", ("n", "a")).unwrap();
        assert_eq!(second.label(FAMILY), Some("IPv6"));
    }
}
