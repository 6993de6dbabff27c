//! The audit log.

use std::path::PathBuf;

use clap::Args;

/// The audit log of a server.
#[derive(Args, Clone)]
pub(crate) struct AuditArgs {
    /// Write the audit log to this file, a line of JSON an event [default: none is written]
    #[arg(long, env = "KONTIKI_AUDIT_LOG_PATH", value_name = "FILE")]
    pub(crate) audit_log_path: Option<PathBuf>,
    /// What is told of which requests: a Policy (audit.k8s.io/v1) [default: the metadata of writes and of access to
    /// secrets]
    #[arg(long, env = "KONTIKI_AUDIT_POLICY_FILE", value_name = "FILE")]
    pub(crate) audit_policy_file: Option<PathBuf>,
    /// The file is put aside when it has so many megabytes
    #[arg(long, env = "KONTIKI_AUDIT_LOG_MAXSIZE", value_name = "MB", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) audit_log_maxsize: u64,
    /// So many files that were put aside are kept; 0 for all
    #[arg(
        long,
        env = "KONTIKI_AUDIT_LOG_MAXBACKUP",
        value_name = "FILES",
        default_value_t = 10
    )]
    pub(crate) audit_log_maxbackup: usize,
    /// Files that were put aside are kept for so many days; 0 for ever
    #[arg(
        long,
        env = "KONTIKI_AUDIT_LOG_MAXAGE",
        value_name = "DAYS",
        default_value_t = 30
    )]
    pub(crate) audit_log_maxage: u64,
    #[command(flatten)]
    pub(crate) webhook: crate::audit_webhook::AuditWebhookArgs,
}
