//! The page of a run, and that of a live cluster, as a browser shows them.

mod browser;
mod sample;
mod ui;

use browser::Browser;
use raft_tests::kube;
use raft_tests::recording::{
    Dump, Operation, Outcome, Pair, Put, Recording, Request, RestCall, RestFate, Violation,
};
use raft_tests::report::write;
use raft_tests::sim::Options;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SMALL: sample::Options = sample::Options {
    clients: 6,
    seconds: 8,
    pause_ms: 45,
    lie: true,
};

/// An empty page of any of the sizes is smaller, in bytes.
const BLANK_MAX: u64 = 40_000;

fn page_of(recording: &Recording, violations: &[Violation]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), recording, violations).unwrap();
    let page = folder.path().join("report.html");
    (folder, page)
}

async fn opened(page: &Path) -> Browser {
    let mut browser = Browser::start().await;
    browser.look(1500, 1150, "light", "screen").await;
    browser.open(page).await;
    browser
}

async fn quiet(mut browser: Browser) {
    browser.settle().await;
    assert_eq!(browser.complaints, Vec::<String>::new());
    assert_eq!(browser.requests, Vec::<String>::new(), "asked of others");
    browser.close().await;
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value
        .as_array()
        .unwrap_or_else(|| panic!("{value} is no list"));
    list.iter().map(|number| number.as_f64().unwrap()).collect()
}

async fn span(browser: &mut Browser) -> f64 {
    let view = numbers(&browser.evaluate("report.view()").await);
    view[1] - view[0]
}

/// The colour of the badge of an operation, beside its number.
async fn badge_of(browser: &mut Browser, id: u64) -> String {
    let script = format!(
        "(() => {{ const [, y, x] = report.where({id}); const canvas = document.getElementById('canvas');
            const box = canvas.getBoundingClientRect(); const scale = devicePixelRatio;
            const place = [x - box.left - 6, y - box.top].map((at) => Math.round(at * scale));
            return [...canvas.getContext('2d').getImageData(...place, 1, 1).data].slice(0, 3).join(); }})()"
    );
    let color = browser.evaluate(&script).await;
    color.as_str().unwrap().to_string()
}

#[tokio::test]
async fn a_failed_run_opens_on_what_cannot_be_explained() {
    let (recording, violations) = sample::run(SMALL);
    let story = &violations[0].story;
    let (_folder, page) = page_of(&recording, &violations);
    let mut browser = opened(&page).await;

    let heading = browser
        .evaluate("document.querySelector('h1').textContent")
        .await;
    assert_eq!(heading, json!("Failed stale read"));
    let told = browser
        .evaluate("document.getElementById('story').textContent")
        .await;
    assert_eq!(told, json!(story));

    // All of the set is visible, most of the run is not.
    assert!(span(&mut browser).await < recording.run.length as f64 / 2.0);
    let view = numbers(&browser.evaluate("report.view()").await);
    for id in &violations[0].operations {
        let operation = &recording.operations[*id as usize - 1];
        assert!(view[0] < operation.called as f64 && view[1] > operation.returned.unwrap() as f64);
        // The badge has a colour that nothing else has.
        assert_eq!(badge_of(&mut browser, *id).await, "179,18,79");
    }
    let links = browser
        .evaluate("[...document.querySelectorAll('.finding a')].map((link) => link.hash)")
        .await;
    let wanted: Vec<String> = violations[0]
        .operations
        .iter()
        .map(|id| format!("#op-{id}"))
        .collect();
    assert_eq!(links, json!(wanted));
    quiet(browser).await;
}

#[tokio::test]
async fn states_at_the_end_and_calls_of_the_api_are_shown() {
    let (mut recording, violations) = sample::run(SMALL);
    let pair = |value: &str| Pair {
        key: "k".into(),
        value: value.into(),
        ..Pair::default()
    };
    let dump = |member, value| Dump {
        member,
        pairs: vec![pair(value)],
        ..Dump::default()
    };
    recording.dumps = vec![dump(1, "v"), dump(2, "v"), dump(3, "<b>w</b>")];
    recording.rest = vec![RestCall {
        client: 400,
        called: recording.run.length / 2,
        verb: "get".into(),
        request: "GET /api".into(),
        ..RestCall::default()
    }];
    let (_folder, page) = page_of(&recording, &violations);
    let mut browser = opened(&page).await;
    let cells = browser
        .evaluate("[...document.querySelectorAll('#dump-rows tr')].map((row) => row.lastChild.textContent)")
        .await;
    let cells = cells.as_array().unwrap();
    assert_eq!(cells[..2], [json!(""), json!("the same as the first")]);
    assert!(cells[2].as_str().unwrap().contains("<b>w</b>"), "{cells:?}");
    let last = browser
        .evaluate("(() => { const lane = JSON.parse(document.getElementById('picture').textContent).lanes.at(-1); return [lane.rest, lane.client]; })()")
        .await;
    assert_eq!(last, json!([true, 400]));
    quiet(browser).await;
}

