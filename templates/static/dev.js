// Debug builds only: reloads the page when a template, a style sheet, a script or the server is another one.
const shown = document.querySelector('meta[name="stamp"]').content;

async function look() {
  try {
    const answer = await fetch('/gui/stamp', { cache: 'no-store' });
    if (answer.ok && (await answer.text()) !== shown) {
      location.reload();
      return;
    }
  } catch {
    // The server is being restarted: it will be asked again.
  }
  setTimeout(look, 1000);
}

setTimeout(look, 1000);
