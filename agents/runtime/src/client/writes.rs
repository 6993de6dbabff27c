//! Calls that write: create, update, patch and delete.

use super::query::Query;
use super::send::{Wanted, encode};
use super::stored::Stored;
use super::{ACCEPT, Client, DeleteParams, ListParams, PatchType};
use crate::error::ApiError;
use crate::resource_ref::ResourceRef;
use bytes::Bytes;
use http::Method;
use serde_json::Value;

impl Client {
    /// Creates an object; the answer is what was stored.
    pub async fn create(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let path = resource.collection_path(namespace);
        self.write(Method::POST, &path, ACCEPT, body).await
    }

    /// Creates an object, and reads little of the answer.
    pub async fn create_stored(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        body: &Value,
    ) -> Result<Stored, ApiError> {
        self.create_written(resource, namespace, encode(body)).await
    }

    /// The same of an object whose text there is already.
    pub(crate) async fn create_written(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        text: Bytes,
    ) -> Result<Stored, ApiError> {
        let path = resource.collection_path(namespace);
        self.write_stored(Method::POST, &path, ACCEPT, text).await
    }

    async fn write_stored(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Stored, ApiError> {
        let answer = self.bytes(method, path, Wanted::Little, content_type, body);
        Stored::read(&answer.await?)
            .map_err(|e| ApiError::malformed(format!("answer of {path}: {e}")))
    }

    /// What an object would be if it were created: with defaults, and as admission has it. Nothing is stored.
    pub async fn create_dry_run(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let mut query = Query::default();
        query.add("dryRun", "All");
        query.add("fieldValidation", "Strict");
        let path = query.onto(resource.collection_path(namespace));
        self.write(Method::POST, &path, ACCEPT, body).await
    }

    /// Creates a subresource (binding, eviction, token, scale..).
    pub async fn create_sub(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        sub: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let path = resource.object_path(namespace, name, Some(sub));
        self.write(Method::POST, &path, ACCEPT, body).await
    }

    /// Replaces an object; `metadata.resourceVersion` in the body guards against lost updates.
    pub async fn update(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let path = resource.object_path(namespace, name, None);
        self.write(Method::PUT, &path, ACCEPT, body).await
    }

    /// Replaces a subresource.
    pub async fn update_sub(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        sub: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let path = resource.object_path(namespace, name, Some(sub));
        self.write(Method::PUT, &path, ACCEPT, body).await
    }

    /// Replaces the status.
    pub async fn update_status(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        self.update_sub(resource, namespace, name, "status", body)
            .await
    }

    /// Patches an object.
    pub async fn patch(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        kind: PatchType,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let path = resource.object_path(namespace, name, None);
        self.write(Method::PATCH, &path, kind.content_type(), body)
            .await
    }

    /// The same where the answer is of no interest: it is taken off the connection, and not read.
    pub async fn patch_blindly(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        kind: PatchType,
        body: &Value,
    ) -> Result<(), ApiError> {
        let path = resource.object_path(namespace, name, None);
        let kind = kind.content_type();
        let answer = self.bytes(Method::PATCH, &path, Wanted::Little, kind, encode(body));
        answer.await.map(drop)
    }

    /// Patches an object or its subresource, and reads little of the answer.
    pub async fn patch_stored(
        &self,
        resource: &ResourceRef,
        (namespace, name): (&str, &str),
        sub: Option<&str>,
        kind: PatchType,
        body: &Value,
    ) -> Result<Stored, ApiError> {
        self.patch_written(resource, (namespace, name), sub, kind, encode(body))
            .await
    }

    /// The same with a patch whose text there is already.
    pub async fn patch_written(
        &self,
        resource: &ResourceRef,
        (namespace, name): (&str, &str),
        sub: Option<&str>,
        kind: PatchType,
        text: Bytes,
    ) -> Result<Stored, ApiError> {
        let path = resource.object_path(namespace, name, sub);
        self.write_stored(Method::PATCH, &path, kind.content_type(), text)
            .await
    }

    /// Patches a subresource.
    pub async fn patch_sub(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        sub: &str,
        kind: PatchType,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let path = resource.object_path(namespace, name, Some(sub));
        self.write(Method::PATCH, &path, kind.content_type(), body)
            .await
    }

    /// Patches the status.
    pub async fn patch_status(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        kind: PatchType,
        body: &Value,
    ) -> Result<Value, ApiError> {
        self.patch_sub(resource, namespace, name, "status", kind, body)
            .await
    }

    /// Deletes an object; the answer is the object (when it goes gracefully) or a `Status`.
    pub async fn delete(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        params: &DeleteParams,
    ) -> Result<Value, ApiError> {
        let path = resource.object_path(namespace, name, None);
        self.write(Method::DELETE, &path, ACCEPT, &params.body())
            .await
    }

    /// Deletes all objects of a collection that match.
    pub async fn delete_collection(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        list: &ListParams,
        params: &DeleteParams,
    ) -> Result<Value, ApiError> {
        let mut query = Query::default();
        query.add("labelSelector", &list.label_selector);
        query.add("fieldSelector", &list.field_selector);
        let path = query.onto(resource.collection_path(namespace));
        self.write(Method::DELETE, &path, ACCEPT, &params.body())
            .await
    }

    /// Posts to any path; the answer is JSON.
    pub async fn post_path(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.write(Method::POST, path, ACCEPT, body).await
    }
}
