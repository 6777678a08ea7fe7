// The chart's data as a table, on demand: what a screen reader, or a doubt, asks for.
import * as format from "./format.js";
import { closable } from "./notice.js";

const ROWS = 200;

export class DataTable {
  constructor(dialog, instrument) {
    this.dialog = dialog;
    this.instrument = instrument;
    closable(dialog);
  }

  /** The newest bars of the series, newest first, with the values of these indicator names. */
  open(series, timeframe, names) {
    const { symbol, price_decimals: decimals } = this.instrument;
    const bars = series.bars.slice(-ROWS).reverse();
    const head = [timeframe === "1d" || bars.length === 0 ? "Time" : `Time, ${format.zoneName(bars[0].time)}`, "Open", "High", "Low", "Close", "Volume", "Trades", "State", ...names];
    this.dialog.querySelector("h2").textContent = `${symbol}, ${timeframe}: the newest ${bars.length} bars`;
    this.dialog.querySelector("thead").replaceChildren(row("th", head));
    const rows = bars.map((bar) =>
      row("td", [
        stamped(bar.time, timeframe, bars[0].time),
        ...[bar.open, bar.high, bar.low, bar.close].map((value) => format.price(value, decimals)),
        format.volume(bar.volume),
        String(bar.trade_count),
        bar.state,
        ...names.map((name) => format.price(series.value(bar.time, name) ?? NaN, decimals)),
      ]),
    );
    this.dialog.querySelector("tbody").replaceChildren(...rows);
    this.dialog.showModal();
  }
}

/** A time after or before a change of the clocks names its own zone, for the head names that of the newest bar. */
function stamped(time, timeframe, newest) {
  const own = format.zoneName(time);
  const other = timeframe !== "1d" && own !== format.zoneName(newest);
  return format.barTime(time, timeframe) + (other ? ` ${own}` : "");
}

function row(tag, texts) {
  const element = document.createElement("tr");
  texts.forEach((text, index) => {
    const cell = document.createElement(tag === "th" || index === 0 ? "th" : "td");
    cell.scope = tag === "th" ? "col" : index === 0 ? "row" : "";
    cell.textContent = text;
    element.append(cell);
  });
  return element;
}
