//! Who violates a rule, and by what, in the words of Kubernetes.

pub(super) fn plural<'a>(one: &'a str, several: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { several }
}

/// `"a", "b"`
pub(super) fn quoted<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = texts
        .into_iter()
        .map(|text| format!("\"{}\"", text.as_ref()))
        .collect();
    quoted.join(", ")
}

/// `container "a"`, `containers "a", "b"`
pub(super) fn those(names: &[&str]) -> String {
    let word = plural("container", "containers", names.len());
    format!("{word} {}", quoted(names))
}

/// `pod and container "a"`: who sets something.
pub(super) fn setters(pod: bool, names: &[&str]) -> String {
    let mut setters = Vec::new();
    if pod {
        setters.push("pod".to_owned());
    }
    if !names.is_empty() {
        setters.push(those(names));
    }
    setters.join(" and ")
}