/// Of a run of a control plane that passed, as if two of its calls and a watch could not be.
#[tokio::test]
async fn a_control_planes_run_has_lanes_with_names_and_what_cannot_be_explained() {
    let options = Options {
        seed: 1,
        length: Duration::from_secs(2),
        bug: None,
    };
    let run = std::thread::spawn(move || kube::run(&options))
        .join()
        .unwrap();
    assert!(run.violations.is_empty(), "{:#?}", run.violations);
    let recording = run.recording;
    let done =
        |call: &RestCall, verb: &str| call.verb == verb && matches!(call.fate, RestFate::Done(_));
    let place = |verb| {
        recording
            .rest
            .iter()
            .position(|call| done(call, verb))
            .unwrap() as u64
    };
    let (write, read) = (place("post"), place("get"));
    let watch = recording
        .rest_watches
        .iter()
        .position(|watch| watch.client == 100)
        .unwrap();
    let violation = Violation {
        rule: "K1: stale read".into(),
        story: "It was written. It was not read.".into(),
        operations: vec![write, read],
        watches: vec![watch as u64],
    };
    let (_folder, page) = page_of(&recording, &[violation]);
    let mut browser = opened(&page).await;
    let heading = browser
        .evaluate("document.querySelector('h1').textContent")
        .await;
    assert_eq!(heading, json!("Failed K1: stale read"));
    let links = "[...document.querySelectorAll('.finding a')].map((link) => link.hash)";
    let mut calls = [write, read];
    calls.sort_unstable_by_key(|id| recording.rest[*id as usize].called);
    let [one, two] = calls;
    let wanted = json!([
        format!("#op-{one}"),
        format!("#op-{two}"),
        format!("#watch-{watch}")
    ]);
    assert_eq!(browser.evaluate(links).await, wanted);
    // Each in the lane of its client, which has a name and stands first.
    let client = recording.rest[one as usize].client;
    let told = browser
        .evaluate("document.querySelector('.finding a').children[2].textContent")
        .await;
    assert_eq!(told, json!(recording.names[&client]));
    assert_eq!(badge_of(&mut browser, one).await, "179,18,79");
    let lanes = "JSON.parse(document.getElementById('picture').textContent)";
    let watches = browser
        .evaluate(&format!("{lanes}.watches.map((lane) => lane.name)"))
        .await;
    assert_eq!(watches[0], json!("informer 100"));
    let strips = browser
        .evaluate(&format!(
            "{lanes}.strips.every((strip) => strip.states.length > 0)"
        ))
        .await;
    assert_eq!(strips, json!(true));
    browser
        .evaluate(&format!(
            "document.querySelector('a[href=\"#watch-{watch}\"]').click()"
        ))
        .await;
    browser.until(&format!("report.chosen() === {watch}")).await;
    let title = browser
        .evaluate("document.querySelector('#details h3').textContent")
        .await;
    assert_eq!(title, json!(format!("Watch {watch} of informer 100")));
    let again = browser
        .evaluate("document.getElementById('replay').textContent")
        .await;
    assert!(
        again.as_str().unwrap().contains("kube-sim --replay 1"),
        "{again}"
    );
    quiet(browser).await;
}

