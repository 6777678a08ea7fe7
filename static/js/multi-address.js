// What stands in the address of the page of several charts, read and written:
// ?layout=4&cells=binance:BTC-USDT@1m,…&link=crosshair,symbol&indicators=volume,ema_12
import { STEPS } from "./feed.js";
import { knownStudies } from "./indicators.js";

export const LAYOUTS = [1, 2, 4, 6];
export const MOST = 6;
export const LINKS = ["crosshair", "symbol"];
export const USUAL_TIMEFRAMES = Object.keys(STEPS);

/** The name of an instrument in the address: binance:BTC-USDT. */
export const nameOf = ({ exchange, symbol }) => `${exchange}:${symbol.replace("/", "-")}`;

/** The parts of an address that can be read; what is missing or makes no sense is left out. */
export function readAddress(search) {
  const asked = new URLSearchParams(search);
  const list = (key) => asked.get(key)?.split(",").map((part) => part.trim()).filter(Boolean);
  const cells = list("cells")?.slice(0, MOST).map(readCell);
  const layout = Number(asked.get("layout"));
  const links = list("link") ?? (asked.has("link") ? [] : undefined);
  return {
    layout: LAYOUTS.includes(layout) ? layout : cells && LAYOUTS.find((count) => count >= cells.length),
    cells,
    links: links?.filter((one) => LINKS.includes(one)),
    studies: asked.has("indicators") ? knownStudies(list("indicators")) : undefined,
  };
}

function readCell(text) {
  const at = text.lastIndexOf("@");
  const [name, timeframe] = at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
  if (Object.hasOwn(STEPS, timeframe) || timeframe === "") return { name, timeframe: timeframe || "1m" };
  return { name, timeframe: "1m", note: `There is no timeframe “${timeframe}”: this is 1m` };
}

/** The query that shows the same again; ":", "@" and "," may stand in a query as they are. */
export function writeAddress({ layout, cells, links, studies }) {
  const shown = cells.slice(0, layout).map(({ name, timeframe }) => `${encodeURIComponent(name)}@${timeframe}`);
  const query = `?layout=${layout}&cells=${shown.join(",")}&link=${[...links].join(",")}&indicators=${studies.join(",")}`;
  return query.replaceAll("%3A", ":");
}

/** A full set of cells: those given, then for each place left an instrument that is not shown yet, or the first again. */
export function filled(cells, instruments) {
  const all = cells.slice(0, MOST);
  const collected = instruments.filter(({ active }) => active);
  const names = (collected.length > 0 ? collected : instruments).map(nameOf);
  while (all.length < MOST) {
    const free = names.filter((name) => !all.some((cell) => cell.name === name));
    const name = free[0] ?? names[all.length % names.length];
    all.push({ name, timeframe: USUAL_TIMEFRAMES[all.length] });
  }
  return all;
}
