// Market hours and feeds in words. They are told beside each other: a closed market is no broken feed, nor the reverse.
import { clock, weekday, zoneName } from "./format.js";

const TROUBLE = ["refused", "down", "reconnecting"];

export const inTrouble = (feed) => TROUBLE.includes(feed);

/** "Market open until 21:00 UTC", "Market closed, opens Mon 23 Nov 14:30 UTC"; empty where nobody knows. */
export function marketWords(market) {
  if (!market || market.state === "unknown") return "";
  if (market.state === "closed") return `Market closed, opens ${weekday(market.opens)}`;
  return market.until === null ? "Open around the clock" : `Market open until ${clock(market.until, false)} ${zoneName(market.until)}`;
}

export const delayWords = (seconds) => (seconds > 0 ? `delayed ${Math.round(seconds / 60)} min` : "");

/** [state of the dot, words] of a feed; `short` leaves out since when and what the exchange said. */
export function feedWords({ feed, since, at, error, missing, delay_s: delay }, { short = false } = {}) {
  const from = !short && Number.isFinite(since) ? ` since ${clock(since, false)} ${zoneName(since)}` : "";
  const why = !short && error ? `: ${error}` : "";
  switch (feed) {
    case "connected":
      return ["connected", delayWords(delay) || "connected"];
    case "reconnecting":
      return ["reconnecting", `feed reconnecting${from}`];
    case "down":
      return !since && !at && !error ? ["none", "no feed yet"] : ["down", `feed down${from}${why}`]; // it never ran: nothing broke
    case "refused":
      return ["refused", `feed refused${why}`];
    case "no_key":
      return ["none", short || !missing ? "no key" : `no key: set ${missing}`];
    case "closed":
      return ["closed", "waiting for the market"];
    case "idle":
      return ["none", "nothing to collect"];
    default:
      return ["none", "no feed yet"];
  }
}

/** When the first bars of an instrument can be expected, or what has to be done before. */
export function outlookWords({ market, feed, missing, error }) {
  if (feed === "no_key") return `Its exchange asks for a key: set ${missing}, then start again.`;
  if (feed === "refused") return `Its exchange refuses us${error ? `: ${error}` : ""}.`;
  if (market?.state === "closed") return `${marketWords(market)}.`;
  return "Bars appear here by themselves as soon as its feed runs.";
}

/** [state of the dot, words]: what matters most of an instrument's feed and market; `known`: it has a price. */
export function stateWords({ active, feed, halt, market, delay_s: delay }, known) {
  if (active === false) return ["none", "not collected"];
  if (!known && (feed === "none" || feed === "down")) return ["none", "no data yet"];
  if (inTrouble(feed) || feed === "no_key") return feedWords({ feed, since: 1 }, { short: true });
  if (halt) return ["halted", "halted"];
  if (market?.state === "closed") return ["closed", "market closed"];
  if (feed === "connected") return ["connected", delayWords(delay) || "connected"];
  return known ? feedWords({ feed }) : ["none", "no data yet"];
}
