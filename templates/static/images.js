// Base images: their list, and the making of one.

import { call } from './api.js';
import { refresh, watch } from './live.js';
import { Log } from './log.js';
import { refused } from './notice.js';

const log = new Log(document.getElementById('log'));
let followed = '';

function follow() {
  const { uuid, from } = document.getElementById('action-head').dataset;
  document.getElementById('action').classList.toggle('hidden', !uuid);
  if (!uuid || uuid === followed) return;
  followed = uuid;
  log.follow(`/api/images/logs/${uuid}/stream`, Number(from), refresh);
}

const actions = {
  build: () => call('POST', '/api/images', { build: 'micro' }),
  cancel: () => call('DELETE', `/api/images/action/${document.getElementById('status').dataset.running}`),
};

document.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-do]');
  if (!button) return;
  button.disabled = true;
  try {
    await actions[button.dataset.do]();
    await refresh();
  } catch (error) {
    refused(error);
  } finally {
    button.disabled = false;
  }
});

document.addEventListener('refreshed', follow);
watch();
follow();
