//! `kontiki store`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use time::OffsetDateTime;

use super::text::{hex, moment, name};
use super::{HomeArgs, InitialMember, WishArgs};
use crate::local::Home;

/// Where the store is: the cluster in the home unless endpoints are given.
#[derive(Args)]
#[command(next_help_heading = "Which store, and who asks")]
pub(crate) struct StoreArgs {
    /// Directory of the cluster [default: ~/.kontiki]
    #[arg(long, env = "KONTIKI_HOME", value_name = "DIR", global = true)]
    home: Option<PathBuf>,
    /// Ports for etcd clients, https://HOST:PORT, separated by commas [default: those of the cluster in the home]
    #[arg(long, value_delimiter = ',', value_name = "URL", global = true)]
    pub(crate) endpoints: Vec<String>,
    /// Authority of the members' certificates [default: pki/ca.crt in the home]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) cacert: Option<PathBuf>,
    /// The store's client certificate [default: pki/store-admin.crt in the home]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) cert: Option<PathBuf>,
    /// Key of that certificate [default: pki/store-admin.key in the home]
    #[arg(id = "client_key", long = "key", value_name = "FILE", global = true)]
    pub(crate) key: Option<PathBuf>,
    /// A user of the store, NAME or NAME:PASSWORD, where the store asks for one
    #[arg(long, value_name = "USER", global = true)]
    pub(crate) user: Option<String>,
    /// File with the user's password on its first line
    #[arg(long, value_name = "FILE", requires = "user", global = true)]
    pub(crate) password_file: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

impl StoreArgs {
    pub(crate) fn home(&self) -> Home {
        let home = self.home.clone();
        HomeArgs { home }.home()
    }

    /// Whether one was named.
    pub(crate) fn has_home(&self) -> bool {
        self.home.is_some()
    }
}

#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Show each member: role, revision, lag behind the leader, size, alarms and health. Works without a quorum.
    #[command(after_help = STATUS)]
    Status(OutputArgs),
    /// Read keys, as they are now or as they were at a revision.
    Get(GetArgs),
    /// Show all that is retained of a key: each revision since the last compaction.
    History(HistoryArgs),
    /// Back the store up while it runs.
    Snapshot(SnapshotArgs),
    /// Make a saved copy out of what `etcdctl snapshot save` got from an etcd; `restore` makes a cluster of it.
    Import(ImportArgs),
    /// Copy what a running etcd has, and go on with every change of it, until it is stopped.
    Mirror(Box<MirrorArgs>),
    /// Make a new cluster out of a saved copy: a home that `kontiki up` starts or, with --data-dir, one member's data.
    Restore(Box<RestoreArgs>),
    /// After a lost quorum: make the survivor with the longest log the only member of a new cluster.
    Recover(RecoverArgs),
    /// Put a new member in the place of a dead one of a cluster on this machine.
    Replace(ReplaceArgs),
    /// List, add, replace, promote and remove members.
    Member(MemberArgs),
    /// Let another member lead.
    MoveLeader {
        /// Name or id of a member that votes
        member: String,
    },
}

#[derive(Args)]
pub(crate) struct OutputArgs {
    /// `table`, or `json` for programs
    #[arg(long, short, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    output: String,
}

impl OutputArgs {
    pub(crate) fn json(&self) -> bool {
        self.output == "json"
    }
}

/// Which keys are shown, and how: of all commands that show some.
#[derive(Args)]
pub(crate) struct KeyArgs {
    /// The key; the API's objects are under /registry/
    pub(crate) key: String,
    /// All keys that begin so
    #[arg(long)]
    pub(crate) prefix: bool,
    /// Show whole values of several keys or revisions, not only how they begin
    #[arg(long)]
    pub(crate) values: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// As of this revision, which must not have been compacted [default: now]
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) rev: i64,
    /// As of this time (2026-11-25T20:19:10Z), which must not be yet to come, or so long ago (90s, 10m, 2h, 1d)
    #[arg(long, value_parser = moment, conflicts_with = "rev", value_name = "TIME")]
    pub(crate) at: Option<OffsetDateTime>,
    /// At most so many keys [default: all]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub(crate) limit: usize,
}

