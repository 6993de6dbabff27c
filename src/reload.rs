//! Files that are taken anew when they change, without a restart: certificates, authorities, and what says who may do what.
//!
//! They are read again every so often, which works for whatever way they come: written in place, renamed, or behind the
//! links of a mounted Secret. A content that is not usable changes nothing: what was in use stays so, and the log and the
//! metrics say it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use apiserver::ApiServer;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::pki::{self, Pair};

/// How often the files are looked at. A change counts at the second look.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is done with the contents of files.
type Take = dyn FnMut(&[String]) -> Result<()> + Send;

/// The files that a file names, by its path and its content.
pub(crate) type Named = fn(&Path, &str) -> Vec<PathBuf>;

/// What is read at each look.
#[derive(Clone)]
struct Files {
    own: Vec<PathBuf>,
    /// What the first of them names belongs to it, too: a change there is one of it.
    named: Option<Named>,
}

/// Files that belong together, and what is done with their content.
pub(crate) struct Followed {
    /// What it is, in the log and in metrics.
    name: &'static str,
    files: Files,
    /// Which of them is a certificate whose end is shown.
    certificate: Option<usize>,
    take: Box<Take>,
}

impl Followed {
    /// A certificate and its key, together with the authorities that count where they are used.
    pub(crate) fn pair(
        name: &'static str,
        authorities: &[PathBuf],
        pair: Pair,
        mut take: impl FnMut(&str, &str, &str) -> Result<()> + Send + 'static,
    ) -> Followed {
        let take = move |contents: &[String]| match contents {
            [cert, key, authorities @ ..] => take(&authorities.join("\n"), cert, key),
            _ => bail!("a certificate and its key are two files"),
        };
        Followed {
            name,
            files: Files {
                own: [pair.cert, pair.key]
                    .into_iter()
                    .chain(authorities.iter().cloned())
                    .collect(),
                named: None,
            },
            certificate: Some(0),
            take: Box::new(take),
        }
    }

    /// One file.
    pub(crate) fn file(
        name: &'static str,
        file: PathBuf,
        take: impl FnMut(&str) -> Result<()> + Send + 'static,
    ) -> Followed {
        Followed::naming(name, file, None, take)
    }

    /// One file, and those that it names: its content is taken anew where any of them changes.
    pub(crate) fn naming(
        name: &'static str,
        file: PathBuf,
        named: Option<Named>,
        mut take: impl FnMut(&str) -> Result<()> + Send + 'static,
    ) -> Followed {
        Followed {
            name,
            files: Files {
                own: vec![file],
                named,
            },
            certificate: None,
            take: Box::new(move |contents| {
                contents.first().map_or(Ok(()), |content| take(content))
            }),
        }
    }
}

/// The contents of some files, or why they cannot be read.
type Contents = Result<Vec<String>, String>;

/// Tells when there is a change. A certificate and its key are two files that are replaced one after the other, so a content
/// counts when it is seen a second time.
struct Settling {
    /// What was decided about last.
    decided: Contents,
    last: Contents,
}

impl Settling {
    fn new(contents: Contents) -> Settling {
        Settling {
            decided: contents.clone(),
            last: contents,
        }
    }

    /// The content to decide about now, if there is one.
    fn look(&mut self, now: Contents) -> Option<&Contents> {
        let settled = now == self.last && now != self.decided;
        self.last = now;
        if !settled {
            return None;
        }
        self.decided = self.last.clone();
        Some(&self.decided)
    }
}

/// Follows the files until `stop`; what comes of it is shown in the metrics of `api`. Their present content is taken to be in
/// use.
pub(crate) async fn follow(
    mut all: Vec<Followed>,
    api: Option<Arc<ApiServer>>,
    stop: CancellationToken,
) {
    let files: Arc<[Files]> = all.iter().map(|one| one.files.clone()).collect();
    let Some(first) = read_all(&files).await else {
        return;
    };
    for (one, contents) in all.iter().zip(&first) {
        show_expiry(one, contents, api.as_deref());
    }
    let mut settling: Vec<Settling> = first.into_iter().map(Settling::new).collect();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        let Some(now) = read_all(&files).await else {
            return;
        };
        for ((one, settling), now) in all.iter_mut().zip(&mut settling).zip(now) {
            if let Some(contents) = settling.look(now) {
                take(one, contents, api.as_deref());
            }
        }
    }
}

