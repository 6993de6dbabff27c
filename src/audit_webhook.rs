//! The audit webhook's part of the command line.

use std::path::PathBuf;
use std::time::Duration;

use apiserver::AuditBatches;
use clap::Args;

/// Whom a server tells of requests, besides the log.
#[derive(Args, Clone)]
pub(crate) struct AuditWebhookArgs {
    /// Send the audit log's events, in batches, to the webhook that this kubeconfig names [default: none]
    #[arg(long, env = "KONTIKI_AUDIT_WEBHOOK_CONFIG_FILE", value_name = "FILE")]
    pub(crate) audit_webhook_config_file: Option<PathBuf>,
    /// So many events wait for the webhook; more are lost, and counted
    #[arg(
        long,
        env = "KONTIKI_AUDIT_WEBHOOK_BATCH_BUFFER_SIZE",
        value_name = "EVENTS",
        default_value_t = 10_000
    )]
    audit_webhook_batch_buffer_size: u32,
    /// So many events are sent at once
    #[arg(long, env = "KONTIKI_AUDIT_WEBHOOK_BATCH_MAX_SIZE", value_name = "EVENTS", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..))]
    audit_webhook_batch_max_size: u32,
    /// Fewer are sent after so many seconds
    #[arg(
        long,
        env = "KONTIKI_AUDIT_WEBHOOK_BATCH_MAX_WAIT_SECONDS",
        value_name = "SECONDS",
        default_value_t = 30
    )]
    audit_webhook_batch_max_wait_seconds: u64,
    /// So many batches are sent in a second; 0 for as many as there are
    #[arg(
        long,
        env = "KONTIKI_AUDIT_WEBHOOK_BATCH_THROTTLE_QPS",
        value_name = "BATCHES",
        default_value_t = 10
    )]
    audit_webhook_batch_throttle_qps: u32,
    /// So many batches may be sent at once after a pause
    #[arg(
        long,
        env = "KONTIKI_AUDIT_WEBHOOK_BATCH_THROTTLE_BURST",
        value_name = "BATCHES",
        default_value_t = 15
    )]
    audit_webhook_batch_throttle_burst: u32,
    /// A batch that was not taken is sent again after so many seconds, and then less and less often, four times in all
    #[arg(
        long,
        env = "KONTIKI_AUDIT_WEBHOOK_INITIAL_BACKOFF_SECONDS",
        value_name = "SECONDS",
        default_value_t = 10
    )]
    audit_webhook_initial_backoff_seconds: u64,
}

impl AuditWebhookArgs {
    pub(crate) fn batches(&self) -> AuditBatches {
        let burst = self.audit_webhook_batch_throttle_burst;
        AuditBatches {
            buffer_events: self.audit_webhook_batch_buffer_size as usize,
            batch_events: self.audit_webhook_batch_max_size as usize,
            batch_wait: Duration::from_secs(self.audit_webhook_batch_max_wait_seconds),
            throttle: match self.audit_webhook_batch_throttle_qps {
                0 => None,
                per_second => Some((f64::from(per_second), burst)),
            },
            initial_backoff: Duration::from_secs(self.audit_webhook_initial_backoff_seconds),
        }
    }
}
