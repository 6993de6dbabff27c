//! Whatever people, signers of others, clocks and caches do, and wherever leaders are cut off: who is approved and asks for
//! what his signer signs gets one certificate, nobody else gets any, and requests that are done with go.

use super::*;
use crate::certificate_approval::{approval, grounds};
use crate::certificate_cleaner;
use crate::simulation::Simulation;
use agent_runtime::{ControllerOptions, Signing};
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rules::{API_CLIENT, KUBELET_CLIENT};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

const CSR: &str = "CertificateSigningRequest";
const FOREIGN: &str = "example.com/signer";
const HOUR: u64 = 60 * 60;
const NAMES: [&str; 4] = ["r0", "r1", "r2", "r3"];
/// For whom it is approved without anybody being asked.
const SORT_OF_NODES: usize = 1;
/// Whom a signer of this house serves.
const SERVED: [usize; 2] = [0, SORT_OF_NODES];

/// What is asked for: a user, a node, a user who wants what he must not have, a signer of somebody else, nonsense.
static SPECS: LazyLock<[Value; 5]> = LazyLock::new(|| {
    let spec = |signer: &str, request: &str, usages: &[&str]| {
        json!({
            "signerName": signer, "request": STANDARD.encode(request), "usages": usages, "username": "system:node:n",
        })
    };
    let (jane, node) = (pem("jane", "dev"), pem("system:node:n", "system:nodes"));
    let client = ["digital signature", "client auth"];
    [
        spec(API_CLIENT, &jane, &client),
        spec(KUBELET_CLIENT, &node, &client),
        spec(API_CLIENT, &jane, &["server auth"]),
        spec(FOREIGN, &jane, &client),
        spec(API_CLIENT, "nonsense", &client),
    ]
});

static AUTHORITY: LazyLock<SigningPair> = LazyLock::new(|| {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    SigningPair {
        certificate_pem: params.self_signed(&key).unwrap().pem(),
        key_pem: key.serialize_pem(),
    }
});

fn pem(common_name: &str, organization: &str) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, common_name);
    name.push(DnType::OrganizationName, organization);
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

struct Model {
    cluster: Simulation,
    /// The sort of each incarnation.
    sorts: BTreeMap<String, usize>,
    /// The certificate of each incarnation.
    certificates: BTreeMap<String, String>,
    /// Caches of somebody to whom no news come.
    view: Arc<Caches>,
    /// Whether nodes have the right to be approved.
    is_right: bool,
}

fn key(name: &str) -> Key {
    Key::new("", name)
}

fn uid(request: &Value) -> &str {
    request["metadata"]["uid"].as_str().unwrap()
}

fn kinds(request: &Value) -> BTreeSet<&str> {
    let conditions = request["status"]["conditions"].as_array();
    let conditions = conditions.into_iter().flatten();
    conditions
        .map(|condition| condition["type"].as_str().unwrap())
        .collect()
}

fn options(pair: Option<SigningPair>) -> Arc<ControllerOptions> {
    Arc::new(ControllerOptions {
        signing: Signing::by(pair),
        ..ControllerOptions::default()
    })
}

impl Model {
    fn new() -> Self {
        let cluster = Simulation::new("");
        Self {
            view: cluster.frozen(),
            cluster,
            sorts: BTreeMap::new(),
            certificates: BTreeMap::new(),
            is_right: false,
        }
    }

    fn now(&self) -> String {
        timestamp::time(self.cluster.world().now)
    }

    fn ask(&mut self, name: &str, sort: usize) {
        let (uid, now) = (format!("u{}", self.sorts.len()), self.now());
        self.cluster.put(json!({
            "kind": CSR, "metadata": {"name": name, "uid": uid, "creationTimestamp": now},
            "spec": SPECS[sort],
        }));
        self.sorts.insert(uid, sort);
    }

    /// Somebody decides, unless it was decided before: the API lets nobody change his mind.
    fn decide(&mut self, name: &str, kind: &str) {
        let request = self.cluster.get(CSR, name);
        if request.is_some_and(|request| kinds(&request).is_empty()) {
            let condition = json!({"type": kind, "status": "True", "lastUpdateTime": self.now()});
            let status = json!({"status": {"conditions": [condition]}});
            self.cluster.patch(CSR, name, &status);
        }
    }

    fn foreign_signer(&mut self, name: &str) {
        let request = self.cluster.get(CSR, name);
        let signs = |request: &Value| {
            request["spec"]["signerName"] == FOREIGN && kinds(request).contains("Approved")
        };
        if request.is_some_and(|request| signs(&request)) {
            let status = json!({"status": {"certificate": "eA=="}});
            self.cluster.patch(CSR, name, &status);
        }
    }

    /// Somebody looks who sees this, and is perhaps cut off: to approve, to sign, and to clean up.
    fn look(&mut self, name: &str, view: &Arc<Caches>, who: u64, writes: Option<u64>) {
        let world = self.cluster.world_by(view.clone());
        let plan = match who {
            0 => self.approve(name, &world),
            1 => reconcile(&key(name), &world),
            _ => certificate_cleaner::reconcile(&key(name), &world),
        };
        let before = self.cluster.get(CSR, name);
        self.cluster.attempt(plan, writes);
        let after = self.cluster.get(CSR, name);
        if let (Some(before), None) = (&before, &after) {
            self.check_removed(before);
        }
        if let Some(after) = after {
            self.check(&after);
        }
    }

