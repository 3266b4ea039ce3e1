//! What DevTools say, as far as it is understood.
//!
//! <https://chromedevtools.github.io/devtools-protocol/> names the messages. Unknown ones and unknown
//! fields are passed over.

use serde::{Deserialize, de::IgnoredAny};
use warren_common::browser::{Dialog, Target};

/// What is said first of all: an answer, or an event, perhaps of one page's session.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Head {
    pub(super) id: Option<u64>,
    pub(super) method: Option<String>,
    pub(super) session_id: Option<String>,
    error: Option<Fault>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fault {
    message: String,
}

impl Head {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Returns why a call failed; none where it did not.
    pub(super) fn fault(&self) -> Option<&str> {
        self.error.as_ref().map(|fault| fault.message.as_str())
    }
}

/// The content of an answer.
#[derive(Debug, Deserialize)]
struct Answer<T> {
    result: T,
}

/// The content of an event.
#[derive(Debug, Deserialize)]
struct Event<T> {
    params: T,
}

pub(super) fn answer<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok().map(|answer: Answer<T>| answer.result)
}

pub(super) fn event<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok().map(|event: Event<T>| event.params)
}

/// Answer of `Browser.getVersion`.
#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) product: String,
}

/// Answer of `SystemInfo.getProcessInfo`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Processes {
    process_info: Vec<ProcessInfo>,
}

#[derive(Debug, Deserialize)]
struct ProcessInfo {
    r#type: String,
    id: u32,
}

impl Processes {
    /// Returns the process that is the browser.
    pub(super) fn browser(&self) -> Option<u32> {
        self.process_info.iter().find(|one| one.r#type == "browser").map(|one| one.id)
    }
}

/// Answer of `Target.getTargets`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Targets {
    target_infos: Vec<TargetInfo>,
}

impl Targets {
    pub(super) fn pages(self) -> Vec<Target> {
        self.target_infos.into_iter().filter_map(TargetInfo::page).collect()
    }
}

/// `Target.targetCreated` and `Target.targetInfoChanged`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OfTarget {
    pub(super) target_info: TargetInfo,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TargetInfo {
    target_id: String,
    r#type: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    url: String,
}

/// Of the id of a page, or of a conversation with one.
pub(super) const ID_BYTES: usize = 64;
/// Of an address or a title, more than is ever shown.
const TEXT_BYTES: usize = 4096;

impl TargetInfo {
    /// Returns it where it is a page that people see.
    pub(super) fn page(self) -> Option<Target> {
        let Self { target_id: id, mut title, mut url, .. } = self;
        // a browser's are 32 bytes; whoever says longer ones is none
        if self.r#type != "page" || id.len() > ID_BYTES {
            return None;
        }
        for text in [&mut title, &mut url] {
            text.truncate(text.floor_char_boundary(TEXT_BYTES));
            text.shrink_to_fit();
        }
        Some(Target { id, url, title })
    }
}

/// `Target.targetDestroyed` and `Target.targetCrashed`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TargetId {
    pub(super) target_id: String,
}

/// Answer of `Target.attachToTarget`, and `Target.detachedFromTarget`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionId {
    pub(super) session_id: String,
}

