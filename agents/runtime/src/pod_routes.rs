//! What the controller of routes and the agents of nodes say to each other. The controller keeps a table, a ConfigMap, of which
//! pods are behind which node; an agent has its machine route by it, and says in an annotation of its Node whether that is so.
//!
//! Only nodes with the annotation are in the table: a node without it is one of which nothing is known, and nothing is said.

use crate::cidr::Cidr;
use std::fmt::Write;
use std::net::IpAddr;

/// Set by the agent of a node: see [`Report`].
pub const REPORT: &str = "kontiki.io/pod-routes";
/// Where the table is.
pub const NAMESPACE: &str = "kube-system";
/// Its name. The keys are names of nodes, the values as [`text`] has them.
pub const TABLE: &str = "kontiki-pod-routes";
/// Role and RoleBinding by which agents may read it.
pub const ROLE: &str = "kontiki:pod-routes";

/// What an agent says of its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It wants to take part, and has not seen the table with itself in it.
    Pending,
    /// The machine routes as the table says.
    Programmed,
    /// It does not, and why.
    Failed(String),
}

/// An error is told up to this many bytes.
const FAILURE_BYTES_MAX: usize = 512;

impl Report {
    /// The annotation.
    pub fn tell(&self) -> String {
        match self {
            Self::Pending => "pending".into(),
            Self::Programmed => "programmed".into(),
            Self::Failed(why) => {
                let mut end = why.len().min(FAILURE_BYTES_MAX);
                while !why.is_char_boundary(end) {
                    end -= 1;
                }
                format!("failed: {}", &why[..end])
            }
        }
    }

    /// What an annotation says; of one that says something else nothing is known yet.
    pub fn of(annotation: &str) -> Self {
        match (annotation, annotation.strip_prefix("failed: ")) {
            ("programmed", _) => Self::Programmed,
            (_, Some(why)) => Self::Failed(why.to_owned()),
            _ => Self::Pending,
        }
    }
}

/// Packets for these addresses go to that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The addresses of a node's pods.
    pub range: Cidr,
    /// The node.
    pub via: IpAddr,
}

/// The routes to a node as the table has them, such as `10.128.1.0/24=10.0.0.1,fd00:1::/64=fd01::1`.
pub fn text(routes: &[Route]) -> String {
    let mut text = String::new();
    for Route { range, via } in routes {
        let comma = if text.is_empty() { "" } else { "," };
        // To write into a text does not fail.
        let _ = write!(text, "{comma}{range}={via}");
    }
    text
}

/// The same, read. What is no route, or leads from one family of addresses to the other, is left out.
pub fn read(text: &str) -> Vec<Route> {
    let route = |text: &str| {
        let (range, via) = text.split_once('=')?;
        let (range, via): (Cidr, IpAddr) = (range.parse().ok()?, via.parse().ok()?);
        (range.is_v6() == via.is_ipv6()).then_some(Route { range, via })
    };
    text.split(',').filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_they_are_written() {
        let written = "10.128.1.0/24=10.0.0.1,fd00:1::/64=fd01::1";
        let routes = read(written);
        assert_eq!(routes.len(), 2);
        assert_eq!(text(&routes), written);
        assert_eq!(text(&[]), "");
        for nonsense in ["", "x", "10.0.0.0/8", "10.0.0.0/8=x", "10.0.0.0/8=fd01::1"] {
            assert!(read(nonsense).is_empty(), "{nonsense}");
        }
    }

    #[test]
    fn a_report_is_read_as_it_is_told_and_a_long_one_is_cut() {
        let failed = Report::Failed("no route to host".into());
        for report in [Report::Pending, Report::Programmed, failed] {
            assert_eq!(Report::of(&report.tell()), report);
        }
        assert_eq!(Report::of("something else"), Report::Pending);
        let long = Report::Failed("ü".repeat(1000)).tell();
        assert!(long.len() <= FAILURE_BYTES_MAX + "failed: ".len());
    }
}
