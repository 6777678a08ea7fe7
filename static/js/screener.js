// The screener: all instruments by their newest bar and indicators, asked anew every two seconds, its screen in the address.
import { ApiError, getScreen } from "./api.js";
import { Calm } from "./calm.js";
import { Connection } from "./connection.js";
import { Notice } from "./notice.js";
import { ScreenBuilder } from "./screen-builder.js";
import { saveCsv } from "./screen-csv.js";
import { ScreenQuery, USUAL_ORDER } from "./screen-query.js";
import { ScreenRow, columnsOf } from "./screen-row.js";
import { bindThemeButton } from "./theme.js";
import { VirtualRows, bindRowKeys } from "./virtual-rows.js";

const EVERY_MS = 2_000;
const AGAIN_MS = 4_000;
const MARKED_MS = 6_000; // how long a row that came or went is marked
const LIMIT = 1_000;
const root = document.documentElement;
const element = (id) => document.getElementById(id);
const table = element("screen");
const choices = JSON.parse(element("choices").textContent);
const known = new Map(choices.fields.map((field) => [field.name, field]));
const query = new ScreenQuery(location.search);
const notice = new Notice(element("notice"));
const connection = new Connection(element("connection"));
const sight = new VirtualRows(table, { columns: 1 });
const calm = new Calm({ table, button: element("again"), stale, arrange });
const builder = new ScreenBuilder({ chips: element("presets"), conditions: element("conditions"), choices, query, changed });
let rows = new Map();
let answer = null;
let asking = null;
let timer = 0;
let fresh = true; // the next answer is to another question: no row is marked for it

function changed() {
  fresh = true;
  history.replaceState(null, "", `?${query.text}`);
  controls();
  ask();
}

function controls() {
  for (const button of element("timeframes").children) button.setAttribute("aria-pressed", String(button.dataset.timeframe === query.timeframe));
  element("exchange").value = query.exchange;
}

async function ask() {
  clearTimeout(timer);
  asking?.abort();
  const own = (asking = new AbortController());
  table.setAttribute("aria-busy", String(fresh));
  try {
    const told = await getScreen(`${query.text}&limit=${LIMIT}`, { signal: own.signal });
    connection.link({ phase: "connected" });
    show(told);
    timer = setTimeout(next, EVERY_MS);
  } catch (error) {
    if (own.signal.aborted) return;
    failed(error);
  }
}

function next() {
  if (!document.hidden) ask();
}

function failed(error) {
  if (error instanceof ApiError && error.status === 400) {
    connection.link({ phase: "connected" });
    return refuse({ title: "This screen cannot be read", text: error.message, again: "Clear the screen", retry: clear });
  }
  timer = setTimeout(next, AGAIN_MS);
  connection.link({ phase: "reconnecting", retryAt: performance.now() + AGAIN_MS });
  if (answer === null || fresh) refuse({ title: "The screen could not be loaded", text: error.message, again: "Try again", retry: ask });
}

/** Says in place of the table what is wrong. */
function refuse({ title, text, again, retry }) {
  table.hidden = true;
  element("count").textContent = "";
  root.dataset.screenState = "error";
  notice.button.textContent = again;
  notice.show({ title, text, retry });
}

function clear() {
  Object.assign(query, { where: [], sort: USUAL_ORDER, exchange: "", timeframe: "1h" });
  builder.show();
  changed();
}

function show(told) {
  answer = told;
  ScreenRow.newest = Math.max(0, ...told.instruments.map(({ time }) => time ?? 0));
  table.querySelector("[data-skeleton]")?.remove();
  table.setAttribute("aria-busy", "false");
  const before = rows;
  rows = new Map(told.instruments.map((data) => [`${data.exchange}:${data.symbol}`, data]));
  const columns = columnsOf(told.fields, known);
  if (fresh || columns.map(({ key }) => key).join() !== ScreenRow.columns.map(({ key }) => key).join()) {
    ScreenRow.columns = columns;
    ScreenRow.timeframe = told.timeframe;
    head();
    for (const row of before.values()) row.unmount();
    rows = new Map([...rows].map(([key, data]) => [key, new ScreenRow(data)]));
    fresh = false;
    arrange();
  } else follow(before);
  element("count").textContent = told.of === 0 ? "" : `${told.total} of ${told.of} fit`;
  element("csv").disabled = told.instruments.length === 0;
  element("zone-note").textContent = told.total > told.instruments.length ? `The first ${told.instruments.length} are shown.` : "";
}

