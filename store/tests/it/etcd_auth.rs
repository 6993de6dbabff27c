//! Users and roles on real members, asked by real clients over TLS.

use crate::etcd_front::{Fronts, have_etcdctl};

const ROOT: &str = "--user=root:pw";
const ALICE: &str = "--user=alice:pw";

impl Fronts {
    /// Runs etcdctl against this member; what it prints must have this in it.
    async fn says(&self, member: u64, arguments: &[&str], good: bool, wanted: &str) {
        self.says_as("client", member, arguments, good, wanted)
            .await;
    }

    async fn says_as(&self, name: &str, member: u64, arguments: &[&str], good: bool, wanted: &str) {
        let endpoint = self.endpoint(member);
        let (was_good, text) = self.run_as(name, &endpoint, arguments, "").await;
        assert!(
            was_good == good && text.contains(wanted),
            "{name} {arguments:?} on {member}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_administrates_users_and_roles_and_they_hold_on_every_member() {
    if !have_etcdctl() {
        return;
    }
    let fronts = Fronts::start(3).await;
    fronts
        .says(1, &["auth", "enable"], false, "root user does not exist")
        .await;
    let done: &[(u64, &[&str], &str)] = &[
        (1, &["user", "add", "root:pw"], "User root created"),
        (2, &["user", "list"], "root"),
        // Adds the role and grants it first.
        (3, &["auth", "enable"], "Authentication Enabled"),
        (1, &["user", "add", "alice:pw", ROOT], "User alice created"),
        (2, &["role", "add", "r", ROOT], "Role r created"),
        (
            3,
            &[
                "role",
                "grant-permission",
                "r",
                "readwrite",
                "foo",
                "--prefix",
                ROOT,
            ],
            "Role r updated",
        ),
        (
            1,
            &["role", "grant-permission", "r", "read", "x", "y", ROOT],
            "Role r updated",
        ),
        (
            2,
            &["user", "grant-role", "alice", "r", ROOT],
            "Role r is granted to user alice",
        ),
        (3, &["role", "list", ROOT], "r\nroot"),
        (1, &["user", "list", ROOT], "alice\nroot"),
        (2, &["role", "get", "r", ROOT], "[foo, fop) (prefix foo)"),
        (3, &["role", "get", "r", ALICE], "[x, y) (prefix x)"),
        (
            1,
            &["user", "get", "alice", "--detail", ROOT],
            "[foo, fop) (prefix foo)",
        ),
        (2, &["user", "get", "alice", ALICE], "Roles: r"),
        (1, &["put", "foo1", "1", ALICE], "OK"),
        (2, &["get", "foo", "--prefix", ALICE], "foo1\n1"),
        (3, &["put", "bar", "2", ROOT], "OK"),
        (1, &["lock", "foo", "echo", "held", ALICE], "held"),
        (2, &["member", "list", ALICE], "started"),
        (3, &["endpoint", "health", ALICE], "is healthy"),
        (1, &["lease", "grant", "60", ALICE], "granted with TTL(60s)"),
    ];
    for (member, arguments, wanted) in done {
        fronts.says(*member, arguments, true, wanted).await;
    }
    let denied = "etcdserver: permission denied";
    let refused: &[(u64, &[&str], &str)] = &[
        (1, &["put", "bar", "3", ALICE], denied),
        (2, &["get", "bar", ALICE], denied),
        (3, &["get", "", "--prefix", ALICE], denied),
        (1, &["watch", "bar", ALICE], denied),
        (
            2,
            &["del", "foo", "fop", "--prev-kv", "--from-key", ALICE],
            "",
        ),
        (3, &["lock", "bar", "true", ALICE], denied),
        (1, &["user", "list", ALICE], denied),
        (2, &["user", "get", "root", ALICE], denied),
        (3, &["auth", "disable", ALICE], denied),
        (1, &["compaction", "2", ALICE], denied),
        (2, &["defrag", ALICE], denied),
        (
            3,
            &["snapshot", "save", "/nowhere/snapshot", ROOT],
            "no such file",
        ),
        (
            1,
            &["get", "foo1", "--user=alice:no"],
            "authentication failed, invalid user ID or password",
        ),
        // A certificate that names nobody.
        (2, &["get", "foo1"], denied),
        (3, &["user", "list"], "etcdserver: user name not found"),
        (
            1,
            &["user", "delete", "root", ROOT],
            "etcdserver: invalid auth management",
        ),
        (
            2,
            &["user", "revoke-role", "alice", "no", ROOT],
            "role is not granted to the user",
        ),
        (
            3,
            &["role", "revoke-permission", "r", "no", ROOT],
            "permission is not granted to the role",
        ),
        (
            1,
            &["user", "add", "alice:pw", ROOT],
            "user name already exists",
        ),
    ];
    for (member, arguments, wanted) in refused {
        fronts.says(*member, arguments, false, wanted).await;
    }
    let (good, text) = fronts
        .run(
            &fronts.endpoint(2),
            &["user", "passwd", "alice", "--interactive=false", ROOT],
            "other\n",
        )
        .await;
    assert!(good && text.contains("Password updated"), "{text}");
    fronts
        .says(3, &["get", "foo1", ALICE], false, "authentication failed")
        .await;
    // The name in a certificate counts without a password.
    fronts.certify("alice");
    fronts
        .says_as("alice", 1, &["get", "foo1"], true, "foo1\n1")
        .await;
    fronts
        .says_as("alice", 2, &["get", "bar"], false, denied)
        .await;
    fronts
        .says_as("alice", 3, &["get", "bar", ROOT], true, "bar\n2")
        .await;
    fronts.certify("store-admin");
    fronts
        .says_as("store-admin", 1, &["get", "bar"], false, denied)
        .await;
    let after: &[(u64, &[&str], &str)] = &[
        (
            1,
            &["role", "revoke-permission", "r", "foo", "--prefix", ROOT],
            "is revoked from role r",
        ),
        (
            2,
            &["user", "revoke-role", "alice", "r", ROOT],
            "Role r is revoked from user alice",
        ),
        (3, &["role", "delete", "r", ROOT], "Role r deleted"),
        (1, &["user", "delete", "alice", ROOT], "User alice deleted"),
        (
            2,
            &["user", "add", "bob", "--no-password", ROOT],
            "User bob created",
        ),
    ];
    for (member, arguments, wanted) in after {
        fronts.says(*member, arguments, true, wanted).await;
    }
    fronts
        .says_as("alice", 2, &["get", "foo1"], false, denied)
        .await;
    fronts
        .says(
            1,
            &["get", "foo1", "--user=bob:pw"],
            false,
            "no password user",
        )
        .await;
    // Whoever has the operator's certificate gets in again.
    fronts
        .says_as("store-admin", 3, &["auth", "disable"], true, "Disabled")
        .await;
    fronts.says(1, &["get", "bar"], true, "bar\n2").await;
    fronts.stop.cancel();
}
