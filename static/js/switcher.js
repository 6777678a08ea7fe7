// The symbol switcher: a list of all instruments, filtered while one types, walked with the arrow keys.
import { chartPage, getSymbols } from "./api.js";

export class Switcher {
  #rows = [];
  #at = 0;

  constructor(popover, instrument) {
    this.popover = popover;
    this.instrument = instrument;
    this.input = popover.querySelector("input");
    this.list = popover.querySelector(".options");
    this.input.addEventListener("input", () => this.#filter());
    this.input.addEventListener("keydown", (event) => this.#key(event));
    popover.addEventListener("toggle", ({ newState }) => {
      if (newState === "open") this.#open();
      else this.input.value = ""; // not when it opens: who types fast has begun by then
    });
  }

  async #open() {
    if (this.#rows.length === 0) {
      this.#say("Loading…");
      try {
        this.#fill(await getSymbols());
      } catch (error) {
        this.#say(`The list could not be loaded. ${error.message}`);
        return;
      }
    }
    this.#filter();
  }

  #say(text) {
    const line = document.createElement("div");
    line.className = "none";
    line.textContent = text;
    this.list.replaceChildren(line);
  }

  #fill({ exchanges }) {
    for (const { exchange, title, symbols } of exchanges) {
      for (const { symbol } of symbols) {
        const element = document.createElement("a");
        element.className = "menu-row";
        element.role = "option";
        element.tabIndex = -1;
        element.id = `option-${this.#rows.length}`;
        element.href = chartPage(exchange, symbol) + location.search;
        const name = document.createElement("span");
        name.className = "end";
        name.textContent = title;
        element.append(symbol, name);
        this.#rows.push({ element, text: `${symbol} ${title} ${exchange}`.toLowerCase(), own: () => exchange === this.instrument?.exchange && symbol === this.instrument.symbol });
      }
    }
  }

  #filter() {
    const words = this.input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = this.#rows.filter(({ text }) => words.every((word) => text.includes(word) || text.replace(/[/.-]/g, "").includes(word)));
    if (shown.length === 0) this.#say("No such instrument.");
    else this.list.replaceChildren(...shown.map(({ element }) => element));
    this.#mark(words.length === 0 ? Math.max(0, shown.findIndex(({ own }) => own())) : 0);
  }

  #mark(index) {
    const options = [...this.list.querySelectorAll("a")];
    this.#at = Math.max(0, Math.min(index, options.length - 1));
    options.forEach((option, place) => option.setAttribute("aria-selected", String(place === this.#at)));
    const chosen = options[this.#at];
    chosen?.scrollIntoView({ block: "nearest" });
    if (chosen) this.input.setAttribute("aria-activedescendant", chosen.id);
    else this.input.removeAttribute("aria-activedescendant");
  }

  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) this.#mark(this.#at + step);
    else if (event.key === "Enter") this.list.querySelectorAll("a")[this.#at]?.click();
    else return;
    event.preventDefault();
  }
}
