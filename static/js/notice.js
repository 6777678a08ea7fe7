// A place on the page that says what cannot be shown, why, and offers to try again.
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
    if (this.title) this.title.textContent = title;
    this.text.textContent = text;
    this.retry = retry;
    this.button.hidden = retry === null;
    this.element.hidden = false;
  }

  hide() {
    this.element.hidden = true;
  }
}
