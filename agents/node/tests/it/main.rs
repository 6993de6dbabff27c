//! The whole agent against a small stand-in for the API: simulated containers always, Docker where a daemon answers.

mod api;
mod docker;
mod hollow;
mod kubelet;
mod lifecycle;
mod outage;
mod security;
mod streams;
