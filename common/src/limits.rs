//! Every bound of Warren, with its name.

use std::time::Duration;

use crate::units::Bytes;

/// The bounds: what is larger, longer or more than this is refused with this number in the error.
#[derive(Debug, Clone, Copy)]
pub struct Limits;

impl Limits {
    /// One encoded command in the Raft log.
    pub const COMMAND_BYTES: usize = 256 * 1024;
    /// One value in the log store; longer entries are chunked.
    pub const STORE_VALUE_BYTES: usize = 16 * 1024;
    /// A client's, workspace's, session's or node's name.
    pub const NAME_BYTES: usize = 40;
    /// The key or the value of one label.
    pub const LABEL_BYTES: usize = 256;
    /// Labels on one object.
    pub const LABELS: usize = 32;
    /// A workspace's setup script.
    pub const SETUP_BYTES: usize = 64 * 1024;
    /// A repository's URL.
    pub const URL_BYTES: usize = 2048;
    /// A session's command line.
    pub const SESSION_COMMAND_BYTES: usize = 4096;
    /// Sessions named in one workspace's spec.
    pub const SESSIONS: usize = 32;
    /// Sessions of which a node is told in one workspace: those there are to be, and those of the spec
    /// that were deleted.
    pub const SESSIONS_TOLD: usize = Self::SESSIONS * 2;
    /// A prompt that is typed into a new session's agent.
    pub const PROMPT_BYTES: usize = 16 * 1024;
    /// Command lines and prompts of one workspace's sessions, together.
    pub const SESSIONS_BYTES: usize = 128 * 1024;
    /// What a spec's sessions are beside their command lines, together.
    pub const SESSIONS_BESIDE_BYTES: usize = 32 * 1024;
    /// Sessions that are no more and of which a workspace knows that their prompt was typed.
    pub const SESSIONS_GONE: usize = 256;
    /// Sessions of one workspace that are begun at one time.
    pub const SESSIONS_AT_ONCE: usize = 4;
    /// An agent that crashed is started again so often in a row; then it stays as it ended.
    pub const AGENT_RESTARTS: u32 = 8;
    /// Before the first of these starts; doubled each time.
    pub const AGENT_RESTART_FIRST: Duration = Duration::from_secs(1);
    /// The longest such pause.
    pub const AGENT_RESTART_MOST: Duration = Duration::from_secs(60);
    /// An agent that ran so long did not crash in a row.
    pub const AGENT_RESTART_STEADY: Duration = Duration::from_secs(300);
    /// The path of a session's worktree.
    pub const WORKTREE_BYTES: usize = 512;
    /// A new session's agent is ready for its prompt within this.
    pub const PROMPT_READY: Duration = Duration::from_secs(180);
    /// From SIGTERM to SIGKILL when a session is stopped.
    pub const SESSION_GRACE: Duration = Duration::from_secs(5);
    /// Git is asked so often which worktrees there are; then the session says why it is not begun.
    pub const WORKTREE_LISTS: u32 = 4;
    /// Between the first two times; doubled each time.
    pub const WORKTREE_LIST_PAUSE: Duration = Duration::from_millis(500);
    /// For all of it, also where git hangs.
    pub const WORKTREE_LIST: Duration = Duration::from_secs(10);
    /// A call of git that makes a session's worktree.
    pub const WORKTREE_TIMEOUT: Duration = Duration::from_secs(120);
    /// Startup steps of one workspace: the node's own and those inside.
    pub const STEPS: usize = 64;
    /// Killed processes remembered of one workspace.
    pub const KILLS: usize = 4;
    /// Command line of a killed process, in bytes.
    pub const KILL_COMMAND_BYTES: usize = 256;
    /// Panes of one session whose processes are told.
    pub const PANES: usize = 16;
    /// Startup steps inside, so that a workspace cannot fill its node's share of [`Self::STEPS`].
    pub const STEPS_INSIDE: usize = 48;
    /// Findings of one node's preflight.
    pub const FINDINGS: usize = 64;
    /// A reason, message or explanation kept in state.
    pub const REASON_BYTES: usize = 512;

