//! The small kinds of the core group.

use super::{Condition, Labels, LocalObjectReference, ObjectMeta, ObjectReference, fields, kind};
use crate::resource_ref::{
    CERTIFICATE_SIGNING_REQUESTS, CONFIG_MAPS, EVENTS, NAMESPACES, PRIORITY_CLASSES, SECRETS,
    SERVICE_ACCOUNTS,
};
use serde_json::Value;

fields! {
    /// A namespace.
    pub struct Namespace {
        pub metadata: ObjectMeta,
        pub spec: NamespaceSpec,
        pub status: NamespaceStatus,
    }
    /// Finalizers of the namespace itself.
    pub struct NamespaceSpec {
        pub finalizers: Vec<String>,
    }
    /// `Active` or `Terminating`.
    pub struct NamespaceStatus {
        pub phase: String,
        pub conditions: Vec<Condition>,
    }
    /// A service account.
    pub struct ServiceAccount {
        pub metadata: ObjectMeta,
        pub image_pull_secrets: Vec<LocalObjectReference>,
        pub automount_service_account_token: Option<bool>,
    }
    /// A ConfigMap; `binary_data` is base64.
    pub struct ConfigMap {
        pub metadata: ObjectMeta,
        pub immutable: Option<bool>,
        pub data: Labels,
        pub binary_data: Labels,
    }
    /// A Secret; `data` is base64.
    pub struct Secret {
        pub metadata: ObjectMeta,
        pub immutable: Option<bool>,
        pub data: Labels,
        #[serde(rename = "type")]
        pub kind: String,
    }
    /// A request for a certificate.
    pub struct CertificateSigningRequest {
        pub metadata: ObjectMeta,
        pub spec: CertificateSigningRequestSpec,
        pub status: CertificateSigningRequestStatus,
    }
    /// What is asked for (`request` is PEM in base64), and by whom.
    pub struct CertificateSigningRequestSpec {
        pub request: String,
        pub signer_name: String,
        pub expiration_seconds: Option<i64>,
        pub usages: Vec<String>,
        pub username: String,
        pub uid: String,
        pub groups: Vec<String>,
        pub extra: Option<Value>,
    }
    /// What was decided, and the certificate (base64) where there is one.
    pub struct CertificateSigningRequestStatus {
        pub conditions: Vec<Condition>,
        pub certificate: String,
    }
    /// An event.
    pub struct Event {
        pub metadata: ObjectMeta,
        pub involved_object: ObjectReference,
        pub reason: String,
        pub message: String,
        pub first_timestamp: Option<String>,
        pub last_timestamp: Option<String>,
        pub count: i32,
        #[serde(rename = "type")]
        pub kind: String,
        pub reporting_component: String,
    }
    /// A priority class.
    pub struct PriorityClass {
        pub metadata: ObjectMeta,
        pub value: i32,
        pub global_default: bool,
        pub preemption_policy: Option<String>,
    }
}
kind!(Namespace, NAMESPACES);
kind!(ServiceAccount, SERVICE_ACCOUNTS);
kind!(ConfigMap, CONFIG_MAPS);
kind!(Secret, SECRETS);
kind!(Event, EVENTS);
kind!(PriorityClass, PRIORITY_CLASSES);
kind!(CertificateSigningRequest, CERTIFICATE_SIGNING_REQUESTS);
