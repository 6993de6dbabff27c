//! The objects that every cluster has, made at start and repaired where rights are missing: namespaces, roles and
//! bindings, priority classes, flow schemas and priority levels, the `kubernetes` Service and ServiceCIDR, what extension
//! servers need to authenticate clients, and the day since which the use of tokens in Secrets is known.
//! After that this task keeps aggregated cluster roles up to date.

use std::sync::Arc;
use std::time::Duration;

use auth::rule::{Rule, covers};
use auth::{User, aggregate};
use resources::Resource;
use resources::bootstrap::flow;
use schema::Object;
use serde_json::{Value, json};

use crate::ApiServer;
use crate::account_secret;
use crate::authorities;
use crate::context::Context;
use crate::managed::{self, Owner, Versions};
use crate::negotiate::Output;
use crate::request::{Query, RequestInfo};
use crate::service_allocation::{self, OwnRanges};
use crate::status::{ApiError, ApiResult};
use crate::verbs::{create, update};
use crate::write::{Extra, Step};

const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const RBAC: &str = "rbac.authorization.k8s.io";
const SERVER: Owner<'static> = Owner::Manager(managed::SERVER, "");
/// Who writes flow schemas and priority levels, as in Kubernetes.
const FLOW_PRODUCER: &str = "api-priority-and-fairness-config-producer-v1";
/// Who says that the range of the services is ready, as in Kubernetes.
const SERVICE_RANGES: &str = "kubernetes-service-cidr-controller";
const RETRY: Duration = Duration::from_millis(200);
/// Between looks at the range of the services, as in Kubernetes.
const RANGE_EVERY: Duration = Duration::from_secs(10);

pub(crate) async fn run(server: Arc<ApiServer>) {
    // Until the store has a leader there is nothing to do but to ask again.
    while let Err(error) = ensure_all(&server).await {
        tracing::debug!(
            message = error.message,
            "bootstrap objects are not there yet"
        );
        tokio::time::sleep(RETRY).await;
    }
    server.started.set();
    tracing::info!("bootstrap objects are there");
    tokio::join!(
        follow_aggregation(&server),
        authorities::follow(&server),
        service_allocation::keep(&server),
        keep_service_range(&server),
    );
}

/// The ServiceCIDR of the server's own range comes back when it is deleted.
async fn keep_service_range(server: &Arc<ApiServer>) {
    loop {
        tokio::time::sleep(RANGE_EVERY).await;
        let kept = match service_allocation::own_ranges(server) {
            Ok(ranges) => ensure_service_range(server, &ranges).await,
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            let message = error.message;
            tracing::debug!(message, "the range of services is put right later");
        }
    }
}

/// A request of the server to itself. Policies and webhooks of the cluster are not asked about it: one that runs in the
/// cluster cannot answer before there is a server, and one that cannot answer must not keep servers from getting ready.
pub(crate) fn internal(
    server: &Arc<ApiServer>,
    resource: &Resource,
    namespace: &str,
    name: &str,
) -> Context {
    let info = RequestInfo {
        verb: "create",
        is_resource: true,
        group: resource.group.to_string(),
        version: resource.version.to_string(),
        namespace: namespace.to_owned(),
        resource: resource.plural.to_string(),
        name: name.to_owned(),
        ..RequestInfo::default()
    };
    let context = Context::new(
        server.clone(),
        info,
        Query::default(),
        http::HeaderMap::new(),
        User::loopback(),
        Output::PLAIN,
    );
    Context {
        is_own: true,
        ..context
    }
}

async fn ensure_all(server: &Arc<ApiServer>) -> ApiResult<()> {
    server.world.wait_most_recent(&*server.store).await?;
    if !server.world.is_loaded() {
        return Err(ApiError::unavailable("the caches are not loaded"));
    }
    for (resource, object) in resources::bootstrap::all() {
        ensure(server, resource, object).await?;
    }
    tell_authorities(server).await?;
    track_secret_tokens(server).await?;
    let services = resources::find("", "v1", "services").ok_or_else(ApiError::no_such_resource)?;
    let ranges = service_allocation::own_ranges(server)?;
    ensure_service_range(server, &ranges).await?;
    let address = ranges.first();
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": { "component": "apiserver", "provider": "kubernetes" }
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": address.to_string(), "sessionAffinity": "None",
            "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": server.config.advertise_port }]
        }
    });
    ensure(server, services, object(service)?).await
}

