// Tells the user something, or asks: text only, so nothing that the server passes on can become markup.

function element(name, text, className) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// Shows a message until it is dismissed; one that is good goes by itself.
export function notice(kind, message, hint) {
  const box = element('div', '', `callout ${kind}`);
  const text = element('div');
  text.append(element('strong', message));
  if (hint) text.append(element('p', hint, 'dim'));
  const dismiss = element('button', 'Dismiss', 'quiet');
  dismiss.type = 'button';
  dismiss.addEventListener('click', () => box.remove());
  box.append(text, dismiss);
  document.getElementById('notices').replaceChildren(box);
  if (kind === 'good') setTimeout(() => box.remove(), 6000);
  box.scrollIntoView({ block: 'nearest' });
}

// Shows why something was refused.
export function refused(error) {
  const problem = error.problem ?? {};
  const causes = (problem.causes ?? []).join('; ');
  notice('bad', problem.code ? `${error.message} (${problem.code})` : error.message, [causes, problem.hint].filter(Boolean).join(' · '));
}

// Asks before something that takes away; true when the user agrees.
export function ask(question, detail, agree) {
  const dialog = document.createElement('dialog');
  const form = element('form');
  form.method = 'dialog';
  const row = element('div', '', 'row');
  const no = element('button', 'Keep it');
  const yes = element('button', agree, 'danger');
  no.value = 'no';
  yes.value = 'yes';
  row.append(no, yes);
  const title = element('h2', question);
  title.id = 'question';
  dialog.setAttribute('aria-labelledby', 'question');
  form.append(title, element('p', detail), row);
  dialog.append(form);
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes');
    });
    dialog.showModal();
  });
}
