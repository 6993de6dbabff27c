use super::*;

/// A bundle of these members and nodes.
fn make(dir: &Path, members: &[String], nodes: &[String]) -> Result<()> {
    let orders = Orders {
        members: members.to_vec(),
        nodes: nodes.to_vec(),
        change: None,
        rotation: Rotation::default(),
    };
    super::make(dir, &orders)
}

#[test]
fn a_second_call_adds_a_node_to_the_same_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    make(
        dir,
        &[
            "a=10.0.0.1".into(),
            "b=10.0.0.2".into(),
            "c=10.0.0.3".into(),
        ],
        &[],
    )
    .unwrap();
    let env = pki::read(&dir.join("member-a/server.env")).unwrap();
    assert!(env.contains("KONTIKI_API_ADVERTISE=10.0.0.1:6443"), "{env}");
    make(dir, &[], &["w1=10.0.0.9".into()]).unwrap();
    assert_eq!(pki::read(&dir.join("member-a/server.env")).unwrap(), env);
    let agent = pki::read(&dir.join("node-w1/agent.env")).unwrap();
    assert!(
        agent.contains("KONTIKI_SERVERS=https://10.0.0.1:6443,https://10.0.0.2:6443"),
        "{agent}"
    );
    assert!(make(dir, &["d=10.0.0.4".into()], &[]).is_err());
    assert!(make(dir, &["a=10.0.0.44".into()], &[]).is_err());
}

#[test]
fn members_change_as_those_of_the_store_have() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let three = ["a=10.0.0.1", "b=10.0.0.2", "c=10.0.0.3"].map(String::from);
    make(dir, &three, &[]).unwrap();
    let change = |change| {
        super::make(
            dir,
            &Orders {
                change: Some(change),
                rotation: Rotation::default(),
                ..Orders::default()
            },
        )
    };
    let env = |name: &str| pki::read(&dir.join(format!("member-{name}/server.env"))).unwrap();
    let members = |name: &str| {
        let env = env(name);
        let line = env
            .lines()
            .find_map(|line| line.strip_prefix("KONTIKI_INITIAL_MEMBERS="));
        line.unwrap().to_string()
    };
    let before = members("a");
    // In the place of a dead one, on another machine, under the id that the store gave.
    change(Change::Added("b=10.0.0.9".into(), 0xabc)).unwrap();
    assert!(env("b").contains("KONTIKI_MEMBER_ID=abc\n"));
    assert!(env("b").contains("KONTIKI_PEER_ADVERTISE=10.0.0.9:6480\n"));
    assert!(members("a").contains("b=abc@10.0.0.9:6480"), "{before}");
    assert_eq!(members("a").split(',').count(), 3);
    change(Change::Added("d=10.0.0.4".into(), 0xd)).unwrap();
    assert_eq!(members("d").split(',').count(), 4);
    change(Change::Removed("d".into())).unwrap();
    assert!(change(Change::Removed("d".into())).is_err());
    assert_eq!(members("a").split(',').count(), 3);
    // What was made remains.
    make(dir, &[], &["w=10.0.0.8".into()]).unwrap();
    assert!(members("c").contains("b=abc@10.0.0.9:6480"));
    assert!(change(Change::Recovered("x".into(), 7)).is_err());
    change(Change::Recovered("a".into(), 7)).unwrap();
    assert!(env("a").contains("KONTIKI_CLUSTER_ID=7\n"));
    assert_eq!(members("a").split(',').count(), 1);
    assert_eq!(members("a"), before.split(',').next().unwrap());
}

#[test]
fn a_machine_that_is_both_can_have_both_folders_in_one_place() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    make(dir, &["a=h".into()], &["a=h".into()]).unwrap();
    let files = |folder: &str| {
        let mut files = BTreeSet::new();
        for entry in fs::read_dir(dir.join(folder)).unwrap() {
            files.insert(entry.unwrap().file_name());
        }
        files
    };
    let (member, node) = (files("member-a"), files("node-a"));
    assert_eq!((member.len(), node.len()), (2, 2));
    assert!(member.is_disjoint(&node), "{member:?} {node:?}");
}

/// The units run `kontiki server` and `kontiki agent` with nothing but these files.
#[test]
fn the_environment_files_have_all_that_is_required_and_nothing_unknown() {
    use clap::CommandFactory;
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), &["a=10.0.0.1".into()], &["a=10.0.0.1".into()]).unwrap();
    for (role, file) in [
        ("server", "member-a/server.env"),
        ("agent", "node-a/agent.env"),
    ] {
        let text = pki::read(&dir.path().join(file)).unwrap();
        let given: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.0))
            .collect();
        let command = cli::Cli::command();
        let command = command.find_subcommand(role).unwrap();
        let (mut known, mut required) = (BTreeSet::new(), BTreeSet::new());
        for flag in command.get_arguments() {
            if let Some(name) = flag.get_env().and_then(|name| name.to_str()) {
                known.insert(name);
                if flag.is_required_set() {
                    required.insert(name);
                }
            }
        }
        assert!(
            !required.is_empty() && given.is_superset(&required),
            "{text}"
        );
        assert!(given.is_subset(&known), "{text}");
    }
}

#[test]
fn keys_and_what_holds_them_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    fn check(dir: &Path) -> usize {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(dir), 0o700, "{}", dir.display());
        let mut keys = 0;
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                keys += check(&path);
            } else if path.extension().is_none_or(|kind| kind != "crt") {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
                keys += 1;
            }
        }
        keys
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("cluster");
    make(&dir, &["a=h".into()], &["w=h".into()]).unwrap();
    assert!(check(&dir) > 10);
}

#[test]
fn a_name_as_host_leaves_the_address_to_the_node() {
    assert!(agent_env(&[], "w", "10.0.0.9").contains("NODE_IP=10.0.0.9\n"));
    assert!(agent_env(&[], "w", "fd00::9").contains("NODE_IP=fd00::9\n"));
    assert!(!agent_env(&[], "w", "w.example.org").contains("NODE_IP"));
}

#[test]
fn an_ipv6_host_gets_its_brackets() {
    assert_eq!(address("fd00::1", 6443), "[fd00::1]:6443");
    assert_eq!(address("10.0.0.1", 6443), "10.0.0.1:6443");
}

#[test]
fn members_are_an_odd_number_of_different_names() {
    let dir = tempfile::tempdir().unwrap();
    for members in [vec![], vec!["a=h", "b=i"], vec!["a=h", "b=i", "a=j"]] {
        let members: Vec<String> = members.into_iter().map(String::from).collect();
        assert!(make(dir.path(), &members, &[]).is_err(), "{members:?}");
    }
}

#[test]
fn a_machine_is_a_name_and_a_host() {
    for bad in ["a", "=h", "a=", "../x=h", "A=h", "a=h,b", "a=h\nX=1"] {
        assert!(machine(bad).is_err(), "{bad}");
    }
}
