//! What a command says, at its end and while it waits.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

/// The command line's answer. What is under way goes on where nobody reads it any more.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
}

/// A spinner on a terminal, a line for each change elsewhere.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last: Mutex<String>,
    began: Instant,
}

impl Progress {
    pub(crate) fn new(title: &str) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed:>3} {msg}");
            ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        let progress = Progress {
            bar,
            last: Default::default(),
            began: Instant::now(),
        };
        progress.say(title);
        progress
    }

    pub(crate) fn say(&self, message: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(message.to_string());
                bar.tick();
            }
            None => {
                let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                if *last != message {
                    eprintln!("[{:4.1} s] {message}", self.began.elapsed().as_secs_f32());
                    *last = message.to_string();
                }
            }
        }
    }

    pub(crate) fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
