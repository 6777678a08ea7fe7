// A sparkline as SVG: the closes of a day, drawn once and only its last point moved by ticks.
const NS = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [120, 24];

export class Sparkline {
  constructor() {
    this.element = document.createElementNS(NS, "svg");
    this.element.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.element.setAttribute("preserveAspectRatio", "none");
    this.element.setAttribute("aria-hidden", "true");
    this.line = document.createElementNS(NS, "polyline");
    this.element.append(this.line);
    this.closes = [];
  }

  set(closes) {
    this.closes = closes.filter(Number.isFinite);
    this.#draw();
  }

  /** The newest price takes the place of the last close. */
  move(price) {
    if (this.closes.length < 2 || this.closes.at(-1) === price) return;
    this.closes[this.closes.length - 1] = price;
    this.#draw();
  }

  #draw() {
    const { closes } = this;
    if (closes.length < 2) {
      this.line.setAttribute("points", "");
      return;
    }
    const low = Math.min(...closes);
    const height = Math.max(...closes) - low || 1;
    const step = WIDTH / (closes.length - 1);
    const points = closes.map((close, index) => `${(index * step).toFixed(1)},${(HEIGHT - 2 - ((close - low) / height) * (HEIGHT - 4)).toFixed(1)}`);
    this.line.setAttribute("points", points.join(" "));
    this.element.setAttribute("class", closes.at(-1) >= closes[0] ? "up" : "down");
  }
}
