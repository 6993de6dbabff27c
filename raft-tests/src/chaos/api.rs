//! Clients of the Kubernetes API of real members. They are those of the simulation ([`crate::kube`]): some write objects in
//! every way that the API has, some list and watch and keep what they are shown, and all of them go from member to member.
//! Where there are nodes, others want things to run. What is true is told by the store's own watch. Here is what is
//! different: requests go over TLS to the port on the loopback of each member, and time is that of the machine.

use super::heal::Healing;
use super::lives;
use super::members::Member;
use super::shared::Shared;
use super::truth;
use crate::kube::history::{Call, History, Informer, Told, Truth, Verb};
use crate::kube::rest::{self, Rest};
use crate::kube::rules::{self, Verdict};
use crate::kube::schedule::Work;
use crate::kube::scribe::Scribe;
use crate::kube::wire::{Answer, Broken, Pieces, Road};
use crate::kube::{self, clients as kube_clients, informers, objects, rights};
use crate::recording::{RestCall, RestFate};
use anyhow::Result;
use auth::User;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// Of the API, in each member's namespace.
const PORT: u16 = 6443;
const WRITERS: u32 = 2;
/// In the recording.
const FIRST_WRITER: u32 = 400;
const FIRST_WANTER: u32 = 420;
const FIRST_KEEPER: u32 = 450;
const LAST_CLIENT: u32 = 490;
const POLL: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(500);
/// After the last wish, until it has come true. Leases of agents that are gone, and pauses between attempts, take as long.
const CONVERGES_WITHIN: Duration = Duration::from_secs(90);

/// The way to the members.
struct Doors {
    admin: TlsConnector,
    /// For who shows a token.
    nobody: TlsConnector,
    members: Vec<Arc<Member>>,
}

impl Doors {
    fn new(bundle: &Path, members: Vec<Arc<Member>>) -> Result<Doors> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(bundle.join("ca.crt"))?)?;
        let chain = CertificateDer::pem_file_iter(bundle.join("admin.crt"))?
            .collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(bundle.join("admin.key"))?;
        let config = || -> Result<_> {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?;
            Ok(config.with_root_certificates(roots.clone()))
        };
        let connector = |config| TlsConnector::from(Arc::new(config));
        Ok(Doors {
            admin: connector(config()?.with_client_auth_cert(chain, key)?),
            nobody: connector(config()?.with_no_client_auth()),
            members,
        })
    }

    /// Over a connection of its own.
    async fn ask(
        &self,
        member: u64,
        user: Option<User>,
        mut request: Request<Bytes>,
    ) -> Result<Answer, Broken> {
        let member = self.members.iter().find(|it| it.id() == member);
        let member = member.ok_or(Broken::Refused)?;
        let tls = match &user {
            Some(_) => &self.admin,
            None => &self.nobody,
        };
        let connecting = connect(tls, member).await;
        let (mut sender, connection) = connecting.map_err(|_| Broken::Refused)?;
        if let Some(user) = user {
            become_user(&user, request.headers_mut());
        }
        let connection = Connection(tokio::spawn(async {
            // The request sees how it ends.
            let _ = connection.await;
        }));
        let host = HeaderValue::from_static("127.0.0.1");
        request.headers_mut().insert(http::header::HOST, host);
        let response = sender.send_request(request.map(Full::new)).await;
        let (head, body) = response.map_err(|_| Broken::Lost)?.into_parts();
        let pieces = Coming {
            body,
            _sender: sender,
            _connection: connection,
        };
        Ok(Answer::new(head.status, pieces))
    }
}

/// Nothing has been asked when this fails.
async fn connect(tls: &TlsConnector, member: &Member) -> Result<(Sender, Line)> {
    let stream = member.space.dial(PORT).await?;
    let name = ServerName::try_from("127.0.0.1")?;
    let stream = tls.connect(name, stream).await?;
    Ok(http1::handshake(TokioIo::new(stream)).await?)
}

/// Administrators are one; all others are who the administrator says.
fn become_user(user: &User, headers: &mut HeaderMap) {
    let is_admin = user
        .groups
        .iter()
        .any(|group| group == auth::user::GROUP_MASTERS);
    if let Ok(name) = HeaderValue::from_str(&user.name)
        && !is_admin
    {
        headers.insert("impersonate-user", name);
    }
}

type Sender = http1::SendRequest<Full<Bytes>>;
type Line =
    http1::Connection<TokioIo<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>, Full<Bytes>>;

