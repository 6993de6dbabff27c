//! Unmodified Helm against a cluster: a chart with definitions, hooks, and one of each usual thing. The node is simulated.

use crate::cluster::{Cluster, Runtime};
use crate::tools::{Said, run, words};
use std::path::PathBuf;
use std::process::Command;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/helm/raft");

/// Where `deploy/setup.sh test` puts it; says so where it is not.
fn helm() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let helm = cache.join("kontiki/python/bin/helm");
    if !helm.is_file() {
        eprintln!("SKIPPED: helm is not installed (deploy/setup.sh test)");
        return None;
    }
    Some(helm)
}

struct Helm<'a> {
    program: PathBuf,
    cluster: &'a Cluster,
}

impl Helm<'_> {
    fn run(&self, line: &str) -> Said {
        let mut command = Command::new(&self.program);
        let home = self.cluster.home().join("helm");
        for (name, folder) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
        ] {
            command.env(name, home.join(folder));
        }
        command.arg("--kubeconfig").arg(self.cluster.kubeconfig());
        command.args(words(&line.replace("CHART", CHART)));
        run(command, "")
    }

    fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert!(said.success, "{said}");
        said.stdout
    }

    /// Revision and status of each, oldest first.
    fn history(&self) -> Vec<(u64, String)> {
        let text = self.ok("history log -o json");
        let history: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let entries = history.as_array().expect("a list").iter();
        entries
            .map(|entry| {
                let status = entry["status"].as_str().expect("a status").to_owned();
                (entry["revision"].as_u64().expect("a number"), status)
            })
            .collect()
    }
}

#[test]
fn a_chart_is_installed_changed_rolled_back_tested_and_removed() {
    let Some(program) = helm() else { return };
    let cluster = Cluster::start(3, Runtime::Hollow);
    let helm = &Helm {
        program,
        cluster: &cluster,
    };
    let k = cluster.kubectl();
    let greeting = || k.ok("get configmap log -o jsonpath={.data.greeting}");

    helm.ok("install log CHART --wait --timeout 60s");
    assert_eq!(greeting(), "ahoy");
    assert_eq!(
        k.ok("get deployment log -o jsonpath={.status.availableReplicas}"),
        "2"
    );
    assert_eq!(k.ok("get logbook log -o jsonpath={.spec.pages}"), "2");
    // The hook's Job went when it had succeeded.
    assert_eq!(k.ok("get jobs -o name"), "");
    assert!(helm.ok("list").contains("raft-1.0.0"));

    let tried = helm.ok("upgrade log CHART --set greeting=hello --dry-run=server");
    assert!(tried.contains("hello"), "{tried}");
    assert_eq!(greeting(), "ahoy");
    helm.ok("upgrade log CHART --set greeting=hello,replicas=3 --wait --timeout 60s");
    assert_eq!(greeting(), "hello");
    assert_eq!(
        k.ok("get deployment log -o jsonpath={.status.updatedReplicas}"),
        "3"
    );
    let tests = helm.ok("test log --timeout 60s");
    assert!(tests.contains("Succeeded"), "{tests}");

    let failed =
        helm.run("upgrade log CHART --set greeting=bye,check=false --atomic --timeout 60s");
    assert!(
        !failed.success && failed.stderr.contains("has been rolled back"),
        "{failed}"
    );
    assert_eq!(greeting(), "hello");
    helm.ok("rollback log 1 --wait --timeout 60s");
    assert_eq!(greeting(), "ahoy");
    let statuses = [
        (1, "superseded"),
        (2, "superseded"),
        (3, "failed"),
        (4, "superseded"),
        (5, "deployed"),
    ];
    assert_eq!(
        helm.history(),
        statuses.map(|(revision, status)| (revision, status.to_owned()))
    );

    // What somebody changed by hand is put right again, and what the schema forbids is refused with the server's words.
    k.ok("delete configmap log");
    helm.ok("upgrade log CHART --force --wait --timeout 60s");
    assert_eq!(greeting(), "ahoy");
    let refused = helm.run("upgrade log CHART --set replicas=0");
    assert!(
        !refused.success
            && refused
                .stderr
                .contains("should be greater than or equal to 1"),
        "{refused}"
    );

    helm.ok("uninstall log --wait --timeout 60s");
    assert_eq!(
        k.ok("get deployments,configmaps,secrets,pdb,logbooks --field-selector metadata.name!=kube-root-ca.crt -o name"),
        ""
    );
}
