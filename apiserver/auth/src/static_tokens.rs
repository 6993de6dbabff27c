//! A fixed list of bearer tokens, as in `--token-auth-file`.
//!
//! Only digests are kept, and a presented token is compared with every entry in the same time whatever it
//! starts with, so that neither memory nor timing tells a token.

use sha2::{Digest, Sha256};

use crate::user::User;

/// Tokens by digest. Cheap to clone while small.
#[derive(Clone, Debug, Default)]
pub struct StaticTokens {
    entries: Vec<([u8; 32], User)>,
}

/// A line of a token file that does not read `token,user,uid[,"group1,group2"]`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("token file line {line}: {problem}")]
pub struct Error {
    /// Counted from 1.
    pub line: usize,
    pub problem: &'static str,
}

impl StaticTokens {
    /// Adds a token; an empty one is ignored. The user is given `system:authenticated`.
    pub fn insert(&mut self, token: &str, user: User) {
        if !token.is_empty() {
            self.entries.push((digest(token), user.authenticated()));
        }
    }

    /// Reads the file format of Kubernetes.
    pub fn from_csv(text: &str) -> Result<Self, Error> {
        let mut tokens = StaticTokens::default();
        for (index, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let error = |problem| Error {
                line: index + 1,
                problem,
            };
            let fields = fields(line).ok_or(error("unterminated quote"))?;
            let [token, name, uid, rest @ ..] = fields.as_slice() else {
                return Err(error(
                    "token file must have at least 3 columns (token, user name, user uid)",
                ));
            };
            if token.is_empty() {
                return Err(error("empty token"));
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default();
            let groups = groups
                .split(',')
                .map(str::trim)
                .filter(|group| !group.is_empty())
                .map(str::to_owned)
                .collect();
            tokens.insert(
                token,
                User {
                    name: name.clone(),
                    uid: uid.clone(),
                    groups,
                    ..User::default()
                },
            );
        }
        Ok(tokens)
    }

    pub fn authenticate(&self, token: &str) -> Option<User> {
        let presented = digest(token);
        let mut found = None;
        for (known, user) in &self.entries {
            let difference = known
                .iter()
                .zip(&presented)
                .fold(0_u8, |sum, (a, b)| sum | (a ^ b));
            if std::hint::black_box(difference) == 0 {
                found = Some(user);
            }
        }
        found.cloned()
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Splits one line of comma separated values; a doubled quote inside quotes is a quote.
fn fields(line: &str) -> Option<Vec<String>> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.trim().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_exactly() {
        let tokens =
            StaticTokens::from_csv("s3cret,jane,7,\"dev,ops\"\n\nother,\"joe \"\"j\"\"\",8\n")
                .unwrap();
        let jane = tokens.authenticate("s3cret").unwrap();
        assert_eq!((jane.name.as_str(), jane.uid.as_str()), ("jane", "7"));
        assert_eq!(jane.groups, ["dev", "ops", "system:authenticated"]);
        assert_eq!(tokens.authenticate("other").unwrap().name, "joe \"j\"");
        for wrong in ["", "s3cre", "s3cret ", "S3cret", "s3cretx"] {
            assert_eq!(tokens.authenticate(wrong), None, "{wrong:?}");
        }
        assert_eq!(StaticTokens::default().authenticate(""), None);
    }

    #[test]
    fn broken_lines_are_named() {
        assert_eq!(StaticTokens::from_csv("a,b,c\na,b").unwrap_err().line, 2);
        assert_eq!(
            StaticTokens::from_csv("a,b,\"c").unwrap_err().problem,
            "unterminated quote"
        );
        assert_eq!(
            StaticTokens::from_csv(",b,c").unwrap_err().problem,
            "empty token"
        );
    }
}
