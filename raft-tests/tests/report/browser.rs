//! A headless Chromium, told what to do over its debugging protocol.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Debian's packages of it.
const PROGRAMS: [&str; 2] = ["chromium-headless-shell", "chromium"];
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Browser {
    process: Child,
    _profile: TempDir,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    sent: u64,
    /// What the pages of this browser complained of, and asked of anyone.
    pub(crate) complaints: Vec<String>,
    pub(crate) requests: Vec<String>,
}

impl Browser {
    pub(crate) async fn start() -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let mut process = PROGRAMS
            .iter()
            .find_map(|program| spawn(program, profile.path()))
            .expect("Debian's chromium-headless-shell is installed (deploy/setup.sh test)");
        let address = timeout(PATIENCE, address(&mut process))
            .await
            .expect("Chromium says where it listens");
        let (socket, _) = connect_async(address).await.unwrap();
        let mut browser = Browser {
            process,
            _profile: profile,
            socket,
            session: None,
            sent: 0,
            complaints: Vec::new(),
            requests: Vec::new(),
        };
        browser.attach().await;
        browser
    }

    async fn attach(&mut self) {
        let page = self
            .call("Target.createTarget", json!({"url": "about:blank"}))
            .await;
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let attached = self.call("Target.attachToTarget", attach).await;
        self.session = Some(attached["sessionId"].as_str().unwrap().to_string());
        for domain in ["Page", "Runtime", "Network", "Log"] {
            self.call(&format!("{domain}.enable"), json!({})).await;
        }
    }

    /// How the page is seen: its size, and the theme and medium that it is asked to follow.
    pub(crate) async fn look(&mut self, width: u32, height: u32, theme: &str, medium: &str) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let feature = json!([{"name": "prefers-color-scheme", "value": theme}]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({"media": medium, "features": feature}),
        )
        .await;
    }

    /// Opens a file, and waits until it is drawn.
    pub(crate) async fn open(&mut self, path: &Path) {
        self.requests.clear();
        let url = format!("file://{}", path.display());
        // From one page to another and not within one.
        self.call("Page.navigate", json!({"url": "about:blank"}))
            .await;
        self.call("Page.navigate", json!({"url": url})).await;
        self.until("document.readyState === 'complete' && typeof report === 'object'")
            .await;
        self.settle().await;
        self.requests
            .retain(|asked| !asked.starts_with("about:") && *asked != url);
    }

    /// Opens a page of a server.
    pub(crate) async fn visit(&mut self, url: &str) {
        self.requests.clear();
        self.call("Page.navigate", json!({"url": url})).await;
        self.until("document.readyState === 'complete'").await;
    }

    /// Waits until two frames were painted.
    pub(crate) async fn settle(&mut self) {
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))").await;
    }

    pub(crate) async fn until(&mut self, condition: &str) {
        let began = Instant::now();
        while self.evaluate(condition).await != json!(true) {
            assert!(began.elapsed() < PATIENCE, "never: {condition}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn evaluate(&mut self, script: &str) -> Value {
        let evaluate = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", evaluate).await;
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{script}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    pub(crate) async fn click(&mut self, x: f64, y: f64) {
        for (sort, buttons) in [("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)] {
            let button = if sort == "mouseMoved" { "none" } else { "left" };
            let event = json!({"type": sort, "x": x, "y": y, "button": button, "buttons": buttons, "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event).await;
        }
        self.settle().await;
    }

    /// Presses at one place, and lets go at another.
    pub(crate) async fn drag(&mut self, from: (f64, f64), to: (f64, f64)) {
        let places = [
            ("mousePressed", from),
            ("mouseMoved", to),
            ("mouseReleased", to),
        ];
        for (sort, (x, y)) in places {
            let event = json!({"type": sort, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event).await;
        }
        self.settle().await;
    }

    pub(crate) async fn wheel(&mut self, x: f64, y: f64, down: f64) {
        let event = json!({"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": down});
        self.call("Input.dispatchMouseEvent", event).await;
        self.settle().await;
    }

    pub(crate) async fn key(&mut self, key: &str) {
        let text = if key.chars().count() == 1 { key } else { "" };
        for (sort, text) in [("keyDown", text), ("keyUp", "")] {
            let event = json!({"type": sort, "key": key, "text": text});
            self.call("Input.dispatchKeyEvent", event).await;
        }
        self.settle().await;
    }

    /// The window, or all of the page.
    pub(crate) async fn screenshot(&mut self, path: &Path, all: bool) {
        let options = json!({"format": "png", "captureBeyondViewport": all});
        let shot = self.call("Page.captureScreenshot", options).await;
        let png = STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(path, png).unwrap();
    }

    pub(crate) async fn allow_clipboard(&mut self) {
        let session = self.session.take();
        let permissions = json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
        self.call("Browser.grantPermissions", permissions).await;
        self.session = session;
    }

    /// Ends the browser, with all its processes.
    pub(crate) async fn close(mut self) {
        self.session = None;
        self.call("Browser.close", json!({})).await;
        let ended = timeout(PATIENCE, self.process.wait()).await;
        ended.expect("Chromium ends when told to").unwrap();
    }

    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let mut request = json!({"id": self.sent, "method": method, "params": params});
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        self.socket
            .send(Message::text(request.to_string()))
            .await
            .unwrap();
        loop {
            let next = timeout(PATIENCE, self.socket.next()).await;
            let message = next.unwrap_or_else(|_| panic!("no answer to {method}"));
            let message = message.expect("the browser lives").unwrap();
            let Message::Text(text) = message else {
                continue;
            };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == json!(self.sent) {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => self.complaints.push(params.to_string()),
            "Runtime.consoleAPICalled" => self.complaints.push(params["args"].to_string()),
            // Of the colours that the tests themselves look at.
            "Log.entryAdded" if params.to_string().contains("readback operations") => {}
            "Log.entryAdded" => self.complaints.push(params["entry"].to_string()),
            "Page.javascriptDialogOpening" => self.complaints.push(params.to_string()),
            "Network.requestWillBeSent" => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                self.requests.push(url.to_string());
            }
            _ => {}
        }
    }
}

fn spawn(program: &str, profile: &Path) -> Option<Child> {
    let mut command = Command::new(program);
    // Tests run as root in containers, where Chromium's own sandbox does not start. The pages are ours.
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
    ]);
    command.args([
        "--hide-scrollbars",
        "--disable-background-networking",
        "--remote-debugging-port=0",
    ]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    command
        .arg("about:blank")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.kill_on_drop(true).spawn().ok()
}

/// It is told on the error output, once.
async fn address(process: &mut Child) -> String {
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let address = loop {
        let line = lines.next_line().await.unwrap().expect("Chromium starts");
        if let Some((_, address)) = line.split_once("DevTools listening on ") {
            break address.trim().to_string();
        }
    };
    // Whatever it says later is read, so that it never waits for a reader.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    address
}
