// The page for when nobody answers: it asks again with backoff, and gives way to the page that was wanted.
const FIRST_MS = 1000;
const LONGEST_MS = 15_000;
const TIMEOUT_MS = 5000;
const GATEWAY = [502, 504];
const words = document.getElementById("waiting");
const button = document.getElementById("again");
let attempt = 0;
let timer = 0;
let due = 0;

async function ask() {
  clearTimeout(timer);
  words.textContent = "Asking the server…";
  try {
    // Whatever it answers, it is there again: what that means is for the page to say.
    const response = await fetch("/api/health/live", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!GATEWAY.includes(response.status)) {
      if (location.pathname === "/offline") location.replace("/");
      else location.reload();
      return;
    }
  } catch {
    // Still away: asked again below.
  }
  due = Date.now() + Math.min(LONGEST_MS, FIRST_MS * 1.6 ** attempt);
  attempt += 1;
  count();
}

function count() {
  const left = Math.ceil((due - Date.now()) / 1000);
  if (left <= 0) {
    ask();
    return;
  }
  words.textContent = navigator.onLine ? `Asking again in ${left} s` : `This device has no network. Asking again in ${left} s`;
  timer = setTimeout(count, 250);
}

function now() {
  attempt = 0;
  ask();
}

document.documentElement.dataset.page = "offline";
button.addEventListener("click", now);
addEventListener("online", now);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) now();
});
ask();
