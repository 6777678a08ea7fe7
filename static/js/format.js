// Numbers and times as text. Signs are real minus signs, so that columns of figures stay aligned.
import { remember, remembered } from "./store.js";

export const NOTHING = "–";
const formats = new Map();

function fixed(decimals) {
  if (!formats.has(decimals)) {
    formats.set(decimals, new Intl.NumberFormat("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }));
  }
  return formats.get(decimals);
}

const minus = (text) => text.replace("-", "−");

export function price(value, decimals) {
  return Number.isFinite(value) ? minus(fixed(decimals).format(value)) : NOTHING;
}

export function signed(value, decimals = 2) {
  if (!Number.isFinite(value)) return NOTHING;
  const text = minus(fixed(decimals).format(value));
  return Number(value.toFixed(decimals)) > 0 ? `+${text}` : text.replace(/^−(0(\.0+)?)$/, "$1");
}

export const percent = (value) => (Number.isFinite(value) ? `${signed(value)}%` : NOTHING);

const compact = new Intl.NumberFormat("en-US", { notation: "compact", minimumFractionDigits: 2, maximumFractionDigits: 2 });

export function volume(value) {
  if (!Number.isFinite(value)) return NOTHING;
  return Math.abs(value) < 1000 ? fixed(value !== 0 && Math.abs(value) < 1 ? 4 : 2).format(value) : compact.format(value);
}

/** How many are bid for or asked: as many digits as it has, thousands separated. */
export const size = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 8 });

export const direction = (value) => (value > 0 ? "up" : value < 0 ? "down" : "");

// Times: one zone for the whole page, local or UTC, always named.
let zone = remembered("zone", "local") === "utc" ? "utc" : "local";

export const currentZone = () => zone;

export function setZone(value) {
  zone = value === "utc" ? "utc" : "local";
  remember("zone", zone);
}

export function zoneName(ms) {
  const minutes = zone === "utc" ? 0 : -new Date(ms).getTimezoneOffset();
  if (minutes === 0) return "UTC";
  const rest = Math.abs(minutes) % 60;
  return `UTC${minutes > 0 ? "+" : "−"}${Math.floor(Math.abs(minutes) / 60)}${rest ? `:${String(rest).padStart(2, "0")}` : ""}`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const two = (number) => String(number).padStart(2, "0");

/** The calendar fields of a time (ms) in the page's zone. */
export function fields(ms) {
  const date = new Date(zone === "utc" ? ms : ms - new Date(ms).getTimezoneOffset() * 60_000);
  return {
    year: date.getUTCFullYear(),
    month: date.getUTCMonth(),
    day: date.getUTCDate(),
    hour: date.getUTCHours(),
    minute: date.getUTCMinutes(),
    second: date.getUTCSeconds(),
  };
}

export function clock(ms, withSeconds = true) {
  const { hour, minute, second } = fields(ms);
  return withSeconds ? `${two(hour)}:${two(minute)}:${two(second)}` : `${two(hour)}:${two(minute)}`;
}

export function date(ms) {
  const { year, month, day } = fields(ms);
  return `${two(day)} ${MONTHS[month]} ${year}`;
}

export const shortDay = (ms) => `${fields(ms).day} ${MONTHS[fields(ms).month]}`;
export const month = (ms) => MONTHS[fields(ms).month];

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/** "Mon 23 Nov 14:30 UTC": a moment some days ahead. */
export function weekday(ms) {
  const { year, month: index, day } = fields(ms);
  return `${DAYS[new Date(Date.UTC(year, index, day)).getUTCDay()]} ${day} ${MONTHS[index]} ${clock(ms, false)} ${zoneName(ms)}`;
}

export const moment = (ms) => `${date(ms)} ${clock(ms, false)} ${zoneName(ms)}`;

/** Time of day for today's moments, day and month for older ones; `now` (ms) is the newest time known. */
export function recent(ms, now) {
  if (!Number.isFinite(ms)) return NOTHING;
  return date(ms) === date(now) ? clock(ms) : `${shortDay(ms)} ${clock(ms, false)}`;
}
