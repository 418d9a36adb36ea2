// The list of testbeds and the form that makes one.

import { call, deployment } from './api.js';
import { Editor } from './editor.js';
import { watch } from './live.js';
import { refused } from './notice.js';

const form = document.getElementById('create');
const editor = new Editor(form.querySelector('[data-editor]'));
document.getElementById('new').addEventListener('toggle', () => editor.number());

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const button = form.querySelector('button.primary');
  button.disabled = true;
  const name = form.elements.name.value.trim();
  try {
    await call('POST', '/api/deployments', { name });
    await call('PUT', deployment(name, '/yaml'), editor.text, 'application/yaml');
    location.href = `/gui/deployments/${encodeURIComponent(name)}`;
  } catch (error) {
    refused(error);
  } finally {
    button.disabled = false;
  }
});

watch();
