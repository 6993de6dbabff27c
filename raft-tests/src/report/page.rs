//! The page around a picture. Style, script and data stand in it, so that it opens from a disk and without a network;
//! its policy allows this one style and script and nothing else, not even what a hole in the escaping would let in.

use super::picture::Picture;
use super::words;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::io;

const PAGE: &str = include_str!("assets/page.html");
const STYLE: &str = include_str!("assets/page.css");
/// In the order in which they build on each other.
const SCRIPTS: [&str; 6] = [
    include_str!("assets/data.js"),
    include_str!("assets/layout.js"),
    include_str!("assets/draw.js"),
    include_str!("assets/overview.js"),
    include_str!("assets/details.js"),
    include_str!("assets/page.js"),
];

pub(super) fn html(picture: &Picture) -> io::Result<String> {
    let script = format!("(() => {{\n\"use strict\";\n{}}})();", SCRIPTS.concat());
    let (verdict, badge) = match picture.findings.is_empty() {
        true => ("passed", "Passed"),
        false => ("failed", "Failed"),
    };
    let (headline, story) = words_of(picture);
    let run = &picture.run;
    let title = format!("{badge}: {headline} ({} {})", run.level, run.seed);
    let data = serde_json::to_string(picture)?;
    Ok(fill(
        PAGE,
        &[
            ("title", &text(&title)),
            ("verdict", verdict),
            ("badge", badge),
            ("headline", &text(&headline)),
            ("story", &text(&story)),
            ("replay", &text(&run.replay)),
            ("style", STYLE),
            ("style hash", &hash(STYLE)),
            ("script", &script),
            ("script hash", &hash(&script)),
            ("picture", &in_script(&data)),
        ],
    ))
}

/// The headline and the story below it.
fn words_of(picture: &Picture) -> (String, String) {
    let counts = &picture.counts;
    if let Some(first) = picture.findings.first() {
        let more = match picture.findings.len() {
            1 => String::new(),
            findings => format!(", and {} more", findings - 1),
        };
        let headline = format!("{}{more}", words::cut(&first.rule, 200));
        return (headline, words::cut(&first.story, 2000));
    }
    let operations = counts.ok + counts.failed + counts.unknown;
    let faults: usize = counts.faults.iter().map(|(_, count)| count).sum();
    let story = format!(
        "{} made {} while {}. No judge has anything to say against this run.",
        number(counts.clients, "client"),
        number(operations, "operation"),
        match faults {
            0 => "nothing was wrong with the cluster".into(),
            1 => "the cluster suffered one fault".into(),
            faults => format!("the cluster suffered {}", number(faults, "fault")),
        },
    );
    ("every answer can be explained".into(), story)
}

/// `1 client`, `12,345 operations`.
fn number(count: usize, of: &str) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let plural = if count == 1 { "" } else { "s" };
    format!("{grouped} {of}{plural}")
}

/// Replaces each `{{name}}`. What is put in is not looked at again, whatever it contains.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut parts = template.split("{{");
    let mut page = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (name, rest) = part.split_once("}}").expect("a name is closed");
        let value = values.iter().find(|(known, _)| *known == name);
        page += value.expect("the template names what there is").1;
        page += rest;
    }
    page
}

/// As text between tags.
fn text(words: &str) -> String {
    let mut escaped = String::with_capacity(words.len());
    for character in words.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            other => escaped.push(other),
        }
    }
    escaped
}

/// JSON within a script element, which nothing in it can end. `<` stands only in strings of JSON.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

/// As a content security policy names what it allows.
pub(crate) fn hash(allowed: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(allowed)))
}

#[cfg(test)]
mod tests {
    use super::super::picture::{Limits, paint};
    use super::*;
    use crate::recording::{Recording, Violation};

    const HOSTILE: &str = "</script><img src=x onerror=alert(1)>{{script}}&\"'";

    fn page(violations: &[Violation]) -> String {
        let mut recording = Recording::default();
        recording.run.replay = HOSTILE.into();
        recording.run.level = HOSTILE.into();
        html(&paint(&recording, violations, Limits::default())).unwrap()
    }

    #[test]
    fn no_text_of_a_run_becomes_markup() {
        let violation = Violation {
            rule: HOSTILE.into(),
            story: HOSTILE.into(),
            ..Violation::default()
        };
        let page = page(&[violation]);
        assert!(!page.contains("<img"));
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;{{script}}&amp;&quot;&#39;"));
    }

    #[test]
    fn a_run_without_violations_says_that_it_passed() {
        let page = page(&[]);
        assert!(page.contains("<span class=\"badge\">Passed</span> every answer can be explained"));
        assert!(!page.contains("{{title}}"));
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(1, "client"), "1 client");
        assert_eq!(number(999, "fault"), "999 faults");
        assert_eq!(number(1_234_567, "operation"), "1,234,567 operations");
    }

    #[test]
    fn the_page_refers_to_nothing_outside() {
        let page = page(&[]);
        for reference in ["http://", "https://", "src=\"", "@import", "url("] {
            assert!(!page.contains(reference), "{reference}");
        }
    }

    #[test]
    fn the_policy_names_the_hash_of_the_script() {
        // `printf abc | openssl dgst -sha256 -binary | base64`
        assert_eq!(
            hash("abc"),
            "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="
        );
    }
}
