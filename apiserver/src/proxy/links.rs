//! Links of a backend, seen from where its clients stand: what it calls `/x` is `/api/v1/.../proxy/x` to them.

/// What a backend's own addresses become.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// The path under which the backend's root is reached, without a slash at its end.
    pub(crate) prefix: String,
    /// `host:port` of the backend.
    pub(crate) backend: String,
    /// The name under which the client asked this server.
    pub(crate) asked: String,
}

impl Links {
    /// The new form of a link; none where it stays as it is: relative ones, and those that lead elsewhere.
    pub(crate) fn rewrite(&self, link: &str) -> Option<String> {
        let (origin, path) = split(link)?;
        let host = origin.rsplit("//").next().unwrap_or_default();
        let is_asked = !host.is_empty() && host == self.asked;
        if !(host.is_empty() || is_asked || host == self.backend) || !path.starts_with('/') {
            return None;
        }
        // The client knows the way to the host that it asked, and none to the backend's.
        let origin = if is_asked { origin } else { "" };
        let is_within = path
            .strip_prefix(self.prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
        let prefix = if is_within { "" } else { self.prefix.as_str() };
        let new = format!("{origin}{prefix}{path}");
        (new != link).then_some(new)
    }
}

/// `scheme://host` (or `//host`, or nothing) and the rest; none for what has no path of a host, such as `mailto:`.
fn split(link: &str) -> Option<(&str, &str)> {
    let end = link.find(['/', '?', '#']).unwrap_or(link.len());
    let scheme = match link[..end].find(':') {
        Some(at) if at + 1 == end => end,
        Some(_) => return None,
        None if end == 0 => 0,
        None => return Some(("", link)),
    };
    let Some(rest) = link[scheme..].strip_prefix("//") else {
        return (scheme == 0).then_some(("", link));
    };
    let host = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    Some(link.split_at(scheme + 2 + host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_within_the_backend_get_the_prefix() {
        let links = Links {
            prefix: "/api/v1/namespaces/n/pods/p/proxy".to_owned(),
            backend: "10.0.0.1:80".to_owned(),
            asked: "localhost:8001".to_owned(),
        };
        let p = &links.prefix;
        for (link, new) in [
            ("/x?a=/b", Some(format!("{p}/x?a=/b"))),
            ("/", Some(format!("{p}/"))),
            ("http://10.0.0.1:80/x", Some(format!("{p}/x"))),
            ("//10.0.0.1:80/x/", Some(format!("{p}/x/"))),
            (
                "https://localhost:8001/x",
                Some(format!("https://localhost:8001{p}/x")),
            ),
            (
                "http://10.0.0.1:80/api/v1/namespaces/n/pods/p/proxy/x",
                Some(format!("{p}/x")),
            ),
            ("/api/v1/namespaces/n/pods/p/proxy/x", None),
            (
                "/api/v1/namespaces/n/pods/p/proxyx",
                Some(format!("{p}/api/v1/namespaces/n/pods/p/proxyx")),
            ),
            ("x/y", None),
            ("../x", None),
            ("", None),
            ("?a=b", None),
            ("#top", None),
            ("a:b/c", None),
            ("http://10.0.0.1:80", None),
            ("https://example.com/x", None),
            ("//example.com/x", None),
            ("mailto:a@example.com", None),
            ("javascript:go('/x')", None),
            ("data:text/html,<a>", None),
        ] {
            assert_eq!(links.rewrite(link), new, "{link}");
        }
    }
}