/// What else there is to know of the output.
const STATUS: &str = "REVISION, COMPACTED and SIZE are of what the member has applied (APPLIED): after a start that may be \
                      less than its log has (INDEX), until there is a leader. SIZE is what the state takes on the disk \
                      and in memory that is not flushed yet, without the log.";
/// The same.
const HISTORY: &str = "TIME is by the clock of the member that took the write. It is `-` for what was made before history \
                       begins, at the last compaction (a restore or an import, too, is one): of that it is only known \
                       what the keys were.";

#[derive(Args)]
#[command(after_help = HISTORY)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// Only the newest so many revisions; 0 is all of them, which have to fit into memory [default: 1000]
    #[arg(long, default_value_t = 1000, hide_default_value = true)]
    pub(crate) limit: usize,
}

/// Where an etcd is, and how one proves oneself to it.
#[derive(Args)]
pub(crate) struct FromArgs {
    /// The etcd's client URLs, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "URL", required = true)]
    pub(crate) from: Vec<String>,
    /// Authority of the etcd's certificates
    #[arg(long, value_name = "FILE")]
    pub(crate) from_cacert: Option<PathBuf>,
    /// A client certificate for the etcd
    #[arg(long, value_name = "FILE", requires = "from_key")]
    pub(crate) from_cert: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "from_cert")]
    pub(crate) from_key: Option<PathBuf>,
    /// A user of the etcd, NAME or NAME:PASSWORD; to read is enough
    #[arg(long, value_name = "USER")]
    pub(crate) from_user: Option<String>,
    /// File with that user's password on its first line
    #[arg(long, value_name = "FILE", requires = "from_user")]
    pub(crate) from_password_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct MirrorArgs {
    #[command(flatten)]
    pub(crate) from: FromArgs,
    /// Only keys that begin so [default: all]
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// What stands here in the place of --prefix [default: the same]
    #[arg(long, value_name = "PREFIX")]
    pub(crate) dest_prefix: Option<String>,
    /// Name of the mirror, by which it finds out how far an earlier run has got
    #[arg(long, default_value = "mirror", value_parser = name)]
    pub(crate) name: String,
    /// Delete what is here under --dest-prefix and not in the etcd, and overwrite what differs
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Compare all keys again, whatever an earlier run has left
    #[arg(long)]
    pub(crate) restart: bool,
    /// For the cut-over: end once this store has all that the etcd has
    #[arg(long)]
    pub(crate) until_synced: bool,
}

#[derive(Args)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    pub(crate) command: SnapshotCommand,
}

#[derive(Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save a consistent copy of the store in a file, while it runs, and verify it.
    Save {
        /// The file, which must not exist
        file: PathBuf,
    },
    /// Verify a saved copy and say what is in it.
    Status {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The etcd's snapshot
    pub(crate) file: PathBuf,
    /// The copy to make, which must not exist
    #[arg(long, value_name = "ARCHIVE")]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// The saved copy
    pub(crate) file: PathBuf,
    /// How far the revision is moved forward, so that no watch goes on from one that was never reached
    #[arg(long, value_name = "REVISIONS", default_value_t = store::backup::BUMP_REVISION, value_parser = clap::value_parser!(i64).range(1..=store::backup::BUMP_REVISION_MAX))]
    pub(crate) bump_revision: i64,
    #[command(flatten, next_help_heading = "The new home")]
    pub(crate) wishes: WishArgs,
    #[command(
        flatten,
        next_help_heading = "One member of a cluster on several machines, instead of a home"
    )]
    pub(crate) one: OneMemberArgs,
}

/// As in that member's `server.env`.
#[derive(Args)]
pub(crate) struct OneMemberArgs {
    /// Directory of the member's data, which must not exist or be empty
    #[arg(long, env = "KONTIKI_DATA_DIR", value_name = "DIR", requires_all = ["member_id", "cluster_id", "initial_members"])]
    pub(crate) data_dir: Option<PathBuf>,
    /// Id of this member, hexadecimal
    #[arg(long, value_name = "ID", env = "KONTIKI_MEMBER_ID", value_parser = hex)]
    pub(crate) member_id: Option<u64>,
    /// Id of the new cluster, hexadecimal
    #[arg(long, value_name = "ID", env = "KONTIKI_CLUSTER_ID", value_parser = hex)]
    pub(crate) cluster_id: Option<u64>,
    /// All members of the new cluster: NAME=ID@HOST:PORT (peer address), separated by commas
    #[arg(
        long,
        value_name = "MEMBERS",
        env = "KONTIKI_INITIAL_MEMBERS",
        value_delimiter = ','
    )]
    pub(crate) initial_members: Vec<InitialMember>,
}

