// Popovers: placed under the button that opened them; the indicators menu.
import { STUDIES } from "./indicators.js";
import { palette } from "./theme.js";

export function placePopovers() {
  for (const popover of document.querySelectorAll("[popover]")) {
    const button = document.querySelector(`[popovertarget="${popover.id}"]`);
    if (button === null) continue; // it is opened from several places, by whoever knows which
    popover.addEventListener("toggle", ({ newState }) => {
      const open = newState === "open";
      button.setAttribute("aria-expanded", String(open));
      if (open) place(popover, button);
    });
  }
}

export function place(popover, button) {
  const box = button.getBoundingClientRect();
  const left = Math.max(8, Math.min(box.left, innerWidth - popover.offsetWidth - 8));
  popover.style.left = `${left}px`;
  popover.style.top = `${Math.max(8, Math.min(box.bottom + 6, innerHeight - popover.offsetHeight - 8))}px`;
  popover.querySelector("input, select, button")?.focus();
}

/** A checkbox for each study; onToggle(id, on). Returns the function that shows which are on. */
export function indicatorsMenu(menu, onToggle) {
  const color = palette();
  const boxes = new Map();
  for (const group of ["Panes", "Overlays"]) {
    const title = document.createElement("div");
    title.className = "menu-title";
    title.textContent = group;
    menu.append(title);
    for (const study of STUDIES.filter((one) => one.group === group)) {
      const row = document.createElement("label");
      row.className = "menu-row";
      const box = document.createElement("input");
      box.type = "checkbox";
      box.name = study.id;
      box.addEventListener("change", () => onToggle(study.id, box.checked));
      const swatch = document.createElement("span");
      swatch.className = "swatch end";
      swatch.style.color = color(study.plots.at(study.id === "macd" ? 1 : 0).color);
      row.append(box, study.label, swatch);
      menu.append(row);
      boxes.set(study.id, box);
    }
  }
  return (ids) => {
    for (const [id, box] of boxes) box.checked = ids.includes(id);
  };
}
