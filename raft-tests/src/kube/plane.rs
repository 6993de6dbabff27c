//! The control plane: an API server on each member, for as long as the member's process lives.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use apiserver::{ApiServer, Config};
use host::Host;
use tokio::task::AbortHandle;

use super::agents;
use super::held::Held;
use super::scribe::Scribe;
use super::wire::Wire;
use crate::sim::world::{Process, World};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Between two looks at whether a member has started.
const LOOK: Duration = Duration::from_millis(5);
/// From the crash of agents until they start again.
const AGAIN: Duration = Duration::from_millis(500);

/// What signs tokens. They are in no recording: a key that is new each time changes nothing.
fn signing_key() -> &'static str {
    static KEY: OnceLock<String> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = rcgen::KeyPair::generate().expect("a key needs nothing");
        key.serialize_pem()
    })
}

fn config() -> Config {
    let signer = auth::token::Signer::from_pem(signing_key(), ISSUER);
    let signer = signer.expect("it is a key of that kind");
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    Config::new(Arc::new(signer), ISSUER, "CA".into(), address, 6443)
}

/// The scheduler and the controllers of each member that has any.
#[derive(Default)]
pub struct Crew(Mutex<BTreeMap<u64, AbortHandle>>);

impl Crew {
    /// They are gone in the middle of whatever they do, and start anew after a while; false where there are none.
    pub fn crash(&self, member: u64) -> bool {
        let crew = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        crew.get(&member).map(AbortHandle::abort).is_some()
    }

    fn put(&self, member: u64, running: AbortHandle) {
        let mut crew = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        crew.insert(member, running);
    }
}

/// What the members of a run have.
#[derive(Clone)]
pub struct Plane {
    pub wire: Arc<Wire>,
    pub held: Arc<Held>,
    pub scribe: Arc<Scribe>,
    /// None: API servers alone.
    pub crew: Option<Arc<Crew>>,
}

impl Plane {
    /// Has every member serve the API whenever it runs, and run its agents.
    pub async fn tend(self, world: Arc<World>) {
        let mut served: BTreeMap<u64, Arc<Host>> = BTreeMap::new();
        loop {
            for member in world.ever() {
                let Some(process) = world.process(member) else {
                    continue;
                };
                let known = served.get(&member);
                let known = known.is_some_and(|host| Arc::ptr_eq(host, &process.host));
                if process.node.is_some() && !known {
                    served.insert(member, process.host.clone());
                    tokio::spawn(self.clone().serve(member, process));
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn serve(self, member: u64, process: Process) {
        let Some(node) = process.node else {
            return;
        };
        let store = self.held.over(member, node, self.scribe.clone());
        let starting = process.host.run(async move {
            let api = ApiServer::new(store, config());
            let tasks = api.start();
            (api, tasks)
        });
        // A machine that is paused starts nothing.
        let (api, tasks) = tokio::select! {
            biased;
            () = process.gone.cancelled() => return,
            started = starting => started,
        };
        let (host, gone) = (process.host, process.gone);
        self.wire
            .listen(member, host.clone(), api.clone(), gone.clone());
        while let Some(crew) = &self.crew {
            let scribe = self.scribe.clone();
            let agents = agents::run(api.clone(), member, scribe, gone.clone());
            let running = tokio::spawn(host.run(agents));
            crew.put(member, running.abort_handle());
            tokio::select! {
                biased;
                () = gone.cancelled() => break,
                _ = running => {}
            }
            drop(tokio::time::timeout(AGAIN, gone.cancelled()).await);
        }
        gone.cancelled().await;
        self.wire.close(member, &host);
        drop(tasks);
    }
}
