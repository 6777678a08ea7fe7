// The chart page: joins the feed, the drawing, the legend and the controls.
import { Again } from "./again.js";
import { Chart } from "./chart.js";
import { chartKeys } from "./chart-keys.js";
import { bindExport, bindSettings } from "./chart-tools.js";
import { completed } from "./completed.js";
import { Connection } from "./connection.js";
import { DataTable } from "./data-table.js";
import { ChartFeed } from "./feed.js";
import { setExchangeZone } from "./format.js";
import { bindFullScreen } from "./full-screen.js";
import { delayWords, outlookWords } from "./hours.js";
import { knownStudies, namesOf, studyById } from "./indicators.js";
import { bindKeys, writeKeys } from "./keys.js";
import { Layout } from "./layout.js";
import { Legend } from "./legend.js";
import { MarketLine } from "./market-line.js";
import { indicatorsMenu, placePopovers } from "./menus.js";
import { closable, Notice, Toast } from "./notice.js";
import { Painter } from "./painter.js";
import { Panes } from "./panes.js";
import { Quote } from "./quote.js";
import { remembered } from "./store.js";
import { Switcher } from "./switcher.js";
import { bindThemeButton, onTheme } from "./theme.js";

const root = document.documentElement;
const element = (id) => document.getElementById(id);
const instrument = await completed(JSON.parse(element("instrument").textContent));
if (instrument.time_zone) setExchangeZone(instrument.time_zone);

const connection = new Connection(element("connection"));
const notice = new Notice(element("notice"));
const older = new Notice(element("older"));
const toast = new Toast(element("toast"));
const table = new DataTable(element("data-table"), instrument);
const quote = new Quote(instrument);
const marketLine = new MarketLine(element("market"), instrument);

const layout = new Layout();
const help = element("help");
let feed = null;
let chart = null;
let panes = null;
let market = {}; // what is known of its hours and its feed
let pointed = null; // the time under the crosshair
let pending = { changed: new Set(), reshaped: false };

const legend = new Legend(element("content"), { decimals: instrument.price_decimals, onDrop: (id) => toggle(id, false) });
const painter = new Painter(paint, remembered("repaints", 1));
const again = new Again(() => begin({ quietly: true }));
const showChecked = indicatorsMenu(element("indicators-menu"), toggle);

function state(value) {
  root.dataset.chartState = value;
}

/** `quietly`: nobody asked for it, so what the page says of the failure stays until there is something better. */
function begin({ quietly = false } = {}) {
  feed?.close();
  again.stop();
  connection.link({ phase: "connecting" });
  if (!quietly) {
    notice.hide();
    state("loading");
  }
  older.hide();
  pending = { changed: new Set(), reshaped: false };
  feed = new ChartFeed(instrument, layout.timeframe, { names: namesOf(layout.studies), hooks, at: layout.at });
  feed.start();
}

const hooks = {
  onLoaded: () => {
    again.done();
    chart.show(feed.series, layout.timeframe, { spacing: layout.spacing ?? undefined, at: layout.at });
    delete root.dataset.chartFirst;
    state("ready");
    settle();
    if (feed.series.last) quote.tick(feed.series.last);
  },
  onFailed: (error) => {
    state("error");
    connection.link(again.failed(error));
    notice.show({ title: "The chart could not be loaded", text: error.message, retry: begin });
  },
  onChange: ({ changed, reshaped }) => {
    for (const time of changed) pending.changed.add(time);
    pending.reshaped ||= reshaped;
    painter.request();
  },
  onTick: (bar) => quote.tick(bar),
  onMarket: (told) => {
    market = told;
    marketLine.status(told);
    chart.setDelay(told.market?.state === "open" ? delayWords(told.delay_s) : "");
  },
  onStatus: (status) => {
    if (status.market !== undefined) hooks.onMarket(status);
    connection.feed(status);
    quote.clock(status.at);
    if (root.dataset.chartState === "empty") settle();
  },
  onQuote: (told) => marketLine.quote(told),
  onLink: (link) => connection.link(link),
  onOlder: (how) => {
    if (how === "loading") older.show({ text: "Loading older bars" });
    else if (how === "failed") older.show({ text: "Older bars could not be loaded", retry: () => feed.retryOlder() });
    else {
      older.hide();
      painter.now(); // until they are drawn, the chart still looks at its start and would ask for the next page
    }
  },
};

