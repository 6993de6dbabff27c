use super::*;
use crate::testing::world;
use agent_runtime::ControllerOptions;

const ADDRESSES: &str =
    "{type: InternalIP, address: 10.0.0.1}, {type: InternalIP, address: 'fd01::1'}";

/// A node whose agent says this, with these addresses and conditions.
fn node(name: &str, report: &str, ranges: &str, addresses: &str, conditions: &str) -> String {
    let report = match report {
        "" => String::new(),
        report => format!("kontiki.io/pod-routes: '{report}'"),
    };
    format!(
        "kind: Node\nmetadata: {{name: {name}, uid: u, annotations: {{{report}}}}}\nspec: {{podCIDRs: [{ranges}]}}\nstatus: {{addresses: [{addresses}], conditions: [{conditions}]}}\n---\n"
    )
}

const ROLE_THERE: &str =
    "kind: Role\nmetadata: {name: 'kontiki:pod-routes', namespace: kube-system}\n---\n";
const BINDING_THERE: &str =
    "kind: RoleBinding\nmetadata: {name: 'kontiki:pod-routes', namespace: kube-system}\n---\n";

/// The table with the right to read it.
fn table_of(data: &str) -> String {
    format!(
        "kind: ConfigMap\nmetadata: {{name: kontiki-pod-routes, namespace: kube-system}}\ndata: {{{data}}}\n---\n{ROLE_THERE}{BINDING_THERE}"
    )
}

fn lines_with(options: ControllerOptions, key: &Key, text: &str) -> Vec<String> {
    let world = world(text).with_options(Arc::new(options));
    reconcile(key, &world).lines()
}

fn lines(key: &Key, text: &str) -> Vec<String> {
    let ranges = ["10.1.0.0/16", "fd00::/48"].map(|range| range.parse::<Cidr>().unwrap());
    let options = ControllerOptions {
        local_cloud: true,
        node_ranges: Some(NodeRanges::new(&ranges, (24, 64), vec![]).unwrap()),
        ..ControllerOptions::default()
    };
    lines_with(options, key, text)
}

fn of_node(text: &str) -> Vec<String> {
    lines(&Key::new("", "a"), text)
}

fn written(status: &str, (reason, message): (&str, &str)) -> String {
    format!(
        r#"patch nodes/status a {{"status":{{"conditions":[{{"lastHeartbeatTime":"2026-01-01T10:00:00Z","lastTransitionTime":"2026-01-01T10:00:00Z","message":"{message}","reason":"{reason}","status":"{status}","type":"NetworkUnavailable"}}]}}}}"#
    )
}

const RANGE: &str = "10.1.1.0/24";
const ENTRY: &str = "a: 10.1.1.0/24=10.0.0.1";
const SAID_FALSE: &str = "{type: NetworkUnavailable, status: 'False', reason: RouteCreated}";
const SAID_TRUE: &str = "{type: NetworkUnavailable, status: 'True', reason: NoRouteCreated}";

#[test]
fn the_table_is_made_with_the_right_to_read_it_when_the_first_node_takes_part() {
    let pending = node("a", "pending", RANGE, ADDRESSES, "");
    assert_eq!(
        lines(&table_key(), &pending),
        [
            "create roles.rbac.authorization.k8s.io kube-system/kontiki:pod-routes",
            "create rolebindings.rbac.authorization.k8s.io kube-system/kontiki:pod-routes",
            "create configmaps kube-system/kontiki-pod-routes"
        ]
    );
    let silent = node("a", "", RANGE, ADDRESSES, "");
    assert!(lines(&table_key(), &silent).is_empty());
    let off = ControllerOptions::default();
    assert!(lines_with(off, &table_key(), &pending).is_empty());
}

