//! A real browser, Chromium, driven by WebDriver with blocking calls.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::http::HttpClient;
use crate::poll::poll;
use crate::ports::Port;

/// The limit of each step, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A browser with one window. Its drop ends it, with all its processes.
pub struct Browser {
    runtime: Runtime,
    client: Client,
    driver: Child,
    port: Port,
    session: String,
    _profile: TempDir,
}

/// Why a command was not carried out.
type Failure = fantoccini::error::CmdError;

impl Browser {
    /// Starts `chromedriver` on a port of its own, and Chromium by it, with an empty profile. It takes any certificate.
    #[track_caller]
    pub fn start() -> Self {
        let port = Port::take();
        let profile = tempfile::tempdir().expect("there is room for a profile");
        let driver = Command::new("chromedriver")
            .arg(format!("--port={}", port.number()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("chromedriver is installed: scripts/test.sh installs it");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let capabilities = capabilities(profile.path());
        let url = format!("http://127.0.0.1:{}", port.number());
        let client = poll("chromedriver gives a session", TIMEOUT, || {
            let mut builder =
                ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
            builder.capabilities(capabilities.clone());
            runtime.block_on(builder.connect(&url))
        });
        let session = runtime.block_on(client.session_id());
        let session = session.ok().flatten().expect("a session has an id");
        Self {
            runtime,
            client,
            driver,
            port,
            session,
            _profile: profile,
        }
    }

    /// Opens a page and waits until it is there.
    #[track_caller]
    pub fn open(&self, url: &str) {
        let opened = self.runtime.block_on(self.client.goto(url));
        opened.unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    /// The path and the query of the page.
    #[track_caller]
    pub fn path(&self) -> String {
        let path = self.script("return location.pathname + location.search");
        path.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page has this path.
    #[track_caller]
    pub fn wait_path(&self, path: &str) {
        poll(&format!("the page is {path}"), TIMEOUT, || {
            let found = self.path();
            if found == path { Ok(()) } else { Err(found) }
        });
    }

    /// Clicks the element of this CSS selector, and waits for the page to which it leads.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        self.activate(&self.find(selector), selector);
    }

    /// Clicks the button or the link with this text, and waits for the page to which it leads.
    #[track_caller]
    pub fn press(&self, text: &str) {
        let locator =
            format!("//*[self::button or self::a or self::summary][normalize-space()={text:?}]");
        self.activate(&self.wait_for(Locator::XPath(&locator)), text);
    }

    /// A click returns when the next page is asked for. Until that is there, the old one answers, whose elements are about
    /// to go. So it is marked, and the mark has to go first.
    #[track_caller]
    fn activate(&self, element: &Element, name: &str) {
        let mark = "const element = arguments[0];
            const leads = element.matches('a[href]')
                || (element.type === 'submit' && element.form?.checkValidity() === true);
            if (leads) window.isLeft = true;
            return leads;";
        let argument = serde_json::to_value(element).expect("an element has an id");
        let leads = self.script_with(mark, vec![argument]);
        let clicked = self.runtime.block_on(element.click());
        clicked.unwrap_or_else(|error| panic!("{name}: {error}"));
        if leads == Value::Bool(true) {
            self.wait_loaded(name);
        }
    }

    /// Waits until a page without the mark is complete.
    #[track_caller]
    fn wait_loaded(&self, name: &str) {
        let script = "return window.isLeft !== true && document.readyState === 'complete'";
        poll(&format!("{name} leads to a page"), TIMEOUT, || {
            let asked = self.client.execute(script, Vec::new());
            match self.runtime.block_on(asked) {
                Ok(Value::Bool(true)) => Ok(()),
                other => Err(other),
            }
        });
    }

    /// Types into a field, in the place of its text.
    #[track_caller]
    pub fn fill(&self, selector: &str, text: &str) {
        let element = self.find(selector);
        let filled = self.runtime.block_on(async {
            element.clear().await?;
            element.send_keys(text).await
        });
        filled.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// The text that is seen in the element.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let element = self.find(selector);
        let text = self.runtime.block_on(element.text());
        text.unwrap_or_else(|error| panic!("{selector}: {error}"))
    }

    /// Waits until the element's text has this part.
    #[track_caller]
    pub fn wait_text(&self, selector: &str, part: &str) {
        poll(&format!("{selector} says {part:?}"), TIMEOUT, || {
            let script = "return document.querySelector(arguments[0])?.innerText ?? ''";
            let text = self.script_with(script, vec![json!(selector)]);
            let text = text.as_str().unwrap_or_default().to_owned();
            if text.contains(part) {
                Ok(())
            } else {
                Err(text)
            }
        });
    }

    /// How many elements this CSS selector has.
    #[track_caller]
    pub fn count(&self, selector: &str) -> usize {
        let found = self
            .runtime
            .block_on(self.client.find_all(Locator::Css(selector)));
        found.map(|all| all.len()).unwrap_or_default()
    }

    /// Runs a script in the page, as its developer tools would, and returns its value.
    #[track_caller]
    pub fn script(&self, script: &str) -> Value {
        self.script_with(script, Vec::new())
    }

    #[track_caller]
    fn script_with(&self, script: &str, arguments: Vec<Value>) -> Value {
        let done = self
            .runtime
            .block_on(self.client.execute(script, arguments));
        done.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// The browser's complaints since it was last asked: refused scripts, styles and frames. Complaints about the
    /// status of a page are left out, since tests look at error pages too.
    #[track_caller]
    pub fn complaints(&self) -> Vec<String> {
        let path = format!("/session/{}/se/log", self.session);
        let driver = HttpClient::plain(self.port.number());
        let answer = driver
            .post(&path, &json!({ "type": "browser" }))
            .expect(200);
        let entries = answer["value"].as_array().cloned().unwrap_or_default();
        let complaints = entries.iter().map(|entry| entry["message"].to_string());
        let of_status = "the server responded with a status of";
        complaints.filter(|one| !one.contains(of_status)).collect()
    }

    /// Goes on in the page's first frame. [`open`](Self::open) leaves it.
    #[track_caller]
    pub fn enter_frame(&self) {
        let entered = self.runtime.block_on(self.client.enter_frame(0));
        entered.unwrap_or_else(|error| panic!("no frame: {error}"));
    }

    /// Gives the window a size, in the pixels of a page.
    pub fn resize(&self, width: u32, height: u32) {
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        );
    }

    /// Prefers the dark or the light look.
    pub fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools(
            "Emulation.setEmulatedMedia",
            &json!({ "features": features }),
        );
    }

    /// A command of Chromium's developer tools.
    #[track_caller]
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let path = format!("/session/{}/goog/cdp/execute", self.session);
        let driver = HttpClient::plain(self.port.number());
        let body = json!({ "cmd": command, "params": parameters });
        driver.post(&path, &body).expect(200)
    }

    /// The window as a PNG.
    #[track_caller]
    pub fn screenshot(&self) -> Vec<u8> {
        let png = self.runtime.block_on(self.client.screenshot());
        png.unwrap_or_else(|error| panic!("no screenshot: {error}"))
    }

    #[track_caller]
    fn find(&self, selector: &str) -> Element {
        self.wait_for(Locator::Css(selector))
    }

    #[track_caller]
    fn wait_for(&self, locator: Locator<'_>) -> Element {
        poll(
            &format!("there is {locator:?}"),
            TIMEOUT,
            || -> Result<Element, Failure> { self.runtime.block_on(self.client.find(locator)) },
        )
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It deletes its session by that, and ends Chromium.
        let _ended = self.runtime.block_on(self.client.clone().close());
        if let Some(group) = Pid::from_raw(self.driver.id().cast_signed()) {
            let _gone = kill_process_group(group, Signal::KILL);
        }
        let _status = self.driver.wait();
    }
}

fn capabilities(profile: &Path) -> serde_json::Map<String, Value> {
    let profile = format!("--user-data-dir={}", profile.display());
    let arguments = [
        "--headless=new",
        // The tests run as root, for whom Chromium has no sandbox.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
        "--no-first-run",
        "--disable-background-networking",
        &profile,
    ];
    let wanted = json!({
        "acceptInsecureCerts": true,
        "goog:chromeOptions": { "args": arguments },
        "goog:loggingPrefs": { "browser": "ALL" },
    });
    wanted.as_object().cloned().unwrap_or_default()
}
