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

// Times: one zone for the whole page, always named: the browser's, UTC, or that of the instrument's exchange.
const DAY = 86_400_000;
const QUARTER = 900_000;
let zone = known(remembered("zone", "local"));
let exchange = null; // reads the wall clock of the exchange; null where a page is of no single one
const offsets = new Map(); // start of a day or of a quarter of an hour (ms) → minutes east of UTC at the exchange

function known(value) {
  return ["utc", "exchange"].includes(value) ? value : "local";
}

export const currentZone = () => (zone === "exchange" && exchange === null ? "local" : zone);

export function setZone(value) {
  zone = known(value);
  remember("zone", zone);
}

/** The IANA name of the zone of the page's exchange. */
export function setExchangeZone(name) {
  const numbers = { year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" };
  exchange = new Intl.DateTimeFormat("en-US", { timeZone: name, hourCycle: "h23", ...numbers });
  offsets.clear();
}

/** Intl takes microseconds a time, and a chart asks thousands of times: most days have one offset. */
function exchangeOffset(ms) {
  const day = ms - (ms % DAY);
  const morning = readOffset(day);
  return morning === readOffset(day + DAY) ? morning : readOffset(ms - (ms % QUARTER));
}

function readOffset(ms) {
  if (!offsets.has(ms)) {
    const { year, month, day, hour, minute, second } = Object.fromEntries(exchange.formatToParts(ms).map(({ type, value }) => [type, Number(value)]));
    offsets.set(ms, (Date.UTC(year, month - 1, day, hour, minute, second) - ms) / 60_000);
  }
  return offsets.get(ms);
}

/** Minutes east of UTC in the page's zone at a time (ms). */
function offset(ms) {
  const chosen = currentZone();
  if (chosen === "utc") return 0;
  return chosen === "exchange" ? exchangeOffset(ms) : -new Date(ms).getTimezoneOffset();
}

const hoursAndMinutes = (minutes) => [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];

export function zoneName(ms) {
  const minutes = offset(ms);
  if (minutes === 0) return "UTC";
  const [hours, rest] = hoursAndMinutes(minutes);
  return `UTC${minutes > 0 ? "+" : "−"}${hours}${rest ? `:${two(rest)}` : ""}`;
}

/** ISO 8601 with the zone's offset, to the second: 2026-01-15T09:10:00-05:00. */
export function iso(ms) {
  const minutes = offset(ms);
  const [hours, rest] = hoursAndMinutes(minutes);
  const end = minutes === 0 ? "Z" : `${minutes > 0 ? "+" : "-"}${two(hours)}:${two(rest)}`;
  return new Date(ms + minutes * 60_000).toISOString().slice(0, 19) + end;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const two = (number) => String(number).padStart(2, "0");

/** The calendar fields of a time (ms) in the page's zone. */
export const fields = (ms) => dayFields(ms + offset(ms) * 60_000);

/** Those of a trading day, whose bar is timed at the UTC midnight of its date: that date, in whatever zone. */
export function dayFields(ms) {
  const date = new Date(ms);
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

export function date(ms, read = fields) {
  const { year, month, day } = read(ms);
  return `${two(day)} ${MONTHS[month]} ${year}`;
}

export const shortDay = (ms, read = fields) => `${read(ms).day} ${MONTHS[read(ms).month]}`;
export const month = (ms, read = fields) => MONTHS[read(ms).month];

/** When a bar begins; one of a day is named by its date alone. */
export const barTime = (ms, timeframe) => (timeframe === "1d" ? date(ms, dayFields) : `${date(ms)} ${clock(ms, false)}`);

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

/** Puts words on the page; the same again are no news, and are not read out. */
export function put(element, words) {
  if (element.textContent !== words) element.textContent = words;
}
