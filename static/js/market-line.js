// The header's small line: the hours of the market, how far the bars are behind, bid and ask; a halt; what the feed lacks.
import * as format from "./format.js";
import { delayWords, feedWords, marketWords } from "./hours.js";

export class MarketLine {
  #status = null;
  #quote = { book: null, halt: null };

  constructor(element, instrument) {
    this.element = element;
    this.instrument = instrument;
    this.hours = element.querySelector(".hours");
    this.delay = element.querySelector(".delay");
    this.more = element.querySelector(".more");
  }

  /** {market, feed, delay_s, …} of a `status` message, or of a chart's answer. */
  status(status) {
    this.#status = status;
    this.#show();
  }

  /** {book, halt} of a `quote` message. */
  quote(quote) {
    this.#quote = quote;
    this.#show();
  }

  /** After a change of zone. */
  again() {
    this.#show();
  }

  #show() {
    if (this.#status === null) return;
    const { market, feed, delay_s: delay } = this.#status;
    const [tone, words] = this.#rest(feed, market);
    const [hours, behind] = [marketWords(market), delayWords(delay)];
    const alone = tone === "refused" || tone === "no_key"; // without a feed the hours matter less than what it lacks
    this.element.dataset.market = market?.state ?? "unknown";
    this.more.dataset.tone = tone;
    format.put(this.hours, alone ? "" : hours);
    format.put(this.delay, alone ? "" : behind);
    if (this.more.textContent !== words) this.more.replaceChildren(...words.split(/(?= × )|(?= {3})/).map(part));
    this.element.title = [hours, behind, words].filter(Boolean).join("\n");
  }

  #rest(feed, market) {
    const { book, halt } = this.#quote;
    if (feed === "refused" || feed === "no_key") {
      const [, said] = feedWords(this.#status);
      return [feed, said[0].toUpperCase() + said.slice(1)];
    }
    if (halt) return ["halt", `Halted: ${halt.reason || "no reason given"}${halt.code ? ` (${halt.code})` : ""}`];
    return ["book", market?.state === "closed" ? "" : bookWords(book, this.instrument.price_decimals)];
  }
}

/** "Bid 189.20 × 3   Ask 189.24 × 1"; empty without a book. */
export function bookWords(book, decimals) {
  if (!book) return "";
  const side = (name, price, size) => (Number.isFinite(price) ? `${name} ${format.price(price, decimals)}${Number.isFinite(size) ? ` × ${format.size(size)}` : ""}` : "");
  return [side("Bid", book.bid, book.bid_size), side("Ask", book.ask, book.ask_size)].filter(Boolean).join("   ");
}

/** The sizes of bid and ask have an element of their own: a narrow page leaves them out. */
function part(text) {
  const element = document.createElement("span");
  if (text.startsWith(" × ")) element.className = "size";
  element.textContent = text;
  return element;
}
