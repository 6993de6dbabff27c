//! The model from outside: laws over random histories, and the stories that clients of etcd rely on.

mod etcd;
mod laws;
