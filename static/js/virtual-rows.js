// Long tables: only the rows in sight and a few around them are in the document, spacers stand for the rest.
//
// A row is an object with mount() → its element, made when it comes into sight, and unmount(). The page scrolls, not the
// table, so that find, zoom and the phone's address bar work as everywhere.
const OVERSCAN = 8; // rows above and below what is in sight

function spacer(columns) {
  const row = document.createElement("tr");
  row.className = "spacer";
  row.setAttribute("aria-hidden", "true");
  const cell = document.createElement("td");
  cell.colSpan = columns;
  row.append(cell);
  return { row, cell, height: -1 };
}

class Group {
  #mounted = new Set();

  constructor(key, columns) {
    this.key = key;
    this.body = document.createElement("tbody");
    this.body.dataset.exchange = key;
    this.above = spacer(columns);
    this.below = spacer(columns);
    this.items = [];
  }

  fill({ head, items }, first) {
    this.head = head;
    this.items = items;
    this.first = first; // aria-rowindex of the head, or of the first row without one
    this.body.replaceChildren(...(head ? [head] : []), this.above.row, this.below.row);
    head?.setAttribute("aria-rowindex", String(first));
    this.#mounted = new Set(); // their elements are mounted again below: the same object has the same element
    this.from = this.to = -1;
  }

  /** The rows [from, to) stand in the document; `leave(row)` drops one that no longer does. */
  render(from, to, rowHeight, leave) {
    if (this.from === from && this.to === to && this.rowHeight === rowHeight) return;
    Object.assign(this, { from, to, rowHeight });
    const wanted = this.items.slice(from, to);
    const keep = new Set(wanted);
    for (const item of this.#mounted) if (!keep.has(item)) leave(item);
    this.#mounted = keep;
    let before = this.below.row;
    for (let index = wanted.length - 1; index >= 0; index -= 1) {
      const element = wanted[index].mount();
      element.setAttribute("aria-rowindex", String(this.first + (this.head ? 1 : 0) + from + index));
      if (element.nextSibling !== before || element.parentNode !== this.body) this.body.insertBefore(element, before);
      before = element;
    }
    stretch(this.above, from * rowHeight);
    stretch(this.below, (this.items.length - to) * rowHeight);
  }

  get mounted() {
    return this.#mounted;
  }
}

function stretch(one, height) {
  if (one.height === height) return;
  one.height = height;
  one.row.hidden = height === 0;
  one.cell.style.height = `${height}px`;
}

export class VirtualRows {
  #groups = new Map();
  #shown = [];
  #frame = 0;
  #rowHeight = 32;
  #headHeight = 0;

