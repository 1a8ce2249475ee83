// A sortable table that changes in place. A row keeps its element as long as its key exists, so that focus and selection
// survive when the numbers change.

import { $, make, set } from "./dom.js";
import { NONE } from "./format.js";

const kind = (column) => (column.text ? "words" : "number");

export class Table {
  /**
   * `columns`: key, label, and maybe `format(value)`, `hint`, `text` (true for words: aligned left, first sorted in ascending
   * order), `head` (the header of its row), `alarm(value)`, `node(row)` (an element instead of a text, made once for a row) and
   * `refresh(node, row)`, which updates it. `sort`: the key to sort by at first. `key(row)`: the identity of a row. `sorted()` is
   * called when the user has chosen another order.
   */
  constructor(id, title, hint, columns, { sort, key, selected = () => false, sorted = () => {} }) {
    this.columns = columns;
    this.key = key;
    this.selected = selected;
    this.order = { key: sort, up: false };
    this.rows = [];
    this.elements = new Map();
    this.section = $("table").content.firstElementChild.cloneNode(true);
    const part = (name) => this.section.querySelector(name);
    [this.scroll, this.note, this.hint] = [part(".scroll"), part(".empty"), part("p")];
    const [heading, table] = [part("h2"), part("table")];
    heading.id = `${id}-title`;
    heading.textContent = title;
    this.hint.textContent = hint;
    table.id = id;
    for (const element of [this.scroll, table]) element.setAttribute("aria-labelledby", heading.id);
    this.#head(table.createTHead().insertRow(), sorted);
    this.body = table.createTBody();
  }

  #head(row, sorted) {
    for (const column of this.columns) {
      const onclick = () => {
        const up = this.order.key === column.key ? !this.order.up : Boolean(column.text);
        this.order = { key: column.key, up };
        this.#show();
        sorted();
      };
      const button = make("button", { type: "button", textContent: column.label, title: column.hint ?? "", onclick });
      column.cell = make("th", { scope: "col", className: kind(column) }, button);
      row.append(column.cell);
    }
  }

  /** Shows rows. `empty` is the text if there are none. */
  update(rows, empty) {
    this.rows = rows;
    set(this.note, empty);
    this.#show();
  }

  #show() {
    const { key, up } = this.order;
    for (const column of this.columns) {
      if (column.key === key) column.cell.setAttribute("aria-sort", up ? "ascending" : "descending");
      else column.cell.removeAttribute("aria-sort");
    }
    const value = (row) => row[key] ?? (typeof row[key] === "string" ? "" : -Infinity);
    const sorted = [...this.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      const order = x < y ? -1 : x > y ? 1 : 0;
      return (up ? order : -order) || (this.key(a) < this.key(b) ? -1 : 1);
    });
    const gone = new Set(this.elements.keys());
    sorted.forEach((row, i) => {
      const id = this.key(row);
      gone.delete(id);
      let element = this.elements.get(id);
      if (!element) {
        const cells = this.columns.map((column) => make(column.head ? "th" : "td", { className: kind(column), ...(column.head && { scope: "row" }) }));
        element = make("tr", {}, ...cells);
        this.elements.set(id, element);
      }
      if (this.body.rows[i] !== element) this.#move(element, this.body.rows[i] ?? null);
      this.#fill(element, row);
    });
    for (const id of gone) {
      this.elements.get(id).remove();
      this.elements.delete(id);
    }
    this.scroll.hidden = sorted.length === 0;
    this.note.hidden = sorted.length > 0;
  }

  /** Moves a row and keeps the focus of its contents. */
  #move(element, before) {
    const focused = element.contains(document.activeElement) && document.activeElement;
    this.body.insertBefore(element, before);
    if (focused) focused.focus({ preventScroll: true });
  }

  #fill(element, row) {
    element.classList.toggle("selected", this.selected(row));
    this.columns.forEach((column, i) => {
      const cell = element.cells[i];
      if (column.node) {
        if (!cell.firstChild) cell.append(column.node(row));
        column.refresh?.(cell.firstChild, row);
        return;
      }
      const value = row[column.key];
      set(cell, value == null ? NONE : String(column.format ? column.format(value) : value));
      cell.classList.toggle("alarm", Boolean(column.alarm?.(value)));
    });
  }
}
