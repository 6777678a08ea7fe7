// One crosshair over all charts: the pointer is in one, the others mark the bar that holds its time.
import { STEPS } from "./feed.js";

export class CrosshairLink {
  #source = null; // the cell under the pointer: a drawing also tells of marks that were set from here
  #time = null;
  #marked = null;
  #frame = 0;

  /** cells() gives those on the page. */
  constructor(cells, on) {
    this.cells = cells;
    this.on = on;
  }

  enter(cell) {
    this.#source = cell;
  }

  moved(cell, time) {
    if (cell !== this.#source) return;
    this.#time = time;
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.#mark());
  }

  set(on) {
    this.on = on;
    this.#time = null;
    this.#marked = undefined;
    this.#mark();
  }

  #mark() {
    this.#frame = 0;
    const time = this.on ? this.#time : null;
    if (time === this.#marked) return;
    this.#marked = time;
    for (const cell of this.cells()) if (cell !== this.#source) cell.mark(time, STEPS[this.#source?.timeframe] ?? 0);
  }
}

/** The time of the slot of `series` that holds `time`, else of the first bar within `span` after it, else null. */
export function slotOf(series, time, span) {
  if (series.gapAt(time - (time % series.step)) !== null) return time - (time % series.step);
  const { bars, step } = series;
  let [low, high] = [0, bars.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (bars[middle].time + step <= time) low = middle + 1;
    else high = middle;
  }
  const found = bars[low];
  return found !== undefined && found.time < time + Math.max(span, 1) ? found.time : null;
}
