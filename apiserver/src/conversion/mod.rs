//! Versions of custom resources: who makes an object of one version an object of another.
//!
//! Most versions differ in their names and fields only, and are made here. For others a definition names a webhook. What
//! is cached is always what is stored; a webhook is asked when somebody wants another version, outside all locks, and what it made
//! of an entry is kept with the entry. So a webhook that is slow or dead stands in the way of nobody who can do without
//! it: not of the feed of the caches, nor of the stored version, nor of what is about metadata only.

mod converter;
mod review;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use resources::Resource;
use resources::custom::{Custom, Definition};
use schema::Object;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::ApiServer;
use crate::entry::{self, Entry};
use crate::status::{ApiError, ApiResult};
use crate::world::World;
use converter::{Converter, Sent, Turn};

/// Requests that wait for webhooks, all together: fewer than there are places for reads or for writes.
const WAITING_MAX: usize = 128;

/// The webhooks of definitions, each made when it is first needed.
pub(crate) struct Conversions {
    known: Mutex<BTreeMap<String, Known>>,
    waiting: Semaphore,
}

struct Known {
    definition: Arc<Definition>,
    webhook: Value,
    converter: Arc<Converter>,
}

impl Default for Conversions {
    fn default() -> Conversions {
        Conversions {
            known: Mutex::default(),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A request, of which only so many may wait.
    Request,
    /// A watch, which waits for its own change and for nothing else.
    Watch,
}

/// The version of a resource whose objects may need a webhook.
pub(crate) fn by_webhook(resource: &Resource) -> Option<&Custom> {
    let custom = resource.custom.as_ref()?;
    custom.definition.by_webhook.then_some(custom)
}

impl Conversions {
    /// The webhook of a definition. One whose configuration stayed the same stays the same, with its connections.
    fn converter(&self, world: &Arc<World>, definition: &Arc<Definition>) -> Arc<Converter> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let name = &definition.name;
        if let Some(one) = known.get(name)
            && Arc::ptr_eq(&one.definition, definition)
        {
            return one.converter.clone();
        }
        // What nobody serves any more is held here only.
        known.retain(|_, one| Arc::strong_count(&one.definition) > 1);
        let webhook = definition.webhook().unwrap_or_default();
        let converter = match known.remove(name) {
            Some(one) if one.webhook == webhook => one.converter,
            _ => Arc::new(Converter::new(world, name, &webhook)),
        };
        let one = Known {
            definition: definition.clone(),
            webhook,
            converter: converter.clone(),
        };
        known.insert(name.clone(), one);
        converter
    }

    fn enter<'a>(
        &'a self,
        converter: &'a Converter,
        asker: Asker,
    ) -> ApiResult<Option<[SemaphorePermit<'a>; 2]>> {
        if asker == Asker::Watch {
            return Ok(None);
        }
        let refused = |_| {
            let text = "too many requests wait for the conversion webhook, please try again later";
            ApiError::too_many_requests(text, 1)
        };
        let own = converter.waiting.try_acquire().map_err(refused)?;
        let common = self.waiting.try_acquire().map_err(refused)?;
        Ok(Some([own, common]))
    }
}

impl ApiServer {
    fn converter(&self, custom: &Custom) -> Arc<Converter> {
        self.conversions.converter(&self.world, &custom.definition)
    }

    /// Whether the webhook that objects of `resource` need did not answer a moment ago.
    pub(crate) fn seems_inconvertible(&self, resource: &Resource) -> bool {
        let custom = by_webhook(resource);
        custom.is_some_and(|custom| self.converter(custom).seems_dead())
    }

    /// The entries as `resource` shows them, in their order. Where no webhook is needed they stay what they are: then
    /// [`Entry::object_as`] converts. All that need it go in one call, within its bounds.
    pub(crate) async fn forms(
        &self,
        resource: &Resource,
        entries: Vec<Arc<Entry>>,
        asker: Asker,
    ) -> ApiResult<Vec<Arc<Entry>>> {
        let Some(custom) = by_webhook(resource) else {
            return Ok(entries);
        };
        let form = |entry: &Arc<Entry>| match entry.is_as(resource) {
            true => Some(entry.clone()),
            false => entry.form(resource),
        };
        let mut forms: Vec<Option<Arc<Entry>>> = entries.iter().map(form).collect();
        if forms.iter().all(Option::is_some) {
            return Ok(forms.into_iter().flatten().collect());
        }
        let converter = self.converter(custom);
        let _waiting = self.conversions.enter(&converter, asker)?;
        loop {
            let missing = forms.iter().enumerate().filter(|(_, form)| form.is_none());
            let missing: Vec<usize> = missing.map(|(at, _)| at).collect();
            if missing.is_empty() {
                return Ok(forms.into_iter().flatten().collect());
            }
            match converter
                .flights()
                .join(&entries, &missing, &resource.version)
            {
                Turn::Theirs(theirs) => {
                    converter::wait(theirs).await?;
                    for at in missing {
                        forms[at] = entries[at].form(resource);
                    }
                }
                Turn::Mine(mine, flight) => {
                    let sent: Vec<Sent> =
                        mine.iter().map(|at| Sent::entry(&entries[*at])).collect();
                    let converted = converter.convert(&self.metrics, &sent, custom).await;
                    let made = converted.and_then(|objects| {
                        for (at, object) in mine.into_iter().zip(objects) {
                            let form = entries[at].keep_form(resource, &object);
                            forms[at] = Some(form.ok_or_else(|| unreadable(&entries[at]))?);
                        }
                        Ok(())
                    });
                    flight.end(made.clone());
                    made?;
                }
            }
        }
    }

    /// One entry as `resource` shows it.
    pub(crate) async fn form(
        &self,
        resource: &Resource,
        entry: Arc<Entry>,
    ) -> ApiResult<Arc<Entry>> {
        if by_webhook(resource).is_none() {
            return Ok(entry);
        }
        // A call to a webhook needs much room, and nearly no request makes one.
        let forms = Box::pin(self.forms(resource, vec![entry], Asker::Request));
        forms.await?.pop().ok_or_else(ApiError::no_such_resource)
    }

    /// An object of a custom resource as one of the version of `to`.
    pub(crate) async fn converted(&self, to: &Custom, mut object: Object) -> ApiResult<Object> {
        if object.version() == *to.version() {
            return Ok(object);
        }
        if !to.definition.by_webhook {
            to.rename(&mut object);
            return Ok(object);
        }
        let mut converted = self.converted_all(to, vec![object]).await?;
        converted.pop().ok_or_else(ApiError::no_such_resource)
    }

    /// What the webhook makes of objects of other versions, all in one call within its bounds.
    pub(crate) async fn converted_all(
        &self,
        to: &Custom,
        objects: Vec<Object>,
    ) -> ApiResult<Vec<Object>> {
        let converter = self.converter(to);
        let _waiting = self.conversions.enter(&converter, Asker::Request)?;
        let sent: Vec<Sent> = objects.into_iter().map(Sent::of).collect();
        converter.convert(&self.metrics, &sent, to).await
    }

    /// An object of `resource` in the shape of another that shows the same stored objects.
    pub(crate) async fn in_shape(
        &self,
        resource: &Resource,
        shape: &Resource,
        mut object: Object,
    ) -> ApiResult<Object> {
        if let Some(to) = &shape.custom {
            return self.converted(to, object).await;
        }
        entry::to_storage(resource, &mut object);
        entry::from_storage(shape, &mut object);
        Ok(object)
    }
}

fn unreadable(entry: &Entry) -> ApiError {
    ApiError::internal(format!("what was made of {} is not an object", entry.key()))
}
