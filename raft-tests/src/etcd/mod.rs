//! A client of etcd's API that says exactly what became of each call, in the words of a recording. The clients of real
//! processes and of simulated ones are this one.

pub mod client;
pub mod message;
pub mod outcome;
pub mod turns;
pub mod watches;
