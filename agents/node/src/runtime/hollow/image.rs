//! Images that cannot be pulled.

/// Whether an image cannot be pulled, which its name says: so tests ask for a container that does not begin.
pub(crate) fn is_missing(image: &str) -> bool {
    let (registry, path) = image.split_once('/').unwrap_or(("", image));
    let tag = path.rsplit_once(':').map_or("", |(_, tag)| tag);
    let words = ["nonexistent", "non-existent", "doesnt-exist"];
    registry.starts_with("invalid.") || tag == "404" || words.iter().any(|word| path.contains(word))
}

/// What a registry says of such an image.
pub(crate) fn not_found(image: &str) -> String {
    format!("{image}: not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_says_that_it_does_not_exist_cannot_be_pulled() {
        for image in [
            "webserver:404",
            "foo:non-existent",
            "gcr.io/google_samples/gb-redisslave:nonexistent",
            "localhost/some-image-that-doesnt-exist",
            "invalid.registry.k8s.io/invalid/alpine:3.1",
        ] {
            assert!(is_missing(image), "{image}");
        }
        for image in [
            "nginx",
            "nginx:1.404",
            "registry.k8s.io:443/pause:3.10",
            "a/404",
        ] {
            assert!(!is_missing(image), "{image}");
        }
    }
}