    /// The name of an agent's tool, event or subagent.
    pub const AGENT_NAME_BYTES: usize = 64;
    /// One line that an agent's status shows: a tool's input, an option, a task.
    pub const AGENT_SUMMARY_BYTES: usize = 160;
    /// A question or an error of an agent.
    pub const AGENT_TEXT_BYTES: usize = 400;
    /// Options that an agent offers with one question.
    pub const AGENT_OPTIONS: usize = 8;
    /// What an agent has in the background.
    pub const AGENT_TASKS: usize = 16;
    /// Tools that an agent has open at one time.
    pub const AGENT_TOOLS: usize = 16;
    /// Subagents counted of one agent.
    pub const AGENT_SUBAGENTS: usize = 64;
    /// The newest observations of one agent, kept to be put in order with those that come late.
    pub const AGENT_OBSERVATIONS: usize = 128;
    /// Observations of one agent shown by source.
    pub const AGENT_EVIDENCE: usize = 50;
    /// What one of them is shown as: all together fit into one message of PID 1's.
    pub const AGENT_SAID_BYTES: usize = 1024;
    /// An agent that is up for longer and said nothing is in a dialog of its first start.
    pub const AGENT_SETUP: Duration = Duration::from_secs(8);
    /// How long after its last output a program without hooks counts as working.
    pub const AGENT_BUSY: Duration = Duration::from_secs(3);
    /// Processor use from which an agent moves, per mille of one.
    pub const AGENT_MOVES_PER_MILLE: u32 = 10;
    /// Processor use from which a program without hooks works, per mille of one.
    pub const AGENT_BUSY_PER_MILLE: u32 = 50;
    /// A working agent of which nothing moved for this long is stalled.
    pub const AGENT_STALL: Duration = Duration::from_secs(180);
    /// The same while a tool is open.
    pub const AGENT_STALL_IN_TOOL: Duration = Duration::from_secs(600);
    /// A reminder of a permission prompt comes no sooner after it.
    pub const AGENT_REMINDER: Duration = Duration::from_secs(6);
    /// An agent of which nothing was heard for this long is unknown.
    pub const AGENT_UNHEARD: Duration = Duration::from_secs(15);
    /// Title and screen are looked at this often; for this long they may show what was before.
    pub const AGENT_LOOK: Duration = Duration::from_millis(500);

    /// Browsers of one workspace that are looked at.
    pub const BROWSERS: usize = 32;
    /// Browsers of one workspace that have ended and are shown beside them.
    pub const BROWSERS_ENDED: usize = 8;
    /// Pages of one browser that are told; of the others only how many there are.
    pub const PAGES: usize = 32;
    /// What all browsers of one workspace say together, in bytes, roughly counted: pages past it are
    /// left out.
    pub const BROWSERS_BYTES: usize = 40 * 1024;
    /// A page's address.
    pub const PAGE_URL_BYTES: usize = 512;
    /// A page's title, its last error and the text of its dialog, each.
    pub const PAGE_TEXT_BYTES: usize = 160;
    /// One message of a browser's DevTools; a longer one is passed over.
    pub const DEVTOOLS_BYTES: usize = 512 * 1024;
    /// Messages of all browsers of one workspace that are not there to their ends yet, together; one
    /// past it is passed over.
    pub const DEVTOOLS_HELD_BYTES: usize = 4 * 1024 * 1024;
    /// One message that is passed over: a conversation with a longer one is ended.
    pub const DEVTOOLS_PASSED_BYTES: u64 = 64 * 1024 * 1024;
    /// From the beginning of one message to its end, and for a browser to take one.
    pub const DEVTOOLS_TIMEOUT: Duration = Duration::from_secs(5);
    /// Processes of one workspace among which browsers are looked for.
    pub const PROCESSES_LOOKED: usize = 8192;
    /// Between two pictures of all browsers: what changes more often is told as it stands then.
    pub const BROWSERS_GAP: Duration = Duration::from_millis(100);
    /// A browser or a page that does not answer for this long is hung.
    pub const BROWSER_HUNG: Duration = Duration::from_secs(2);
    /// Between two looks at addresses and titles of pages.
    pub const BROWSER_LOOK: Duration = Duration::from_millis(500);
    /// Between two questions to a loaded page whether it answers.
    pub const PAGE_PROBE: Duration = Duration::from_secs(15);
    /// How long a browser that crashed is shown, or ended with its workspace.
    pub const BROWSER_CRASH_SHOWN: Duration = Duration::from_secs(600);
    /// How long one that was closed is shown.
    pub const BROWSER_CLOSE_SHOWN: Duration = Duration::from_secs(30);
    /// One picture of a page.
    pub const SHOT_BYTES: usize = 2 * 1024 * 1024;
    /// Between two pictures of one page.
    pub const SHOT_PACE: Duration = Duration::from_secs(2);
    /// For a page to give its picture.
    pub const SHOT_TIMEOUT: Duration = Duration::from_secs(5);
    /// Who waits for a picture of one workspace, or has not taken all of it, at one time.
    pub const SHOTS: usize = 4;
    /// For whoever asked for a picture to take it.
    pub const SHOT_TAKEN: Duration = Duration::from_secs(30);

