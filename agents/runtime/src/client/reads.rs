//! Calls that read: get, list and watch.

use super::query::Query;
use super::send::Wanted;
use super::{ACCEPT, Client, ListParams, WatchParams, typed};
use crate::error::ApiError;
use crate::resource_ref::ResourceRef;
use crate::watch::WatchStream;
use bytes::Bytes;
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

const ACCEPT_METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const ACCEPT_METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

impl Client {
    /// One object.
    pub async fn get(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
    ) -> Result<Value, ApiError> {
        self.read(&resource.object_path(namespace, name, None), ACCEPT)
            .await
    }

    /// One object as a typed struct.
    pub async fn get_as<T: DeserializeOwned>(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
    ) -> Result<T, ApiError> {
        typed(self.get(resource, namespace, name).await?)
    }

    /// Only the metadata of one object.
    pub async fn get_metadata(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
    ) -> Result<Value, ApiError> {
        self.read(
            &resource.object_path(namespace, name, None),
            ACCEPT_METADATA,
        )
        .await
    }

    /// A subresource.
    pub async fn get_sub(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        sub: &str,
    ) -> Result<Value, ApiError> {
        self.read(&resource.object_path(namespace, name, Some(sub)), ACCEPT)
            .await
    }

    /// One page of a list (all of it when `limit` is 0).
    pub async fn list(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        params: &ListParams,
    ) -> Result<Value, ApiError> {
        let bytes = self.list_bytes(resource, namespace, params).await?;
        serde_json::from_slice(&bytes)
            .map_err(|e| ApiError::malformed(format!("list of {resource}: {e}")))
    }

    /// One page of a list, undecoded.
    pub(crate) async fn list_bytes(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        params: &ListParams,
    ) -> Result<Bytes, ApiError> {
        let mut query = Query::default();
        query.add("labelSelector", &params.label_selector);
        query.add("fieldSelector", &params.field_selector);
        query.add("continue", &params.continue_token);
        if params.limit > 0 {
            query.add("limit", &params.limit.to_string());
        }
        if let Some(version) = &params.resource_version {
            query.add("resourceVersion", version);
        }
        let accept = if params.metadata_only {
            ACCEPT_METADATA_LIST
        } else {
            ACCEPT
        };
        self.bytes(
            Method::GET,
            &query.onto(resource.collection_path(namespace)),
            Wanted::Whole(accept),
            "",
            Bytes::new(),
        )
        .await
    }

    /// All items of a list, page by page, as typed structs.
    pub async fn list_as<T: DeserializeOwned>(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        params: &ListParams,
    ) -> Result<Vec<T>, ApiError> {
        let mut params = ListParams {
            limit: if params.limit == 0 { 500 } else { params.limit },
            ..params.clone()
        };
        let mut items = Vec::new();
        loop {
            let mut page = self.list(resource, namespace, &params).await?;
            let next = page
                .pointer("/metadata/continue")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            if let Some(Value::Array(values)) = page.get_mut("items").map(Value::take) {
                for value in values {
                    items.push(typed(value)?);
                }
            }
            if next.is_empty() {
                return Ok(items);
            }
            params.continue_token = next;
            params.resource_version = None;
        }
    }

    /// Any path with a JSON answer (discovery, `/version`).
    pub async fn get_path(&self, path: &str) -> Result<Value, ApiError> {
        self.read(path, ACCEPT).await
    }

    /// Opens a watch. Errors before the first event (410 among them) are the error of this call.
    pub async fn watch_stream(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        params: &WatchParams,
    ) -> Result<WatchStream, ApiError> {
        let mut query = Query::default();
        query.add("watch", "1");
        query.add("allowWatchBookmarks", "true");
        query.add("labelSelector", &params.label_selector);
        query.add("fieldSelector", &params.field_selector);
        if let Some(version) = &params.resource_version {
            query.add("resourceVersion", version);
        }
        if params.send_initial_events {
            query.add("sendInitialEvents", "true");
            query.add("resourceVersionMatch", "NotOlderThan");
        }
        if params.timeout_seconds > 0 {
            query.add("timeoutSeconds", &params.timeout_seconds.to_string());
        }
        let accept = if params.metadata_only {
            ACCEPT_METADATA
        } else {
            ACCEPT
        };
        let path = query.onto(resource.collection_path(namespace));
        let deadline = Instant::now() + self.inner.timeout;
        let response = self
            .send(
                Method::GET,
                &path,
                Wanted::Whole(accept),
                "",
                Bytes::new(),
                deadline,
            )
            .await?;
        Ok(WatchStream::new(response.into_body()))
    }
}
