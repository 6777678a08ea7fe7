// The symbol search: instruments by symbol and exchange, the recent ones first, with hours and last price.
import { chartPage, getInstruments, getQuotes } from "./api.js";
import * as format from "./format.js";
import { delayWords } from "./hours.js";
import { remember, remembered } from "./store.js";

const ROW = 36; // px; as in chart.css
const SPARE = 4; // rows made beyond the edges of the list
const RECENT = 6;
const LAYOUT = ["timeframe", "indicators", "panes", "zoom"];
const AGAIN_MS = 5000; // prices older than this are asked for again when the search opens

export class Switcher {
  #all = []; // instruments: {exchange, symbol, title, …, key, text, plain}
  #items = []; // what is listed: {head} or {one}
  #at = -1;
  #prices = new Map();
  #asked = -Infinity;
  #made = new Map(); // index of an item → its element

  /** `instrument` is the one on the page; null where it is not known yet, then set it. */
  constructor(popover, instrument) {
    this.own = null;
    this.popover = popover;
    this.input = popover.querySelector("input");
    this.list = popover.querySelector(".options");
    this.sizer = document.createElement("div");
    this.sizer.className = "sizer";
    this.sizer.role = "presentation";
    this.input.addEventListener("input", () => this.#filter());
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.list.addEventListener("scroll", () => this.#draw(), { passive: true });
    this.instrument = instrument;
    popover.addEventListener("toggle", ({ newState }) => {
      if (newState === "open") this.#open();
      else this.input.value = ""; // not when it opens: who types fast has begun by then
    });
  }

  set instrument(instrument) {
    this.own = instrument === null || instrument === undefined ? null : `${instrument.exchange}:${instrument.symbol}`;
    if (this.own !== null) remember("recent", [this.own, ...this.#recent()].slice(0, RECENT));
  }

  /** Those looked at before, without the one on the page. */
  #recent() {
    const kept = remembered("recent", []);
    return Array.isArray(kept) ? kept.filter((key) => key !== this.own) : [];
  }

  async #open() {
    if (performance.now() - this.#asked < AGAIN_MS) return this.#filter();
    if (this.#all.length === 0) this.#say("Loading…");
    else this.#filter();
    try {
      const [{ instruments }, { quotes }] = await Promise.all([getInstruments(), getQuotes().catch(() => ({ quotes: [] }))]);
      this.#prices = new Map(quotes.map((quote) => [`${quote.exchange}:${quote.symbol}`, quote]));
      const first = this.#all.length === 0;
      this.#all = instruments.map(searchable);
      this.#asked = performance.now();
      if (first) this.#filter();
      else this.#redraw(); // the mark and the place in the list stay while one reads it
    } catch (error) {
      if (this.#all.length === 0) this.#say(`The list could not be loaded. ${error.message}`);
    }
    return undefined;
  }

  #say(text) {
    const line = document.createElement("div");
    line.className = "none";
    line.textContent = text;
    this.#items = [];
    this.#at = -1;
    this.list.replaceChildren(line);
    this.input.removeAttribute("aria-activedescendant");
  }

  #filter() {
    const words = this.input.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.#items = words.length === 0 ? this.#everything() : this.#found(words);
    if (this.#items.length === 0) return this.#say("No such instrument.");
    this.list.replaceChildren(this.sizer);
    this.#mark(0, 1);
    return undefined;
  }

  #everything() {
    const recent = this.#recent().map((key) => this.#all.find((one) => one.key === key)).filter(Boolean);
    const groups = Map.groupBy(this.#all, ({ title }) => title);
    if (recent.length > 0) return grouped([["Recent", recent], ...groups]);
    return grouped([...groups]);
  }

  /** Those whose symbol begins with what was typed come before those that contain it, the recent ones first in each. */
  #found(words) {
    const recent = this.#recent();
    const rank = ({ symbol, plain, key }) => {
      const begins = words.some((word) => symbol.toLowerCase().startsWith(word) || plain.startsWith(word));
      return (begins ? 0 : 2) + (recent.includes(key) ? 0 : 1);
    };
    const found = this.#all.filter(({ text, plain }) => words.every((word) => text.includes(word) || plain.includes(word.replace(/[/.-]/g, ""))));
    return found.map((one) => [rank(one), one]).sort(([a], [b]) => a - b).map(([, one]) => ({ one }));
  }

  /** Marks the first instrument from `index` on, in the direction of `step`. */
  #mark(index, step) {
    let at = index;
    while (this.#items[at]?.head) at += step;
    if (this.#items[at] === undefined) return;
    this.#at = at;
    const top = this.#items[at - 1]?.head ? at - 1 : at;
    if (top * ROW < this.list.scrollTop) this.list.scrollTop = top * ROW;
    const below = (at + 1) * ROW - this.list.clientHeight + 8;
    if (below > this.list.scrollTop) this.list.scrollTop = below;
    this.#redraw();
  }

  #redraw() {
    if (this.#items.length === 0) return;
    this.sizer.style.height = `${this.#items.length * ROW}px`;
    this.sizer.replaceChildren();
    this.#made.clear();
    this.#draw();
    if (this.#made.has(this.#at)) this.input.setAttribute("aria-activedescendant", this.#made.get(this.#at).id);
  }

  /** Only the rows in sight, and the marked one, have an element. */
  #draw() {
    if (this.#items.length === 0) return;
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW) - SPARE);
    const last = Math.min(this.#items.length - 1, Math.ceil((this.list.scrollTop + this.list.clientHeight) / ROW) + SPARE);
    for (const [index, element] of this.#made) {
      if ((index < first || index > last) && index !== this.#at) {
        element.remove();
        this.#made.delete(index);
      }
    }
    for (let index = first; index <= last; index += 1) if (!this.#made.has(index)) this.#add(index);
    if (!this.#made.has(this.#at)) this.#add(this.#at);
  }

  #add(index) {
    const { head, one } = this.#items[index];
    const element = one ? this.#row(one, index) : caption(head);
    element.style.top = `${index * ROW}px`;
    this.#made.set(index, element);
    this.sizer.append(element);
  }

  #row(one, index) {
    const element = document.createElement("a");
    element.className = "menu-row";
    element.role = "option";
    element.tabIndex = -1;
    element.id = `option-${index}`;
    element.href = chartPage(one.exchange, one.symbol) + withoutPlace();
    element.ariaSelected = String(index === this.#at);
    if (one.key === this.own) element.ariaCurrent = "page";
    const [state, words] = hours(one);
    const quote = this.#prices.get(one.key);
    element.append(
      text("name", one.symbol),
      text("exchange", one.title),
      text("price", Number.isFinite(quote?.price) ? format.price(quote.price, one.price_decimals) : format.NOTHING),
      Object.assign(text("state", words), { title: words }),
    );
    element.lastChild.dataset.state = state;
    return element;
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.list.clientHeight / ROW) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page }[event.key];
    if (step) this.#mark(Math.max(0, Math.min(this.#items.length - 1, this.#at + step)), Math.sign(step));
    else if (event.key === "Escape") this.popover.hidePopover(); // a search field would only be emptied by it
    else if (event.key === "Enter") this.#made.get(this.#at)?.click();
    else return;
    event.preventDefault();
  }
}

function searchable(one) {
  const words = `${one.symbol} ${one.title} ${one.exchange}`.toLowerCase();
  return { ...one, key: `${one.exchange}:${one.symbol}`, text: words, plain: one.symbol.toLowerCase().replace(/[/.-]/g, "") };
}

function grouped(groups) {
  return groups.flatMap(([head, found]) => [{ head }, ...found.map((one) => ({ one }))]);
}

function text(className, words) {
  return Object.assign(document.createElement("span"), { className, textContent: words });
}

function caption(words) {
  return Object.assign(text("menu-title", words), { role: "presentation" });
}

/** [state of the dot, words] of the market's hours: a row has no room for more. */
function hours({ active, market, delay_s: delay }) {
  if (active === false) return ["none", "not collected"];
  if (market?.state === "closed") return ["closed", "closed"];
  if (market?.state !== "open") return ["none", ""];
  return ["connected", delayWords(delay) || "open"];
}

/** A chart page's layout goes along to the next instrument; the place in time, and what another page asks, do not. */
function withoutPlace() {
  const query = new URLSearchParams([...new URLSearchParams(location.search)].filter(([name]) => LAYOUT.includes(name)));
  return query.size === 0 ? "" : `?${query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":")}`;
}
