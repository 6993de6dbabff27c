//! Objects of the Kubernetes API as its clients saw them, and what is wrong with that: plain functions.
//!
//! K1: an object whose creation was acknowledged is there until somebody may have deleted it. K2: the version of an object
//! rises with each of its writes. K3: no client goes back in time, whichever member it asks.

use crate::recording::Violation;
use std::collections::BTreeMap;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// At this resource version.
    Done(i64),
    /// It may have had its effect.
    Unknown,
    /// It had no effect.
    Refused,
}

/// One object. No two clients use one name, and no name is used again.
#[derive(Clone, Debug)]
pub struct Object {
    pub created: Option<Fate>,
    /// Versions that writes were answered with, in the order of the one client that writes it.
    pub versions: Vec<i64>,
    pub deleted: Option<Fate>,
}

impl Object {
    fn new() -> Object {
        Object {
            created: None,
            versions: Vec::new(),
            deleted: None,
        }
    }

    /// Whether it must be there, or must not.
    fn stands(&self) -> Option<bool> {
        match (self.created, self.deleted) {
            (_, Some(Fate::Done(_))) | (Some(Fate::Refused), _) => Some(false),
            (Some(Fate::Done(_)), None | Some(Fate::Refused)) => Some(true),
            _ => None,
        }
    }
}

/// One list of everything.
#[derive(Clone, Debug)]
pub struct Listed {
    pub member: String,
    pub version: i64,
    pub names: Vec<String>,
}

/// All that clients saw.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    pub objects: BTreeMap<String, Object>,
    /// Of each client: the version that it knew of before, from whatever answer, and the one that it was then shown.
    pub steps: Vec<(u32, String, i64, i64)>,
}

impl Objects {
    pub fn created(&mut self, name: &str, fate: Fate) {
        let object = self.objects.entry(name.into()).or_insert_with(Object::new);
        object.created = Some(fate);
        if let Fate::Done(version) = fate {
            object.versions.push(version);
        }
    }

    pub fn updated(&mut self, name: &str, version: i64) {
        let object = self.objects.entry(name.into()).or_insert_with(Object::new);
        object.versions.push(version);
    }

    pub fn deleted(&mut self, name: &str, fate: Fate) {
        let object = self.objects.entry(name.into()).or_insert_with(Object::new);
        object.deleted = Some(fate);
    }

    /// A read of the newest state was answered to somebody who knew of a version before he asked.
    pub fn stepped(&mut self, client: u32, member: &str, before: i64, shown: i64) {
        self.steps.push((client, member.into(), before, shown));
    }

    /// What is wrong, given what each member lists at the end.
    pub fn violations(&self, lists: &[Listed]) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut tell = |rule: &str, story: String| {
            found.push(Violation {
                rule: rule.into(),
                story,
                ..Violation::default()
            });
        };
        for list in lists {
            for (name, object) in &self.objects {
                let there = list.names.contains(name);
                match object.stands() {
                    Some(true) if !there => tell(
                        "K1: object lost",
                        format!(
                            "The creation of ConfigMap {name} was acknowledged ({:?}), and nobody deleted it. Member {} does \
                             not list it at version {}.",
                            object.created, list.member, list.version
                        ),
                    ),
                    Some(false) if there => tell(
                        "K1: object is back",
                        format!(
                            "ConfigMap {name} was created ({:?}) and deleted ({:?}). Member {} lists it at version {}.",
                            object.created, object.deleted, list.member, list.version
                        ),
                    ),
                    _ => {}
                }
            }
        }
        for (name, object) in &self.objects {
            if !object.versions.is_sorted_by(|one, next| one < next) {
                tell(
                    "K2: version does not rise",
                    format!(
                        "ConfigMap {name} was written again and again. The versions were {:?}.",
                        object.versions
                    ),
                );
            }
        }
        for (client, member, before, shown) in &self.steps {
            if shown < before {
                tell(
                    "K3: back in time",
                    format!(
                        "Client {client} knew of version {before}. Then member {member} showed it the newest state, of \
                         version {shown}."
                    ),
                );
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(objects: &Objects, names: &[&str]) -> Vec<String> {
        let list = Listed {
            member: "a".into(),
            version: 9,
            names: names.iter().map(|name| String::from(*name)).collect(),
        };
        let found = objects.violations(&[list]).into_iter();
        found.map(|violation| violation.rule).collect()
    }

    #[test]
    fn an_object_is_there_until_somebody_may_have_deleted_it() {
        let mut objects = Objects::default();
        objects.created("kept", Fate::Done(1));
        objects.created("gone", Fate::Done(2));
        objects.deleted("gone", Fate::Done(3));
        objects.created("perhaps", Fate::Unknown);
        objects.created("never", Fate::Refused);
        objects.created("perhaps-gone", Fate::Done(4));
        objects.deleted("perhaps-gone", Fate::Unknown);
        let none: [&str; 0] = [];
        assert_eq!(rules(&objects, &["kept"]), none);
        assert_eq!(rules(&objects, &["kept", "perhaps", "perhaps-gone"]), none);
        assert_eq!(rules(&objects, &[]), ["K1: object lost"]);
        assert_eq!(rules(&objects, &["kept", "gone"]), ["K1: object is back"]);
        assert_eq!(rules(&objects, &["kept", "never"]), ["K1: object is back"]);
    }

    #[test]
    fn versions_rise_and_nobody_goes_back() {
        let mut objects = Objects::default();
        objects.created("one", Fate::Done(5));
        objects.updated("one", 7);
        objects.stepped(1, "a", 7, 7);
        let none: [&str; 0] = [];
        assert_eq!(rules(&objects, &["one"]), none);
        objects.updated("one", 7);
        objects.stepped(1, "b", 8, 7);
        assert_eq!(
            rules(&objects, &["one"]),
            ["K2: version does not rise", "K3: back in time"]
        );
    }
}
