// One instrument of the overview: its cells, and how a tick changes them.
import { chartPage } from "./api.js";
import * as format from "./format.js";
import { marketWords, stateWords } from "./hours.js";
import { bookWords } from "./market-line.js";
import { Sparkline } from "./sparkline.js";

function cell(className) {
  const element = document.createElement("td");
  element.className = className;
  return element;
}

const still = matchMedia("(prefers-reduced-motion: reduce)");

export class OverviewRow {
  #flash = null;
  #spark = null;
  element = null; // while the row is in the document

  constructor(instrument) {
    this.set(instrument);
  }

  /** Its element, made anew whenever it comes into sight. */
  mount() {
    if (this.element) return this.element;
    const { exchange, symbol, currency } = this.data;
    this.element = document.createElement("tr");
    this.element.className = "instrument";
    this.element.dataset.key = `${exchange}:${symbol}`;
    this.cells = Object.fromEntries(["symbol", "last", "change", "volume", "spark", "updated", "feed"].map((name) => [name, cell(name)]));
    this.element.append(...Object.values(this.cells));
    this.link = document.createElement("a");
    this.link.href = chartPage(exchange, symbol);
    this.link.tabIndex = -1;
    const [base, quote] = symbol.split("/");
    const name = document.createElement("b");
    name.textContent = base;
    const unit = document.createElement("i");
    unit.textContent = quote ?? currency ?? "";
    this.link.append(name, unit);
    this.cells.symbol.append(this.link);
    this.#spark = new Sparkline();
    this.cells.spark.append(this.#spark.element);
    this.state = document.createElement("span");
    this.state.className = "state";
    this.cells.feed.append(this.state);
    this.element.addEventListener("click", (event) => {
      if (!event.target.closest("a") && !getSelection().toString()) this.link.click();
    });
    this.#spark.set(this.data.sparkline ?? []);
    this.#show();
    return this.element;
  }

  /** Out of sight: only its data stays, and ticks cost no more than keeping them. */
  unmount() {
    this.#flash?.cancel();
    this.element?.remove();
    this.element = this.#flash = this.#spark = null;
  }

  /** Everything anew, as /api/overview gives it; a tick that came while it was on its way is newer. */
  set(instrument) {
    const { price, time } = this.data ?? {};
    const newer = Number.isFinite(time) && Number.isFinite(instrument.time) && time > instrument.time;
    this.data = { ...instrument, sparkline: [...(instrument.sparkline ?? [])] };
    const { change_24h: change, price: last } = instrument;
    this.reference = Number.isFinite(change) && Number.isFinite(last) ? last / (1 + change / 100) : null;
    if (newer) this.#take(price, time);
    this.#spark?.set(this.data.sparkline);
    this.#show();
  }

  /** The state of its exchange's feed, with the hours of its markets. */
  feed({ feed, markets }) {
    this.data.feed = feed;
    this.data.market = markets?.[this.data.calendar] ?? this.data.market;
    this.#show();
  }

  /** Best bid and ask, and a halt. */
  quote({ book, halt }) {
    this.data.book = book;
    this.data.halt = halt;
    this.#show();
  }

  tick({ price, time }) {
    const before = this.data.price;
    if (Number.isFinite(this.data.time) && time < this.data.time) return;
    this.#take(price, time);
    if (this.element === null) return;
    this.#show();
    this.#spark.move(price);
    if (Number.isFinite(before) && before !== price) this.#blink(price > before ? "up" : "down");
  }

  #take(price, time) {
    this.data.price = price;
    this.data.time = time;
    if (this.reference !== null) this.data.change_24h = (price / this.reference - 1) * 100;
    if (this.data.sparkline.length > 1) this.data.sparkline[this.data.sparkline.length - 1] = price;
  }

  #show() {
    if (this.element === null) return;
    const { price, change_24h: change, volume_24h: traded, time, price_decimals: decimals } = this.data;
    const known = Number.isFinite(price);
    this.element.dataset.empty = String(!known);
    format.put(this.cells.last, format.price(price, decimals));
    format.put(this.cells.change, format.percent(change));
    this.cells.change.className = `change ${known ? format.direction(change) : ""}`;
    format.put(this.cells.volume, format.volume(traded));
    format.put(this.cells.updated, format.recent(time, OverviewRow.newest));
    this.cells.updated.title = Number.isFinite(time) ? format.moment(time) : "";
    this.cells.last.title = bookWords(this.data.book, decimals);
    const [dot, words] = stateWords(this.data, known);
    this.state.dataset.state = dot;
    format.put(this.state, words);
    this.state.title = this.data.halt ? `${words}: ${this.data.halt.reason ?? ""} ${this.data.halt.code ?? ""}`.trim() : marketWords(this.data.market);
  }

  #blink(tone) {
    this.#flash?.cancel();
    if (still.matches) return;
    this.#flash = this.cells.last.animate([{ backgroundColor: `var(--${tone}-soft)` }, { backgroundColor: "transparent" }], { duration: 280 });
  }
}

OverviewRow.newest = 0; // the newest exchange time seen: what "today" means on this page
