// The testbed file's editor: line numbers, and the server's own diagnostics at their lines. Text only, never markup.

import { call } from './api.js';

const PAUSE = 350;

export class Editor {
  constructor(root) {
    this.area = root.querySelector('textarea');
    this.gutter = root.querySelector('.gutter');
    this.list = root.querySelector('.faults');
    this.summary = root.querySelector('[role="status"]');
    this.faults = [];
    this.file = null;
    // A deployment's file is read with what is kept beside it.
    const { name } = this.area.form?.dataset ?? {};
    this.path = name ? `/api/validate?deployment=${encodeURIComponent(name)}` : '/api/validate';
    this.asked = 0;
    this.timer = null;
    this.area.addEventListener('input', () => this.changed());
    this.area.addEventListener('scroll', () => this.follow());
    this.area.addEventListener('keydown', (event) => this.key(event));
    this.number();
    this.check();
  }

  get text() {
    return this.area.value;
  }

  set text(text) {
    this.area.value = text;
    this.changed();
  }

  changed() {
    this.number();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(), PAUSE);
  }

  // Tab indents by two spaces; Escape first lets the key move the focus on, for whoever has no mouse.
  key(event) {
    if (event.key === 'Escape') this.leaving = true;
    else if (event.key === 'Tab' && !event.shiftKey && !this.leaving && !event.ctrlKey && !event.altKey) {
      event.preventDefault();
      this.area.setRangeText('  ', this.area.selectionStart, this.area.selectionEnd, 'end');
      this.changed();
    } else this.leaving = false;
  }

  follow() {
    this.gutter.scrollTop = this.area.scrollTop;
  }

  number() {
    const worst = new Map();
    for (const fault of this.faults.filter((each) => this.here(each))) {
      if (worst.get(fault.at.line) !== 'error') worst.set(fault.at.line, fault.severity);
    }
    const count = this.area.value.split('\n').length;
    const spans = [];
    for (let line = 1; line <= count; line += 1) {
      const span = document.createElement('span');
      span.textContent = line;
      if (worst.has(line)) span.className = worst.get(line);
      spans.push(span);
    }
    this.gutter.replaceChildren(...spans);
    this.follow();
  }

  // Asks the server what it thinks of the text; an answer to an older text is dropped.
  async check() {
    clearTimeout(this.timer);
    this.asked += 1;
    const mine = this.asked;
    let answer;
    try {
      answer = await call('POST', this.path, this.text, 'application/yaml');
    } catch (error) {
      if (mine === this.asked) this.say(`not checked: ${error.message}`, 'bad');
      return null;
    }
    if (mine !== this.asked) return null;
    this.faults = answer.diagnostics;
    this.file = answer.file;
    this.show(answer);
    return answer;
  }

  show(answer) {
    const errors = this.faults.filter((fault) => fault.severity === 'error').length;
    const warnings = this.faults.length - errors;
    const count = (number, word) => `${number} ${word}${number === 1 ? '' : 's'}`;
    if (errors > 0) this.say([count(errors, 'fault'), warnings && count(warnings, 'warning')].filter(Boolean).join(', '), 'bad');
    else if (!answer.valid) this.say(answer.message, 'bad');
    else this.say(warnings ? `can be used, with ${count(warnings, 'warning')}` : 'no faults', warnings ? 'half' : 'good');
    this.list.replaceChildren(...this.faults.map((fault) => this.entry(fault)));
    this.number();
  }

  say(text, kind) {
    const mark = document.createElement('span');
    mark.className = `mark ${kind}`;
    mark.textContent = text;
    this.summary.replaceChildren(mark);
  }

  entry(fault) {
    const item = document.createElement('li');
    item.className = fault.severity;
    item.dataset.line = fault.at.line;
    const button = document.createElement('button');
    button.type = 'button';
    const where = document.createElement('span');
    where.className = 'where';
    where.textContent = `${this.here(fault) ? '' : `${fault.at.file}:`}${fault.at.line}:${fault.at.column}`;
    button.append(where, `${fault.message} (${fault.code})`);
    if (fault.hint) {
      const hint = document.createElement('span');
      hint.className = 'hint';
      hint.textContent = fault.hint;
      button.append(hint);
    }
    if (this.here(fault)) button.addEventListener('click', () => this.go(fault.at));
    item.append(button);
    return item;
  }

  // A fault may stand in a file that this one includes, or in a `--set`.
  here(fault) {
    return fault.at.file === this.file;
  }

  // Puts the cursor where the fault is.
  go({ line, column }) {
    const lines = this.area.value.split('\n');
    const before = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
    const offset = [...(lines[line - 1] ?? '')].slice(0, column - 1).join('').length; // columns count characters
    this.area.focus();
    this.area.setSelectionRange(before + offset, before + offset);
    this.area.scrollTop = Math.max(0, (line - 5) * 20);
  }
}