#[derive(Args)]
pub(crate) struct RecoverArgs {
    /// Data directories of survivors, separated by commas [default: those of the cluster in the home]
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    pub(crate) data_dir: Vec<PathBuf>,
    /// Only show where the log of each survivor ends
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Also where these are a quorum, which could go on without losing anything
    #[arg(long)]
    pub(crate) force: bool,
    /// How far the revision is moved forward, so that no watch goes on from one that was lost
    #[arg(long, value_name = "REVISIONS", default_value_t = store::backup::BUMP_REVISION, value_parser = clap::value_parser!(i64).range(1..=store::backup::BUMP_REVISION_MAX))]
    pub(crate) bump_revision: i64,
}

#[derive(Args)]
pub(crate) struct ReplaceArgs {
    /// Name of the dead member
    pub(crate) member: String,
}

#[derive(Args)]
pub(crate) struct MemberArgs {
    #[command(subcommand)]
    pub(crate) command: MemberCommand,
}

#[derive(Subcommand)]
pub(crate) enum MemberCommand {
    /// Show the members.
    List(OutputArgs),
    /// Add a member on another machine: say how it is started, wait until it has caught up, and let it vote.
    Add(MemberAddArgs),
    /// Put a new member on any machine in the place of a dead one: the same, after the dead one is removed.
    Replace(MemberAddArgs),
    /// Let a learner vote that has caught up.
    Promote {
        /// Its name or id
        member: String,
    },
    /// Remove a member for good; one of the cluster in the home with its process and its data.
    Remove {
        /// Its name or id
        member: String,
    },
}

#[derive(Args)]
pub(crate) struct MemberAddArgs {
    /// Name of the member
    #[arg(value_parser = name)]
    pub(crate) name: String,
    /// Where the other members will reach it
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) peer: String,
    /// Do not wait for it: promote it later
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use clap::{CommandFactory, Parser};

    /// A global flag of the same name as an argument below it is found only when the command runs.
    #[test]
    fn the_commands_of_the_store_are_read() {
        let lines = [
            "get /a --prefix --rev 5 --key k",
            "history /a --limit 3 -o json",
            "status --home h",
            "get /a --user root:pw",
            "snapshot save f",
            "snapshot status f -o json",
            "restore f --home h --members 3 --bump-revision 7",
            "restore f --data-dir d --member-id a --cluster-id b --initial-members m1=a@h:1",
            "recover --data-dir a,b --dry-run",
            "mirror --from http://h:2379 --prefix /a --until-synced",
            "mirror --from https://h:2379 --from-cert c --from-key k --key k --user u --password-file p",
            "replace m2",
            "move-leader m2",
            "member list",
            "member add b --peer h:1 --no-wait",
            "member replace b --peer h:1",
            "member promote b",
            "member remove b",
        ];
        for line in lines {
            let words = ["kontiki", "store"].into_iter().chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
        let words = "kontiki store restore f --data-dir d".split(' ');
        assert!(Cli::try_parse_from(words).is_err(), "whose data?");
    }

    #[test]
    fn help_of_the_store_tells_its_own_options_from_those_of_all() {
        let mut cli = Cli::command();
        cli.build();
        let store = cli.find_subcommand("store").unwrap();
        for path in [&["get"][..], &["mirror"], &["member", "add"], &["restore"]] {
            let command = path
                .iter()
                .try_fold(store, |command, name| command.find_subcommand(name));
            let help = command.unwrap().clone().render_help().to_string();
            let (own, of_all) = help.split_once("Which store, and who asks:").unwrap();
            for flag in ["--home", "--endpoints", "--cacert", "--key", "--user"] {
                let line = format!("      {flag} <");
                assert!(of_all.contains(&line) && !own.contains(&line), "{help}");
            }
            let own_flag = ["--rev", "--from", "--peer", "--bump-revision"];
            assert!(own_flag.iter().any(|flag| own.contains(flag)), "{help}");
        }
    }
}
