// One cell of the page of several charts: its header, and what it says when there is nothing to draw.
import { chartPage } from "./api.js";
import { Notice } from "./notice.js";

const template = document.getElementById("cell");

export class Cell {
  instrument = null;
  chart = null;

  /** hooks: onTimeframe(cell, value), onFocus(cell). */
  constructor({ name, timeframe, note = null, hooks }) {
    this.name = name;
    this.note = note; // what the address said of it that cannot be
    this.timeframe = timeframe;
    this.hooks = hooks;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.notice = new Notice(this.part(".cell-stage > .notice"));
    this.symbolButton = this.part(".symbol-button");
    this.select = this.part(".timeframe-select");
    this.select.addEventListener("change", () => hooks.onTimeframe(this, this.select.value));
    for (const button of this.#buttons()) button.addEventListener("click", () => hooks.onTimeframe(this, button.dataset.timeframe));
    for (const event of ["pointerdown", "focusin"]) this.element.addEventListener(event, () => hooks.onFocus(this), true);
    this.showTimeframe(timeframe);
  }

  part(selector) {
    return this.element.querySelector(selector);
  }

  get searchButton() {
    return this.symbolButton;
  }

  state(value) {
    this.element.dataset.state = value;
  }

  showTimeframe(value) {
    this.timeframe = value;
    this.select.value = value;
    this.element.dataset.timeframe = value;
    for (const button of this.#buttons()) button.setAttribute("aria-pressed", String(button.dataset.timeframe === value));
    if (this.instrument === null) return;
    const link = this.part(".open-chart");
    link.href = `${chartPage(this.instrument.exchange, this.instrument.symbol)}?timeframe=${value}`;
    link.setAttribute("aria-label", `Open the chart page of ${this.instrument.symbol}`);
  }

  /** The ring, for the cell that the keyboard acts on. */
  focused(on) {
    this.element.dataset.focused = String(on);
  }

  open() {
    if (this.instrument !== null) location.assign(this.part(".open-chart").href);
  }

  // What a cell with a chart does more.
  start() {}
  close() {}
  switchTimeframe(value) {
    this.showTimeframe(value);
  }
  setStudies() {}
  mark() {}
  restyle() {}
  repaints() {}
  seen() {}

  #buttons() {
    return this.element.querySelectorAll("[data-timeframe].button");
  }
}

/** A cell whose instrument nobody knows: it says so and offers the search. */
export class UnknownCell extends Cell {
  constructor(options) {
    super(options);
    this.state("unknown");
    this.part(".plot").hidden = true;
    this.part(".open-chart").hidden = true;
    this.part(".symbol").textContent = this.name;
    this.element.setAttribute("aria-label", `No such instrument: ${this.name}`);
    this.notice.show({ title: "No such instrument", text: `“${this.name}” is not on the watchlist. Choose another one for this place.` });
    this.searchButton.hidden = false;
  }

  get searchButton() {
    return this.part(".search-field");
  }
}
