// The conditions of a screen as controls: preset chips, and a line of selects for each condition.
import { isNumber, readCondition, writeCondition } from "./screen-query.js";

const NEW = "rsi_14<40";

function made(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

export class ScreenBuilder {
  /** `choices` as /api/screener/fields gives them; changed() is called after the user changed `query`. */
  constructor({ chips, conditions, choices, query, changed }) {
    Object.assign(this, { chips, conditions, choices, query, changed });
    this.names = new Set(choices.fields.map(({ name }) => name));
    this.buttons = choices.presets.map((preset) => {
      const button = made("button", "chip", preset.title);
      button.type = "button";
      button.dataset.preset = preset.id;
      button.title = preset.where.replaceAll(",", ", ");
      button.addEventListener("click", () => {
        this.query.toggle(preset);
        this.#told();
      });
      return [preset, button];
    });
    chips.replaceChildren(...this.buttons.map(([, button]) => button));
    this.show();
  }

  show() {
    for (const [preset, button] of this.buttons) button.setAttribute("aria-pressed", String(this.query.has(preset)));
    const lines = this.query.where.map((text, place) => this.#line(text, place));
    const add = made("button", "button add", "Add a condition");
    add.type = "button";
    add.addEventListener("click", () => {
      this.query.where.push(NEW);
      this.#told();
      this.conditions.querySelector(".condition:last-of-type select")?.focus();
    });
    this.conditions.replaceChildren(...lines, add);
  }

  #told() {
    this.show();
    this.changed();
  }

  #line(text, place) {
    const line = made("div", "condition");
    line.setAttribute("role", "group");
    line.setAttribute("aria-label", `Condition ${place + 1}: ${text}`);
    const read = readCondition(text, this.names);
    if (read) line.append(...this.#controls(read, place));
    else line.append(made("code", "", text));
    const remove = made("button", "icon-button remove", "×");
    remove.type = "button";
    remove.setAttribute("aria-label", `Remove the condition ${text}`);
    remove.addEventListener("click", () => {
      this.query.where.splice(place, 1);
      this.#told();
      (this.conditions.querySelectorAll(".remove")[place] ?? this.conditions.querySelector(".add")).focus();
    });
    line.append(remove);
    return line;
  }

  #controls(read, place) {
    const set = (name, value) => {
      read[name] = value;
      this.query.where[place] = writeCondition(read);
      for (const [preset, button] of this.buttons) button.setAttribute("aria-pressed", String(this.query.has(preset)));
      this.changed();
    };
    const left = this.#fields("Field", read.left);
    left.addEventListener("change", () => set("left", left.value));
    const operator = select("Operator", this.choices.operators.map((sign) => [sign, sign]), read.operator);
    operator.addEventListener("change", () => set("operator", operator.value));
    const factor = made("input", "field factor");
    Object.assign(factor, { type: "text", inputMode: "decimal", autocomplete: "off", spellcheck: false, value: read.factor });
    factor.setAttribute("aria-label", "Number");
    factor.addEventListener("input", () => {
      const valid = isNumber(factor.value);
      factor.setAttribute("aria-invalid", String(!valid));
      if (valid) set("factor", factor.value.trim());
    });
    const field = this.#fields("Times field", read.field, { none: "number", before: "× " });
    field.addEventListener("change", () => set("field", field.value));
    return [left, operator, factor, field];
  }

  #fields(label, value, { none = null, before = "" } = {}) {
    const groups = Map.groupBy(this.choices.fields, ({ group }) => group);
    const chosen = made("select", "");
    chosen.setAttribute("aria-label", label);
    if (none !== null) chosen.append(new Option(none, ""));
    for (const [name, fields] of groups) {
      const group = document.createElement("optgroup");
      group.label = name;
      group.append(...fields.map((field) => new Option(before + field.label, field.name)));
      chosen.append(group);
    }
    chosen.value = value;
    return chosen;
  }
}

function select(label, options, value) {
  const chosen = made("select", "");
  chosen.setAttribute("aria-label", label);
  chosen.append(...options.map(([text, key]) => new Option(text, key)));
  chosen.value = value;
  return chosen;
}