fn take(one: &mut Followed, contents: &Contents, api: Option<&ApiServer>) {
    let taken = match contents {
        Ok(contents) => (one.take)(contents),
        Err(error) => Err(anyhow::Error::msg(error.clone())),
    };
    match &taken {
        Ok(()) => {
            info!(file = one.name, "a changed file is in use");
            show_expiry(one, contents, api);
        }
        Err(error) => error!(
            file = one.name,
            error = format!("{error:#}"),
            "a changed file is not usable, what was in use before stays"
        ),
    }
    if let Some(api) = api {
        api.count_reload(one.name, taken.is_ok());
    }
}

fn show_expiry(one: &Followed, contents: &Contents, api: Option<&ApiServer>) {
    let pem = contents.as_ref().ok().zip(one.certificate);
    let pem = pem.and_then(|(contents, index)| contents.get(index));
    if let Some((api, end)) = api.zip(pem.and_then(|pem| pki::end_of(pem))) {
        api.show_expiry(one.name, end);
    }
}

/// None where the process ends.
async fn read_all(files: &Arc<[Files]>) -> Option<Vec<Contents>> {
    let files = files.clone();
    let reading = tokio::task::spawn_blocking(move || files.iter().map(read).collect());
    reading.await.ok()
}

fn read(files: &Files) -> Contents {
    let read_each = |files: &[PathBuf]| -> Contents {
        let read = |file: &PathBuf| {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
        };
        let contents: Result<Vec<String>> = files.iter().map(read).collect();
        contents.map_err(|error| format!("{error:#}"))
    };
    let mut contents = read_each(&files.own)?;
    if let (Some(named), Some(file), Some(text)) =
        (files.named, files.own.first(), contents.first())
    {
        let more = read_each(&named(file, text))?;
        contents.extend(more);
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn text(text: &str) -> Contents {
        Ok(vec![text.to_owned()])
    }

    #[test]
    fn a_content_counts_when_it_stays() {
        let mut settling = Settling::new(text("a"));
        assert_eq!(settling.look(text("a")), None);
        // A key without its certificate, and then with it.
        assert_eq!(settling.look(text("half")), None);
        assert_eq!(settling.look(text("b")), None);
        assert_eq!(settling.look(text("b")), Some(&text("b")));
        assert_eq!(settling.look(text("b")), None);
        // Gone for a moment is no change, gone for longer is.
        let gone: Contents = Err("gone".to_owned());
        assert_eq!(settling.look(gone.clone()), None);
        assert_eq!(settling.look(text("b")), None);
        assert_eq!(settling.look(gone.clone()), None);
        assert_eq!(settling.look(gone.clone()), Some(&gone));
        assert_eq!(settling.look(text("b")), None);
        assert_eq!(settling.look(text("b")), Some(&text("b")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_taken_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "1").unwrap();
        let taken: Arc<Mutex<Vec<u32>>> = Arc::default();
        let seen = taken.clone();
        let followed = Followed::file("number", file.clone(), move |content| {
            seen.lock().unwrap().push(content.parse()?);
            Ok(())
        });
        let stop = CancellationToken::new();
        let following = tokio::spawn(follow(vec![followed], None, stop.clone()));
        let until = async |wanted: &[u32]| {
            while *taken.lock().unwrap() != wanted {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::sleep(2 * LOOK_EVERY).await;
        std::fs::write(&file, "2").unwrap();
        until(&[2]).await;
        std::fs::write(&file, "no number").unwrap();
        tokio::time::sleep(5 * LOOK_EVERY).await;
        std::fs::write(&file, "3").unwrap();
        until(&[2, 3]).await;
        stop.cancel();
        following.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_taken_anew_where_one_that_it_names_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("file"), dir.path().join("other"));
        std::fs::write(&file, "other").unwrap();
        std::fs::write(&other, "1").unwrap();
        let taken: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = taken.clone();
        let named: Named = |file, text| vec![file.with_file_name(text)];
        let followed = Followed::naming("names", file, Some(named), move |content| {
            seen.lock().unwrap().push(content.to_owned());
            Ok(())
        });
        let stop = CancellationToken::new();
        let following = tokio::spawn(follow(vec![followed], None, stop.clone()));
        tokio::time::sleep(5 * LOOK_EVERY).await;
        assert!(taken.lock().unwrap().is_empty());
        std::fs::write(&other, "2").unwrap();
        while *taken.lock().unwrap() != ["other"] {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        stop.cancel();
        following.await.unwrap();
    }
}
