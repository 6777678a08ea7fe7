// A place on the page that says what cannot be shown, why, and offers to try again.
import { put } from "./format.js";

export class Notice {
  constructor(element) {
    this.element = element;
    this.title = element.querySelector("h2");
    this.text = element.querySelector("p, .words");
    this.button = element.querySelector("button");
    this.button.addEventListener("click", () => {
      this.hide();
      this.retry?.();
    });
  }

  show({ title = "", text, retry = null }) {
    if (this.title) put(this.title, title);
    put(this.text, text);
    this.retry = retry;
    this.button.hidden = retry === null;
    this.element.hidden = false;
  }

  hide() {
    this.element.hidden = true;
  }
}

/** A few words on what the user just did; they go by themselves. */
export class Toast {
  #timer = 0;

  constructor(element) {
    this.element = element;
  }

  show(text) {
    this.element.textContent = text;
    this.element.hidden = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => (this.element.hidden = true), 4000);
  }
}

/** Closes a dialog by its button and by a click beside it; Esc does so by itself. */
export function closable(dialog) {
  dialog.querySelector("header button").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", ({ target }) => {
    if (target === dialog) dialog.close();
  });
}