#[test]
fn a_right_that_is_taken_away_comes_back() {
    let all = table_of(ENTRY) + &node("a", "programmed", RANGE, ADDRESSES, "");
    let role = "create roles.rbac.authorization.k8s.io kube-system/kontiki:pod-routes";
    let binding = "create rolebindings.rbac.authorization.k8s.io kube-system/kontiki:pod-routes";
    for (there, missing) in [(ROLE_THERE, role), (BINDING_THERE, binding)] {
        assert_eq!(lines(&table_key(), &all.replace(there, "")), [missing]);
    }
    assert!(lines(&table_key(), &all).is_empty());
}

#[test]
fn without_the_cloud_what_was_said_is_taken_back_where_it_was_said_here() {
    let look = |table: &str, report: &str, condition: &str| {
        let text = table_of(table) + &node("a", report, RANGE, ADDRESSES, condition);
        lines_with(ControllerOptions::default(), &Key::new("", "a"), &text)
    };
    let back = [
        r#"patch nodes/status a {"status":{"conditions":[{"$patch":"delete","type":"NetworkUnavailable"}]}}"#,
    ];
    assert_eq!(look("", "programmed", SAID_FALSE), back);
    assert_eq!(look(ENTRY, "", SAID_TRUE), back);
    assert!(look("", "", SAID_TRUE).is_empty(), "another cloud's");
    assert!(look(ENTRY, "programmed", "").is_empty());
}

#[test]
fn the_table_follows_the_nodes_in_one_write() {
    let both = format!("{RANGE}, 'fd00:0:0:1::/64'");
    let nodes = [
        node("a", "programmed", &both, ADDRESSES, ""),
        node("b", "pending", "10.1.2.0/24", ADDRESSES, ""),
        node("silent", "", "10.1.3.0/24", ADDRESSES, ""),
        node("without-range", "pending", "", ADDRESSES, ""),
        node("thief", "pending", "0.0.0.0/0", ADDRESSES, ""),
    ]
    .concat();
    let table = table_of("a: 10.1.1.0/24=10.0.0.9, gone: 10.1.9.0/24=10.0.0.7");
    assert_eq!(
        lines(&table_key(), &(table + &nodes)),
        [
            r#"patch configmaps kube-system/kontiki-pod-routes {"data":{"a":"10.1.1.0/24=10.0.0.1,fd00:0:0:1::/64=fd01::1","b":"10.1.2.0/24=10.0.0.1","gone":null}}"#
        ]
    );
    let table = table_of(ENTRY) + &node("a", "pending", RANGE, ADDRESSES, "");
    assert!(lines(&table_key(), &table).is_empty());
}

#[test]
fn of_two_nodes_with_addresses_in_common_the_older_has_them() {
    let made = |name: &str, range: &str, second: &str| {
        let made = format!("uid: u, creationTimestamp: '2026-01-01T00:00:{second}Z'");
        node(name, "pending", range, ADDRESSES, "").replace("uid: u", &made)
    };
    let nodes = [
        made("a-thief", RANGE, "03"),
        made("b", RANGE, "01"),
        made("c", "10.1.2.0/24", "02"),
        made("d-thief", "10.1.0.0/16", "04"),
        made("e-thief", "10.1.2.128/25", "05"),
        made("f", "10.1.3.0/24", "06"),
    ];
    assert_eq!(
        lines(&table_key(), &(table_of("") + &nodes.concat())),
        [
            r#"patch configmaps kube-system/kontiki-pod-routes {"data":{"b":"10.1.1.0/24=10.0.0.1","c":"10.1.2.0/24=10.0.0.1","f":"10.1.3.0/24=10.0.0.1"}}"#
        ]
    );
}

#[test]
fn a_node_is_available_when_it_is_in_the_table_and_its_agent_routes_by_it() {
    let look = |table: &str, report: &str, condition: &str| {
        of_node(&(table_of(table) + &node("a", report, RANGE, ADDRESSES, condition)))
    };
    let available = [written("False", CREATED)];
    let unavailable = [written("True", NOT_CREATED)];
    assert_eq!(look(ENTRY, "programmed", ""), available);
    assert_eq!(look(ENTRY, "programmed", SAID_TRUE), available);
    assert!(look(ENTRY, "programmed", SAID_FALSE).is_empty());
    // Before anything is known it takes no pods; a table that is behind for a moment takes nothing back.
    assert_eq!(look(ENTRY, "pending", ""), unavailable);
    assert_eq!(look("", "programmed", ""), unavailable);
    assert!(look("", "programmed", SAID_FALSE).is_empty());
    assert!(look("", "pending", SAID_TRUE).is_empty());
}