    fn approve(&self, name: &str, world: &World) -> Plan {
        let request = world.caches.signing_requests.by_key(&key(name));
        let Some(request) = request.filter(|_| self.is_right) else {
            return Plan::none();
        };
        let first = grounds(&request).into_iter().next();
        let approve = |(_, text)| {
            let body = approval(&request, text, world.now);
            Op::merge(&CERTIFICATE_SIGNING_REQUESTS, &request.metadata, body)
        };
        Plan::of(first.map(approve).into_iter().collect())
    }

    fn check(&mut self, request: &Value) {
        let (kinds, sort) = (kinds(request), self.sorts[uid(request)]);
        assert!(!(kinds.contains("Approved") && kinds.contains("Denied")));
        assert!(!kinds.contains("Failed") || sort == 2, "{request}");
        let count = request["status"]["conditions"]
            .as_array()
            .map_or(0, Vec::len);
        assert_eq!(count, kinds.len(), "each once: {request}");
        let Some(certificate) = request["status"]["certificate"].as_str() else {
            return;
        };
        assert!(kinds.contains("Approved") && !kinds.contains("Failed"));
        assert!(sort == 3 || SERVED.contains(&sort), "{request}");
        let first = self.certificates.entry(uid(request).to_owned());
        let first = first.or_insert_with(|| certificate.to_owned());
        assert_eq!(first, certificate, "signed twice");
    }

    /// Nothing goes too soon.
    fn check_removed(&self, request: &Value) {
        let kinds = kinds(request);
        let is_issued = request["status"]["certificate"].is_string();
        let is_done = kinds.contains("Denied") || kinds.contains("Failed") || is_issued;
        assert!(is_done || kinds.is_empty(), "it may still be signed");
        let created = timestamp::parse(request["metadata"]["creationTimestamp"].as_str().unwrap());
        let age = self.cluster.world().now - created.unwrap();
        let hours = if kinds.is_empty() { 24 } else { 1 };
        assert!(age >= timestamp::seconds(hours * 3600), "{request}");
    }

    fn act(&mut self, (what, who, how): (u8, usize, u64)) {
        let name = NAMES[who];
        let now = self.cluster.frozen();
        match what {
            0 | 1 if self.cluster.get(CSR, name).is_none() => {
                self.ask(name, usize::try_from(how % 5).unwrap());
            }
            2 => self.decide(name, if how % 3 == 0 { "Denied" } else { "Approved" }),
            3 => self.foreign_signer(name),
            4 if how == 0 => self.cluster.remove(CSR, name),
            5 => self.is_right = how % 2 == 0,
            6 => self.cluster.options = options((how % 2 == 0).then(|| AUTHORITY.clone())),
            7 => self.view = now,
            8 => {
                let view = self.view.clone();
                self.look(name, &view, how % 3, None);
            }
            9 => self.cluster.seconds += how * HOUR / 4,
            10 => self.look(name, &now, how % 3, Some(0)),
            _ => self.look(name, &now, how % 3, None),
        }
    }

    /// Everybody looks at everything; whether anything was written.
    fn pass(&mut self) -> bool {
        let before = self.cluster.all(CSR);
        for name in NAMES {
            for who in 0..3 {
                let now = self.cluster.frozen();
                self.look(name, &now, who, None);
            }
        }
        self.cluster.all(CSR) != before
    }

    fn check_end(&self) {
        for request in self.cluster.all(CSR) {
            let (kinds, sort) = (kinds(&request), self.sorts[uid(&request)]);
            let is_signed = request["status"]["certificate"].is_string();
            if sort == SORT_OF_NODES {
                assert!(!kinds.is_empty(), "a node is approved, or was denied");
            }
            let is_approved = kinds.contains("Approved");
            if sort != 3 {
                let is_due = is_approved && SERVED.contains(&sort);
                assert_eq!(is_signed, is_due, "{request}");
            }
            assert_eq!(kinds.contains("Failed"), is_approved && sort == 2);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]
    #[test]
    fn who_is_approved_gets_one_certificate_and_what_is_done_with_goes(
        acts in prop::collection::vec((0_u8..16, 0_usize..4, 0_u64..12), 0..80),
    ) {
        let mut model = Model::new();
        for act in acts {
            model.act(act);
        }
        model.cluster.options = options(Some(AUTHORITY.clone()));
        model.is_right = true;
        let is_busy = (0..3).map(|_| model.pass()).last();
        prop_assert_eq!(is_busy, Some(false), "it does not come to rest");
        model.check_end();
        // An hour later what was decided is gone, and a day later what was not.
        for (hours, may_wait) in [(1, true), (24, false)] {
            model.cluster.seconds += hours * HOUR + 1;
            model.pass();
            prop_assert!(!model.pass());
            for request in model.cluster.all(CSR) {
                let (kinds, sort) = (kinds(&request), model.sorts[uid(&request)]);
                let is_awaited = kinds.iter().all(|kind| *kind == "Approved");
                let is_open = kinds.is_empty() && may_wait;
                let is_signed = request["status"]["certificate"].is_string();
                let may_be_signed = !kinds.is_empty() && is_awaited && sort > 2 && !is_signed;
                prop_assert!(is_open || may_be_signed, "{}", request);
            }
        }
    }
}
