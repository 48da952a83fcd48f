// A virtual grid: only the cells in sight exist, whatever the number of images; any index is one jump away.

import { h } from "./dom.js";

const SPARE_ROWS = 2;
const PASSING = 150;  // milliseconds a screen: what goes by faster is not looked at

export class Grid {
  // `fill(cell, index)` paints a cell; `need(first, last, passing)` says which indices are in sight or soon will be, and
  // whether they only go by; `label` names the list.
  constructor({ label, size, fill, need, chosen }) {
    Object.assign(this, { size, fill, need, chosen, total: 0, at: 0, across: 1, cells: new Map(), spare: [] });
    this.field = h("div", { class: "field", role: "presentation" });
    this.scroller = h("div", { class: "scroller quiet-keys", tabindex: "0", role: "listbox", "aria-label": label }, this.field);
    this.scroller.addEventListener("scroll", () => this.soon(), { passive: true });
    this.watcher = new ResizeObserver(() => this.measure());
    this.watcher.observe(this.scroller);
  }

  leave() {
    this.watcher.disconnect();
    cancelAnimationFrame(this.frame);
  }

  setTotal(total) {
    this.total = total;
    this.at = Math.min(this.at, Math.max(0, total - 1));
    this.measure();
    for (const [index, cell] of this.cells) {
      cell.setAttribute("aria-setsize", total);
      this.fill(cell, index);
    }
  }

  setSize(size) {
    this.size = size;
    const top = this.firstInSight();
    this.measure();
    this.scroller.scrollTop = Math.floor(top / this.across) * this.side;
  }

  firstInSight() {
    return Math.floor(this.scroller.scrollTop / (this.side || 1)) * this.across;
  }

  measure() {
    const width = this.scroller.clientWidth;
    if (!width) return;
    this.across = Math.max(2, Math.floor(width / this.size));
    this.side = width / this.across;
    this.field.style.height = `${Math.ceil(this.total / this.across) * this.side}px`;
    for (const [index, cell] of this.cells) this.place(cell, index);
    this.draw();
  }

  soon() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  // `landing` is true after a jump, which goes by nothing.
  draw(landing = false) {
    const rows = Math.ceil(this.scroller.clientHeight / this.side);
    const top = Math.floor(this.scroller.scrollTop / this.side);
    const passing = this.moved() && !landing;
    const [before, after] = [-1, 1].map((way) => (way === this.way && !passing ? Math.max(SPARE_ROWS, rows) : SPARE_ROWS));
    const first = Math.max(0, (top - before) * this.across);
    const last = Math.min(this.total, (top + rows + 1 + after) * this.across);
    for (const [index, cell] of this.cells) {
      if (index >= first && index < last) continue;
      this.cells.delete(index);
      cell.setAttribute("aria-selected", "false");
      this.spare.push(cell);
    }
    this.need(first, last, passing);
    for (let index = first; index < last; index += 1) {
      if (!this.cells.has(index)) this.add(index);
    }
    for (const cell of this.spare.splice(60)) cell.remove();
    for (const cell of this.spare) cell.hidden = true;
  }

  // Notes which way the hand scrolls, and says whether faster than anybody looks.
  moved() {
    const { scrollTop, clientHeight } = this.scroller;
    const now = performance.now();
    const by = scrollTop - (this.top ?? 0);
    const screens = Math.abs(by) / (clientHeight || 1);
    const spent = now - (this.drawn ?? 0);
    Object.assign(this, { top: scrollTop, drawn: now, way: Math.sign(by) || (this.way ?? 1) });
    return screens * PASSING > spent;
  }

  add(index) {
    const cell = this.spare.pop() ?? this.make();
    cell.hidden = false;
    this.cells.set(index, cell);
    cell.index = index;
    cell.id = `cell-${index}`;
    cell.setAttribute("aria-posinset", index + 1);
    cell.setAttribute("aria-setsize", this.total);
    cell.setAttribute("aria-selected", String(index === this.at));
    this.place(cell, index);
    this.fill(cell, index);
  }

  make() {
    const cell = h("div", { class: "cell", role: "option" });
    cell.addEventListener("click", (event) => {
      const before = this.at;
      this.select(cell.index);
      this.chosen?.(cell.index, event, before);
    });
    this.field.append(cell);
    return cell;
  }

  place(cell, index) {
    const row = Math.floor(index / this.across);
    cell.style.width = `${this.side}px`;
    cell.style.height = `${this.side}px`;
    cell.style.transform = `translate(${(index - row * this.across) * this.side}px, ${row * this.side}px)`;
  }

  // Paints one cell anew, or all that exist.
  refresh(index = null) {
    for (const [place, cell] of this.cells) if (index === null || index === place) this.fill(cell, place);
  }

  select(index, reveal = true) {
    const before = this.at;
    this.at = Math.min(this.total - 1, Math.max(0, index));
    if (reveal) this.reveal();
    this.cells.get(before)?.setAttribute("aria-selected", "false");
    this.cells.get(this.at)?.setAttribute("aria-selected", "true");
    this.scroller.setAttribute("aria-activedescendant", `cell-${this.at}`);
  }

  reveal() {
    const top = Math.floor(this.at / this.across) * this.side;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    else if (top + this.side > this.scroller.scrollTop + this.scroller.clientHeight) this.scroller.scrollTop = top + this.side - this.scroller.clientHeight;
    this.draw();
  }

  jump(index) {
    this.scroller.scrollTop = Math.floor(index / this.across) * this.side;
    this.draw(true);
    this.select(index);
  }

  key(name) {
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.side)) * this.across;
    const steps = { left: -1, right: 1, up: -this.across, down: this.across, PageUp: -page, PageDown: page };
    if (name in steps) this.select(this.at + steps[name]);
    else if (name === "Home") this.select(0);
    else if (name === "End") this.select(this.total - 1);
    else return false;
    return true;
  }
}
