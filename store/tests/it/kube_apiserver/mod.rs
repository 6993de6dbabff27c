//! What kube-apiserver (1.36) and kubeadm ask of etcd, call by call and with exactly their options, over TLS against
//! real members. `calls.rs` has a test for each purpose, `soak.rs` all of them at once.

mod calls;
mod soak;
mod wire;
