//! Objects of the API: their past, and writing them again.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use super::text;

pub(super) fn kubeconfig(given: Option<&PathBuf>) -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    given
        .cloned()
        .unwrap_or_else(|| home().join(".kube/config"))
}

/// What else there is to know.
const REENCRYPT: &str = "Objects that are stored with the first key already are left as they are. It may be stopped and \
                         run again at any time.";

#[derive(Args)]
#[command(after_help = REENCRYPT)]
pub(crate) struct ReencryptArgs {
    /// Of which resources, as for kubectl: `secrets`, `deployments.apps`
    #[arg(default_value = "secrets", value_name = "RESOURCE")]
    pub(crate) resources: Vec<String>,
    /// How to reach the API server; its current context counts [default: ~/.kube/config]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl ReencryptArgs {
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        kubeconfig(self.kubeconfig.as_ref())
    }
}

/// How far back it goes.
const PAST: &str = "The API server keeps the history of the last five to ten minutes, or as long as it was told to \
                    (`kontiki server --history-minutes`). A version is named by a revision, which `kubectl get` shows as an \
                    object's resourceVersion, by a time (2026-11-25T20:19:10Z), or by how long ago it was (90s, 10m, 2h, 1d).";

/// Which version of an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum When {
    Revision(u64),
    Time(OffsetDateTime),
}

impl When {
    fn parse(text: &str) -> Result<When, String> {
        match text.parse() {
            Ok(revision) => Ok(When::Revision(revision)),
            Err(_) => text::moment(text)
                .map(When::Time)
                .map_err(|error| format!("{error}, nor a revision")),
        }
    }

    /// As the `resourceVersion` of a request. A time is in UTC, so that it needs no escapes in a query.
    pub(crate) fn version(&self) -> String {
        match self {
            When::Revision(revision) => revision.to_string(),
            When::Time(time) => {
                let time = time.to_offset(UtcOffset::UTC).format(&Rfc3339);
                time.unwrap_or_default()
            }
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::Revision(revision) => write!(f, "revision {revision}"),
            When::Time(_) => f.write_str(&self.version()),
        }
    }
}

/// An object of the API, and how to come to it.
#[derive(Args)]
pub(crate) struct ObjectArgs {
    /// KIND NAME, or KIND/NAME; kinds as for kubectl: `deploy web`, `deployments.apps/web`
    #[arg(required = true, num_args = 1..=2, value_name = "OBJECT")]
    pub(crate) object: Vec<String>,
    /// Its namespace
    #[arg(long, short, default_value = "default")]
    pub(crate) namespace: String,
    /// How to reach the API server; its current context counts [default: ~/.kube/config]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl ObjectArgs {
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        kubeconfig(self.kubeconfig.as_ref())
    }

    pub(crate) fn kind_and_name(&self) -> anyhow::Result<(String, String)> {
        let words: Vec<&str> = match self.object.as_slice() {
            [one] => one.splitn(2, '/').collect(),
            more => more.iter().map(String::as_str).collect(),
        };
        match words.as_slice() {
            [kind, name] if !kind.is_empty() && !name.is_empty() => {
                Ok(((*kind).to_owned(), (*name).to_owned()))
            }
            _ => anyhow::bail!("which object? Say KIND NAME or KIND/NAME, such as `deploy web`"),
        }
    }
}

#[derive(Args)]
#[command(after_help = PAST)]
pub(crate) struct PastArgs {
    #[command(flatten)]
    pub(crate) object: ObjectArgs,
    /// Begin with the version of then; for an object that was deleted [default: the newest]
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub(crate) at: Option<When>,
    /// Only the newest so many versions [default: all]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub(crate) limit: usize,
}

#[derive(Args)]
#[command(after_help = PAST)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) object: ObjectArgs,
    /// The earlier version [default: the one before the later]
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub(crate) from: Option<When>,
    /// The later version [default: the newest]
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub(crate) to: Option<When>,
}

#[derive(Args)]
#[command(after_help = PAST)]
pub(crate) struct UndoArgs {
    #[command(flatten)]
    pub(crate) object: ObjectArgs,
    /// The version that it shall be again [default: the one before the last change of it, changes of its status aside]
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub(crate) to: Option<When>,
    /// Only show what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_by_a_revision_or_a_time() {
        assert_eq!(When::parse("4711"), Ok(When::Revision(4_711)));
        let time = When::parse("2026-11-25T20:19:10.5+01:00").unwrap();
        assert_eq!(time.version(), "2026-11-25T19:19:10.5Z");
        assert_eq!(time.to_string(), time.version());
        assert!(matches!(When::parse("10m"), Ok(When::Time(_))));
        for bad in ["", "-1", "soon"] {
            let error = When::parse(bad).unwrap_err();
            assert!(error.ends_with("nor a revision"), "{error}");
        }
    }
}
