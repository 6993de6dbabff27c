//! `pattern`: Go's regular expressions, run by Rust's engine.
//!
//! Both are of the same family, linear in the text. Where the same syntax means something else, the
//! pattern is rewritten: the classes of Perl are ASCII in Go, braces that count nothing stand for
//! themselves, and sets have no operators.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use regex::{Regex, RegexBuilder};

/// Longer patterns are refused.
const PATTERN_BYTES_MAX: usize = 32 * 1024;
/// A compiled pattern may take this much memory; more is refused, as is a pattern that would.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// Compiled patterns are kept, but not more than this many, and none that are longer than that.
const KEPT_MAX: usize = 256;
const KEPT_BYTES_MAX: usize = 4096;
/// A repetition may count this far, as in Go.
const REPEAT_MAX: u32 = 1000;

static KEPT: LazyLock<Mutex<HashMap<Box<str>, Arc<Regex>>>> = LazyLock::new(Mutex::default);

/// Compiles a pattern, or says as Go does why it is none.
pub fn compile(pattern: &str) -> Result<Arc<Regex>, String> {
    let kept = |map: &HashMap<Box<str>, Arc<Regex>>| map.get(pattern).cloned();
    let lock = || KEPT.lock().unwrap_or_else(|broken| broken.into_inner());
    if let Some(regex) = kept(&lock()) {
        return Ok(regex);
    }
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err("error parsing regexp: expression too large".to_owned());
    }
    let rust = rewritten(pattern)?;
    let built = RegexBuilder::new(&rust)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(200)
        .build();
    let regex = Arc::new(built.map_err(|error| go_text(pattern, &error))?);
    if pattern.len() <= KEPT_BYTES_MAX {
        let mut map = lock();
        if map.len() >= KEPT_MAX {
            map.clear();
        }
        map.insert(pattern.into(), Arc::clone(&regex));
    }
    Ok(regex)
}

/// Whether the pattern is found in the text; false for a pattern that is none.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    compile(pattern).is_ok_and(|regex| regex.is_match(text))
}

fn go_text(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or("").trim();
    let last = last.strip_prefix("error: ").unwrap_or(last);
    let known = match last {
        l if l.contains("unclosed character class") => "missing closing ]",
        l if l.contains("unclosed group") => "missing closing )",
        l if l.contains("unopened group") => "unexpected )",
        l if l.contains("repetition operator missing") => "missing argument to repetition operator",
        l if l.contains("look-around") => "invalid or unsupported Perl syntax",
        l if l.contains("invalid character class range") => "invalid character class range",
        l if l.contains("escape") => "invalid escape sequence",
        l if l.contains("size limit") => "expression too large",
        l if l.contains("nest") => "expression nests too deeply",
        other => other,
    };
    format!("error parsing regexp: {known}: `{pattern}`")
}

/// The pattern in Rust's syntax.
fn rewritten(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    let mut in_set = false;
    // Where a closing bracket stands for itself: right behind the opening one.
    let mut set_is_empty = false;
    // The rest of the pattern from the repetition on that has just ended: Go repeats no repetition.
    let mut repetition: Option<&str> = None;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let was_empty = std::mem::replace(&mut set_is_empty, false);
        let before = repetition.take();
        rest = match c {
            '*' | '+' | '?' if !in_set => {
                let after = lazy(rest, 1, before)?;
                out.push_str(&rest[..rest.len() - after.len()]);
                repetition = Some(rest);
                after
            }
            '\\' => escape(after, in_set, &mut out),
            '[' if !in_set => {
                in_set = true;
                set_is_empty = true;
                out.push('[');
                match after.strip_prefix('^') {
                    Some(after) => {
                        out.push('^');
                        after
                    }
                    None => after,
                }
            }
            '[' => match posix_class(rest) {
                Some(length) => {
                    out.push_str(&rest[..length]);
                    &rest[length..]
                }
                None => {
                    out.push_str("\\[");
                    after
                }
            },
            ']' if in_set && was_empty => {
                out.push_str("\\]");
                after
            }
            ']' => {
                in_set = false;
                out.push(']');
                after
            }
            '&' | '~' if in_set => {
                out.push('\\');
                out.push(c);
                after
            }
            '-' if in_set && after.starts_with('-') => {
                out.push_str("-\\-");
                &after[1..]
            }
            '{' if !in_set => match counted(rest) {
                Some((length, most)) => {
                    if most > REPEAT_MAX {
                        let count = &rest[..length];
                        return Err(format!(
                            "error parsing regexp: invalid repeat count: `{count}`"
                        ));
                    }
                    let after = lazy(rest, length, before)?;
                    out.push_str(&rest[..rest.len() - after.len()]);
                    repetition = Some(rest);
                    after
                }
                None => {
                    out.push_str("\\{");
                    after
                }
            },
            other => {
                out.push(other);
                after
            }
        };
    }
    Ok(out)
}

