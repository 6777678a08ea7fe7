// The token that writes need: asked for in a dialog, resolved as text, or null where the user does not give one.

export function askToken(reason) {
  const dialog = document.createElement("dialog");
  dialog.className = "token-dialog";
  dialog.setAttribute("aria-labelledby", "token-title");
  const form = document.createElement("form");
  form.method = "dialog";
  const title = document.createElement("h2");
  title.id = "token-title";
  title.textContent = "API token";
  const words = document.createElement("p");
  words.textContent = reason;
  const input = document.createElement("input");
  input.className = "field";
  input.type = "password";
  input.name = "token";
  input.autocomplete = "off";
  input.required = true;
  input.setAttribute("aria-label", "API token");
  const go = document.createElement("button");
  go.className = "button primary";
  go.textContent = "Continue";
  const stop = document.createElement("button");
  stop.className = "button";
  stop.type = "button";
  stop.textContent = "Cancel";
  stop.addEventListener("click", () => dialog.close());
  form.append(title, words, input, go, stop);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close(input.value.trim());
  });
  dialog.append(form);
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue || null);
    });
  });
}
