//! The agents, and how each is started and answered.
//!
//! Each stands here twice: as it comes, and `bare`, with its hooks cut off: what they would call is
//! looked for where nothing is. `newcomer` has a home that nobody prepared.
//!
//! Where their models are stands in the home, so that a command line is nothing but the agent's, and
//! its conversation goes on after the workspace's end as anybody's does.

use crate::mock_llm::PORT;

/// One agent as it stands in its session.
#[derive(Debug)]
pub(super) struct Agent {
    /// The name of its session.
    pub(super) name: &'static str,
    /// What it is by kind.
    pub(super) kind: Kind,
    /// Its command line: nothing but the agent's where its hooks are heard.
    pub(super) command: &'static str,
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

impl Kind {
    /// Returns the name by which the stand-in tells who asked.
    pub(super) const fn api(self) -> &'static str {
        match self {
            Self::Claude | Self::Newcomer => "Anthropic",
            Self::Codex => "OpenAi",
            Self::Gemini => "Gemini",
        }
    }
}

impl Agent {
    /// Returns whether a hook tells that it is at its prompt before anything was typed.
    pub(super) fn tells_of_its_start(&self) -> bool {
        self.hooks && matches!(self.kind, Kind::Claude | Kind::Gemini)
    }

    /// Returns what is asked for where it has a session on a worktree of its own: the agent, and what
    /// follows its name.
    pub(super) fn asked(&self) -> Option<(&'static str, Vec<&'static str>)> {
        let mut words = self.command.split(' ');
        let name = words.next().filter(|name| *name == self.name)?;
        Some((name, words.collect()))
    }
}

/// Returns those whose name holds `only`, of the three as they come where the stories are the core's;
/// empty where there is none.
pub(super) fn called(only: &str, core: bool) -> Vec<&'static Agent> {
    let takes_part = |agent: &&Agent| !core || agent.hooks && agent.kind != Kind::Newcomer;
    CAST.iter().filter(takes_part).filter(|agent| agent.name.contains(only)).collect()
}

/// Returns the script that lays into the home where the models are; `relay` hands calls on.
pub(super) fn setup(relay: &str) -> String {
    SETUP.replace("RELAY", relay).replace("SERVER", SERVER).replace("PORT", &PORT.to_string())
}

/// A tool's server that asks the person when its tool is called.
const SERVER: &str = "const say = (m) => console.log(JSON.stringify({ jsonrpc: '2.0', ...m }));
const schema = { type: 'object', properties: { port: { type: 'string' } } };
let call;
require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line);
  const version = params && params.protocolVersion;
  if (method === 'initialize') say({ id, result: { protocolVersion: version,
    capabilities: { tools: {} }, serverInfo: { name: 'asker', version: '1' } } });
  if (method === 'tools/list') say({ id, result: { tools: [
    { name: 'ask', description: 'Asks', inputSchema: { type: 'object', properties: {} } }] } });
  if (method === 'tools/call') {
    call = id;
    say({ id: 'q', method: 'elicitation/create',
      params: { message: 'Which port?', requestedSchema: schema } });
  }
  if (id === 'q') say({ id: call, result: { content: [{ type: 'text', text: 'answered' }] } });
});";

/// Claude Code and Codex try twice where they would try ten times over minutes.
const SETUP: &str = "set -eu
cat >~/relay.js <<'END'
RELAY
END
cat >~/server.js <<'END'
SERVER
END
claude mcp add --scope user asker -- node /home/agent/server.js
cat >>~/.bash_profile <<'END'
export ANTHROPIC_BASE_URL=http://127.0.0.1:PORT ANTHROPIC_AUTH_TOKEN=scripted
export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 CLAUDE_CODE_MAX_RETRIES=1
export OPENAI_API_KEY=scripted
export GEMINI_API_KEY=scripted GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:PORT
END
{ echo 'model_provider = \"scripted\"'; cat ~/.codex/config.toml; cat <<'END'; } >~/config.toml

[model_providers.scripted]
name = \"scripted\"
base_url = \"http://127.0.0.1:PORT/v1\"
env_key = \"OPENAI_API_KEY\"
wire_api = \"responses\"
request_max_retries = 1
stream_max_retries = 1

[features]
enable_request_compression = false
END
mv ~/config.toml ~/.codex/config.toml
";

const CLAUDE: Agent = Agent {
    name: "claude",
    kind: Kind::Claude,
    command: "claude --permission-mode default",
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
    command: "codex -a on-request -s workspace-write",
    // the line for prompts stands there before it takes any
    ready: &["for agents", "default · ~/"],
    dialog: &["esc to cancel"],
    allow: &["y"],
    quit: "/quit",
    asks: false,
    hooks: true,
};

const GEMINI: Agent = Agent {
    name: "gemini",
    kind: Kind::Gemini,
    command: "gemini",
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
        command: "CLAUDE_CONFIG_DIR=$HOME/newcomer claude",
        ready: &["theme", "Dark mode", "text style"],
        dialog: &["Choose the text style"],
        ..CLAUDE
    },
    Agent {
        name: "bare-claude",
        command: "WARREN_RUNTIME_DIR=/nowhere claude --permission-mode default",
        hooks: false,
        ..CLAUDE
    },
    // Codex's threads and hooks run in one daemon for each of its homes, and are told apart by the
    // folder they work in
    Agent {
        name: "bare-codex",
        command: "git init -q ~/bare && mkdir -p ~/.codex-bare && \
                  sed 's#agent/hello\"#agent/bare\"#' ~/.codex/config.toml >~/.codex-bare/config.toml && \
                  cd ~/bare && CODEX_HOME=$HOME/.codex-bare WARREN_RUNTIME_DIR=/nowhere \
                  codex -a on-request -s workspace-write",
        hooks: false,
        ..CODEX
    },
    Agent {
        name: "bare-gemini",
        command: "WARREN_RUNTIME_DIR=/nowhere gemini",
        hooks: false,
        ..GEMINI
    },
];
