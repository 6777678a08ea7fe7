// Error pages: the theme's switch; a page of a passing trouble tries itself again, and says what works meanwhile.
import { bindThemeButton } from "./theme.js";

const FIRST_MS = 2000;
const LONGEST_MS = 20_000;
const TIMEOUT_MS = 8000;
const content = document.getElementById("content");
const waiting = document.getElementById("waiting");
const parts = document.getElementById("parts");
let attempt = 0;
let due = 0;
let timer = 0;

bindThemeButton();
if (waiting) {
  document.getElementById("again").addEventListener("click", now);
  plan(Number(content.dataset.retryAfter) * 1000 || FIRST_MS);
  if (parts) tell();
}

function now() {
  attempt = 0;
  ask();
}

function plan(delay) {
  due = Date.now() + delay;
  count();
}

function count() {
  clearTimeout(timer);
  const left = Math.ceil((due - Date.now()) / 1000);
  if (left <= 0) {
    ask();
    return;
  }
  waiting.textContent = `Trying again in ${left} s`;
  timer = setTimeout(count, 250);
}

async function ask() {
  clearTimeout(timer);
  waiting.textContent = "Trying again…";
  try {
    const { status } = await fetch(location.href, { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (status < 500 && status !== 429) {
      location.reload();
      return;
    }
  } catch {
    // No answer is an answer too: asked again below.
  }
  attempt += 1;
  if (parts) tell();
  plan(Math.min(LONGEST_MS, FIRST_MS * 1.6 ** attempt));
}

/** What works and what does not, in the words of /api/health. */
async function tell() {
  try {
    const response = await fetch("/api/health", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    const { database, redis } = await response.json();
    show("web", true, "Pages are served.");
    show("database", database.ok, database.ok ? "Charts and lists can be read." : "Charts and lists wait for it.");
    show("redis", redis.ok, redis.ok ? "Trades are collected, and wait for the database." : "Nothing is live meanwhile.");
    parts.hidden = false;
  } catch {
    parts.hidden = true; // nothing is known: nothing is claimed
  }
}

function show(name, ok, words) {
  const row = parts.querySelector(`[data-part="${name}"]`);
  row.querySelector(".state").dataset.state = ok ? "connected" : "down";
  row.querySelector(".effect").textContent = words;
}
