//! Rewrites the links of a page while it passes. What is not a start tag is passed on byte by byte: comments, scripts and
//! whatever else looks like a tag without being one.

use super::links::Links;

/// Elements and their attributes that hold a link, as in Kubernetes' proxy.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];
/// Elements whose content has no tags but their own end.
const RAW: &[&str] = &[
    "iframe",
    "noembed",
    "noframes",
    "noscript",
    "plaintext",
    "script",
    "style",
    "textarea",
    "title",
    "xmp",
];
/// A start tag that is longer passes as it is.
const TAG_BYTES_MAX: usize = 64 * 1024;

/// A page on its way.
pub(crate) struct Page {
    links: Links,
    place: Place,
    /// The start tag that is being read.
    tag: Tag,
}

enum Place {
    Text,
    /// After `<`.
    Open,
    Tag,
    /// After `<!`, with so many dashes.
    Declaration(u8),
    /// After `</`, `<?` or `<!`, until `>`.
    Other,
    /// With so many dashes before the end that may be coming.
    Comment(u8),
    /// In an element of that name, with so many bytes of its end tag.
    Raw(&'static str, usize),
}

impl Page {
    pub(crate) fn new(links: Links) -> Page {
        Page {
            links,
            place: Place::Text,
            tag: Tag::default(),
        }
    }

    /// Takes more of the page and writes what is known of it.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            self.take(*byte, out);
        }
    }

    /// The end of the page: a tag without an end is none.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.tag.bytes);
    }

    fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        if matches!(self.place, Place::Tag) {
            return self.take_in_tag(byte, out);
        }
        if matches!(self.place, Place::Open) {
            if byte.is_ascii_alphabetic() {
                self.tag.bytes.push(byte);
                self.place = Place::Tag;
                return;
            }
            out.append(&mut self.tag.bytes);
        }
        if matches!(self.place, Place::Text | Place::Open) && byte == b'<' {
            self.tag.bytes.push(byte);
            self.place = Place::Open;
            return;
        }
        out.push(byte);
        self.place = match (&self.place, byte) {
            (Place::Open, b'!') => Place::Declaration(0),
            (Place::Open, b'/' | b'?') => Place::Other,
            (Place::Declaration(0), b'-') => Place::Declaration(1),
            // `<!-->` is a whole comment.
            (Place::Declaration(1), b'-') => Place::Comment(2),
            (Place::Declaration(_) | Place::Other, b'>') => Place::Text,
            (Place::Declaration(_) | Place::Other, _) => Place::Other,
            (Place::Comment(2), b'>') => Place::Text,
            (Place::Comment(dashes), b'-') => Place::Comment((dashes + 1).min(2)),
            (Place::Comment(_), _) => Place::Comment(0),
            (Place::Raw(name, seen), byte) => raw(name, *seen, byte),
            _ => Place::Text,
        };
    }

    fn take_in_tag(&mut self, byte: u8, out: &mut Vec<u8>) {
        let ended = self.tag.take(byte);
        if !ended {
            if self.tag.bytes.len() > TAG_BYTES_MAX {
                // Still read to its end, so that what its attributes hold is not taken for tags.
                out.append(&mut self.tag.bytes);
                self.tag.is_too_long = true;
            }
            return;
        }
        let name = self.tag.name.to_ascii_lowercase();
        self.place = match RAW.iter().find(|raw| **raw == name) {
            Some(raw) => Place::Raw(raw, 0),
            None => Place::Text,
        };
        self.tag.write(&name, &self.links, out);
        self.tag = Tag::default();
    }
}

