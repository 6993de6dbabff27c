//! Why a container that is to begin cannot: its image, or what it asks for. In the words of a real node, in which it is told once
//! and not with every try.

use std::cell::RefCell;
use std::collections::BTreeMap;

use agent_runtime::EventType;
use time::OffsetDateTime;

use super::pulls::Pull;
use super::{Life, Note, Place, Step};
use crate::hollow::images::Images;
use crate::pod::backoff;
use crate::pod::container::verify_non_root;
use crate::pod::env::{self, Sources};
use crate::pod::launch::HOLD;
use crate::pod::launch::image_name::{is_image_name, misnamed, never_pulled, pull_policy};
use crate::pod::plan::Waiting;
use crate::runtime::Image;
use crate::runtime::hollow::is_missing;
use crate::spec::{Container, EnvVar, Pod, Role, VolumeMount};
use crate::volumes;

const CONFIG: &str = "CreateContainerConfigError";

/// What a container waits for that was to begin.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Obstacle {
    /// The next try to pull its image.
    Pull(Pull),
    /// Somebody who changes it, or its pod, or what the node has.
    Stuck {
        told: Waiting,
        since: OffsetDateTime,
    },
}

impl Obstacle {
    pub(super) fn pull(&self) -> Option<&Pull> {
        match self {
            Obstacle::Pull(pull) => Some(pull),
            Obstacle::Stuck { .. } => None,
        }
    }
}

/// What of a container's image no pull would mend.
fn of_image(container: &Container, images: &Images) -> Option<(&'static str, String)> {
    let image = container.image.as_str();
    if !is_image_name(image) {
        return Some(("InvalidImageName", misnamed(image)));
    }
    let never = pull_policy(container) == "Never" && !images.has(image);
    never.then(|| ("ErrImageNeverPull", never_pulled(image)))
}

/// Refuses what a container asks for and cannot be given, in the words of a real node. Images are taken to run as somebody but root.
fn of_config(pod: &Pod, container: &Container, ips: [&str; 2]) -> Result<(), String> {
    let image = Image {
        user: "65532".to_owned(),
        ..Image::default()
    };
    verify_non_root(pod, container, &image)?;
    let variables = match container.volume_mounts.iter().any(is_computed) {
        true => variables(pod, container, ips)?,
        false => Vec::new(),
    };
    volumes::check_parts(container, &variables)
}

fn is_computed(mount: &VolumeMount) -> bool {
    !mount.sub_path_expr.is_empty()
}

/// The environment by which parts of volumes are named. Config maps, secrets and services are not looked at: what may come of them
/// is taken to be there.
fn variables(
    pod: &Pod,
    container: &Container,
    [host_ip, pod_ip]: [&str; 2],
) -> Result<Vec<(String, String)>, String> {
    let is_elsewhere = |variable: &EnvVar| {
        variable.value_from.as_ref().is_some_and(|source| {
            source.config_map_key_ref.is_some() || source.secret_key_ref.is_some()
        })
    };
    let mut known = container.clone();
    let from_objects = !std::mem::take(&mut known.env_from).is_empty();
    for variable in known.env.iter_mut().filter(|one| is_elsewhere(one)) {
        (variable.value, variable.value_from) = (Some(UNKNOWN.to_owned()), None);
    }
    let sources = Sources {
        host_ip: host_ip.to_owned(),
        pod_ips: vec![pod_ip.to_owned()],
        ..Sources::default()
    };
    let mut variables = env::build(pod, &known, &sources)?;
    let asked = RefCell::new(Vec::new());
    for mount in container
        .volume_mounts
        .iter()
        .filter(|one| is_computed(one))
    {
        env::expand(&mount.sub_path_expr, &|name| {
            asked.borrow_mut().push(name.to_owned());
            None
        });
    }
    for name in asked.into_inner() {
        let is_known = variables.iter().any(|(known, _)| *known == name);
        if !is_known && (from_objects || is_of_service(&name)) {
            variables.push((name, UNKNOWN.to_owned()));
        }
    }
    Ok(variables)
}

/// Stands for what nobody has looked up.
const UNKNOWN: &str = "unknown";

/// Whether it may be a variable of a service: `WEB_SERVICE_HOST`, `WEB_PORT_80_TCP_ADDR`.
fn is_of_service(name: &str) -> bool {
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"]
        .iter()
        .any(|part| name.contains(part))
}

impl Life {
    /// Whether something is in the way of a container that is to begin. A pull that could succeed does.
    pub(super) fn is_kept(
        &mut self,
        pod: &Pod,
        of: (Role, &Container),
        place: &mut Place<'_>,
        now: OffsetDateTime,
        step: &mut Step,
    ) -> bool {
        let container = of.1;
        if let Some((reason, message)) = of_image(container, place.images) {
            let is_misnamed = reason == "InvalidImageName";
            let event = if is_misnamed { "InspectFailed" } else { reason };
            let notes = [
                note(of, event, message.clone()),
                note(of, "Failed", format!("Error: {reason}")),
            ];
            let since = self.stick(of, (reason, message), notes, now, step);
            if !is_misnamed {
                // Another pod may pull it, which nobody tells this one: it looks after pauses that grow.
                step.wake(now + (now - since).clamp(HOLD, backoff::MAX));
            }
            return true;
        }
        if is_missing(&container.image) {
            self.pull(of, now, step);
            return true;
        }
        place.images.keep(&container.image);
        let ip = self.address().map(|ip| ip.to_string());
        let ips = [place.host_ip, ip.as_deref().unwrap_or(place.host_ip)];
        let error = of_config(pod, container, ips)
            .err()
            .or_else(|| self.without_target(container, now));
        match error {
            Some(message) => {
                let notes = [note(of, "Failed", format!("Error: {message}"))];
                self.stick(of, (CONFIG, message), notes, now, step);
                true
            }
            None => {
                if let Some(trouble) = self.trouble.as_deref_mut() {
                    trouble.obstacles.remove(container.name.as_str());
                }
                false
            }
        }
    }

