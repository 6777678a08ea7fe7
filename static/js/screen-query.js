// A screen and its address: timeframe, conditions, order, exchange. What the address cannot say is not remembered.
const COMPARISON = /^\s*([^<>=!]+?)\s*(<=|>=|!=|==?|<|>)\s*([^<>=!]+?)\s*$/;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

export const USUAL_ORDER = "-change_24h";

const split = (text) => (text ?? "").split(",").map((part) => part.replace(/\s+/g, "")).filter(Boolean);

export class ScreenQuery {
  constructor(address) {
    const asked = new URLSearchParams(address);
    this.timeframe = asked.get("timeframe") ?? "1h";
    this.exchange = asked.get("exchange") ?? "";
    this.sort = asked.get("sort") || USUAL_ORDER;
    this.where = split(asked.get("where"));
  }

  /** The part after "?", for the API and for the address alike. */
  get text() {
    const said = new URLSearchParams({ timeframe: this.timeframe });
    if (this.where.length > 0) said.set("where", this.where.join(","));
    said.set("sort", this.sort);
    if (this.exchange) said.set("exchange", this.exchange);
    return said.toString().replaceAll("%2C", ",").replaceAll("%2F", "/").replaceAll("%3C", "<").replaceAll("%3E", ">").replaceAll("%3D", "=");
  }

  has(preset) {
    return split(preset.where).every((part) => this.where.includes(part));
  }

  /** A preset's conditions join the others, and its order holds; a second time takes them out. */
  toggle(preset) {
    const parts = split(preset.where);
    if (this.has(preset)) {
      this.where = this.where.filter((part) => !parts.includes(part));
      if (this.sort === preset.sort) this.sort = USUAL_ORDER;
    } else {
      this.where = [...this.where, ...parts.filter((part) => !this.where.includes(part))];
      this.sort = preset.sort;
    }
  }
}

/** {left, operator, factor, field} of a condition that selects can show; null for one that only text can. */
export function readCondition(text, names) {
  const [, left, operator, right] = COMPARISON.exec(text) ?? [];
  if (!left || !names.has(left)) return null;
  const sign = operator === "==" ? "=" : operator;
  if (NUMBER.test(right)) return { left, operator: sign, factor: right, field: "" };
  if (names.has(right)) return { left, operator: sign, factor: "1", field: right };
  const parts = right.split("*");
  const field = parts.find((part) => names.has(part));
  const factor = parts.find((part) => NUMBER.test(part));
  return parts.length === 2 && field && factor ? { left, operator: sign, factor, field } : null;
}

export function writeCondition({ left, operator, factor, field }) {
  const right = field === "" ? factor : factor === "1" ? field : `${factor}*${field}`;
  return `${left}${operator}${right}`;
}

export const isNumber = (text) => NUMBER.test(text.trim());
