// The five stages of a trade's way, and the line above them that says whether all is well.
import { put } from "./format.js";
import { span, whole } from "./status-words.js";

export const DOTS = { ok: "connected", quiet: "closed", behind: "reconnecting", broken: "down", unknown: "none" };

export function showLanes(list, stages) {
  for (const lane of stages) {
    const item = list.querySelector(`[data-stage="${lane.stage}"]`);
    if (!item) continue;
    item.dataset.state = lane.state;
    put(item.querySelector(".lag"), span(lane.lag_s ?? NaN));
    put(item.querySelector(".count"), lane.of === null ? whole(lane.count ?? NaN) : `${whole(lane.count)} of ${whole(lane.of)}`);
    put(item.querySelector(".unit"), lane.unit);
    const state = item.querySelector(".state");
    state.dataset.state = DOTS[lane.state] ?? "none";
    put(state.querySelector(".words"), lane.words);
    state.title = lane.words;
  }
}

export function showSummary(section, { level, words, remedy }) {
  section.dataset.level = level;
  put(section.querySelector(".words"), words);
  put(section.querySelector(".remedy"), remedy ?? "");
}

/** A list of sentences; `told` items are {what, remedy} or texts. */
export function showSaid(list, told) {
  list.hidden = told.length === 0;
  const texts = told.map((one) => (typeof one === "string" ? one : `${one.what}: ${one.remedy}`));
  if (list.dataset.said === texts.join("\n")) return;
  list.dataset.said = texts.join("\n");
  list.replaceChildren(...told.map((one) => {
    const item = document.createElement("li");
    if (typeof one === "string") item.textContent = one;
    else {
      const what = item.appendChild(document.createElement("b"));
      what.textContent = one.what;
      if (one.remedy) item.append(` ${one.remedy}`);
    }
    return item;
  }));
}
