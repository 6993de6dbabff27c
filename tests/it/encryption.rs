//! Secrets on the disks of real members.

use std::path::Path;

use crate::cluster::{Cluster, Runtime};
use crate::tools::{SOON, have, wait_for};

/// In no file but where it is looked for; short enough to stay whole in base64.
const SECRET: &str = "canary-of-the-secret";
const PLAIN: &str = "canary-of-the-config-map";

/// Whether a text, or what base64 makes of it, is in any file under a path.
fn is_in(path: &Path, text: &str) -> bool {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(text);
    if path.is_dir() {
        let mut entries = std::fs::read_dir(path).expect("it can be read");
        return entries.any(|entry| is_in(&entry.expect("an entry").path(), text));
    }
    // A file may go while the store tidies up.
    let bytes = std::fs::read(path).unwrap_or_default();
    // The last letters depend on what follows.
    [text, &encoded[..encoded.len() - 2]].iter().any(|text| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

#[test]
fn a_secret_is_in_clear_on_no_disk_and_keys_change_while_members_run() {
    if !have("kubectl") || !have("etcdctl") {
        return;
    }
    let cluster = Cluster::start(3, Runtime::Hollow);
    let kubectl = cluster.kubectl();
    kubectl.ok(&format!(
        "create secret generic canary --from-literal=key={SECRET}"
    ));
    kubectl.ok(&format!(
        "create configmap canary --from-literal=key={PLAIN}"
    ));
    let backup = cluster.home().join("backup");
    let saved = cluster.kontiki(&[
        "store",
        "snapshot",
        "save",
        backup.to_str().expect("a path"),
    ]);
    assert!(saved.success, "{saved}");
    let stored = |member: usize| {
        let said = cluster.etcdctl(member, &["get", "/registry/secrets/default/canary"]);
        assert!(said.success, "{said}");
        said.stdout
    };
    assert!(stored(1).contains("k8s:enc:aesgcm:v1:key1:"));
    assert!(!stored(1).contains(SECRET));
    for member in 1..=3 {
        let data = cluster.data(member);
        // What is looked for would be found.
        wait_for("it is on the disk", SOON, || match is_in(&data, PLAIN) {
            true => Ok(()),
            false => Err("not there".to_owned()),
        });
        assert!(!is_in(&data, SECRET), "member {member}");
        assert!(!cluster.log(member).contains(SECRET));
    }
    assert!(!is_in(&backup, SECRET));

    // Another key comes first, as the guide says: members learn it before anybody writes with it.
    let file = cluster.pki("encryption.yaml");
    let first = std::fs::read_to_string(&file).expect("the keys");
    let line = "      - name: key1\n";
    let new = "      - name: key2\n        secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
    let second = first.replace("  # Reads", &format!("{new}  # Reads"));
    let swapped = first.replace(line, &format!("{new}{line}"));
    assert!(second != first && swapped != first);
    for (times, text) in [(1, &second), (2, &swapped)] {
        std::fs::write(&file, text).expect("written");
        cluster.up();
        for member in 1..=3 {
            wait_for("the keys are read", SOON, || {
                let log = cluster.log(member);
                match log.matches("the keys have changed").count() {
                    count if count == times => Ok(()),
                    _ => Err(log),
                }
            });
        }
    }
    assert!(stored(2).contains("k8s:enc:aesgcm:v1:key1:"));
    let config = cluster.kubeconfig();
    let said = cluster.kontiki(&[
        "reencrypt",
        "--kubeconfig",
        config.to_str().expect("a path"),
    ]);
    assert!(said.success, "{said}");
    assert!(stored(3).contains("k8s:enc:aesgcm:v1:key2:"));
    let value = kubectl.ok("get secret canary -o go-template={{.data.key|base64decode}}");
    assert_eq!(value, SECRET);
}
