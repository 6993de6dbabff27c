//! The seccomp profile that a container asks for.

use std::path::Path;

use crate::pod::container;
use crate::spec::{Container, Pod};

/// Docker's own default profile has 12 kB.
const PROFILE_BYTES_MAX: u64 = 1 << 20;

pub(super) fn seccomp(
    pod: &Pod,
    container: &Container,
    profiles: &Path,
) -> Result<Option<String>, String> {
    match container::seccomp_profile(pod, container) {
        None => Ok(Some("unconfined".to_owned())),
        Some(profile) => match (profile.kind.as_str(), &profile.localhost_profile) {
            ("RuntimeDefault", _) => Ok(None),
            ("Localhost", Some(name)) => {
                let inside = Path::new(name)
                    .components()
                    .all(|c| matches!(c, std::path::Component::Normal(_)));
                let refused = || format!("cannot load seccomp profile {name:?}");
                if !inside {
                    return Err(refused());
                }
                // Only a file of sensible size: a device or a pipe would be read for ever.
                let path = profiles.join(name);
                let sensible = std::fs::metadata(&path)
                    .is_ok_and(|file| file.is_file() && file.len() <= PROFILE_BYTES_MAX);
                let text = sensible
                    .then(|| std::fs::read_to_string(&path).ok())
                    .flatten();
                text.map(Some).ok_or_else(refused)
            }
            _ => Ok(Some("unconfined".to_owned())),
        },
    }
}
