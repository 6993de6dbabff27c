//! What the name of an image says.

use crate::spec::Container;

/// Whether the text can be an image reference: `[host[:port]/]path[:tag][@digest]` in the allowed characters.
pub(crate) fn is_image_name(image: &str) -> bool {
    let (name, digest) = image
        .split_once('@')
        .map_or((image, None), |(name, digest)| (name, Some(digest)));
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    let tag_ok = tag.is_none_or(|tag| {
        let mut bytes = tag.bytes();
        let first = bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        first
            && tag.len() <= 128
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    });
    let digest_ok = digest.is_none_or(|digest| {
        let hex = digest
            .split_once(':')
            .map(|(_, hex)| hex)
            .unwrap_or_default();
        hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    let mut parts: Vec<&str> = name.split('/').collect();
    if parts.len() > 1 && (parts[0].contains(['.', ':']) || parts[0] == "localhost") {
        parts.remove(0);
    }
    let part_ok = |part: &&str| {
        let edge = |byte: Option<&u8>| {
            byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        let bytes = part.as_bytes();
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(byte)
            })
    };
    name.len() <= 255 && tag_ok && digest_ok && parts.iter().all(part_ok)
}

/// When an image is pulled: as the container says, else always for what may change under its name.
pub(crate) fn pull_policy(container: &Container) -> &str {
    match container.image_pull_policy.as_str() {
        "" if has_latest_tag(&container.image) => "Always",
        "" => "IfNotPresent",
        policy => policy,
    }
}

/// What a kubelet says of a text that is no image reference.
pub(crate) fn misnamed(image: &str) -> String {
    format!(
        "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid reference format"
    )
}

/// What a kubelet says of an image that is not there and must not be pulled.
pub(crate) fn never_pulled(image: &str) -> String {
    format!("Container image {image:?} is not present with pull policy of Never")
}

fn has_latest_tag(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    match image.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => tag == "latest",
        _ => true,
    }
}

/// The registry of an image reference; Docker Hub when it names none.
pub(super) fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "index.docker.io",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for good in [
            "nginx",
            "nginx:1.2",
            "reg.io:5000/a/b:x",
            "localhost/a",
            "a_b/c-d",
            digest.as_str(),
        ] {
            assert!(is_image_name(good), "{good}");
        }
        for bad in [
            "",
            "Nginx",
            "a b",
            "a:",
            "a:-x",
            "/a",
            "a/",
            "a@sha256:xyz",
            "ein/Übel",
            "a//b",
        ] {
            assert!(!is_image_name(bad), "{bad}");
        }
        assert!(
            has_latest_tag("nginx") && has_latest_tag("r:5000/nginx") && has_latest_tag("a:latest")
        );
        assert!(!has_latest_tag("a:1") && !has_latest_tag(&digest));
    }

    #[test]
    fn images_that_may_change_are_pulled_always_unless_the_container_says_otherwise() {
        for (image, said, policy) in [
            ("nginx", "", "Always"),
            ("nginx:1", "", "IfNotPresent"),
            ("nginx", "Never", "Never"),
        ] {
            let container = Container {
                image: image.to_owned(),
                image_pull_policy: said.to_owned(),
                ..Container::default()
            };
            assert_eq!(pull_policy(&container), policy, "{image} {said}");
        }
    }
}
