// How the drawing looks: the library's options out of the tokens of the theme.
import { CrosshairMode, LineStyle } from "../vendor/lightweight-charts.js";
import { price as written } from "./format.js";

export function candleLook(color, decimals) {
  const [up, down] = [color("up"), color("down")];
  return {
    upColor: up,
    downColor: down,
    borderUpColor: up,
    borderDownColor: down,
    wickUpColor: up,
    wickDownColor: down,
    priceFormat: { type: "custom", minMove: 10 ** -decimals, formatter: (value) => written(value, decimals) },
  };
}

export function chartLook(color) {
  const hair = { color: color("crosshair"), labelBackgroundColor: color("crosshair-label"), width: 1, style: LineStyle.Dashed };
  return {
    layout: {
      background: { color: color("ground") },
      textColor: color("text-muted"),
      fontFamily: color("font"),
      fontSize: 12,
      attributionLogo: true,
      panes: { separatorColor: color("line-strong"), separatorHoverColor: color("accent-soft"), enableResize: true },
    },
    grid: { vertLines: { color: color("grid") }, horzLines: { color: color("grid") } },
    crosshair: { mode: CrosshairMode.Normal, vertLine: hair, horzLine: hair },
    rightPriceScale: { borderColor: color("line") },
    timeScale: { borderColor: color("line") },
  };
}

/** An axis label for a value that cannot be, like an RSI of 120, is left empty. */
export function beyond(value, { limits }) {
  return limits !== undefined && (value < limits[0] || value > limits[1]);
}

/** The library's own range, widened so that the bands stay in sight, yet within what the values can be. */
export function widened(info, { within: [low, high], limits: [least, most] }) {
  if (info === null || info.priceRange === null) return info;
  const { minValue, maxValue } = info.priceRange;
  return { priceRange: { minValue: Math.max(least, Math.min(minValue, low)), maxValue: Math.min(most, Math.max(maxValue, high)) } };
}
