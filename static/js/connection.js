// The dot with words: our own connection first, then the state of the exchange's feed.
import { feedWords } from "./hours.js";

export class Connection {
  #link = { phase: "connecting" };
  #feed = null;
  #timer = 0;

  constructor(element) {
    this.element = element;
    this.words = element.querySelector(".words");
    this.#show();
  }

  link(state) {
    this.#link = state;
    this.#show();
  }

  feed(status) {
    this.#feed = status;
    this.#show();
  }

  close() {
    clearTimeout(this.#timer);
  }

  #show() {
    clearTimeout(this.#timer);
    const [state, words] = this.#reading();
    this.element.dataset.state = state;
    if (this.words.textContent !== words) this.words.textContent = words;
    this.element.title = this.#link.phase === "connected" && this.#feed !== null ? feedWords(this.#feed)[1] : words;
    if (this.#link.phase === "reconnecting") this.#timer = setTimeout(() => this.#show(), 250);
  }

  #reading() {
    const { phase, retryAt } = this.#link;
    if (phase === "reconnecting") {
      const seconds = Math.max(0, Math.ceil((retryAt - performance.now()) / 1000));
      return [phase, seconds > 0 ? `reconnecting in ${seconds} s` : "reconnecting"];
    }
    if (phase === "off") return ["none", "not connected"];
    if (phase === "connecting" || this.#feed === null) return [phase, phase];
    const { feed } = this.#feed;
    if (feed === "connected") return [feed, "connected"]; // by how much it is behind stands beside the hours
    return feedWords(this.#feed, { short: feed === "refused" || feed === "no_key" });
  }
}
