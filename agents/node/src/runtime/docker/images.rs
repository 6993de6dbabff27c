//! Images on a Docker daemon: found, pulled, and the pause image, which is brought along.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::query_parameters as query;
use futures::TryStreamExt;

use super::DockerRuntime;
use super::answer::{failure, image_reference, status_of};
use crate::runtime::{Image, RegistryLogin, Result, RuntimeError, pause};

const PULL_TIMEOUT: Duration = Duration::from_secs(30 * 60);

impl DockerRuntime {
    pub(super) async fn ensure_pause_image(&self) -> Result<()> {
        let _one_at_a_time = self.importing.lock().await;
        match self.docker().await?.inspect_image(pause::IMAGE).await {
            Ok(_) => return Ok(()),
            Err(error) if status_of(&error) == Some(404) => {}
            Err(error) => return Err(failure(error)),
        }
        let architecture = std::env::consts::ARCH;
        let archive = pause::archive(architecture).ok_or_else(|| {
            RuntimeError::Refused(format!("no pause program for architecture {architecture}"))
        })?;
        let (repository, tag) = pause::IMAGE
            .split_once(':')
            .unwrap_or((pause::IMAGE, "latest"));
        let options = query::CreateImageOptionsBuilder::new()
            .from_src("-")
            .repo(repository)
            .tag(tag)
            .build();
        let import = self.docker().await?.create_image(
            Some(options),
            Some(bollard::body_full(archive.into())),
            None,
        );
        import.try_collect::<Vec<_>>().await.map_err(failure)?;
        tracing::info!(image = pause::IMAGE, "imported the pause image");
        Ok(())
    }

    pub(super) async fn status_image_id(&self, id: &str) -> Result<String> {
        let known = |cache: &Mutex<BTreeMap<String, String>>| {
            cache
                .lock()
                .expect("no panic while locked")
                .get(id)
                .cloned()
        };
        if let Some(reference) = known(&self.image_ids) {
            return Ok(reference);
        }
        let reference = match self.docker().await?.inspect_image(id).await {
            Ok(details) => image_reference(id, details.repo_digests.as_deref().unwrap_or_default()),
            Err(error) if status_of(&error) == Some(404) => image_reference(id, &[]),
            Err(error) => return Err(failure(error)),
        };
        self.image_ids
            .lock()
            .expect("no panic while locked")
            .insert(id.to_owned(), reference.clone());
        Ok(reference)
    }

    pub(super) async fn inspect_image(&self, name: &str) -> Result<Option<Image>> {
        match self.docker().await?.inspect_image(name).await {
            Ok(details) => {
                let id = details.id.unwrap_or_default();
                let digests = details.repo_digests.unwrap_or_default();
                Ok(Some(Image {
                    image_id: image_reference(&id, &digests),
                    id,
                    names: digests
                        .into_iter()
                        .chain(details.repo_tags.unwrap_or_default())
                        .collect(),
                    size_bytes: details.size.unwrap_or_default(),
                    user: details
                        .config
                        .and_then(|config| config.user)
                        .unwrap_or_default(),
                }))
            }
            Err(error) if status_of(&error) == Some(404) => Ok(None),
            Err(error) => Err(failure(error)),
        }
    }

    pub(super) async fn pull_image(&self, name: &str, login: Option<&RegistryLogin>) -> Result<()> {
        let (repository, tag) = split_reference(name);
        let options = query::CreateImageOptionsBuilder::new()
            .from_image(repository)
            .tag(tag)
            .build();
        let credentials = login.map(|login| DockerCredentials {
            username: Some(login.username.clone()),
            password: Some(login.password.clone()),
            serveraddress: Some(login.server.clone()),
            ..DockerCredentials::default()
        });
        let patient = self.docker().await?.clone().with_timeout(PULL_TIMEOUT);
        let progress = patient.create_image(Some(options), None, credentials);
        let pull = progress.try_for_each(|_| futures::future::ready(Ok(())));
        match tokio::time::timeout(PULL_TIMEOUT, pull).await {
            Ok(result) => result.map_err(failure),
            Err(_) => Err(RuntimeError::Refused(format!(
                "pulling {name} took longer than {PULL_TIMEOUT:?}"
            ))),
        }
    }

    pub(super) async fn list_images(&self) -> Result<Vec<Image>> {
        let listed = self
            .docker()
            .await?
            .list_images(None::<query::ListImagesOptions>)
            .await
            .map_err(failure)?;
        let named = listed.into_iter().map(|image| Image {
            image_id: image_reference(&image.id, &image.repo_digests),
            id: image.id,
            names: image
                .repo_digests
                .into_iter()
                .chain(image.repo_tags)
                .filter(|name| !name.starts_with("<none>"))
                .collect(),
            size_bytes: image.size,
            user: String::new(),
        });
        Ok(named.filter(|image| !image.names.is_empty()).collect())
    }
}

/// Splits `registry:5000/name:tag` or `name@digest` for a pull. Without a tag Docker would pull all of them.
fn split_reference(name: &str) -> (&str, &str) {
    if let Some((repository, digest)) = name.split_once('@') {
        return (repository, digest);
    }
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_split_so_that_one_image_is_pulled() {
        let cases = [
            ("nginx", ("nginx", "latest")),
            ("nginx:1.2", ("nginx", "1.2")),
            ("reg:5000/a/b", ("reg:5000/a/b", "latest")),
            ("reg:5000/a/b:x", ("reg:5000/a/b", "x")),
            ("a@sha256:00", ("a", "sha256:00")),
        ];
        for (name, expected) in cases {
            assert_eq!(split_reference(name), expected, "{name}");
        }
    }
}
