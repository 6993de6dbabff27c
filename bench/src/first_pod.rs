//! From `make up` on a built tree to the first pod that is ready: three members, one node, real containers where a
//! Docker engine answers. Nothing else does this in one step, so there is no ratio.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{Setting, median, say};

const IMAGE: &str = "kontiki-bench/busybox:v1";
const BUSYBOX: &str = "/bin/busybox";
const PATIENCE: Duration = Duration::from_secs(120);
/// Away from a cluster that the user has on the default ports.
const PORTS: [(&str, &str); 3] = [
    ("KONTIKI_API_PORT", "23000"),
    ("KONTIKI_PEER_PORT", "23010"),
    ("KONTIKI_NODE_PORT", "23020"),
];

pub(crate) async fn run(setting: &Setting) -> Result<()> {
    let kubectl = Command::new("kubectl")
        .args(["version", "--client"])
        .output();
    if !kubectl.is_ok_and(|said| said.status.success()) {
        say("first pod: not measured, there is no kubectl");
        return Ok(());
    }
    let runtime = match import_image(&setting.dir) {
        Ok(()) => "docker",
        Err(why) => {
            setting.progress(&format!("first pod: containers are simulated ({why:#})"));
            "hollow"
        }
    };
    let (mut ups, mut totals) = (Vec::new(), Vec::new());
    for round in 0..setting.rounds {
        let dir = tempfile::Builder::new()
            .prefix("kontiki-bench-")
            .tempdir_in(&setting.dir)?;
        let cluster = Local {
            home: dir.path().join("home"),
            kontiki: setting.kontiki.clone(),
        };
        let began = Instant::now();
        cluster.up(runtime)?;
        ups.push(began.elapsed().as_secs_f64());
        cluster.first_pod()?;
        totals.push(began.elapsed().as_secs_f64());
        setting.progress(&format!(
            "first pod, round {}/{}: up {:.1} s, pod ready {:.1} s",
            round + 1,
            setting.rounds,
            ups[round],
            totals[round]
        ));
    }
    say(&format!(
        "first pod: `make up` takes {:.1} s, the first pod is ready after {:.1} s ({runtime}, medians of {})",
        median(&ups),
        median(&totals),
        totals.len()
    ));
    Ok(())
}

/// A cluster of its own, wiped when dropped.
struct Local {
    home: PathBuf,
    kontiki: PathBuf,
}

impl Local {
    fn up(&self, runtime: &str) -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("no repository")?;
        let mut command = Command::new("make");
        command
            .args(["up", &format!("RUNTIME={runtime}")])
            .current_dir(root)
            .env("KONTIKI_HOME", &self.home)
            .env("KONTIKI_NODE_NAME", "bench")
            .envs(PORTS);
        // What `make bench` tells its children is not for a `make` of its own.
        for inherited in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"] {
            command.env_remove(inherited);
        }
        said(command).map(|_| ())
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(self.home.join("kubeconfig"))
            .arg("--cache-dir")
            .arg(self.home.join("kubectl-cache"))
            .args(arguments);
        said(command)
    }

    fn first_pod(&self) -> Result<()> {
        let image = format!("--image={IMAGE}");
        let create = ["run", "first", &image, "--command", "--", "sleep", "1000"];
        // The namespace's service account is made a moment after the API serves.
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = self.kubectl(&create) {
            if Instant::now() > deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let ready = "--for=condition=Ready";
        self.kubectl(&["wait", ready, "pod/first", "--timeout=120s"])
            .map(|_| ())
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let mut command = Command::new(&self.kontiki);
        command.arg("reset").env("KONTIKI_HOME", &self.home);
        if let Err(error) = said(command) {
            eprintln!("the cluster in {} is left: {error:#}", self.home.display());
        }
    }
}

/// Runs it to its end; its output, or its complaint.
fn said(mut command: Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{}: {}",
            command.get_program().display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes an image without a registry: Debian's static busybox and nothing else.
fn import_image(dir: &Path) -> Result<()> {
    let root = tempfile::tempdir_in(dir)?;
    let bin = root.path().join("bin");
    fs::create_dir(&bin)?;
    fs::copy(BUSYBOX, bin.join("sleep"))
        .with_context(|| format!("{BUSYBOX} (package busybox-static)"))?;
    let tar = root.path().join("root.tar");
    let mut command = Command::new("tar");
    command
        .arg("-C")
        .arg(root.path())
        .arg("-cf")
        .arg(&tar)
        .arg("bin");
    said(command)?;
    let mut command = Command::new("docker");
    command
        .args(["import", "--change", "ENV PATH=/bin"])
        .arg(&tar)
        .arg(IMAGE);
    said(command).map(|_| ())
}
