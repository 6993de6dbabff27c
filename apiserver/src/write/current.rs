//! The object that a write starts from.

use std::sync::Arc;

use bytes::Bytes;
use kv::RangeRequest;
use resources::Resource;
use schema::Object;
use schema::pick::Pick;

use super::{Doubt, Version, is_shown_as_stored};
use crate::ApiServer;
use crate::codec::Versioned;
use crate::entry::{self, Entry};
use crate::status::{ApiError, ApiResult};

/// An object as it is stored now, in the shape of the request.
pub(crate) struct Current {
    pub(crate) object: Arc<Object>,
    pub(crate) revision: i64,
    /// It is stored in another form than it would be now.
    pub(super) stale: bool,
    /// As the cache holds it, where it is from there.
    pub(super) entry: Option<Arc<Entry>>,
}

/// An object as the cache holds it, of whose `spec` only a part was read.
pub(super) struct AroundSpec {
    /// Without its managed fields.
    pub(super) object: Object,
    /// These, as they are stored.
    pub(super) entries: Option<Bytes>,
    pub(super) revision: i64,
    /// All of its `spec`, as it is stored.
    pub(super) spec: Bytes,
    /// How many bytes the whole object is in JSON.
    pub(super) json_bytes: usize,
}

impl ApiServer {
    /// The object under `key` as the cache holds it, with no more of its `spec` than what is `needed`; none where it has to be
    /// stored in another form. A tree of it that may be at hand would not be of use: a copy of all of that takes longer. But who
    /// leaves the managed fields changes that tree itself.
    pub(super) fn around_spec(
        &self,
        resource: &Resource,
        key: &str,
        needed: &Pick,
        leaves_entries: bool,
    ) -> Option<AroundSpec> {
        if !is_shown_as_stored(resource) {
            return None;
        }
        let entry = self.world.cache(resource)?.get(key)?;
        let revision = entry.revision;
        if entry.is_stale() || self.is_outdated(resource, entry.mark) {
            return None;
        }
        if leaves_entries && self.kept(resource, key, revision).is_some() {
            return None;
        }
        let around = entry.around_spec(needed)?;
        Some(AroundSpec {
            object: Object::new(around.value).ok()?,
            entries: around.entries,
            revision,
            spec: around.spec,
            json_bytes: entry.json_len(),
        })
    }

    /// The object under `key`: from the cache, or linearizably from the store when `fresh`.
    pub(crate) async fn current(
        &self,
        resource: &Resource,
        key: &str,
        fresh: bool,
    ) -> ApiResult<Option<Current>> {
        let known = (fresh, None);
        self.current_in(resource, Version::Asked, key, known).await
    }

    /// Whether there is anything under `key`, as of now.
    pub(crate) async fn is_there(&self, key: &str) -> ApiResult<bool> {
        let request = RangeRequest {
            key: Bytes::from(key.to_owned()),
            ..RangeRequest::default()
        };
        Ok(!self.store.range(request).await?.body.kvs.is_empty())
    }

    pub(super) async fn current_in(
        &self,
        resource: &Resource,
        version: Version,
        key: &str,
        (fresh, known): (bool, Option<&Doubt>),
    ) -> ApiResult<Option<Current>> {
        match fresh {
            true => self.current_stored(resource, version, key, known).await,
            false => self.current_cached(resource, version, key).await,
        }
    }

    async fn current_cached(
        &self,
        resource: &Resource,
        version: Version,
        key: &str,
    ) -> ApiResult<Option<Current>> {
        let entry = self.world.cache(resource).and_then(|cache| cache.get(key));
        let Some(entry) = entry else { return Ok(None) };
        let stale = entry.is_stale() || self.is_outdated(resource, entry.mark);
        let revision = entry.revision;
        let object = match (self.kept(resource, key, revision), version) {
            (Some(kept), _) => {
                debug_assert_eq!(*kept, entry.object(), "{key} is kept as it is stored");
                kept
            }
            (None, Version::Asked) => {
                let form = self.form(resource, entry.clone()).await?;
                Arc::new(form.object_as(resource))
            }
            (None, Version::Stored) => Arc::new(entry.object()),
        };
        Ok(Some(Current {
            object,
            revision,
            stale,
            entry: Some(entry),
        }))
    }

    async fn current_stored(
        &self,
        resource: &Resource,
        version: Version,
        key: &str,
        known: Option<&Doubt>,
    ) -> ApiResult<Option<Current>> {
        let request = RangeRequest {
            key: Bytes::from(key.to_owned()),
            ..RangeRequest::default()
        };
        let answer = self.store.range(request).await?.body;
        let Some(pair) = answer.kvs.first() else {
            return Ok(None);
        };
        let broken = || ApiError::internal(format!("the stored value of {key} is not an object"));
        let opened = self.opened(resource, pair, key)?;
        let is_outdated = self.is_outdated(resource, opened.mark);
        let known = known.filter(|known| known.revision == pair.mod_revision);
        let known = known.filter(|_| is_shown_as_stored(resource));
        let known = known.map(|known| known.object.clone());
        if let Some(object) = known.or_else(|| self.kept(resource, key, pair.mod_revision)) {
            return Ok(Some(Current {
                object,
                revision: pair.mod_revision,
                stale: is_outdated,
                entry: None,
            }));
        }
        let versioned = Versioned::splice(&opened.value, pair.mod_revision).ok_or_else(broken)?;
        let value = schema::read::json(&versioned.json.bytes()).map_err(|_| broken())?;
        let mut object = Object::new(value).map_err(|_| broken())?;
        let mut stale = false;
        match &resource.custom {
            Some(custom) => {
                let before = object.clone();
                custom.read_stored(&mut object);
                stale = object != before || object.version() != custom.storage_version();
                if version == Version::Asked {
                    object = self.converted(custom, object).await?;
                }
            }
            None => entry::from_storage(resource, &mut object),
        }
        Ok(Some(Current {
            object: Arc::new(object),
            revision: pair.mod_revision,
            stale: stale || is_outdated,
            entry: None,
        }))
    }

    /// The object under `key`, where this server has just written it at that revision.
    fn kept(&self, resource: &Resource, key: &str, revision: i64) -> Option<Arc<Object>> {
        match is_shown_as_stored(resource) {
            true => self.trees.get(key, revision),
            false => None,
        }
    }
}
