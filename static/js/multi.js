// The page of several charts: which there are, what links them, and which one the keyboard acts on.
import { Again } from "./again.js";
import { getSymbols } from "./api.js";
import { DEFAULT_STUDIES, knownStudies, studyById } from "./indicators.js";
import { seriesKeys } from "./chart-keys.js";
import { bindKeys } from "./keys.js";
import { indicatorsMenu, place, placePopovers } from "./menus.js";
import { LAYOUTS, LINKS, filled, nameOf, readAddress, writeAddress } from "./multi-address.js";
import { bindBar } from "./multi-bar.js";
import { UnknownCell } from "./multi-cell.js";
import { ChartCell } from "./multi-chart.js";
import { CrosshairLink } from "./multi-crosshair.js";
import { Notice } from "./notice.js";
import { remember, remembered } from "./store.js";
import { Switcher } from "./switcher.js";
import { bindThemeButton, onTheme } from "./theme.js";

const USUAL = { layout: 4, cells: [], links: ["crosshair"], studies: [...DEFAULT_STUDIES.filter((id) => studyById.get(id).place !== "pane"), "ema_12", "ema_26"] };
const NO_CHART = { scrollBy() {}, turnPage() {}, zoom() {}, goToStart() {}, goToNow() {} };
const root = document.documentElement;
const element = (id) => document.getElementById(id);
const grid = element("cells");
const notice = new Notice(element("notice"));
const again = new Again(() => load({ quietly: true }));

const state = begun();
let instruments = new Map(); // by their names in the address
let cells = []; // those on the page; state.cells has one entry for each place of the largest layout
let asking = null; // aborts the request for the instruments
let focus = 0;
let rate = remembered("repaints", 1);

const crosshair = new CrosshairLink(() => cells, state.links.has("crosshair"));
const showChecked = indicatorsMenu(element("indicators-menu"), toggleStudy);
const showBar = bindBar({ rate, onLayout: setLayout, onLink: setLink, onRepaints: setRate, onZone: restyle });
placePopovers(); // the switcher has no button yet: it opens from whichever cell is focused
const switcher = new Switcher(element("switcher"), null);

const hooks = {
  onTimeframe: switchTimeframe,
  onFocus: (cell) => focusOn(cells.indexOf(cell)),
  onPointer: (cell) => crosshair.enter(cell),
  onCrosshair: (cell, time) => crosshair.moved(cell, time),
  onDrop: (id) => toggleStudy(id, false),
};

/** The address comes first, then what is remembered, then the usual. */
function begun() {
  const asked = readAddress(location.search);
  const kept = remembered("multi", {});
  const pick = (key) => asked[key] ?? kept[key] ?? USUAL[key];
  const named = asked.cells ? [...asked.cells, ...(kept.cells ?? []).slice(asked.cells.length)] : pick("cells");
  const layout = pick("layout");
  return {
    layout: LAYOUTS.includes(layout) ? layout : USUAL.layout,
    cells: named.filter((cell) => typeof cell?.name === "string"),
    links: new Set(pick("links").filter((one) => LINKS.includes(one))),
    studies: knownStudies(pick("studies")),
  };
}

/** `quietly`: nobody asked for it, so what the page says of the failure stays until there is something better. */
async function load({ quietly = false } = {}) {
  again.stop();
  if (!quietly) {
    notice.hide();
    root.dataset.multiState = "loading";
  }
  grid.dataset.layout = String(state.layout);
  const bones = [...grid.children];
  if (cells.length === 0) grid.replaceChildren(...Array.from({ length: state.layout }, () => bones[0].cloneNode(true)));
  showBar(state);
  asking?.abort();
  const own = (asking = new AbortController());
  try {
    const { exchanges } = await getSymbols({ signal: own.signal });
    const all = exchanges.flatMap(({ exchange, title, symbols }) => symbols.map((one) => ({ ...one, exchange, title })));
    instruments = new Map(all.map((one) => [nameOf(one), one]));
  } catch (error) {
    if (own.signal.aborted) return;
    const text = again.failed(error).phase === "off" ? error.message : `${error.message.replace(/\.?$/, ".")} This page asks again by itself.`;
    say("error", { title: "The list of instruments could not be loaded", text, retry: load });
    return;
  }
  again.done();
  if (instruments.size === 0) {
    say("empty", { title: "The watchlist is empty", text: "Add an instrument: python -m app instruments add binance BTC/USDT. Then try again.", retry: load });
    return;
  }
  state.cells = filled(state.cells, [...instruments.values()]);
  notice.hide();
  root.dataset.multiState = "ready";
  grid.hidden = false;
  build();
}

function say(what, words) {
  root.dataset.multiState = what;
  grid.hidden = true;
  notice.show(words);
}

