//! Which resources a rule of the configuration is for, and what Kubernetes does not let a list of them say.

use std::fmt;

use super::config::{EncryptionError, invalid};

/// What a rule is for, the most specific one last: the rule of the most specific pattern holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pattern {
    /// `*.*`
    Everything,
    /// `*.apps`, and `*.` for the core group
    Group(String),
    /// `deployments.apps`, and `secrets` for the core group
    One { group: String, plural: String },
}

impl Pattern {
    pub(super) fn fits(&self, group: &str, plural: &str) -> bool {
        match self {
            Pattern::Everything => true,
            Pattern::Group(of) => of == group,
            Pattern::One {
                group: of,
                plural: one,
            } => of == group && one == plural,
        }
    }

    /// Whether a later rule for `other` would never hold in Kubernetes, which takes the first one.
    fn masks(&self, other: &Pattern) -> bool {
        match (self, other) {
            (Pattern::Everything, _) => true,
            (Pattern::Group(group), Pattern::Group(of) | Pattern::One { group: of, .. }) => {
                group == of
            }
            _ => false,
        }
    }
}

/// As in the configuration.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Everything => f.write_str("*.*"),
            Pattern::Group(group) => write!(f, "*.{group}"),
            Pattern::One { group, plural } if group.is_empty() => f.write_str(plural),
            Pattern::One { group, plural } => write!(f, "{plural}.{group}"),
        }
    }
}

/// The patterns of a rule, whose list of names stands at `path`.
pub(super) fn patterns(names: &[String], path: &str) -> Result<Vec<Pattern>, EncryptionError> {
    if let Some(why) = overlap(names) {
        let list = serde_json::Value::from(names);
        return Err(invalid(path, &format!("Invalid value: {list}: {why}")));
    }
    let names = names.iter().enumerate();
    let patterns = names.map(|(at, name)| pattern(name, &format!("{path}[{at}]")));
    patterns.collect()
}

/// Refuses a rule that an earlier one hides.
pub(super) fn check_order<'a>(
    rules: impl Iterator<Item = &'a [Pattern]>,
) -> Result<(), EncryptionError> {
    let mut before: Vec<&Pattern> = Vec::new();
    for rule in rules {
        for pattern in rule {
            if let Some(by) = before.iter().find(|earlier| earlier.masks(pattern)) {
                return Err(EncryptionError::Invalid(format!(
                    "resource \"{pattern}\" is masked by earlier rule \"{by}\""
                )));
            }
        }
        before.extend(rule);
    }
    Ok(())
}

/// A name's resource and group.
fn parts(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or((name, ""))
}

/// Why names cannot stand in one list.
fn overlap(names: &[String]) -> Option<&'static str> {
    let (mut twice, mut masked) = (false, false);
    for (at, one) in names.iter().enumerate() {
        for other in &names[at + 1..] {
            let ((one, group), (other, of)) = (parts(one), parts(other));
            let same_group = group == of;
            if one == other && same_group {
                twice = true;
                continue;
            }
            let everything = (one, group) == ("*", "*") || (other, of) == ("*", "*");
            masked |= everything || (same_group && (one == "*" || other == "*"));
        }
    }
    match (twice, masked) {
        (true, _) => Some("the same resource cannot be specified multiple times"),
        (_, true) => Some(
            "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked",
        ),
        _ => None,
    }
}

fn pattern(name: &str, path: &str) -> Result<Pattern, EncryptionError> {
    let refuse = |why: &str| Err(invalid(path, &format!("Invalid value: {name:?}: {why}")));
    if name.to_lowercase() != name {
        return refuse("resource name should not contain capital letters");
    }
    match (name, parts(name)) {
        ("*", _) => refuse(
            "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources",
        ),
        ("apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations", _) => {
            refuse("resources which do not have REST API/s cannot be encrypted")
        }
        (_, (_, "events.k8s.io")) => refuse(
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file",
        ),
        (_, (_, "extensions")) => {
            refuse("'extensions' group has been removed and cannot be used for encryption")
        }
        (_, ("*", "*")) => Ok(Pattern::Everything),
        (_, (_, "*")) => refuse("encrypting the same resource across groups is not supported"),
        (_, ("*", group)) if !group.contains('*') => Ok(Pattern::Group(group.to_owned())),
        // Kubernetes takes them, and they fit nothing: what is meant to be encrypted would not be.
        _ if name.contains('*') => refuse("'*' does not stand for a part of a name"),
        (_, ("", _)) => refuse("a resource has a name"),
        (_, (plural, group)) => Ok(Pattern::One {
            group: group.to_owned(),
            plural: plural.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with spaces between them.
    fn read(names: &str) -> Result<Vec<Pattern>, String> {
        let names: Vec<String> = names.split(' ').map(str::to_owned).collect();
        patterns(&names, "r").map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_list_cannot_say_is_refused_in_kubernetes_words() {
        let twice =
            r#"r: Invalid value: ["a","a"]: the same resource cannot be specified multiple times"#;
        let capital =
            r#"r[1]: Invalid value: "B": resource name should not contain capital letters"#;
        let overlapping = "using overlapping resources such as";
        for (names, part) in [
            ("a a", twice),
            ("*.* *.*", "multiple times"),
            ("secrets *.", overlapping),
            ("*. secrets", overlapping),
            ("*.apps deployments.apps", overlapping),
            ("deployments.apps *.*", overlapping),
            ("*.* *.apps", overlapping),
            ("a B", capital),
            ("*", "use '*.' to encrypt all the resources from core"),
            ("apiserveripinfo", "do not have REST API/s"),
            ("events.events.k8s.io", "Use 'events' instead"),
            ("*.events.k8s.io", "Use 'events' instead"),
            ("ingresses.extensions", "'extensions' group has been"),
            ("secrets.*", "across groups is not supported"),
            ("se*ts", "does not stand for a part"),
            ("*.a*", "does not stand for a part"),
            ("", "has a name"),
        ] {
            let said = read(names).unwrap_err();
            assert!(said.contains(part), "{names:?}: {said}");
        }
        let list = "secrets events *.apps a.b.example.com";
        let read = read(list).unwrap();
        let shown: Vec<String> = read.iter().map(ToString::to_string).collect();
        assert_eq!(shown.join(" "), list);
    }

    #[test]
    fn what_an_earlier_rule_hides_is_refused() {
        for (rules, said) in [
            ("secrets secrets *. *.apps *.*", None),
            ("*. secrets", Some(("secrets", "*."))),
            ("*.apps jobs.batch *.apps", Some(("*.apps", "*.apps"))),
            ("*.* deployments.apps", Some(("deployments.apps", "*.*"))),
            ("*.* *.", Some(("*.", "*.*"))),
        ] {
            let rules = rules.split(' ').map(|name| read(name).unwrap());
            let rules: Vec<Vec<Pattern>> = rules.collect();
            let error = check_order(rules.iter().map(Vec::as_slice)).err();
            let said = said.map(|(name, by)| {
                EncryptionError::Invalid(format!(
                    "resource \"{name}\" is masked by earlier rule \"{by}\""
                ))
            });
            assert_eq!(error, said);
        }
    }
}