/// Whether the `kubernetes` ServiceCIDR is of a cluster that has its second family since: its block is the first of two.
fn lacks_second(present: &Object, cidrs: &Value) -> bool {
    let listed = present.get_array(&["spec", "cidrs"]).map(Vec::as_slice);
    let wanted = cidrs.as_array().map(Vec::as_slice);
    let (Some([only]), Some([first, _])) = (listed, wanted) else {
        return false;
    };
    only == first && present.deletion_timestamp().is_none()
}

/// The `kubernetes` ServiceCIDR: where the addresses of services come from. It gets a second block as in Kubernetes; one that
/// names another range than this server has is left to whoever wrote it.
async fn ensure_service_range(server: &Arc<ApiServer>, ranges: &OwnRanges) -> ApiResult<()> {
    let kind = resources::find("networking.k8s.io", "v1", "servicecidrs")
        .ok_or_else(ApiError::no_such_resource)?;
    let cidrs = json!(ranges.cidrs());
    let wanted = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": { "name": "kubernetes" }, "spec": { "cidrs": cidrs }
    });
    ensure(server, kind, object(wanted)?).await?;
    let present = || {
        let entry = server
            .world
            .get(&kind.group, &kind.plural, "", "kubernetes");
        entry.map(|entry| entry.object())
    };
    if present().is_some_and(|present| lacks_second(&present, &cidrs)) {
        let context = internal(server, kind, "", "kubernetes");
        let mut make = |old: &Object, _: &Versions<'_>| {
            let mut new = old.clone();
            if lacks_second(old, &cidrs) {
                new.set(&["spec", "cidrs"], cidrs.clone());
            }
            Ok(new)
        };
        update::apply(&context, kind, "", false, SERVER, &mut make).await?;
    }
    let is_settled = |present: &Object| {
        present.condition("Ready").is_some()
            || present.deletion_timestamp().is_some()
            || present.get(&["spec", "cidrs"]) != Some(&cidrs)
    };
    if present().is_some_and(|present| is_settled(&present)) {
        return Ok(());
    }
    let context = internal(server, kind, "", "kubernetes");
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": schema::time::now_rfc3339(context.now)
    });
    let mut make = |old: &Object, _: &Versions<'_>| {
        let mut new = old.clone();
        if !is_settled(old) {
            let mut conditions = old
                .get_array(&["status", "conditions"])
                .cloned()
                .unwrap_or_default();
            conditions.push(ready.clone());
            new.set(&["status", "conditions"], conditions);
        }
        Ok(new)
    };
    let owner = Owner::Manager(SERVICE_RANGES, "status");
    let updated = update::apply(&context, kind, "status", false, owner, &mut make).await;
    updated.map(|_| ())
}

/// Says in the cluster whose certificates are believed.
pub(crate) async fn tell_authorities(server: &Arc<ApiServer>) -> ApiResult<()> {
    let config_maps = resources::find("", "v1", "configmaps");
    let config_maps = config_maps.ok_or_else(ApiError::no_such_resource)?;
    ensure(server, config_maps, server.authorities.config_map()?).await
}

/// Says since which day the use of tokens in Secrets is written down: before it, silence means nothing.
async fn track_secret_tokens(server: &Arc<ApiServer>) -> ApiResult<()> {
    let config_maps = resources::find("", "v1", "configmaps");
    let config_maps = config_maps.ok_or_else(ApiError::no_such_resource)?;
    let since = account_secret::day(crate::clock::unix_seconds());
    let tracking = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": account_secret::TRACKING, "namespace": "kube-system" },
        "data": { "since": since }
    });
    ensure(server, config_maps, object(tracking)?).await
}

fn object(value: Value) -> ApiResult<Object> {
    Object::new(value).map_err(|_| ApiError::internal("a bootstrap object is not an object"))
}

