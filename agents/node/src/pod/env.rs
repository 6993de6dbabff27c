//! The environment of a container: literals, references, service variables and `$(VAR)` expansion.
//!
//! Pure: the referenced objects come in as a [`Sources`] value that the worker has fetched. A missing object or key is
//! an error with the text that a kubelet puts into `CreateContainerConfigError`.

use std::collections::BTreeMap;

use base64::Engine;
use serde_json::Value;

use crate::quantity;
use crate::spec::{Container, EnvSource, FieldRef, KeyRef, Pod, ResourceFieldRef};
use crate::volumes::claimed::Claimed;

/// Everything outside the pod that an environment or a downward volume may refer to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    /// ConfigMaps of the pod's namespace by name; `None` means known to be absent.
    pub(crate) config_maps: BTreeMap<String, Option<Value>>,
    /// Secrets of the pod's namespace by name; `None` means known to be absent.
    pub(crate) secrets: BTreeMap<String, Option<Value>>,
    /// Where the volumes of the pod's claims are, by the name that the pod has for them.
    pub(crate) claimed: BTreeMap<String, Claimed>,
    /// Services whose variables this pod sees: its namespace's, and `default/kubernetes`.
    pub(crate) services: Vec<Value>,
    /// Addresses of the pod, empty before the sandbox has one.
    pub(crate) pod_ips: Vec<String>,
    /// Address of the node.
    pub(crate) host_ip: String,
    /// What the node can give: stands in for absent limits in `resourceFieldRef`.
    pub(crate) allocatable_cpu_milli: i128,
    pub(crate) allocatable_memory_bytes: i128,
}

/// A ConfigMap's or a Secret's entries as bytes, by key.
pub(crate) fn entries(object: &Value, secret: bool) -> BTreeMap<String, Vec<u8>> {
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).ok();
    let members = |field: &str| {
        object
            .get(field)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    };
    let mut all = BTreeMap::new();
    for (key, value) in members("data") {
        let text = value.as_str().unwrap_or_default();
        let bytes = if secret {
            decode(text).unwrap_or_default()
        } else {
            text.as_bytes().to_vec()
        };
        all.insert(key.clone(), bytes);
    }
    if !secret {
        for (key, value) in members("binaryData") {
            all.insert(
                key.clone(),
                value.as_str().and_then(decode).unwrap_or_default(),
            );
        }
    }
    all
}

/// The variables of a container in the order in which they are set; a later one of the same name has won.
pub(crate) fn build(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
) -> Result<Vec<(String, String)>, String> {
    let mut service_env = service_variables(pod, &sources.services);
    let mut result: Vec<(String, String)> = Vec::new();
    let mut set = |result: &mut Vec<(String, String)>, name: String, value: String| {
        service_env.remove(&name);
        match result.iter_mut().find(|(existing, _)| *existing == name) {
            Some(entry) => entry.1 = value,
            None => result.push((name, value)),
        }
    };
    let service_seen = service_variables(pod, &sources.services);
    for from in &container.env_from {
        for (key, value) in env_from_entries(pod, from, sources)? {
            set(&mut result, format!("{}{key}", from.prefix), value);
        }
    }
    for variable in &container.env {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) => match resolve(pod, container, source, sources)? {
                Some(value) => value,
                None => continue,
            },
            (Some(literal), None) => expand(literal, &|name| {
                let own = result
                    .iter()
                    .find(|(existing, _)| existing == name)
                    .map(|(_, value)| value.clone());
                own.or_else(|| service_seen.get(name).cloned())
            }),
            (None, None) => String::new(),
        };
        set(&mut result, variable.name.clone(), value);
    }
    result.extend(service_env);
    Ok(result)
}

fn env_from_entries(
    pod: &Pod,
    from: &crate::spec::EnvFrom,
    sources: &Sources,
) -> Result<Vec<(String, String)>, String> {
    let namespace = &pod.metadata.namespace;
    let (objects, reference, kind) = match (&from.config_map_ref, &from.secret_ref) {
        (Some(reference), _) => (&sources.config_maps, reference, "configmap"),
        (None, Some(reference)) => (&sources.secrets, reference, "secret"),
        (None, None) => return Ok(Vec::new()),
    };
    match objects.get(&reference.name) {
        Some(Some(object)) => Ok(entries(object, kind == "secret")
            .into_iter()
            .filter(|(key, _)| is_variable_name(key))
            .map(|(key, value)| (key, String::from_utf8_lossy(&value).into_owned()))
            .collect()),
        Some(None) if reference.optional => Ok(Vec::new()),
        Some(None) => Err(format!("{kind} \"{}\" not found", reference.name)),
        None if reference.optional => Ok(Vec::new()),
        None => Err(format!(
            "couldn't get {kind} {namespace}/{}",
            reference.name
        )),
    }
}

/// Names that `envFrom` may carry over: any printable ASCII but `=`, as Kubernetes 1.34 and later allow.
fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=')
}

fn resolve(
    pod: &Pod,
    container: &Container,
    source: &EnvSource,
    sources: &Sources,
) -> Result<Option<String>, String> {
    if let Some(field) = &source.field_ref {
        return field_value(pod, field, sources).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return resource_value(pod, container, reference, sources).map(Some);
    }
    if let Some(key) = &source.config_map_key_ref {
        return key_value(pod, key, &sources.config_maps, "configmap", "ConfigMap");
    }
    if let Some(key) = &source.secret_key_ref {
        return key_value(pod, key, &sources.secrets, "secret", "Secret");
    }
    Ok(Some(String::new()))
}

