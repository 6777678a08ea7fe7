// The status page: one answer of the API each second or two, drawn in place; what is old is marked with its age.
import { getStatus } from "./api.js";
import { clock, put, zoneName } from "./format.js";
import { Notice } from "./notice.js";
import { Backfills } from "./status-backfills.js";
import { showLanes, showSaid, showSummary } from "./status-lanes.js";
import { Poll } from "./status-poll.js";
import { makeTables } from "./status-tables.js";
import { span } from "./status-words.js";
import { bindThemeButton } from "./theme.js";

const CALM_MS = 2000;
const BUSY_MS = 1000; // while a backfill is at work
const STALE_S = 7; // an answer this old is no news any more
const root = document.documentElement;
const element = (id) => document.getElementById(id);
const main = element("content");
const notice = new Notice(element("notice"));
const freshness = element("freshness");
const backfills = new Backfills({ onChange: () => poll.now() });
const showTables = makeTables();
let failed = null; // the newest error, until an answer comes

const poll = new Poll({
  ask: () => getStatus(),
  every: () => (backfills.atWork ? BUSY_MS : CALM_MS),
  onAnswer: show,
  onError: (error) => {
    failed = error;
    tellAge();
  },
});

function show(status) {
  failed = null;
  notice.hide();
  main.setAttribute("aria-busy", "false");
  root.dataset.statusState = "ready";
  root.dataset.statusAt = String(status.at);
  showSummary(element("summary"), status.summary);
  showLanes(element("lanes"), status.stages);
  showSaid(element("troubles"), status.troubles.length > 1 ? status.troubles.slice(1) : []);
  showSaid(element("notes"), status.notes);
  showTables(status);
  backfills.show(status.backfills, { now: status.now, readable: status.database.ok });
  const flower = element("flower");
  flower.hidden = status.links.flower === null;
  if (status.links.flower) flower.href = status.links.flower;
  put(element("as-of"), `${clock(status.at)} ${zoneName(status.at)}`);
  tellAge();
}

/** The dot: live, or how old what stands here is; before the first answer an error takes the page's place. */
function tellAge() {
  if (document.hidden) return;
  const { age } = poll;
  if (age === null && failed !== null) {
    root.dataset.statusState = "error";
    main.dataset.empty = "true";
    notice.show({ title: "The status could not be loaded", text: failed.message, retry: () => poll.now() });
    dot("down", "not connected");
    return;
  }
  if (age === null) return;
  delete main.dataset.empty;
  const stale = age > STALE_S;
  main.dataset.stale = String(stale);
  if (!stale) return dot("connected", "live");
  root.dataset.statusState = "stale";
  dot("down", `${span(age)} old`);
  showSummary(element("summary"), {
    level: "stale",
    // Not the age, which the dot tells: this line is read out whenever it changes.
    words: `What you see is old: ${failed?.message ?? "no answer came since."}`,
    remedy: "Is the web process up? This page asks again by itself.",
  });
}

function dot(state, words) {
  freshness.dataset.state = state;
  put(freshness.querySelector(".words"), words);
}

bindThemeButton();
poll.now();
setInterval(tellAge, 1000);