/// Closed when it is dropped.
struct Connection(tokio::task::JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The rest of an answer.
struct Coming {
    body: Incoming,
    _sender: Sender,
    _connection: Connection,
}

impl Pieces for Coming {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, Broken>>> {
        Box::pin(async {
            loop {
                let piece = match self.body.frame().await? {
                    Ok(frame) => frame.into_data(),
                    Err(_) => return Some(Err(Broken::Lost)),
                };
                // Trailers are of no interest.
                if let Ok(piece) = piece {
                    return Some(Ok(piece));
                }
            }
        })
    }
}

impl Road for Doors {
    /// Whether one is up is seen when it is asked.
    fn ready(&self) -> Vec<u64> {
        self.members.iter().map(|member| member.id()).collect()
    }

    fn send(
        &self,
        _client: u32,
        member: u64,
        user: Option<User>,
        request: Request<Bytes>,
    ) -> BoxFuture<'_, Result<Answer, Broken>> {
        Box::pin(self.ask(member, user, request))
    }
}

/// Who goes on until all is over.
#[derive(Default)]
struct Keepers {
    informers: JoinSet<()>,
    truth: JoinSet<()>,
}

/// All of these clients, and what they were told.
pub struct Api {
    scribe: Arc<Scribe>,
    writing: Arc<rest::Shared>,
    keeping: Arc<rest::Shared>,
    keepers: Mutex<Keepers>,
    reached: Vec<Arc<AtomicI64>>,
    /// Something of the truth was compacted before anybody could see it.
    truth_lost: Arc<AtomicBool>,
    with_nodes: bool,
}

impl Api {
    /// Where there are nodes, clients want things to run on them.
    pub fn new(bundle: &Path, shared: &Shared, with_nodes: bool) -> Result<Api> {
        let doors = Arc::new(Doors::new(bundle, shared.members.clone())?);
        let began = Instant::from_std(shared.recorder.began());
        let scribe = Arc::new(Scribe::new(began));
        let clients = || {
            Arc::new(rest::Shared {
                wire: doors.clone(),
                scribe: scribe.clone(),
                stop: AtomicBool::new(false),
            })
        };
        Ok(Api {
            writing: clients(),
            keeping: clients(),
            keepers: Mutex::default(),
            // One of one namespace, one of all.
            reached: vec![Arc::default(), Arc::default()],
            truth_lost: Arc::default(),
            scribe,
            with_nodes,
        })
    }

    /// Writers are among `clients`, which end when they are told to.
    pub fn start(&self, shared: &Arc<Shared>, clients: &mut JoinSet<()>, seed: u64) {
        let dice = |client: u32| SmallRng::seed_from_u64(seed ^ 0x4e57 ^ (u64::from(client) << 16));
        for client in FIRST_WRITER..FIRST_WRITER + WRITERS {
            let shared = self.writing.clone();
            let writer = kube_clients::work(shared, client, Work::Objects, dice(client));
            clients.spawn(writer);
        }
        if self.with_nodes {
            self.start_wanters(clients, dice);
        }
        let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        for (client, reached) in (FIRST_KEEPER..).zip(&self.reached) {
            let namespace = client.is_multiple_of(2).then_some(objects::NAMESPACES[0]);
            let (keeping, reached) = (self.keeping.clone(), reached.clone());
            let dice = dice(client);
            keepers.informers.spawn(informers::keep(
                keeping,
                client,
                "configmaps",
                namespace,
                reached,
                dice,
            ));
        }
        for pinned in (0..shared.members.len()).map(Some).chain([None]) {
            let (scribe, lost) = (self.scribe.clone(), self.truth_lost.clone());
            let follow = truth::follow(shared.clone(), scribe, lost, pinned);
            keepers.truth.spawn(follow);
        }
    }

    /// Whoever wants things to run, and to be there.
    fn start_wanters(&self, clients: &mut JoinSet<()>, dice: impl Fn(u32) -> SmallRng) {
        // The second self of who binds has the next number.
        let works = [
            (0, Work::Deployments),
            (1, Work::Deployments),
            (2, Work::Ordinals),
            (3, Work::Bindings),
            (5, Work::Services),
            (6, Work::Namespaces),
        ];
        for (place, work) in works {
            let client = FIRST_WANTER + place;
            let shared = self.writing.clone();
            clients.spawn(kube_clients::work(shared, client, work, dice(client)));
        }
    }

    pub fn stop_writers(&self) {
        self.writing.stop.store(true, Ordering::Relaxed);
    }