/// Creates what is missing; adds missing rights and subjects to what is there.
async fn ensure(server: &Arc<ApiServer>, resource: &Resource, wanted: Object) -> ApiResult<()> {
    let (namespace, name) = (wanted.namespace().to_owned(), wanted.name().to_owned());
    let present = server
        .world
        .get(&resource.group, &resource.plural, &namespace, &name);
    match present {
        None => {
            let context = internal(server, resource, &namespace, "");
            let owner = match resource.group == flow::GROUP {
                true => Owner::Manager(FLOW_PRODUCER, ""),
                false => SERVER,
            };
            match create::create_object(&context, resource, wanted, false, owner).await {
                Ok(created) => {
                    // What follows may look for it in the caches.
                    let revision = created.object.resource_version().parse().unwrap_or(0);
                    let deadline = tokio::time::Instant::now() + crate::world::REVISION_WAIT;
                    server.world.wait_for(revision, deadline).await
                }
                Err(error) if error.reason == "AlreadyExists" => Ok(()),
                Err(error) => Err(error),
            }
        }
        Some(entry) if resource.group == RBAC => {
            let present = entry.object();
            if present.annotation(AUTO_UPDATE) != Some("true")
                || reconciled(&present, &wanted).is_none()
            {
                return Ok(());
            }
            let mut decide = |old: &Object| {
                Ok(match reconciled(old, &wanted) {
                    Some(new) => Step::Write(new, Extra::default()),
                    None => Step::Keep(old.clone()),
                })
            };
            server
                .change(resource, &namespace, &name, false, &mut decide)
                .await
                .map(|_| ())
        }
        Some(entry) if resource.plural == "configmaps" && name == authorities::NAME => {
            let wanted = wanted.get(&["data"]).cloned().unwrap_or_default();
            if entry.object().get(&["data"]) == Some(&wanted) {
                return Ok(());
            }
            let mut decide = |old: &Object| {
                let mut new = old.clone();
                for (key, value) in wanted.as_object().into_iter().flatten() {
                    new.set(&["data", key], value.clone());
                }
                Ok(match new == *old {
                    true => Step::Keep(new),
                    false => Step::Write(new, Extra::default()),
                })
            };
            let changed = server.change(resource, &namespace, &name, false, &mut decide);
            changed.await.map(|_| ())
        }
        Some(entry) if resource.group == flow::GROUP => {
            let mut wanted = wanted;
            resource.default(&mut wanted);
            if maintained(&entry.object(), &wanted).is_none() {
                return Ok(());
            }
            let context = internal(server, resource, &namespace, &name);
            let mut make = |old: &Object, _: &Versions<'_>| {
                Ok(maintained(old, &wanted).unwrap_or_else(|| old.clone()))
            };
            let owner = Owner::Manager(FLOW_PRODUCER, "");
            let updated = update::apply(&context, resource, "", false, owner, &mut make).await;
            updated.map(|_| ())
        }
        Some(_) => Ok(()),
    }
}

/// Puts the flow schemas and priority levels right: what was deleted comes back, what was changed too where the server
/// keeps it, and what an older server kept and this one does not know goes.
pub(crate) async fn keep_flow_control(server: &Arc<ApiServer>) -> ApiResult<()> {
    let wanted = resources::bootstrap::all();
    let wanted = wanted
        .into_iter()
        .filter(|(resource, _)| resource.group == flow::GROUP);
    let mut names = Vec::new();
    for (resource, object) in wanted {
        names.push((resource, object.name().to_owned()));
        ensure(server, resource, object).await?;
    }
    for plural in ["flowschemas", "prioritylevelconfigurations"] {
        let Some(resource) = resources::find(flow::GROUP, "v1", plural) else {
            continue;
        };
        for entry in server.world.list(flow::GROUP, plural, "") {
            let is_known = names
                .iter()
                .any(|(kind, name)| kind.plural == plural && name == entry.name());
            let is_kept = |object: &Object| object.annotation(flow::AUTO_UPDATE) == Some("true");
            if is_known || !is_kept(&entry.object()) {
                continue;
            }
            let mut decide = |old: &Object| {
                Ok(match is_kept(old) {
                    true => Step::RemoveAsIs(Extra::default()),
                    false => Step::Keep(old.clone()),
                })
            };
            let gone = server.change(resource, "", entry.name(), false, &mut decide);
            if let Err(error) = gone.await
                && error.code != 404
            {
                return Err(error);
            }
        }
    }
    Ok(())
}

/// A flow schema or priority level as it should be; none where it is. Its annotation says whether the server keeps the
/// spec; without one the server does as long as nobody changed it.
fn maintained(present: &Object, wanted: &Object) -> Option<Object> {
    let keeps = match present.annotation(flow::AUTO_UPDATE) {
        Some(text) => text == "true",
        None => present.generation() <= 1,
    };
    let mut new = present.clone();
    new.set_annotation(flow::AUTO_UPDATE, if keeps { "true" } else { "false" });
    if keeps && let Some(spec) = wanted.get(&["spec"]) {
        new.set(&["spec"], spec.clone());
    }
    (new != *present).then_some(new)
}

