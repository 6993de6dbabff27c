//! New authorities in the place of the old ones, while the cluster runs.
//!
//! Nothing may be shown to anybody who does not trust it yet, so it takes three steps, and between them everybody has to
//! have the files of the last one: the new authority is trusted beside the old one, it issues, the old one is trusted no more.
//! An authority's certificate file has all that is trusted, with the one that issues first.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use clap::ValueEnum;
use time::OffsetDateTime;

use crate::pki::{self, Authority, Pair, Renew};

/// The authorities of a cluster: name of the files, and common name.
pub(crate) const ALL: [(&str, &str); 3] = [
    ("ca", "kontiki-ca"),
    ("peer-ca", "kontiki-peer-ca"),
    ("store-ca", "kontiki-store-ca"),
];

/// See the module head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// Make new authorities, which are trusted beside the old ones
    Add,
    /// Issue all certificates by the new ones
    Use,
    /// Trust the old ones no more
    Drop,
}

/// What of the certificates is to be new.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rotation {
    pub(crate) renew: Renew,
    pub(crate) step: Option<Step>,
}

impl Rotation {
    /// The step, where one is wished and there are authorities that can take it.
    pub(crate) fn turn(&self, dir: &Path) -> Result<()> {
        match self.step {
            None => Ok(()),
            Some(_) if !dir.join("ca.crt").exists() => {
                bail!("there are no authorities in {} yet", dir.display())
            }
            Some(step) => turn(dir, step),
        }
    }
}

/// Takes a step with the authorities in `dir`. Taken twice it is as taken once.
fn turn(dir: &Path, step: Step) -> Result<()> {
    for (name, common_name) in ALL {
        let pair = Pair::in_dir(dir, name);
        let next = Pair::in_dir(dir, &format!("next-{name}"));
        let trusted = certificates(&pki::read(&pair.cert)?);
        let trusted = match step {
            Step::Add => {
                // A name of its own, since some clients look for an issuer by name alone.
                let named = format!(
                    "{common_name}-{}",
                    OffsetDateTime::now_utc().unix_timestamp()
                );
                Authority::open_or_create(dir, &format!("next-{name}"), &named)?;
                with(trusted, &pki::read(&next.cert)?, false)
            }
            Step::Use => {
                if !next.cert.exists() {
                    bail!(
                        "there is no new authority {}: make it with `--authorities add`",
                        next.cert.display()
                    );
                }
                pki::write_secret(&pair.key, pki::read(&next.key)?.as_bytes())?;
                with(trusted, &pki::read(&next.cert)?, true)
            }
            Step::Drop => {
                if next.cert.exists() {
                    bail!(
                        "the new authority {} issues nothing yet: let it with `--authorities use`",
                        next.cert.display()
                    );
                }
                trusted.into_iter().take(1).collect()
            }
        };
        pki::write_public(&pair.cert, trusted.concat().as_bytes())?;
    }
    if step == Step::Use {
        // Last, so that a step that was cut short can be taken again.
        for (name, _) in ALL {
            let next = Pair::in_dir(dir, &format!("next-{name}"));
            fs::remove_file(&next.key)?;
            fs::remove_file(&next.cert)?;
        }
    }
    Ok(())
}

/// The certificates in a text, each with its line end.
fn certificates(text: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(END) {
        let (one, after) = rest.split_at(end + END.len());
        found.push(format!("{}\n", one.trim()));
        rest = after;
    }
    found
}

/// With this one among them: as the first, or else at the end where it is not there yet.
fn with(mut trusted: Vec<String>, new: &str, first: bool) -> Vec<String> {
    for new in certificates(new) {
        let present = trusted.iter().position(|one| *one == new);
        match (present, first) {
            (Some(at), true) => {
                let one = trusted.remove(at);
                trusted.insert(0, one);
            }
            (None, true) => trusted.insert(0, new),
            (None, false) => trusted.push(new),
            (Some(_), false) => {}
        }
    }
    trusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local;

    #[test]
    fn authorities_turn_in_three_steps() {
        let dir = tempfile::tempdir().unwrap();
        for (name, common_name) in ALL {
            Authority::open_or_create(dir.path(), name, common_name).unwrap();
        }
        let leaf = Pair::in_dir(dir.path(), "admin");
        let issue = || {
            let authority = Authority::open_or_create(dir.path(), "ca", "kontiki-ca").unwrap();
            authority
                .renewing(Renew::WhereNeeded)
                .ensure(&leaf, &local::client("admin", None))
                .unwrap();
            pki::read(&leaf.cert).unwrap()
        };
        let trusted = || certificates(&pki::read(&dir.path().join("ca.crt")).unwrap());
        let (old, first) = (trusted(), issue());
        assert!(turn(dir.path(), Step::Use).is_err());
        for _ in 0..2 {
            turn(dir.path(), Step::Add).unwrap();
            assert_eq!((trusted().len(), &trusted()[0]), (2, &old[0]));
            assert_eq!(issue(), first);
        }
        assert!(turn(dir.path(), Step::Drop).is_err());
        turn(dir.path(), Step::Use).unwrap();
        assert_eq!((trusted().len(), &trusted()[1]), (2, &old[0]));
        let second = issue();
        assert_ne!(second, first);
        assert_eq!(issue(), second);
        for _ in 0..2 {
            turn(dir.path(), Step::Drop).unwrap();
            assert_eq!(trusted().len(), 1);
            assert!(!trusted().contains(&old[0]));
        }
        assert_eq!(issue(), second);
    }
}
