// A guest's serial console in a terminal.

// The terminal makes style elements of its own; the page's policy takes those that carry its nonce. Before anything else.
const { nonce } = document.getElementById('style');
const make = document.createElement.bind(document);
document.createElement = (name, options) => {
  const made = make(name, options);
  if (String(name).toLowerCase() === 'style') made.nonce = nonce;
  return made;
};

const { Terminal } = await import('/assets/vendor/xterm.mjs');
const { FitAddon } = await import('/assets/vendor/addon-fit.mjs');
const { deployment, socket } = await import('/assets/api.js');

const status = () => document.getElementById('status').dataset;
const { deployment: name, guest } = status();
const place = document.getElementById('terminal');
const link = document.getElementById('link');
const terminal = new Terminal({
  fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace',
  fontSize: 13,
  scrollback: 5000,
  cursorBlink: true,
  screenReaderMode: true,
  theme: { background: '#14171c', foreground: '#e6e9ee', cursor: '#8ab2f7' },
});
const fit = new FitAddon();
terminal.loadAddon(fit);
terminal.open(place);
new ResizeObserver(() => fit.fit()).observe(place);
fit.fit();
terminal.textarea?.setAttribute('aria-label', `Serial console of ${guest}`);

const encoder = new TextEncoder();
let line = null; // the websocket, while the console is open
let deaf = false; // while the past is shown, the terminal's answers to the questions in it go nowhere
let wait = 1000;

function say(text, open) {
  link.textContent = text;
  place.classList.toggle('closed', !open);
}

function connect() {
  const opened = socket(deployment(name, `/guests/${encodeURIComponent(guest)}/console`));
  opened.binaryType = 'arraybuffer';
  let first = true;
  opened.addEventListener('open', () => {
    line = opened;
    wait = 1000;
    say('connected', true);
  });
  opened.addEventListener('message', ({ data }) => {
    if (!first) {
      terminal.write(new Uint8Array(data));
      return;
    }
    first = false;
    deaf = true;
    terminal.reset();
    terminal.write(new Uint8Array(data), () => {
      deaf = false;
    });
  });
  opened.addEventListener('close', ({ code }) => {
    line = null;
    say(code === 1000 ? 'closed by the guest; trying again' : 'not connected: is the guest running? trying again', false);
    setTimeout(connect, wait);
    wait = Math.min(wait * 2, 8000);
  });
}

terminal.onData((text) => {
  if (line && !deaf) line.send(encoder.encode(text));
});
terminal.onBinary((text) => {
  if (line && !deaf) line.send(Uint8Array.from(text, (c) => c.charCodeAt(0)));
});
terminal.attachCustomKeyEventHandler((event) => {
  if (event.type === 'keydown' && event.ctrlKey && event.shiftKey && event.code === 'KeyC') {
    navigator.clipboard?.writeText(terminal.getSelection());
    event.preventDefault();
    return false;
  }
  return true;
});

say('connecting', false);
connect();
export {};
