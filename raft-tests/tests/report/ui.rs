//! The page of a live cluster, with one that is made up.

use crate::browser::Browser;
use anyhow::{Result, bail};
use raft_tests::recording::{Operation, Outcome, Put, Request, Response, Role, Sample};
use raft_tests::ui::{Action, Cluster, Condition, Member, server};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::net::TcpListener;

/// Three members, of which the first that runs and is linked to another leads.
struct Fake {
    began: Instant,
    conditions: Mutex<[Condition; 3]>,
    cuts: Mutex<BTreeSet<(usize, usize)>>,
    done: Mutex<Vec<Action>>,
    findings: Mutex<Vec<String>>,
}

impl Fake {
    fn leader(&self) -> Option<usize> {
        let conditions = self.conditions.lock().unwrap();
        let cuts = self.cuts.lock().unwrap();
        let runs = |member: &usize| conditions[*member] == Condition::Running;
        let linked = |one: usize, other: usize| !cuts.contains(&(one.min(other), one.max(other)));
        (0..3).filter(runs).find(|one| {
            (0..3)
                .filter(runs)
                .any(|other| other != *one && linked(*one, other))
        })
    }
}

impl Cluster for Fake {
    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn members(&self) -> Vec<Member> {
        let conditions = self.conditions.lock().unwrap();
        let member = |(index, condition): (usize, &Condition)| Member {
            id: u64::MAX - index as u64,
            name: ["a", "b", "<i>c</i>"][index].into(),
            condition: *condition,
        };
        conditions.iter().enumerate().map(member).collect()
    }

    fn cuts(&self) -> BTreeSet<(usize, usize)> {
        self.cuts.lock().unwrap().clone()
    }

    fn samples(&self) -> Vec<Sample> {
        let leader = self.leader();
        (0..3)
            .map(|index| Sample {
                at: self.now(),
                member: u64::MAX - index as u64,
                role: if leader == Some(index) {
                    Role::Leader
                } else {
                    Role::Follower
                },
                term: leader.map_or(1, |leader| leader as u64 + 1),
                applied: 4000 + index as u64,
                revision: 3210,
            })
            .collect()
    }

    fn operations(&self, since: u64) -> Vec<Operation> {
        let now = self.now();
        let call = |id: u64| {
            let called = id * 40_000_000;
            Operation {
                id,
                client: (id % 4) as u32,
                member: 1,
                called,
                returned: Some(called + 30_000_000),
                request: Request::Put(Put {
                    key: "k".into(),
                    ..Put::default()
                }),
                outcome: match id % 9 {
                    0 => Outcome::Unknown {
                        message: String::new(),
                    },
                    1 => Outcome::Failed {
                        code: 14,
                        message: String::new(),
                    },
                    _ => Outcome::Ok {
                        revision: 1,
                        response: Response::Put { prev: None },
                    },
                },
            }
        };
        (since / 40_000_000 + 1..=now / 40_000_000)
            .map(call)
            .collect()
    }

    fn findings(&self) -> Vec<String> {
        self.findings.lock().unwrap().clone()
    }

    fn act(&self, action: Action) -> Result<()> {
        self.done.lock().unwrap().push(action);
        let mut conditions = self.conditions.lock().unwrap();
        match action {
            Action::Cut(one, other) => {
                self.cuts.lock().unwrap().insert((one, other));
            }
            Action::Heal(one, other) => {
                self.cuts.lock().unwrap().remove(&(one, other));
            }
            Action::Pause(1) => bail!("member b cannot be paused"),
            Action::Kill(member) => conditions[member] = Condition::Stopped,
            Action::Pause(member) => conditions[member] = Condition::Paused,
            Action::Start(member) | Action::Resume(member) => {
                conditions[member] = Condition::Running
            }
        }
        Ok(())
    }
}

/// Where it is served.
async fn served() -> (Arc<Fake>, String) {
    let fake = Arc::new(Fake {
        began: Instant::now(),
        conditions: Mutex::new([Condition::Running; 3]),
        cuts: Mutex::default(),
        done: Mutex::default(),
        findings: Mutex::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = server::url(listener.local_addr().unwrap(), "secret");
    tokio::spawn(server::serve(listener, "secret".into(), fake.clone()));
    (fake, url)
}

async fn opened(url: &str) -> Browser {
    let mut browser = Browser::start().await;
    browser.look(1280, 900, "light", "screen").await;
    browser.visit(url).await;
    browser
        .until("document.getElementById('story').textContent.includes('leads')")
        .await;
    browser
}

async fn press(browser: &mut Browser, selector: &str) {
    let selector = json!(selector);
    let place = browser
        .evaluate(&format!(
            "(() => {{ const box = document.querySelector({selector}).getBoundingClientRect();
                return [box.left + box.width / 2, box.top + box.height / 2]; }})()"
        ))
        .await;
    let at = |index: usize| place[index].as_f64().unwrap();
    browser.click(at(0), at(1)).await;
}

const STORY: &str = "document.getElementById('story').textContent";
const FIRST: &str = ".member:nth-child(1) button";

