//! The files of configMap, secret, downwardAPI and projected volumes, as values.
//!
//! Pure: objects and tokens come in, a map from path to content goes out.

use std::collections::{BTreeMap, BTreeSet};

use crate::pod::env::{Sources, entries, field_value, resource_value};
use crate::spec::{Container, DownwardVolume, ObjectVolume, Pod, TokenProjection, Volume};

/// Content by path relative to the volume; paths are validated.
pub(crate) type Files = BTreeMap<String, File>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
}

const MODE_DEFAULT: u32 = 0o644;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ObjectKind {
    ConfigMap,
    Secret,
}

/// An object of the pod's namespace that the pod refers to.
pub(crate) type Reference = (ObjectKind, String);

/// Tokens by volume and index of the projected source.
pub(crate) type Tokens = BTreeMap<(String, usize), String>;

/// The tokens that the pod's volumes need.
pub(crate) fn token_projections(pod: &Pod) -> Vec<((String, usize), TokenProjection)> {
    let volumes = pod
        .spec
        .volumes
        .iter()
        .filter_map(|volume| Some((volume, volume.projected.as_ref()?)));
    volumes
        .flat_map(|(volume, projected)| {
            projected
                .sources
                .iter()
                .enumerate()
                .filter_map(move |(index, source)| {
                    Some((
                        (volume.name.clone(), index),
                        source.service_account_token.clone()?,
                    ))
                })
        })
        .collect()
}

/// Every ConfigMap and Secret that the pod's volumes, environment and image pulls refer to.
pub(crate) fn references(pod: &Pod) -> BTreeSet<Reference> {
    let mut all = BTreeSet::new();
    let mut add = |kind: ObjectKind, name: &str| {
        if !name.is_empty() {
            all.insert((kind, name.to_owned()));
        }
    };
    for volume in &pod.spec.volumes {
        let projected = volume
            .projected
            .iter()
            .flat_map(|projected| &projected.sources);
        for source in volume
            .config_map
            .iter()
            .chain(projected.clone().filter_map(|s| s.config_map.as_ref()))
        {
            add(ObjectKind::ConfigMap, &source.name);
        }
        for source in volume
            .secret
            .iter()
            .chain(projected.filter_map(|s| s.secret.as_ref()))
        {
            add(ObjectKind::Secret, &source.name);
        }
    }
    for (_, container) in pod.all_containers() {
        for from in &container.env_from {
            from.config_map_ref
                .iter()
                .for_each(|reference| add(ObjectKind::ConfigMap, &reference.name));
            from.secret_ref
                .iter()
                .for_each(|reference| add(ObjectKind::Secret, &reference.name));
        }
        for source in container
            .env
            .iter()
            .filter_map(|variable| variable.value_from.as_ref())
        {
            source
                .config_map_key_ref
                .iter()
                .for_each(|key| add(ObjectKind::ConfigMap, &key.name));
            source
                .secret_key_ref
                .iter()
                .for_each(|key| add(ObjectKind::Secret, &key.name));
        }
    }
    for reference in &pod.spec.image_pull_secrets {
        add(ObjectKind::Secret, &reference.name);
    }
    all
}

