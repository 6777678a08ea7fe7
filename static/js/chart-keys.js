// What the keys of a chart do, and those of the chart page.
import { STEPS } from "./feed.js";

/** What was just closed keeps the focus for a frame, and its search field would take the key that closes this one. */
function open(id) {
  if (!document.activeElement?.checkVisibility()) document.activeElement?.blur();
  document.getElementById(id).showPopover();
}

/** The keys of any chart: [moving, choosing]; chart() gives the drawing. */
export function seriesKeys({ chart, switchTimeframe }) {
  const timeframes = Object.keys(STEPS);
  const digits = Object.fromEntries(timeframes.map((timeframe, index) => [String(index + 1), () => switchTimeframe(timeframe)]));
  const [closer, wider] = [() => chart().zoom(1.25), () => chart().zoom(0.8)];
  return [
    {
      title: "Move",
      rows: [
        { shown: ["←", "→"], words: "ten bars", does: { ArrowLeft: () => chart().scrollBy(-10), ArrowRight: () => chart().scrollBy(10) } },
        { shown: ["Shift", "←", "→"], words: "a screenful", does: { "Shift+ArrowLeft": () => chart().turnPage(-1), "Shift+ArrowRight": () => chart().turnPage(1) } },
        { shown: ["Home"], words: "oldest bar loaded; older ones follow", does: { Home: () => chart().goToStart() } },
        { shown: ["End"], words: "go to now", does: { End: () => chart().goToNow() } },
        { shown: ["+", "−"], words: "zoom", does: { "+": closer, "=": closer, "-": wider, "−": wider } },
      ],
    },
    {
      title: "Choose",
      rows: [
        { shown: ["1", "…", String(timeframes.length)], words: `timeframe, ${timeframes[0]} to ${timeframes.at(-1)}`, does: digits },
        { shown: ["/"], words: "instrument", does: { "/": () => open("switcher") } },
        { shown: ["i"], words: "indicators", does: { i: () => open("indicators-menu") } },
      ],
    },
  ];
}

/** The keys of the chart page. */
export function chartKeys({ chart, switchTimeframe, fullScreen, help }) {
  const [moving, choosing] = seriesKeys({ chart, switchTimeframe });
  choosing.rows.push({ shown: ["e"], words: "export", does: { e: () => open("export-menu") } });
  return [
    moving,
    choosing,
    {
      title: "Window",
      rows: [
        { shown: ["f"], words: "full screen, and back", does: { f: fullScreen } },
        { shown: ["?"], words: "these keys", does: { "?": help } },
        { shown: ["Esc"], words: "close what is open", does: {} },
      ],
    },
  ];
}
