// Requests to the API. Knows nothing of pages.

// What the server says when it refuses: code, message, hint, causes, diagnostics.
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.message ?? `the server answered ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

// Sends a request; returns what it answers as JSON, or nothing.
export async function call(method, path, body, type = 'application/json') {
  const init = { method, headers: { Accept: 'application/json' }, credentials: 'same-origin' };
  if (body !== undefined) {
    init.headers['Content-Type'] = type;
    init.body = type === 'application/json' ? JSON.stringify(body) : body;
  }
  let answer;
  try {
    answer = await fetch(path, init);
  } catch {
    throw new Refused(0, { code: 'unavailable', message: 'The server cannot be reached.', hint: 'The page goes on by itself once it answers.' });
  }
  const text = await answer.text();
  let value = null;
  try {
    value = text === '' ? null : JSON.parse(text);
  } catch {
    value = {};
  }
  if (answer.status === 401) location.reload(); // the session is over: the same address now shows the login
  if (!answer.ok) throw new Refused(answer.status, value ?? {});
  return value;
}

// A path of the API for a deployment.
export const deployment = (name, rest = '') => `/api/deployments/${encodeURIComponent(name)}${rest}`;

// A websocket on this server.
export function socket(path) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return new WebSocket(url);
}
