// The chart page's tools beside the drawing: its settings, and what is exported.
import { csv, fileName, picture, save } from "./export.js";
import { currentZone, moment, setZone } from "./format.js";
import { remember } from "./store.js";
import { palette, setUpDown } from "./theme.js";

const element = (id) => document.getElementById(id);

/** The menu of settings; onZone() after another zone was chosen. */
export function bindSettings({ painter, instrument, onZone, onTable, onHelp }) {
  const select = (id, value, changed) => {
    element(id).value = String(value);
    element(id).addEventListener("change", ({ target }) => changed(target.value));
  };
  const city = instrument.time_zone?.split("/").at(-1).replaceAll("_", " ");
  const exchange = element("zone").querySelector('[value="exchange"]');
  if (city) exchange.textContent = `Exchange (${city})`;
  else exchange.remove();
  select("repaints", painter.rate, (value) => {
    painter.rate = Number(value);
    remember("repaints", painter.rate);
  });
  select("zone", currentZone(), (value) => {
    setZone(value);
    onZone();
  });
  select("updown", document.documentElement.dataset.updown ?? "normal", setUpDown);
  const row = (id, action) => element(id).addEventListener("click", () => {
    element("settings-menu").hidePopover();
    action();
  });
  row("show-table", onTable);
  row("show-help", onHelp);
}

/** The export menu; now() gives {chart, series, timeframe, names}, said(words) shows what came of it. */
export function bindExport(menu, { instrument, now, said }) {
  const does = {
    async png({ chart, series, timeframe }) {
      const words = [instrument.title, timeframe, moment(series.last.time)].join("  ·  ");
      const canvas = picture(chart, element("content"), { title: instrument.symbol, words, color: palette() });
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
      save(fileName(instrument, timeframe, { time: series.last.time, ending: "png" }), blob);
    },
    csv({ series, timeframe, names }) {
      const text = csv(series, names);
      save(fileName(instrument, timeframe, { time: series.last.time, ending: "csv" }), new Blob([text], { type: "text/csv" }));
    },
    async address() {
      await navigator.clipboard.writeText(location.href);
      said("The address of this chart was copied");
    },
  };
  for (const button of menu.querySelectorAll("[data-export]")) {
    button.addEventListener("click", async () => {
      menu.hidePopover();
      try {
        const at = now();
        if (at.series?.last || button.dataset.export === "address") await does[button.dataset.export](at);
        else said("There are no bars to export yet");
      } catch (error) {
        said(`That could not be exported: ${error.message}`);
      }
    });
  }
  menu.addEventListener("toggle", ({ newState }) => {
    if (newState !== "open") return;
    const { series } = now();
    menu.querySelector(".count").textContent = series?.last ? `${series.bars.length.toLocaleString("en-US")} bars` : "";
  });
}
