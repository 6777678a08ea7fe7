// Asks again and again, never twice at once, and not while nobody looks; tells how old the newest answer is.

export class Poll {
  #timer = 0;
  #asking = false;
  #heard = null; // performance.now() of the newest answer

  /** ask() → Promise; every() → ms to the next; onAnswer(answer); onError(error). */
  constructor({ ask, every, onAnswer, onError }) {
    Object.assign(this, { ask, every, onAnswer, onError });
    document.addEventListener("visibilitychange", () => this.now());
    addEventListener("online", () => this.now());
    addEventListener("pageshow", () => this.now());
  }

  /** Seconds since the newest answer, or null before the first. */
  get age() {
    return this.#heard === null ? null : (performance.now() - this.#heard) / 1000;
  }

  async now() {
    clearTimeout(this.#timer);
    if (document.hidden || this.#asking) return;
    this.#asking = true;
    try {
      const answer = await this.ask();
      this.#heard = performance.now();
      this.onAnswer(answer);
    } catch (error) {
      this.onError(error);
    } finally {
      this.#asking = false;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.now(), this.every());
    }
  }
}
