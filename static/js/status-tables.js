// The tables of the status page: what stands in which column.
import { moment, NOTHING } from "./format.js";
import { feedWords, marketWords } from "./hours.js";
import { StatusTable } from "./status-table.js";
import { bytes, range, share, span, whole } from "./status-words.js";

const PROCESS = { ready: "connected", heard: "connected", silent: "down", "given up": "down" };
const name = (text, title) => ({ kind: "name", text, title });
const number = (text, title) => ({ kind: "number", text, title });

function table(id, columns, key, empty) {
  return new StatusTable(document.getElementById(id), { columns, key, empty });
}

export function makeTables() {
  let now = 0; // wall time of the look, for ages
  const since = (ms) => (Number.isFinite(ms) ? span((now - ms) / 1000) : NOTHING);
  const holes = table("holes", [
    name(({ symbol }) => symbol, ({ exchange }) => exchange),
    { kind: "range", text: ({ start, end }) => range(start, end) },
    { kind: "words", text: ({ reason }) => reason },
    number(({ found }) => since(found), ({ found }) => `found ${moment(found)}`),
    number(({ attempts }) => whole(attempts)),
    number(({ next_try: next }) => (next > now ? `in ${span((next - now) / 1000)}` : "now"), ({ tried }) => (tried ? `last tried ${moment(tried)}` : "")),
    { kind: "words", text: ({ error }) => error ?? NOTHING, title: ({ error }) => error ?? "" },
  ], ({ id }) => id, "Nothing is missing.");
  const processes = table("processes", [
    name((one) => one.name),
    { kind: "words", text: ({ state }) => state, dot: ({ state }) => PROCESS[state] ?? "reconnecting", title: ({ facts }) => factWords(facts) },
    number(({ pid }) => (pid === null ? NOTHING : String(pid))),
    number(({ restarts }) => whole(restarts ?? NaN)),
    number(({ heard_s: heard }) => (heard === null ? NOTHING : `${span(heard)} ago`)),
  ], (one) => one.name, "No process was heard of: is the platform running?");
  const feeds = table("feeds", [
    name(({ title }) => title),
    { kind: "words", text: (feed) => feedWords(feed)[1], dot: (feed) => feedWords(feed)[0], title: (feed) => feed.error ?? "" },
    { kind: "words", text: hours, title: hours },
  ], ({ exchange }) => exchange, "No feed is known.");
  const verification = table("verification", [
    name(({ exchange }) => exchange),
    number(({ closed }) => whole(closed)),
    number(({ verified }) => whole(verified)),
    number((row) => share(row.share ?? NaN)),
    number(({ differences }) => whole(differences)),
  ], ({ exchange }) => exchange, "No bar was closed yet.");
  const queues = table("queues", [
    name(({ queue }) => queue), number(({ waiting }) => whole(waiting)),
  ], ({ queue }) => queue, "The queues cannot be read.");
  const stores = table("stores", [
    name((one) => one.name, ({ version }) => version),
    { kind: "words", text: ({ ok }) => (ok ? "answers" : "away"), dot: ({ ok }) => (ok ? "connected" : "down") },
    number(({ ms }) => (ms === null ? NOTHING : `${ms.toFixed(1)} ms`)),
    number((one) => bytes(one.bytes ?? NaN)),
    number(({ connections }) => whole(connections ?? NaN)),
  ], (one) => one.name, "");
  const counters = table("counters", [
    name(({ reason }) => reason), number(({ count }) => whole(count)),
    { kind: "words", text: ({ meaning }) => meaning, title: ({ meaning }) => meaning },
  ], ({ reason }) => reason, "Nothing was counted yet.");
  const aside = (id, text) => {
    const element = document.getElementById(`${id}-aside`);
    if (element.textContent !== text) element.textContent = text;
  };
  return (status) => {
    now = status.at;
    const { database, redis } = status;
    const unread = "The database cannot be read.";
    const unheard = "Redis cannot be read.";
    holes.show(status.holes.newest, database.ok ? "Nothing is missing." : unread);
    aside("holes", database.ok && status.holes.open > 0 ? `${whole(status.holes.open)} open${status.holes.late ? `, ${whole(status.holes.late)} for over 5 min` : ""}` : "");
    processes.show(status.processes, redis.ok ? "No process was heard of: is the platform running?" : unheard);
    feeds.show(status.feeds, redis.ok ? "No feed is known." : unheard);
    verification.show(status.verification, database.ok ? "No bar was closed yet." : unread);
    const extra = status.parked === null ? [] : [{ queue: "taken, not done", waiting: status.taken }, { queue: "parked", waiting: status.parked }];
    queues.show([...status.queues, ...extra], redis.ok ? "No queue is known." : unheard);
    const timescale = database.timescaledb ? `, TimescaleDB ${database.timescaledb}` : "";
    stores.show([
      { ...database, name: "PostgreSQL", version: database.server ? `${database.server}${timescale}` : "" },
      { ...redis, name: "Redis", version: "", connections: null },
    ]);
    counters.show(status.counters, redis.ok ? "Nothing was counted yet." : unheard);
  };
}

const hours = ({ markets }) => Object.values(markets).map(marketWords).filter(Boolean).join("; ") || NOTHING;

function factWords(facts) {
  const told = Object.entries(facts).filter(([key, value]) => !["exchange", "feed", "since", "at"].includes(key) && typeof value !== "object");
  return told.map(([key, value]) => `${key} ${value}`).join(", ");
}
