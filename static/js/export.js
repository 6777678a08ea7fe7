// What leaves the page as a file: a picture of all panes, and the bars with the indicators that are shown.
import * as format from "./format.js";

const HEAD = 40; // px of the picture above the chart
const COLUMNS = ["open", "high", "low", "close", "volume", "quote_volume", "trade_count", "state", "origin"];

/** binance-BTC-USDT-1m-2026-01-15T1410Z.png: the time of the newest bar, in UTC. */
export function fileName(instrument, timeframe, { time, ending }) {
  const stamp = new Date(time).toISOString().slice(0, 16).replace(":", "");
  return `${instrument.exchange}-${instrument.symbol.replace("/", "-")}-${timeframe}-${stamp}Z.${ending}`;
}

/** Every bar at hand, oldest first, figures as the server told them, times in ms and in the page's zone. */
export function csv(series, names) {
  const rows = series.bars.map((bar) => [
    bar.time,
    series.step === 86_400_000 ? new Date(bar.time).toISOString().slice(0, 10) : format.iso(bar.time),
    ...COLUMNS.map((name) => bar[name] ?? ""),
    bar.delayed === true,
    ...names.map((name) => series.value(bar.time, name) ?? ""),
  ]);
  return [["time_ms", "time", ...COLUMNS, "delayed", ...names], ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

/** The chart as it stands, its legends and a head with these words on it; `stage` holds plot and legends. */
export function picture(chart, stage, { title, words, color }) {
  const shot = chart.api.takeScreenshot(true);
  const { width, height } = stage.getBoundingClientRect();
  const scale = shot.width / width;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [shot.width, Math.round((height + HEAD) * scale)];
  const context = canvas.getContext("2d");
  context.fillStyle = color("surface");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(shot, 0, Math.round(HEAD * scale));
  context.scale(scale, scale);
  context.textBaseline = "middle";
  write(context, title, { x: 12, y: HEAD / 2, font: `600 14px ${color("font")}`, color: color("text") });
  const after = 12 + context.measureText(title).width + 12;
  write(context, words, { x: after, y: HEAD / 2, font: `12px ${color("font")}`, color: color("text-muted") });
  context.translate(0, HEAD);
  for (const legend of stage.querySelectorAll(".legend")) copyTexts(context, legend, stage.getBoundingClientRect());
  return canvas;
}

export function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** The texts of an element where they stand, in their colours, each on the ground of its element. */
function copyTexts(context, element, origin) {
  if (!element.checkVisibility({ visibilityProperty: true }) || element.matches("button")) return;
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  context.fillStyle = style.backgroundColor;
  context.fillRect(box.left - origin.left, box.top - origin.top, box.width, box.height);
  for (const node of element.childNodes) {
    if (node.nodeType === Node.ELEMENT_NODE) copyTexts(context, node, origin);
    else if (node.nodeType === Node.TEXT_NODE && node.data.trim() !== "") {
      const range = document.createRange();
      range.selectNodeContents(node);
      const place = range.getBoundingClientRect();
      const font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
      write(context, node.data, { x: place.left - origin.left, y: place.top - origin.top + place.height / 2, font, color: style.color });
    }
  }
}

function write(context, text, { x, y, font, color }) {
  context.font = font;
  context.fillStyle = color;
  context.fillText(text, x, y);
}
