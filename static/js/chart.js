// The drawing: candles, volume, overlays and panes of lightweight-charts, fed from a BarSeries.
import {
  CandlestickSeries,
  HistogramSeries,
  LineSeries,
  LineStyle,
  createChartEx,
} from "../vendor/lightweight-charts.js";
import { beyond, candleLook, chartLook, widened } from "./chart-look.js";
import { DelayMark } from "./delay-mark.js";
import * as format from "./format.js";
import { GapShade } from "./gaps.js";
import { studyById } from "./indicators.js";
import { candle, histogramPoint, linePoint, volumeColumn } from "./series.js";
import { palette, reducedMotion } from "./theme.js";
import { ZonedScale } from "./timescale.js";

const NEAR_START = 30; // bars left of the window below which older ones are asked for
const MANY_EDITS = 40; // past so many changed old bars, drawing anew is cheaper
const DAY = 86_400_000;
const GLIDE_MS = 280;
const BAR_SPACING = 8; // px a bar, unless one zooms
const [LEAST_SPACING, MOST_SPACING] = [0.6, 60];
const QUIET = { priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false };

export class Chart {
  #color = palette();
  #series = null;
  #candles;
  #volume = null;
  #studies = []; // {study, plots: [{plot, api}]}
  #shade = new GapShade();
  #scale = new ZonedScale();
  #late = new DelayMark();
  #lateWords = "";
  #drawnTo = -Infinity;
  #scroll = 0;

