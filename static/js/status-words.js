// Durations, sizes and ranges of the status page as text.
import { NOTHING } from "./format.js";

const UNITS = [[86_400, "d"], [3600, "h"], [60, "min"]];

/** "3.2 s", "45 s", "12 min", "5 h", "3 d": one unit, so that a column is read at a glance. */
export function span(seconds) {
  if (!Number.isFinite(seconds)) return NOTHING;
  const [length, unit] = UNITS.find(([one]) => seconds >= 2 * one) ?? [1, "s"];
  const value = Math.max(0, seconds) / length;
  return `${length === 1 && value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

/** "1:02:03" or "2:05": time left, to the second. */
export function left(seconds) {
  if (!Number.isFinite(seconds)) return NOTHING;
  const whole = Math.round(seconds);
  if (whole >= 86_400) return span(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

export function bytes(count) {
  if (!Number.isFinite(count)) return NOTHING;
  let [value, index] = [count, 0];
  const units = ["B", "kB", "MB", "GB", "TB"];
  for (; value >= 1000 && index < units.length - 1; index += 1) value /= 1024;
  return `${index < 2 ? Math.round(value) : value.toFixed(1)} ${units[index]}`;
}

export const whole = (value) => (Number.isFinite(value) ? value.toLocaleString("en-US", { maximumFractionDigits: 0 }) : NOTHING);
export const share = (value) => (Number.isFinite(value) ? `${(Math.floor(value * 1000) / 10).toFixed(1)}%` : NOTHING);

const iso = (ms) => new Date(ms).toISOString();

/** "2026-11-01 09:30 – 10:15", in UTC; the day stands twice only where it differs, no time where both are midnights. */
export function range(start, end) {
  const [from, to] = [iso(start), iso(end)];
  const days = start % 86_400_000 === 0 && end % 86_400_000 === 0;
  if (days) return `${from.slice(0, 10)} – ${to.slice(0, 10)}`;
  const [day, last] = [from.slice(0, 10), to.slice(0, 10)];
  return `${day} ${from.slice(11, 16)} – ${day === last ? "" : `${last} `}${to.slice(11, 16)}`;
}
