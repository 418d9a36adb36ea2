// One guest: its buttons, and its state as it changes.

import { call, deployment } from './api.js';
import { refresh, watch } from './live.js';
import { ask, refused } from './notice.js';

const status = () => document.getElementById('status').dataset;
const { deployment: name, guest } = status();

const act = (command) => call('POST', deployment(name, '/action'), { command, guests: [guest] });

const actions = {
  start: () => act('start'),
  pause: () => act('pause'),
  resume: () => act('resume'),
  stop: async () => {
    const sure = await ask(`Stop ${guest}?`, 'It is asked to shut down, and forced after a minute. Its disks, addresses and links stay.', 'Stop');
    return sure ? act('stop') : null;
  },
  restart: async () => {
    const sure = await ask(`Restart ${guest}?`, 'It is asked to shut down, then started again. Its disks, addresses and links stay.', 'Restart');
    return sure ? act('restart') : null;
  },
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

watch(name);
