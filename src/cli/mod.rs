//! The command line. Each flag is one field here; its environment variable and its line in `--help` follow from it.

mod access;
mod audit;
mod explain;
mod local;
mod node;
mod object;
mod server;
mod store;
mod text;

pub(crate) use access::AccessArgs;
pub(crate) use audit::AuditArgs;
pub(crate) use explain::{ExplainCommand, ExplainPodArgs};
pub(crate) use local::{HomeArgs, PkiArgs, UpArgs, WishArgs};
pub(crate) use node::{AgentArgs, NodeArgs};
pub(crate) use object::{DiffArgs, ObjectArgs, PastArgs, ReencryptArgs, UndoArgs, When};
pub(crate) use server::{InitialMember, ServerArgs};
pub(crate) use store::*;
pub(crate) use text::{host_name, name};

use clap::{Parser, Subcommand};

use crate::hollow::HollowArgs;

#[derive(Parser)]
#[command(
    name = "kontiki",
    version,
    about = "A Kubernetes-compatible control plane in one binary, with no etcd."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make and start a cluster on this machine, or start what is missing of it, and say how to use it.
    Up(Box<UpArgs>),
    /// Stop the cluster on this machine. Its data and its containers are kept.
    Down(HomeArgs),
    /// Stop the cluster on this machine, remove its containers and wipe its data.
    Reset(HomeArgs),
    /// Show whether each process of the cluster on this machine runs and is ready; fails where one is not.
    Status(HomeArgs),
    /// Run one member of the control plane: store, API server, scheduler and controllers.
    Server(Box<ServerArgs>),
    /// Run the node agent: it starts this machine's pods.
    Agent(Box<AgentArgs>),
    /// Run hollow nodes: thousands of simulated ones in one process, against any cluster.
    Hollow(Box<HollowArgs>),
    /// Make the certificates of a cluster on several machines.
    Pki(PkiArgs),
    /// Look at the store, back it up, and change its members.
    Store(StoreArgs),
    /// Write objects again that are stored in clear, or encrypted with an earlier key than the first.
    Reencrypt(ReencryptArgs),
    /// Show the versions of an object that are still known, newest first, and what each has changed.
    History(PastArgs),
    /// Show what differs between two versions of an object.
    Diff(DiffArgs),
    /// Make an object again what it was; one that was deleted is made anew.
    Undo(UndoArgs),
    /// Show why something is as it is.
    #[command(subcommand)]
    Explain(ExplainCommand),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_says_what_it_is() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let (name, id) = (command.get_name(), argument.get_id());
                assert!(argument.get_help().is_some(), "{name} {id}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
