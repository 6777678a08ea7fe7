// A chart's feed as the pages have it, over a made-up server: node chart_feed.mjs SCENARIO, beside a copy of static/js.
import assert from "node:assert/strict";

const MINUTE = 60_000;
const sockets = [];
const asked = []; // ranges that were asked for over REST, in minutes
const server = { minutes: new Set(), revised: new Set(), holes: [], failing: false };

globalThis.document = Object.assign(new EventTarget(), { documentElement: { dataset: {} }, hidden: false });
globalThis.window = new EventTarget();
globalThis.location = { href: "http://127.0.0.1/", protocol: "http:" };
globalThis.sessionStorage = { getItem: () => null };
globalThis.WebSocket = class {
  static OPEN = 1;
  readyState = 1;
  constructor(url) {
    this.since = Number(new URL(url).searchParams.get("since")) / MINUTE;
    sockets.push(this);
    setTimeout(() => this.onopen());
  }
  send() {}
  close() {}
  say = (type, data) => this.onmessage({ data: JSON.stringify({ type, data }) });
};
globalThis.fetch = async (address) => {
  const query = new URL(address, location.href).searchParams;
  const [start, end] = ["start", "end"].map((name) => (query.has(name) ? Number(query.get(name)) / MINUTE : null));
  asked.push([start, end]);
  if (server.failing) return { ok: false, status: 500, json: async () => ({}) };
  return { ok: true, json: async () => chart(start ?? 0, { end: end ?? Infinity, limit: Number(query.get("limit")) }) };
};

const { ChartFeed } = await import("./feed.js");

const range = (from, until) => Array.from({ length: until - from }, (_, index) => from + index);
const gap = (from, until) => ({ start: from * MINUTE, end: until * MINUTE, reason: "the feed was down" });
const add = (...minutes) => minutes.forEach((minute) => server.minutes.add(minute));
const bar = (minute) => {
  const [close, revision] = server.revised.has(minute) ? [2, 1] : [1, 0];
  return { time: minute * MINUTE, close, state: "verified", completed: true, revision };
};

/** The newest `limit` bars of [start, end), as both REST and an `initial` have them. */
function chart(start, { end = Infinity, limit = 5000 } = {}) {
  const bars = [...server.minutes].filter((minute) => minute >= start && minute < end).sort((a, b) => a - b).slice(-limit).map(bar);
  const holes = server.holes.filter((hole) => hole.end > (bars[0]?.time ?? start * MINUTE) && hole.start < end * MINUTE);
  return { bars, indicators: bars.map(({ time }) => ({ time, rsi_14: 50 })), holes };
}

async function until(met) {
  for (const end = Date.now() + 20_000; !met(); await new Promise((resolve) => setTimeout(resolve, 2))) assert(Date.now() < end, String(met));
}

/** A chart that shows what there is, with its socket open. */
async function opened() {
  const nothing = () => {};
  const names = ["onLoading", "onLoaded", "onFailed", "onChange", "onTick", "onMarket", "onStatus", "onQuote", "onLink", "onOlder"];
  const hooks = Object.fromEntries(names.map((name) => [name, nothing]));
  const feed = new ChartFeed({ exchange: "binance", symbol: "BTC/USDT", calendar: "24/7" }, "1m", { names: [], hooks });
  feed.start();
  await connected(1);
  return feed;
}

/** The next socket is open, and its `initial` is there. */
async function connected(count) {
  await until(() => sockets.length === count);
  const socket = sockets.at(-1);
  await until(() => socket.onmessage);
  socket.say("initial", chart(socket.since));
  return socket;
}

async function reconnected(count) {
  sockets.at(-1).onclose();
  return connected(count);
}

const shown = (feed) => feed.series.bars.map(({ time }) => time / MINUTE);
const gaps = (feed) => feed.series.gaps.map(({ start, end }) => [start / MINUTE, end / MINUTE]);

