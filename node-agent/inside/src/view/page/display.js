// The display in a browser. What may be typed is decided in the workspace; this only shows it.
import RFB from '/novnc/core/rfb.js';

const token = location.hash.slice(1);
const [bar, what, who, control, keyboard, fit, typed] =
  ['bar', 'what', 'who', 'control', 'keyboard', 'fit', 'typed'].map((id) => document.getElementById(id));
const FINAL = 4000;
let rfb = null;
let connected = false;
let given = false;

function connect() {
  const view = document.getElementById('view');
  const url = `ws://${location.host}/socket`;
  const socket = new WebSocket(url, ['warren', `token.${token}`]);
  let ended = null;
  socket.addEventListener('close', (close) => { ended = close; });
  rfb = new RFB(view, socket);
  rfb.viewOnly = true;
  size();
  rfb.addEventListener('connect', () => { connected = true; look(); });
  rfb.addEventListener('disconnect', () => {
    connected = false;
    control.hidden = keyboard.hidden = true;
    view.replaceChildren();
    const why = ended?.reason || 'disconnected';
    const last = ended?.code === FINAL;
    what.textContent = last ? why : `${why}; trying again`;
    if (!last) setTimeout(connect, 1500);
  });
}

function seconds(ms) {
  return `${Math.ceil(ms / 1000)} s`;
}

function words(state) {
  const others = state.own > 1 ? `, in ${state.own} pages of yours` : '';
  if (state.mine) return `you have control for ${seconds(state.taken_ms)}${others}`;
  if (!state.asked) return 'view only';
  if (state.over) return 'view only: your time is over';
  if (state.given) return 'view only: you gave control back';
  if (state.taken_ms !== null) return `view only: somebody else has control, for at most ${seconds(state.taken_ms)}`;
  return 'view only: control comes in a moment';
}

function show(state) {
  if (rfb.viewOnly === state.mine) {
    rfb.viewOnly = !state.mine;
    size();
  }
  bar.classList.toggle('mine', state.mine);
  given = state.given;
  control.hidden = !state.mine && !state.given;
  control.textContent = state.given ? 'Take control' : 'Give back control';
  keyboard.hidden = !state.mine;
  what.textContent = words(state);
  who.textContent = `${state.watching} watching`;
}

async function ask(method, path) {
  const answer = await fetch(path, { method, headers: { 'x-warren-token': token } });
  if (!answer.ok) throw new Error(answer.status);
  return answer.json();
}

async function look() {
  if (!connected) return;
  try {
    show(await ask('GET', '/state'));
  } catch {
    what.textContent = 'the workspace does not answer; trying again';
  }
}

// A phone shows all of it, or what fits, moved with a finger.
function size() {
  const full = fit.getAttribute('aria-pressed') === 'true';
  rfb.scaleViewport = !full;
  rfb.clipViewport = full;
  rfb.dragViewport = full && rfb.viewOnly;
}

fit.addEventListener('click', () => {
  fit.setAttribute('aria-pressed', fit.getAttribute('aria-pressed') === 'true' ? 'false' : 'true');
  if (rfb) size();
});

control.addEventListener('click', async () => {
  try {
    await ask('POST', given ? '/take' : '/give');
  } catch {
    what.textContent = 'the workspace does not answer; trying again';
  }
  setTimeout(look, 400);
});

// The keyboard of a phone types into a field, and may change again what it wrote: the difference goes
// on as keys.
const NAMED = { Enter: 0xff0d, Backspace: 0xff08, Tab: 0xff09, Escape: 0xff1b };
// something to take away, and not too much to look through
const START = '  ';
const LONG = 200;
let before = START;

function begin() {
  typed.value = before = START;
}

keyboard.addEventListener('click', () => { begin(); typed.focus(); });
typed.addEventListener('keydown', (event) => {
  if (event.isComposing || !(event.key in NAMED) || !connected) return;
  rfb.sendKey(NAMED[event.key], event.code);
  event.preventDefault();
});
typed.addEventListener('input', (event) => {
  const now = typed.value;
  let same = 0;
  while (same < before.length && before[same] === now[same]) same += 1;
  if (connected) {
    for (let gone = before.length; gone > same; gone -= 1) rfb.sendKey(NAMED.Backspace, 'Backspace');
    for (const character of now.slice(same)) {
      const code = character.codePointAt(0);
      rfb.sendKey(code < 0x100 ? code : 0x1000000 + code, null);
    }
  }
  before = now;
  if (!event.isComposing && (now.length < START.length || now.length > LONG)) begin();
});

if (token) {
  connect();
  setInterval(look, 2000);
} else {
  what.textContent = 'the token is missing from the address: open it as warren workspace open printed it';
}
