//! The programs that the tests drive, and waiting for conditions.

use serde_json::Value;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long most things may take on a slow, busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Whether this program is there; says so if not.
pub(crate) fn have(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

/// Whether a Docker engine answers; says so if not.
pub(crate) fn have_docker() -> bool {
    let answers = have("docker")
        && Command::new("docker")
            .args(["info"])
            .output()
            .is_ok_and(|out| out.status.success());
    if !answers {
        eprintln!("SKIPPED: no Docker engine answers");
    }
    answers
}

/// Looks again until there is something; panics with what `what` says after the deadline.
pub(crate) fn wait_for<T>(
    what: impl fmt::Display,
    within: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        match look() {
            Ok(found) => return found,
            Err(why) if Instant::now() > deadline => {
                panic!("{what}: not within {within:?}; at last: {why}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// What a program said.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) command: String,
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Said {
            command,
            success,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "$ {command}\nsuccess: {success}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}

/// Runs a program to its end, at most for two minutes, with `input` as standard input.
pub(crate) fn run(mut command: Command, input: &str) -> Said {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    // A program that does not read its input may close it early.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let Output {
        status,
        stdout,
        stderr,
    } = finish(child, &line);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said {
        command: line,
        success: status.success(),
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

fn finish(child: Child, line: &str) -> Output {
    let (done, result) = channel();
    let pid = child.id();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    match result.recv_timeout(Duration::from_secs(120)) {
        Ok(output) => output.expect("the output can be read"),
        Err(_) => {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            panic!("`{line}` did not end within two minutes");
        }
    }
}

/// kubectl against one cluster, through one of its members.
#[derive(Debug, Clone)]
pub(crate) struct Kubectl {
    kubeconfig: PathBuf,
    context: Option<String>,
}

impl Kubectl {
    /// With the administrator's kubeconfig.
    pub(crate) fn new(kubeconfig: &Path) -> Kubectl {
        Kubectl {
            kubeconfig: kubeconfig.to_path_buf(),
            context: None,
        }
    }

    /// The same through another member.
    pub(crate) fn context(&self, context: &str) -> Kubectl {
        Kubectl {
            context: Some(context.to_string()),
            ..self.clone()
        }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("kubectl");
        command.arg(format!("--kubeconfig={}", self.kubeconfig.display()));
        if let Some(context) = &self.context {
            command.arg(format!("--context={context}"));
        }
        // Its cache of discovery must not remember the cluster of another test on the same port.
        command.arg(format!(
            "--cache-dir={}",
            self.kubeconfig.with_extension("cache").display()
        ));
        command.args(words(line));
        command
    }

    /// Runs it; the caller looks at the outcome.
    pub(crate) fn run(&self, line: &str) -> Said {
        run(self.command(line), "")
    }

    /// Runs it with input.
    pub(crate) fn run_with(&self, line: &str, input: &str) -> Said {
        run(self.command(line), input)
    }

    /// `kubectl edit` with a program in the place of the editor; it must succeed.
    pub(crate) fn edit(&self, line: &str, editor: &str) -> String {
        let mut command = self.command(&format!("edit {line}"));
        command.env("KUBE_EDITOR", editor);
        let said = run(command, "");
        assert!(said.success, "{said}");
        said.stdout
    }

    /// Runs it; it must succeed, and without a warning. Returns what it printed.
    pub(crate) fn ok(&self, line: &str) -> String {
        self.ok_with(line, "")
    }

    /// The same with input.
    pub(crate) fn ok_with(&self, line: &str, input: &str) -> String {
        let said = self.run_with(line, input);
        assert!(said.success, "{said}");
        let quiet = !said
            .stderr
            .lines()
            .any(|line| line.starts_with("Warning:") || line.starts_with("error:"));
        assert!(quiet, "it complains: {said}");
        said.stdout
    }

    /// Runs it; it must fail. Returns its complaint.
    pub(crate) fn fails(&self, line: &str) -> String {
        let said = self.run(line);
        assert!(!said.success, "it should have failed: {said}");
        said.stderr
    }

    /// An object as JSON.
    pub(crate) fn json(&self, line: &str) -> Value {
        let text = self.ok(&format!("{line} -o json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
    }

    /// Repeats it until what it prints is as wanted.
    pub(crate) fn until(&self, line: &str, wanted: impl Fn(&str) -> bool) -> String {
        wait_for(format!("kubectl {line}"), SOON, || {
            let said = self.run(line);
            match said.success && wanted(&said.stdout) {
                true => Ok(said.stdout),
                false => Err(said.to_string()),
            }
        })
    }

    /// Runs it on a terminal of 33 lines and 91 columns, with `input` typed in.
    pub(crate) fn on_a_terminal(&self, line: &str, input: &str) -> Said {
        let kubectl = self.command(line);
        let words = std::iter::once(kubectl.get_program()).chain(kubectl.get_args());
        let words: Vec<String> = words
            .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")))
            .collect();
        let mut command = Command::new("script");
        command.args([
            "-qec",
            &format!("stty rows 33 cols 91; {}", words.join(" ")),
            "/dev/null",
        ]);
        run(command, input)
    }

    /// Starts it and reads what it prints while it runs.
    pub(crate) fn follow(&self, line: &str) -> Following {
        let mut command = self.command(line);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Following::start(command)
    }
}

/// A program whose lines are read while it runs. Killed when dropped.
pub(crate) struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    /// Starts it; its standard output and error must be piped.
    pub(crate) fn start(mut command: Command) -> Following {
        let mut child = command.spawn().expect("the program starts");
        let (send, lines) = channel();
        let out = child
            .stdout
            .take()
            .map(|out| Box::new(out) as Box<dyn std::io::Read + Send>);
        let err = child
            .stderr
            .take()
            .map(|err| Box::new(err) as Box<dyn std::io::Read + Send>);
        for stream in [out, err].into_iter().flatten() {
            let send = send.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if send.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Following { child, lines }
    }

    /// The next line that is as wanted; panics with what came instead when it does not come in time.
    pub(crate) fn line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.lines_until(what, wanted).pop().unwrap_or_default()
    }

    /// All lines up to the one that is as wanted, which is the last of them.
    pub(crate) fn lines_until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let deadline = Instant::now() + SOON;
        let mut lines = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let last = wanted(&line);
                    lines.push(line);
                    if last {
                        return lines;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{what} does not come within {SOON:?}, only {lines:#?}")
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the program ended before {what}: {lines:#?}")
                }
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Splits a command line at blanks; what stands between single quotes stays together.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn words_are_split_as_a_shell_would() {
    assert_eq!(
        words("get pods -o 'json path'"),
        ["get", "pods", "-o", "json path"]
    );
    assert_eq!(
        words("a -o=jsonpath='{.x y}' b"),
        ["a", "-o=jsonpath={.x y}", "b"]
    );
    assert_eq!(
        words("exec p -- sh -c 'echo a b'"),
        ["exec", "p", "--", "sh", "-c", "echo a b"]
    );
}
