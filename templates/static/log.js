// Follows an action's log and its steps. The server keeps both; a lost connection goes on where it was, by its offset.

import { socket } from './api.js';

const MOST = 5000; // lines kept in the page; the whole log is a link away
const encoder = new TextEncoder();

// Calls `line` for each line from byte `from` on, `end` after the last one. Comes back when the connection is lost.
class Stream {
  constructor(path, from, line, end) {
    Object.assign(this, { path, offset: from, line, end, wait: 400, stopped: false });
    this.connect();
  }

  connect() {
    if (this.stopped) return;
    const joint = this.path.includes('?') ? '&' : '?';
    this.link = socket(`${this.path}${joint}from=${this.offset}`);
    this.link.addEventListener('message', ({ data }) => {
      this.wait = 400;
      this.offset += encoder.encode(data).length + 1;
      if (!this.stopped) this.line(data);
    });
    this.link.addEventListener('close', ({ code, reason }) => {
      if (this.stopped) return;
      if (code === 1000) {
        this.end(reason);
        return;
      }
      setTimeout(() => this.connect(), this.wait);
      this.wait = Math.min(this.wait * 2, 8000);
    });
  }

  stop() {
    this.stopped = true;
    this.link.close();
  }
}

// Shows a log in an element; stays at its end as long as the reader is there.
export class Log {
  constructor(element) {
    this.element = element;
    this.waiting = [];
    this.stream = null;
  }

  follow(path, from, end = () => {}) {
    this.stream?.stop();
    this.element.replaceChildren();
    this.waiting = [];
    if (from > 0) this.add('… earlier lines are in the whole log');
    this.stream = new Stream(path, from, (line) => this.add(line), (reason) => {
      this.show();
      end(reason);
    });
  }

  add(line) {
    if (this.waiting.length === 0) requestAnimationFrame(() => this.show());
    this.waiting.push(line);
  }

  show() {
    const { element } = this;
    if (this.waiting.length === 0) return;
    const atEnd = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
    element.append(...this.waiting.map((line) => `${line}\n`));
    this.waiting = [];
    while (element.childNodes.length > MOST) element.firstChild.remove();
    if (atEnd) element.scrollTop = element.scrollHeight;
  }
}

const MARKS = { waiting: 'idle', working: 'busy', done: 'good', failed: 'bad', undoing: 'half', undone: 'idle' };

// Shows the steps of an action and how many are done.
export class Steps {
  constructor(root) {
    this.root = root;
    this.bar = root.querySelector('progress');
    this.count = root.querySelector('[role="status"]');
    this.list = root.querySelector('ul');
    this.stream = null;
  }

  follow(path, command) {
    this.stream?.stop();
    this.steps = new Map();
    this.planOnly = command === 'plan';
    this.list.replaceChildren();
    this.root.classList.add('hidden');
    this.stream = new Stream(path, 0, (line) => this.take(line), () => this.total());
  }

  take(line) {
    let event;
    try {
      ({ event } = JSON.parse(line));
    } catch {
      return;
    }
    const states = { step_started: 'working', step_done: 'done', step_failed: 'failed', undo_started: 'undoing', undo_done: 'undone', undo_failed: 'failed' };
    if (event.kind === 'planned') event.steps.forEach((step) => this.set(step.id, 'waiting', step.what));
    else if (states[event.kind]) this.set(event.step, states[event.kind]);
    else return;
    this.total();
  }

  set(id, state, what) {
    let step = this.steps.get(id);
    if (!step) {
      const item = document.createElement('li');
      const mark = document.createElement('span');
      mark.textContent = id;
      item.append(mark);
      this.list.append(item);
      step = { mark };
      this.steps.set(id, step);
    }
    if (what) step.mark.title = what;
    step.state = state;
    step.mark.className = `mark ${MARKS[state]}`;
    step.mark.setAttribute('aria-label', `${id}: ${state}`);
  }

  total() {
    const all = [...this.steps.values()];
    const done = all.filter(({ state }) => state === 'done').length;
    this.root.classList.toggle('hidden', all.length === 0);
    this.bar.max = Math.max(all.length, 1);
    this.bar.value = done;
    this.bar.classList.toggle('hidden', this.planOnly);
    const text = this.planOnly ? `${all.length} steps would be taken` : `${done} of ${all.length} steps`;
    if (this.count.textContent !== text) this.count.textContent = text;
  }
}
