// The bar over the charts: how many there are, what is linked, and the settings.
import { currentZone, setZone } from "./format.js";
import { remember } from "./store.js";
import { setUpDown } from "./theme.js";

const element = (id) => document.getElementById(id);

/** onLayout(count), onLink(name, on), onRepaints(rate), onZone(). Returns the function that shows a layout and links. */
export function bindBar({ rate, onLayout, onLink, onRepaints, onZone }) {
  const layouts = [...document.querySelectorAll("button[data-layout]")];
  const links = [...document.querySelectorAll("button[data-link]")];
  for (const button of layouts) button.addEventListener("click", () => onLayout(Number(button.dataset.layout)));
  for (const button of links) button.addEventListener("click", () => onLink(button.dataset.link, button.getAttribute("aria-pressed") !== "true"));
  bindSelect("repaints", rate, (value) => {
    remember("repaints", Number(value));
    onRepaints(Number(value));
  });
  bindSelect("zone", currentZone(), (value) => {
    setZone(value);
    onZone();
  });
  bindSelect("updown", document.documentElement.dataset.updown ?? "normal", setUpDown);
  return ({ layout, links: on }) => {
    for (const button of layouts) button.setAttribute("aria-pressed", String(Number(button.dataset.layout) === layout));
    for (const button of links) button.setAttribute("aria-pressed", String(on.has(button.dataset.link)));
  };
}

function bindSelect(id, value, changed) {
  element(id).value = String(value);
  element(id).addEventListener("change", ({ target }) => changed(target.value));
}
