// The bars and indicator values of one series, by time, and how they become chart data (UTC seconds).
const LONGEST_HOLE = 240; // empty slots drawn for one hole; a longer one is shown this wide

export class BarSeries {
  /** `step` is the timeframe in ms; `continuous` says that every slot should have a bar (a market open 24/7). */
  constructor(step, continuous) {
    this.step = step;
    this.continuous = continuous;
    this.bars = [];
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
        reshaped ||= !next;
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

  /** From where a reconnected client should ask again: the oldest recent bar that may still change or lacks its values. */
  refillFrom(names) {
    const tail = this.bars.slice(-300);
    const found = tail.find((bar) => bar.state !== "verified" || (names.length > 0 && !this.rows.has(bar.time)));
    return (found ?? this.last)?.time ?? null;
  }

  /** Every time slot from first to last, holes included: [time, bar or null]. */
  slots() {
    const slots = [];
    let previous = null;
    for (const bar of this.bars) {
      if (previous !== null && this.continuous) {
        const missing = Math.min((bar.time - previous) / this.step - 1, LONGEST_HOLE);
        for (let n = 1; n <= missing; n += 1) slots.push([previous + n * this.step, null]);
      }
      slots.push([bar.time, bar]);
      previous = bar.time;
    }
    return slots;
  }

  value(time, name) {
    const value = this.rows.get(time)?.[name];
    return Number.isFinite(value) ? value : null;
  }
}

const seconds = (ms) => ms / 1000;
const rising = (bar) => bar.close >= bar.open;

export function candle(time, bar, color) {
  if (bar === null) return { time: seconds(time) };
  const point = { time: seconds(time), open: bar.open, high: bar.high, low: bar.low, close: bar.close };
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