    /// That the container does not run whose processes an ephemeral one asks to see.
    fn without_target(&self, container: &Container, now: OffsetDateTime) -> Option<String> {
        let target = container.target_container_name.as_str();
        let runs = || self.running(now).any(|run| *run.of.container == *target);
        let is_lost = !target.is_empty() && !runs();
        is_lost.then(|| format!("unable to find target container {target}"))
    }

    /// Notes what a container waits for, and tells it where it is news. Since when that is so.
    fn stick(
        &mut self,
        (_, container): (Role, &Container),
        (reason, message): (&str, String),
        notes: impl IntoIterator<Item = Note>,
        now: OffsetDateTime,
        step: &mut Step,
    ) -> OffsetDateTime {
        let told = Waiting {
            reason: reason.to_owned(),
            message,
        };
        let name = container.name.as_str();
        if let Some(Obstacle::Stuck {
            told: before,
            since,
        }) = self.obstacle(name)
            && *before == told
        {
            return *since;
        }
        step.notes.extend(notes);
        let stuck = Obstacle::Stuck { told, since: now };
        self.troubled().obstacles.insert(name.into(), stuck);
        now
    }

    /// Adds why containers wait that were to begin.
    pub(super) fn wait_for_obstacles(&self, pod: &Pod, waiting: &mut BTreeMap<String, Waiting>) {
        for (name, obstacle) in self.obstacles() {
            let Some((_, container)) = pod.container(name) else {
                continue;
            };
            let told = match obstacle {
                Obstacle::Stuck { told, .. } => Some(told.clone()),
                Obstacle::Pull(pull) => pull.told(&container.image),
            };
            if let Some(told) = told {
                waiting.insert(name.to_string(), told);
            }
        }
    }
}

pub(super) fn note(
    (role, container): (Role, &Container),
    reason: &'static str,
    text: String,
) -> Note {
    Note {
        container: Some((role, container.name.clone())),
        kind: match reason {
            "Pulling" | "BackOff" => EventType::Normal,
            _ => EventType::Warning,
        },
        reason,
        text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(container: Value) -> Pod {
        let mut container = container;
        container["name"] = "c".into();
        let metadata = json!({"name": "p", "namespace": "d", "uid": "u", "labels": {"a": "b"}});
        Pod::decode(&json!({"metadata": metadata, "spec": {"containers": [container]}})).unwrap()
    }

    #[test]
    fn an_image_is_in_the_way_by_its_name_or_where_nobody_may_pull_it() {
        let mut images = Images::default();
        images.keep("here:1");
        for (image, policy, reason) in [
            ("nginx", "", None),
            ("nginx:1", "IfNotPresent", None),
            ("here:1", "Never", None),
            ("nginx:1", "Never", Some("ErrImageNeverPull")),
            ("Nginx", "", Some("InvalidImageName")),
            ("a b", "Never", Some("InvalidImageName")),
        ] {
            let pod = pod(json!({"image": image, "imagePullPolicy": policy}));
            let found = of_image(&pod.spec.containers[0], &images);
            assert_eq!(found.map(|(reason, _)| reason), reason, "{image} {policy}");
        }
    }

    #[test]
    fn parts_of_volumes_need_their_variables_as_far_as_these_are_known() {
        let literal = json!([{"name": "A", "value": "x"}, {"name": "EMPTY", "value": ""}]);
        let field = json!([{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "NONE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['x']"}}}]);
        let secret =
            json!([{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
        let from = json!([{"configMapRef": {"name": "m"}}]);
        let none = Value::Null;
        for (env, env_from, expression, error) in [
            (&literal, &none, "$(A)/b", None),
            (&literal, &none, "$(EMPTY)", Some("missing value for EMPTY")),
            (&literal, &none, "$(B)$(C)", Some("missing value for B, C")),
            (&literal, &from, "$(B)", None),
            (&none, &none, "$(WEB_SERVICE_HOST)", None),
            (&field, &none, "$(IP)", None),
            (&field, &none, "$(NONE)", Some("missing value for NONE")),
            (&secret, &none, "$(S)", None),
            (
                &literal,
                &none,
                "/$(A)",
                Some("error SubPath `/x` must not be an absolute path"),
            ),
        ] {
            let mount = json!({"name": "v", "mountPath": "/v", "subPathExpr": expression});
            let pod = pod(
                json!({"image": "i", "env": env, "envFrom": env_from, "volumeMounts": [mount]}),
            );
            let found = of_config(&pod, &pod.spec.containers[0], ["10.0.0.1", "100.64.0.1"]);
            assert_eq!(found.err().as_deref(), error, "{expression}");
        }
    }

    #[test]
    fn who_asks_for_root_and_forbids_it_does_not_begin() {
        for (user, is_wrong) in [(json!(0), true), (json!(7), false), (Value::Null, false)] {
            let security = json!({"runAsNonRoot": true, "runAsUser": user});
            let pod = pod(json!({"image": "i", "securityContext": security}));
            let found = of_config(&pod, &pod.spec.containers[0], ["", ""]);
            assert_eq!(found.is_err(), is_wrong, "{found:?}");
        }
    }
}
