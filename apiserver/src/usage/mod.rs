//! metrics.k8s.io: what nodes and pods use now. The nodes are asked when a client wants to know it, through the way that
//! logs and exec take, and their figures are kept for a little while ([`scrape`]). Nothing is stored, every member asks for
//! itself, and a cluster that nobody asks about is left alone.

mod figures;
mod scrape;

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use resources::Resource;
use schema::Object;
use schema::quantity::{Format, Quantity};
use serde_json::{Map, Value, json};

use self::figures::{Figure, NodeFigures};
use crate::context::Context;
use crate::entry::Entry;
use crate::kubelet::NodeAddress;
use crate::negotiate::{self, Form};
use crate::selection::Selection;
use crate::status::{ApiError, ApiResult};

use scrape::Asked;
pub(crate) use scrape::Scraper;

pub(crate) async fn handle(context: &Context, resource: &Resource) -> ApiResult<Response> {
    let subjects = subjects(context, resource)?;
    let objects = match resource.namespaced {
        true => pods(context, &subjects).await,
        false => nodes(context, &subjects).await,
    };
    if context.info.verb != "get" {
        return Ok(respond_list(context, resource, objects));
    }
    match objects.into_iter().next() {
        Some(object) => Ok(context.respond_object(StatusCode::OK, resource, object)),
        None => Err(not_found(context, resource)),
    }
}

/// As a metrics-server says it: by the kind, and with the namespace.
fn not_found(context: &Context, resource: &Resource) -> ApiError {
    let (namespace, name) = (&context.info.namespace, &context.info.name);
    let name = match resource.namespaced {
        true => format!("{namespace}/{name}"),
        false => name.clone(),
    };
    ApiError::not_found(&resource.group, &resource.singular, &name)
}

/// The nodes or pods that the request is about.
fn subjects(context: &Context, resource: &Resource) -> ApiResult<Vec<Arc<Entry>>> {
    let core = resources::find("", "v1", &resource.plural);
    let core = core.ok_or_else(ApiError::no_such_resource)?;
    let (world, namespace) = (&context.server.world, &context.info.namespace);
    if context.info.verb == "get" {
        let found = world.get("", &resource.plural, namespace, &context.info.name);
        return Ok(found.into_iter().collect());
    }
    // Labels and fields are those of the nodes or pods themselves, whose keys these resources would have.
    let selection = Selection::from_query(resource, namespace, &context.query)?;
    let (_, snapshot) = world
        .snapshot_of(core)
        .ok_or_else(ApiError::no_such_resource)?;
    let entries = snapshot.tree.iter_prefix(&selection.prefix);
    let selected = entries.filter(|entry| selection.matches(entry));
    Ok(selected.cloned().collect())
}

async fn nodes(context: &Context, nodes: &[Arc<Entry>]) -> Vec<Object> {
    let asked = nodes.iter().filter_map(|entry| asked(&entry.object()));
    let scraper = &context.server.usage;
    let found = scraper.figures(&context.server, asked.collect()).await;
    let object = |entry: &Arc<Entry>| {
        let figure = found.get(entry.name())?.node.as_ref()?;
        let mut object = shell(context, "NodeMetrics", entry, figure);
        object.insert("usage".into(), usage(figure));
        Object::new(Value::Object(object)).ok()
    };
    nodes.iter().filter_map(object).collect()
}

async fn pods(context: &Context, pods: &[Arc<Entry>]) -> Vec<Object> {
    let world = &context.server.world;
    let mut names: Vec<&str> = pods.iter().map(|pod| pod.field("spec.nodeName")).collect();
    names.sort_unstable();
    names.dedup();
    let of_name = |name: &&str| world.get("", "nodes", "", name);
    let nodes = names.iter().filter_map(of_name);
    let asked = nodes.filter_map(|entry| asked(&entry.object())).collect();
    let found = context.server.usage.figures(&context.server, asked).await;
    let object = |entry: &Arc<Entry>| {
        let node: &NodeFigures = found.get(entry.field("spec.nodeName"))?;
        let (uid, pod) = node.pod(entry.namespace(), entry.name())?;
        if entry.object().uid() != uid {
            return None;
        }
        // A pod is as old as the oldest of its figures.
        let (_, oldest) = pod.iter().min_by_key(|(_, figure)| figure.at)?;
        let mut object = shell(context, "PodMetrics", entry, oldest);
        let of_container =
            |(name, figure): &(String, Figure)| json!({"name": name, "usage": usage(figure)});
        object.insert("containers".into(), pod.iter().map(of_container).collect());
        Object::new(Value::Object(object)).ok()
    };
    pods.iter().filter_map(object).collect()
}

/// Where to ask a node. One that is silent is not asked: whoever wants figures would wait for it in vain.
fn asked(node: &Object) -> Option<Asked> {
    if node.condition_status("Ready") == Some("Unknown") {
        return None;
    }
    Some(Asked {
        node: node.name().to_owned(),
        address: NodeAddress::of(node)?,
    })
}

/// Everything but the amounts.
fn shell(context: &Context, kind: &str, about: &Entry, figure: &Figure) -> Map<String, Value> {
    let labels: Map<String, Value> = about
        .labels()
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    let now = schema::time::now_rfc3339(context.now);
    let mut metadata = json!({"name": about.name(), "creationTimestamp": now});
    if kind == "PodMetrics" {
        metadata["namespace"] = about.namespace().into();
    }
    if !labels.is_empty() {
        metadata["labels"] = labels.into();
    }
    let seconds = i64::try_from(figure.at.div_euclid(1_000_000_000)).unwrap_or(i64::MAX);
    let object = json!({
        "kind": kind, "apiVersion": "metrics.k8s.io/v1beta1", "metadata": metadata,
        "timestamp": schema::time::now_rfc3339(seconds),
        "window": schema::time::duration_text(window(figure.window_nanos)),
    });
    match object {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// To the millisecond: what lies below is noise of the clocks.
fn window(nanos: u64) -> i64 {
    let millis = nanos.saturating_add(500_000) / 1_000_000;
    i64::try_from(millis.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
}

fn usage(figure: &Figure) -> Value {
    let cpu = Quantity::from_nanos(i128::from(figure.cpu_nanocores), Format::DecimalSi);
    let bytes = i64::try_from(figure.memory_bytes).unwrap_or(i64::MAX);
    let memory = Quantity::from_units(bytes, Format::BinarySi);
    json!({"cpu": cpu.to_string(), "memory": memory.to_string()})
}

fn respond_list(context: &Context, resource: &Resource, objects: Vec<Object>) -> Response {
    let items = |shape: &dyn Fn(Object) -> Value| -> Vec<Value> {
        objects.iter().cloned().map(shape).collect()
    };
    let list = match context.output.form {
        Form::Table { version, include } => negotiate::table(
            resource,
            &objects,
            json!({}),
            (version, include),
            true,
            context.now,
        ),
        Form::Partial { version, .. } => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": version, "metadata": {},
            "items": items(&|object| negotiate::partial(&object, version)),
        }),
        Form::Object => {
            let bare = |mut object: Object| {
                object.remove(&["kind"]);
                object.remove(&["apiVersion"]);
                object.into_value()
            };
            json!({"kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": {}, "items": items(&bare)})
        }
    };
    context.respond_value(StatusCode::OK, &list)
}
