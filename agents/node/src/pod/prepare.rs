//! What has to be there before a container starts: objects that the pod refers to, tokens, volumes.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_runtime::resource_ref::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, SERVICE_ACCOUNTS};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::env::Sources;
use super::worker::Worker;
use crate::clock;
use crate::volumes::claimed::{self, Claimed};
use crate::volumes::payload::{self, ObjectKind, Tokens};
use crate::volumes::{self, Paths};

/// How long a round waits for ConfigMaps, Secrets and Services to be read.
const SOURCES_PATIENCE: Duration = Duration::from_secs(10);
const TOKEN_SECONDS_DEFAULT: i64 = 3607;

/// What starting a container needs from outside its spec.
pub(crate) struct Prepared {
    pub(crate) sources: Sources,
    pub(crate) paths: Paths,
}

/// A service account token, and when to ask for the next.
pub(super) struct Token {
    token: String,
    pub(super) refresh_at: OffsetDateTime,
}

impl Worker {
    /// Makes the volumes and keeps them current; gives their paths and what containers may refer to.
    pub(super) async fn prepare(&mut self) -> Result<Prepared, String> {
        let sources = self.sources().await?;
        self.refresh_tokens().await?;
        let tokens: Tokens = self
            .tokens
            .iter()
            .map(|(key, token)| (key.clone(), token.token.clone()))
            .collect();
        let (pod, now, dir) = (self.pod.clone(), clock::now(), self.pod_dir());
        if self.agent.is_hollow() {
            for volume in &pod.spec.volumes {
                payload::files(&pod, volume, &sources, &tokens).map_err(|message| {
                    volumes::MountError {
                        volume: volume.name.clone(),
                        message,
                    }
                    .to_string()
                })?;
            }
            return Ok(Prepared {
                sources,
                paths: Paths::new(),
            });
        }
        let for_volumes = sources.clone();
        let paths = tokio::task::spawn_blocking(move || {
            volumes::prepare(&pod, &dir, &for_volumes, &tokens, now)
        })
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
        Ok(Prepared { sources, paths })
    }

    async fn sources(&mut self) -> Result<Sources, String> {
        let references = payload::references(&self.pod);
        self.followed
            .retain(|reference, _| references.contains(reference));
        let namespace = self.pod.metadata.namespace.clone();
        let mut sources = self.agent.sources_base();
        for reference in references {
            let (kind, name) = &reference;
            let watched = self.followed.entry(reference.clone()).or_insert_with(|| {
                self.agent
                    .objects
                    .follow(*kind, &namespace, name, &self.desired.wake)
            });
            if let Some(object) = watched.get(SOURCES_PATIENCE).await {
                match kind {
                    ObjectKind::ConfigMap => sources.config_maps.insert(name.clone(), object),
                    ObjectKind::Secret => sources.secrets.insert(name.clone(), object),
                };
            }
        }
        sources.claimed = self.claimed().await.map_err(|error| error.to_string())?;
        sources.services = self
            .agent
            .services
            .visible_from(&namespace, SOURCES_PATIENCE)
            .await
            .ok_or("services have not yet been read at least once, cannot construct envvars")?;
        Ok(sources)
    }

    /// Where the volumes of the pod's claims are. A node may not watch claims; what is bound stays what it is.
    async fn claimed(&mut self) -> Result<BTreeMap<String, Claimed>, volumes::MountError> {
        for volume in &self.pod.spec.volumes {
            let Some(name) = claimed::claim_name(&self.pod, volume) else {
                continue;
            };
            if self.claimed.contains_key(&volume.name) {
                continue;
            }
            let namespace = &self.pod.metadata.namespace;
            let failure = |text: &str| volumes::MountError {
                volume: volume.name.clone(),
                message: format!("error processing PVC {namespace}/{name}: {text}"),
            };
            let client = &self.agent.client;
            let claim = client
                .get(&PERSISTENT_VOLUME_CLAIMS, namespace, &name)
                .await;
            let claim = claim.map_err(|error| failure(&error.message))?;
            let bound =
                claimed::bound_to(&self.pod, volume, &claim).map_err(|text| failure(&text))?;
            let found = client.get(&PERSISTENT_VOLUMES, "", &bound).await;
            let found = found.map_err(|error| failure(&error.message))?;
            let place = claimed::place(&claim, &found, &self.agent.config.node_name)
                .map_err(|text| failure(&text))?;
            let uid = &self.pod.metadata.uid;
            let volumes = &self.agent.stats.volumes;
            volumes.found(namespace, &name, uid, &place);
            self.claimed.insert(volume.name.clone(), place);
        }
        Ok(self.claimed.clone())
    }

    async fn refresh_tokens(&mut self) -> Result<(), String> {
        let now = clock::now();
        for (key, projection) in payload::token_projections(&self.pod) {
            if self
                .tokens
                .get(&key)
                .is_some_and(|token| token.refresh_at > now)
            {
                continue;
            }
            let metadata = &self.pod.metadata;
            let seconds = projection
                .expiration_seconds
                .unwrap_or(TOKEN_SECONDS_DEFAULT);
            let audiences: Vec<&str> = Some(projection.audience.as_str())
                .into_iter()
                .filter(|a| !a.is_empty())
                .collect();
            let request = json!({
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {
                    "audiences": audiences,
                    "expirationSeconds": seconds,
                    "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": metadata.name, "uid": metadata.uid},
                },
            });
            let account = match self.pod.spec.service_account_name.as_str() {
                "" => "default",
                name => name,
            };
            let answer = self
                .agent
                .client
                .create_sub(
                    &SERVICE_ACCOUNTS,
                    &metadata.namespace,
                    account,
                    "token",
                    &request,
                )
                .await;
            let failure = |text: &str| {
                format!(
                    "MountVolume.SetUp failed for volume \"{}\" : failed to fetch token: {text}",
                    key.0
                )
            };
            let answer = match answer {
                Ok(answer) => answer,
                // An old token serves until it expires.
                Err(error) if self.tokens.contains_key(&key) => {
                    tracing::warn!(pod = %self.pod.display(), error = %error.message, "cannot refresh a token");
                    continue;
                }
                Err(error) => return Err(failure(&error.message)),
            };
            let text = |path: &str| answer.pointer(path).and_then(Value::as_str);
            let token = text("/status/token")
                .ok_or_else(|| failure("the answer holds no token"))?
                .to_owned();
            let expires = text("/status/expirationTimestamp").and_then(clock::parse);
            let life = expires.map_or(time::Duration::seconds(seconds), |at| at - now);
            let refresh_at = now
                + (life * 4_i32 / 5_i32)
                    .min(time::Duration::hours(24))
                    .max(time::Duration::seconds(10));
            self.tokens.insert(key, Token { token, refresh_at });
        }
        Ok(())
    }
}
