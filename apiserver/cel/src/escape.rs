//! How the names of properties are spelled in expressions over schemas, as Kubernetes documents it.

use crate::parser::RESERVED;

/// Literals and operators that are words; the rest is [`RESERVED`].
const KEYWORDS: &[&str] = &["true", "false", "null", "in"];
/// After a first `__`, which itself is spelled `__underscores__`.
const SYMBOLS: &[(&str, char)] = &[("dot", '.'), ("dash", '-'), ("slash", '/')];

/// Whether the name of a property is a word of the language.
pub(crate) fn is_keyword(name: &str) -> bool {
    KEYWORDS.contains(&name) || RESERVED.contains(&name)
}

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    let start = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    start && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// How an expression spells this property; none where it cannot.
pub fn escape(name: &str) -> Option<String> {
    if is_keyword(name) {
        return Some(format!("__{name}__"));
    }
    let mut made = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("__") {
            made.push_str("__underscores__");
            rest = after;
            continue;
        }
        match SYMBOLS.iter().find(|(_, symbol)| *symbol == c) {
            Some((word, _)) => {
                made.push_str("__");
                made.push_str(word);
                made.push_str("__");
            }
            None => made.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    is_identifier(&made).then_some(made)
}

/// The property that is spelled so.
pub fn unescape(spelled: &str) -> Option<String> {
    if let Some(word) = spelled
        .strip_prefix("__")
        .and_then(|rest| rest.strip_suffix("__"))
        && is_keyword(word)
    {
        return Some(word.to_string());
    }
    let mut made = String::with_capacity(spelled.len());
    let mut rest = spelled;
    while let Some((before, after)) = rest.split_once("__") {
        made.push_str(before);
        let (word, after) = after.split_once("__")?;
        match SYMBOLS.iter().find(|(known, _)| *known == word) {
            Some((_, symbol)) => made.push(*symbol),
            None if word == "underscores" => made.push_str("__"),
            None => return None,
        }
        rest = after;
    }
    made.push_str(rest);
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_documented_and_read_back() {
        let known = [
            ("int", "int"),
            ("self", "self"),
            ("namespace", "__namespace__"),
            ("x-prop", "x__dash__prop"),
            ("redact__d", "redact__underscores__d"),
            ("string", "string"),
            ("a.b/c", "a__dot__b__slash__c"),
        ];
        for (name, spelled) in known {
            assert_eq!(escape(name).as_deref(), Some(spelled));
            assert_eq!(unescape(spelled).as_deref(), Some(name));
        }
        assert_eq!(escape("a b"), None);
        assert_eq!(escape("1a"), None);
        assert_eq!(unescape("a__b"), None);
    }
}
