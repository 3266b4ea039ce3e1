// Loaded into every Node.js program (NODE_OPTIONS). A browser that one of them drives through a pipe
// also opens DevTools on a free port of the loopback, so that it can be looked at from inside the
// workspace. In a workspace with --browser-sandbox one that is driven keeps its sandbox, which
// Playwright turns off unless it is told otherwise. Nothing else is touched. Playwright's drivers for
// other languages are such programs too.
const child = require('node:child_process');
const { spawn } = child;
const sandbox = process.env.WARREN_BROWSER_SANDBOX === '1';
child.spawn = function (file, words, ...rest) {
  const has = (start) => Array.isArray(words) && words.some((word) => String(word).startsWith(start));
  const [pipe, port] = [has('--remote-debugging-pipe'), has('--remote-debugging-port')];
  if (sandbox && (pipe || port)) words = words.filter((word) => word !== '--no-sandbox');
  return spawn.call(this, file, pipe && !port ? ['--remote-debugging-port=0', ...words] : words, ...rest);
};