/// Follows `</name` and what ends it.
fn raw(name: &'static str, seen: usize, byte: u8) -> Place {
    let wanted = match seen {
        0 => Some(b'<'),
        1 => Some(b'/'),
        _ => name.as_bytes().get(seen - 2).copied(),
    };
    match wanted {
        Some(wanted) if byte.to_ascii_lowercase() == wanted => Place::Raw(name, seen + 1),
        Some(_) if byte == b'<' => Place::Raw(name, 1),
        Some(_) => Place::Raw(name, 0),
        None if byte == b'>' => Place::Text,
        None if byte == b'/' || byte.is_ascii_whitespace() => Place::Other,
        None => Place::Raw(name, usize::from(byte == b'<')),
    }
}

/// A start tag: its bytes, and where in them its attributes are.
#[derive(Default)]
struct Tag {
    bytes: Vec<u8>,
    name: String,
    attributes: Vec<Attribute>,
    at: At,
    is_too_long: bool,
}

#[derive(Default)]
struct Attribute {
    name: (usize, usize),
    value: (usize, usize),
}

#[derive(Default)]
enum At {
    #[default]
    Name,
    BeforeAttribute,
    AttributeName,
    AfterName,
    BeforeValue,
    Quoted(u8),
    Unquoted,
}

impl Tag {
    /// True at the end of the tag.
    fn take(&mut self, byte: u8) -> bool {
        self.bytes.push(byte);
        let (end, space) = (self.bytes.len(), byte.is_ascii_whitespace());
        if matches!(self.at, At::Name) && (space || matches!(byte, b'/' | b'>')) {
            let name = self.bytes.get(1..end - 1).unwrap_or_default();
            self.name = String::from_utf8_lossy(name).into_owned();
        }
        match self.at {
            At::Quoted(quote) if byte == quote => {
                self.last().value.1 = end - 1;
                self.at = At::BeforeAttribute;
            }
            At::Quoted(_) => {}
            At::Unquoted if space || byte == b'>' => {
                self.last().value.1 = end - 1;
                self.at = At::BeforeAttribute;
                return byte == b'>';
            }
            At::Unquoted => {}
            _ if byte == b'>' => {
                self.end_name(end - 1);
                return true;
            }
            At::BeforeValue if space => {}
            At::BeforeValue if matches!(byte, b'"' | b'\'') => {
                self.last().value = (end, end);
                self.at = At::Quoted(byte);
            }
            At::BeforeValue => {
                self.last().value = (end - 1, end - 1);
                self.at = At::Unquoted;
            }
            _ if byte == b'/' => {
                self.end_name(end - 1);
                self.at = At::BeforeAttribute;
            }
            At::Name if space => self.at = At::BeforeAttribute,
            At::Name => {}
            At::AttributeName if space => {
                self.end_name(end - 1);
                self.at = At::AfterName;
            }
            At::AttributeName | At::AfterName if byte == b'=' => {
                self.end_name(end - 1);
                self.at = At::BeforeValue;
            }
            At::AttributeName => {}
            At::BeforeAttribute | At::AfterName if space => {}
            At::BeforeAttribute | At::AfterName => {
                if !self.is_too_long {
                    self.attributes.push(Attribute {
                        name: (end - 1, end - 1),
                        value: (0, 0),
                    });
                }
                self.at = At::AttributeName;
            }
        }
        false
    }

    /// The attribute that is being read.
    fn last(&mut self) -> &mut Attribute {
        if self.attributes.is_empty() {
            self.attributes.push(Attribute::default());
        }
        let at = self.attributes.len() - 1;
        &mut self.attributes[at]
    }

    fn end_name(&mut self, end: usize) {
        if matches!(self.at, At::AttributeName) {
            self.last().name.1 = end;
        }
    }

