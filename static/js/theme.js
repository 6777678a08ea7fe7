// The theme: its switch, and the tokens' values for what is drawn on a canvas.
import { remember } from "./store.js";

const root = document.documentElement;
const listeners = new Set();
const values = new Map(); // of the tokens read so far: reading one makes the browser settle all styles first

export function onTheme(listener) {
  listeners.add(listener);
}

function changed() {
  values.clear();
  for (const listener of listeners) listener();
}

export function bindThemeButton() {
  document.querySelector('[data-action="theme"]')?.addEventListener("click", () => {
    root.dataset.theme = root.dataset.theme === "light" ? "dark" : "light";
    remember("theme", root.dataset.theme);
    changed();
  });
}

export function setUpDown(value) {
  if (value === "inverse") root.dataset.updown = "inverse";
  else delete root.dataset.updown;
  remember("updown", value);
  changed();
}

/** A reader of tokens: palette()("up") is the value of --up now. */
export function palette() {
  const style = getComputedStyle(root);
  return (token) => {
    if (!values.has(token)) values.set(token, style.getPropertyValue(`--${token}`).trim());
    return values.get(token);
  };
}

export const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