    /// What is wanted has to come true, informers have to know everything, each member is looked at once more, and all
    /// that was told is judged. Nobody writes any more but the controllers.
    pub async fn conclude(&self, healing: &Healing<'_>, patience: Duration) {
        let recorder = healing.rig.recorder();
        if self.with_nodes {
            let within = CONVERGES_WITHIN * healing.factor;
            // Where it could not be read, that is said.
            let last = healing.rig.shared.watch_until.load(Ordering::SeqCst);
            let last = Some(last).filter(|last| *last < i64::MAX).unwrap_or(0);
            if let Err(missing) = self.converge(last, within).await {
                let story = format!("{within:?} after the last wish: {missing:#?}");
                recorder.violation("K8: not as wanted", story);
            }
        }
        self.settle(patience).await;
        for member in healing.rig.members() {
            if let Err(instead) = self.look_at(member, patience).await {
                let story = format!(
                    "All faults were taken back. The API of member {} does not answer within {patience:?}, but: {instead}.",
                    member.name
                );
                recorder.violation("liveness: does not serve", story);
            }
        }
        // It is about a second, which a slow machine may not keep to.
        if healing.factor == 1 {
            self.probe_rights(healing).await;
        }
        self.keeping.stop.store(true, Ordering::Relaxed);
        let mut keepers = self.take_keepers();
        // Some of them wait for what does not come any more.
        keepers.informers.shutdown().await;
        let until = Instant::now() + patience;
        while self.scribe.followed() < self.newest_shown() && Instant::now() < until {
            tokio::time::sleep(POLL).await;
        }
        keepers.truth.shutdown().await;
        self.report(healing);
    }

    /// What is taken away has to be refused everywhere, soon.
    async fn probe_rights(&self, healing: &Healing<'_>) {
        let members: Vec<u64> = healing.rig.members().iter().map(|it| it.id()).collect();
        let (shared, dice) = (self.keeping.clone(), SmallRng::seed_from_u64(2));
        let probed = rights::probe(shared, &members, LAST_CLIENT + 1, dice).await;
        if probed.is_none() {
            let story = "All faults were taken back. What an administrator asks for is not done.";
            let recorder = healing.rig.recorder();
            recorder.violation("liveness: does not serve", story.into());
        }
    }

