//! A webhook that a file in the form of a kubeconfig names: where it is, what its certificate is checked against, and who this
//! server is towards it. Of the file the current context counts.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde_json::Value;

use super::{Credentials, Peer};
use crate::world::World;

/// What such a file says; the certificates and tokens in files of their own have been read.
pub(crate) struct Target {
    pub(crate) server: String,
    ca_pem: String,
    credentials: Credentials,
}

impl Target {
    /// Reads a file. Paths in it are relative to its directory.
    pub(crate) fn read(file: &Path) -> Result<Target, String> {
        let text =
            fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let directory = file.parent().unwrap_or(Path::new("."));
        Target::parse(&text, directory).map_err(|error| format!("{}: {error}", file.display()))
    }

    pub(crate) fn parse(text: &str, directory: &Path) -> Result<Target, String> {
        let config = config(text)?;
        let (cluster, user) = current(&config)?;
        if cluster
            .get("insecure-skip-tls-verify")
            .and_then(Value::as_bool)
            == Some(true)
        {
            return Err(
                "insecure-skip-tls-verify is not supported: give certificate-authority".to_owned(),
            );
        }
        let server = word(cluster, "server");
        if server.is_empty() {
            return Err("the cluster has no server".to_owned());
        }
        Ok(Target {
            server: server.to_owned(),
            ca_pem: material(cluster, "certificate-authority", directory)?.unwrap_or_default(),
            credentials: credentials(user, directory)?,
        })
    }

    pub(crate) fn peer(self, world: &Arc<World>) -> Result<Peer, String> {
        Peer::of_url_as(
            world,
            &self.server,
            self.ca_pem.as_bytes(),
            self.credentials,
        )
    }
}

/// The files that a kubeconfig in `directory` names: what is in them changes without it. None where it cannot be read. One that
/// data stands in for is not read by anybody, and need not be there.
pub(crate) fn files(text: &str, directory: &Path) -> Vec<PathBuf> {
    let Ok(config) = config(text) else {
        return Vec::new();
    };
    let Ok((cluster, user)) = current(&config) else {
        return Vec::new();
    };
    let named = [
        (cluster, "certificate-authority"),
        (user, "client-certificate"),
        (user, "client-key"),
        (user, "tokenFile"),
    ];
    let read = named
        .into_iter()
        .filter(|(of, field)| word(of, &format!("{field}-data")).is_empty());
    read.map(|(of, field)| word(of, field))
        .filter(|file| !file.is_empty())
        .map(|file| directory.join(file))
        .collect()
}

fn config(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| format!("cannot be read: {error}"))
}

/// The cluster and the user of the current context; null for nobody.
fn current(config: &Value) -> Result<(&Value, &Value), String> {
    static NOBODY: Value = Value::Null;
    let name = word(config, "current-context");
    let context = named(config, "contexts", name, "context")?;
    let cluster = named(config, "clusters", word(context, "cluster"), "cluster")?;
    let user = match word(context, "user") {
        "" => &NOBODY,
        name => named(config, "users", name, "user")?,
    };
    Ok((cluster, user))
}

fn credentials(user: &Value, directory: &Path) -> Result<Credentials, String> {
    for field in ["exec", "auth-provider"] {
        if user.get(field).is_some_and(|value| !value.is_null()) {
            return Err(format!(
                "a user with {field} is not supported: give a certificate or a token"
            ));
        }
    }
    let certificate = material(user, "client-certificate", directory)?;
    let key = material(user, "client-key", directory)?;
    let certificate = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("client-certificate and client-key belong together".to_owned()),
    };
    let header = match (
        word(user, "token"),
        word(user, "tokenFile"),
        word(user, "username"),
    ) {
        ("", "", "") => None,
        ("", "", name) => {
            let login = STANDARD.encode(format!("{name}:{}", word(user, "password")));
            Some(format!("Basic {login}"))
        }
        (_, file, _) if !file.is_empty() => {
            let file = directory.join(file);
            let token = fs::read_to_string(&file)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            Some(format!("Bearer {}", token.trim()))
        }
        (token, ..) => Some(format!("Bearer {token}")),
    };
    let authorization = header.map(|text| {
        let value = HeaderValue::from_str(&text);
        let mut value = value.map_err(|_| "the token cannot be sent in a header".to_owned())?;
        value.set_sensitive(true);
        Ok::<_, String>(value)
    });
    Ok(Credentials {
        certificate,
        authorization: authorization.transpose()?,
    })
}

