// A cell with a chart: one series from its feed to the drawing, with legend, price and states of its own.
import { Again } from "./again.js";
import { Chart } from "./chart.js";
import { Connection } from "./connection.js";
import { ChartFeed } from "./feed.js";
import { outlookWords } from "./hours.js";
import { namesOf, studyById } from "./indicators.js";
import { Legend } from "./legend.js";
import { MarketLine } from "./market-line.js";
import { Cell } from "./multi-cell.js";
import { slotOf } from "./multi-crosshair.js";
import { Notice } from "./notice.js";
import { Painter } from "./painter.js";
import { Panes } from "./panes.js";
import { Quote } from "./quote.js";

const PRICE_HEIGHT = 190; // what the candles need before a pane below them is worth its place
const PANE_HEIGHT = 90;

export class ChartCell extends Cell {
  #feed = null;
  #market = {}; // what is known of its hours and its feed
  #pointed = null; // the time under the crosshair, the linked one included
  #pending = { changed: new Set(), reshaped: false };
  #fitting = -1; // panes below the candles that have room
  #studies;
  #candles;

  /** hooks, besides those of any cell: onPointer(cell), onCrosshair(cell, time or null), onDrop(study id). */
  constructor({ instrument, studies, rate, ...options }) {
    super(options);
    this.instrument = instrument;
    this.#studies = studies;
    this.#name();
    this.connection = new Connection(this.part(".state"));
    this.older = new Notice(this.part(".older"));
    this.quote = new Quote(instrument, { element: this.part(".quote"), titled: false });
    this.marketLine = new MarketLine(this.part(".market"), instrument);
    this.legend = new Legend(this.part(".cell-stage"), { decimals: instrument.price_decimals, onDrop: this.hooks.onDrop });
    this.painter = new Painter(() => this.#paint(), rate);
    this.again = new Again(() => this.#begin({ quietly: true }));
    this.resized = new ResizeObserver(([{ contentRect }]) => this.#fit(contentRect.height));
    this.part(".go-to-now").addEventListener("click", () => this.chart.goToNow());
    this.showTimeframe(this.timeframe);
  }

  /** Once it stands on the page. */
  start() {
    this.element.dataset.first = "true";
    try {
      this.#draw();
      this.#begin();
    } catch (error) {
      this.state("error");
      this.notice.show({ title: "The chart cannot be drawn here", text: error.message, retry: () => location.reload() });
    }
  }

  close() {
    this.#feed?.close();
    this.again.close();
    this.painter.close();
    this.connection.close();
    this.panes?.close();
    this.resized.disconnect();
    this.chart?.remove();
    this.chart = null;
  }

  switchTimeframe(value) {
    this.showTimeframe(value);
    if (this.chart !== null) this.#begin();
  }

  async setStudies(ids) {
    this.#studies = ids;
    this.#drawStudies();
    this.#settle();
    await this.#want();
  }

  /** Marks the bar that holds `time` (ms), or the first within `span` after it; with null the mark goes. */
  mark(time, span) {
    if (this.chart === null || this.#feed === null) return;
    const { series } = this.#feed;
    const at = time === null ? null : slotOf(series, time, span);
    const price = series.at(at)?.close ?? series.last?.close;
    if (at === null || price === undefined) this.chart.api.clearCrosshairPosition();
    else this.chart.api.setCrosshairPosition(price, at / 1000, this.#candles);
    this.#point(at);
  }

  /** After a change of theme, zone or rising colour. */
  restyle() {
    this.marketLine.again();
    this.chart?.restyle();
    this.#drawStudies();
    this.#settle();
  }

  repaints(rate) {
    this.painter.rate = rate;
  }

  /** Back in sight: what came meanwhile is drawn. */
  seen() {
    if (this.#feed?.series.last) this.quote.tick(this.#feed.series.last);
    if (this.#pending.changed.size > 0 || this.#pending.reshaped) this.painter.now();
  }

  #name() {
    const { symbol, title } = this.instrument;
    this.part(".symbol").textContent = symbol;
    this.part(".exchange").textContent = title;
    this.symbolButton.setAttribute("aria-label", `${symbol}, ${title}: switch instrument`);
    this.element.setAttribute("aria-label", `Chart of ${symbol}, ${title}`);
    this.part(".plot").setAttribute("aria-label", `Chart of ${symbol}: left and right scroll, plus and minus zoom, end goes to now, f opens its page`);
  }

  #draw() {
    const plot = this.part(".plot");
    this.chart = new Chart(plot, {
      decimals: this.instrument.price_decimals,
      hooks: {
        onCrosshair: (time) => {
          this.#point(time);
          this.hooks.onCrosshair(this, time);
        },
        onNeedOlder: () => this.#feed.older(),
        onAway: (away) => {
          this.part(".go-to-now").hidden = !away;
        },
      },
    });
    this.#candles = this.chart.api.panes()[0].getSeries().find((series) => series.seriesType() === "Candlestick");
    this.chart.api.applyOptions({ handleScroll: { vertTouchDrag: false } }); // on a phone that scrolls the page
    this.chart.api.subscribeDblClick(() => this.open());
    for (const event of ["pointerenter", "pointerdown"]) plot.addEventListener(event, () => this.hooks.onPointer(this), true);
    this.panes = new Panes(this.chart, { plot, onLayout: (layout) => this.legend.place(layout) });
    this.#fit(this.part(".cell-stage").clientHeight);
    this.resized.observe(this.part(".cell-stage"));
  }

  /** `quietly`: nobody asked for it, so what the cell says of the failure stays until there is something better. */
  #begin({ quietly = false } = {}) {
    this.#feed?.close();
    this.again.stop();
    this.connection.link({ phase: "connecting" });
    if (!quietly) {
      this.notice.hide();
      this.state("loading");
    }
    if (this.note) this.older.show({ text: this.note });
    else this.older.hide();
    this.note = null;
    this.#pending = { changed: new Set(), reshaped: false };
    this.#pointed = null;
    this.#feed = new ChartFeed(this.instrument, this.timeframe, { names: namesOf(this.#drawn()), hooks: this.#feedHooks() });
    this.#feed.start();
  }

  #feedHooks() {
    return {
      onLoaded: () => {
        this.again.done();
        this.chart.show(this.#feed.series, this.timeframe);
        delete this.element.dataset.first;
        this.state("ready");
        this.#settle();
        if (this.#feed.series.last) this.quote.tick(this.#feed.series.last);
        this.#want(); // what was chosen while it was loading
      },
      onFailed: (error) => {
        this.state("error");
        this.connection.link(this.again.failed(error));
        this.notice.show({ title: "The chart could not be loaded", text: error.message, retry: () => this.#begin() });
      },
      onChange: ({ changed, reshaped }) => {
        for (const time of changed) this.#pending.changed.add(time);
        this.#pending.reshaped ||= reshaped;
        if (!document.hidden) this.painter.request();
      },
      onTick: (bar) => {
        if (!document.hidden) this.quote.tick(bar);
      },
      onMarket: (told) => {
        this.#market = told;
        this.marketLine.status(told);
      },
      onStatus: (status) => {
        if (status.market !== undefined) {
          this.#market = status;
          this.marketLine.status(status);
        }
        this.connection.feed(status);
        this.quote.clock(status.at);
        if (this.element.dataset.state === "empty") this.#settle();
      },
      onQuote: (told) => this.marketLine.quote(told),
      onLink: (link) => this.connection.link(link),
      onOlder: (how) => {
        if (how === "loading") this.older.show({ text: "Loading older bars" });
        else if (how === "failed") this.older.show({ text: "Older bars could not be loaded", retry: () => this.#feed.retryOlder() });
        else {
          this.older.hide();
          this.painter.now(); // until they are drawn, the chart still looks at its start and would ask for the next page
        }
      },
    };
  }

  /** What changed since the last paint goes to the chart, in one go; nothing while nobody looks. */
  #paint() {
    const { state } = this.element.dataset;
    if (this.chart === null || state === "error" || state === "loading" || document.hidden) return;
    const { changed, reshaped } = this.#pending;
    this.#pending = { changed: new Set(), reshaped: false };
    if (reshaped || state === "empty") this.chart.draw();
    else this.chart.edit([...changed].sort((a, b) => a - b));
    this.#settle();
  }

  /** What the cell shows now, also as hooks for styles and tests. */
  #settle() {
    if (this.#feed === null || ["error", "loading"].includes(this.element.dataset.state)) return;
    const { series } = this.#feed;
    const { dataset } = this.element;
    this.legend.show(series, this.#pointed);
    dataset.bars = String(series.bars.length);
    dataset.gaps = String(this.chart.shaded);
    dataset.liveClose = String(series.last?.close ?? "");
    if (series.last !== null) {
      this.notice.hide();
      this.state("ready");
    } else {
      this.state("empty");
      this.notice.show({ title: "No data yet", text: `Nothing has been collected for ${this.instrument.symbol} so far. ${outlookWords(this.#market)}` });
    }
  }

  #point(time) {
    this.#pointed = time;
    this.element.dataset.marked = String(time ?? "");
    if (this.#feed) this.legend.show(this.#feed.series, time);
  }

  /** A low cell has no room for every pane: those that come first stay. */
  #fit(height) {
    const panes = Math.max(0, Math.floor((height - PRICE_HEIGHT) / PANE_HEIGHT));
    if (panes === this.#fitting) return;
    this.#fitting = panes;
    this.#drawStudies();
    this.#settle();
    this.#want();
  }

  #drawn() {
    const below = this.#studies.filter((id) => studyById.get(id).place === "pane").slice(0, this.#fitting);
    return this.#studies.filter((id) => studyById.get(id).place !== "pane" || below.includes(id));
  }

  #drawStudies() {
    if (this.chart === null) return;
    const ids = this.#drawn();
    this.chart.setStudies(ids);
    this.legend.setStudies(ids);
    this.panes.arrange(["price", ...ids.filter((id) => studyById.get(id).place === "pane")]);
  }

  async #want() {
    try {
      await this.#feed?.want(namesOf(this.#drawn()));
    } catch (error) {
      this.older.show({ text: `Indicators could not be loaded: ${error.message}`, retry: () => this.#want() });
    }
  }
}
