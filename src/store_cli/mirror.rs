//! `kontiki store mirror`: moving in from an etcd that runs.

use anyhow::{Result, bail};
use store::etcd::client::{Client, Credentials};
use store::mirror::{Names, Options, Report};

use super::{Session, login, read, url};
use crate::cli::{FromArgs, MirrorArgs};
use crate::up::{Progress, say};

pub(super) async fn run(session: &Session, args: &MirrorArgs) -> Result<()> {
    let source = sources(&args.from)?;
    let urls = session.endpoints.iter();
    let destination: Vec<Client> = urls.map(|url| session.client(url)).collect::<Result<_>>()?;
    let dest_prefix = args.dest_prefix.clone();
    let options = Options {
        name: args.name.clone(),
        names: Names {
            prefix: args.prefix.clone().into(),
            dest_prefix: dest_prefix.unwrap_or_else(|| args.prefix.clone()).into(),
        },
        overwrite: args.overwrite,
        restart: args.restart,
        until_synced: args.until_synced,
    };
    let progress = Progress::new(&format!("mirroring from {}", args.from.from.join(",")));
    let reports = |report: Report| progress.say(&words(&report));
    let done = store::mirror::run(source, destination, options, &reports).await;
    progress.done();
    let done = done?;
    say(&format!(
        "All {} keys are here as the etcd has them at revision {}. Whoever wrote to it can write here now.",
        done.keys, done.revision
    ));
    if done.leased > 0 {
        say(&format!(
            "{} of them have got their leases, which begin anew.",
            done.leased
        ));
    }
    Ok(())
}

fn sources(from: &FromArgs) -> Result<Vec<Client>> {
    let tls = from.from_cacert.is_some() || from.from_cert.is_some();
    let scheme = if tls { "https" } else { "http" };
    let urls: Vec<String> = from.from.iter().map(|it| url(it, scheme)).collect();
    let file = |path: &Option<std::path::PathBuf>| path.as_deref().map(read).transpose();
    let credentials = Credentials {
        ca: file(&from.from_cacert)?,
        identity: file(&from.from_cert)?.zip(file(&from.from_key)?),
        login: login(
            from.from_user.as_deref(),
            from.from_password_file.as_deref(),
        )?,
    };
    if let Some(url) = urls.iter().find(|url| url.starts_with("https:"))
        && credentials.ca.is_none()
    {
        bail!("{url}: whose certificate is to be trusted? Give --from-cacert");
    }
    let clients = urls.iter().map(|url| Ok(Client::new(url, &credentials)?));
    clients.collect()
}

fn words(report: &Report) -> String {
    match report {
        Report::Copying { revision, keys } => {
            format!("copying revision {revision}: {keys} keys so far")
        }
        Report::Copied { revision, keys } => {
            format!("all {keys} keys are as they were at revision {revision}")
        }
        Report::Following {
            revision,
            head,
            transactions,
        } => format!(
            "at revision {revision}, {} behind; {transactions} transactions",
            head.saturating_sub(*revision).max(0)
        ),
        Report::Unequal {
            source,
            destination,
        } => format!(
            "the etcd has {source} keys, and here are {destination}: somebody else writes here, or writes there still"
        ),
        Report::Trouble(why) => format!("waiting: {why}"),
        Report::Anew(why) => format!("comparing all keys again: {why}"),
    }
}