fn word<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn named<'a>(config: &'a Value, list: &str, name: &str, field: &str) -> Result<&'a Value, String> {
    let all = config.get(list).and_then(Value::as_array);
    let found = all
        .into_iter()
        .flatten()
        .find(|one| word(one, "name") == name);
    found
        .and_then(|one| one.get(field))
        .ok_or_else(|| format!("there is no {name:?} among the {list}"))
}

/// `<field>-data` in base64, or the file that `<field>` names.
fn material(value: &Value, field: &str, directory: &Path) -> Result<Option<String>, String> {
    let data = word(value, &format!("{field}-data"));
    if !data.is_empty() {
        let bytes = STANDARD.decode(data.trim());
        let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        return match text {
            Some(text) => Ok(Some(text)),
            None => Err(format!("{field}-data is no text in base64")),
        };
    }
    match word(value, field) {
        "" => Ok(None),
        file => {
            let file = directory.join(file);
            let text = fs::read_to_string(&file);
            text.map(Some)
                .map_err(|error| format!("{}: {error}", file.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: v1
kind: Config
current-context: w
clusters:
- name: hook
  cluster: {server: 'https://hook.example:8443/review', certificate-authority-data: Q0E=}
users:
- name: api
  user: {TOKEN}
contexts:
- name: w
  context: {cluster: hook, user: api}
";

    fn parse(user: &str) -> Result<Target, String> {
        Target::parse(&FILE.replace("{TOKEN}", user), Path::new("/nowhere"))
    }

    #[test]
    fn the_current_context_counts() {
        let target = parse("{token: abc}").unwrap();
        assert_eq!(target.server, "https://hook.example:8443/review");
        assert_eq!(target.ca_pem, "CA");
        let header = target.credentials.authorization.unwrap();
        assert_eq!(header, "Bearer abc");
        assert!(header.is_sensitive());
        let login = parse("{username: u, password: p}").unwrap().credentials;
        assert_eq!(login.authorization.unwrap(), "Basic dTpw");
        let pair = parse("{client-certificate-data: YQ==, client-key-data: Yg==}").unwrap();
        let pair = pair.credentials.certificate.unwrap();
        assert_eq!(pair, ("a".to_owned(), "b".to_owned()));
    }

    #[test]
    fn the_files_that_it_names_are_known() {
        let of = |user: &str| files(&FILE.replace("{TOKEN}", user), Path::new("/dir"));
        let none: [&str; 0] = [];
        assert_eq!(of("{token: abc}"), none.map(PathBuf::from));
        assert_eq!(
            of("{client-certificate: a.crt, client-key: /keys/a.key, tokenFile: token}"),
            ["/dir/a.crt", "/keys/a.key", "/dir/token"].map(PathBuf::from)
        );
        assert_eq!(
            of(
                "{client-certificate: gone.crt, client-certificate-data: YQ==, client-key: a.key, client-key-data: ''}"
            ),
            ["/dir/a.key"].map(PathBuf::from)
        );
        assert_eq!(files("[", Path::new("/dir")), none.map(PathBuf::from));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (user, problem) in [
            ("{client-certificate-data: YQ==}", "belong together"),
            ("{exec: {command: x}}", "exec is not supported"),
            ("{tokenFile: missing}", "/nowhere/missing"),
            (
                "{client-certificate-data: '*', client-key-data: Yg==}",
                "base64",
            ),
        ] {
            let error = parse(user).err().unwrap();
            assert!(error.contains(problem), "{error}");
        }
        let error = Target::parse("current-context: x", Path::new("/")).err();
        assert!(error.unwrap().contains("\"x\" among the contexts"));
    }
}
