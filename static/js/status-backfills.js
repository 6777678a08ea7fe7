// Backfills on the status page: their progress, an end to one, and the form that asks for one.
import { getBackfills, getSymbols } from "./api.js";
import { StatusTable } from "./status-table.js";
import { left, range, whole } from "./status-words.js";
import { NOTHING, put } from "./format.js";
import { write } from "./writes.js";

const DOTS = { running: "connected", waiting: "none", done: "none", failed: "down", cancelled: "closed" };
const DAY_MS = 86_400_000;
const LATEST = 8; // of those that are over
const LATEST_MS = 15_000;
const over = ({ state }) => state !== "waiting" && state !== "running";
const element = (id) => document.getElementById(id);

export class Backfills {
  #latest = [];
  #open = [];
  #read = -LATEST_MS;
  #ending = new Set();

  constructor({ onChange }) {
    this.onChange = onChange;
    this.said = element("ask-said");
    this.keep = element("ask-keep");
    this.form = element("ask");
    this.table = new StatusTable(element("backfills"), {
      columns: [
        { kind: "name", text: ({ symbol, timeframe }) => `${symbol} ${timeframe}`, title: ({ exchange, id }) => `${exchange}, backfill ${id}` },
        { kind: "range", text: ({ start, end }) => range(start, end) },
        { kind: "progress", build: progress },
        { kind: "number", text: ({ bars }) => whole(bars) },
        { kind: "number", text: ({ rate }) => whole(rate ?? NaN) },
        { kind: "number", text: timeLeft },
        { kind: "words", text: words, dot, title: words },
        { kind: "action", build: (cell, key) => this.#cancelButton(cell, key) },
      ],
      key: ({ id }) => id,
      empty: "No backfill was asked for yet.",
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask(false);
    });
    this.keep.addEventListener("click", () => this.#ask(true));
    getSymbols().then(({ exchanges }) => this.#suggest(exchanges), () => {}); // without it one types the symbol
  }

  get atWork() {
    return this.#open.length > 0;
  }

  /** The part `backfills` of /api/status; `readable` says whether the database answered. */
  show({ at_work: open, open: count, running }, { now, readable }) {
    const ended = this.#open.some(({ id }) => !open.some((one) => one.id === id));
    this.#open = open.toSorted((one, other) => other.id - one.id); // not by state: they take turns, and would jump
    const start = element("ask-start");
    if (!start.value && Number.isFinite(now)) start.value = new Date(now - 7 * DAY_MS).toISOString().slice(0, 10);
    put(element("backfills-aside"), count > 0 ? `${whole(running)} at work, ${whole(count - running)} waiting` : "");
    this.#draw(readable ? "No backfill was asked for yet." : "The database cannot be read.");
    if (readable && (ended || performance.now() - this.#read > LATEST_MS)) this.#readLatest();
  }

  async #readLatest() {
    this.#read = performance.now();
    try {
      this.#latest = (await getBackfills({ limit: 30 })).backfills.filter(over).slice(0, LATEST);
      this.#draw();
    } catch {
      // The next look asks again; the page says already that something is away.
    }
  }

  #draw(empty) {
    const open = new Set(this.#open.map(({ id }) => id));
    this.table.show([...this.#open, ...this.#latest.filter(({ id }) => !open.has(id))], empty);
  }

  #suggest(exchanges) {
    const options = exchanges.flatMap(({ title, symbols }) => symbols.map(({ symbol }) => new Option(title, symbol)));
    element("known-symbols").replaceChildren(new Option("the whole watchlist", "all"), ...options);
  }

  async #ask(keep) {
    const asked = new FormData(this.form);
    const names = asked.get("symbols").split(",").map((name) => name.trim()).filter(Boolean);
    const whose = names.length === 1 && names[0].toLowerCase() === "all" ? { all: true } : { symbols: names.map(named) };
    this.#say("Asking …");
    const buttons = this.form.querySelectorAll("button");
    for (const button of buttons) button.disabled = true;
    try {
      const body = { ...whose, timeframe: asked.get("timeframe"), start: asked.get("start"), ...(keep ? { keep } : {}) };
      const { backfills, note } = await write("POST", "/api/backfills", body);
      const one = backfills.length === 1 ? `Backfill ${backfills[0].id} is queued.` : `${backfills.length} backfills are queued.`;
      this.#say(note ? `${one} Note: ${note}.` : one);
      element("ask-symbols").value = "";
      this.onChange();
    } catch (error) {
      this.#say(error.message, { bad: true, keep: error.code === "not_kept" });
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  }

  #say(text, { bad = false, keep = false } = {}) {
    this.said.value = text;
    this.said.dataset.bad = String(bad);
    this.keep.hidden = !keep;
  }

  #cancelButton(cell, key) {
    const button = cell.appendChild(document.createElement("button"));
    button.className = "button";
    button.type = "button";
    button.textContent = "Cancel";
    button.addEventListener("click", () => this.#cancel(key, button));
    return (one) => {
      button.hidden = over(one);
      button.disabled = this.#ending.has(key);
      button.setAttribute("aria-label", `Cancel backfill ${one.id} of ${one.symbol}`);
    };
  }

  async #cancel(key, button) {
    this.#ending.add(key);
    button.disabled = true;
    try {
      const { id, bars } = await write("DELETE", `/api/backfills/${key}`);
      this.#say(`Backfill ${id} is cancelled; its ${whole(bars)} bars stay.`);
      this.#read = -LATEST_MS;
      this.onChange();
    } catch (error) {
      this.#say(error.message, { bad: true });
    } finally {
      this.#ending.delete(key);
      button.disabled = false;
    }
  }
}

/** "alpaca:AAPL" names the exchange, too. */
function named(text) {
  const [, exchange, symbol] = /^(?:(\w+):)?(.+)$/.exec(text);
  return exchange ? { exchange: exchange.toLowerCase(), symbol } : { symbol };
}

/** One that waits for its source is worth a colour; one that waits for its turn is not. */
const dot = ({ state, error }) => (state === "waiting" && error ? "reconnecting" : (DOTS[state] ?? "none"));

/** One that waits with next to nothing left would show 0:00 for as long as its source makes it wait. */
function timeLeft(one) {
  if (over(one) || one.left_s === null) return NOTHING;
  return one.state === "waiting" && one.left_s < 1 ? "waits" : left(one.left_s);
}

function words({ state, note }) {
  return note && note !== state ? (state === "done" ? note : `${state}: ${note}`) : state;
}

function progress(cell) {
  const bar = cell.appendChild(document.createElement("div"));
  bar.className = "bar";
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-valuemin", "0");
  bar.setAttribute("aria-valuemax", "100");
  const fill = bar.appendChild(document.createElement("span"));
  const text = cell.appendChild(document.createElement("span"));
  text.className = "percent";
  return (one) => {
    const percent = Math.floor(one.done * 100);
    fill.style.width = `${one.done * 100}%`;
    bar.dataset.state = one.state;
    bar.setAttribute("aria-valuenow", String(percent));
    bar.setAttribute("aria-label", `Progress of backfill ${one.id}`);
    put(text, `${percent}%`);
  };
}
