// The header's price: at once with every tick; its change over 24 h, or of the bar where no day-old price is known.
import { getChart } from "./api.js";
import * as format from "./format.js";

const DAY = 86_400_000;
const AGAIN_MS = 300_000;

export class Quote {
  #reference = null;
  #bar = null;
  #asked = -Infinity;
  #flash = null;

  constructor(instrument) {
    this.instrument = instrument;
    this.price = document.getElementById("price");
    this.change = document.getElementById("change");
    this.span = document.getElementById("change-span");
  }

  tick(bar, at) {
    const before = this.#bar?.close;
    this.#bar = bar;
    this.#show();
    if (before !== undefined && before !== bar.close) this.#blink(bar.close > before ? "up" : "down");
    if (performance.now() - this.#asked > AGAIN_MS) this.#ask(at);
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
    document.title = `${format.price(close, decimals)} ${symbol} · Market data`;
  }

  #blink(tone) {
    this.#flash?.cancel();
    const style = getComputedStyle(document.documentElement);
    this.#flash = this.price.animate(
      [{ color: style.getPropertyValue(`--${tone}`) }, { color: style.getPropertyValue("--text") }],
      { duration: 280 },
    );
  }

  /** The price a day before `at`: the first minute of the ten that begin there. */
  async #ask(at) {
    this.#asked = performance.now();
    const start = at - DAY - (at % 60_000);
    try {
      const chart = await getChart(this.instrument, { timeframe: "1m", range: { start, end: start + 600_000, limit: 10 }, names: [] });
      this.#reference = chart.bars[0]?.open ?? null;
    } catch {
      this.#reference = null; // the bar's own change stands instead, and says so
    }
    if (this.#bar !== null) this.#show();
  }
}
