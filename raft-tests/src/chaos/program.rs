//! Programs that are run to their end, which is always bounded in time.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// For the small programs that set something up.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// Runs it; it must succeed. Returns what it printed.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    run_with(program, arguments, "")
}

/// The same with `input` as standard input, which has to fit into a pipe (64 KiB).
pub fn run_with(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(command, input, PATIENCE)
}

/// Runs a command that is made already. What it prints has to fit into a pipe.
pub fn finish(mut command: Command, input: &str, patience: Duration) -> Result<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let line = line.join(" ");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("`{line}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input may close it early.
        let _ = stdin.write_all(input.as_bytes());
    }
    let deadline = Instant::now() + patience;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                let _ = child.kill();
                let _ = child.wait();
                bail!("`{line}` did not end within {} s", patience.as_secs());
            }
            None => std::thread::sleep(POLL),
        }
    };
    let mut said = String::new();
    let mut complaint = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut said)?;
    }
    if let Some(mut out) = child.stderr.take() {
        out.read_to_string(&mut complaint)?;
    }
    match status.success() {
        true => Ok(said),
        false => bail!("`{line}`: {status}: {}", complaint.trim()),
    }
}

/// Whether it is on the path.
pub fn have(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_end_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let began = Instant::now();
        let error = finish(command, "", Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn input_goes_in_and_complaints_come_out() {
        assert_eq!(run_with("cat", &[], "some").unwrap(), "some");
        let error = run("cat", &["/nowhere"]).unwrap_err().to_string();
        assert!(error.contains("/nowhere"), "{error}");
    }
}