    /// Writes the tag with its links rewritten.
    fn write(&self, name: &str, links: &Links, out: &mut Vec<u8>) {
        let wanted = LINKS.iter().find(|(element, _)| *element == name);
        let mut from = 0;
        if let Some((_, wanted)) = wanted.filter(|_| !self.is_too_long) {
            for attribute in &self.attributes {
                let text =
                    |(start, end): (usize, usize)| std::str::from_utf8(&self.bytes[start..end]);
                let (Ok(name), Ok(value)) = (text(attribute.name), text(attribute.value)) else {
                    continue;
                };
                let is_wanted = wanted.iter().any(|one| name.eq_ignore_ascii_case(one));
                if let Some(new) = links.rewrite(value).filter(|_| is_wanted) {
                    out.extend_from_slice(&self.bytes[from..attribute.value.0]);
                    out.extend_from_slice(new.as_bytes());
                    from = attribute.value.1;
                }
            }
        }
        out.extend_from_slice(&self.bytes[from..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links {
            prefix: "/p".to_owned(),
            backend: "10.0.0.1:80".to_owned(),
            asked: "api".to_owned(),
        }
    }

    /// Whole, and byte by byte.
    fn rewritten(page: &str) -> String {
        let write = |chunk: usize| {
            let (mut reader, mut out) = (Page::new(links()), Vec::new());
            for chunk in page.as_bytes().chunks(chunk) {
                // As in a stream: what was written is gone.
                let mut part = Vec::new();
                reader.push(chunk, &mut part);
                out.append(&mut part);
            }
            reader.finish(&mut out);
            String::from_utf8(out).unwrap()
        };
        let whole = write(usize::MAX);
        assert_eq!(whole, write(1));
        whole
    }

    #[test]
    fn links_of_start_tags_are_rewritten() {
        for (page, wanted) in [
            (r#"<a href="/x">y</a>"#, r#"<a href="/p/x">y</a>"#),
            ("<A HREF=/x>", "<A HREF=/p/x>"),
            ("<img alt='a>b' src='/x'/>", "<img alt='a>b' src='/p/x'/>"),
            (
                "<link rel=a  href = \"/x\" >",
                "<link rel=a  href = \"/p/x\" >",
            ),
            (
                "<video poster=/a src='/b'>",
                "<video poster=/p/a src='/p/b'>",
            ),
            ("<a href='http://10.0.0.1:80/x'>", "<a href='/p/x'>"),
            (
                "<script src=/x></script><a href=/y>",
                "<script src=/p/x></script><a href=/p/y>",
            ),
            ("<<a href=/x>", "<<a href=/p/x>"),
            ("<!--x--><a href=/x>", "<!--x--><a href=/p/x>"),
            ("<!DOCTYPE html><a href=/x>", "<!DOCTYPE html><a href=/p/x>"),
            (
                "<title></titl></TITLE ><a href=/x>",
                "<title></titl></TITLE ><a href=/p/x>",
            ),
        ] {
            assert_eq!(rewritten(page), wanted);
        }
    }

    #[test]
    fn everything_else_stays() {
        for page in [
            "",
            "no tags, 1 < 2 and <3",
            "<a href='https://example.com/x' title='/x'>",
            "<p href='/x'>",
            "<!-- <a href='/x'> -->",
            "<!-- a -- > <a href='/x'> -->",
            "<script>if (a<b) document.write(\"<a href='/x'>\")</script>",
            "<style>a{}</styles><a href='/x'></style>",
            "</a href='/x'>",
            "<?php <a href='/x'?>",
            "<a",
            "<a href='/x",
            "<a href=>",
            "<a =/x>",
            "<a / href>",
            "\u{fc}<a href='\u{fc}'>",
        ] {
            assert_eq!(rewritten(page), page);
        }
    }

    #[test]
    fn a_tag_without_end_holds_little() {
        let (mut reader, mut out) = (Page::new(links()), Vec::new());
        reader.push(b"<a href='", &mut out);
        for _ in 0..100 {
            reader.push(&[b'>'; 10_000], &mut out);
            assert!(reader.tag.bytes.len() <= TAG_BYTES_MAX + 1);
        }
        reader.push(b"/x'><a href=/y>", &mut out);
        reader.finish(&mut out);
        assert!(out.ends_with(b">>>/x'><a href=/p/y>"));
        assert_eq!(out.len(), 9 + 1_000_000 + 15 + 2);
    }
}
