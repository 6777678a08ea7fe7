// One series on its way to the chart: the first load, older bars, values asked for later, and what comes live.
import { getChart, inAddress } from "./api.js";
import { Live } from "./live.js";
import { BarSeries, uncovered } from "./series.js";

const PAGE = 1000;
const LARGEST = 5000;
const MOST_REACHED = 4; // so many of the largest pages are asked for to show a place in the past, or what was missed
const BEFORE = 500; // bars left of that place
const CALM_MS = 3000; // an import changes bars all the time: what lies before a fresh chart is read once that has passed
const AGAIN_MS = 15_000; // until what could not be read then is asked for again
export const STEPS = { "1m": 60_000, "5m": 300_000, "15m": 900_000, "1h": 3_600_000, "4h": 14_400_000, "1d": 86_400_000 };

export class ChartFeed {
  #abort = new AbortController();
  #live = null;
  #older = false;
  #complete = false; // no older bars exist
  #loaded = new Set();
  #since = null; // from when on the next `initial` was asked for
  #calm = null; // the timer that reads again what lies before a fresh chart

  /**
   * hooks: onLoaded(), onFailed(error), onChange({changed, reshaped}), onTick(bar), onMarket({market, feed,
   * delay_s}), onStatus(status), onQuote({book, halt}), onLink(state), onOlder("loading" | "done" | "failed").
   */
  constructor(instrument, timeframe, { names, hooks, at = null }) {
    this.at = at; // ms; a place in the past that is to be shown first
    this.instrument = instrument;
    this.timeframe = timeframe;
    this.names = names;
    this.hooks = hooks;
    this.series = new BarSeries(STEPS[timeframe], instrument.calendar === "24/7");
  }

  async start() {
    const { names } = this;
    try {
      const chart = await this.#get({ limit: PAGE });
      this.#complete = chart.bars.length < PAGE;
      this.series.merge(chart.bars, chart.indicators);
      this.series.setGaps(chart.holes ?? []);
      this.#loaded = new Set(names);
      await this.#reach();
      const { market, feed, delay_s } = chart;
      if (market !== undefined) this.hooks.onMarket({ market, feed, delay_s });
      this.hooks.onLoaded();
      this.#connect();
    } catch (error) {
      if (!this.#abort.signal.aborted) this.hooks.onFailed(error);
    }
  }

  /** Loads back to the place that is to be shown, or as far as is reasonable. */
  async #reach() {
    for (let pages = 0; pages < MOST_REACHED && this.at !== null && !this.#complete; pages += 1) {
      const { first, step } = this.series;
      if (first === null || first.time <= this.at - BEFORE * step) return;
      const start = Math.max(0, this.at - 2 * BEFORE * step);
      const chart = await this.#get({ start, end: first.time, limit: LARGEST });
      if (chart.bars.length === 0) return;
      this.series.merge(chart.bars, chart.indicators);
      this.series.setGaps([...(chart.holes ?? []).filter((one) => !this.series.gaps.some(({ start: known }) => known === one.start)), ...this.series.gaps]);
    }
  }

  close() {
    this.#abort.abort();
    clearTimeout(this.#calm);
    this.#live?.close();
  }

  /** The names now drawn; those not loaded yet are fetched for all bars at hand. */
  async want(names) {
    this.names = names;
    const missing = names.filter((name) => !this.#loaded.has(name));
    if (missing.length === 0 || this.series.first === null) return;
    for (const name of missing) this.#loaded.add(name);
    try {
      await this.#fillIn(missing);
    } catch (error) {
      for (const name of missing) this.#loaded.delete(name);
      if (!this.#abort.signal.aborted) throw error;
    }
  }

  /** One page of bars before the oldest at hand; does nothing while one is under way or when there are no more. */
  async older() {
    if (this.#older || this.#complete || this.series.first === null) return;
    this.#older = true;
    this.hooks.onOlder("loading");
    const names = this.names;
    try {
      const chart = await this.#get({ end: this.series.first.time, limit: PAGE });
      this.#complete = chart.bars.length < PAGE;
      const merged = this.series.merge(chart.bars, chart.indicators);
      const first = this.series.gaps[0]?.start ?? Infinity;
      this.series.setGaps([...(chart.holes ?? []).filter(({ start }) => start < first), ...this.series.gaps]);
      this.#loaded = new Set(names.filter((name) => this.names.includes(name)));
      this.hooks.onChange(merged);
      this.hooks.onOlder("done");
      this.#older = false;
      await this.want(this.names);
    } catch {
      // The state stays "under way": only the user's retry asks again, not each pixel of scrolling.
      if (!this.#abort.signal.aborted) this.hooks.onOlder("failed");
    }
  }

  retryOlder() {
    this.#older = false;
    return this.older();
  }

  #get(range, names = this.names) {
    return getChart(this.instrument, { timeframe: this.timeframe, range, names, signal: this.#abort.signal });
  }

  async #fillIn(names) {
    const start = this.series.first.time;
    for (let end = null; ; ) {
      const chart = await this.#get({ start, limit: LARGEST, ...(end !== null && { end }) }, names);
      this.hooks.onChange({ ...this.series.merge([], chart.indicators), reshaped: true });
      if (chart.bars.length < LARGEST) return;
      end = chart.bars[0].time;
    }
  }

  #connect() {
    this.#live = new Live({
      address: () => this.#address(),
      onMessage: (message) => this.#said(message),
      onState: this.hooks.onLink,
    });
  }

  #address() {
    const query = new URLSearchParams({ exchange: this.instrument.exchange, timeframe: this.timeframe });
    this.#since = this.series.refillFrom(this.names, { away: this.#live !== null });
    if (this.#since !== null) query.set("since", String(this.#since));
    return `/ws/${inAddress(this.instrument.symbol)}?${query}`;
  }

  #said({ type, data }) {
    if (type === "initial") this.#takeChart(data);
    else if (type === "update") this.#takeBar(data);
    else if (type === "status") this.hooks.onStatus(data);
    else if (type === "quote") this.hooks.onQuote(data);
    else if (type === "holes") this.#takeGaps(data);
    // After an error the socket is closed, and comes back by itself: what is on the page stays as it is.
  }

  /** All there is from its first bar on: what it does not list was taken back. */
  #takeChart({ bars, indicators, holes = [] }) {
    const { gaps, last } = this.series;
    const asked = this.#since ?? last?.time ?? Infinity;
    const from = bars[0]?.time ?? this.#since ?? Infinity;
    const fresh = this.#since === null;
    this.#since = null;
    this.#complete = false; // what changed meanwhile may lie before all that is at hand
    const gone = this.series.retain(timesOf(bars), { from });
    const changed = this.#gapsChanged(holes, from);
    this.#take(bars, indicators);
    if (changed || gone) this.hooks.onChange({ changed: [], reshaped: true });
    this.#close(uncovered(gaps, this.series.gaps), from);
    if (bars.length === 0) return;
    if (from > asked) this.#fill(asked, from);
    else if (fresh) this.#readBefore(from);
  }

