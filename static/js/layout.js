// How a chart is laid out: kept in the address, so that a copied one shows the same chart, and in this browser.
import { STEPS } from "./feed.js";
import { DEFAULT_STUDIES, knownStudies, studyById } from "./indicators.js";
import { remember, remembered } from "./store.js";

const CALM_MS = 250; // browsers limit how often an address may change

export class Layout {
  #asked = new URLSearchParams(location.search);
  #timer = 0;

  /** What the address says comes first, then what this browser remembers, then what is usual. */
  constructor() {
    this.timeframe = [this.#asked.get("timeframe"), remembered("timeframe", "1m")].find((one) => Object.hasOwn(STEPS, one ?? "")) ?? "1m";
    this.studies = knownStudies(this.#asked.get("indicators")?.split(",") ?? remembered("studies", DEFAULT_STUDIES));
    this.shares = { ...remembered("panes", {}), ...readShares(this.#asked.get("panes")) };
    this.spacing = positive(this.#asked.get("zoom")) ?? positive(remembered("zoom", null));
    this.at = positive(this.#asked.get("at"));
  }

  /** Takes any of timeframe, studies, shares, spacing and at (null: the newest bar). */
  set(values) {
    Object.assign(this, values);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.keep(), CALM_MS);
  }

  keep() {
    clearTimeout(this.#timer);
    const panes = this.studies.filter((id) => studyById.get(id).place === "pane" && id in this.shares);
    this.#write("timeframe", this.timeframe);
    this.#write("indicators", this.studies.join(","));
    this.#write("panes", panes.map((id) => `${id}:${this.shares[id]}`).join(","));
    this.#write("zoom", this.spacing === null ? "" : String(Number(this.spacing.toFixed(4))));
    this.#write("at", this.at === null ? "" : String(this.at));
    history.replaceState(null, "", `?${this.#asked.toString().replaceAll("%2C", ",").replaceAll("%3A", ":")}`);
    remember("timeframe", this.timeframe);
    remember("studies", this.studies);
    remember("panes", this.shares);
    remember("zoom", this.spacing);
  }

  /** No indicators at all is a choice too, so theirs is kept even when empty. */
  #write(name, text) {
    if (text === "" && name !== "indicators") this.#asked.delete(name);
    else this.#asked.set(name, text);
  }
}

/** "rsi:0.3,macd:0.26": heights of panes, as shares of the price pane's. */
function readShares(text) {
  const pairs = (text ?? "").split(",").map((pair) => pair.split(":"));
  return Object.fromEntries(pairs.filter(([id, share]) => studyById.has(id) && positive(share) !== null).map(([id, share]) => [id, Number(share)]));
}

function positive(value) {
  const number = Number(value);
  return Number.isFinite(number) && number > 0 ? number : null;
}