/// What is behind a repetition of `length` bytes and the mark that makes it lazy. `before` starts with the repetition that
/// it would repeat.
fn lazy<'t>(rest: &'t str, length: usize, before: Option<&str>) -> Result<&'t str, String> {
    let after = &rest[length..];
    let after = after.strip_prefix('?').unwrap_or(after);
    let Some(before) = before else {
        return Ok(after);
    };
    let both = &before[..before.len() - after.len()];
    Err(format!(
        "error parsing regexp: invalid nested repetition operator: `{both}`"
    ))
}

/// What follows a backslash; returns the rest.
fn escape<'t>(rest: &'t str, in_set: bool, out: &mut String) -> &'t str {
    let Some(c) = rest.chars().next() else {
        out.push('\\');
        return rest;
    };
    let after = &rest[c.len_utf8()..];
    let class = match c {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => r"\t\n\x0C\r ",
        'D' => "^0-9",
        'W' => "^0-9A-Za-z_",
        'S' => r"^\t\n\x0C\r ",
        _ => "",
    };
    match c {
        'd' | 'w' | 's' if in_set => out.push_str(class),
        'd' | 'w' | 's' | 'D' | 'W' | 'S' => {
            out.push('[');
            out.push_str(class);
            out.push(']');
        }
        'b' if !in_set => out.push_str(r"(?-u:\b)"),
        'Q' => {
            let (literal, after) = after.split_once("\\E").unwrap_or((after, ""));
            out.push_str(&regex::escape(literal));
            return after;
        }
        // These braces name a letter or a class, and count nothing.
        'p' | 'P' | 'x' if after.starts_with('{') => {
            let length = after.find('}').map_or(after.len(), |end| end + 1);
            let (name, after) = after.split_at(length);
            out.extend(['\\', c]);
            out.push_str(name);
            return after;
        }
        c if c.is_ascii_punctuation() => {
            if regex_meta(c) {
                out.push('\\');
            }
            out.push(c);
        }
        _ => {
            out.push('\\');
            out.push(c);
        }
    }
    after
}

fn regex_meta(c: char) -> bool {
    r"\.+*?()|[]{}^$#&-~".contains(c)
}

/// The length of `[:alpha:]` and the like, which the text begins with.
fn posix_class(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("[:")?;
    let name = inner.strip_prefix('^').unwrap_or(inner);
    let letters = name.bytes().take_while(u8::is_ascii_lowercase).count();
    let is_whole = letters > 0 && name[letters..].starts_with(":]");
    is_whole.then_some(text.len() - name.len() + letters + 2)
}

