//! `kontiki explain`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::OutputArgs;
use super::object::kubeconfig;

#[derive(Subcommand)]
pub(crate) enum ExplainCommand {
    /// Show what the scheduler thinks of every node for a pod: the verdict of each filter, the value of each score.
    Pod(Box<ExplainPodArgs>),
}

/// What an explanation rests on.
const EXPLAIN_POD: &str = "The command reads the API and asks the scheduler's own functions, in its own process: the scheduler \
                           keeps no record of its decisions. For a pod that has a node the decision is made again over \
                           the state right before it was bound, as far back as the API server's history goes (`kontiki \
                           server --history-minutes`); where that is not known any more, or with --now, over the present \
                           state without the pod itself. For a pod that waits it is the present verdict. What the \
                           scheduler had decided about other pods and not yet written is in neither. All nodes are \
                           shown, also where the profile looks at a part of them only, and all filters, although the \
                           scheduler asks no further ones about a node that one has refused.\n\n\
                           The file of --what-if has objects, one in each document: the pod that is explained, if NAME \
                           names none that is there; Nodes, and whatever else scheduling depends on. They come \
                           in addition to those that are there, or in the place of those of the same name. The pod is \
                           explained as the server would store it, which a dry run of its creation tells; a Node gets \
                           what its agent would say of itself, where the file does not say it: its host name as label, \
                           its capacity as what can be allocated, room for 110 pods.";

#[derive(Args)]
#[command(after_help = EXPLAIN_POD)]
pub(crate) struct ExplainPodArgs {
    /// Name of the pod; may be left out where the file of --what-if has one that waits
    pub(crate) name: Option<String>,
    /// Its namespace [default: default]
    #[arg(long, short)]
    pub(crate) namespace: Option<String>,
    /// As if the objects of this file were there, YAML or JSON, `-` for standard input; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) what_if: Vec<PathBuf>,
    /// Over the present state also for a pod that has a node: where would it go today?
    #[arg(long)]
    pub(crate) now: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// The configuration that the servers have (`kontiki server --scheduler-config`) [default: none]
    #[arg(long, env = "KONTIKI_SCHEDULER_CONFIG", value_name = "FILE")]
    pub(crate) scheduler_config: Option<PathBuf>,
    /// How to reach the API server; its current context counts [default: ~/.kube/config]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl ExplainPodArgs {
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        kubeconfig(self.kubeconfig.as_ref())
    }

    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }
}
