//! `kontiki store`: a person's hand on the store. Its commands are clients of the members' ports for etcd clients, as
//! etcdctl is, but for those that work on the files of a store that does not run.

mod members;
mod mirror;
mod read;
mod recover;
mod restore;
mod snapshot;
mod status;

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use store::etcd::client::{Client, ClientError, Credentials, Login, Member};

use crate::cli::{SnapshotCommand, StoreArgs, StoreCommand};
use crate::local::{Home, Plan};
use crate::pki::Pair;
use crate::resize;

pub(crate) async fn run(args: &StoreArgs) -> Result<()> {
    match &args.command {
        StoreCommand::Status(output) => status::run(&Session::open(args)?, output.json()).await,
        StoreCommand::Get(get) => read::get(&Session::open(args)?, get).await,
        StoreCommand::History(history) => read::history(&Session::open(args)?, history).await,
        StoreCommand::Snapshot(snapshot) => match &snapshot.command {
            SnapshotCommand::Save { file } => snapshot::save(&Session::open(args)?, file).await,
            SnapshotCommand::Status { file, output } => snapshot::status(file, output.json()),
        },
        StoreCommand::Import(import) => snapshot::import(&import.file, &import.out),
        StoreCommand::Mirror(mirror) => mirror::run(&Session::open(args)?, mirror).await,
        StoreCommand::Restore(restore) => {
            if args.has_home() && restore.one.data_dir.is_some() {
                bail!(
                    "a home, or the data of one member? Give --home or --data-dir; KONTIKI_HOME and KONTIKI_DATA_DIR count, \
                     too"
                );
            }
            restore::restore(&args.home(), restore)
        }
        StoreCommand::Recover(recover) => recover::recover(&args.home(), recover),
        StoreCommand::Replace(replace) => resize::replace(&args.home(), &replace.member).await,
        StoreCommand::Member(member) => members::run(&Session::open(args)?, &member.command).await,
        StoreCommand::MoveLeader { member } => {
            members::move_leader(&Session::open(args)?, member).await
        }
    }
}

/// Where the members are, and how to prove that one may use them.
pub(crate) struct Session {
    pub(crate) endpoints: Vec<String>,
    pub(crate) ca: std::path::PathBuf,
    pub(crate) identity: Pair,
    /// Whose cluster it is, where no other endpoints were named.
    pub(crate) home: Option<Home>,
    credentials: Credentials,
}

impl Session {
    fn open(args: &StoreArgs) -> Result<Session> {
        let home = args.home();
        let endpoints = match args.endpoints.is_empty() {
            false => args.endpoints.iter().map(|it| url(it, "https")).collect(),
            true => match home.load()? {
                Some(plan) => plan.etcd_urls(),
                None => bail!(
                    "there is no cluster in {}: give --home, or --endpoints with --cacert, --cert and --key",
                    home.0.display()
                ),
            },
        };
        let own = home.store_admin();
        let identity = Pair {
            cert: args.cert.clone().unwrap_or(own.cert),
            key: args.key.clone().unwrap_or(own.key),
        };
        let ca = args.cacert.clone();
        let ca = ca.unwrap_or_else(|| home.pki().join("ca.crt"));
        let mut session = Session::new(endpoints, ca, identity)?;
        session.home = args.endpoints.is_empty().then_some(home);
        session.credentials.login = login(args.user.as_deref(), args.password_file.as_deref())?;
        Ok(session)
    }

    /// Of the cluster in a home.
    pub(crate) fn of_home(home: &Home, plan: &Plan) -> Result<Session> {
        Session::at(home, plan.etcd_urls())
    }

    /// Of the cluster in a home, by these members alone.
    pub(crate) fn at(home: &Home, endpoints: Vec<String>) -> Result<Session> {
        Session::new(endpoints, home.pki().join("ca.crt"), home.store_admin())
    }

    fn new(endpoints: Vec<String>, ca: std::path::PathBuf, identity: Pair) -> Result<Session> {
        let credentials = Credentials {
            ca: Some(read(&ca)?),
            identity: Some((read(&identity.cert)?, read(&identity.key)?)),
            login: None,
        };
        Ok(Session {
            endpoints,
            ca,
            identity,
            home: None,
            credentials,
        })
    }

    pub(crate) fn client(&self, url: &str) -> Result<Client> {
        Ok(Client::new(url, &self.credentials)?)
    }