const SCENARIOS = {
  async a_gap_that_was_repaired_while_the_chart_was_away() {
    add(...range(0, 10), ...range(20, 330));
    server.holes = [gap(10, 20)];
    const feed = await opened();
    assert.deepEqual(gaps(feed), [[10, 20]]);
    add(...range(10, 20), 330);
    server.holes = [];
    const socket = await reconnected(2);
    assert.equal(socket.since, 30);
    socket.say("holes", []);
    await until(() => feed.series.bars.length === 331);
    assert.deepEqual([shown(feed), gaps(feed)], [range(0, 331), []]);
  },

  async a_gap_of_which_a_part_is_left_asks_for_the_rest_and_a_growing_one_for_nothing() {
    add(...range(0, 10), ...range(20, 30));
    server.holes = [gap(10, 20)];
    const feed = await opened();
    const before = asked.length;
    sockets[0].say("holes", [gap(10, 22)]);
    sockets[0].say("holes", [gap(10, 20)]);
    await until(() => asked.length > before);
    assert.deepEqual(asked.slice(before), [[20, 23]]);
    add(...range(10, 14), ...range(16, 20));
    sockets[0].say("holes", [gap(14, 16)]);
    await until(() => feed.series.bars.length === 28);
    assert.deepEqual(gaps(feed), [[14, 16]]);
  },

  async a_gap_whose_bars_cannot_be_read_stays_until_they_are() {
    add(...range(0, 10), ...range(20, 30));
    server.holes = [gap(10, 20)];
    const feed = await opened();
    add(...range(10, 20));
    server.failing = true;
    sockets[0].say("holes", []);
    await until(() => gaps(feed).length === 1);
    server.failing = false;
    sockets[0].say("holes", []);
    await until(() => feed.series.bars.length === 30);
    assert.deepEqual(gaps(feed), []);
  },

  async more_minutes_away_than_an_initial_has() {
    add(...range(0, 100));
    const feed = await opened();
    add(...range(100, 11_000));
    await reconnected(2);
    await until(() => feed.series.bars.length === 11_000);
    assert.deepEqual(shown(feed), range(0, 11_000));
    assert.deepEqual(asked.slice(1), [[0, 6_000], [0, 1_000]]);
  },

  async a_later_initial_that_begins_behind_the_newest_bar() {
    add(...range(0, 100));
    const feed = await opened();
    add(...range(100, 3_000));
    sockets[0].say("initial", chart(0, { limit: 1000 }));
    await until(() => feed.series.bars.length === 3_000);
    assert.deepEqual(shown(feed), range(0, 3_000));
  },

  async what_cannot_be_read_begins_the_chart_anew_and_older_brings_it() {
    add(...range(0, 100));
    const feed = await opened();
    add(...range(100, 5_900));
    server.failing = true;
    await reconnected(2);
    await until(() => feed.series.first.time === 900 * MINUTE);
    assert.deepEqual(shown(feed), range(900, 5_900));
    server.failing = false;
    await feed.older();
    assert.deepEqual(shown(feed), range(0, 5_900));
  },

  async a_month_away_begins_the_chart_anew() {
    add(...range(0, 100));
    const feed = await opened();
    add(...range(100, 43_000));
    await reconnected(2);
    await until(() => feed.series.first.time > 0);
    assert.deepEqual(shown(feed), range(43_000 - 25_000, 43_000));
  },

  async a_verified_bar_that_was_revised_while_the_chart_was_away() {
    add(...range(0, 100));
    const feed = await opened();
    assert.equal(sockets[0].since, 99, "what was read just now is not sent again");
    server.revised.add(90);
    await reconnected(2);
    assert.equal(feed.series.at(90 * MINUTE).close, 2);
  },

  async bars_before_a_fresh_chart_are_read_again_once_it_is_calm() {
    add(...range(0, 2_500));
    const feed = await opened();
    await feed.older();
    const before = asked.length;
    server.revised.add(600);
    server.minutes.delete(700);
    for (let turn = 0; turn < 3; turn += 1) sockets[0].say("initial", chart(0, { limit: 1000 }));
    await until(() => feed.series.at(600 * MINUTE).close === 2);
    assert.deepEqual(shown(feed), [...range(500, 700), ...range(701, 2_500)]);
    assert.deepEqual(asked.slice(before), [[500, 1_500]]);
  },

  async a_bar_older_than_all_at_hand_comes_with_those_between() {
    add(...range(500, 600));
    const feed = await opened();
    add(...range(0, 500));
    sockets[0].say("update", { bar: bar(5), indicators: { time: 5 * MINUTE, rsi_14: 50 } });
    assert.deepEqual(shown(feed), range(500, 600));
    await feed.older();
    assert.deepEqual(shown(feed), range(0, 600));
  },

  async bars_that_came_before_all_there_was_are_scrolled_to() {
    add(...range(3_000, 3_050));
    const feed = await opened();
    add(...range(0, 3_000));
    sockets[0].say("initial", chart(0, { limit: 1000 }));
    for (let pages = 0; pages < 5; pages += 1) await feed.older();
    assert.deepEqual(shown(feed), range(0, 3_050));
  },

  async bars_that_were_taken_back() {
    add(...range(0, 10));
    const feed = await opened();
    server.minutes.delete(5);
    server.minutes.delete(9); // the newest, from which on a reconnected chart asks
    sockets[0].say("initial", chart(0, { limit: 1000 }));
    assert.deepEqual(shown(feed), [0, 1, 2, 3, 4, 6, 7, 8]);
    assert.equal(feed.series.value(5 * MINUTE, "rsi_14"), null);
    assert.equal(feed.series.at(5 * MINUTE), null);
    assert.equal(feed.series.before(6 * MINUTE).time, 4 * MINUTE);
    server.minutes.delete(8);
    await reconnected(2);
    assert.deepEqual(shown(feed), [0, 1, 2, 3, 4, 6, 7]);
    server.minutes.delete(7);
    add(10, 11);
    await reconnected(3);
    await until(() => feed.series.at(7 * MINUTE) === null);
    assert.deepEqual(shown(feed), [0, 1, 2, 3, 4, 6, 10, 11]);
    sockets.at(-1).say("update", { bar: bar(12), indicators: null });
    assert.deepEqual(shown(feed), [0, 1, 2, 3, 4, 6, 10, 11, 12]);
  },
};

await SCENARIOS[process.argv[2]]();
process.exit(0);