/** What changed since the last paint goes to the chart, in one go. */
function paint() {
  if (["error", "loading"].includes(root.dataset.chartState)) return;
  const { changed, reshaped } = pending;
  pending = { changed: new Set(), reshaped: false };
  if (reshaped || root.dataset.chartState === "empty") chart.draw();
  else chart.edit([...changed].sort((a, b) => a - b));
  settle();
}

/** What stands on the page now, also as hooks for styles and tests. */
function settle() {
  if (["error", "loading"].includes(root.dataset.chartState)) return;
  const { series } = feed;
  legend.show(series, pointed);
  root.dataset.bars = String(series.bars.length);
  root.dataset.timeframe = layout.timeframe;
  root.dataset.gaps = String(chart.shaded);
  root.dataset.panes = String(chart.api.panes().length);
  root.dataset.liveTime = String(series.last?.time ?? "");
  root.dataset.liveClose = String(series.last?.close ?? "");
  if (series.last !== null) {
    notice.hide();
    state("ready");
    return;
  }
  state("empty");
  notice.show({ title: "No data yet", text: `Nothing has been collected for ${instrument.symbol} so far. ${outlookWords(market)}` });
}

function switchTimeframe(timeframe) {
  layout.set({ timeframe, at: feed === null ? layout.at : null });
  layout.keep();
  for (const button of document.querySelectorAll("[data-timeframe].button")) {
    button.setAttribute("aria-pressed", String(button.dataset.timeframe === timeframe));
  }
  begin();
}

function drawStudies() {
  const { studies } = layout;
  chart.setStudies(studies);
  legend.setStudies(studies);
  panes.arrange(["price", ...studies.filter((id) => studyById.get(id).place === "pane")]);
  showChecked(studies);
}

async function toggle(id, on) {
  layout.set({ studies: knownStudies(on ? [...layout.studies, id] : layout.studies.filter((one) => one !== id)) });
  layout.keep();
  drawStudies();
  settle();
  try {
    await feed.want(namesOf(layout.studies));
  } catch (error) {
    older.show({ text: `${studyById.get(id).label} could not be loaded: ${error.message}`, retry: () => toggle(id, on) });
  }
}

function draw() {
  chart = new Chart(element("plot"), {
    decimals: instrument.price_decimals,
    hooks: {
      onCrosshair: (time) => {
        pointed = time;
        legend.show(feed.series, time);
      },
      onNeedOlder: () => feed.older(),
      onAway: (away) => {
        element("go-to-now").hidden = !away;
      },
      onView: () => {
        if (root.dataset.chartState === "ready") layout.set(chart.view());
      },
    },
  });
  panes = new Panes(chart, {
    plot: element("plot"),
    onLayout: (boxes) => legend.place(boxes),
    shares: () => layout.shares,
    onShares: (shares) => layout.set({ shares }),
  });
  drawStudies();
}

function restyle() {
  marketLine.again();
  chart.restyle();
  drawStudies();
  settle();
}

function showHelp() {
  if (!help.open) help.showModal();
}

function bindTools() {
  bindSettings({
    painter,
    instrument,
    onZone: restyle,
    onTable: () => table.open(feed.series, layout.timeframe, namesOf(layout.studies)),
    onHelp: showHelp,
  });
  bindExport(element("export-menu"), {
    instrument,
    now: () => ({ chart, series: feed?.series, timeframe: layout.timeframe, names: namesOf(layout.studies) }),
    said: (text) => toast.show(text),
  });
  const keys = chartKeys({ chart: () => chart, switchTimeframe, fullScreen: bindFullScreen(element("full-screen")), help: showHelp });
  bindKeys(keys);
  writeKeys(element("help-keys"), keys);
  closable(help);
}

root.dataset.chartFirst = "true";
bindThemeButton();
bindTools();
placePopovers();
new Switcher(element("switcher"), instrument);
onTheme(restyle);
for (const button of document.querySelectorAll("[data-timeframe].button")) {
  button.addEventListener("click", () => switchTimeframe(button.dataset.timeframe));
}
element("go-to-now").addEventListener("click", () => chart.goToNow());

try {
  draw();
  switchTimeframe(layout.timeframe);
  document.fonts.load('12px "Inter"').then(() => chart.api.applyOptions({ layout: { fontSize: 12 } }));
} catch (error) {
  state("error");
  notice.show({ title: "The chart cannot be drawn here", text: error.message, retry: () => location.reload() });
}
