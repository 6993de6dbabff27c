//! networking.k8s.io.

use schema::Object;
use serde_json::Value;

use super::Column;
use super::service::balancer_addresses;
use super::{AGE, NAME, NONE, age, name, or_none, selector, text};
use crate::look::{Look, spec, status};

pub(crate) const INGRESS: &[Column] = &[
    NAME,
    text("Class", "Class of the ingress, which names its controller."),
    text("Hosts", "Hosts that the ingress routes."),
    text("Address", "Addresses at which the ingress is served."),
    text("Ports", "Ports at which the ingress is served."),
    AGE,
];
pub(crate) const INGRESS_CLASS: &[Column] = &[
    NAME,
    text("Controller", "Controller of ingresses of this class."),
    text("Parameters", "Object with parameters for the controller."),
    AGE,
];
pub(crate) const NETWORK_POLICY: &[Column] = &[
    NAME,
    text("Pod-Selector", "Pods to which the policy applies."),
    AGE,
];
pub(crate) const IP_ADDRESS: &[Column] = &[
    NAME,
    text("ParentRef", "Object to which the address belongs."),
];
pub(crate) const SERVICE_CIDR: &[Column] =
    &[NAME, text("CIDRs", "Ranges of service addresses."), AGE];

pub(crate) fn ingress(object: &Object, now: i64) -> Vec<Value> {
    let spec = spec(object);
    let mut hosts: Vec<&str> = Vec::new();
    for rule in spec.list("rules") {
        let host = rule.text("host");
        if !host.is_empty() {
            hosts.push(host);
        }
    }
    let hosts = match hosts.len() {
        0 => "*".to_owned(),
        1..=3 => hosts.join(","),
        many => format!("{} + {} more...", hosts[..3].join(","), many - 3),
    };
    let ports = if spec.list("tls").is_empty() {
        "80"
    } else {
        "80, 443"
    };
    vec![
        name(object),
        or_none(spec.text("ingressClassName")),
        hosts.into(),
        balancer_addresses(status(object)).join(",").into(),
        ports.into(),
        age(object, now),
    ]
}

pub(crate) fn ingress_class(object: &Object, now: i64) -> Vec<Value> {
    let spec = spec(object);
    let parameters = spec.at("parameters");
    let text = if parameters.is_object() {
        let group = parameters.text("apiGroup");
        let dot = if group.is_empty() {
            String::new()
        } else {
            format!(".{group}")
        };
        format!(
            "{}{dot}/{}",
            parameters.text("kind"),
            parameters.text("name")
        )
    } else {
        NONE.to_owned()
    };
    vec![
        name(object),
        spec.text("controller").into(),
        text.into(),
        age(object, now),
    ]
}

pub(crate) fn network_policy(object: &Object, now: i64) -> Vec<Value> {
    vec![
        name(object),
        selector(spec(object).at("podSelector")).into(),
        age(object, now),
    ]
}

pub(crate) fn ip_address(object: &Object, _now: i64) -> Vec<Value> {
    let parent = spec(object).at("parentRef");
    let group = parent.text("group");
    let dot = if group.is_empty() {
        String::new()
    } else {
        format!(".{group}")
    };
    let mut text = format!("{}{dot}/", parent.text("resource"));
    if !parent.text("namespace").is_empty() {
        text.push_str(parent.text("namespace"));
        text.push('/');
    }
    text.push_str(parent.text("name"));
    vec![name(object), text.into()]
}

pub(crate) fn service_cidr(object: &Object, now: i64) -> Vec<Value> {
    vec![
        name(object),
        spec(object).texts("cidrs").join(",").into(),
        age(object, now),
    ]
}