/** The same screen again: values change in place, who comes stands last and marked, who goes stays dimmed for a while. */
function follow(before) {
  const places = sight.items.slice();
  const wanted = rows;
  rows = new Map();
  for (const [key, data] of wanted) {
    const row = before.get(key);
    if (row) {
      row.set(data);
      if (row.mark === "gone") row.marked("");
      rows.set(key, row);
    } else {
      const added = new ScreenRow(data);
      mark(added, "new");
      rows.set(key, added);
      places.push(added);
    }
  }
  for (const [key, row] of before) {
    if (rows.has(key)) continue;
    if (row.mark !== "gone") mark(row, "gone");
    rows.set(key, row); // until its time is over
  }
  if (places.length !== sight.items.length) place(places);
  else state();
}

function mark(row, kind) {
  row.marked(kind);
  setTimeout(() => {
    if (row.mark !== kind) return;
    row.marked("");
    if (kind !== "gone") return;
    for (const [key, one] of rows) if (one === row) rows.delete(key);
    place(sight.items.filter((one) => one !== row));
  }, MARKED_MS);
}

/** The order of the last answer; rows that are gone keep standing where they were as long as they are marked. */
function inOrder() {
  const fits = answer.instruments.map(({ exchange, symbol }) => rows.get(`${exchange}:${symbol}`)).filter(Boolean);
  return [...fits, ...[...rows.values()].filter((row) => !fits.includes(row))];
}

function stale() {
  if (answer === null || sight.items.length === 0) return false;
  const standing = sight.items.filter(({ mark: one }) => one !== "gone");
  const wanted = inOrder().filter(({ mark: one }) => one !== "gone");
  return wanted.some((row, index) => row !== standing[index]);
}

function arrange() {
  if (answer !== null) place(inOrder());
}

function place(items) {
  table.hidden = items.length === 0;
  sight.show(items.length === 0 ? [] : [{ key: "screen", head: null, items }]);
  state();
}

function state() {
  const none = sight.items.length === 0;
  root.dataset.screenState = none ? "empty" : "ready";
  if (!none) return notice.hide();
  notice.button.textContent = "Clear the screen";
  if (answer.of === 0) notice.show({ title: "There is nothing to screen", text: query.exchange ? "No instrument of this exchange is collected." : "The watchlist is empty. Add an instrument: python -m app instruments add binance BTC/USDT." });
  else notice.show({ title: "No instrument fits", text: `None of ${answer.of} meets ${query.where.length === 1 ? "the condition" : "all conditions"}. Loosen a number, take one away, or try another timeframe.`, retry: clear });
}

function head() {
  const line = table.tHead.rows[0];
  const sorted = query.sort.replace(/^-/, "");
  line.replaceChildren(
    ...ScreenRow.columns.map(({ key, label, kind, unit }) => {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.className = kind;
      const words = unit === "percent" ? `${label}, %` : label; // units stand in heads
      if (["symbol", "time", "state"].includes(key)) {
        const text = document.createElement("span");
        text.textContent = words;
        cell.append(text);
        return cell;
      }
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = words;
      button.title = `Sort by ${words}`;
      button.addEventListener("click", () => sortBy(key));
      cell.dataset.sort = key;
      cell.setAttribute("aria-sort", key !== sorted ? "none" : query.sort.startsWith("-") ? "descending" : "ascending");
      cell.append(button);
      return cell;
    }),
  );
  sight.columns = ScreenRow.columns.length;
}

function sortBy(key) {
  query.sort = query.sort === `-${key}` ? key : `-${key}`;
  calm.offer(false);
  changed();
  table.tHead.querySelector(`[data-sort="${CSS.escape(key)}"] button`)?.focus();
}

bindThemeButton();
controls();
connection.feed({ feed: "connected" }); // the dot speaks of this page's own connection; each row of its feed
for (const button of element("timeframes").children) {
  button.addEventListener("click", () => {
    query.timeframe = button.dataset.timeframe;
    changed();
  });
}
element("exchange").addEventListener("change", ({ target }) => {
  query.exchange = target.value;
  changed();
});
element("csv").addEventListener("click", () => saveCsv(answer));
document.addEventListener("visibilitychange", next);
addEventListener("online", next);
bindRowKeys(sight, { filter: null });
root.dataset.screenState = "loading";
ask();