#[test]
fn what_the_agent_or_the_node_lacks_is_said_with_why() {
    let look = |report: &str, range: &str, addresses: &str, condition: &str| {
        of_node(&(table_of(ENTRY) + &node("a", report, range, addresses, condition)))
    };
    let event = |ranges: &str, why: &str| {
        format!(
            "event Warning a FailedToCreateRoute: Could not create route u {ranges} for node a: {why}"
        )
    };
    let unavailable = written("True", NOT_CREATED);
    let failed = look("failed: no ip", RANGE, ADDRESSES, SAID_FALSE);
    assert_eq!(failed, [unavailable.clone(), event(RANGE, "no ip")]);
    let again = look("failed: no ip", RANGE, ADDRESSES, SAID_TRUE);
    assert_eq!(again, [event(RANGE, "no ip")]);
    let six = "'fd00:0:0:1::/64'";
    let lacking = look(
        "programmed",
        six,
        "{type: InternalIP, address: 10.0.0.1}",
        "",
    );
    let why = "the node has no address to reach fd00:0:0:1::/64 at";
    assert_eq!(
        lacking,
        [unavailable.clone(), event("fd00:0:0:1::/64", why)]
    );
    // With an address of one family it is reached at the range of that one.
    let (four, both) = (
        "{type: InternalIP, address: 10.0.0.1}",
        format!("{six}, {RANGE}"),
    );
    let reached = look("programmed", &both, four, "");
    assert_eq!(reached, [written("False", CREATED)]);
    let strange = look("programmed", "10.2.0.0/24", ADDRESSES, "");
    let why = "10.2.0.0/24 is not a range of the cluster's pods";
    assert_eq!(strange, [unavailable, event("10.2.0.0/24", why)]);
}

#[test]
fn of_nodes_that_take_no_part_nothing_is_said_and_what_was_said_is_taken_back() {
    let look = |condition: &str| of_node(&node("a", "", RANGE, ADDRESSES, condition));
    assert!(look("").is_empty());
    assert!(look("{type: NetworkUnavailable, status: 'False', reason: FlannelIsUp}").is_empty());
    assert_eq!(
        look(SAID_TRUE),
        [
            r#"patch nodes/status a {"status":{"conditions":[{"$patch":"delete","type":"NetworkUnavailable"}]}}"#
        ]
    );
    assert!(of_node(&node("a", "pending", "", ADDRESSES, "")).is_empty());
}

#[test]
fn only_changes_that_count_are_looked_at() {
    let node = |text: String| {
        let text = text.trim_end_matches("---\n").to_owned();
        crate::testing::object::<Node>(&text)
    };
    let silent = node(node_text("", ""));
    assert!(!concerns(&silent));
    let pending = node(node_text("pending", ""));
    let failed = node(node_text("failed: x", ""));
    assert!(concerns(&pending));
    assert_eq!(place(&pending), place(&failed));
    assert_ne!(facts(&pending), facts(&failed));
    assert!(concerns(&node(node_text("", SAID_TRUE))));
    let (old, new) = (
        Labels::from_iter([("a", "1"), ("b", "2")]),
        Labels::from_iter([("b", "3"), ("c", "4")]),
    );
    let mut names = changed(&old, &new);
    names.dedup();
    names.sort();
    names.dedup();
    assert_eq!(names, ["a", "b", "c"]);
}

fn node_text(report: &str, condition: &str) -> String {
    node("a", report, RANGE, ADDRESSES, condition)
}
