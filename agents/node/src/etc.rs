//! The files under `/etc` that the node gives to every container: hosts and resolv.conf, and the pod's hostname.
//!
//! Pure texts; the worker writes them.

use std::collections::BTreeMap;

use crate::spec::Pod;

const HOSTNAME_BYTES_MAX: usize = 63;
const NAMESERVERS_MAX: usize = 3;

/// Name of the pod inside itself.
pub(crate) fn hostname(pod: &Pod, cluster_domain: &str) -> String {
    let name = match pod.spec.hostname.as_str() {
        "" => &pod.metadata.name,
        name => name,
    };
    let cut = &name[..name.len().min(HOSTNAME_BYTES_MAX)];
    let short = cut.trim_end_matches(['-', '.']).to_owned();
    match fqdn(pod, &short, cluster_domain) {
        Some(full) if pod.spec.set_hostname_as_fqdn => full,
        _ => short,
    }
}

fn fqdn(pod: &Pod, hostname: &str, cluster_domain: &str) -> Option<String> {
    let subdomain = pod.spec.subdomain.as_str();
    (!subdomain.is_empty()).then(|| {
        format!(
            "{hostname}.{subdomain}.{}.svc.{cluster_domain}",
            pod.metadata.namespace
        )
    })
}

/// `/etc/hosts` of the pod; `node_hosts` is the node's own file, for pods in the node's network.
pub(crate) fn hosts(pod: &Pod, ip: &str, cluster_domain: &str, node_hosts: &str) -> String {
    let mut text = String::new();
    if pod.spec.host_network {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(node_hosts);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    } else {
        text.push_str(
            "# Kubernetes-managed hosts file.\n\
             127.0.0.1\tlocalhost\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\n\
             fe00::0\tip6-mcastprefix\n\
             fe00::1\tip6-allnodes\n\
             fe00::2\tip6-allrouters\n",
        );
        let short = hostname(
            &Pod {
                spec: crate::spec::PodSpec {
                    set_hostname_as_fqdn: false,
                    ..pod.spec.clone()
                },
                ..pod.clone()
            },
            cluster_domain,
        );
        match fqdn(pod, &short, cluster_domain) {
            Some(full) => text.push_str(&format!("{ip}\t{full}\t{short}\n")),
            None => text.push_str(&format!("{ip}\t{short}\n")),
        }
    }
    if !pod.spec.host_aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in &pod.spec.host_aliases {
            text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")));
        }
    }
    text
}

/// `/etc/resolv.conf` of the pod from its policy, the cluster's resolvers and the node's own file.
pub(crate) fn resolv_conf(
    pod: &Pod,
    cluster_domain: &str,
    cluster_dns: &[String],
    node_file: &str,
) -> String {
    let policy = pod.spec.dns_policy.as_str();
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" | "" => !pod.spec.host_network,
        _ => false,
    };
    let node = Resolver::parse(node_file);
    let mut resolver = if policy == "None" {
        Resolver::default()
    } else if cluster && !cluster_dns.is_empty() {
        let namespace = &pod.metadata.namespace;
        let mut searches = vec![
            format!("{namespace}.svc.{cluster_domain}"),
            format!("svc.{cluster_domain}"),
            cluster_domain.to_owned(),
        ];
        searches.extend(node.searches);
        let options = [("ndots".to_owned(), Some("5".to_owned()))].into();
        Resolver {
            nameservers: cluster_dns.to_vec(),
            searches,
            options,
        }
    } else {
        node
    };
    if let Some(config) = &pod.spec.dns_config {
        resolver
            .nameservers
            .extend(config.nameservers.iter().cloned());
        resolver.searches.extend(config.searches.iter().cloned());
        for option in &config.options {
            resolver
                .options
                .insert(option.name.clone(), option.value.clone());
        }
    }
    resolver.write()
}

#[derive(Debug, Default)]
struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: BTreeMap<String, Option<String>>,
}

impl Resolver {
    fn parse(text: &str) -> Resolver {
        let mut resolver = Resolver::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.nameservers.extend(words.next().map(str::to_owned)),
                Some("search") => resolver.searches = words.map(str::to_owned).collect(),
                Some("options") => {
                    resolver
                        .options
                        .extend(words.map(|word| match word.split_once(':') {
                            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                            None => (word.to_owned(), None),
                        }));
                }
                _ => {}
            }
        }
        resolver
    }

    fn write(&self) -> String {
        let mut text = String::new();
        let unique = |list: &[String]| {
            let mut seen = Vec::new();
            for item in list.iter().filter(|item| !item.is_empty()) {
                if !seen.contains(item) {
                    seen.push(item.clone());
                }
            }
            seen
        };
        let searches = unique(&self.searches);
        if !searches.is_empty() {
            text.push_str(&format!("search {}\n", searches.join(" ")));
        }
        for server in unique(&self.nameservers).iter().take(NAMESERVERS_MAX) {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            let options = self.options.iter().map(|(name, value)| match value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
            text.push_str(&format!(
                "options {}\n",
                options.collect::<Vec<_>>().join(" ")
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        Pod::decode(
            &json!({"metadata": {"name": "web-0", "namespace": "shop", "uid": "u"}, "spec": spec}),
        )
        .unwrap()
    }

    #[test]
    fn hosts_files() {
        let text = hosts(
            &pod(
                json!({"subdomain": "db", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}),
            ),
            "10.0.0.9",
            "cluster.local",
            "",
        );
        assert!(text.contains("\n10.0.0.9\tweb-0.db.shop.svc.cluster.local\tweb-0\n"));
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"));
        let text = hosts(
            &pod(json!({"hostNetwork": true})),
            "10.0.0.9",
            "cluster.local",
            "127.0.0.1 me",
        );
        assert_eq!(
            text,
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 me\n"
        );
    }

    #[test]
    fn resolver_policies() {
        let node = "# comment\nsearch corp\nnameserver 9.9.9.9\noptions edns0\n";
        let dns = ["10.96.0.10".to_owned()];
        let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local corp\nnameserver 10.96.0.10\noptions ndots:5\n";
        let plain = "search corp\nnameserver 9.9.9.9\noptions edns0\n";
        let cases = [
            (json!({"dnsPolicy": "ClusterFirst"}), cluster.to_owned()),
            (json!({"dnsPolicy": "Default"}), plain.to_owned()),
            (
                json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}),
                plain.to_owned(),
            ),
            (
                json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}),
                cluster.to_owned(),
            ),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["x"],
                    "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]}}),
                "search x\nnameserver 1.1.1.1\noptions ndots:2 rotate\n".to_owned(),
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(
                resolv_conf(&pod(spec.clone()), "cluster.local", &dns, node),
                expected,
                "{spec}"
            );
        }
        assert_eq!(
            resolv_conf(&pod(json!({})), "cluster.local", &[], node),
            plain
        );
    }

    #[test]
    fn hostnames_are_cut() {
        let mut long = pod(json!({}));
        long.metadata.name = format!("{}-tail", "a".repeat(62));
        assert_eq!(hostname(&long, "cluster.local"), "a".repeat(62));
        let full = pod(json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}));
        assert_eq!(
            hostname(&full, "cluster.local"),
            "h.s.shop.svc.cluster.local"
        );
    }
}
