//! How to use the cluster, in lines that can be pasted into a shell.

use std::path::Path;

use super::{default_home, say};
use crate::local::{Home, Plan};

pub(super) fn print_access(home: &Home, plan: &Plan, ran_already: bool) {
    let admin = home.admin();
    let count = plan.members.len();
    let members = if count == 1 {
        "one member".to_string()
    } else {
        format!("{count} members")
    };
    let state = if ran_already {
        "runs already"
    } else {
        "is ready"
    };
    say(&format!(
        "The cluster {state}: {members}, node {} ({}).",
        plan.node.name, plan.node.runtime
    ));
    if let Some(hollow) = &plan.hollow {
        let tainted = match plan.node.runtime.as_str() {
            "hollow" => "",
            _ => "; pods come to them that tolerate kontiki.io/hollow",
        };
        say(&format!(
            "Besides, {} hollow nodes: what runs there is simulated{tainted}.",
            hollow.nodes
        ));
    }
    say("");
    say(&format!(
        "  export KUBECONFIG={}",
        shell_word(&home.kubeconfig())
    ));
    say("  kubectl get nodes");
    say(&format!(
        "  curl --cacert {} --cert {} --key {} https://127.0.0.1:{}/api/v1/namespaces",
        shell_word(&home.pki().join("ca.crt")),
        shell_word(&admin.cert),
        shell_word(&admin.key),
        plan.members[0].api_port
    ));
    say(&format!(
        "  ETCDCTL_API=3 etcdctl --endpoints={} {} member list",
        plan.etcd_urls().join(","),
        etcdctl_flags(home)
    ));
    if count > 1 {
        say(&format!(
            "  kubectl --context kontiki-2 get nodes     # through the second of the {count} members"
        ));
    }
    say("");
    let of = home_flag(home);
    say(&format!(
        "Logs are in {}/*/log. To stop: make down (or `kontiki down{of}`).",
        home.0.display()
    ));
    say(&format!(
        "To stop and wipe all data: make reset (or `kontiki reset{of}`)."
    ));
}

/// What a command of this program needs to mean this home.
pub(crate) fn home_flag(home: &Home) -> String {
    match home.0 == default_home() {
        true => String::new(),
        false => format!(" --home {}", shell_word(&home.0)),
    }
}

/// How etcdctl proves that it may use the members' ports for etcd clients.
fn etcdctl_flags(home: &Home) -> String {
    let admin = home.store_admin();
    format!(
        "--cacert={} --cert={} --key={}",
        shell_word(&home.pki().join("ca.crt")),
        shell_word(&admin.cert),
        shell_word(&admin.key)
    )
}

/// A path as one word of a shell's command line.
pub(crate) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_paths_are_one_word_in_a_shell() {
        assert_eq!(
            shell_word(Path::new("/home/me/.kontiki/a")),
            "/home/me/.kontiki/a"
        );
        assert_eq!(shell_word(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
