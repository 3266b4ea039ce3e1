// The display in a browser. What may be typed is decided in the workspace; this only shows it.
import RFB from '/novnc/core/rfb.js';

const token = location.hash.slice(1);
const [bar, what, who] = ['bar', 'what', 'who'].map((id) => document.getElementById(id));
let rfb = null;
let connected = false;

function connect() {
  const view = document.getElementById('view');
  rfb = new RFB(view, `ws://${location.host}/socket`, { wsProtocols: ['warren', `token.${token}`] });
  rfb.scaleViewport = true;
  rfb.viewOnly = true;
  rfb.addEventListener('connect', () => { connected = true; look(); });
  rfb.addEventListener('disconnect', () => {
    connected = false;
    what.textContent = 'disconnected; trying again';
    view.replaceChildren();
    setTimeout(connect, 1500);
  });
}

async function look() {
  if (!connected) return;
  try {
    const answer = await fetch('/state', { headers: { 'x-warren-token': token } });
    const state = await answer.json();
    const mine = state.left_ms !== null;
    rfb.viewOnly = !mine;
    bar.classList.toggle('mine', mine);
    what.textContent = mine
      ? `you have control for ${Math.ceil(state.left_ms / 1000)} s`
      : state.taken ? 'view only: somebody else has control'
        : state.asked ? 'view only: your time is over' : 'view only';
    who.textContent = `${state.watching} watching`;
  } catch {
    what.textContent = 'the workspace does not answer';
  }
}

if (token) {
  connect();
  setInterval(look, 2000);
} else {
  what.textContent = 'the token is missing from the address: open it as warren workspace open printed it';
}
