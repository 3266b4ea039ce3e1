// A session in a browser.
const token = location.hash.slice(1);
const what = document.getElementById('what');
const view = document.getElementById('view');
const terminal = new Terminal({ cursorBlink: true, fontSize: 14, scrollback: 5000 });
terminal.open(view);

const FINAL = 4000;
// The workspace takes no longer messages than a few of these.
const PIECE = 8192;
let socket = null;

// The size of one character is known once one is drawn.
function fit() {
  const screen = view.querySelector('.xterm-screen');
  const width = screen.clientWidth / terminal.cols;
  const height = screen.clientHeight / terminal.rows;
  if (!width || !height) return;
  terminal.resize(
    Math.max(2, Math.floor(view.clientWidth / width) - 1),
    Math.max(2, Math.floor(view.clientHeight / height)),
  );
  if (socket?.readyState === WebSocket.OPEN) {
    socket.send(JSON.stringify({ columns: terminal.cols, rows: terminal.rows }));
  }
}

function connect() {
  socket = new WebSocket(`ws://${location.host}/socket`, ['warren', `token.${token}`]);
  socket.binaryType = 'arraybuffer';
  socket.onopen = () => { what.textContent = ''; terminal.reset(); fit(); terminal.focus(); };
  socket.onmessage = (message) => terminal.write(new Uint8Array(message.data));
  socket.onclose = (close) => {
    const why = close.reason || 'disconnected';
    const last = close.code === FINAL;
    what.textContent = last ? why : `${why}; trying again`;
    if (!last) setTimeout(connect, 1500);
  };
}

function send(bytes) {
  for (let at = 0; at < bytes.length && socket?.readyState === WebSocket.OPEN; at += PIECE) {
    socket.send(bytes.subarray(at, at + PIECE));
  }
}

// Keys that a phone's keyboard does not have; Ctrl is for the letter after it.
const touch = document.getElementById('touch');
const KEYS = [['Esc', '\x1b'], ['Tab', '\t'], ['Ctrl', ''], ['←', '\x1b[D'], ['↑', '\x1b[A'], ['↓', '\x1b[B'], ['→', '\x1b[C']];
const NAMES = { '←': 'left', '↑': 'up', '↓': 'down', '→': 'right' };
let ctrl = null;

function arrow(keys) {
  return terminal.modes.applicationCursorKeysMode ? keys.replace('[', 'O') : keys;
}

function held(down) {
  ctrl.setAttribute('aria-pressed', down ? 'true' : 'false');
}

for (const [name, keys] of KEYS) {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = name;
  button.setAttribute('aria-label', NAMES[name] ?? name);
  // the keyboard stays up
  button.addEventListener('pointerdown', (event) => event.preventDefault());
  button.addEventListener('click', () => {
    if (keys === '') held(ctrl.getAttribute('aria-pressed') !== 'true');
    else type(keys.length > 1 ? arrow(keys) : keys);
    terminal.focus();
  });
  if (keys === '') ctrl = button;
  touch.append(button);
}
held(false);

const bytes = new TextEncoder();
function type(text) {
  if (ctrl.getAttribute('aria-pressed') === 'true' && /^[a-z@[\\\]^_]$/i.test(text)) {
    text = String.fromCharCode(text.toUpperCase().charCodeAt(0) & 31);
  }
  held(false);
  send(bytes.encode(text));
}

terminal.onData(type);
terminal.onBinary((text) => send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
new ResizeObserver(fit).observe(view);

if (token) {
  connect();
} else {
  what.textContent = 'the token is missing from the address: open it as warren workspace open printed it';
}
