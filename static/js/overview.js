// The overview: the watchlist by exchange, live, with sort and filter in the address.
import { getOverview } from "./api.js";
import { Calm } from "./calm.js";
import { Connection } from "./connection.js";
import { zoneName } from "./format.js";
import { Live } from "./live.js";
import { Notice } from "./notice.js";
import { OverviewGroup, titleOf } from "./overview-group.js";
import { OverviewRow } from "./overview-row.js";
import { bindThemeButton } from "./theme.js";
import { VirtualRows, bindRowKeys } from "./virtual-rows.js";

const REFRESH_MS = 60_000;
const root = document.documentElement;
const element = (id) => document.getElementById(id);
const table = element("watchlist");
const filter = element("filter");
const notice = new Notice(element("notice"));
const connection = new Connection(element("connection"));
const asked = new URLSearchParams(location.search);
const rows = new Map();
const sight = new VirtualRows(table, { columns: 7 });
const groups = new Map(); // exchange → its head
let states = {}; // of the feeds, by exchange
const VALUES = {
  symbol: ({ symbol }) => symbol,
  price: ({ price }) => price,
  change: ({ change_24h: change }) => change,
  volume: ({ volume_24h: volume }) => volume,
  time: ({ time }) => time,
};
const calm = new Calm({ table, button: element("again"), stale, arrange });
let live = null;

async function load() {
  notice.hide();
  root.dataset.overviewState = rows.size > 0 ? "ready" : "loading";
  try {
    show(await getOverview());
  } catch (error) {
    if (rows.size > 0) return; // what stands here stays; the dot tells of the connection
    table.querySelector("[data-skeleton]")?.setAttribute("hidden", "");
    table.hidden = true;
    root.dataset.overviewState = "error";
    notice.show({ title: "The overview could not be loaded", text: error.message, retry: load });
  }
}

function show({ instruments, feeds: told }) {
  OverviewRow.newest = Math.max(OverviewRow.newest, ...instruments.map(({ time }) => time ?? 0));
  const keys = new Set();
  let added = false;
  for (const instrument of instruments) {
    const key = `${instrument.exchange}:${instrument.symbol}`;
    keys.add(key);
    if (rows.has(key)) rows.get(key).set(instrument);
    else {
      rows.set(key, new OverviewRow(instrument));
      added = true;
    }
  }
  const changed = added || rows.size !== keys.size || sight.items.length === 0;
  for (const key of [...rows.keys()].filter((one) => !keys.has(one))) rows.delete(key);
  if (told) feeds(told);
  table.querySelector("[data-skeleton]")?.remove();
  table.setAttribute("aria-busy", "false");
  element("zone").textContent = `(${zoneName(OverviewRow.newest || 0)})`;
  if (changed) arrange();
  else calm.look();
}

/** Puts the rows in order: for the user at once, else when `calm` finds nobody reading. */
function arrange() {
  const shown = visible();
  table.hidden = shown.length === 0; // before the rows: what is hidden has no height
  sight.show(grouped(shown).map(([exchange, items]) => ({ key: exchange, head: headOf(exchange), items })));
  element("count").textContent = rows.size === 0 ? "" : shown.length === rows.size ? `${rows.size} instruments` : `${shown.length} of ${rows.size} instruments`;
  empty(shown.length);
  for (const head of table.querySelectorAll("[data-sort]")) {
    const own = head.dataset.sort === asked.get("sort");
    head.setAttribute("aria-sort", own ? (asked.get("dir") === "desc" ? "descending" : "ascending") : "none");
  }
}

function visible() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = ({ data }) => words.every((word) => `${data.symbol} ${data.symbol.replace("/", "")} ${titleOf(data)} ${data.exchange}`.toLowerCase().includes(word));
  const value = VALUES[asked.get("sort")];
  const found = [...rows.values()].filter(matches);
  if (!value) return found;
  const sign = asked.get("dir") === "desc" ? -1 : 1;
  const known = (row) => value(row.data) ?? null;
  return found.sort((a, b) => {
    const [left, right] = [known(a), known(b)];
    if (left === null || right === null) return (left === null) - (right === null); // the unknown stand last
    return sign * (typeof left === "string" ? left.localeCompare(right) : left - right);
  });
}

