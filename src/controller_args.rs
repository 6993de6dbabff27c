//! What can be chosen about the controllers of a server, and what they are told of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agents::{Cidr, ControllerOptions, NodeRanges, Signing, SigningPair};
use anyhow::{Result, anyhow};
use clap::{ArgAction, Args, ValueEnum};
use tracing::info;

use crate::pki::{self, Pair};

#[derive(Args, Clone)]
pub(crate) struct ControllerArgs {
    /// The authority that issues the certificates of approved CertificateSigningRequests [default: ca.crt in --pki-dir]
    #[arg(long, env = "KONTIKI_CLUSTER_SIGNING_CERT_FILE", value_name = "FILE")]
    cluster_signing_cert_file: Option<PathBuf>,
    /// Its key (PKCS #8); without one approved requests stay unsigned [default: ca.key in --pki-dir, where there is one]
    #[arg(long, env = "KONTIKI_CLUSTER_SIGNING_KEY_FILE", value_name = "FILE")]
    cluster_signing_key_file: Option<PathBuf>,
    /// Such certificates are valid for so many hours, or for less where less is asked for
    #[arg(long, value_name = "HOURS", env = "KONTIKI_CLUSTER_SIGNING_HOURS", default_value_t = 8760, value_parser = clap::value_parser!(u32).range(1..=876_000))]
    cluster_signing_hours: u32,
    /// Give each node a range of addresses for its pods (spec.podCIDR)
    #[arg(long, value_name = "BOOL", env = "KONTIKI_ALLOCATE_NODE_CIDRS", default_value_t = true, action = ArgAction::Set)]
    allocate_node_cidrs: bool,
    /// All these ranges: one, or one of IPv4 and one of IPv6, separated by a comma
    #[arg(
        long,
        value_name = "CIDR",
        env = "KONTIKI_CLUSTER_CIDR",
        value_delimiter = ',',
        default_value = "10.128.0.0/9"
    )]
    cluster_cidr: Vec<Cidr>,
    /// Size of a node's range of IPv4 addresses, as the leading bits that they have in common
    #[arg(
        long,
        value_name = "BITS",
        alias = "node-cidr-mask-size-ipv4",
        env = "KONTIKI_NODE_CIDR_MASK_SIZE",
        default_value_t = 24
    )]
    node_cidr_mask_size: u8,
    /// Size of a node's range of IPv6 addresses
    #[arg(
        long,
        value_name = "BITS",
        env = "KONTIKI_NODE_CIDR_MASK_SIZE_IPV6",
        default_value_t = 64
    )]
    node_cidr_mask_size_ipv6: u8,
    /// Who looks after Services of type LoadBalancer and nodes that wait for a cloud: `local` gives Services the addresses
    /// of nodes, where something (such as kube-proxy) has to serve them
    #[arg(
        long,
        value_name = "PROVIDER",
        env = "KONTIKI_CLOUD_PROVIDER",
        value_enum,
        default_value_t = CloudProvider::None
    )]
    cloud_provider: CloudProvider,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CloudProvider {
    /// Nobody here
    None,
    /// The cluster itself
    Local,
}

impl ControllerArgs {
    /// The files of the authority that signs.
    pub(crate) fn signing_files(&self, pki_dir: &Path) -> Pair {
        let or = |chosen: &Option<PathBuf>, name: &str| {
            chosen.clone().unwrap_or_else(|| pki_dir.join(name))
        };
        Pair {
            cert: or(&self.cluster_signing_cert_file, "ca.crt"),
            key: or(&self.cluster_signing_key_file, "ca.key"),
        }
    }

    /// The authority as its files say now; None where there is no key, unless one was asked for.
    pub(crate) fn signing_pair(&self, pki_dir: &Path) -> Result<Option<SigningPair>> {
        let files = self.signing_files(pki_dir);
        if self.cluster_signing_key_file.is_none() && !files.key.exists() {
            info!(key = %files.key.display(), "there is no key to sign with: approved certificate requests stay unsigned");
            return Ok(None);
        }
        let pair = SigningPair {
            certificate_pem: pki::read(&files.cert)?,
            key_pem: pki::read(&files.key)?,
        };
        Ok(Some(pair))
    }

    /// What the controllers are told.
    pub(crate) fn options(
        &self,
        signing: Signing,
        service_cidr: &str,
        api_advertise: &str,
    ) -> Result<ControllerOptions> {
        let sizes = (self.node_cidr_mask_size, self.node_cidr_mask_size_ipv6);
        let services = service_cidr.split(',').map(str::trim);
        let services = services.filter(|text| !text.is_empty()).map(str::parse);
        let services = services
            .collect::<Result<_, String>>()
            .map_err(|error| anyhow!("--service-cidr: {error}"))?;
        let ranges = NodeRanges::new(&self.cluster_cidr, sizes, services)
            .map_err(|error| anyhow!("--cluster-cidr: {error}"))?;
        Ok(ControllerOptions {
            signing,
            signing_duration: Duration::from_secs(3600 * u64::from(self.cluster_signing_hours)),
            node_ranges: self.allocate_node_cidrs.then_some(ranges),
            local_cloud: self.cloud_provider == CloudProvider::Local,
            api_url: format!("https://{api_advertise}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ControllerArgs,
    }

    fn parse(line: &[&str]) -> ControllerArgs {
        Line::parse_from(["x"].iter().chain(line)).args
    }

    fn options(line: &[&str]) -> Result<ControllerOptions> {
        parse(line).options(Signing::default(), "10.96.0.0/12", "h:6443")
    }

    #[test]
    fn nodes_get_ranges_unless_that_is_not_wished_and_contradictions_are_told() {
        let chosen = options(&[]).unwrap();
        assert_eq!(chosen.api_url, "https://h:6443");
        assert!(chosen.node_ranges.is_some() && !chosen.local_cloud);
        let off = options(&["--allocate-node-cidrs=false", "--cloud-provider=local"]).unwrap();
        assert!(off.node_ranges.is_none() && off.local_cloud);
        let two = options(&["--cluster-cidr", "10.0.0.0/16,fd00::/48"]).unwrap();
        assert_eq!(two.node_ranges.unwrap().ranges().len(), 2);
        for wrong in [
            ["--cluster-cidr", "10.0.0.0/25"],
            ["--cluster-cidr", "10.0.0.0/16,10.1.0.0/16"],
            ["--node-cidr-mask-size", "8"],
        ] {
            assert!(options(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_key_that_is_missing_is_an_error_only_where_it_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        assert!(parse(&[]).signing_pair(dir.path()).unwrap().is_none());
        let asked = parse(&["--cluster-signing-key-file", "/nowhere/key"]);
        assert!(asked.signing_pair(dir.path()).is_err());
        pki::Authority::open_or_create(dir.path(), "ca", "ca").unwrap();
        assert!(parse(&[]).signing_pair(dir.path()).unwrap().is_some());
    }
}
