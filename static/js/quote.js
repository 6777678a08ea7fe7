// The header's price: at once with every tick; its change over 24 h, or of the bar where no day-old price is known.
import { getChart } from "./api.js";
import * as format from "./format.js";
import { palette } from "./theme.js";

const DAY = 86_400_000;
const QUARTER = 900_000;
const AGAIN_MS = 300_000;

export class Quote {
  #reference = null;
  #bar = null;
  #asked = -Infinity;
  #clock = null; // {at, read}: the exchange's time (ms) and when it was told
  #flash = null;

  /** `titled` puts the price into the title of the page too. */
  constructor(instrument, { element = document.getElementById("quote"), titled = true } = {}) {
    this.instrument = instrument;
    this.titled = titled;
    this.price = element.querySelector(".price");
    this.change = element.querySelector(".change");
    this.span = element.querySelector(".span");
  }

  /** What the feed's status says of the exchange's time; a bar of a long timeframe knows only when it began. */
  clock(at) {
    this.#clock = { at: at ?? this.#bar?.time ?? null, read: performance.now() };
    this.#refer();
  }

  tick(bar) {
    const before = this.#bar?.close;
    this.#bar = bar;
    this.#show();
    if (before !== undefined && before !== bar.close) this.#blink(bar.close > before ? "up" : "down");
    this.#refer();
  }

  #show() {
    const { close, open } = this.#bar;
    const { symbol, price_decimals: decimals } = this.instrument;
    const from = this.#reference ?? open;
    const share = (close / from - 1) * 100;
    this.price.textContent = format.price(close, decimals);
    this.change.querySelector(".amount").textContent = format.signed(close - from, decimals);
    this.change.querySelector(".share").textContent = format.percent(share);
    this.change.className = `change ${format.direction(share)}`;
    this.span.textContent = this.#reference === null ? "bar" : "24 h";
    if (this.titled) document.title = `${format.price(close, decimals)} ${symbol} · Market data`;
  }

  #blink(tone) {
    this.#flash?.cancel();
    const color = palette();
    this.#flash = this.price.animate([{ color: color(tone) }, { color: color("text") }], { duration: 280 });
  }

  #refer() {
    const now = performance.now();
    if (this.#bar === null || this.#clock === null || now - this.#asked < AGAIN_MS) return;
    this.#asked = now;
    this.#ask(Math.max(this.#bar.time, this.#clock.at + now - this.#clock.read));
  }

  /** The price a day before `now`, as the overview has it: the close of the quarter hour before the last 96. */
  async #ask(now) {
    const start = now - (now % QUARTER) - DAY;
    const range = { start: start - QUARTER, end: start + QUARTER, limit: 2 };
    try {
      const { bars } = await getChart(this.instrument, { timeframe: "15m", range, names: [] });
      this.#reference = bars.length === 0 ? null : bars[0].time < start ? bars[0].close : bars[0].open;
    } catch {
      this.#reference = null; // the bar's own change stands instead, and says so
    }
    if (this.#bar !== null) this.#show();
  }
}