    /// Waits until everything is as it is wanted, as far as it was wanted up to this revision; else some of what is not.
    async fn converge(&self, last: i64, within: Duration) -> Result<(), Vec<String>> {
        let began = Instant::now();
        loop {
            let mut missing = self
                .scribe
                .change(|history| match history.truth.last() < last {
                    true => vec![format!("nobody was shown version {last}")],
                    false => {
                        let missing = rules::unfinished(&history.truth).into_iter();
                        missing.map(|(_, what)| what).collect()
                    }
                });
            if missing.is_empty() {
                super::say(&format!(
                    "all that was wanted is so {:.1} s after the last wish",
                    began.elapsed().as_secs_f32()
                ));
                return Ok(());
            }
            if began.elapsed() > within {
                missing.truncate(5);
                return Err(missing);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until informers know everything. What they do not know then is held against them.
    async fn settle(&self, patience: Duration) {
        let until = Instant::now() + patience;
        loop {
            let late = Instant::now() > until;
            let settled = self.scribe.change(|history| {
                let settled = late || self.all_know(history);
                // Whatever comes after this is another matter.
                let last = settled.then(|| history.truth.last());
                for informer in &mut history.informers {
                    informer.settled = last;
                }
                settled
            });
            if settled {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn all_know(&self, history: &History) -> bool {
        let knows_all = |informer: &Informer| {
            let reached = &self.reached[(informer.client - FIRST_KEEPER) as usize];
            kube::knows_all(&history.truth, informer, reached.load(Ordering::Relaxed))
        };
        history.truth.last() >= kube::newest_shown(history)
            && history.informers.len() == self.reached.len()
            && history.informers.iter().all(knows_all)
    }

    /// The newest version that a client was shown.
    fn newest_shown(&self) -> i64 {
        let kept = self
            .reached
            .iter()
            .map(|reached| reached.load(Ordering::Relaxed));
        let asked = self.scribe.change(|history| kube::newest_shown(history));
        kept.fold(asked, i64::max)
    }

    /// A list through this member; else what came at last instead of it.
    async fn look_at(&self, member: &Member, patience: Duration) -> Result<(), String> {
        let (shared, dice) = (self.keeping.clone(), SmallRng::seed_from_u64(1));
        let mut client = Rest::new(shared, LAST_CLIENT, dice);
        let until = Instant::now() + patience;
        loop {
            client.member = member.id();
            match kube::list_all(&mut client).await {
                Err(_) if Instant::now() < until => {}
                looked => return looked,
            }
        }
    }

    fn take_keepers(&self) -> Keepers {
        let keepers = self.keepers.lock();
        std::mem::take(&mut *keepers.unwrap_or_else(PoisonError::into_inner))
    }

    fn report(&self, healing: &Healing<'_>) {
        let recorder = healing.rig.recorder();
        let mut history = self.scribe.change(std::mem::take);
        history.runs = lives::of(&history.truth);
        recorder.change(|recording| recording.rest = history.calls.iter().map(in_words).collect());
        let answered = history
            .calls
            .iter()
            .filter(|call| call.told.is_success())
            .count();
        let steps: usize = history
            .informers
            .iter()
            .map(|informer| informer.steps.len())
            .sum();
        super::say(&format!(
            "{} calls of the Kubernetes API, {answered} answered well; informers were shown {steps} things",
            history.calls.len()
        ));
        if answered == 0 || steps == 0 {
            recorder.trouble("no client of the Kubernetes API got anything done".into());
        }
        if self.with_nodes {
            super::say(&format!("{} pods ran", history.runs.len()));
            if history.runs.is_empty() {
                recorder.trouble("no pod ran".into());
            }
        }
        if self.truth_lost.load(Ordering::Relaxed) {
            let words = "changes of objects were compacted before anybody saw them";
            return recorder.trouble(words.into());
        }
        let found = rules::check(&history);
        let stories: Vec<&str> = found.iter().map(|it| it.story.as_str()).collect();
        if let Err(error) = show(&history.truth, &stories, healing.rig.members()) {
            recorder.trouble(format!("{error:#}"));
        }
        for Verdict { rule, story, .. } in found {
            recorder.violation(&rule, story);
        }
    }
}

/// Puts every state of the objects that are named beside the members' logs, by version, for whoever wants to see why.
fn show(truth: &Truth, stories: &[&str], members: &[Arc<Member>]) -> Result<()> {
    let named = |key: &str| stories.iter().any(|story| story.contains(key));
    let objects = truth.objects().filter(|(key, _)| named(key));
    let objects: BTreeMap<&str, BTreeMap<i64, Option<&Value>>> = objects
        .map(|(key, states)| {
            let states = states.iter();
            (key, states.map(|(at, it)| (*at, it.as_deref())).collect())
        })
        .collect();
    if let (false, Some(member)) = (objects.is_empty(), members.first()) {
        let file = member.installation().logs.join("objects.json");
        std::fs::write(file, serde_json::to_vec_pretty(&objects)?)?;
    }
    Ok(())
}

/// As the report shows it.
fn in_words(call: &Call) -> RestCall {
    let verb = format!("{:?}", call.verb).to_lowercase();
    let mut request = format!("{verb} {}", call.key);
    if let Some(version) = call.expects {
        request += &format!(" if it is of version {version}");
    }
    if call.any_version {
        request += ", of any version";
    }
    let reads = matches!(call.verb, Verb::Get | Verb::List);
    let (fate, answer) = match &call.told {
        Told::Object(seen) => (
            RestFate::Done(seen.revision),
            format!("{} at version {}", seen.key, seen.revision),
        ),
        Told::Done => (RestFate::Done(0), "done".into()),
        Told::Pages(pages) => {
            let count: usize = pages.iter().map(|(_, items)| items.len()).sum();
            let version = pages.first().map_or(0, |(version, _)| *version);
            (
                RestFate::Done(version),
                format!("{count} objects of version {version}"),
            )
        }
        Told::Refused { code, reason } => (RestFate::Refused, format!("{code} {reason}")),
        // Nothing comes of it in any case.
        Told::Unknown(why) if reads => (RestFate::Refused, why.clone()),
        Told::Unknown(why) => (RestFate::Unknown, why.clone()),
    };
    RestCall {
        client: call.client,
        member: call.member,
        called: call.called,
        returned: call.returned,
        verb,
        request,
        fate,
        answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_no_administrator_comes_as_who_it_is() {
        let name = |user: User| {
            let mut headers = HeaderMap::new();
            become_user(&user, &mut headers);
            let name = headers.get("impersonate-user")?.to_str().ok()?;
            Some(name.to_string())
        };
        let none: [&str; 0] = [];
        assert_eq!(name(User::new("eve", none)).as_deref(), Some("eve"));
        assert_eq!(
            name(User::new("client-1", [auth::user::GROUP_MASTERS])),
            None
        );
    }

    #[test]
    fn the_report_says_what_came_of_a_call() {
        let call = |verb, told| {
            let call = Call {
                verb,
                key: "configmaps/n/a".into(),
                expects: Some(4),
                told,
                ..Call::default()
            };
            let words = in_words(&call);
            (words.request, words.fate, words.answer)
        };
        let pages = Told::Pages(vec![(7, Vec::new()), (7, Vec::new())]);
        let (_, fate, answer) = call(Verb::List, pages);
        assert_eq!(
            (fate, answer.as_str()),
            (RestFate::Done(7), "0 objects of version 7")
        );
        let refused = Told::Refused {
            code: 409,
            reason: "Conflict".into(),
        };
        let (request, fate, answer) = call(Verb::Update, refused);
        assert_eq!(request, "update configmaps/n/a if it is of version 4");
        assert_eq!((fate, answer.as_str()), (RestFate::Refused, "409 Conflict"));
        let lost = || Told::Unknown("lost".into());
        assert_eq!(call(Verb::Update, lost()).1, RestFate::Unknown);
        assert_eq!(call(Verb::Get, lost()).1, RestFate::Refused);
    }
}
