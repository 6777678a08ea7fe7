// A table whose rows stay the same elements from look to look: only texts that differ are written, so nothing jumps.
import { put } from "./format.js";

export class StatusTable {
  #rows = new Map();
  #body;
  #empty = document.createElement("tr");

  /** columns: [{kind, text(item), title?(item), dot?(item), build?(cell, key) → update(item)}]; key(item); empty: words. */
  constructor(table, { columns, key, empty }) {
    this.columns = columns;
    this.key = key;
    this.skeleton = table.querySelector("[data-skeleton]");
    this.#body = document.createElement("tbody");
    table.append(this.#body);
    const cell = this.#empty.insertCell();
    cell.colSpan = columns.length;
    cell.className = "empty";
    cell.textContent = empty;
  }

  show(items, empty) {
    this.skeleton?.remove();
    if (empty !== undefined) put(this.#empty.cells[0], empty);
    const keys = items.map((item) => String(this.key(item)));
    for (const [key, row] of this.#rows) {
      if (keys.includes(key)) continue;
      row.element.remove();
      this.#rows.delete(key);
    }
    items.forEach((item, index) => {
      const row = this.#rows.get(keys[index]) ?? this.#make(keys[index]);
      row.update(item);
      if (this.#body.rows[index] !== row.element) this.#body.insertBefore(row.element, this.#body.rows[index] ?? null);
    });
    if (items.length === 0) this.#body.append(this.#empty);
    else this.#empty.remove();
  }

  #make(key) {
    const element = document.createElement("tr");
    element.dataset.key = key;
    const updates = this.columns.map((column, index) => {
      const cell = document.createElement(index === 0 ? "th" : "td");
      if (index === 0) cell.scope = "row";
      cell.className = column.kind;
      element.append(cell);
      return column.build ? column.build(cell, key) : plain(cell, column);
    });
    const row = { element, update: (item) => updates.forEach((update) => update(item)) };
    this.#rows.set(key, row);
    return row;
  }
}

function plain(cell, { text, title, dot }) {
  const holder = dot ? cell.appendChild(document.createElement("span")) : cell;
  if (dot) holder.className = "state";
  return (item) => {
    put(holder, text(item));
    const more = title?.(item) ?? "";
    if (cell.title !== more) cell.title = more;
    if (dot) holder.dataset.state = dot(item);
  };
}
