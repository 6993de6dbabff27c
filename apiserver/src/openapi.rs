//! `/openapi/v2` and `/openapi/v3`, generated from the schema table once and kept.

use axum::response::Response;

use crate::context::Context;

#[derive(Default)]
pub(crate) struct Documents {}

pub(crate) fn respond(_context: &Context, _path: &str) -> Option<Response> {
    None
}
