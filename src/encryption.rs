//! The file with the keys of the encryption at rest: made with the other keys of a cluster, read at start, and again when it
//! changes.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use apiserver::{ApiServer, Encryption};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::cli::ServerArgs;
use crate::pki;

/// Its name in a folder of certificates and keys.
pub(crate) const FILE: &str = "encryption.yaml";
/// A change is noticed within this time.
const READ_EVERY: Duration = Duration::from_secs(5);

/// Makes the file in `dir` where it is missing: Secrets are encrypted with a new key, and those that are there in clear are
/// read. Where a member's folder has a copy, the one in `dir` was lost: a new key would not read what is stored.
pub(crate) fn ensure(dir: &Path, copies: impl Iterator<Item = PathBuf>) -> Result<()> {
    let file = dir.join(FILE);
    if file.exists() {
        return Ok(());
    }
    if let Some(copy) = copies.map(|dir| dir.join(FILE)).find(|copy| copy.exists()) {
        bail!(
            "{} is gone, with the keys of the stored Secrets; a member still has a copy: put {} back in its place",
            file.display(),
            copy.display()
        );
    }
    pki::create_private_dir(dir)?;
    pki::write_secret(&file, text(rand::random()).as_bytes())
}

fn text(key: [u8; 32]) -> String {
    let secret = STANDARD.encode(key);
    format!(
        "\
# Keys of what is stored encrypted. Without this file the Secrets of the cluster cannot be read: keep a copy of it, and not
# beside the backups of the store. The first key writes, all of them read.
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources:
  - secrets
  providers:
  - aesgcm:
      keys:
      - name: key1
        secret: {secret}
  # Reads what was stored before there was a key.
  - identity: {{}}
"
    )
}

/// Where a server's file is.
pub(crate) struct Source {
    file: PathBuf,
    /// It was named, so it has to be there.
    required: bool,
}

impl Source {
    pub(crate) fn of(args: &ServerArgs) -> Source {
        let given = args.encryption_provider_config.clone();
        Source {
            required: given.is_some(),
            file: given.unwrap_or_else(|| args.pki_dir.join(FILE)),
        }
    }

    /// What the file says, and its text; nothing is encrypted where there is none.
    pub(crate) fn read(&self) -> Result<(Encryption, Option<String>)> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && !self.required => {
                warn!(
                    file = %self.file.display(),
                    "there is no file with keys: Secrets are stored in clear, and those that were encrypted cannot be read. \
                     `kontiki up` and `kontiki pki` make it; where it was lost, put its copy back"
                );
                return Ok((Encryption::default(), None));
            }
            Err(error) => {
                let file = self.file.display();
                return Err(error).with_context(|| {
                    format!(
                        "cannot read {file} (--encryption-provider-config): put it back from a copy"
                    )
                });
            }
        };
        let encryption = self.parse(&text)?;
        Ok((encryption, Some(text)))
    }

    fn parse(&self, text: &str) -> Result<Encryption> {
        Encryption::parse(text).with_context(|| {
            format!(
                "{} (--encryption-provider-config) does not hold; mend it, or put its last good version back",
                self.file.display()
            )
        })
    }

    /// Lets the server go by what the file becomes, until `stop`. What cannot be read or does not hold changes nothing.
    pub(crate) async fn follow(
        self,
        mut last: Option<String>,
        api: Arc<ApiServer>,
        stop: CancellationToken,
    ) {
        let mut complained = false;
        while stop
            .run_until_cancelled(tokio::time::sleep(READ_EVERY))
            .await
            .is_some()
        {
            let text = match tokio::fs::read_to_string(&self.file).await {
                Ok(text) => text,
                // There was none.
                Err(_) if last.is_none() => continue,
                Err(error) => {
                    if !std::mem::replace(&mut complained, true) {
                        error!(file = %self.file.display(), %error, "the file with the keys cannot be read; put it back: the next start needs it");
                    }
                    continue;
                }
            };
            complained = false;
            if last.as_ref() == Some(&text) {
                continue;
            }
            match self.parse(&text) {
                Ok(encryption) => {
                    api.encrypt_by(encryption);
                    info!(file = %self.file.display(), "the keys have changed");
                }
                Err(error) => {
                    error!(error = format!("{error:#}"), "the former keys hold on");
                }
            }
            last = Some(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_made_once_and_not_made_anew_where_it_was_lost() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (pki, member) = (dir.path().join("pki"), dir.path().join("m1/pki"));
        let make = || ensure(&pki, [member.clone()].into_iter());
        make().unwrap();
        let file = pki.join(FILE);
        let first = fs::read_to_string(&file).unwrap();
        Encryption::parse(&first).unwrap();
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        make().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), first);
        fs::create_dir_all(&member).unwrap();
        fs::rename(&file, member.join(FILE)).unwrap();
        let error = make().unwrap_err().to_string();
        assert!(error.contains("m1/pki/encryption.yaml back"), "{error}");
        assert!(!file.exists());
    }

    #[test]
    fn a_file_that_was_named_has_to_be_there_and_hold() {
        let dir = tempfile::tempdir().unwrap();
        let source = |required| Source {
            file: dir.path().join(FILE),
            required,
        };
        let error = source(true).read().err().unwrap().to_string();
        assert!(error.contains("put it back"), "{error}");
        assert!(source(false).read().unwrap().1.is_none());
        fs::write(dir.path().join(FILE), "kind: X\napiVersion: v1\n").unwrap();
        let error = source(false).read().err().unwrap().to_string();
        assert!(error.contains("mend it"), "{error}");
    }
}
