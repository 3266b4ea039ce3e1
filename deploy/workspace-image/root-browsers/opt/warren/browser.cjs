// Loaded into every Node.js program (NODE_OPTIONS). A browser that one of them drives through a pipe
// also opens DevTools on a free port of the loopback, so that it can be looked at from inside the
// workspace; nothing else is touched. Playwright's drivers for other languages are such programs too.
const child = require('node:child_process');
const { spawn } = child;
child.spawn = function (file, words, ...rest) {
  const driven = Array.isArray(words) && words.includes('--remote-debugging-pipe');
  const open = driven && words.some((word) => String(word).startsWith('--remote-debugging-port'));
  return spawn.call(this, file, driven && !open ? ['--remote-debugging-port=0', ...words] : words, ...rest);
};
