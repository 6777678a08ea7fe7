// The legends at the top left of each pane: values under the crosshair, the last ones otherwise.
import * as format from "./format.js";
import { gapWords } from "./gaps.js";
import { studyById } from "./indicators.js";
import { palette } from "./theme.js";

const STATES = { open: "live", closed: "closed", verified: "verified" };
const ORIGINS = { exchange: "exchange's own", flat: "no trades" };

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

export class Legend {
  #legends = new Map(); // pane key → element
  #values = []; // {study, plot, element}
  #bar;

  /** onDrop(study id) when a study is closed from its legend. */
  constructor(stage, { decimals, onDrop }) {
    this.stage = stage;
    this.decimals = decimals;
    this.onDrop = onDrop;
  }

  /** One legend a pane; the price pane's holds the bar and the overlays. */
  setStudies(ids) {
    for (const element of this.#legends.values()) element.remove();
    this.#legends.clear();
    this.#values = [];
    this.#bar = make("div", "bar-line");
    const line = make("div", "line"); // the bar has a line of its own, however short
    line.append(this.#bar);
    this.#pane("price").append(line);
    for (const study of ids.map((id) => studyById.get(id))) {
      this.#pane(study.place === "pane" ? study.id : "price").append(this.#entry(study));
    }
  }

  place(layout) {
    for (const { key, top, height } of layout) {
      const legend = this.#legends.get(key);
      if (!legend) continue;
      legend.style.top = `${Math.round(top)}px`;
      legend.hidden = height < 26;
    }
  }

  /** The values of the bar at `time` (ms), or of the newest when that is null. */
  show(series, time) {
    const bar = time === null ? series.last : series.at(time);
    this.#showBar(bar, bar && series.before(bar.time));
    this.#showGaps(series, time);
    for (const { study, plot, element } of this.#values) {
      const value = time === null ? newest(series, plot.name) : series.value(time, plot.name);
      const text = study.place === "volume" ? format.volume(value ?? NaN) : format.price(value ?? NaN, study.decimals ?? this.decimals);
      if (element.textContent !== text) element.textContent = text;
    }
  }

  #showBar(bar, before) {
    if (!bar) {
      this.#bar.replaceChildren(make("span", "", "no bar here"));
      return;
    }
    const digits = (value) => format.price(value, this.decimals);
    const change = before ? bar.close - before.close : bar.close - bar.open;
    const share = (change / (before ? before.close : bar.open)) * 100;
    const tone = format.direction(bar.close - bar.open);
    const parts = [
      ["O", digits(bar.open), tone],
      ["H", digits(bar.high), tone],
      ["L", digits(bar.low), tone],
      ["C", digits(bar.close), tone],
      ["", `${format.signed(change, this.decimals)} (${format.percent(share)})`, format.direction(change)],
      ["Vol", format.volume(bar.volume), ""],
      ["Trades", counted(bar), "wide"],
    ].map(([name, text, className]) => {
      const part = make("span", className === "wide" ? "wide" : "", name ? `${name} ` : "");
      part.append(make("b", className === "wide" ? "" : className, text));
      return part;
    });
    const badge = make("span", "badge", [STATES[bar.state] ?? bar.state, ORIGINS[bar.origin], bar.delayed && "delayed"].filter(Boolean).join(", "));
    this.#bar.replaceChildren(...parts, badge);
  }

  /** The gap under the crosshair in words, or how many there are. */
  #showGaps(series, time) {
    const gap = time === null ? null : series.gapAt(time);
    const { length } = series.gaps;
    if (gap === null && length === 0) return;
    const words = gap === null ? `${length} ${length === 1 ? "gap" : "gaps"}` : gapWords(gap);
    const badge = make("span", "badge gap", words);
    if (gap === null) badge.title = series.gaps.slice(-10).map(gapWords).join("\n");
    this.#bar.append(badge);
  }

  #pane(key) {
    if (!this.#legends.has(key)) {
      const legend = make("div", "legend");
      legend.dataset.pane = key;
      legend.hidden = key !== "price";
      this.stage.append(legend);
      this.#legends.set(key, legend);
    }
    return this.#legends.get(key);
  }

  #entry(study) {
    const color = palette();
    const entry = make("span", "study");
    entry.dataset.study = study.id;
    const values = make("span", "values");
    for (const plot of study.plots) {
      const element = make("b", "", format.NOTHING);
      element.style.color = color(plot.color);
      element.title = plot.name;
      values.append(element);
      this.#values.push({ study, plot, element });
    }
    const drop = make("button", "drop", "×");
    drop.type = "button";
    drop.setAttribute("aria-label", `Remove ${study.label}`);
    drop.addEventListener("click", () => this.onDrop(study.id));
    entry.append(make("span", "name", study.id === "volume" ? "Volume, average" : study.label), values, drop);
    return entry;
  }
}

/** The newest value: an open bar has none yet, so the bar before it speaks. */
function newest(series, name) {
  const { last } = series;
  if (last === null) return null;
  const before = series.before(last.time);
  return series.value(last.time, name) ?? (before ? series.value(before.time, name) : null);
}

/** How many trades a bar counts; a source may tell of volume without counting. */
function counted(bar) {
  return bar.trade_count || !bar.volume ? bar.trade_count.toLocaleString("en-US") : "–";
}
