// What failed for a while is tried again by itself: after a pause that grows, at once when the network is back.
import { WAKING, pause } from "./live.js";

const FIRST_MS = 4000;
const LONGEST_MS = 30_000;

export class Again {
  #timer = 0;
  #attempt = 0;
  #waiting = false;
  #earliest = 0; // the server said not to come before, by performance.now()

  /** act() tries again: quietly, since nobody asked for it. */
  constructor(act) {
    this.act = act;
    for (const [target, event] of WAKING) target.addEventListener(event, this.#wake);
  }

  /** The state of the link from now on: when it is tried again, or off where trying again mends nothing. */
  failed(error) {
    this.stop();
    if (!error.later) return { phase: "off" };
    this.#attempt += 1;
    const now = performance.now();
    const told = (error.retryAfter ?? 0) * 1000;
    const delay = Math.max(told, pause(this.#attempt, FIRST_MS, LONGEST_MS));
    this.#earliest = now + told;
    this.#waiting = true;
    this.#timer = setTimeout(() => this.#due(), delay);
    return { phase: "reconnecting", retryAt: now + delay };
  }

  /** Something is under way, or nothing is wanted any more. */
  stop() {
    clearTimeout(this.#timer);
    this.#waiting = false;
  }

  done() {
    this.stop();
    this.#attempt = 0;
  }

  close() {
    this.stop();
    for (const [target, event] of WAKING) target.removeEventListener(event, this.#wake);
  }

  /** Online, in sight or awake: no pause is needed any more but the one the server asked for. */
  #wake = () => {
    if (performance.now() >= this.#earliest) this.#try();
  };

  #due() {
    this.#earliest = 0;
    this.#try();
  }

  /** A page that nobody sees waits until it is seen. */
  #try() {
    if (!this.#waiting || document.hidden) return;
    this.stop();
    this.act();
  }
}
