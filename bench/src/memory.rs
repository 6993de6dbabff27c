//! Resident memory of one idle server. Kontiki's is the whole control plane, API, scheduler and controllers included;
//! etcd's is the store alone, to which Kubernetes adds three more programs.

use std::time::Duration;

use anyhow::Result;

use crate::cluster::{Cluster, System};
use crate::{Setting, median, say};

/// Until what a start needed has been given back.
const IDLE: Duration = Duration::from_secs(20);

pub(crate) async fn run(setting: &Setting) -> Result<()> {
    for system in [System::Kontiki, System::Etcd] {
        setting.progress(&format!(
            "memory: {} is left idle for {} s",
            system.name(),
            IDLE.as_secs()
        ));
        let cluster = Cluster::start(setting, system, true).await?;
        tokio::time::sleep(IDLE).await;
        let sizes: Vec<f64> = (0..3)
            .map(|index| cluster.resident_bytes(index) as f64 / 1e6)
            .collect();
        let what = match system {
            System::Kontiki => "store, API, scheduler, controllers",
            System::Etcd => "store alone",
        };
        say(&format!(
            "idle memory of one server, {:<8} {:6.1} MB ({what}; median of three members)",
            system.name(),
            median(&sizes)
        ));
    }
    Ok(())
}