fn key_value(
    pod: &Pod,
    reference: &KeyRef,
    objects: &BTreeMap<String, Option<Value>>,
    kind: &str,
    title: &str,
) -> Result<Option<String>, String> {
    let namespace = &pod.metadata.namespace;
    match objects.get(&reference.name) {
        Some(Some(object)) => match entries(object, kind == "secret").remove(&reference.key) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value).into_owned())),
            None if reference.optional => Ok(None),
            None => Err(format!(
                "couldn't find key {} in {title} {namespace}/{}",
                reference.key, reference.name
            )),
        },
        _ if reference.optional => Ok(None),
        Some(None) => Err(format!("{kind} \"{}\" not found", reference.name)),
        None => Err(format!(
            "couldn't get {kind} {namespace}/{}",
            reference.name
        )),
    }
}

/// The text of a downward API field, for a variable or a file.
pub(crate) fn field_value(
    pod: &Pod,
    field: &FieldRef,
    sources: &Sources,
) -> Result<String, String> {
    let metadata = &pod.metadata;
    let path = field.field_path.as_str();
    if let Some((map, key)) = subscript(path) {
        let values = match map {
            "metadata.labels" => &metadata.labels,
            "metadata.annotations" => &metadata.annotations,
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(values.get(key).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "metadata.labels" => format_map(&metadata.labels),
        "metadata.annotations" => format_map(&metadata.annotations),
        "spec.nodeName" => pod.spec.node_name.clone(),
        "spec.serviceAccountName" => pod.spec.service_account_name.clone(),
        "status.hostIP" | "status.hostIPs" => sources.host_ip.clone(),
        "status.podIP" => sources.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => sources.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// `key="value"` lines, as the downward API writes maps: values quoted with escapes.
fn format_map(map: &BTreeMap<String, String>) -> String {
    map.iter()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The text of a `resourceFieldRef`: the amount in divisors, rounded up.
pub(crate) fn resource_value(
    pod: &Pod,
    container: &Container,
    reference: &ResourceFieldRef,
    sources: &Sources,
) -> Result<String, String> {
    let container = match reference.container_name.as_str() {
        "" => container,
        name => pod
            .container(name)
            .map(|(_, c)| c)
            .ok_or_else(|| format!("container {name} not found"))?,
    };
    let unsupported = || format!("unsupported container resource : {}", reference.resource);
    let (list, resource) = reference.resource.split_once('.').ok_or_else(unsupported)?;
    let amounts = match list {
        "limits" => &container.resources.limits,
        "requests" => &container.resources.requests,
        _ => return Err(unsupported()),
    };
    let known = matches!(resource, "cpu" | "memory" | "ephemeral-storage")
        || resource.starts_with("hugepages-");
    if !known {
        return Err(unsupported());
    }
    // Absent limits read as what the node can give; absent requests as nothing.
    let fallback = match (list, resource) {
        ("limits", "cpu") => sources.allocatable_cpu_milli,
        ("limits", "memory") => sources.allocatable_memory_bytes.saturating_mul(1000),
        _ => 0,
    };
    let amount = amounts
        .get(resource)
        .and_then(quantity::milli_of)
        .unwrap_or(fallback);
    let divisor = reference
        .divisor
        .as_ref()
        .and_then(quantity::milli_of)
        .filter(|d| *d > 0)
        .unwrap_or(1000);
    Ok((amount.div_euclid(divisor) + i128::from(amount.rem_euclid(divisor) != 0)).to_string())
}

/// Replaces `$(NAME)` where the lookup knows the name; `$$` stands for a dollar sign, anything else is left alone.
pub(crate) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        result.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match lookup(name) {
                Some(value) => result.push_str(&value),
                None => result.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

/// The variables of every service the pod may see, e.g. `WEB_SERVICE_HOST`, `WEB_PORT_80_TCP_ADDR`.
fn service_variables(pod: &Pod, services: &[Value]) -> BTreeMap<String, String> {
    let links = pod.spec.enable_service_links.unwrap_or(true);
    let mut variables = BTreeMap::new();
    for service in services {
        let text = |path: &str| {
            service
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let address = text("/spec/clusterIP");
        let is_master = namespace == "default" && name == "kubernetes";
        let visible = is_master || (links && namespace == pod.metadata.namespace);
        if visible && !address.is_empty() && address != "None" {
            variables.extend(variables_of(name, address, service));
        }
    }
    variables
}

fn variables_of(name: &str, address: &str, service: &Value) -> Vec<(String, String)> {
    let prefix = name.to_uppercase().replace('-', "_");
    let ports = service
        .pointer("/spec/ports")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let host = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    let number = |port: &Value| port.get("port").and_then(Value::as_i64).unwrap_or_default();
    let Some(first) = ports.first() else {
        return Vec::new();
    };
    let mut variables = vec![
        (format!("{prefix}_SERVICE_HOST"), address.to_owned()),
        (format!("{prefix}_SERVICE_PORT"), number(first).to_string()),
    ];
    for port in ports {
        if let Some(port_name) = port
            .get("name")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
        {
            let port_name = port_name.to_uppercase().replace('-', "_");
            variables.push((
                format!("{prefix}_SERVICE_PORT_{port_name}"),
                number(port).to_string(),
            ));
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let protocol = port
            .get("protocol")
            .and_then(Value::as_str)
            .unwrap_or("TCP");
        let number = number(port);
        let url = format!("{}://{host}:{number}", protocol.to_lowercase());
        if index == 0 {
            variables.push((format!("{prefix}_PORT"), url.clone()));
        }
        let port_prefix = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        variables.push((port_prefix.clone(), url));
        variables.push((format!("{port_prefix}_PROTO"), protocol.to_lowercase()));
        variables.push((format!("{port_prefix}_PORT"), number.to_string()));
        variables.push((format!("{port_prefix}_ADDR"), address.to_owned()));
    }
    variables
}

#[cfg(test)]
mod tests;
