//! A browser, as far as a test of a page needs one: Chromium over its `DevTools` protocol, through pipes, without a network.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Where `$CHROMIUM` says, or the first of the usual names on `PATH`; a loud word where there is none.
pub(crate) fn chromium() -> Option<PathBuf> {
    const NAMES: [&str; 5] =
        ["chromium", "chromium-browser", "chrome-headless-shell", "google-chrome", "google-chrome-stable"];
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).flat_map(|folder| NAMES.map(|name| folder.join(name)));
    let found = candidates.find(|candidate| candidate.is_file());
    if found.is_none() {
        crate::skip::skip(
            "chromium",
            "no Chromium on PATH; install it (Debian: `apt-get install chromium`) or set CHROMIUM",
        );
    }
    found
}

/// One page in a browser of its own. Ends with it.
pub(crate) struct Page {
    browser: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    last_id: u64,
    session: Option<String>,
    /// Uncaught exceptions and console errors.
    pub(crate) errors: Vec<String>,
    /// Every address that was asked for.
    pub(crate) requests: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Page {
    /// Opens a file and waits until its script has run, if it has one.
    pub(crate) fn open(chromium: &Path, file: &Path, (width, height): (u32, u32), dark: bool) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The protocol's pipes are the descriptors 3 and 4: the shell moves the child's ends there.
        let mut browser = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null"])
            .arg(chromium)
            .args(["--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-dev-shm-usage", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell starts");
        let (to, from) = (browser.stdin.take().unwrap(), BufReader::new(browser.stdout.take().unwrap()));
        let (errors, requests) = (Vec::new(), Vec::new());
        let mut page = Self { browser, to, from, last_id: 0, session: None, errors, requests, _profile: profile };
        let target = page.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attached = page.call("Target.attachToTarget", &json!({"targetId": target["targetId"], "flatten": true}));
        page.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Network.enable", "Log.enable"] {
            page.call(domain, &json!({}));
        }
        page.resize(width, height);
        let scheme = if dark { "dark" } else { "light" };
        // A page that scrolls smoothly would move away from under the mouse.
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        page.call("Emulation.setEmulatedMedia", &json!({"features": features}));
        page.call("Page.navigate", &json!({"url": format!("file://{}", file.display())}));
        page.wait(
            "document.documentElement?.dataset.ready !== undefined \
             || (location.protocol === 'file:' && document.readyState === 'complete' && document.scripts.length === 0)",
        );
        page
    }

    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Calls a method and returns its result; events that come meanwhile are kept where they matter.
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.try_call(method, parameters).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn try_call(&mut self, method: &str, parameters: &Value) -> Result<Value, String> {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).expect("the browser listens");
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).expect("the browser answers");
            assert_eq!(bytes.pop(), Some(0), "the browser has ended during {method}");
            let answer: Value = serde_json::from_slice(&bytes).expect("the protocol is JSON");
            if answer["id"] == id {
                return if answer["error"].is_null() {
                    Ok(answer["result"].clone())
                } else {
                    Err(answer["error"].to_string())
                };
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.errors.push(parameters["exceptionDetails"].to_string()),
            Some("Log.entryAdded") if parameters["entry"]["level"] == "error" => {
                self.errors.push(parameters["entry"].to_string());
            }
            Some("Network.requestWillBeSent") => {
                self.requests.push(parameters["request"]["url"].as_str().unwrap_or_default().to_owned());
            }
            _ => {}
        }
    }

    /// The value of an expression in the page.
    pub(crate) fn js(&mut self, expression: &str) -> Value {
        self.try_js(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    fn try_js(&mut self, expression: &str) -> Result<Value, String> {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.try_call("Runtime.evaluate", &parameters)?;
        let exception = &answer["exceptionDetails"];
        if exception.is_null() { Ok(answer["result"]["value"].clone()) } else { Err(exception.to_string()) }
    }

    /// Waits until an expression is true; while a page gives way to the next, nothing is.
    pub(crate) fn wait(&mut self, expression: &str) {
        let begun = Instant::now();
        while self.try_js(expression) != Ok(Value::Bool(true)) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{expression} stays false; errors: {:?}", self.errors);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Text of the first element that fits a selector.
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let text = self.js(&format!("document.querySelector({selector:?})?.innerText"));
        text.as_str().unwrap_or_else(|| panic!("no {selector}")).to_owned()
    }

    /// Clicks with the mouse into the middle of the first element that fits, as a person would.
    pub(crate) fn click(&mut self, selector: &str) {
        let place = self.js(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); if (!e) return null; \
             e.scrollIntoView({{block: 'center', behavior: 'instant'}}); const b = e.getBoundingClientRect(); \
             return [b.x + b.width / 2, b.y + b.height / 2]; }})()"
        ));
        assert!(place.is_array(), "no {selector}");
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", &event);
        }
    }

    /// Presses and releases a key: a character, or a name such as `Enter`.
    pub(crate) fn key(&mut self, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "Tab" => 9,
            "ArrowDown" => 40,
            "End" => 35,
            "Home" => 36,
            _ => 0,
        };
        let mut down = json!({"type": "rawKeyDown", "key": key, "windowsVirtualKeyCode": code});
        if key.chars().count() == 1 || key == "Enter" {
            down["type"] = "keyDown".into();
            down["text"] = if key == "Enter" { "\r".into() } else { key.into() };
        }
        self.call("Input.dispatchKeyEvent", &down);
        self.call("Input.dispatchKeyEvent", &json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code}));
    }

    /// Types text into what has the focus.
    pub(crate) fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
    }

    /// Bytes of the page as PDF, as the printer would get it.
    pub(crate) fn pdf_base64_length(&mut self) -> usize {
        let answer = self.call("Page.printToPDF", &json!({"printBackground": true, "preferCSSPageSize": true}));
        answer["data"].as_str().map_or(0, str::len)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // The browser ends with its pipes at the latest; nothing is left to be done where it has ended already.
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}