/// The files of a volume, `None` for volumes that are not made of files from the API.
pub(crate) fn files(
    pod: &Pod,
    volume: &Volume,
    sources: &Sources,
    tokens: &Tokens,
) -> Result<Option<Files>, String> {
    let mut files = Files::new();
    if let Some(source) = &volume.config_map {
        add_object(
            &mut files,
            pod,
            ObjectKind::ConfigMap,
            source,
            source.default_mode,
            sources,
        )?;
    } else if let Some(source) = &volume.secret {
        add_object(
            &mut files,
            pod,
            ObjectKind::Secret,
            source,
            source.default_mode,
            sources,
        )?;
    } else if let Some(source) = &volume.downward_api {
        add_downward(&mut files, pod, source, source.default_mode, sources)?;
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode;
        for (index, source) in projected.sources.iter().enumerate() {
            if let Some(source) = &source.config_map {
                add_object(
                    &mut files,
                    pod,
                    ObjectKind::ConfigMap,
                    source,
                    mode,
                    sources,
                )?;
            } else if let Some(source) = &source.secret {
                add_object(&mut files, pod, ObjectKind::Secret, source, mode, sources)?;
            } else if let Some(source) = &source.downward_api {
                add_downward(&mut files, pod, source, mode, sources)?;
            } else if let Some(projection) = &source.service_account_token {
                let token = tokens
                    .get(&(volume.name.clone(), index))
                    .ok_or("failed to fetch token")?;
                let mode = mode.unwrap_or(MODE_DEFAULT);
                insert(
                    &mut files,
                    &projection.path,
                    token.clone().into_bytes(),
                    mode,
                )?;
            } else {
                let kind = source.other.keys().next().map_or("empty", String::as_str);
                return Err(format!(
                    "this node does not support projected sources of kind {kind}"
                ));
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

fn add_object(
    files: &mut Files,
    pod: &Pod,
    kind: ObjectKind,
    source: &ObjectVolume,
    default_mode: Option<u32>,
    sources: &Sources,
) -> Result<(), String> {
    let mode = default_mode.unwrap_or(MODE_DEFAULT);
    let (objects, title, noun) = match kind {
        ObjectKind::ConfigMap => (&sources.config_maps, "configmap", "config"),
        ObjectKind::Secret => (&sources.secrets, "secret", "secret"),
    };
    let object = match objects.get(&source.name) {
        Some(Some(object)) => object,
        Some(None) | None if source.optional => return Ok(()),
        Some(None) => return Err(format!("{title} \"{}\" not found", source.name)),
        None => {
            return Err(format!(
                "failed to sync {title} cache: {}/{}",
                pod.metadata.namespace, source.name
            ));
        }
    };
    let mut data = entries(object, kind == ObjectKind::Secret);
    if source.items.is_empty() {
        return data
            .into_iter()
            .try_for_each(|(key, content)| insert(files, &key, content, mode));
    }
    for item in &source.items {
        match data.remove(&item.key) {
            Some(content) => {
                data.insert(item.key.clone(), content.clone());
                insert(files, &item.path, content, item.mode.unwrap_or(mode))?;
            }
            None if source.optional => {}
            None => return Err(format!("references non-existent {noun} key: {}", item.key)),
        }
    }
    Ok(())
}

fn add_downward(
    files: &mut Files,
    pod: &Pod,
    source: &DownwardVolume,
    default_mode: Option<u32>,
    sources: &Sources,
) -> Result<(), String> {
    for item in &source.items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => field_value(pod, field, sources)?,
            (None, Some(reference)) => {
                resource_value(pod, &Container::default(), reference, sources)?
            }
            (None, None) => String::new(),
        };
        let mode = item.mode.or(default_mode).unwrap_or(MODE_DEFAULT);
        insert(files, &item.path, text.into_bytes(), mode)?;
    }
    Ok(())
}

/// Adds a file; the path must stay inside the volume and out of the names that the writer keeps for itself.
fn insert(files: &mut Files, path: &str, content: Vec<u8>, mode: u32) -> Result<(), String> {
    let clean: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if clean.is_empty()
        || path.starts_with('/')
        || clean.contains(&"..")
        || clean[0].starts_with("..")
    {
        return Err(format!(
            "invalid path: must be relative and stay in the volume: {path:?}"
        ));
    }
    files.insert(
        clean.join("/"),
        File {
            content,
            mode: mode & 0o7777,
        },
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(volumes: Value) -> Pod {
        Pod::decode(&json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "labels": {"a": "b"}},
            "spec": {"volumes": volumes, "imagePullSecrets": [{"name": "pull"}], "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "2"}}, "envFrom": [{"secretRef": {"name": "env"}}]}]},
        }))
        .unwrap()
    }

    fn sources() -> Sources {
        Sources {
            config_maps: [
                (
                    "cm".to_owned(),
                    Some(json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "AAE="}})),
                ),
                ("gone".to_owned(), None),
            ]
            .into(),
            secrets: [("sec".to_owned(), Some(json!({"data": {"pw": "eA=="}})))].into(),
            ..Sources::default()
        }
    }

    fn list(volume: Value) -> Result<Vec<String>, String> {
        let pod = pod(json!([volume]));
        let tokens = [(("v".to_owned(), 0), "tok".to_owned())].into();
        let files = files(&pod, &pod.spec.volumes[0], &sources(), &tokens)?.ok_or("not files")?;
        Ok(files
            .iter()
            .map(|(path, file)| format!("{path}={}:{:o}", file.content.escape_ascii(), file.mode))
            .collect())
    }

    #[test]
    fn every_source() {
        let cases = [
            (
                json!({"configMap": {"name": "cm"}}),
                Ok("a=1:644 b=2:644 c=\\x00\\x01:644"),
            ),
            (
                json!({"configMap": {"name": "cm", "defaultMode": 256, "items": [
                    {"key": "a", "path": "x/y"}, {"key": "a", "path": "z", "mode": 511}]}}),
                Ok("x/y=1:400 z=1:777"),
            ),
            (json!({"secret": {"secretName": "sec"}}), Ok("pw=x:644")),
            (
                json!({"configMap": {"name": "gone"}}),
                Err("configmap \"gone\" not found"),
            ),
            (
                json!({"configMap": {"name": "gone", "optional": true}}),
                Ok(""),
            ),
            (
                json!({"secret": {"secretName": "late"}}),
                Err("failed to sync secret cache: d/late"),
            ),
            (
                json!({"configMap": {"name": "cm", "items": [{"key": "no", "path": "x"}]}}),
                Err("references non-existent config key: no"),
            ),
            (
                json!({"downwardAPI": {"items": [
                    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                    {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}}]}}),
                Ok("cpu=2:644 labels=a=\\\"b\\\":644"),
            ),
            (
                json!({"projected": {"defaultMode": 384, "sources": [
                    {"serviceAccountToken": {"path": "token"}},
                    {"configMap": {"name": "cm", "items": [{"key": "a", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}),
                Ok("ca.crt=1:600 namespace=d:600 token=tok:600"),
            ),
            (json!({"emptyDir": {}}), Err("not files")),
        ];
        for (mut volume, expected) in cases {
            volume["name"] = json!("v");
            let result = list(volume.clone()).map(|files| files.join(" "));
            assert_eq!(
                result.as_deref().map_err(String::as_str),
                expected,
                "{volume}"
            );
        }
    }

    #[test]
    fn paths_stay_inside() {
        for path in ["../x", "/x", "a/../../x", "..data", ""] {
            let volume = json!({"name": "v", "configMap": {"name": "cm", "items": [{"key": "a", "path": path}]}});
            assert!(
                list(volume).unwrap_err().starts_with("invalid path"),
                "{path}"
            );
        }
    }

    #[test]
    fn references_are_collected_from_everywhere() {
        let pod = pod(json!([
            {"name": "a", "configMap": {"name": "cm"}},
            {"name": "b", "projected": {"sources": [{"secret": {"name": "ps"}}, {"configMap": {"name": "kube-root-ca.crt"}}]}},
        ]));
        let names: Vec<String> = references(&pod)
            .into_iter()
            .map(|(kind, name)| format!("{kind:?}/{name}"))
            .collect();
        assert_eq!(
            names,
            [
                "ConfigMap/cm",
                "ConfigMap/kube-root-ca.crt",
                "Secret/env",
                "Secret/ps",
                "Secret/pull"
            ]
        );
    }
}
