// At most so many paints a second: the first at once, the next when its turn comes; never one that nobody asked for,
// and none that nobody sees: a hidden tab paints once it is looked at again.
export class Painter {
  #last = -Infinity;
  #timer = 0;
  #owed = false;

  constructor(paint, rate) {
    this.paint = paint;
    this.rate = rate;
    document.addEventListener("visibilitychange", this.#seen);
  }

  close() {
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#seen);
  }

  #seen = () => {
    if (!document.hidden && this.#owed) this.now();
  };

  request() {
    if (document.hidden) this.#owed = true;
    if (this.#timer || this.#owed) return;
    const wait = this.#last + 1000 / this.rate - performance.now();
    this.#timer = setTimeout(() => this.now(), Math.max(0, wait));
  }

  now() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#owed = document.hidden;
    if (this.#owed) return;
    this.#last = performance.now();
    this.paint();
  }
}