  constructor(table, { columns, rowHeight = 32 }) {
    this.table = table;
    this.columns = columns;
    this.items = []; // every row, from top to bottom
    this.active = null; // the row that the keyboard is at
    this.#rowHeight = rowHeight;
    addEventListener("scroll", () => this.#later(), { passive: true });
    addEventListener("resize", () => {
      this.#measure();
      this.#later();
    });
    table.addEventListener("focusin", ({ target }) => {
      const row = this.items.find((item) => item.element?.contains(target));
      if (row) this.#activate(row);
    });
  }

  /** These groups from now on: [{key, head, items}], in this order. */
  show(groups) {
    const focused = this.active?.element?.contains(document.activeElement);
    const before = new Set(this.#shown.flatMap((group) => [...group.mounted]));
    let index = 2; // 1 is the header
    const bodies = groups.map((wanted) => {
      if (!this.#groups.has(wanted.key)) this.#groups.set(wanted.key, new Group(wanted.key, this.columns));
      const group = this.#groups.get(wanted.key);
      group.fill(wanted, index);
      index += wanted.items.length + (wanted.head ? 1 : 0);
      return group;
    });
    for (const group of this.#shown) if (!bodies.includes(group)) group.body.remove();
    bodies.forEach((group, place) => {
      const next = this.table.tBodies[place];
      if (next !== group.body) this.table.insertBefore(group.body, next ?? null);
    });
    this.#shown = bodies;
    this.items = groups.flatMap(({ items }) => items);
    this.table.setAttribute("aria-rowcount", String(index - 1));
    this.render();
    const standing = new Set(bodies.flatMap((group) => [...group.mounted]));
    for (const item of before) if (!standing.has(item)) item.unmount();
    this.#measure();
    if (this.active && !this.items.includes(this.active)) this.active = null;
    if (focused && this.active?.element) this.active.element.querySelector("a").focus({ preventScroll: true });
  }

  render() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    let top = this.table.getBoundingClientRect().top + (this.table.tHead?.offsetHeight ?? 0);
    for (const group of this.#shown) {
      top += group.head ? this.#headHeight : 0;
      const count = group.items.length;
      const within = (y) => Math.max(0, Math.min(count, y));
      const from = within(Math.floor(-top / this.#rowHeight) - OVERSCAN);
      const to = Math.max(from, within(Math.ceil((innerHeight - top) / this.#rowHeight) + OVERSCAN));
      group.render(from, to, this.#rowHeight, (item) => item.unmount());
      top += count * this.#rowHeight;
    }
    this.#tabStop();
  }

  /** Goes `step` rows on from where the keyboard is; false where there is no further row. */
  move(step) {
    const at = this.items.indexOf(this.active);
    const last = this.items.length - 1;
    const wanted = at === -1 ? (step > 0 ? 0 : last) : at + step;
    if (last < 0 || (Math.abs(step) === 1 && (wanted < 0 || wanted > last))) return false;
    this.focus(this.items[Math.max(0, Math.min(last, wanted))]);
    return true;
  }

  /** Brings a row into sight and the keyboard to it. */
  focus(item) {
    this.#reveal(item);
    this.#activate(item);
    item.element.querySelector("a").focus({ preventScroll: true });
  }

  /** How many rows a page key goes. */
  get page() {
    return Math.max(1, Math.floor((innerHeight - this.#inset()) / this.#rowHeight) - 1);
  }

  #activate(item) {
    this.active = item;
    this.#tabStop();
  }

  /** One row can be reached by Tab: the active one, else the first that is in the document. */
  #tabStop() {
    const mounted = this.#shown.flatMap((group) => group.items.slice(group.from, group.to));
    const stop = mounted.includes(this.active) ? this.active : mounted[0];
    for (const item of mounted) item.element.querySelector("a").tabIndex = item === stop ? 0 : -1;
  }

  #reveal(item) {
    let top = this.table.getBoundingClientRect().top + (this.table.tHead?.offsetHeight ?? 0);
    for (const group of this.#shown) {
      top += group.head ? this.#headHeight : 0;
      const at = group.items.indexOf(item);
      if (at !== -1) {
        top += at * this.#rowHeight;
        break;
      }
      top += group.items.length * this.#rowHeight;
    }
    const inset = this.#inset();
    if (top < inset) scrollBy({ top: top - inset, behavior: "instant" });
    else if (top + this.#rowHeight > innerHeight) scrollBy({ top: top + this.#rowHeight - innerHeight + 4, behavior: "instant" });
    this.render();
  }

  /** What the sticky heads cover of the page's top. */
  #inset() {
    const head = this.table.tHead;
    const bar = parseFloat(getComputedStyle(head.rows[0].cells[0]).top) || 0;
    return bar + head.offsetHeight + this.#headHeight;
  }

  #measure() {
    const mounted = this.#shown.flatMap((group) => [...group.mounted])[0];
    const row = mounted?.element.offsetHeight || this.#rowHeight;
    const head = this.#shown[0]?.head?.offsetHeight || 0;
    if (row === this.#rowHeight && head === this.#headHeight) return;
    this.#rowHeight = row;
    this.#headHeight = head;
    this.render();
  }

  #later() {
    this.#frame ||= requestAnimationFrame(() => this.render());
  }
}

/** Up, down, page keys, Home and End walk the rows; "/" goes to `filter`, Enter there opens the first row. */
export function bindRowKeys(rows, { filter }) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key, target } = event;
    const typing = target.closest?.("input, select, textarea") !== null && target !== filter;
    if (typing || target.closest?.("dialog, [popover]")) return;
    const inside = rows.active?.element?.contains(target) === true;
    const steps = { ArrowDown: 1, ArrowUp: -1, ...(inside ? { PageDown: rows.page, PageUp: -rows.page, Home: -Infinity, End: Infinity } : {}) };
    if (key === "/" && target !== filter) filter?.focus();
    else if (key in steps) {
      if (!rows.move(steps[key]) && key === "ArrowUp") filter?.focus();
    } else if (key === "Enter" && target === filter) rows.items[0]?.mount().querySelector("a").click();
    else return;
    event.preventDefault();
  });
}