#[tokio::test]
async fn an_operation_is_chosen_by_pointer_keys_and_link() {
    let (recording, violations) = sample::run(SMALL);
    let (_folder, page) = page_of(&recording, &violations);
    let mut browser = opened(&page).await;
    let id = violations[0].operations[1];
    let request = |id: u64| match &recording.operations[id as usize - 1].request {
        Request::Put(put) => json!(format!("put {} = {}", put.key, put.value)),
        Request::Range(range) => json!(format!("get {}", range.key)),
        _ => unreachable!(),
    };

    browser
        .evaluate("document.getElementById('plot').scrollIntoView()")
        .await;
    browser.settle().await;
    let place = numbers(&browser.evaluate(&format!("report.where({id})")).await);
    browser.click(place[0], place[1]).await;
    assert_eq!(browser.evaluate("report.chosen()").await, json!(id));
    let shown = "document.querySelector('#details #request').textContent";
    assert_eq!(browser.evaluate(shown).await, request(id));
    let said = browser
        .evaluate("document.getElementById('said').textContent")
        .await;
    assert!(
        said.as_str()
            .unwrap()
            .starts_with(request(id).as_str().unwrap()),
        "{said}"
    );

    // The next one of the same client.
    browser.key("n").await;
    let client = recording.operations[id as usize - 1].client;
    let next = recording.operations[id as usize..]
        .iter()
        .find(|one| one.client == client)
        .unwrap();
    assert_eq!(browser.evaluate("report.chosen()").await, json!(next.id));
    assert_eq!(browser.evaluate(shown).await, request(next.id));
    browser.key("Escape").await;
    assert_eq!(browser.evaluate("report.chosen()").await, Value::Null);

    let last = violations[0].operations[2];
    browser
        .evaluate(&format!(
            "document.querySelector('a[href=\"#op-{last}\"]').click()"
        ))
        .await;
    browser.until(&format!("report.chosen() === {last}")).await;
    assert_eq!(browser.evaluate(shown).await, request(last));
    quiet(browser).await;
}

#[tokio::test]
async fn a_watch_that_cannot_be_explained_is_chosen_by_its_link() {
    let (recording, _) = sample::run(SMALL);
    let violation = Violation {
        rule: "watch: gap".into(),
        story: "Watch 3 skipped a revision.".into(),
        watches: vec![3],
        ..Violation::default()
    };
    let (_folder, page) = page_of(&recording, &[violation]);
    let mut browser = opened(&page).await;
    browser
        .evaluate("document.querySelector('a[href=\"#watch-3\"]').click()")
        .await;
    browser.until("report.chosen() === 3").await;
    let title = browser
        .evaluate("document.querySelector('#details h3').textContent")
        .await;
    assert_eq!(title, json!("Watch 3 of client 2"));
    // From message to message of its lane.
    browser
        .evaluate("document.getElementById('plot').focus()")
        .await;
    browser.key("n").await;
    let title = browser
        .evaluate("document.querySelector('#details h3').textContent")
        .await;
    assert_eq!(title, json!("Watch 3 of client 2: created"));
    quiet(browser).await;
}

#[tokio::test]
async fn the_view_is_zoomed_and_moved_by_wheel_pointer_and_keys() {
    let (recording, _) = sample::run(sample::Options {
        lie: false,
        ..SMALL
    });
    let (_folder, page) = page_of(&recording, &[]);
    let mut browser = opened(&page).await;
    let whole = span(&mut browser).await;
    assert!(whole >= recording.run.length as f64);

    browser
        .evaluate("document.getElementById('plot').scrollIntoView()")
        .await;
    let box_of = "(() => { const box = document.getElementById('canvas').getBoundingClientRect(); return [box.left, box.top]; })()";
    let corner = numbers(&browser.evaluate(box_of).await);
    let (x, y) = (corner[0] + 600.0, corner[1] + 200.0);
    // Not before it was asked for: the page has to scroll.
    browser.wheel(x, y, -200.0).await;
    assert_eq!(span(&mut browser).await, whole);
    browser
        .evaluate("document.getElementById('plot').focus()")
        .await;
    browser
        .evaluate("document.getElementById('plot').scrollIntoView()")
        .await;
    let corner = numbers(&browser.evaluate(box_of).await);
    let (x, y) = (corner[0] + 600.0, corner[1] + 200.0);
    browser.wheel(x, y, -200.0).await;
    let closer = span(&mut browser).await;
    assert!(closer < whole * 0.8, "{closer} of {whole}");

    let before = numbers(&browser.evaluate("report.view()").await);
    browser.drag((x, y), (x - 100.0, y)).await;
    let after = numbers(&browser.evaluate("report.view()").await);
    assert!(after[0] > before[0] && (after[1] - after[0] - closer).abs() < 2.0);

    browser.key("ArrowLeft").await;
    assert!(numbers(&browser.evaluate("report.view()").await)[0] < after[0]);
    browser.key("+").await;
    assert!(span(&mut browser).await < closer * 0.8);
    browser.key("0").await;
    assert!((span(&mut browser).await - whole).abs() < 2.0);
    for _ in 0..60 {
        browser.key("+").await;
    }
    assert!(
        span(&mut browser).await >= 2000.0,
        "it ends where nothing more is to be seen"
    );
    quiet(browser).await;
}

