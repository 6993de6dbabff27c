//! What files of `apiserver.config.k8s.io` have in common, such as `--authentication-config` names: YAML of one kind.

use serde::de::DeserializeOwned;

/// The newest one first.
pub(crate) const API_VERSIONS: [&str; 3] = [
    "apiserver.config.k8s.io/v1",
    "apiserver.config.k8s.io/v1beta1",
    "apiserver.config.k8s.io/v1alpha1",
];
/// A file that is larger is a mistake.
const FILE_BYTES_MAX: usize = 4 << 20;

/// A file with its fields.
pub(crate) trait ConfigFile: DeserializeOwned {
    /// What its `kind` has to be.
    const KIND: &str;

    /// What it says of itself: `kind` and `apiVersion`.
    fn head(&self) -> (&str, &str);
}

/// Reads the fields; what they say is not judged yet.
pub(crate) fn read<F: ConfigFile>(text: &str) -> Result<F, String> {
    if text.len() > FILE_BYTES_MAX {
        return Err(format!("the file is larger than {FILE_BYTES_MAX} bytes"));
    }
    let options = serde_saphyr::options! { strict_booleans: true };
    let file: F = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| format!("cannot be read: {error}"))?;
    let (kind, version) = file.head();
    if kind != F::KIND || !API_VERSIONS.contains(&version) {
        let (wanted, newest) = (F::KIND, API_VERSIONS[0]);
        return Err(format!(
            "is a {kind} of {version}, not an {wanted} of {newest}"
        ));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Egress {
        kind: String,
        #[serde(rename = "apiVersion")]
        api_version: String,
    }

    impl ConfigFile for Egress {
        const KIND: &str = "EgressConfiguration";

        fn head(&self) -> (&str, &str) {
            (&self.kind, &self.api_version)
        }
    }

    #[test]
    fn a_file_is_of_its_kind_and_of_a_version_that_is_known() {
        let said = |kind: &str, version: &str| {
            let text = format!("kind: {kind}\napiVersion: apiserver.config.k8s.io/{version}\n");
            read::<Egress>(&text).map(|file| file.api_version)
        };
        let beta = "apiserver.config.k8s.io/v1beta1";
        assert_eq!(said("EgressConfiguration", "v1beta1"), Ok(beta.to_owned()));
        assert_eq!(
            said("EgressConfiguration", "v2").unwrap_err(),
            "is a EgressConfiguration of apiserver.config.k8s.io/v2, not an EgressConfiguration of apiserver.config.k8s.io/v1"
        );
        assert!(said("Policy", "v1").is_err());
        assert!(
            read::<Egress>("kind: [")
                .unwrap_err()
                .starts_with("cannot be read: ")
        );
        let large = " ".repeat(FILE_BYTES_MAX + 1);
        assert!(read::<Egress>(&large).unwrap_err().contains("larger than"));
    }
}
