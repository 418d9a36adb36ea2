// The testbed file of a deployment. What is typed and not saved outlives a reload, in this tab.

import { call, deployment } from './api.js';
import { Editor } from './editor.js';
import { notice, refused } from './notice.js';

const form = document.getElementById('edit');
const { name } = form.dataset;
const key = `draft:${name}`;
const saved = document.getElementById('saved');
const discard = document.getElementById('discard');
const editor = new Editor(form.querySelector('[data-editor]'));
let kept = editor.text;

function note() {
  const changed = editor.text !== kept;
  discard.disabled = !changed;
  if (changed) {
    sessionStorage.setItem(key, editor.text);
    saved.textContent = 'not saved';
  } else {
    sessionStorage.removeItem(key);
    if (saved.textContent === 'not saved') saved.textContent = '';
  }
}

async function save() {
  const text = editor.text;
  await call('PUT', deployment(name, '/yaml?keep_composition'), text, 'application/yaml');
  kept = text;
  note();
  const found = await editor.check();
  saved.textContent = found && !found.valid ? 'saved, with faults' : 'saved';
  return found;
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  try {
    const found = await save();
    if (found && !found.valid) notice('half', 'Saved, but it cannot be brought up as it is.', found.message);
  } catch (error) {
    refused(error);
  }
});

document.getElementById('save-up').addEventListener('click', async () => {
  try {
    const found = await save();
    if (found && !found.valid) {
      notice('bad', 'Saved, but not brought up: the file has faults.', found.message);
      return;
    }
    await call('POST', deployment(name, '/action'), { command: 'up' });
    location.href = `/gui/deployments/${encodeURIComponent(name)}`;
  } catch (error) {
    refused(error);
  }
});

discard.addEventListener('click', () => {
  editor.text = kept;
  note();
});

editor.area.addEventListener('input', note);
editor.area.addEventListener('keydown', (event) => {
  if (event.key === 's' && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  }
});

const draft = sessionStorage.getItem(key);
if (draft !== null && draft !== kept) {
  editor.text = draft;
  note();
}
