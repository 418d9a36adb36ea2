// One testbed: its buttons, and the log of the action that runs or is looked at.

import { call, deployment } from './api.js';
import { hold, refresh, watch } from './live.js';
import { Log, Steps } from './log.js';
import { ask, refused } from './notice.js';

const status = () => document.getElementById('status').dataset;
const { name } = status();
const log = new Log(document.getElementById('log'));
const steps = new Steps(document.getElementById('progress'));
let followed = '';

// Follows the action that the page shows, when it is another one than before.
function follow() {
  const { uuid, from, command } = document.getElementById('action-head').dataset;
  document.getElementById('action').classList.toggle('hidden', !uuid);
  if (!uuid || uuid === followed) return;
  followed = uuid;
  const path = deployment(name, `/logs/${uuid}/stream`);
  log.follow(path, Number(from), refresh);
  steps.follow(`${path}?format=events`, command);
}

const act = (body) => call('POST', deployment(name, '/action'), body);

async function remove() {
  if (!(await ask(`Delete ${name}?`, 'Its record, its testbed file on the server and its logs are removed.', 'Delete'))) return;
  hold(true);
  try {
    await call('DELETE', deployment(name));
  } catch (error) {
    hold(false);
    if (error.status !== 409 || error.problem.code !== 'conflict') throw error;
    if (!(await ask('Something of it is still there', 'Its guests and networks are removed first, and its snapshots with them. What the guests hold is lost.', 'Bring down and delete'))) return;
    await call('DELETE', deployment(name, '?force=true'));
  }
  location.href = '/gui';
}

const snapshot = (operation, of) => act({ command: 'snapshot', operation, name: of, memory: operation === 'create' });

async function keep() {
  const field = document.getElementById('snapshot-name');
  const answer = await snapshot('create', field.value.trim());
  field.value = '';
  return answer;
}

async function restore({ snapshot: of }) {
  const sure = await ask(`Restore ${of}?`, 'What guests hold now is given up, and the testbed file on the server becomes the one of the snapshot.', 'Restore');
  return sure ? snapshot('restore', of) : null;
}

async function forget({ snapshot: of }) {
  const sure = await ask(`Delete the snapshot ${of}?`, 'It cannot be restored any more.', 'Delete');
  return sure ? snapshot('delete', of) : null;
}

const actions = {
  up: () => act({ command: 'up' }),
  plan: () => act({ command: 'plan' }),
  down: async () => {
    const sure = await ask(`Bring ${name} down?`, 'Its guests and networks are removed. What the guests hold is lost; the testbed file and the logs stay.', 'Bring down');
    return sure ? act({ command: 'down' }) : null;
  },
  cancel: () => call('DELETE', deployment(name, `/action/${status().running}`)),
  reset: () => call('POST', deployment(name, '/reset')),
  delete: remove,
  snapshot: keep,
  restore,
  forget,
};

document.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-do]');
  if (!button) return;
  button.disabled = true;
  try {
    const answer = await actions[button.dataset.do](button.dataset);
    // What was asked for is now what is looked at, not an older action.
    if (answer?.uuid && location.search) history.replaceState(null, '', location.pathname);
    await refresh();
  } catch (error) {
    refused(error);
  } finally {
    button.disabled = false;
  }
});

document.addEventListener('refreshed', follow);
watch(name);
follow();
