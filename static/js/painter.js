// At most so many paints a second: the first at once, the next when its turn comes; never one that nobody asked for.
export class Painter {
  #last = -Infinity;
  #timer = 0;

  constructor(paint, rate) {
    this.paint = paint;
    this.rate = rate;
  }

  request() {
    if (this.#timer) return;
    const wait = this.#last + 1000 / this.rate - performance.now();
    this.#timer = setTimeout(() => this.now(), Math.max(0, wait));
  }

  now() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#last = performance.now();
    this.paint();
  }
}
