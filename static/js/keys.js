// Keys of a page: one table says what they do, listens for them, and is shown when one asks.
/** A field that was just hidden keeps the focus for a moment: nobody types there. */
const typing = (target) => target.closest?.("input, select, textarea, dialog[open]")?.checkVisibility() ?? false;

/** groups: [{title, rows: [{shown: ["←", "→"], words, does: {ArrowLeft: () => …}}]}]. */
export function bindKeys(groups) {
  const actions = new Map(groups.flatMap(({ rows }) => rows.flatMap(({ does }) => Object.entries(does))));
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    const action = actions.get(event.shiftKey && event.key.startsWith("Arrow") ? `Shift+${event.key}` : event.key);
    if (!action) return;
    action();
    event.preventDefault();
  });
}

/** Writes the table into an element, as lists of keys and what they do. */
export function writeKeys(element, groups) {
  element.replaceChildren(...groups.flatMap(({ title, rows }) => {
    const head = document.createElement("h3");
    head.textContent = title;
    const list = document.createElement("dl");
    for (const { shown, words } of rows) {
      const [term, description] = [document.createElement("dt"), document.createElement("dd")];
      term.append(...shown.map((key) => Object.assign(document.createElement("kbd"), { textContent: key })));
      description.textContent = words;
      list.append(term, description);
    }
    return [head, list];
  }));
}
