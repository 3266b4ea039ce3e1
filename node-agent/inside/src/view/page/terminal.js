// A session in a browser.
const token = location.hash.slice(1);
const what = document.getElementById('what');
const view = document.getElementById('view');
const terminal = new Terminal({ cursorBlink: true, fontSize: 14, scrollback: 5000 });
terminal.open(view);

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
    what.textContent = close.reason || 'disconnected; trying again';
    if (!close.reason) setTimeout(connect, 1500);
  };
}

const bytes = new TextEncoder();
terminal.onData((text) => {
  if (socket?.readyState === WebSocket.OPEN) socket.send(bytes.encode(text));
});
terminal.onBinary((text) => {
  if (socket?.readyState === WebSocket.OPEN) socket.send(Uint8Array.from(text, (c) => c.charCodeAt(0)));
});
new ResizeObserver(fit).observe(view);

if (token) {
  connect();
} else {
  what.textContent = 'the token is missing from the address: open it as warren workspace open printed it';
}