    /// The least memory cap: below it tmux and a shell do not fit.
    pub const MEMORY_MIN: Bytes = Bytes::mib(64);
    /// The largest memory cap.
    pub const MEMORY_MAX: Bytes = Bytes::gib(4096);
    /// The least home volume.
    pub const DISK_MIN: Bytes = Bytes::mib(64);
    /// Processes and threads in one workspace, at most.
    pub const PIDS_MAX: u32 = 32_768;

    /// Request ids remembered per principal.
    pub const REQUESTS_PER_PRINCIPAL: usize = 100_000;
    /// How long a request id is remembered.
    pub const REQUEST_AGE: Duration = Duration::from_secs(24 * 3600);
    /// How long a join token is good for.
    pub const TOKEN_AGE: Duration = Duration::from_secs(15 * 60);
    /// How far ahead of us the clock that minted a request id may be.
    pub const REQUEST_SKEW: Duration = Duration::from_secs(24 * 3600);
    /// Join tokens outstanding at one time.
    pub const TOKENS: usize = 1000;
    /// Coordinators of one cluster.
    pub const REPLICAS: usize = 9;
    /// Clients of one cluster.
    pub const CLIENTS: usize = 10_000;
    /// Destinations that one client is allowed.
    pub const ALLOWED: usize = 64;
    /// Nodes of one cluster, retired ones included.
    pub const NODES: usize = 1000;
    /// Workspaces of one cluster.
    pub const WORKSPACES: usize = 100_000;
    /// Workspaces placed on one node.
    pub const WORKSPACES_PER_NODE: usize = 250;
    /// Workspaces one node may report on: those placed there and those it still has of earlier.
    pub const OBSERVED_PER_NODE: usize = 1000;
    /// How long after its end a certificate that was not revoked may still be renewed: a cluster
    /// that was off for a year comes back. The deny-list remembers a revoked one for as long.
    pub const RENEWAL_GRACE: Duration = Duration::from_secs(5 * 365 * 24 * 3600);
    /// Certificates on the deny-list that could still be used or renewed.
    pub const REVOKED: usize = 10_000;
    /// People of one cluster, revoked ones included.
    pub const PEOPLE: usize = 1000;
    /// Invitations outstanding at one time.
    pub const INVITATIONS: usize = 1000;
    /// Issued certificates on record: good ones, and expired ones that may still renew.
    pub const CERTIFICATES: usize = 20_000;
    /// A certificate that ends within this is due: it should have renewed itself long before.
    pub const CERTIFICATE_DUE: Duration = Duration::from_secs(30 * 24 * 3600);
    /// Certificates on record of one holder.
    pub const CERTIFICATES_PER_HOLDER: usize = 64;
    /// Names of images that one node tells of.
    pub const NODE_IMAGES: usize = 64;
    /// Bytes of a certificate's serial.
    pub const SERIAL_BYTES: usize = 64;
    /// Commands of one planning round; the rest follow in the next.
    pub const PLAN_COMMANDS: usize = 256;

