// What the page remembers in this browser. Without storage everything works, only nothing is remembered.
const PREFIX = "market:";

export function remembered(key, fallback) {
  try {
    const text = localStorage.getItem(PREFIX + key);
    return text === null ? fallback : JSON.parse(text);
  } catch {
    return fallback;
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(PREFIX + key, JSON.stringify(value));
  } catch {
    // A full or forbidden storage costs only the memory of a setting.
  }
}