#[tokio::test]
async fn links_are_cut_and_members_killed_by_a_click() {
    let (fake, url) = served().await;
    let mut browser = opened(&url).await;
    assert_eq!(
        browser.evaluate(STORY).await,
        json!("Member a leads term 1.")
    );

    press(&mut browser, "[data-link='0-1']").await;
    browser
        .until(&format!(
            "{STORY} === 'Member a leads term 1; 1 link is cut.'"
        ))
        .await;
    let cut = "document.querySelector('[data-link=\"0-1\"]').getAttribute('aria-label')";
    assert_eq!(
        browser.evaluate(cut).await,
        json!("link between a and b, cut")
    );
    // The same by keys, and back.
    browser
        .evaluate("document.querySelector('[data-link=\"0-1\"]').focus()")
        .await;
    browser.key("Enter").await;
    browser
        .until(&format!("{STORY} === 'Member a leads term 1.'"))
        .await;

    press(&mut browser, &format!("{FIRST}:nth-child(3)")).await;
    browser
        .until(&format!(
            "{STORY} === 'Member b leads term 2; 2 links are cut.'"
        ))
        .await;
    press(&mut browser, &format!("{FIRST}:nth-child(3)")).await;
    browser
        .until(&format!("{STORY} === 'Member a leads term 1.'"))
        .await;
    press(&mut browser, FIRST).await;
    browser
        .until(&format!(
            "{STORY} === 'Member b leads term 2; a is stopped.'"
        ))
        .await;
    assert_eq!(
        browser
            .evaluate(&format!("document.querySelector('{FIRST}').textContent"))
            .await,
        json!("Start")
    );
    let done = fake.done.lock().unwrap().clone();
    let wanted = [
        Action::Cut(0, 1),
        Action::Heal(0, 1),
        Action::Cut(0, 1),
        Action::Cut(0, 2),
        Action::Heal(0, 1),
        Action::Heal(0, 2),
        Action::Kill(0),
    ];
    assert_eq!(done, wanted);

    // What is wrong by itself is shown, as text.
    let hidden = "document.getElementById('findings').hidden";
    assert_eq!(browser.evaluate(hidden).await, json!(true));
    fake.findings
        .lock()
        .unwrap()
        .push("Member <i>c</i> ended".into());
    browser
        .until("document.querySelector('#findings li')?.textContent === 'Member <i>c</i> ended'")
        .await;
    assert_eq!(browser.evaluate(hidden).await, json!(false));

    // What cannot be done is said.
    press(&mut browser, ".member:nth-child(2) button:nth-child(2)").await;
    browser
        .until("document.getElementById('trouble').textContent === 'member b cannot be paused'")
        .await;
    // The refusal itself is the one thing that the browser may note.
    browser.complaints.retain(|said| !said.contains("409"));
    assert_eq!(browser.complaints, Vec::<String>::new());
    assert!(
        browser.requests.iter().all(|asked| asked.starts_with(&url)),
        "{:?}",
        browser.requests
    );
    browser.close().await;
}

#[tokio::test]
async fn names_are_text_and_clients_are_drawn() {
    let (_fake, url) = served().await;
    let mut browser = opened(&url).await;
    let name = browser
        .evaluate("document.querySelector('.member:nth-child(3) h3').textContent")
        .await;
    assert_eq!(name, json!("member <i>c</i>follower"));
    assert_eq!(
        browser
            .evaluate("document.querySelectorAll('i:not(.key)').length")
            .await,
        json!(0)
    );
    // Something green comes by in the lanes.
    browser
        .until(
            "(() => { const canvas = document.getElementById('lanes'); const pen = canvas.getContext('2d');
                const data = pen.getImageData(0, 0, canvas.width, Math.max(canvas.height, 1)).data;
                for (let at = 0; at < data.length; at += 4) if (data[at] === 15 && data[at + 1] === 138 && data[at + 2] === 102) return true;
                return false; })()",
        )
        .await;
    if let Some(folder) = std::env::var_os("KONTIKI_SCREENSHOTS") {
        press(&mut browser, "[data-link='0-1']").await;
        browser
            .screenshot(&std::path::Path::new(&folder).join("live.png"), false)
            .await;
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn another_site_cannot_act() {
    let (fake, url) = served().await;
    let (_other, foreign) = served().await;
    let mut browser = opened(&foreign).await;
    // A page elsewhere that knows everything but cannot have the origin: no preflight is answered, a simple one is refused.
    let post = |kind: &str| {
        format!(
            "fetch('{url}act', {{ method: 'POST', mode: 'no-cors', headers: {{ 'content-type': '{kind}' }}, body: '{{\"kill\":0}}' }})
                .then(() => 'sent', () => 'refused')"
        )
    };
    browser
        .call("Page.setBypassCSP", json!({"enabled": true}))
        .await;
    browser.visit(&foreign).await;
    assert_ne!(browser.evaluate(&post("text/plain")).await, Value::Null);
    assert_eq!(*fake.done.lock().unwrap(), Vec::new());
    browser.close().await;
}
