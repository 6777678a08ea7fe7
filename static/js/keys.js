// The chart page's keys.
import { STEPS } from "./feed.js";

const typing = (target) => target.closest?.("input, select, textarea, dialog[open]") !== null;

/** chart() gives the drawing; digits switch timeframes, the rest moves the chart or opens a menu. */
export function bindKeys(chart, switchTimeframe) {
  const timeframes = Object.keys(STEPS);
  const moves = {
    ArrowLeft: () => chart().scrollBy(-10),
    ArrowRight: () => chart().scrollBy(10),
    "+": () => chart().zoom(1.25),
    "=": () => chart().zoom(1.25),
    "-": () => chart().zoom(0.8),
    End: () => chart().goToNow(),
    "/": () => document.getElementById("switcher").showPopover(),
    i: () => document.getElementById("indicators-menu").showPopover(),
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    const digit = timeframes[Number(event.key) - 1];
    if (digit) switchTimeframe(digit);
    else if (moves[event.key]) moves[event.key]();
    else return;
    event.preventDefault();
  });
}
