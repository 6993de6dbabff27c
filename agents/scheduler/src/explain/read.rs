//! What a decision depends on, read through the API as of one revision.

use super::picture::{Picture, RESOURCES};
use agent_runtime::resource_ref::push_escaped;
use agent_runtime::{ApiError, Client, ResourceRef, timestamp};
use serde_json::Value;

/// Objects of one answer.
const PAGE: usize = 500;

/// Of when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// The newest state.
    Now,
    /// As it was at a revision, if the server still knows.
    Revision(u64),
}

/// A list that could not be read.
#[derive(Debug)]
pub struct Unread {
    /// Of what.
    pub resource: &'static ResourceRef,
    /// Why.
    pub error: ApiError,
}

impl Picture {
    /// Puts everything into it that a decision depends on. The state is one that was: what the first list is of, all others
    /// are of. Tells its revision.
    pub async fn read(&mut self, client: &Client, as_of: AsOf) -> Result<String, Unread> {
        let mut revision = match as_of {
            AsOf::Now => {
                self.set_clock(timestamp::now());
                None
            }
            AsOf::Revision(revision) => Some(revision.to_string()),
        };
        for resource in RESOURCES {
            let read = self.read_all(client, resource, revision.as_deref()).await;
            let read = read.map_err(|error| Unread { resource, error })?;
            revision.get_or_insert(read);
        }
        Ok(revision.unwrap_or_default())
    }

    /// All objects of a resource, page by page.
    async fn read_all(
        &mut self,
        client: &Client,
        resource: &ResourceRef,
        revision: Option<&str>,
    ) -> Result<String, ApiError> {
        let mut path = first_page(resource, revision);
        loop {
            let mut page = client.get_path(&path).await?;
            let Value::Array(items) = page["items"].take() else {
                return Err(ApiError::malformed("a list without items"));
            };
            for item in &items {
                self.add(resource, item);
            }
            let meta = |field: &str| page["metadata"][field].as_str().unwrap_or_default();
            match meta("continue") {
                "" => return Ok(meta("resourceVersion").to_owned()),
                token => path = next_page(resource, token),
            }
        }
    }
}

fn first_page(resource: &ResourceRef, revision: Option<&str>) -> String {
    let mut path = format!("{}?limit={PAGE}", resource.collection_path(""));
    if let Some(revision) = revision {
        path += "&resourceVersionMatch=Exact&resourceVersion=";
        push_escaped(&mut path, revision);
    }
    path
}

fn next_page(resource: &ResourceRef, token: &str) -> String {
    let mut path = format!("{}?limit={PAGE}&continue=", resource.collection_path(""));
    push_escaped(&mut path, token);
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_runtime::resource_ref::PODS;

    #[test]
    fn lists_are_of_now_or_of_one_revision() {
        assert_eq!(first_page(&PODS, None), "/api/v1/pods?limit=500");
        assert_eq!(
            first_page(&PODS, Some("7")),
            "/api/v1/pods?limit=500&resourceVersionMatch=Exact&resourceVersion=7"
        );
        assert_eq!(
            next_page(&PODS, "a+/b=="),
            "/api/v1/pods?limit=500&continue=a%2B%2Fb%3D%3D"
        );
    }
}