    /// Caps may exceed allocatable memory by this many thousandths of the swap (rule B).
    pub const SWAP_SHARE_PER_MILLE: u64 = 500;
    /// Processor caps on a node may add up to this many times its cores.
    pub const CPU_OVERCOMMIT: u64 = 4;

    /// One gRPC message, either way.
    pub const MESSAGE_BYTES: usize = 4 * 1024 * 1024;
    /// The one document that tells a node what to run.
    pub const NODE_SPEC_BYTES: usize = 32 * 1024 * 1024;
    /// One Raft message between coordinators.
    pub const RAFT_MESSAGE_BYTES: usize = 32 * 1024 * 1024;
    /// One message between the node agent and PID 1 of a workspace.
    pub const INSIDE_MESSAGE_BYTES: usize = 256 * 1024;
    /// Bytes of terminal or pipe data in one frame.
    pub const FRAME_BYTES: usize = 32 * 1024;
    /// Commands waiting for consensus.
    pub const WRITE_QUEUE: usize = 4096;
    /// Linearizable reads waiting for the next round.
    pub const READ_QUEUE: usize = 4096;
    /// Writes waiting for one flush of the log.
    pub const FLUSH_QUEUE: usize = 4096;
    /// Bytes of log entries in one Raft message, one entry aside.
    pub const RAFT_APPEND_BYTES: usize = 1024 * 1024;
    /// Bytes of the newest log entries that are kept in memory for those who read them again.
    pub const LOG_MEMORY_BYTES: usize = 8 * 1024 * 1024;
    /// Bytes of one piece of a checkpoint on the wire.
    pub const CHECKPOINT_CHUNK_BYTES: usize = 1024 * 1024;
    /// One checkpoint.
    pub const CHECKPOINT_BYTES: usize = 1024 * 1024 * 1024;
    /// What stands in one cluster backup: a checkpoint, the newest sealed value of each secret with
    /// one on its way, as text, and everything beside them.
    pub const BACKUP_BYTES: usize =
        Self::CHECKPOINT_BYTES + 3 * Self::SECRETS * Self::SECRET_BYTES + 64 * 1024 * 1024;
    /// One segment of audit records; the next record begins a new one.
    pub const AUDIT_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
    /// Segments of audit records looked through for one page of a list.
    pub const AUDIT_SCAN_SEGMENTS: usize = 4;
    /// Callers that read audit records from one coordinator's disk at one time.
    pub const AUDIT_READERS: usize = 2;
    /// Stretches of missing audit records that one answer names.
    pub const AUDIT_GAPS: usize = 64;
    /// Messages waiting in one stream's queue.
    pub const STREAM_QUEUE: usize = 16;
    /// Terminals, execs, log streams and connections open at one time in one workspace.
    pub const STREAMS_PER_WORKSPACE: usize = 160;
    /// The same on one node, logs included.
    pub const STREAMS_PER_NODE: usize = 1024;
    /// Of a workspace's, bytes to and from what listens in it: a page has many, and a terminal finds room
    /// beside them.
    pub const CONNECTS_PER_WORKSPACE: usize = 96;
    /// Of these, connections to its ports: views and editors find room beside them.
    pub const PORTS_PER_WORKSPACE: usize = 64;
    /// A view's token.
    pub const VIEW_TOKEN_BYTES: usize = 64;
    /// A view's Host header.
    pub const VIEW_HOST_BYTES: usize = 64;
    /// How long one person may control a display before they ask again.
    pub const CONTROL: Duration = Duration::from_secs(4 * 3600);
    /// Grants of control that one workspace remembers: those that are over make room first.
    pub const CONTROL_GRANTS: usize = 256;
    /// Browsers that look at displays and terminals of one workspace at one time.
    pub const VIEWERS: usize = 32;
    /// One message of a browser that looks at a display or a terminal.
    pub const VIEW_MESSAGE_BYTES: usize = 32 * 1024;
    /// Bytes of a page, or of what it shows, in one piece.
    pub const VIEW_PIECE_BYTES: usize = 4 * 1024;
    /// Between two questions to a browser whether it is there.
    pub const VIEW_PING: Duration = Duration::from_secs(10);
    /// A browser of which nothing is heard for this long is gone.
    pub const VIEW_SILENT: Duration = Duration::from_secs(30);
    /// A browser that takes nothing for this long is gone.
    pub const VIEW_WRITE: Duration = Duration::from_secs(20);
    /// For a VNC server or a terminal to take what a browser says.
    pub const VIEW_INPUT: Duration = Duration::from_secs(10);
    /// For keys to be let go, and for a browser to take the reason, when a view ends.
    pub const VIEW_RELEASE: Duration = Duration::from_secs(1);
    /// How long a person's connections to one thing in a workspace count as one on the audit record.
    pub const VIEW_NOTED: Duration = Duration::from_secs(15 * 60);
    /// What one coordinator remembers as noted.
    pub const VIEWS_NOTED: usize = 10_000;
    /// Services of one workspace that its PID 1 tells of.
    pub const SERVICES: usize = 16;
    /// Requests for streams that wait for one node, or for one workspace: a page asks for many at once.
    pub const STREAM_REQUESTS: usize = 256;
    /// Events kept for watch streams.
    pub const EVENTS: usize = 65_536;
    /// Bytes that the kept events hold together, roughly counted.
    pub const EVENTS_BYTES: usize = 64 * 1024 * 1024;
    /// Events in one answer of a watch stream; a revision is never cut in two.
    pub const WATCH_BATCH: usize = 256;
    /// Bytes of events in one answer, roughly counted; the event that passes it is the last.
    pub const WATCH_BATCH_BYTES: usize = 1024 * 1024;
    /// Watch streams open on one coordinator.
    pub const WATCHES: usize = 1024;
    /// Watch streams of one principal open on one coordinator.
    pub const WATCHES_PER_PRINCIPAL: usize = 64;
    /// Objects in one page of a list.
    pub const PAGE: usize = 500;
    /// Bytes of one argument list and environment handed to `exec`.
    pub const EXEC_BYTES: usize = 64 * 1024;
    /// Parameters of one template.
    pub const TEMPLATE_PARAMETERS: usize = 64;
    /// Items of one list that a template is given.
    pub const TEMPLATE_LIST: usize = 64;
    /// Names and values of the parameters that one workspace was made with, together.
    pub const PARAMETERS_BYTES: usize = 16 * 1024;
    /// One template's document.
    pub const TEMPLATE_BYTES: usize = 96 * 1024;
    /// A template's name with a version.
    pub const TEMPLATE_REFERENCE_BYTES: usize = Self::NAME_BYTES + 12;
    /// Templates of a cluster.
    pub const TEMPLATES: usize = 100;
    /// Versions kept of one template, the newest and the active one among them.
    pub const TEMPLATE_VERSIONS: usize = 20;
    /// Tools that a workspace logs in.
    pub const LOGINS: usize = 16;
    /// Servers that a workspace's agents may call (MCP).
    pub const MCP_SERVERS: usize = 16;
    /// Arguments of one of them, and as many variables.
    pub const MCP_ARGUMENTS: usize = 32;
    /// The command or one argument of one of them.
    pub const MCP_TEXT_BYTES: usize = 1024;
    /// How long it is remembered that a value was shredded while a coordinator does not answer: one
    /// that comes back later has its copy shredded anew.
    pub const TOMBSTONE_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    /// One secret's value.
    pub const SECRET_BYTES: usize = 64 * 1024;
    /// Secrets of one client's vault, or of the shared one.
    pub const SECRETS_PER_VAULT: usize = 64;
    /// Secrets of a cluster.
    pub const SECRETS: usize = 4000;
    /// Text typed into a session at once.
    pub const SEND_BYTES: usize = 64 * 1024;
    /// Keys pressed in a session at once.
    pub const SEND_KEYS: usize = 64;
    /// Lines read from a session above its screen.
    pub const READ_LINES: u32 = 5000;
    /// Connections in their TLS handshake at one time.
    pub const HANDSHAKES: usize = 64;
    /// Connections open at one time on one listener.
    pub const CONNECTIONS: usize = 4096;
    /// Connections without a certificate that is good today, open at one time on one listener:
    /// those who spend a join token or renew an expired certificate.
    pub const UNCERTIFIED: usize = 256;
    /// A configuration file.
    pub const CONFIG_BYTES: usize = 256 * 1024;
    /// A certificate signing request, or a chain of certificates, in PEM.
    pub const PEM_BYTES: usize = 16 * 1024;
    /// API addresses in one join token or one list of coordinators.
    pub const ADDRESSES: usize = 16;
    /// Lines of progress kept of one startup step.
    pub const STEP_OUTPUT_BYTES: usize = 8 * 1024;

