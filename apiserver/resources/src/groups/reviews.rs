//! authentication.k8s.io/v1 and authorization.k8s.io/v1: questions that are answered and never stored.

use crate::resource::{REVIEW, Resource};
use crate::validate;

const AUTHENTICATION: Resource = Resource {
    group: "authentication.k8s.io",
    ..REVIEW
};
const AUTHORIZATION: Resource = Resource {
    group: "authorization.k8s.io",
    ..REVIEW
};

pub(super) static KINDS: &[Resource] = &[
    Resource {
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        ..AUTHENTICATION
    },
    Resource {
        kind: "TokenReview",
        plural: "tokenreviews",
        ..AUTHENTICATION
    },
    Resource {
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        namespaced: true,
        check: validate::reviews::local_access_review,
        ..AUTHORIZATION
    },
    Resource {
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        check: validate::reviews::self_access_review,
        ..AUTHORIZATION
    },
    Resource {
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        ..AUTHORIZATION
    },
    Resource {
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        check: validate::reviews::access_review,
        ..AUTHORIZATION
    },
];
