//! The behaviours that Kubernetes' conformance suite asks of an API server alone; `docs/conformance.md` says which test
//! stands for which.

mod lifecycle;
mod objects;
mod policies;
mod quotas;