/// `Runtime.consoleAPICalled`.
#[derive(Debug, Deserialize)]
pub(super) struct Console {
    r#type: String,
    #[serde(default)]
    args: Vec<Argument>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Argument {
    value: Option<Shown>,
    description: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Shown {
    Text(String),
    Number(f64),
    Truth(bool),
    Other(IgnoredAny),
}

impl Argument {
    fn text(&self) -> String {
        match (&self.value, &self.description) {
            (Some(Shown::Text(text)), _) => text.clone(),
            (Some(Shown::Number(number)), _) => number.to_string(),
            (Some(Shown::Truth(truth)), _) => truth.to_string(),
            (Some(Shown::Other(_)) | None, Some(text)) => text.clone(),
            (Some(Shown::Other(_)) | None, None) => String::new(),
        }
    }
}

impl Console {
    /// Returns what it says where it is an error.
    pub(super) fn error(&self) -> Option<String> {
        let error = matches!(self.r#type.as_str(), "error" | "assert");
        let words: Vec<String> = self.args.iter().map(Argument::text).collect();
        error.then(|| words.join(" "))
    }
}

/// `Runtime.exceptionThrown`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Thrown {
    exception_details: Exception,
}

#[derive(Debug, Deserialize)]
struct Exception {
    text: String,
    exception: Option<Argument>,
}

impl Thrown {
    pub(super) fn text(&self) -> String {
        let what = self.exception_details.exception.as_ref().map(Argument::text);
        // the first line; where it was thrown follows
        let what = what.unwrap_or_default().lines().next().unwrap_or_default().to_owned();
        if what.is_empty() { self.exception_details.text.clone() } else { what }
    }
}

/// `Page.javascriptDialogOpening`.
#[derive(Debug, Deserialize)]
pub(super) struct Opening {
    r#type: String,
    #[serde(default)]
    message: String,
}

impl From<Opening> for Dialog {
    fn from(opening: Opening) -> Self {
        Self { kind: opening.r#type, text: opening.message }
    }
}

/// Answer of `Runtime.evaluate` about `document.readyState`.
#[derive(Debug, Deserialize)]
pub(super) struct Evaluated {
    result: Argument,
}

impl Evaluated {
    pub(super) fn loaded(&self) -> bool {
        self.result.text() == "complete"
    }
}

/// Answer of `Page.captureScreenshot`.
#[derive(Debug, Deserialize)]
pub(super) struct Captured<'a> {
    /// Base64.
    #[serde(borrow)]
    pub(super) data: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_understood() {
        let head = Head::read(br#"{"id":4,"error":{"code":-32000,"message":"gone"}}"#);
        assert_eq!(head.expect("an answer").fault(), Some("gone"));
        assert!(Head::read(b"nonsense").is_none());
        let targets = br#"{"id":1,"result":{"targetInfos":[
            {"targetId":"B","type":"browser_ui","title":"","url":"chrome://omnibox-popup"},
            {"targetId":"A","type":"page","title":"one","url":"http://h/","attached":false}]}}"#;
        let targets: Targets = answer(targets).expect("targets");
        let page = Target { id: "A".into(), url: "http://h/".into(), title: "one".into() };
        assert_eq!(targets.pages(), [page]);
        let processes = br#"{"id":2,"result":{"processInfo":[
            {"type":"renderer","id":9,"cpuTime":0.1},{"type":"browser","id":7,"cpuTime":1.5}]}}"#;
        assert_eq!(answer::<Processes>(processes).expect("processes").browser(), Some(7));
        let console = br#"{"method":"Runtime.consoleAPICalled","params":{"type":"error","args":[
            {"type":"string","value":"bad"},{"type":"number","value":4,"description":"4"},
            {"type":"object","className":"Object","description":"Object","preview":{}}]}}"#;
        let console: Console = event(console).expect("a line");
        assert_eq!(console.error().as_deref(), Some("bad 4 Object"));
        let thrown = br#"{"params":{"timestamp":1,"exceptionDetails":{"text":"Uncaught",
            "exception":{"type":"object","description":"Error: thrown\n    at <anonymous>:1:7"}}}}"#;
        assert_eq!(event::<Thrown>(thrown).expect("an error").text(), "Error: thrown");
        let state = br#"{"result":{"result":{"type":"string","value":"complete"}}}"#;
        assert!(answer::<Evaluated>(state).expect("a state").loaded());
        let dialog =
            br#"{"params":{"url":"","message":"hi","type":"alert","hasBrowserHandler":true}}"#;
        let dialog = Dialog::from(event::<Opening>(dialog).expect("a dialog"));
        assert_eq!((dialog.kind.as_str(), dialog.text.as_str()), ("alert", "hi"));
    }
}
