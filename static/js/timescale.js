// The time axis in the page's zone: data stays in UTC seconds, only marks and labels speak local time.
import { TickMarkType, defaultHorzScaleBehavior } from "../vendor/lightweight-charts.js";
import { barTime, clock, dayFields, fields, month, shortDay, zoneName } from "./format.js";

// lightweight-charts' weights: a mark of more weight wins the place, and its weight picks the label's kind.
const WEIGHT = { second: 10, minute: 20, minute5: 21, minute30: 22, hour: 30, hour3: 31, hour6: 32, hour12: 33, day: 50, month: 60, year: 70 };

function weight(now, before) {
  if (now.year !== before.year) return WEIGHT.year;
  if (now.month !== before.month) return WEIGHT.month;
  if (now.day !== before.day) return WEIGHT.day;
  const [minutes, earlier] = [now.hour * 60 + now.minute, before.hour * 60 + before.minute];
  for (const [length, name] of [[720, "hour12"], [360, "hour6"], [180, "hour3"], [60, "hour"], [30, "minute30"], [5, "minute5"], [1, "minute"]]) {
    if (Math.floor(minutes / length) !== Math.floor(earlier / length)) return WEIGHT[name];
  }
  return WEIGHT.second;
}

/** The library's own scale weighs marks by UTC days; this one by days of the page's zone, or by trading days. */
export class ZonedScale extends defaultHorzScaleBehavior() {
  timeframe = "1m";

  get #read() {
    return this.timeframe === "1d" ? dayFields : fields;
  }

  fillWeightsForPoints(points, start = 0) {
    const read = this.#read;
    for (let index = start; index < points.length; index += 1) {
      const at = points[index].originalTime * 1000;
      const before = index > 0 ? points[index - 1].originalTime * 1000 : at - 60_000;
      points[index].timeWeight = weight(read(at), read(before));
    }
  }

  tickMark(seconds, type) {
    const [ms, read] = [seconds * 1000, this.#read];
    if (type === TickMarkType.Year) return String(read(ms).year);
    if (type === TickMarkType.Month) return month(ms, read);
    if (type === TickMarkType.DayOfMonth) return shortDay(ms, read);
    return clock(ms, false);
  }

  /** The label under the crosshair. */
  label(seconds) {
    const ms = seconds * 1000;
    return this.timeframe === "1d" ? barTime(ms, "1d") : `${barTime(ms, this.timeframe)} ${zoneName(ms)}`;
  }
}
