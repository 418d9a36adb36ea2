// Keeps the parts of a page that are marked `data-live` up to date: asks the server for the page again when something
// happened, and now and then, and puts the new parts in the place of the old ones. Remembers nothing itself.

import { socket } from './api.js';

const PAUSE = 400; // events come in bursts: the page is asked for once for all of them
const GAP = 2500; // and, as looking costs the server something, not again at once
const EVERY = 15000;

// Times in the reader's own zone.
export function localise(root = document) {
  for (const time of root.querySelectorAll('time[datetime]')) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.getTime())) {
      const dateStyle = innerWidth < 600 ? 'short' : 'medium';
      time.textContent = at.toLocaleString(undefined, { dateStyle, timeStyle: 'medium' });
      time.title = time.dateTime;
    }
  }
}

let asked = null; // one request at a time; what happens meanwhile is asked for after it
let again = false;

let still = false;

// While what the page shows is being deleted there is nothing to ask for.
export function hold(on) {
  still = on;
}

// Asks for the page and swaps what is marked.
export async function refresh() {
  if (still) return null;
  if (asked) {
    again = true;
    return asked;
  }
  asked = swap().finally(() => {
    asked = null;
  });
  await asked;
  if (again) {
    again = false;
    await refresh();
  }
  return null;
}

async function swap() {
  let answer;
  try {
    answer = await fetch(location.href, { headers: { Accept: 'text/html' }, credentials: 'same-origin', cache: 'no-store' });
  } catch {
    document.body.classList.add('stale');
    return;
  }
  document.body.classList.remove('stale');
  if (answer.status === 401) location.reload(); // the same address is now the login
  if (answer.status === 404) location.href = '/gui'; // what this page showed was deleted
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
  for (const old of document.querySelectorAll('[data-live]')) {
    const next = fresh.getElementById(old.id);
    if (!next) continue;
    const made = document.importNode(next, true);
    localise(made);
    if (made.isEqualNode(old)) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : '';
    old.replaceWith(made);
    if (focused) document.getElementById(focused)?.focus();
  }
  document.dispatchEvent(new CustomEvent('refreshed'));
}

// Watches the server's events (of one deployment, or all) and refreshes when there are some.
export function watch(deployment) {
  let due = null;
  let last = 0;
  const soon = () => {
    due ??= setTimeout(() => {
      due = null;
      last = Date.now();
      refresh();
    }, Math.max(PAUSE, last + GAP - Date.now()));
  };
  const path = deployment ? `/api/events?deployment=${encodeURIComponent(deployment)}` : '/api/events';
  let wait = 500;
  const connect = () => {
    const events = socket(path);
    events.addEventListener('open', () => {
      wait = 500;
      soon(); // what happened while nobody listened
    });
    events.addEventListener('message', soon);
    events.addEventListener('close', () => {
      setTimeout(connect, wait);
      wait = Math.min(wait * 2, 8000);
    });
  };
  connect();
  setInterval(() => document.visibilityState === 'visible' && soon(), EVERY);
  document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && soon());
  localise();
}
