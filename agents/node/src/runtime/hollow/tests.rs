use super::*;
use crate::runtime::Output;

fn spec(command: &[&str]) -> ContainerSpec {
    ContainerSpec {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        ..ContainerSpec::default()
    }
}

fn identity(container: &str) -> Identity {
    Identity {
        pod_name: "p".into(),
        pod_namespace: "d".into(),
        pod_uid: "u".into(),
        container: container.into(),
        attempt: 0,
    }
}

async fn run_sandbox(runtime: &HollowRuntime) -> String {
    let sandbox = SandboxSpec {
        identity: identity(super::super::SANDBOX),
        hostname: "p".into(),
        host_network: false,
        host_ipc: false,
        host_pid: false,
        sysctls: BTreeMap::new(),
        ports: Vec::new(),
    };
    runtime.run_sandbox(&sandbox).await.unwrap()
}

#[tokio::test]
async fn a_container_goes_on_for_a_moment_when_it_is_told_to_stop() {
    let config = HollowConfig {
        stop_delay: Duration::from_millis(20),
        ..HollowConfig::default()
    };
    let runtime = HollowRuntime::new(config, "n");
    let sandbox = run_sandbox(&runtime).await;
    let id = runtime
        .create(&sandbox, &identity("c"), &spec(&["serve"]))
        .await
        .unwrap();
    runtime.start(&id).await.unwrap();
    let exit = async || {
        let all = runtime.list(Some("u")).await.unwrap();
        let found = all.iter().find(|container| container.id == id);
        found.unwrap().exit().map(|exit| exit.code)
    };
    let stopping = runtime.stop(&id, Duration::from_secs(30));
    let mut stopping = std::pin::pin!(stopping);
    assert!(futures::poll!(stopping.as_mut()).is_pending());
    assert_eq!(exit().await, None, "it is still there for who looks");
    stopping.await.unwrap();
    assert_eq!(exit().await, Some(143));
    // The sandbox gets no time, and takes none.
    let mut stopping = std::pin::pin!(runtime.stop(&sandbox, Duration::ZERO));
    assert!(futures::poll!(stopping.as_mut()).is_ready());
}

#[tokio::test]
async fn a_container_runs_ends_and_says_that_it_is_simulated() {
    let runtime = HollowRuntime::new(HollowConfig::default(), "n");
    let mut events = runtime.events();
    let sandbox = run_sandbox(&runtime).await;
    let id = runtime
        .create(
            &sandbox,
            &identity("c"),
            &spec(&["sh", "-c", "echo hello; exit 7"]),
        )
        .await
        .unwrap();
    runtime.start(&id).await.unwrap();
    assert_eq!(events.next().await.unwrap().pod_uid, "u");
    let listed = runtime.list(Some("u")).await.unwrap();
    assert_eq!(listed.len(), 2);
    let container = listed.iter().find(|container| container.id == id).unwrap();
    assert_eq!(container.exit().unwrap().code, 7);
    let request = LogRequest {
        stdout: true,
        ..LogRequest::default()
    };
    let lines: Vec<_> = runtime.logs(&id, &request).collect().await;
    assert_eq!(lines.len(), 2);
    assert_eq!(
        lines[0].as_ref().unwrap().output,
        Output::Stdout(format!("{NOTICE}\n").into())
    );
    runtime.remove(&sandbox).await.unwrap();
    assert_eq!(runtime.list(None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_container_that_sleeps_longer_than_there_are_years_runs() {
    let runtime = HollowRuntime::new(HollowConfig::default(), "n");
    let sandbox = run_sandbox(&runtime).await;
    let command = spec(&["sh", "-c", "sleep 1e18; echo done"]);
    let made = runtime.create(&sandbox, &identity("c"), &command).await;
    let id = made.unwrap();
    runtime.start(&id).await.unwrap();
    let all = runtime.list(Some("u")).await.unwrap();
    let found = all.iter().find(|container| container.id == id);
    assert!(found.unwrap().is_running());
}