    /// The first member that answers and knows of a leader.
    pub(crate) async fn any(&self) -> Result<Client> {
        let mut why = anyhow!("no endpoints are given");
        for url in &self.endpoints {
            let client = self.client(url)?;
            match client.status().await {
                // A learner does not answer most questions.
                Ok(status) if status.leader != 0 && !status.is_learner => return Ok(client),
                Ok(status) if status.is_learner => why = anyhow!("{url}: is a learner"),
                Ok(_) => why = anyhow!("{url}: knows of no leader"),
                // Not told to users like others, who may read keys all the same.
                Err(ClientError::Refused { text, .. })
                    if self.credentials.login.is_some() && text.contains("permission denied") =>
                {
                    return Ok(client);
                }
                Err(error) => why = error.into(),
            }
        }
        Err(why.context("no member with a quorum answers; `kontiki store status` shows each"))
    }
}

impl Session {
    /// The members as a quorum has them, and a client of one of it.
    pub(crate) async fn members(&self) -> Result<(Client, Vec<Member>)> {
        let client = self.any().await?;
        let members = client.members(true).await?;
        Ok((client, members))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// An endpoint as a URL: what has no scheme gets this one.
fn url(endpoint: &str, scheme: &str) -> String {
    match endpoint.contains("://") {
        true => endpoint.into(),
        false => format!("{scheme}://{endpoint}"),
    }
}

/// NAME:PASSWORD, or NAME with the password on the first line of a file.
fn login(user: Option<&str>, password_file: Option<&Path>) -> Result<Option<Login>> {
    let Some(user) = user else {
        return Ok(None);
    };
    let (name, password) = match (user.split_once(':'), password_file) {
        (Some(_), Some(_)) => bail!("the password is given twice: with the name, and in a file"),
        (Some((name, password)), None) => (name, password.to_string()),
        (None, Some(file)) => {
            let text = String::from_utf8(read(file)?);
            let text = text.with_context(|| format!("{} is not text", file.display()))?;
            (user, text.lines().next().unwrap_or_default().to_string())
        }
        (None, None) => bail!("user {user} needs a password: NAME:PASSWORD, or a file with it"),
    };
    let name = name.to_string();
    Ok(Some(Login { name, password }))
}

/// Lines of cells as a table with aligned columns. The first line is the head.
pub(crate) fn table(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let begin = text.len();
        // Not by a format's width, which ends at 65535: a value may be longer.
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            text += if column > 0 { "  " } else { "" };
            text += cell;
            if column + 1 < line.len() {
                let gap = width.saturating_sub(cell.chars().count());
                text.extend(std::iter::repeat_n(' ', gap));
            }
        }
        text.truncate(begin + text[begin..].trim_end().len());
        text.push('\n');
    }
    text
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [vec!["ID", "NAME"], vec!["1", "a"], vec!["1000", "länger"]];
        let lines = lines.map(|line| line.into_iter().map(String::from).collect::<Vec<_>>());
        assert_eq!(table(&lines), "ID    NAME\n1     a\n1000  länger\n");
        let long = "x".repeat(70_000);
        let lines = [
            vec![long.clone(), "a".into()],
            vec![String::new(), "b".into()],
        ];
        let text = table(&lines);
        assert!(text.ends_with(&format!("{}  b\n", " ".repeat(70_000))));
        assert!(text.starts_with(&format!("{long}  a\n")));
    }

    #[test]
    fn an_endpoint_is_a_url_and_a_login_has_a_password() {
        assert_eq!(url("h:1", "https"), "https://h:1");
        assert_eq!(url("http://h:1", "https"), "http://h:1");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "a:b c\n\n").unwrap();
        let known = |user, file| {
            let login = login(Some(user), file).map(Option::unwrap);
            login.map(|login| (login.name, login.password)).ok()
        };
        let pair = |name: &str, password: &str| Some((name.to_string(), password.to_string()));
        assert_eq!(known("u:p:q", None), pair("u", "p:q"));
        assert_eq!(known("u", Some(file.as_path())), pair("u", "a:b c"));
        assert_eq!(known("u", None), None);
        assert_eq!(known("u:p", Some(file.as_path())), None);
        assert!(login(None, None).unwrap().is_none());
    }

    #[test]
    fn sizes_have_the_largest_unit_that_fits() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
    }
}
