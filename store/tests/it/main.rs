//! The store from outside: openraft's own suite on the storage, the storage against the in-memory model, clusters over
//! real TLS on loopback, and damaged data.

mod big_ranges;
mod clients;
mod cluster;
mod damage;
mod etcd_auth;
mod etcd_front;
mod etcdctl;
mod from_etcd;
mod guards;
mod harness;
mod history;
mod kube_apiserver;
mod lease;
mod lives;
mod log_writer;
mod membership;
mod mirror;
mod peers;
mod rocks_equals_mem;
mod suite;