  /** hooks: onCrosshair(time or null), onNeedOlder(), onAway(boolean), and onView() when it was moved or zoomed. */
  constructor(element, { decimals, hooks }) {
    this.decimals = decimals;
    this.hooks = hooks;
    this.timeframe = "1m";
    this.shaded = 0; // gaps that are drawn
    this.api = createChartEx(element, this.#scale, { autoSize: true, ...this.#behaviour() });
    this.api.applyOptions(chartLook(this.#color));
    this.#candles = this.api.addSeries(CandlestickSeries, candleLook(this.#color, this.decimals), 0);
    this.#candles.attachPrimitive(this.#shade);
    this.#candles.attachPrimitive(this.#late);
    this.api.subscribeCrosshairMove(({ time, point }) => {
      hooks.onCrosshair(time === undefined || point === undefined ? null : time * 1000);
    });
    this.api.timeScale().subscribeVisibleLogicalRangeChange((range) => this.#moved(range));
  }

  remove() {
    this.api.remove();
  }

  /** Shows another series: `spacing` px a bar, up to the place `at` (ms, as `view` gives it), or to the newest bar. */
  show(series, timeframe, { spacing = BAR_SPACING, at = null } = {}) {
    this.#series = series;
    this.timeframe = timeframe;
    this.#scale.timeframe = timeframe;
    this.#candles.setData([]); // the marks of the time axis are weighed anew only for new points
    this.draw();
    const scale = this.api.timeScale();
    scale.applyOptions({ barSpacing: Math.min(MOST_SPACING, Math.max(LEAST_SPACING, spacing)) });
    const place = series.last === null ? null : at; // an address may name a place of a series that has no bars here
    scale.scrollToPosition(place === null ? scale.options().rightOffset : this.#positionOf(place), false);
    this.api.priceScale("right", 0).applyOptions({ autoScale: true });
  }

  /** What is in sight, as `show` takes it: `at` is null while the newest bar is, else the right edge, parts of a bar included. */
  view() {
    const scale = this.api.timeScale();
    const range = this.#away ? scale.getVisibleRange() : null;
    if (range === null) return { spacing: scale.options().barSpacing, at: null };
    const edge = scale.getVisibleLogicalRange().to;
    const cut = Math.ceil(edge) - edge; // of the last bar in sight
    return { spacing: scale.options().barSpacing, at: Math.round(range.to * 1000 - cut * this.#series.step) };
  }

  /** How far a place is from the newest bar, in bars; where the market was closed then, that of the next bar. */
  #positionOf(at) {
    const scale = this.api.timeScale();
    const index = scale.timeToIndex(at / 1000, true);
    const ahead = (this.#series.slots()[index][0] - at) / this.#series.step;
    const cut = ahead > 0 && ahead < 1 ? ahead : 0;
    return index - cut - scale.timeToIndex(this.#series.last.time / 1000, true);
  }

  /** Says at the newest bar how late it is; nothing where `words` are empty. */
  setDelay(words) {
    this.#lateWords = words;
    this.#markDelay();
  }

  #markDelay() {
    const time = this.#series?.last ? this.#series.last.time / 1000 : null;
    this.#late.show({ text: this.#lateWords, time, color: this.#color("warn"), font: `11px ${this.#color("font")}` });
  }

  /** The last price stands on the scale in a colour that its letters can be read on: the live bar's own may not be one. */
  #markPrice() {
    const last = this.#series.last;
    const priceLineColor = last ? this.#color(last.close >= last.open ? "up-label" : "down-label") : "";
    if (priceLineColor !== this.#candles.options().priceLineColor) this.#candles.applyOptions({ priceLineColor });
  }

  /** Puts these studies on the chart, each at its place, panes in the order given. */
  setStudies(ids) {
    for (const { plots } of this.#studies) for (const { api } of plots) this.api.removeSeries(api);
    if (this.#volume) this.api.removeSeries(this.#volume);
    this.#volume = null;
    this.#studies = [];
    let pane = 0;
    for (const study of ids.map((id) => studyById.get(id))) {
      if (study.place === "volume") this.#addVolume();
      if (study.place === "pane") pane += 1;
      const at = study.place === "pane" ? pane : 0;
      this.#studies.push({ study, plots: study.plots.map((plot) => ({ plot, api: this.#addPlot(study, plot, at) })) });
    }
    const bottom = this.#volume ? 0.24 : 0.08;
    this.api.priceScale("right", 0).applyOptions({ scaleMargins: { top: 0.1, bottom } });
    this.draw();
  }

  /** Draws everything anew. */
  draw() {
    if (this.#series === null) return;
    const slots = this.#series.slots();
    this.#candles.setData(slots.map(([time, bar]) => candle(time, bar, this.#color)));
    this.#volume?.setData(slots.map(([time, bar]) => volumeColumn(time, bar, this.#color)));
    for (const { plots } of this.#studies) {
      for (const { plot, api } of plots) {
        api.setData(slots.map(([time, bar], index) => this.#point(plot, time, slots[index - 1]?.[0], bar !== null && slots[index + 1]?.[1] === null)));
      }
    }
    this.#drawnTo = slots.at(-1)?.[0] ?? -Infinity;
    this.#markPrice();
    this.#markDelay();
    this.shaded = this.#shade.show(this.#series.gaps, { slots, step: this.#series.step, color: this.#color("gap") });
  }

  /** Draws only the bars of these times (ms, ascending), which all have a place already or follow the last one. */
  edit(times) {
    const known = times.filter((time) => this.#series.at(time) !== null);
    if (known.length > MANY_EDITS) return this.draw();
    for (const time of known) {
      const bar = this.#series.at(time);
      const old = time < this.#drawnTo;
      const broken = old && this.#series.endsBefore(time);
      this.#candles.update(candle(time, bar, this.#color), old);
      this.#volume?.update(volumeColumn(time, bar, this.#color), old);
      for (const { plots } of this.#studies) {
        for (const { plot, api } of plots) api.update(this.#point(plot, time, this.#series.before(time)?.time, broken), old);
      }
      this.#drawnTo = Math.max(this.#drawnTo, time);
    }
    this.#markPrice();
    this.#markDelay();
    return undefined;
  }

  /** Not by the library's own animation: whatever redraws the chart meanwhile ends that one short of its goal. */
  goToNow() {
    const scale = this.api.timeScale();
    const [from, to] = [scale.scrollPosition(), scale.options().rightOffset];
    const began = performance.now();
    const step = (now) => {
      const done = reducedMotion() ? 1 : Math.min(1, Math.max(0, now - began) / GLIDE_MS);
      scale.scrollToPosition(from + (to - from) * (1 - (1 - done) ** 3), false);
      if (done < 1) requestAnimationFrame(step);
    };
    step(began);
  }

  /** To the oldest bar at hand; older ones are then asked for. */
  goToStart() {
    if (!this.#series?.last) return;
    const scale = this.api.timeScale();
    const [first, last] = [this.#series.first, this.#series.last].map(({ time }) => scale.timeToIndex(time / 1000, true));
    const shown = scale.width() / scale.options().barSpacing;
    scale.scrollToPosition(Math.min(scale.options().rightOffset, first - last + Math.floor(shown) - 1), false);
  }

  /** A screenful to the left (−1) or to the right (1). */
  turnPage(direction) {
    const scale = this.api.timeScale();
    this.scrollBy(direction * Math.max(1, Math.floor(scale.width() / scale.options().barSpacing) - 1));
  }

  /** The library moves with its next frame, so what comes before that is added up. */
  scrollBy(bars) {
    if (this.#scroll === 0) requestAnimationFrame(() => this.#scrollNow());
    this.#scroll += bars;
  }

  #scrollNow() {
    const scale = this.api.timeScale();
    scale.scrollToPosition(Math.min(scale.options().rightOffset, scale.scrollPosition() + this.#scroll), false);
    this.#scroll = 0;
  }

  zoom(factor) {
    const scale = this.api.timeScale();
    scale.applyOptions({ barSpacing: Math.min(MOST_SPACING, Math.max(1, scale.options().barSpacing * factor)) });
  }

  /** After a change of theme, zone or rising colour. */
  restyle() {
    this.#color = palette();
    this.api.applyOptions(chartLook(this.#color));
    this.#candles.applyOptions(candleLook(this.#color, this.decimals));
    const seen = this.api.timeScale().getVisibleLogicalRange();
    const ids = this.#studies.map(({ study }) => study.id);
    this.#candles.setData([]); // the marks of the time axis are weighed anew only for new points
    this.setStudies([]);
    this.setStudies(ids);
    if (seen) this.api.timeScale().setVisibleLogicalRange(seen);
  }

  #moved(range) {
    if (range === null || this.#series === null || this.#series.bars.length === 0) return;
    this.hooks.onAway(this.#away);
    this.hooks.onView?.();
    if (range.from < NEAR_START) this.hooks.onNeedOlder();
  }

  get #away() {
    return this.api.timeScale().scrollPosition() < -1.5;
  }

  #point(plot, time, previousTime, broken) {
    const value = this.#series.value(time, plot.name);
    if (plot.kind === "line") return linePoint(time, value, { broken: broken || (plot.daily && this.#endsDay(time)) });
    const previous = previousTime === undefined ? null : this.#series.value(previousTime, plot.name);
    return histogramPoint(time, value, { previous, color: this.#color });
  }

  #endsDay(time) {
    return this.#series.step < DAY && (time + this.#series.step) % DAY === 0;
  }

  #addVolume() {
    this.#volume = this.api.addSeries(HistogramSeries, { ...QUIET, priceScaleId: "volume", priceFormat: { type: "volume" } }, 0);
    this.#volume.priceScale().applyOptions({ scaleMargins: { top: 0.8, bottom: 0 } });
    this.#volume.setSeriesOrder(0);
  }

  #addPlot(study, plot, pane) {
    const own = study.place === "pane";
    const decimals = study.decimals ?? Math.max(2, this.decimals);
    const options = {
      ...QUIET,
      lastValueVisible: own && plot === study.plots.find(({ kind }) => kind === "line"),
      color: this.#color(plot.color),
      priceFormat: { type: "custom", minMove: 10 ** -decimals, formatter: (value) => (beyond(value, study) ? "" : format.price(value, decimals)) },
      ...(study.place === "volume" && { priceScaleId: "volume", priceFormat: { type: "volume" } }),
      ...(plot.kind === "line" && { lineWidth: plot.width, lineStyle: plot.dashed ? LineStyle.Dashed : LineStyle.Solid }),
      ...(study.within && { autoscaleInfoProvider: (usual) => widened(usual(), study) }),
    };
    const api = this.api.addSeries(plot.kind === "line" ? LineSeries : HistogramSeries, options, pane);
    if (own) api.priceScale().applyOptions({ scaleMargins: { top: 0.16, bottom: 0.1 } });
    if (plot === study.plots[0]) {
      for (const price of study.bands ?? []) {
        api.createPriceLine({ price, color: this.#color("line-strong"), lineWidth: 1, lineStyle: LineStyle.Dashed, axisLabelVisible: false });
      }
    }
    return api;
  }

  #behaviour() {
    return {
      localization: { timeFormatter: (time) => this.#scale.label(time) },
      timeScale: {
        timeVisible: true,
        secondsVisible: false,
        rightOffset: 8,
        minBarSpacing: LEAST_SPACING,
        tickMarkFormatter: (time, type) => this.#scale.tickMark(time, type),
      },
    };
  }
}
