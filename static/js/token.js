// The API's token: typed once into a dialog, kept for this tab only, sent with every request.
const KEY = "api-token";
let asking = null;
let declined = false;

/** The token typed in this tab, or null. */
export function token() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null; // storage is forbidden: the token is asked for again
  }
}

/** The header that carries it; none without one. */
export const authorization = () => (token() === null ? {} : { Authorization: `Bearer ${token()}` });

/** Whether reading takes one here, and so the sockets do. */
export const readsNeedToken = () => "readsNeedToken" in document.documentElement.dataset;

/** Asks the user for a token and says why; resolves to it, or to null where they decline. */
export function askToken(reason) {
  asking ??= dialog(reason).finally(() => {
    asking = null;
  });
  return asking;
}

/** The same for what no user asked for: who has declined once is left alone until the page is loaded anew. */
export async function askTokenOnce(reason) {
  if (declined) return null;
  const given = await askToken(reason);
  declined = given === null;
  return given;
}

function dialog(reason) {
  const box = document.createElement("dialog");
  box.className = "ask";
  box.setAttribute("aria-labelledby", "ask-title");
  const form = make("form", "");
  const title = make("h2", "A token is needed");
  title.id = "ask-title";
  const words = make("p", reason);
  const label = make("label", "Token");
  const input = make("input", "");
  Object.assign(input, { className: "field", type: "password", required: true, autocomplete: "off", spellcheck: false });
  label.append(input);
  const where = make("p", "The platform keeps one in its data directory, in the file api-token, unless API_TOKEN or JWT_SECRET is set. It stays in this tab.");
  where.className = "faint";
  const buttons = make("div", "");
  const cancel = Object.assign(make("button", "Cancel"), { type: "button", className: "button" });
  const send = Object.assign(make("button", "Continue"), { type: "submit", className: "button primary" });
  buttons.append(cancel, send);
  form.append(title, words, label, where, buttons);
  box.append(form);
  document.body.append(box);
  box.showModal();
  input.focus();
  return new Promise((resolve) => {
    let given = null;
    cancel.addEventListener("click", () => box.close());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      given = input.value.trim();
      if (given) box.close();
    });
    box.addEventListener("close", () => {
      box.remove();
      if (given) keep(given);
      resolve(given);
    });
  });
}

function keep(given) {
  declined = false;
  try {
    sessionStorage.setItem(KEY, given);
  } catch {
    // Without storage it serves nobody: the next request asks again.
  }
}

function make(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}
