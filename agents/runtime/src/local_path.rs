//! What the controller that makes volumes out of directories and the agents of the nodes say to each other, in annotations
//! of the Node: agents may write no volumes, and need not be told what they do not have.

/// The provisioner of such volumes.
pub const PROVISIONER: &str = "kontiki.io/local-path";
/// Set by the agent: the directory that holds them.
pub const ROOT: &str = "kontiki.io/local-path";
/// Names of volumes whose directories are to be removed, with commas between. The controller adds them, the agent takes
/// away those that are no more.
pub const REMOVE: &str = "kontiki.io/local-path-remove";
/// On a Node whose containers, and so directories, are simulated.
pub const SIMULATED: &str = "kontiki.io/hollow";
/// So many at a time.
pub const REMOVED_MAX: usize = 100;

/// The names in the annotation.
pub fn names(annotation: Option<&str>) -> Vec<&str> {
    let all = annotation.unwrap_or_default().split(',');
    all.filter(|name| !name.is_empty()).collect()
}

/// Whether it can be the name of a volume of this provisioner, and nothing but a directory right below the root.
pub fn is_volume_name(name: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '-';
    name.starts_with("pvc-") && name.chars().all(is_fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_volumes() {
        assert_eq!(names(Some("pvc-a,,pvc-b")), ["pvc-a", "pvc-b"]);
        assert!(names(None).is_empty());
        assert!(is_volume_name("pvc-0a-1"));
        for name in ["", "x", "pvc-/..", "pvc-..", "../pvc-a", "pvc-a/b"] {
            assert!(!is_volume_name(name), "{name}");
        }
    }
}
