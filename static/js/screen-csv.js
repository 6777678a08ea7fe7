// The rows of a screen as a CSV file, raw numbers and ISO times, for a spreadsheet or a script.
import { save } from "./export.js";

const quoted = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

export function csvOf(answer) {
  const head = ["exchange", "symbol", "timeframe", "bar", ...answer.fields];
  const rows = answer.instruments.map(({ exchange, symbol, time, values }) => [
    exchange,
    symbol,
    answer.timeframe,
    Number.isFinite(time) ? new Date(time).toISOString() : "",
    ...answer.fields.map((name) => (Number.isFinite(values[name]) ? String(values[name]) : "")),
  ]);
  return [head, ...rows].map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
}

export function saveCsv(answer) {
  save(`screen-${answer.timeframe}.csv`, new Blob([csvOf(answer)], { type: "text/csv" }));
}