/// The present role or binding with what it lacks; none where it lacks nothing.
fn reconciled(present: &Object, wanted: &Object) -> Option<Object> {
    let mut new = present.clone();
    if wanted.get(&["aggregationRule"]).is_none() && wanted.get(&["rules"]).is_some() {
        let held = Rule::list_from_role(present.value());
        let mut rules = present.get_array(&["rules"]).cloned().unwrap_or_default();
        for rule in wanted
            .get_array(&["rules"])
            .map(Vec::as_slice)
            .unwrap_or_default()
        {
            if !covers(&held, &[Rule::from_value(rule)]) {
                rules.push(rule.clone());
            }
        }
        new.set(&["rules"], Value::Array(rules));
    }
    if let Some(subjects) = wanted.get_array(&["subjects"]) {
        let mut all = present
            .get_array(&["subjects"])
            .cloned()
            .unwrap_or_default();
        all.extend(
            subjects
                .iter()
                .filter(|subject| !all.contains(subject))
                .cloned()
                .collect::<Vec<_>>(),
        );
        new.set(&["subjects"], Value::Array(all));
    }
    for (key, value) in wanted.labels() {
        new.set_label(key, value);
    }
    (new != *present).then_some(new)
}

/// Gives aggregated roles the rules of the roles that they select, whenever a cluster role changes.
async fn follow_aggregation(server: &Arc<ApiServer>) {
    let (Some(cache), Some(resource)) = (
        server.world.named(RBAC, "clusterroles"),
        resources::find(RBAC, "v1", "clusterroles"),
    ) else {
        return;
    };
    let mut wake = cache.subscribe();
    loop {
        wake.mark_unchanged();
        let roles: Vec<Value> = server
            .world
            .list(RBAC, "clusterroles", "")
            .iter()
            .map(|entry| entry.object().into_value())
            .collect();
        let mut failed = false;
        for (name, rules) in aggregate::due(&roles) {
            let context = internal(server, resource, "", name);
            let mut make = |old: &Object, _: &Versions<'_>| Ok(gathering(old, &rules));
            if let Err(error) =
                update::apply(&context, resource, "", false, SERVER, &mut make).await
            {
                failed |= error.code != 404;
                tracing::debug!(
                    role = name,
                    message = error.message,
                    "aggregated role is not up to date yet"
                );
            }
        }
        let changed = wake.changed();
        if failed {
            let _ = tokio::time::timeout(Duration::from_secs(1), changed).await;
        } else if changed.await.is_err() {
            return;
        }
    }
}

/// The role with these rules, if it still is an aggregated one: the rules of any other are somebody's own.
fn gathering(role: &Object, rules: &[Value]) -> Object {
    let mut role = role.clone();
    if aggregate::is_aggregated(role.value()) {
        role.set(&["rules"], Value::Array(rules.to_vec()));
    }
    role
}

#[cfg(test)]
mod aggregation_tests;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_kept_while_nobody_took_it_over() {
        let level = |annotation: Value, generation: u64, shares: u32| {
            let mut value = json!({"metadata": {"name": "x", "generation": generation}, "spec": {"shares": shares}});
            if !annotation.is_null() {
                value["metadata"]["annotations"] = json!({ flow::AUTO_UPDATE: annotation });
            }
            object(value).unwrap()
        };
        let wanted = level("true".into(), 1, 30);
        for (annotation, generation, shares, expected) in [
            (json!("true"), 1, 30, None),
            (json!("true"), 5, 99, Some(("true", 30))),
            (json!("false"), 5, 99, None),
            (Value::Null, 1, 99, Some(("true", 30))),
            (Value::Null, 2, 99, Some(("false", 99))),
        ] {
            let present = level(annotation, generation, shares);
            let new = maintained(&present, &wanted);
            let seen = new.as_ref().map(|new| {
                let shares = new.get(&["spec", "shares"]).and_then(Value::as_u64);
                (new.annotation(flow::AUTO_UPDATE).unwrap(), shares.unwrap())
            });
            assert_eq!(seen, expected, "{present:?}");
        }
    }

    #[test]
    fn missing_rights_are_added_and_extra_ones_stay() {
        let rule = |verb: &str| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]});
        let present =
            object(json!({"metadata": {"name": "r"}, "rules": [rule("get"), rule("watch")]}))
                .unwrap();
        let wanted =
            object(json!({"metadata": {"name": "r"}, "rules": [rule("get"), rule("list")]}))
                .unwrap();
        let new = reconciled(&present, &wanted).unwrap();
        assert_eq!(
            new.get_array(&["rules"]).unwrap(),
            &[rule("get"), rule("watch"), rule("list")]
        );
        assert!(reconciled(&new, &wanted).is_none());
    }
}
