//! The agents, and how each is started and answered.
//!
//! Each stands here twice: as it comes, and `bare`, with its hooks cut off: what they would call is
//! looked for where nothing is. `newcomer` has a home that nobody prepared.

use crate::mock_llm::PORT;

/// One agent as it stands in its session.
#[derive(Debug)]
pub(super) struct Agent {
    /// The name of its session.
    pub(super) name: &'static str,
    /// What it is by kind.
    pub(super) kind: Kind,
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
    /// Whether its hooks are heard.
    pub(super) hooks: bool,
}

/// Whose program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Claude,
    Codex,
    Gemini,
    /// Claude Code at its very first start.
    Newcomer,
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

/// Claude Code; it tries twice where it would try ten times over minutes.
const CLAUDE: Agent = Agent {
    name: "claude",
    kind: Kind::Claude,
    command: "ANTHROPIC_BASE_URL=http://127.0.0.1:PORT ANTHROPIC_AUTH_TOKEN=scripted \
              CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 CLAUDE_CODE_MAX_RETRIES=1 \
              claude --permission-mode default",
    ready: &["? for shortcuts", "❯"],
    dialog: &["Esc to cancel"],
    allow: &["Enter"],
    quit: "/exit",
    asks: true,
    hooks: true,
};

const CODEX: Agent = Agent {
    name: "codex",
    kind: Kind::Codex,
    command: "OPENAI_API_KEY=scripted codex -a on-request -s workspace-write \
              -c model_provider=scripted -c model_providers.scripted.name=scripted \
              -c model_providers.scripted.base_url=http://127.0.0.1:PORT/v1 \
              -c model_providers.scripted.env_key=OPENAI_API_KEY \
              -c model_providers.scripted.wire_api=responses \
              -c model_providers.scripted.request_max_retries=1 \
              -c model_providers.scripted.stream_max_retries=1 \
              -c features.enable_request_compression=false",
    ready: &["›"],
    dialog: &["esc to cancel"],
    allow: &["y"],
    quit: "/quit",
    asks: false,
    hooks: true,
};

const GEMINI: Agent = Agent {
    name: "gemini",
    kind: Kind::Gemini,
    command: "GEMINI_API_KEY=scripted GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:PORT gemini",
    ready: &["Type your message"],
    dialog: &["Allow once", "Enter to"],
    allow: &["Enter"],
    quit: "/quit",
    asks: true,
    hooks: true,
};

/// All of them.
pub(super) static CAST: [Agent; 7] = [
    CLAUDE,
    CODEX,
    GEMINI,
    Agent {
        name: "newcomer",
        kind: Kind::Newcomer,
        command: "CLAUDE_CONFIG_DIR=$HOME/newcomer ANTHROPIC_BASE_URL=http://127.0.0.1:PORT \
                  ANTHROPIC_AUTH_TOKEN=scripted CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 claude",
        ready: &["theme", "Dark mode", "text style"],
        ..CLAUDE
    },
    Agent {
        name: "bare-claude",
        command: "WARREN_RUNTIME_DIR=/nowhere \
                  ANTHROPIC_BASE_URL=http://127.0.0.1:PORT ANTHROPIC_AUTH_TOKEN=scripted \
                  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 CLAUDE_CODE_MAX_RETRIES=1 \
                  claude --permission-mode default",
        hooks: false,
        ..CLAUDE
    },
    // Codex's threads and hooks run in one daemon for each of its homes, and are told apart by the
    // folder they work in
    Agent {
        name: "bare-codex",
        command: "git init -q ~/bare && mkdir ~/.codex-bare && \
                  cp ~/.codex/config.toml ~/.codex-bare/ && cd ~/bare && \
                  CODEX_HOME=$HOME/.codex-bare WARREN_RUNTIME_DIR=/nowhere \
                  OPENAI_API_KEY=scripted codex -a on-request -s workspace-write \
                  -c model_provider=scripted -c model_providers.scripted.name=scripted \
                  -c model_providers.scripted.base_url=http://127.0.0.1:PORT/v1 \
                  -c model_providers.scripted.env_key=OPENAI_API_KEY \
                  -c model_providers.scripted.wire_api=responses \
                  -c 'projects.\"/home/agent/bare\".trust_level=\"trusted\"' \
                  -c features.enable_request_compression=false",
        hooks: false,
        ..CODEX
    },
    Agent {
        name: "bare-gemini",
        command: "WARREN_RUNTIME_DIR=/nowhere GEMINI_API_KEY=scripted \
                  GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:PORT gemini",
        hooks: false,
        ..GEMINI
    },
];