  /** A bar as it stands now; one older than all at hand comes with those between, once they are scrolled to. */
  #takeBar({ bar, indicators }) {
    const { first } = this.series;
    if (first === null || bar.time >= first.time) this.#take([bar], indicators);
    else this.#complete = false;
  }

  /** A chart that comes unasked says that much has changed: what is at hand before it may have, too. */
  #readBefore(until, wait = CALM_MS) {
    clearTimeout(this.#calm);
    const calm = setTimeout(async () => {
      const from = this.series.first?.time ?? until;
      const left = await this.#read(from, until);
      if (left > from && this.#calm === calm && !this.#abort.signal.aborted) this.#readBefore(left, AGAIN_MS);
    }, wait);
    this.#calm = calm;
  }

  /** Every gap there is now: where one is no more, its bars are asked for. */
  #takeGaps(gaps) {
    const before = this.series.gaps;
    if (!this.#gapsChanged(gaps)) return;
    this.hooks.onChange({ changed: [], reshaped: true });
    this.#close(uncovered(before, this.series.gaps));
  }

  /** Brings the bars of gaps that are no more, as far as they lie before `until`. */
  async #close(gaps, until = Infinity) {
    const { step } = this.series;
    for (const gap of gaps) {
      const from = Math.max(this.series.first?.time ?? Infinity, gap.start - (gap.start % step));
      const left = await this.#read(from, Math.min(gap.end + step, until));
      if (left <= from || this.#abort.signal.aborted) continue;
      this.series.setGaps([...this.series.gaps, { ...gap, end: Math.min(gap.end, left) }]); // the next list has it asked for again
      this.hooks.onChange({ changed: [], reshaped: true });
    }
  }

  /** Brings what an `initial` left out; the chart begins behind what is too much or fails, and older() brings that. */
  async #fill(from, until) {
    const left = await this.#read(from, until, MOST_REACHED);
    if (left <= from || this.#abort.signal.aborted) return;
    this.series.retain(new Set(), { until: left });
    this.#complete = false;
    this.hooks.onChange({ changed: [], reshaped: true });
  }

  /** Reads [from, until) anew, the newest page first; returns up to where it did not get: `from` once all is there. */
  async #read(from, until, most = Infinity) {
    let end = until;
    for (let pages = 0; pages < most && end > from; ) {
      const names = this.names;
      const known = timesOf(this.series.bars);
      const chart = await this.#get({ start: from, end, limit: LARGEST }).catch(() => null);
      if (chart === null) return end; // closed meanwhile, or the server is away
      if (this.names.some((name) => !names.includes(name))) continue; // asked for meanwhile, and not in this page
      const came = this.series.bars.filter(({ time }) => !known.has(time)); // live, so newer than the page
      const first = chart.bars.length < LARGEST ? from : chart.bars[0].time;
      this.series.retain(timesOf([...chart.bars, ...came]), { from: first, until: end });
      this.hooks.onChange({ ...this.series.merge(chart.bars, chart.indicators), reshaped: true });
      end = first;
      pages += 1;
    }
    return end;
  }

  #gapsChanged(gaps, from = -Infinity) {
    const before = JSON.stringify(this.series.gaps);
    this.series.setGaps(gaps, from);
    return JSON.stringify(this.series.gaps) !== before;
  }

  /** `indicators` may be a list of rows, one row, or nothing. */
  #take(bars, indicators) {
    const rows = Array.isArray(indicators) ? indicators : indicators ? [indicators] : [];
    const known = bars.filter(Boolean);
    const merged = this.series.merge(known, rows);
    if (known.length > 0 && known.at(-1).time >= this.series.last.time) this.hooks.onTick(this.series.last);
    if (merged.changed.length > 0) this.hooks.onChange(merged);
  }
}

const timesOf = (bars) => new Set(bars.map(({ time }) => time));
