//! Libraries of others against real members, over TLS and with users and roles.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::etcd_front::Fronts;
use crate::harness::DEADLINE;

/// Where `deploy/setup.sh test` puts Python's client.
fn python() -> Option<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) => cache.into(),
        None => Path::new(&std::env::var_os("HOME")?).join(".cache"),
    };
    let python = cache.join("kontiki/python/bin/python");
    python.is_file().then_some(python)
}

/// What `deploy/test.sh` has built of `tests/clients/etcd-client`.
fn rust() -> Option<PathBuf> {
    std::env::var_os("KONTIKI_ETCD_CLIENT").map(PathBuf::from)
}

/// CI has all of them.
fn or_skipped(client: Option<PathBuf>, name: &str, how: &str) -> Option<PathBuf> {
    if client.is_none() {
        let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!is_ci, "{name} is missing: {how}");
        eprintln!("SKIPPED: {name} is not there: {how}");
    }
    client
}

/// Runs a client that says "well" in the end.
async fn is_content(fronts: &Fronts, client: &mut Command) {
    let output = client
        .args(["ca.crt", "client.crt", "client.key"].map(|name| fronts.file(name)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE * 2, output).await;
    let output = output.expect("it ends").unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "well");
    fronts.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pythons_client_signs_in_reads_writes_watches_and_locks() {
    let Some(python) = or_skipped(python(), "Python's client", "deploy/setup.sh test") else {
        return;
    };
    let fronts = Fronts::start(1).await;
    let (_, address) = fronts.addresses[0];
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/etcd3_client.py");
    let mut client = Command::new(python);
    client
        .env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
        .arg(script)
        .arg(address.port().to_string());
    is_content(&fronts, &mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_etcd_client_crate_does_all_that_it_can_with_three_members() {
    let Some(program) = or_skipped(rust(), "the etcd-client crate", "deploy/test.sh builds it")
    else {
        return;
    };
    let fronts = Fronts::start(3).await;
    let endpoints = [1, 2, 3].map(|id| fronts.endpoint(id)).join(",");
    is_content(&fronts, Command::new(program).arg(endpoints)).await;
}