#[tokio::test]
async fn the_button_copies_the_command_that_does_it_again() {
    let (recording, violations) = sample::run(SMALL);
    let (_folder, page) = page_of(&recording, &violations);
    let mut browser = opened(&page).await;
    browser.allow_clipboard().await;
    browser.call("Page.bringToFront", json!({})).await;
    let place = "(() => { const box = document.getElementById('copy').getBoundingClientRect(); return [box.left + box.width / 2, box.top + box.height / 2]; })()";
    let place = numbers(&browser.evaluate(place).await);
    browser.click(place[0], place[1]).await;
    browser
        .until("document.getElementById('copy').textContent === 'Copied'")
        .await;
    let copied = browser.evaluate("navigator.clipboard.readText()").await;
    assert_eq!(copied, json!(recording.run.replay));
    quiet(browser).await;
}

#[tokio::test]
async fn nothing_that_a_run_contains_is_run() {
    const HOSTILE: &str =
        "</script><img src=x onerror=\"window.harmed=1\"><script>window.harmed=1</script>";
    let (mut recording, mut violations) = sample::run(SMALL);
    for operation in &mut recording.operations {
        operation.request = Request::Put(Put {
            key: HOSTILE.into(),
            value: HOSTILE.into(),
            ..Put::default()
        });
        if let Outcome::Failed { message, .. } | Outcome::Unknown { message } =
            &mut operation.outcome
        {
            *message = HOSTILE.into();
        }
    }
    for fault in &mut recording.faults {
        fault.kind = HOSTILE.into();
        fault.what = HOSTILE.into();
    }
    for watch in &mut recording.watches {
        watch.key = HOSTILE.into();
    }
    recording.run.level = HOSTILE.into();
    recording.run.replay = HOSTILE.into();
    violations[0].rule = HOSTILE.into();
    violations[0].story = HOSTILE.into();
    let (_folder, page) = page_of(&recording, &violations);
    let mut browser = opened(&page).await;
    // Everything that can be shown is shown once.
    for id in [violations[0].operations[0], 1] {
        browser
            .evaluate(&format!("location.hash = '#op-{id}'"))
            .await;
        browser.until(&format!("report.chosen() === {id}")).await;
    }
    browser
        .until("document.querySelectorAll('#operation-rows tr').length > 1")
        .await;
    let shown = browser
        .evaluate("document.querySelector('#details #request').textContent")
        .await;
    assert_eq!(shown, json!(format!("put {HOSTILE} = {HOSTILE}")));
    assert_eq!(
        browser.evaluate("typeof window.harmed").await,
        json!("undefined")
    );
    assert_eq!(browser.evaluate("document.images.length").await, json!(0));
    assert_eq!(browser.evaluate("document.scripts.length").await, json!(2));
    quiet(browser).await;
}

#[tokio::test]
async fn fifty_thousand_operations_open_and_zoom() {
    let (mut recording, _) = sample::run(sample::Options {
        clients: 40,
        seconds: 60,
        pause_ms: 45,
        lie: false,
    });
    assert!(
        recording.operations.len() > 50_000,
        "{}",
        recording.operations.len()
    );
    recording.operations.truncate(50_000);
    let began = Instant::now();
    let (_folder, page) = page_of(&recording, &[]);
    let written = began.elapsed();
    let bytes = std::fs::metadata(&page).unwrap().len();
    assert!(bytes < 30 << 20, "{bytes} bytes");
    let mut browser = Browser::start().await;
    browser.look(1500, 1150, "light", "screen").await;
    let began = Instant::now();
    browser.open(&page).await;
    let opened = began.elapsed();
    let notes = browser
        .evaluate("document.getElementById('notes').textContent")
        .await;
    assert!(
        !notes
            .as_str()
            .unwrap()
            .contains("operations this page draws"),
        "{notes}"
    );
    // Frames of the whole run, each from scratch.
    let frames = "new Promise((done) => { const began = performance.now(); let left = 20; const plot = document.getElementById('plot');
        const frame = () => { if (left-- === 0) return done((performance.now() - began) / 20);
            plot.dispatchEvent(new KeyboardEvent('keydown', { key: left % 2 ? '+' : '-' })); requestAnimationFrame(frame); }; frame(); })";
    let frame = browser.evaluate(frames).await;
    eprintln!(
        "50,000 operations: written in {written:?}, {bytes} bytes, opened in {opened:?}, {frame} ms a frame"
    );
    assert!(opened.as_secs() < 30, "{opened:?}");
    quiet(browser).await;
}

