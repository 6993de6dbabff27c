//! Who is asking, and may they?
//!
//! Authentication turns a client certificate ([`x509`]), a service account token ([`token`]), a token of somebody else
//! ([`jwt`]) or a static token ([`static_tokens`]) into a [`User`]; [`impersonation`] turns one user into another. Authorization
//! ([`policy`]) asks the node authorizer ([`node`]) and RBAC ([`rbac`]) in this order, as
//! `--authorization-mode=Node,RBAC` does. Two admission checks live here because they are about rights:
//! [`escalation`] (nobody grants what they do not hold) and [`node_restriction`] (a node writes only its own).
//!
//! Architecture invariant: no clock, no network and no store. Time comes in as seconds since 1970, objects
//! come in as values, and only [`token`] holds a secret.

pub mod aggregate;
pub mod bearer;
pub mod bootstrap_token;
pub mod escalation;
pub mod impersonation;
pub mod jwt;
pub mod node;
pub mod node_graph;
pub mod node_restriction;
pub mod policy;
pub mod rbac;
pub mod request;
pub mod rule;
pub mod static_tokens;
pub mod token;
pub mod user;
pub mod x509;

pub use policy::Policy;
pub use request::{Attributes, Decision, Forbidden};
pub use user::User;