    /// A question to the node's resolver, and its answer over UDP.
    pub const DNS_BYTES: usize = 4096;
    /// Questions of one workspace that wait for their answers at one time.
    pub const DNS_QUERIES: usize = 64;
    /// Connections of one workspace to the node's resolver.
    pub const DNS_CONNECTIONS: usize = 8;
    /// What a program of the distribution (`nft`, `ip`) may write.
    pub const TOOL_BYTES: usize = 16 * 1024 * 1024;

    /// A program of the distribution (`nft`, `ip`).
    pub const TOOL_TIMEOUT: Duration = Duration::from_secs(10);
    /// One question to one of the host's resolvers.
    pub const DNS_TIMEOUT: Duration = Duration::from_secs(2);
    /// A connection of a workspace to the node's resolver on which nothing is asked.
    pub const DNS_IDLE: Duration = Duration::from_secs(10);
    /// A TLS handshake.
    pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
    /// A connection without a certificate that is good today, from handshake to end.
    pub const UNCERTIFIED_TIMEOUT: Duration = Duration::from_secs(60);
    /// A TCP connection to one address.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
    /// A write through Raft; past it the outcome is unknown.
    pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
    /// A linearizable read.
    pub const READ_TIMEOUT: Duration = Duration::from_secs(5);
    /// Sending and installing one checkpoint.
    pub const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(120);
    /// A unary call, unless it says otherwise.
    pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);
    /// Computing the chain of audit records again, on one coordinator.
    pub const AUDIT_TIMEOUT: Duration = Duration::from_secs(600);
    /// Opening a terminal, exec or log stream on a node.
    pub const TUNNEL_TIMEOUT: Duration = Duration::from_secs(10);
    /// For a node to take the request for a stream, where another coordinator can ask it too.
    pub const TUNNEL_TAKEN: Duration = Duration::from_secs(3);
    /// Fetching a workspace's secrets, from whichever coordinator has them.
    pub const SECRETS_DEADLINE: Duration = Duration::from_secs(30);
    /// Fetching a workspace's secrets from one coordinator.
    pub const SECRETS_TIMEOUT: Duration = Duration::from_secs(10);
    /// One call of the container engine, streams and pulls aside.
    pub const ENGINE_TIMEOUT: Duration = Duration::from_secs(120);
    /// A clone, unless the template says otherwise.
    pub const CLONE_TIMEOUT: Duration = Duration::from_secs(600);
    /// A setup script, unless the template says otherwise.
    pub const SETUP_TIMEOUT: Duration = Duration::from_secs(1800);
    /// From SIGTERM to SIGKILL when a workspace stops.
    pub const STOP_GRACE: Duration = Duration::from_secs(10);
    /// How long an event is kept for watch streams.
    pub const EVENT_AGE: Duration = Duration::from_secs(3600);
    /// Between two bookmarks of a watch stream.
    pub const BOOKMARK: Duration = Duration::from_secs(10);
    /// The daemons' own shutdown.
    pub const SHUTDOWN: Duration = Duration::from_secs(10);
}
