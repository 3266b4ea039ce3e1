//! The agents, and how each is started and answered.

use crate::mock_llm::PORT;

/// One agent as it stands in its session.
#[derive(Debug)]
pub(super) struct Agent {
    /// Its name, and that of its session.
    pub(super) name: &'static str,
    /// Its command line; `PORT` is the stand-in's.
    command: &'static str,
    /// What its screen shows once it takes a prompt.
    pub(super) ready: &'static [&'static str],
    /// What its screen shows while it asks something. Its hook fires before that.
    pub(super) dialog: &'static [&'static str],
    /// The keys that allow what it asks for.
    pub(super) allow: &'static [&'static str],
    /// What ends it.
    pub(super) quit: &'static str,
    /// Whether its model can ask the person at any time.
    pub(super) asks: bool,
}

impl Agent {
    /// Returns its command line.
    pub(super) fn command(&self) -> String {
        self.command.replace("PORT", &PORT.to_string())
    }
}

/// Returns those whose name holds `only`; empty where there is none.
pub(super) fn called(only: &str) -> Vec<&'static Agent> {
    CAST.iter().filter(|agent| agent.name.contains(only)).collect()
}

/// All of them.
pub(super) static CAST: [Agent; 3] = [
    Agent {
        name: "claude",
        command: "ANTHROPIC_BASE_URL=http://127.0.0.1:PORT ANTHROPIC_AUTH_TOKEN=scripted \
                  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 claude --permission-mode default",
        ready: &["? for shortcuts", "❯"],
        dialog: &["Esc to cancel"],
        allow: &["Enter"],
        quit: "/exit",
        asks: true,
    },
    Agent {
        name: "codex",
        command: "OPENAI_API_KEY=scripted codex -a on-request -s workspace-write \
                  -c model_provider=scripted -c model_providers.scripted.name=scripted \
                  -c model_providers.scripted.base_url=http://127.0.0.1:PORT/v1 \
                  -c model_providers.scripted.env_key=OPENAI_API_KEY \
                  -c model_providers.scripted.wire_api=responses \
                  -c features.enable_request_compression=false",
        ready: &["›"],
        dialog: &["esc to cancel"],
        allow: &["y"],
        quit: "/quit",
        asks: false,
    },
    Agent {
        name: "gemini",
        command: "GEMINI_API_KEY=scripted GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:PORT gemini",
        ready: &["Type your message"],
        dialog: &["Allow once", "Enter to"],
        allow: &["Enter"],
        quit: "/quit",
        asks: true,
    },
];