/// The length of `{2}`, `{2,}` or `{2,5}`, which the text begins with, and how far it counts.
fn counted(text: &str) -> Option<(usize, u32)> {
    // No further than the longest count could reach, so that many braces are not a long search.
    let end = text.bytes().take(32).position(|b| b == b'}')?;
    let inner = text.get(1..end)?;
    let (least, most) = inner.split_once(',').unwrap_or((inner, inner));
    let number = |digits: &str| -> Option<u32> {
        let fine = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        fine.then(|| digits.parse().unwrap_or(u32::MAX))
    };
    let least = number(least)?;
    let most = if most.is_empty() {
        least
    } else {
        number(most)?
    };
    Some((end + 1, least.max(most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, fine, wrong) in [
            (r"^\d+$", "12", "٣"),
            (r"^\p{Lu}+\x{2d}?[\p{L}\x{31}]*$", "É-a1", "é-a1"),
            (r"^[\w-]+$", "a-b", "é"),
            (r"^[^\s]+$", "ab", "a b"),
            (r"^\S+$", "a\u{a0}b", "a b"),
            (r"^a{b}$", "a{b}", "ab"),
            (r"^a{,2}$", "a{,2}", "aa"),
            (r"^a{2,3}$", "aaa", "a"),
            (r"^[[a]+$", "[a", "b"),
            (r"^[]a]+$", "]a", "b"),
            (r"^[a&&b]+$", "a&b", "c"),
            (r"^[+--]+$", "+,-", "."),
            (r"^\/\_\-$", "/_-", "x"),
            (r"^[[:alpha:]]+$", "ab", "1"),
            (r"^\Qa.b\E$", "a.b", "axb"),
            (r"^\pL.$", "é!", "1!"),
            (r"^(?:[a-z0-9]([-a-z0-9]*[a-z0-9])?)$", "a-b", "-a"),
            ("^.{3}$", "äöü", "ab"),
            // As definitions in the wild have them: names, paths, headers, durations, quantities.
            (
                r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
                "*.a-b.c",
                "-a",
            ),
            (
                r"^(?:[-A-Za-z0-9/._~!$&'()*+,;=:]|[%][0-9a-fA-F]{2})+$",
                "/a~b&c%2F",
                "a b",
            ),
            (r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$", "X-A`^~", "a:b"),
            (
                r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
                "1h30m",
                "1x",
            ),
            (
                r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
                "1.5Gi",
                "1.5Gib",
            ),
            (r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "", "A"),
        ] {
            assert!(matches(pattern, fine), "{pattern} {fine}");
            assert!(!matches(pattern, wrong), "{pattern} {wrong}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (pattern, error) in [
            ("[", "error parsing regexp: missing closing ]: `[`"),
            ("(", "error parsing regexp: missing closing ): `(`"),
            (")", "error parsing regexp: unexpected ): `)`"),
            (
                "*",
                "error parsing regexp: missing argument to repetition operator: `*`",
            ),
            (
                "x++",
                "error parsing regexp: invalid nested repetition operator: `++`",
            ),
            (
                "a*?{2}b",
                "error parsing regexp: invalid nested repetition operator: `*?{2}`",
            ),
            (
                "(?=a)",
                "error parsing regexp: invalid or unsupported Perl syntax: `(?=a)`",
            ),
            (
                "a{1001}",
                "error parsing regexp: invalid repeat count: `{1001}`",
            ),
        ] {
            assert_eq!(compile(pattern).map(|_| ()), Err(error.to_owned()));
        }
        // Too large once compiled, and too deep.
        assert!(compile("((a{1000}){1000}){1000}").is_err());
        assert!(compile(&"(".repeat(100_000)).is_err());
        for part in ["{", "[[:", "\\Q", "a{1,", "(?:a|b)*"] {
            let _ = compile(&part.repeat(PATTERN_BYTES_MAX / part.len()));
            assert!(compile(&part.repeat(PATTERN_BYTES_MAX)).is_err());
        }
        assert!(compile("^.{1,1000}$").is_ok());
        assert!(compile("a+?b*?c??d{2}?(?:e)+[+*]+\\++").is_ok());
    }
}
