// Gaps: stretches that wait for repair, and their shade behind the candles (a series primitive of lightweight-charts).
import * as format from "./format.js";

/** "no bars from 14:02 to 14:12 UTC: the feed was down, repair is on its way" */
export function gapWords({ start, end, reason }) {
  const until = format.date(start) === format.date(end) ? format.clock(end, false) : `${format.shortDay(end)} ${format.clock(end, false)}`;
  return `${format.clock(start, false)} to ${until} ${format.zoneName(end)}: ${reason}, waiting for repair`;
}

export class GapShade {
  #spans = []; // [first, last] time of slots, in seconds
  #chart = null;
  #update = () => {};
  #color = "";
  #views = [{ zOrder: () => "bottom", renderer: () => ({ draw: (target) => target.useMediaCoordinateSpace((scope) => this.#draw(scope)) }) }];

  attached({ chart, requestUpdate }) {
    this.#chart = chart;
    this.#update = requestUpdate;
  }

  paneViews() {
    return this.#views;
  }

  /** Shades these gaps where `slots` ([time, bar or null], ascending) have a place for them; returns how many. */
  show(gaps, { slots, step, color }) {
    this.#color = color;
    this.#spans = gaps.map(({ start, end }) => {
      const from = firstFrom(slots, start - (start % step));
      const to = firstFrom(slots, end) - 1;
      return to < from ? null : [slots[from][0] / 1000, slots[to][0] / 1000];
    }).filter(Boolean);
    this.#update();
    return this.#spans.length;
  }

  #draw({ context, mediaSize }) {
    const scale = this.#chart.timeScale();
    const half = scale.options().barSpacing / 2;
    context.fillStyle = this.#color;
    for (const [from, to] of this.#spans) {
      const [left, right] = [scale.timeToCoordinate(from), scale.timeToCoordinate(to)];
      if (left === null || right === null || right + half < 0 || left - half > mediaSize.width) continue;
      context.fillRect(left - half, 0, right - left + 2 * half, mediaSize.height);
    }
  }
}

/** The index of the first slot at or after `time`. */
function firstFrom(slots, time) {
  let [low, high] = [0, slots.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (slots[middle][0] < time) low = middle + 1;
    else high = middle;
  }
  return low;
}
