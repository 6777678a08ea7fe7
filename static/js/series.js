// The bars and indicator values of one series, by time, and how they become chart data (UTC seconds).
const REFILLED = 300; // bars that are asked for again after a disconnect
const LONGEST_HOLE = 240; // empty slots drawn for one hole; a longer one is shown this wide

export class BarSeries {
  /** `step` is the timeframe in ms; `continuous` says that every slot should have a bar (a market open 24/7). */
  constructor(step, continuous) {
    this.step = step;
    this.continuous = continuous;
    this.bars = [];
    this.gaps = []; // {start, end, reason, …} of stretches that wait for repair, oldest first
    this.rows = new Map();
    this.#index = new Map();
  }

  #index;

  get first() {
    return this.bars[0] ?? null;
  }

  get last() {
    return this.bars.at(-1) ?? null;
  }

  at(time) {
    const index = this.#index.get(time);
    return index === undefined ? null : this.bars[index];
  }

  before(time) {
    const index = this.#index.get(time);
    return index > 0 ? this.bars[index - 1] : null;
  }

  /** Takes bars and indicator rows in; returns the times that changed and whether bars appeared elsewhere than at the end. */
  merge(bars, rows = []) {
    const changed = new Set();
    let reshaped = false;
    let unsorted = false;
    for (const bar of bars) {
      const index = this.#index.get(bar.time);
      const last = this.last;
      changed.add(bar.time);
      if (index !== undefined) {
        if (bar.revision >= this.bars[index].revision || !this.bars[index].completed) this.bars[index] = bar;
      } else {
        const next = last === null || (bar.time > last.time && (!this.continuous || bar.time === last.time + this.step));
        reshaped ||= !next || this.gapAt(bar.time) !== null;
        unsorted ||= last !== null && bar.time < last.time;
        this.#index.set(bar.time, this.bars.push(bar) - 1);
      }
    }
    if (unsorted) {
      this.bars.sort((a, b) => a.time - b.time);
      this.bars.forEach((bar, index) => this.#index.set(bar.time, index));
    }
    for (const row of rows) {
      const known = this.rows.get(row.time);
      if (known) Object.assign(known, row);
      else this.rows.set(row.time, { ...row });
      changed.add(row.time);
    }
    return { changed: [...changed].sort((a, b) => a - b), reshaped };
  }

  /** Drops the bars and values of [from, until) (ms) that are not at one of `times`; returns whether a bar went. */
  retain(times, { from = -Infinity, until = Infinity }) {
    const gone = (time) => time >= from && time < until && !times.has(time);
    for (const time of [...this.rows.keys()].filter(gone)) this.rows.delete(time);
    const kept = this.bars.filter(({ time }) => !gone(time));
    if (kept.length === this.bars.length) return false;
    this.bars = kept;
    this.#index = new Map(kept.map(({ time }, index) => [time, index]));
    return true;
  }

  /**
   * From where to ask again: the oldest recent bar that may have changed since it was read or lacks its values. Who was
   * `away` for a while asks for all recent ones: even a verified bar may have been revised.
   */
  refillFrom(names, { away }) {
    const tail = this.bars.slice(-REFILLED);
    const lacks = (bar) => bar.state !== "verified" || (names.length > 0 && !this.rows.has(bar.time));
    return (away ? tail[0] : (tail.find(lacks) ?? this.last))?.time ?? null;
  }

  /** Takes the gaps from `from` (ms) on anew. */
  setGaps(gaps, from = -Infinity) {
    const kept = this.gaps.filter(({ start, end }) => end <= from && !gaps.some((one) => one.start === start));
    this.gaps = [...kept, ...gaps].sort((a, b) => a.start - b.start);
  }

  /** The gap that the slot at `time` lies in. */
  gapAt(time) {
    return this.gaps.find(({ start, end }) => time + this.step > start && time < end) ?? null;
  }

  /** Whether the slot after `time` is an empty one. */
  endsBefore(time) {
    return this.at(time + this.step) === null && (this.continuous || this.gapAt(time + this.step) !== null);
  }

  /** Every time slot from first to last, the empty ones of holes included: [time, bar or null]. */
  slots() {
    const slots = [];
    let previous = null;
    for (const bar of this.bars) {
      if (previous !== null) this.#addEmpty(slots, previous, bar.time);
      slots.push([bar.time, bar]);
      previous = bar.time;
    }
    const end = this.gaps.at(-1)?.end ?? 0;
    if (previous !== null && end > previous + this.step) this.#addEmpty(slots, previous, Math.ceil(end / this.step) * this.step);
    return slots;
  }

  /** The empty slots between two times: all where the market never closes, else those of gaps. */
  #addEmpty(slots, after, before) {
    const whole = this.continuous && this.at(before) !== null ? [{ start: after, end: before }] : this.gaps;
    let next = after + this.step; // two gaps may lie in one slot
    for (const { start, end } of whole) {
      const from = Math.max(next, start - (start % this.step));
      const until = Math.min(before, end, from + LONGEST_HOLE * this.step);
      for (next = from; next < until; next += this.step) slots.push([next, null]);
    }
  }

  value(time, name) {
    const value = this.rows.get(time)?.[name];
    return Number.isFinite(value) ? value : null;
  }
}

/** The parts of the gaps `before` that none of `now` covers any more: what was repaired meanwhile. */
export function uncovered(before, now) {
  let parts = before;
  for (const { start, end } of now) {
    const cut = (part) => [{ ...part, end: Math.min(part.end, start) }, { ...part, start: Math.max(part.start, end) }];
    parts = parts.flatMap(cut).filter((part) => part.start < part.end);
  }
  return parts;
}

const seconds = (ms) => ms / 1000;
const rising = (bar) => bar.close >= bar.open;

export function candle(time, bar, color) {
  if (bar === null) return { time: seconds(time) };
  const point = { time: seconds(time), open: bar.open, high: bar.high, low: bar.low, close: bar.close };
  if (bar.state === "closed") return { ...point, color: color(rising(bar) ? "up-soft" : "down-soft") }; // hollow until verified
  if (bar.completed) return point;
  const live = color(rising(bar) ? "up-live" : "down-live");
  return { ...point, color: live, borderColor: live, wickColor: live };
}

export function volumeColumn(time, bar, color) {
  if (bar === null) return { time: seconds(time) };
  return { time: seconds(time), value: bar.volume, color: color(rising(bar) ? "up-area" : "down-area") };
}

/** One point of a line; the piece before a hole is left undrawn, for a line across it would be invented. */
export function linePoint(time, value, { broken }) {
  if (value === null) return { time: seconds(time) };
  return broken ? { time: seconds(time), value, color: "transparent" } : { time: seconds(time), value };
}

/** Four shades: above or below zero, growing or fading. */
export function histogramPoint(time, value, { previous, color }) {
  if (value === null) return { time: seconds(time) };
  const growing = previous === null || Math.abs(value) >= Math.abs(previous) || value * previous < 0;
  const side = value >= 0 ? "up" : "down";
  return { time: seconds(time), value, color: color(growing ? side : `${side}-pale`) };
}
