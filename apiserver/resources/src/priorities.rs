//! Where groups and their versions stand among others, as the APIServices of the built-in ones say.

use crate::groups;

/// The core group comes first, then the groups in this order, as in Kubernetes.
const GROUPS: &[(&str, i64)] = &[
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("admissionregistration.k8s.io", 16_700),
    ("apiextensions.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("resource.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    // As a metrics-server registers it.
    ("metrics.k8s.io", 100),
];
/// Of a group that is not in the list.
const OTHERS: i64 = 16_000;
/// Between a version and the next.
const VERSION_STEP: i64 = 15;

/// The priorities of a built-in group version; none where it has no APIService, which is also so for the group of the
/// APIServices themselves.
pub fn of(group: &str, version: &str) -> Option<(i64, i64)> {
    if group == "apiregistration.k8s.io" {
        return None;
    }
    let all = groups();
    let versions = &all.iter().find(|one| one.name == group)?.versions;
    let at = versions.iter().position(|one| *one == version)?;
    let below = i64::try_from(versions.len() - 1 - at).unwrap_or(0);
    let of_version = match group {
        "" => 1,
        _ => VERSION_STEP * (below + 1),
    };
    let of_group = GROUPS.iter().find(|(name, _)| *name == group);
    Some((
        of_group.map_or(OTHERS, |(_, priority)| *priority),
        of_version,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_listed_in_the_order_of_their_priorities() {
        let all = groups();
        let priorities: Vec<i64> = all
            .iter()
            .filter_map(|group| Some(of(group.name, group.versions.first()?)?.0))
            .collect();
        assert_eq!(
            priorities.len(),
            all.len() - 1,
            "all but that of the APIServices"
        );
        assert!(priorities.is_sorted_by(|a, b| a >= b), "{priorities:?}");
        let known = |group: &str| GROUPS.iter().any(|(name, _)| *name == group);
        for group in &all {
            assert!(
                known(group.name) || group.name == "apiregistration.k8s.io",
                "{}",
                group.name
            );
        }
    }

    #[test]
    fn preferred_versions_stand_higher() {
        assert_eq!(of("", "v1"), Some((18_000, 1)));
        assert_eq!(of("autoscaling", "v2"), Some((17_500, 30)));
        assert_eq!(of("autoscaling", "v1"), Some((17_500, 15)));
        assert_eq!(of("apps", "v2"), None);
        assert_eq!(of("example.com", "v1"), None);
    }
}
