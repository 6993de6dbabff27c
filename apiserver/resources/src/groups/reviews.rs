//! authentication.k8s.io/v1 and authorization.k8s.io/v1: questions that are answered and never stored.

use crate::builtin::{BuiltIn, REVIEW};
use crate::validate;

const AUTHENTICATION: BuiltIn = BuiltIn {
    group: "authentication.k8s.io",
    ..REVIEW
};
const AUTHORIZATION: BuiltIn = BuiltIn {
    group: "authorization.k8s.io",
    ..REVIEW
};

pub(super) static KINDS: &[BuiltIn] = &[
    BuiltIn {
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        ..AUTHENTICATION
    },
    BuiltIn {
        kind: "TokenReview",
        plural: "tokenreviews",
        ..AUTHENTICATION
    },
    BuiltIn {
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        namespaced: true,
        check: validate::reviews::local_access_review,
        ..AUTHORIZATION
    },
    BuiltIn {
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        check: validate::reviews::self_access_review,
        ..AUTHORIZATION
    },
    BuiltIn {
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        ..AUTHORIZATION
    },
    BuiltIn {
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        check: validate::reviews::access_review,
        ..AUTHORIZATION
    },
];
