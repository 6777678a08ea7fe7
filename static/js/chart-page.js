// The chart page: joins the feed, the drawing, the legend and the controls.
import { Chart } from "./chart.js";
import { Connection } from "./connection.js";
import { DataTable } from "./data-table.js";
import { ChartFeed, STEPS } from "./feed.js";
import { setZone, currentZone } from "./format.js";
import { DEFAULT_STUDIES, knownStudies, namesOf, studyById } from "./indicators.js";
import { bindKeys } from "./keys.js";
import { Legend } from "./legend.js";
import { outlookWords } from "./hours.js";
import { MarketLine } from "./market-line.js";
import { indicatorsMenu, placePopovers } from "./menus.js";
import { Notice } from "./notice.js";
import { Painter } from "./painter.js";
import { Panes } from "./panes.js";
import { Quote } from "./quote.js";
import { remember, remembered } from "./store.js";
import { Switcher } from "./switcher.js";
import { bindThemeButton, onTheme, setUpDown } from "./theme.js";

const root = document.documentElement;
const element = (id) => document.getElementById(id);
const instrument = JSON.parse(element("instrument").textContent);
const asked = new URLSearchParams(location.search);

const connection = new Connection(element("connection"));
const notice = new Notice(element("notice"));
const older = new Notice(element("older"));
const table = new DataTable(element("data-table"), instrument);
const quote = new Quote(instrument);
const marketLine = new MarketLine(element("market"), instrument);

let timeframe = [asked.get("timeframe"), remembered("timeframe", "1m")].find((one) => one in STEPS) ?? "1m";
let studies = knownStudies(asked.get("indicators")?.split(",") ?? remembered("studies", DEFAULT_STUDIES));
let feed = null;
let chart = null;
let panes = null;
let market = {}; // what is known of its hours and its feed
let pointed = null; // the time under the crosshair
let pending = { changed: new Set(), reshaped: false };

const legend = new Legend(element("content"), { decimals: instrument.price_decimals, onDrop: (id) => toggle(id, false) });
const painter = new Painter(paint, remembered("repaints", 1));
const showChecked = indicatorsMenu(element("indicators-menu"), toggle);

function state(value) {
  root.dataset.chartState = value;
}

function begin() {
  feed?.close();
  connection.link({ phase: "connecting" });
  notice.hide();
  older.hide();
  pending = { changed: new Set(), reshaped: false };
  feed = new ChartFeed(instrument, timeframe, { names: namesOf(studies), hooks });
  feed.start();
}

const hooks = {
  onLoading: () => state("loading"),
  onLoaded: () => {
    chart.show(feed.series, timeframe);
    delete root.dataset.chartFirst;
    settle();
    if (feed.series.last) quote.tick(feed.series.last);
  },
  onFailed: (error) => {
    state("error");
    connection.link({ phase: "off" });
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
  if (root.dataset.chartState === "error" || root.dataset.chartState === "loading") return;
  const { changed, reshaped } = pending;
  pending = { changed: new Set(), reshaped: false };
  if (reshaped || root.dataset.chartState === "empty") chart.draw();
  else chart.edit([...changed].sort((a, b) => a - b));
  settle();
}

/** What stands on the page now, also as hooks for styles and tests. */
function settle() {
  const { series } = feed;
  legend.show(series, pointed);
  root.dataset.bars = String(series.bars.length);
  root.dataset.timeframe = timeframe;
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

function remembering() {
  asked.set("timeframe", timeframe);
  asked.set("indicators", studies.join(","));
  history.replaceState(null, "", `?${asked.toString().replaceAll("%2C", ",")}`);
  remember("timeframe", timeframe);
  remember("studies", studies);
}

function switchTimeframe(value) {
  timeframe = value;
  for (const button of document.querySelectorAll("[data-timeframe].button")) {
    button.setAttribute("aria-pressed", String(button.dataset.timeframe === value));
  }
  remembering();
  begin();
}

function drawStudies() {
  chart.setStudies(studies);
  legend.setStudies(studies);
  panes.arrange(["price", ...studies.filter((id) => studyById.get(id).place === "pane")]);
  showChecked(studies);
}

async function toggle(id, on) {
  studies = knownStudies(on ? [...studies, id] : studies.filter((one) => one !== id));
  remembering();
  drawStudies();
  settle();
  try {
    await feed.want(namesOf(studies));
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
    },
  });
  panes = new Panes(chart, { plot: element("plot"), onLayout: (layout) => legend.place(layout) });
  drawStudies();
}

function restyle() {
  marketLine.again();
  chart.restyle();
  drawStudies();
  settle();
}

function bindSettings() {
  const select = (id, value, changed) => {
    element(id).value = String(value);
    element(id).addEventListener("change", ({ target }) => changed(target.value));
  };
  select("repaints", painter.rate, (value) => {
    painter.rate = Number(value);
    remember("repaints", painter.rate);
  });
  select("zone", currentZone(), (value) => {
    setZone(value);
    restyle();
  });
  select("updown", root.dataset.updown ?? "normal", setUpDown);
  element("show-table").addEventListener("click", () => {
    element("settings-menu").hidePopover();
    table.open(feed.series, timeframe, namesOf(studies));
  });
}

root.dataset.chartFirst = "true";
bindThemeButton();
bindSettings();
placePopovers();
new Switcher(element("switcher"), instrument);
onTheme(restyle);
for (const button of document.querySelectorAll("[data-timeframe].button")) {
  button.addEventListener("click", () => switchTimeframe(button.dataset.timeframe));
}
element("go-to-now").addEventListener("click", () => chart.goToNow());
bindKeys(() => chart, switchTimeframe);

try {
  draw();
  switchTimeframe(timeframe);
  document.fonts.load('12px "Inter"').then(() => chart.api.applyOptions({ layout: { fontSize: 12 } }));
} catch (error) {
  state("error");
  notice.show({ title: "The chart cannot be drawn here", text: error.message, retry: () => location.reload() });
}
