//! What a client prefers of an answer (RFC 7240), as far as it is heeded.

use http::{HeaderMap, HeaderName, HeaderValue};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Whether the client is content with little: `return=minimal`. Other preferences may stand beside it, in one header or in several;
/// where `return` is said more than once, the first one counts.
pub(crate) fn wants_minimal(headers: &HeaderMap) -> bool {
    let all = headers.get_all(PREFER).iter();
    let mut texts = all.filter_map(|value| value.to_str().ok());
    let asked = texts.find_map(|text| split(text, ',').find_map(returned));
    asked == Some("minimal")
}

/// Says of an answer that it is as [`wants_minimal`] found.
pub(crate) fn applied(headers: &mut HeaderMap) {
    headers.insert(APPLIED, HeaderValue::from_static("return=minimal"));
}

/// The value of a preference of how much is returned; nothing for others. Its parameters have no meaning.
fn returned(preference: &str) -> Option<&str> {
    let (name, value) = split(preference, ';').next()?.split_once('=')?;
    let is_return = name.trim().eq_ignore_ascii_case("return");
    is_return.then(|| value.trim().trim_matches('"'))
}

/// The parts of a text between these letters, where they are not quoted.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |letter: char| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match letter {
            '\\' => is_escaped = is_quoted && !was_escaped,
            '"' if !was_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        letter == at && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_asked_for_among_other_preferences() {
        for (values, expected) in [
            (vec!["return=minimal"], true),
            (vec!["return=minimal, wait=5"], true),
            (
                vec!["respond-async,wait=5 , Return = \"minimal\" ; why=so"],
                true,
            ),
            (vec!["respond-async", "return=minimal"], true),
            (vec!["note=\"a, \\\" b\", return=minimal"], true),
            (vec![], false),
            (vec![""], false),
            (vec!["return"], false),
            (vec!["return=representation"], false),
            (vec!["return=representation, return=minimal"], false),
            (vec!["return=minimal", "return=representation"], true),
            (vec!["note=\"a, return=minimal\""], false),
            (vec!["wait=5; return=minimal"], false),
            (vec!["returns=minimal"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(PREFER, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(wants_minimal(&headers), expected, "{values:?}");
        }
    }
}
