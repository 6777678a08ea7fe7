// One instrument of the overview: its cells, and how a tick changes them.
import { chartPage } from "./api.js";
import * as format from "./format.js";
import { delayWords, feedWords, inTrouble, marketWords } from "./hours.js";
import { bookWords } from "./market-line.js";
import { Sparkline } from "./sparkline.js";

function cell(className) {
  const element = document.createElement("td");
  element.className = className;
  return element;
}

export class OverviewRow {
  #flash = null;
  #spark = new Sparkline();

  constructor(instrument) {
    this.element = document.createElement("tr");
    this.element.className = "instrument";
    this.element.dataset.key = `${instrument.exchange}:${instrument.symbol}`;
    this.cells = Object.fromEntries(["symbol", "last", "change", "volume", "spark", "updated", "feed"].map((name) => [name, cell(name)]));
    this.element.append(...Object.values(this.cells));
    this.link = document.createElement("a");
    this.link.href = chartPage(instrument.exchange, instrument.symbol);
    this.link.tabIndex = -1;
    this.cells.symbol.append(this.link);
    this.cells.spark.append(this.#spark.element);
    this.state = document.createElement("span");
    this.state.className = "state";
    this.cells.feed.append(this.state);
    this.element.addEventListener("click", (event) => {
      if (!event.target.closest("a") && !getSelection().toString()) this.link.click();
    });
    this.set(instrument);
  }

  /** Everything anew, as /api/overview gives it. */
  set(instrument) {
    this.data = { ...instrument };
    const { change_24h: change, price } = instrument;
    this.reference = Number.isFinite(change) && Number.isFinite(price) ? price / (1 + change / 100) : null;
    const [base, quote] = instrument.symbol.split("/");
    const name = document.createElement("b");
    name.textContent = base;
    const unit = document.createElement("i");
    unit.textContent = quote ?? instrument.currency ?? "";
    this.link.replaceChildren(name, unit);
    this.#spark.set(instrument.sparkline ?? []);
    this.element.dataset.empty = String(!Number.isFinite(price));
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
    this.data.price = price;
    this.data.time = time;
    if (this.reference !== null) this.data.change_24h = (price / this.reference - 1) * 100;
    this.element.dataset.empty = "false";
    this.#show();
    this.#spark.move(price);
    if (Number.isFinite(before) && before !== price) this.#blink(price > before ? "up" : "down");
  }

  #show() {
    const { price, change_24h: change, volume_24h: traded, time, price_decimals: decimals } = this.data;
    const known = Number.isFinite(price);
    this.cells.last.textContent = format.price(price, decimals);
    this.cells.change.textContent = format.percent(change);
    this.cells.change.className = `change ${known ? format.direction(change) : ""}`;
    this.cells.volume.textContent = format.volume(traded);
    this.cells.updated.textContent = format.recent(time, OverviewRow.newest);
    this.cells.updated.title = Number.isFinite(time) ? format.moment(time) : "";
    this.cells.last.title = bookWords(this.data.book, decimals);
    const [dot, words] = this.#reading(known);
    this.state.dataset.state = dot;
    this.state.textContent = words;
    this.state.title = this.data.halt ? `${words}: ${this.data.halt.reason ?? ""} ${this.data.halt.code ?? ""}`.trim() : marketWords(this.data.market);
  }

  /** What matters most of feed and market, shortly; the head of the group says it at length. */
  #reading(known) {
    const { active, feed, halt, market, delay_s: delay } = this.data;
    if (active === false) return ["none", "not collected"];
    if (!known && (feed === "none" || feed === "down")) return ["none", "no data yet"];
    if (inTrouble(feed) || feed === "no_key") return feedWords({ feed, since: 1 }, { short: true });
    if (halt) return ["halted", "halted"];
    if (market?.state === "closed") return ["closed", "market closed"];
    if (feed === "connected") return ["connected", delayWords(delay) || "connected"];
    return known ? feedWords({ feed }) : ["none", "no data yet"];
  }

  #blink(tone) {
    const color = getComputedStyle(document.documentElement).getPropertyValue(`--${tone}-soft`);
    this.#flash?.cancel();
    this.#flash = this.cells.last.animate([{ backgroundColor: color }, { backgroundColor: "transparent" }], { duration: 280 });
  }
}

OverviewRow.newest = 0; // the newest exchange time seen: what "today" means on this page
