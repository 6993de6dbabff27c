//! Which processes of this machine are a container's.

/// Whether the process of that id, as the agent sees it, is in the container of that id. Where the agent does not share
/// the daemon's PID namespace, the daemon's numbers are somebody else's here, or nobody's.
pub(super) fn is_in_container(pid: i64, container: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .is_ok_and(|cgroups| are_of(&cgroups, container))
}

/// Docker names a container's cgroups after its id, whatever it puts them into.
fn are_of(cgroups: &str, container: &str) -> bool {
    !container.is_empty() && cgroups.contains(container)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_name_their_container() {
        let id = "f7e51d9dc90e8846ce38c0767c0fa73193ae3601f4b919e7db884b72015c8af3";
        for mine in [
            format!("9:name=systemd:/docker/{id}\n8:pids:/docker/{id}\n0::/\n"),
            format!("0::/system.slice/docker-{id}.scope\n"),
            format!("0::/../{id}/init.scope\n"),
        ] {
            assert!(are_of(&mine, id), "{mine}");
        }
        let other = id.replace('f', "e");
        for foreign in [
            format!("0::/docker/{other}\n"),
            "0::/\n".into(),
            String::new(),
        ] {
            assert!(!are_of(&foreign, id), "{foreign}");
        }
        assert!(!are_of("0::/\n", ""));
        assert!(!is_in_container(i64::from(std::process::id()), id));
    }
}