/** The rows by exchange; the exchanges stand as the server has them, however the rows are sorted. */
function grouped(shown) {
  const found = Map.groupBy(shown, (row) => row.data.exchange);
  const all = new Set([...rows.values()].map(({ data }) => data.exchange));
  return [...all].filter((exchange) => found.has(exchange)).map((exchange) => [exchange, found.get(exchange)]);
}

/** Whether prices have moved so far that the rows would stand in another order. */
function stale() {
  if (!VALUES[asked.get("sort")] || rows.size === 0) return false;
  const wanted = grouped(visible()).flatMap(([, items]) => items);
  return wanted.some((row, place) => row !== sight.items[place]);
}

function headOf(exchange) {
  if (!groups.has(exchange)) groups.set(exchange, new OverviewGroup(exchange));
  const head = groups.get(exchange);
  if (states[exchange]) head.show(states[exchange]);
  return head.element;
}

function empty(count) {
  root.dataset.overviewState = count === 0 ? "empty" : "ready";
  if (count > 0) notice.hide();
  else if (rows.size > 0) notice.show({ title: "No instrument matches", text: `Nothing here is called “${filter.value}”.` });
  else notice.show({ title: "The watchlist is empty", text: "Add an instrument: python -m app instruments add binance BTC/USDT. It appears here by itself." });
}

function remembering() {
  if (filter.value) asked.set("q", filter.value);
  else asked.delete("q");
  const query = asked.toString();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
}

function sortBy(key) {
  calm.offer(false);
  const downFirst = key !== "symbol";
  const again = asked.get("sort") === key;
  const down = asked.get("dir") === "desc";
  if (again && down !== downFirst) {
    asked.delete("sort");
    asked.delete("dir");
  } else {
    asked.set("sort", key);
    asked.set("dir", again !== downFirst ? "desc" : "asc");
  }
  remembering();
  arrange();
}

function said(message) {
  const { type, data } = Array.isArray(message) ? { type: "update", data: message } : message;
  if (type === "initial") show(data);
  else if (type === "update") for (const quote of data) tick(quote);
  else if (type === "status") feeds(data);
  else if (type === "quotes") for (const quote of data) rows.get(`${quote.exchange}:${quote.symbol}`)?.quote(quote);
}

/** The feeds' states with the hours of their markets, by exchange. */
function feeds(told) {
  states = told;
  for (const [exchange, state] of Object.entries(states)) groups.get(exchange)?.show(state);
  for (const row of rows.values()) if (states[row.data.exchange]) row.feed(states[row.data.exchange]);
}

function tick(quote) {
  OverviewRow.newest = Math.max(OverviewRow.newest, quote.time);
  rows.get(`${quote.exchange}:${quote.symbol}`)?.tick(quote);
  root.dataset.liveTime = String(quote.time);
}

function connect() {
  live = new Live({ address: () => "/ws/overview", onMessage: said, onState: (link) => connection.link(link) });
}

bindThemeButton();
filter.value = asked.get("q") ?? "";
filter.addEventListener("input", () => {
  remembering();
  arrange();
});
for (const head of table.querySelectorAll("[data-sort]")) {
  head.querySelector("button").addEventListener("click", () => sortBy(head.dataset.sort));
}
bindRowKeys(sight, { filter });
connection.feed({ feed: "connected" }); // this page's dot speaks of its own connection; each row of its feed
load();
connect();
addEventListener("pagehide", () => live.close());
addEventListener("pageshow", ({ persisted }) => {
  if (!persisted) return;
  load(); // the browser kept the page as it was and brings it back: its prices are old
  connect();
});
setInterval(() => {
  if (!document.hidden) load();
}, REFRESH_MS);
