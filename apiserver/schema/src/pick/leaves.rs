//! The texts of the values at some paths of a JSON object, found in one going through its text. Whoever takes a few words of each
//! of many objects needs no tree of them.

use std::borrow::Cow;

use super::scan::Scanner;

/// Which values, as a tree of the names that lead to them.
#[derive(Clone, Debug)]
pub struct Leaves {
    root: Node,
    count: usize,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    named: Vec<(Box<str>, Node)>,
    /// Which values are below it.
    pub(super) below: Vec<usize>,
    /// Which one it is itself. Then there are none below.
    pub(super) own: Option<usize>,
}

impl Node {
    pub(super) fn named(&self, name: &str) -> Option<&Node> {
        let named = self.named.iter().find(|(known, _)| **known == *name);
        named.map(|(_, node)| node)
    }

    /// None where the path leads to another value, or through one.
    fn put(&mut self, path: &str, which: usize) -> Option<()> {
        if self.own.is_some() {
            return None;
        }
        self.below.push(which);
        let (name, rest) = match path.split_once('.') {
            Some((name, rest)) => (name, Some(rest)),
            None => (path, None),
        };
        let at = self.named.iter().position(|(known, _)| **known == *name);
        let at = at.unwrap_or_else(|| {
            self.named.push((name.into(), Node::default()));
            self.named.len() - 1
        });
        let node = &mut self.named[at].1;
        match rest {
            Some(rest) => node.put(rest, which),
            None if node.own.is_none() && node.named.is_empty() => {
                node.own = Some(which);
                Some(())
            }
            None => None,
        }
    }
}

impl Leaves {
    /// The values at these paths, whose names are joined by dots; none where one of them leads to another, or through one.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a str>) -> Option<Leaves> {
        let mut root = Node::default();
        let mut count = 0;
        for path in paths {
            root.put(path, count)?;
            count += 1;
        }
        Some(Leaves { root, count })
    }

    /// The text of each value, in the order of the paths, and none of one that is not there. None altogether where the text is
    /// not one that `serde_json` reads as an object.
    pub fn read<'j>(&self, json: &'j [u8]) -> Option<Vec<Option<&'j str>>> {
        let text = std::str::from_utf8(json).ok()?;
        let mut found = vec![None; self.count];
        let read = Scanner::new(text).leaves(&self.root, &mut found);
        read.is_ok().then_some(found)
    }
}

/// The members of the object whose text this is, with the texts of their values, as they stand there; none of another value.
pub fn members(text: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    Scanner::new(text).members().ok()
}

/// What the string says whose text this is; none of another value.
pub fn string(text: &str) -> Option<Cow<'_, str>> {
    let inside = text.strip_prefix('"')?.strip_suffix('"')?;
    match inside.bytes().any(|byte| byte == b'\\') {
        false => Some(Cow::Borrowed(inside)),
        true => serde_json::from_str::<String>(text).ok().map(Cow::Owned),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Each value as a complete reading finds it.
    fn of_complete(paths: &[&str], json: &str) -> Option<Vec<Option<Value>>> {
        let value: Value = serde_json::from_str(json).ok()?;
        let object = value.is_object().then_some(&value)?;
        let at = |path: &&str| {
            let mut names = path.split('.');
            names
                .try_fold(object, |value, name| value.get(name))
                .cloned()
        };
        Some(paths.iter().map(at).collect())
    }

    fn compare(paths: &[&str], json: &str) {
        let leaves = Leaves::of(paths.iter().copied()).unwrap();
        let found = leaves.read(json.as_bytes());
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let found: Option<Vec<Option<Value>>> =
            found.map(|all| all.into_iter().map(|one| one.map(parsed)).collect());
        assert_eq!(found, of_complete(paths, json), "{json}");
    }

    #[test]
    fn a_path_leads_to_no_other_value() {
        for paths in [
            &["a", "a"][..],
            &["a.b", "a"],
            &["a", "a.b"],
            &["a.b.c", "a.b"],
        ] {
            assert!(Leaves::of(paths.iter().copied()).is_none(), "{paths:?}");
        }
        assert!(Leaves::of(["a.b", "a.c", "b"]).is_some());
        assert_eq!(Leaves::of([]).unwrap().read(b"{}"), Some(Vec::new()));
    }

    #[test]
    fn the_last_of_several_counts() {
        for json in [
            r#"{"a":{"b":1,"c":2},"a":{"c":3}}"#,
            r#"{"a":{"b":1},"a":null,"e":1,"e":2}"#,
            r#"{"a":{"b":1,"b":2},"\u0061":{"d":{"f":1}}}"#,
            r#"{"a":{"d":{"f":1},"d":[]}}"#,
            r#" { "a" : { "b" : [ 1 , 2 ] } } "#,
            r#"{"a":[{"b":1}],"e":"x\"\n"}"#,
            "[]",
            "{} x",
            "",
        ] {
            compare(&["a.b", "a.c", "a.d.f", "e"], json);
        }
    }

    #[test]
    fn strings_and_members_are_read() {
        for text in [r#""""#, r#""a""#, r#""\"\u00fc\\""#, "\"ü\""] {
            let expected: String = serde_json::from_str(text).unwrap();
            assert_eq!(string(text).unwrap(), expected, "{text}");
        }
        assert!(
            ["1", "null", "{}", "[\"\"]"]
                .iter()
                .all(|text| string(text).is_none())
        );
        let found = members(r#"{"b":{"x":[1]},"\u0061":"c","b":null}"#).unwrap();
        let expected = [("b", r#"{"x":[1]}"#), ("a", "\"c\""), ("b", "null")];
        assert!(
            found
                .iter()
                .map(|(name, value)| (&**name, *value))
                .eq(expected)
        );
        assert_eq!(members("{}"), Some(Vec::new()));
        assert!(members("[]").is_none() && members("null").is_none());
    }

    proptest! {
        #[test]
        fn values_are_those_of_a_complete_reading(
            text in r#"[\[\]{}",:0-9a-e.\\u -]{0,24}|\PC{0,20}"#,
            number in "-?[0-9.eE+-]{1,12}",
            (a, b) in (0..2_usize, 0..2_usize),
        ) {
            let values = [text, number];
            let (a, b) = (&values[a], &values[b]);
            for json in [
                format!(r#" {{"a" :{a}, "b": {{"c": {b}, "d":[1,{a}]}}, "e": {b}}} "#),
                format!(r#"{{"b":1,"b":{{"c":{b},"c":2}},{a}:{b}}}"#),
                format!(r#"{{"a":{b},"b":{{"c":{a}}}}}"#),
            ] {
                compare(&["a", "b.c", "b.d"], &json);
            }
        }
    }
}
