// An exchange's head in the overview: its name, the hours of its markets, the state of its feed.
import { put } from "./format.js";
import { delayWords, feedWords, marketWords } from "./hours.js";

const TITLES = { binance: "Binance", alpaca: "Alpaca", yahoo: "Borsa Istanbul" };
const PLACES = { XNYS: "New York", XIST: "Istanbul" };

export const titleOf = ({ exchange }) => TITLES[exchange] ?? exchange;

function part(tag, className) {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}

export class OverviewGroup {
  constructor(exchange) {
    this.element = part("tr", "group");
    const cell = document.createElement("th");
    cell.colSpan = 7;
    cell.scope = "rowgroup";
    const line = part("div", "group-line");
    const title = part("span", "group-title");
    title.textContent = titleOf({ exchange });
    this.hours = part("span", "group-hours");
    this.state = part("span", "state");
    line.append(title, this.hours, this.state);
    cell.append(line);
    this.element.append(cell);
  }

  /** The state of the exchange's feed, with the hours of its markets. */
  show(state) {
    const markets = Object.values(state.markets ?? {});
    const place = (calendar) => (markets.length > 1 ? `${PLACES[calendar] ?? calendar}: ` : "");
    const hours = markets.map((market) => [place(market.calendar), marketWords(market)]).filter(([, words]) => words);
    const delay = state.feed === "connected" ? "" : delayWords(state.delay_s); // else the feed's own words say it
    put(this.hours, [...hours.map((words) => words.join("")), delay].filter(Boolean).join(" · "));
    const [dot, words] = feedWords(state);
    this.state.dataset.state = dot;
    put(this.state, words);
    this.state.title = words;
  }
}
