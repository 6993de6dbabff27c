//! Objects in the versions in which their managers wrote them. Most are made at once. Where a webhook makes them, what is
//! needed is noted as a question: the caller gets it answered, and does its work again with the answer.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use resources::custom::Custom;
use resources::{Resource, storage_resource};
use schema::Object;
use schema::structural::Schema;
use serde_json::Value;

use crate::ApiServer;
use crate::context::Context;
use crate::entry;

/// Questions about one write. A definition with more versions than that is asked about no further.
const QUESTIONS_MAX: usize = 32;

/// The other versions of the objects of a resource.
pub(crate) struct Versions<'r> {
    resource: &'r Resource,
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    question: Option<Question>,
    answers: Vec<(Question, Result<Vec<Value>, String>)>,
}

#[derive(PartialEq)]
struct Question {
    objects: Vec<Value>,
    api_version: String,
}

impl fmt::Debug for Versions<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut formatter = formatter.debug_struct("Versions");
        formatter.field("kind", &self.resource.kind);
        formatter.finish_non_exhaustive()
    }
}

impl<'r> Versions<'r> {
    pub(crate) fn of(resource: &'r Resource) -> Versions<'r> {
        Versions {
            resource,
            asked: Mutex::default(),
        }
    }

    /// Whether something may be asked at all.
    pub(crate) fn may_ask(&self) -> bool {
        let custom = self.resource.custom.as_ref();
        custom.is_some_and(|custom| custom.definition.by_webhook)
    }

    /// Answers what was asked. Whether there was something, so that the work has to be done again.
    pub(crate) async fn answer(&self, context: &Context) -> bool {
        let Some(question) = self.lock().question.take() else {
            return false;
        };
        let answer = self.ask(&context.server, &question).await;
        self.lock().answers.push((question, answer));
        true
    }

    async fn ask(&self, server: &ApiServer, question: &Question) -> Result<Vec<Value>, String> {
        let to = self.custom(&question.api_version);
        let to = to.ok_or_else(|| "there is no such version".to_owned())?;
        let objects = question.objects.iter().cloned().map(Object::new);
        let objects: Result<Vec<Object>, _> = objects.collect();
        let objects = objects.map_err(|error| error.to_string())?;
        let converted = server.converted_all(&to, objects).await;
        let converted = converted.map_err(|error| error.message)?;
        Ok(converted.into_iter().map(Object::into_value).collect())
    }

    /// What a webhook made of the objects, where that is known already.
    fn answered(&self, question: Question) -> Result<Vec<Value>, String> {
        let mut asked = self.lock();
        if let Some((_, answer)) = asked.answers.iter().find(|(known, _)| *known == question) {
            return answer.clone();
        }
        if asked.answers.len() >= QUESTIONS_MAX {
            return Err("the object was written in too many versions".to_owned());
        }
        asked.question = Some(question);
        Err("the conversion webhook was not asked yet".to_owned())
    }

    fn custom(&self, api_version: &str) -> Option<Custom> {
        let custom = self.resource.custom.as_ref()?;
        custom.sibling(api_version)
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl schema::apply::Versions for Versions<'_> {
    fn schema(&self, api_version: &str) -> Option<Schema<'_>> {
        match &self.resource.custom {
            Some(custom) => custom.sibling_schema(api_version).map(Schema::Custom),
            None => shape(self.resource, api_version).map(Resource::schema),
        }
    }

    fn convert(&self, objects: &[&Value], api_version: &str) -> Result<Vec<Value>, String> {
        let objects = objects.iter().map(|object| unmanaged(object));
        let objects: Vec<Value> = objects.collect();
        if let Some(to) = self.custom(api_version) {
            if to.definition.by_webhook {
                let api_version = api_version.to_owned();
                return self.answered(Question {
                    objects,
                    api_version,
                });
            }
            return each(objects, |object| to.rename(object));
        }
        let to = shape(self.resource, api_version);
        let to = to.ok_or_else(|| "there is no such version".to_owned())?;
        each(objects, |object| {
            if let Some(from) = shape(self.resource, object.api_version()) {
                entry::to_storage(from, object);
            }
            entry::from_storage(to, object);
        })
    }
}

/// The built-in resource of that version that shows the same stored objects.
fn shape(resource: &Resource, api_version: &str) -> Option<&'static Resource> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let shape = resources::by_kind(group, version, &resource.kind)?;
    let stored = |resource: &Resource| {
        let stored = storage_resource(resource);
        (stored.api_version(), stored.plural.clone())
    };
    (stored(shape) == stored(resource)).then_some(shape)
}

fn each(objects: Vec<Value>, change: impl Fn(&mut Object)) -> Result<Vec<Value>, String> {
    let changed = objects.into_iter().map(|object| {
        let mut object = Object::new(object).map_err(|error| error.to_string())?;
        change(&mut object);
        Ok(object.into_value())
    });
    changed.collect()
}

/// Nobody owns the entries themselves, and no webhook needs them.
fn unmanaged(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

#[cfg(test)]
mod tests {
    use schema::apply::Versions as _;
    use serde_json::json;

    use super::*;

    fn scaler() -> &'static Resource {
        resources::by_kind("autoscaling", "v2", "HorizontalPodAutoscaler").unwrap()
    }

    #[test]
    fn a_built_in_kind_has_the_versions_of_its_stored_objects() {
        let versions = Versions::of(scaler());
        assert!(versions.schema("autoscaling/v1").is_some());
        assert!(versions.schema("autoscaling/v2beta2").is_none());
        assert!(versions.schema("apps/v1").is_none());
        let event = resources::by_kind("events.k8s.io", "v1", "Event").unwrap();
        let versions = Versions::of(event);
        assert!(versions.schema("v1").is_some());
        let object = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "note": "n",
            "metadata": {"name": "e", "managedFields": []}});
        let made = versions.convert(&[&object], "v1").unwrap();
        assert_eq!(
            made,
            [
                json!({"apiVersion": "v1", "kind": "Event", "message": "n", "metadata": {"name": "e"}})
            ]
        );
    }
}
