//! The one binary: read the command line, set up logging, dispatch.

mod access;
mod audit_log;
mod audit_webhook;
mod authorities;
mod bundle;
mod certificates;
mod cli;
mod control_plane;
mod controller_args;
mod encryption;
mod explain;
mod hollow;
mod local;
mod node;
mod past;
mod pki;
mod probe;
mod process;
mod reencrypt;
#[cfg(test)]
mod reference;
mod reload;
mod resize;
mod server;
mod store_cli;
mod up;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command, ExplainCommand};

/// RocksDB's memory as well. The system's allocator takes a sixth of the processor under writes; mimalloc saves as much as
/// this one and holds a quarter more memory.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The feature that plants bugs in the store is for its tests. A product with it must not come to be.
const _: () = assert!(
    !store::MUTANTS,
    "kontiki is built with the feature `mutants`"
);

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(&cli.command);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return failed(&anyhow::Error::new(error).context("cannot start the runtime"));
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up(args) => {
            let mut wishes = args.wishes.wishes();
            wishes.hollow = args.hollow.wish()?;
            up::up(&args.home.home(), &wishes, args.rotation.wanted()).await
        }
        Command::Down(args) => up::down(&args.home()),
        Command::Reset(args) => up::reset(&args.home()),
        Command::Status(args) => up::status(&args.home()).await,
        Command::Server(args) => server::run(*args).await,
        Command::Agent(args) => node::run_process(*args).await,
        Command::Hollow(args) => hollow::process::run(*args).await,
        Command::Store(args) => store_cli::run(&args).await,
        Command::Reencrypt(args) => reencrypt::run(&args).await,
        Command::History(args) => past::history(&args).await,
        Command::Diff(args) => past::diff(&args).await,
        Command::Undo(args) => past::undo(&args).await,
        Command::Explain(ExplainCommand::Pod(args)) => explain::pod(&args).await,
        Command::Pki(args) => bundle::make(&args.dir, &bundle::Orders::of(&args)),
    }
}

/// The cause chain on one line: this is what a person or a log reads.
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("kontiki: {error:#}");
    ExitCode::FAILURE
}

/// Servers log to standard error; the level is RUST_LOG's, `info` by default.
fn start_logging(command: &Command) {
    let default = match command {
        // openraft logs its inner life, refused attempts as errors among it; the store says what matters of it.
        Command::Server(_) | Command::Agent(_) | Command::Hollow(_) => "info,openraft=off",
        _ => "warn",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}