/** The cells of the layout; those that are there already stay as they are. */
function build() {
  for (const cell of cells.splice(state.layout)) remove(cell);
  if (cells.length === 0) grid.replaceChildren();
  grid.dataset.layout = String(state.layout);
  grid.setAttribute("aria-busy", "false");
  while (cells.length < state.layout) {
    const cell = make(cells.length);
    cells.push(cell);
    grid.append(cell.element);
    cell.start();
  }
  focusOn(Math.min(focus, cells.length - 1));
  showBar(state);
  showChecked(state.studies);
  remembering();
}

function make(index) {
  const { name, timeframe, note } = state.cells[index];
  const instrument = instruments.get(name) ?? instruments.get(name.toUpperCase().replace(/^[^:]*/, (exchange) => exchange.toLowerCase()));
  const options = { name, timeframe, note, hooks };
  return instrument ? new ChartCell({ ...options, instrument, studies: state.studies, rate }) : new UnknownCell(options);
}

function remove(cell) {
  cell.element.remove();
  cell.close();
}

function remembering() {
  const plain = state.cells.map(({ name, timeframe }) => ({ name, timeframe }));
  const { layout, studies } = state;
  history.replaceState(null, "", writeAddress({ ...state, cells: plain }));
  remember("multi", { layout, studies, links: [...state.links], cells: plain });
}

function focusOn(index) {
  focus = index;
  for (const [at, cell] of cells.entries()) cell.focused(at === index);
  switcher.instrument = cells[index].instrument;
}

function setLayout(layout) {
  if (cells.length === 0 || layout === state.layout) return;
  state.layout = layout;
  build();
}

function setLink(name, on) {
  if (on) state.links.add(name);
  else state.links.delete(name);
  if (name === "crosshair") crosshair.set(on);
  if (name === "symbol" && on && cells[focus]?.instrument) choose(cells[focus].instrument);
  showBar(state);
  remembering();
}

/** Another instrument for the focused place, or for all of them; each keeps its timeframe. */
function choose(instrument) {
  const places = state.links.has("symbol") ? [...state.cells.keys()] : [focus];
  for (const index of places) {
    if (state.cells[index].name === nameOf(instrument)) continue;
    state.cells[index] = { name: nameOf(instrument), timeframe: state.cells[index].timeframe };
    if (index < cells.length) replace(index);
  }
  focusOn(focus);
  remembering();
}

function replace(index) {
  const [before, after] = [cells[index], make(index)];
  cells[index] = after;
  before.element.replaceWith(after.element);
  before.close();
  after.start();
}

function switchTimeframe(cell, value) {
  const own = state.cells[cells.indexOf(cell)];
  own.timeframe = value;
  cell.switchTimeframe(value);
  remembering();
}

function toggleStudy(id, on) {
  state.studies = knownStudies(on ? [...state.studies, id] : state.studies.filter((one) => one !== id));
  for (const cell of cells) cell.setStudies(state.studies);
  showChecked(state.studies);
  remembering();
}

function setRate(value) {
  rate = value;
  for (const cell of cells) cell.repaints(value);
}

function restyle() {
  for (const cell of cells) cell.restyle();
}

/** Where the cell lies in the direction of an arrow, as the page shows them now. */
function neighbour(key) {
  const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const next = focus + { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  return next in cells ? next : focus;
}

function move(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea, [popover]")) return;
  if (event.key === "f") cells[focus]?.open();
  else if (event.shiftKey && event.key.startsWith("Arrow") && cells.length > 0) {
    focusOn(neighbour(event.key));
    cells[focus].element.scrollIntoView({ block: "nearest" });
    cells[focus].part(".plot").focus({ preventScroll: true });
  } else return;
  event.preventDefault();
  event.stopImmediatePropagation(); // the arrows mean something else to the chart
}

element("switcher").addEventListener("toggle", ({ newState }) => {
  if (newState === "open") place(element("switcher"), cells[focus].searchButton);
});
element("switcher-options").addEventListener("click", (event) => {
  const option = event.target.closest("a");
  if (option === null || event.ctrlKey || event.metaKey || event.shiftKey) return; // that opens the chart page elsewhere
  const [exchange, symbol] = option.pathname.split("/").slice(2).map(decodeURIComponent);
  const instrument = instruments.get(`${exchange}:${symbol}`);
  if (instrument === undefined) return; // newer than this page: its chart page knows it
  event.preventDefault();
  element("switcher").hidePopover();
  choose(instrument);
  cells[focus].part(".plot").focus({ preventScroll: true });
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) for (const cell of cells) cell.seen();
});

addEventListener("keydown", move);
bindKeys(seriesKeys({
  chart: () => cells[focus]?.chart ?? NO_CHART,
  switchTimeframe: (value) => cells[focus] && switchTimeframe(cells[focus], value),
}));
bindThemeButton();
onTheme(restyle);
load();
