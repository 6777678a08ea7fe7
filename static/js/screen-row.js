// One instrument of a screen: its cells, and whether it has just come or no longer fits.
import { chartPage } from "./api.js";
import * as format from "./format.js";
import { marketWords, stateWords } from "./hours.js";

const still = matchMedia("(prefers-reduced-motion: reduce)");

export class ScreenRow {
  #flash = null;
  element = null;
  mark = ""; // "new" or "gone", for a while

  constructor(data) {
    this.data = data;
  }

  /** Its element, made anew whenever it comes into sight. */
  mount() {
    if (this.element) return this.element;
    const { exchange, symbol, currency } = this.data;
    this.element = document.createElement("tr");
    this.element.className = "instrument";
    this.element.dataset.key = `${exchange}:${symbol}`;
    this.link = document.createElement("a");
    this.link.href = `${chartPage(exchange, symbol)}?timeframe=${ScreenRow.timeframe}`;
    this.link.tabIndex = -1;
    const [base, quote] = symbol.split("/");
    const name = document.createElement("b");
    name.textContent = base;
    const unit = document.createElement("i");
    unit.textContent = quote ?? currency ?? "";
    this.link.append(name, unit);
    this.said = document.createElement("span");
    this.said.className = "mark";
    this.cells = ScreenRow.columns.map(({ key, kind }) => {
      const cell = document.createElement("td");
      cell.className = kind;
      if (key === "symbol") cell.append(this.link, this.said);
      return cell;
    });
    this.state = document.createElement("span");
    this.state.className = "state";
    this.cells.at(-1).append(this.state);
    this.element.append(...this.cells);
    this.element.addEventListener("click", (event) => {
      if (!event.target.closest("a") && !getSelection().toString()) this.link.click();
    });
    this.#show();
    return this.element;
  }

  unmount() {
    this.#flash?.cancel();
    this.element?.remove();
    this.element = this.#flash = null;
  }

  /** The row as the last answer has it. */
  set(data) {
    const before = this.data.values.price;
    this.data = data;
    this.#show();
    const { price } = data.values;
    if (this.element && Number.isFinite(before) && Number.isFinite(price) && before !== price) this.#blink(price > before ? "up" : "down");
  }

  marked(mark) {
    this.mark = mark;
    this.#show();
  }

  #show() {
    if (this.element === null) return;
    const { market, time } = this.data;
    this.element.dataset.mark = this.mark;
    this.element.dataset.empty = String(!Number.isFinite(this.data.values.price));
    format.put(this.said, this.mark === "gone" ? "no longer fits" : this.mark === "new" ? "new" : "");
    ScreenRow.columns.forEach((column, index) => {
      if (column.key === "symbol" || column.key === "state") return;
      const cell = this.cells[index];
      const value = column.key === "time" ? time : this.data.values[column.key];
      format.put(cell, column.text(value, this.data));
      if (column.unit === "percent") cell.className = `${column.kind} ${format.direction(value)}`;
    });
    const [dot, words] = stateWords(this.data, Number.isFinite(this.data.values.price));
    this.state.dataset.state = dot;
    format.put(this.state, words);
    this.state.title = marketWords(market);
  }

  #blink(tone) {
    this.#flash?.cancel();
    const cell = this.cells[ScreenRow.columns.findIndex(({ key }) => key === "price")];
    if (still.matches || !cell) return;
    this.#flash = cell.animate([{ backgroundColor: `var(--${tone}-soft)` }, { backgroundColor: "transparent" }], { duration: 280 });
  }
}

ScreenRow.columns = []; // [{key, label, kind, unit, text}] of the table, the symbol first, the market's state last
ScreenRow.timeframe = "1h";

const TEXTS = {
  price: (value, { price_decimals: decimals }) => format.price(value, decimals),
  percent: (value) => format.percent(value),
  amount: (value) => format.volume(value),
  number: (value) => format.price(value, Number.isInteger(value) ? 0 : 2),
  ratio: (value) => format.price(value, 4),
};

const HEADS = { price: "Last", change_24h: "24 h", change_1: "Bar", volume_sma: "Vol. avg 20", quote_volume_24h: "Turnover" }; // shorter than in a list of fields

function barTime(value) {
  if (!Number.isFinite(value)) return format.NOTHING;
  const day = format.shortDay(value);
  if (ScreenRow.timeframe === "1d") return day;
  return format.date(value) === format.date(ScreenRow.newest) ? format.clock(value, false) : `${day} ${format.clock(value, false)}`;
}

/** The columns of an answer: symbol, price and change first, the day's volume, the bar's time and the market last. */
export function columnsOf(fields, known) {
  const last = ["volume_24h"];
  const first = ["price", "change_24h"];
  const middle = fields.filter((name) => !first.includes(name) && !last.includes(name));
  const column = (key) => {
    const unit = known.get(key)?.unit ?? "ratio";
    return { key, label: HEADS[key] ?? known.get(key)?.label ?? key.replace("/", " / "), unit, kind: `value ${key === "price" ? "last" : ""}`.trim(), text: TEXTS[unit] };
  };
  return [
    { key: "symbol", label: "Symbol", kind: "symbol" },
    ...[...first, ...middle, ...last].map(column),
    { key: "time", label: "Bar at", kind: "time", text: barTime },
    { key: "state", label: "Market", kind: "feed" },
  ];
}

ScreenRow.newest = 0;
