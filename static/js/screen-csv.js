// The rows of a screen as a CSV file, raw numbers and ISO times, for a spreadsheet or a script.
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
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csvOf(answer)], { type: "text/csv" }));
  link.download = `screen-${answer.timeframe}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
