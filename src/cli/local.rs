//! A cluster on this machine, and the certificates of one on several.

use std::path::PathBuf;

use clap::Args;

use super::text::{hex, name};
use crate::authorities::{self, Rotation};
use crate::hollow::UpHollow;
use crate::local::{Home, Wishes};
use crate::pki::Renew;
use crate::up;

#[derive(Args, Clone)]
pub(crate) struct HomeArgs {
    /// Directory of the cluster [default: ~/.kontiki]
    #[arg(long, env = "KONTIKI_HOME", value_name = "DIR")]
    pub(super) home: Option<PathBuf>,
}

impl HomeArgs {
    pub(crate) fn home(&self) -> Home {
        let home = self.home.clone().unwrap_or_else(up::default_home);
        // The processes' command lines and what is printed must hold in any working directory.
        Home(std::path::absolute(&home).unwrap_or(home))
    }
}

/// What is not given stays as the cluster has it; for a new cluster the defaults hold.
#[derive(Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    #[command(flatten)]
    pub(crate) wishes: WishArgs,
    #[command(flatten)]
    pub(crate) rotation: RotationArgs,
    #[command(flatten)]
    pub(crate) hollow: UpHollow,
}

/// New certificates, and new authorities.
#[derive(Args)]
pub(crate) struct RotationArgs {
    /// Issue all certificates anew, whatever life they have left; what runs takes them without a restart
    #[arg(long)]
    renew: bool,
    /// A step to new authorities, when all machines have the files of the last one
    #[arg(long, value_name = "STEP", value_enum)]
    authorities: Option<authorities::Step>,
}

impl RotationArgs {
    pub(crate) fn wanted(&self) -> Rotation {
        Rotation {
            renew: Renew::all_if(self.renew),
            step: self.authorities,
        }
    }
}

/// What a cluster on this machine is to be like.
#[derive(Args)]
pub(crate) struct WishArgs {
    /// Members of the control plane: 1 for a laptop, 3 to survive the loss of one, 5 of two [default: 1]
    #[arg(long, value_name = "COUNT", env = "KONTIKI_MEMBERS", value_parser = members)]
    members: Option<usize>,
    /// What runs the containers: `docker`, or `hollow` to simulate them [default: docker]
    #[arg(long, env = "KONTIKI_RUNTIME", value_parser = ["docker", "hollow"])]
    runtime: Option<String>,
    /// API port of the first member; the others take the next ones [default: 6443]
    #[arg(long, value_name = "PORT", env = "KONTIKI_API_PORT")]
    api_port: Option<u16>,
    /// Peer port of the first member; the others take the next ones [default: 6480]
    #[arg(long, value_name = "PORT", env = "KONTIKI_PEER_PORT")]
    peer_port: Option<u16>,
    /// Port for etcd clients of the first member, on loopback; the others take the next ones [default: 6490]
    #[arg(long, value_name = "PORT", env = "KONTIKI_ETCD_PORT")]
    etcd_port: Option<u16>,
    /// HTTPS port of the node agent [default: 10250]
    #[arg(long, value_name = "PORT", env = "KONTIKI_NODE_PORT")]
    node_port: Option<u16>,
    /// Name of the node [default: the host name]
    #[arg(long, value_name = "NAME", env = "KONTIKI_NODE_NAME", value_parser = name)]
    node_name: Option<String>,
}

impl WishArgs {
    pub(crate) fn wishes(&self) -> Wishes {
        Wishes {
            members: self.members,
            runtime: self.runtime.clone(),
            api_port: self.api_port,
            peer_port: self.peer_port,
            etcd_port: self.etcd_port,
            node_port: self.node_port,
            node_name: self.node_name.clone(),
            ..Wishes::default()
        }
    }
}

fn members(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ (1 | 3 | 5)) => Ok(count),
        _ => Err(
            "1, 3 or 5: an even number survives no more failures than the odd one below it".into(),
        ),
    }
}

#[derive(Args)]
pub(crate) struct PkiArgs {
    /// Directory that keeps the authorities; only `pki` needs it afterwards
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Members of the control plane: NAME=HOST, separated by commas
    #[arg(long, value_name = "NAME=HOST", value_delimiter = ',')]
    pub(crate) members: Vec<String>,
    /// Machines that run pods: NAME=HOST, separated by commas
    #[arg(long, value_name = "NAME=HOST", value_delimiter = ',')]
    pub(crate) nodes: Vec<String>,
    #[command(flatten)]
    pub(crate) rotation: RotationArgs,
    /// A member that was added to the store, or that takes the place of the one of its name: NAME=HOST
    #[arg(long, value_name = "NAME=HOST", requires = "member_id")]
    pub(crate) add_member: Option<String>,
    /// The id that the store gave to it, hexadecimal
    #[arg(long, value_name = "ID", value_parser = hex, requires = "add_member")]
    pub(crate) member_id: Option<u64>,
    /// A member that was removed from the store
    #[arg(long, value_name = "NAME", conflicts_with = "add_member")]
    pub(crate) remove_member: Option<String>,
    /// The member that `kontiki store recover` has made the only one
    #[arg(long, value_name = "NAME", requires = "cluster_id", conflicts_with_all = ["add_member", "remove_member"])]
    pub(crate) recovered: Option<String>,
    /// The id of the cluster that it made, hexadecimal
    #[arg(long, value_name = "ID", value_parser = hex, requires = "recovered")]
    pub(crate) cluster_id: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_number_of_members_is_refused() {
        assert_eq!(members("3"), Ok(3));
        assert!(members("2").unwrap_err().contains("1, 3 or 5"));
    }
}