#[tokio::test]
async fn more_than_a_page_can_carry_is_counted_and_it_says_so() {
    let (first, violations) = sample::run(SMALL);
    let mut recording = first.clone();
    // The same over and over, long after what is unexplained.
    let length = first.run.length;
    let each = first.operations.len() as u64;
    for round in 1..=50_000 / each + 1 {
        recording
            .operations
            .extend(first.operations.iter().map(|one| Operation {
                id: one.id + round * each,
                called: one.called + round * length,
                returned: one.returned.map(|returned| returned + round * length),
                ..one.clone()
            }));
    }
    recording.run.length = length * (50_000 / each + 2);
    let (_folder, page) = page_of(&recording, &violations);
    let mut browser = opened(&page).await;
    let note = browser
        .evaluate("document.getElementById('notes').textContent")
        .await;
    let all = recording.operations.len();
    let wanted = format!("Of {all} operations this page draws 50000 one by one");
    assert!(note.as_str().unwrap().contains(&wanted), "{note}");
    for id in &violations[0].operations {
        assert_eq!(badge_of(&mut browser, *id).await, "179,18,79");
    }
    browser.key("0").await;
    quiet(browser).await;
}

#[tokio::test]
async fn it_can_be_read_in_the_dark_and_on_paper() {
    let (recording, violations) = sample::run(SMALL);
    let (_folder, page) = page_of(&recording, &violations);
    let mut browser = opened(&page).await;
    let paper = "getComputedStyle(document.documentElement).backgroundColor";
    assert_eq!(browser.evaluate(paper).await, json!("rgb(247, 245, 240)"));
    let first = violations[0].operations[0];
    assert_eq!(badge_of(&mut browser, first).await, "179,18,79");
    browser.look(1500, 1150, "dark", "screen").await;
    browser.settle().await;
    assert_eq!(browser.evaluate(paper).await, json!("rgb(18, 23, 29)"));
    assert_eq!(badge_of(&mut browser, first).await, "255,107,154");
    browser.look(1500, 1150, "dark", "print").await;
    browser.settle().await;
    assert_eq!(browser.evaluate(paper).await, json!("rgb(255, 255, 255)"));
    assert_eq!(badge_of(&mut browser, first).await, "179,18,79");
    quiet(browser).await;
}

/// Failed and passed, light and dark. `make pictures` keeps them, the guide's among them, to be looked at.
#[tokio::test]
async fn its_pictures_are_not_empty() {
    let own = tempfile::tempdir().unwrap();
    let wanted = std::env::var_os("KONTIKI_SCREENSHOTS").map(PathBuf::from);
    let folder = wanted.unwrap_or_else(|| own.path().into());
    let (recording, violations) = sample::run(SMALL);
    let (passing, _) = sample::run(sample::Options {
        lie: false,
        ..SMALL
    });
    let (_failed, failed) = page_of(&recording, &violations);
    let (_passed, passed) = page_of(&passing, &[]);
    let mut browser = Browser::start().await;
    for (name, page, theme, medium, width) in [
        ("run-report", &failed, "light", "screen", 1280),
        ("failed-dark", &failed, "dark", "screen", 1440),
        ("failed-narrow", &failed, "light", "screen", 640),
        ("failed-print", &failed, "light", "print", 1000),
        ("passed-light", &passed, "light", "screen", 1440),
        ("passed-dark", &passed, "dark", "screen", 1440),
    ] {
        browser.look(width, 1236, theme, medium).await;
        browser.open(page).await;
        if *page == failed {
            let last = violations[0].operations[2];
            browser
                .evaluate(&format!("location.hash = '#op-{last}'"))
                .await;
            browser.until(&format!("report.chosen() === {last}")).await;
            browser.evaluate("scrollTo(0, 0)").await;
        }
        browser
            .until("document.querySelectorAll('#operation-rows tr').length > 1")
            .await;
        let picture = folder.join(format!("{name}.png"));
        browser.screenshot(&picture, name != "run-report").await;
        let size = std::fs::metadata(&picture).unwrap().len();
        assert!(size > BLANK_MAX, "{name}: {size} bytes");
    }
    browser.close().await;
}
