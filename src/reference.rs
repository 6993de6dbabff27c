//! The reference page of the command line, derived from the one list of flags in `cli`. `make reference` writes it.

use std::fmt::Write;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};

use crate::cli::Cli;

const PAGE: &str = "docs/reference/command-line.md";

fn page() -> String {
    let mut text = String::from(
        "# Command line\n\nMade from `kontiki --help` by `make reference`; a test fails when it is stale. A flag may also be given as its\n\
         environment variable. `RUST_LOG` sets what is logged.\n",
    );
    for command in Cli::command().get_subcommands() {
        section(&mut text, "kontiki", command);
    }
    text
}

fn section(text: &mut String, parent: &str, command: &Command) {
    let about = command.get_about().map(ToString::to_string);
    let name = format!("{parent} {}", command.get_name());
    let _ = write!(text, "\n## {name}\n{}\n", about.unwrap_or_default());
    if command.get_arguments().next().is_some() {
        *text += "\n| flag | environment | default | meaning |\n|---|---|---|---|\n";
    }
    command.get_arguments().for_each(|flag| row(text, flag));
    if let Some(more) = command.get_after_help() {
        let _ = write!(text, "\n{more}\n");
    }
    for below in command.get_subcommands() {
        section(text, &name, below);
    }
}

fn row(text: &mut String, flag: &Arg) {
    let name = match (flag.get_long(), flag.get_value_names()) {
        (Some(long), Some([value, ..])) if flag.get_action().takes_values() => {
            format!("--{long} {value}")
        }
        (Some(long), _) => format!("--{long}"),
        (None, _) => flag.get_id().as_str().to_uppercase(),
    };
    let environment = flag
        .get_env()
        .map(|name| name.to_string_lossy().into_owned());
    let defaults = flag.get_default_values().iter();
    let default = if flag.get_action().takes_values() && !flag.is_hide_default_value_set() {
        defaults
            .map(|value| value.to_string_lossy())
            .collect::<Vec<_>>()
            .join(",")
    } else {
        String::new()
    };
    let meaning = flag.get_help().map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(
        text,
        "| `{name}` | {} | {} | {} |",
        code(&environment.unwrap_or_default()),
        code(&default),
        meaning.replace('|', "\\|")
    );
}

fn code(value: &str) -> String {
    if value.is_empty() {
        String::new()
    } else {
        format!("`{value}`")
    }
}

#[test]
fn the_page_is_what_help_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if std::env::var_os("KONTIKI_WRITE_REFERENCE").is_some() {
        std::fs::write(&file, page()).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page(), "{PAGE} is stale: run `make reference`");
}
