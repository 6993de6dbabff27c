//! The command lines of a plan's processes.

use super::{Home, Member, Plan, node_dir};

/// The command line of one member's process, without the program.
pub(crate) fn server_command(
    home: &Home,
    plan: &Plan,
    member: &Member,
    node_ip: &str,
) -> Vec<String> {
    let dir = home.process_dir(&member.name);
    let mut line: Vec<String> = vec!["server".into()];
    let mut flag = |name: &str, value: String| line.extend([format!("--{name}"), value]);
    flag("name", member.name.clone());
    flag("member-id", format!("{:x}", member.id));
    flag("cluster-id", format!("{:x}", plan.cluster_id));
    flag("initial-members", plan.initial_members());
    flag("data-dir", dir.join("data").display().to_string());
    flag("pki-dir", dir.join("pki").display().to_string());
    flag("api-listen", format!("0.0.0.0:{}", member.api_port));
    flag("api-advertise", format!("{node_ip}:{}", member.api_port));
    flag("peer-listen", format!("127.0.0.1:{}", member.peer_port));
    flag("peer-advertise", format!("127.0.0.1:{}", member.peer_port));
    flag("etcd-listen", format!("127.0.0.1:{}", member.etcd_port));
    if plan.one_process() {
        flag(
            "with-node",
            home.process_dir(&node_dir(&plan.node.name))
                .display()
                .to_string(),
        );
        node_flags(plan, node_ip, &mut flag);
    }
    line
}

fn node_flags(plan: &Plan, node_ip: &str, flag: &mut dyn FnMut(&str, String)) {
    flag("node-name", plan.node.name.clone());
    flag("runtime", plan.node.runtime.clone());
    flag("node-ip", node_ip.to_string());
    flag("node-port", plan.node.port.to_string());
}

/// The command line of the node agent's process, without the program.
pub(crate) fn agent_command(home: &Home, plan: &Plan, node_ip: &str) -> Vec<String> {
    let dir = home.process_dir(&node_dir(&plan.node.name));
    let mut line: Vec<String> = vec!["agent".into()];
    let mut flag = |name: &str, value: String| line.extend([format!("--{name}"), value]);
    flag("servers", plan.servers().join(","));
    flag("data-dir", home.node_data(plan).display().to_string());
    flag("pki-dir", dir.join("pki").display().to_string());
    node_flags(plan, node_ip, &mut flag);
    line
}
