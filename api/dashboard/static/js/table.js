/**
 * A table of any length: only the rows in view are elements. Rows come in pages by cursor, are
 * added below and never moved; what is new waits behind a chip. Keyboard as in a grid of the WAI.
 * @module
 */
import { fill, h } from "./dom.js";
import { T } from "./strings.js";
import { emptyState, errorState } from "./ui.js";

/**
 * @typedef {{key: string, title: string, tip?: string, width: string, align?: "right",
 *            sort?: string, least?: number, cell: (row: any) => any}} Column
 *   `sort`: name of the order by this column; `least`: width in pixels of the table below which
 *   the column is left out.
 * @typedef {{rows: any[], next: string | null}} Page
 * @typedef {{columns: Column[], key: (row: any) => string, label: string,
 *            load: (cursor: string | null, sort: string, signal: AbortSignal) => Promise<Page>,
 *            sort?: string, empty?: string, total?: () => number | null,
 *            onOpen?: (row: any) => void, onSelect?: (row: any, event: Event) => void,
 *            onSort?: (sort: string) => string, onNews?: () => void, onKey?: (event: KeyboardEvent, row: any) => void,
 *            rowClass?: (row: any) => string}} Options
 */

const AHEAD = 60;

export class Table {
  /** @param {Options} options */
  constructor(options) {
    this.options = options;
    /** @type {any[]} */
    this.rows = [];
    this.sort = options.sort ?? "";
    /** @type {string | null} */
    this._next = null;
    this._ended = false;
    this._busy = false;
    this._fresh = false;
    /** Whether an error stands in the place of the rows. */
    this.broken = false;
    this._version = 0;
    this._at = -1;
    /** @type {string | null} */
    this.marked = null;
    /** @type {AbortController | null} */
    this._abort = null;
    this.chip = h("button", { type: "button", class: "pill accent new-chip", hidden: true,
                              onclick: () => (options.onNews ?? (() => this.reload()))() });
    this.head = h("div", { class: "t-row t-head", role: "row" });
    this.body = h("div", { class: "t-body", role: "rowgroup" });
    this.foot = h("div", { class: "t-foot small quiet", role: "status" });
    this.scroller = h("div", { class: "t-scroll", role: "grid", "aria-label": options.label,
                               tabindex: "0" }, h("div", { role: "rowgroup", class: "t-headgroup" }, this.head), this.body);
    this.aside = h("div", { class: "t-aside", hidden: true });
    this.element = h("div", { class: "table" }, this.chip, this.scroller, this.aside, this.foot);
    this.scroller.addEventListener("scroll", () => this._schedule(), { passive: true });
    this.scroller.addEventListener("keydown", (/** @type {KeyboardEvent} */ e) => this._key(e));
    this.body.addEventListener("click", (/** @type {MouseEvent} */ e) => this._click(e));
    this.body.addEventListener("dblclick", (/** @type {MouseEvent} */ e) => {
      const row = this._rowOf(e);
      if (row && !inControl(e)) options.onOpen?.(row);
    });
    /** @type {Map<number, {element: HTMLElement, row: any}>} */
    this._shown = new Map();
    /** @type {number | null} */
    this._frame = null;
    this._sizes = new ResizeObserver(() => this._layout());
    this._sizes.observe(this.scroller);
    this._columns = options.columns;
    this._height = 30;
    this._layout();
  }

  close() {
    this._abort?.abort();
    this._sizes.disconnect();
  }

  /**
   * Loads anew from the top.
   * @param {string} [sort]
   */
  async reload(sort) {
    if (sort !== undefined) this.sort = sort;
    this._abort?.abort();
    this._abort = new AbortController();
    this._version += 1;
    this._next = null;
    this._ended = false;
    this._busy = false;
    this._fresh = true;
    this.broken = false;
    this.chip.hidden = true;
    this._heads();
    await this._more();
  }

  /**
   * @param {number} count rows that came in since
   * @param {string} [text] where the count is not all of it
   */
  offer(count, text = T.newRows(count)) {
    this.chip.hidden = count <= 0;
    if (count > 0) this.chip.textContent = text;
  }

  /**
   * Draws the rows in view anew, for what they show has changed.
   * @param {(row: any) => any} [change] new row, or undefined to keep it
   */
  refresh(change) {
    if (change) this.rows = this.rows.map((row) => change(row) ?? row);
    this._shown.clear();
    this.body.replaceChildren();
    this._paint();
  }

  /** Says anew how many rows there are, for the total has become known. */
  recount() {
    this._paint();
  }

  /** @param {string | null} key of the row that is open elsewhere */
  mark(key) {
    this.marked = key;
    for (const { element, row } of this._shown.values()) {
      element.setAttribute("aria-selected", String(this.options.key(row) === key));
    }
  }

  async _more() {
    if (this._busy || this._ended || !this._abort) return;
    this._busy = true;
    const version = this._version;
    const signal = /** @type {AbortController} */ (this._abort).signal;
    this.scroller.setAttribute("aria-busy", "true");
    try {
      const page = await this.options.load(this._next, this.sort, signal);
      if (version !== this._version) return;
      if (this._fresh) {
        this.rows = [];
        this._fresh = false;
        this.scroller.scrollTop = 0;
        this._at = -1;
        this.refresh();
      }
      for (const row of page.rows) this.rows.push(row);
      this._next = page.next;
      this._ended = page.next === null;
      this._busy = false;
      this._paint();
    } catch (err) {
      if (signal.aborted) return;
      this._busy = false;
      this._ended = true;
      this.rows = this._fresh ? [] : this.rows;
      this._failed(err);
    } finally {
      if (version === this._version) this.scroller.removeAttribute("aria-busy");
    }
  }

  /** @param {unknown} err */
  _failed(err) {
    this.broken = true;
    this._instead(errorState(err, () => this.reload()));
  }

  /**
   * Shows a state in the place of the grid, or the grid again.
   * @param {HTMLElement | null} state
   */
  _instead(state) {
    this.scroller.hidden = state !== null;
    this.aside.hidden = state === null;
    fill(this.aside, state);
    if (state) this.foot.textContent = "";
  }

  _layout() {
    const width = this.scroller.clientWidth || 1200;
    this._columns = this.options.columns.filter((one) => (one.least ?? 0) <= width);
    this._height = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row")) || 30;
    this.element.style.setProperty("--columns", this._columns.map((one) => one.width).join(" "));
    this._heads();
    this.refresh();
  }

  _heads() {
    const by = this.sort.replace(/^-/, "");
    fill(this.head, this._columns.map((one) => {
      const mine = one.sort !== undefined && one.sort.replace(/^-/, "") === by;
      const falling = this.sort.startsWith("-");
      const label = mine ? `${one.title} ${falling ? "\u2193" : "\u2191"}` : one.title;
      return h("div", {
        role: "columnheader", class: one.align === "right" ? "right" : "",
        "aria-sort": mine ? (falling ? "descending" : "ascending") : null,
      }, one.sort === undefined
        ? h("span", one.tip ? { class: "word", tabindex: "-1", data: { tip: one.tip } } : {}, one.title)
        : h("button", { type: "button", data: one.tip ? { tip: one.tip } : {}, onclick: () => {
            const next = mine ? (falling ? by : `-${by}`) : one.sort;
            this.reload(this.options.onSort?.(/** @type {string} */ (next)) ?? next);
          } }, label));
    }));
  }

  _schedule() {
    this._frame ??= requestAnimationFrame(() => {
      this._frame = null;
      this._paint();
    });
  }

  _paint() {
    const count = this.rows.length;
    if (this.broken || (!count && !this._abort)) return;
    if (!count && !this._busy && this._ended) {
      this._instead(emptyState(this.options.empty ?? T.nothingHere));
      return;
    }
    if (!this.aside.hidden) this._instead(null);
    if (!this._shown.size) this.body.replaceChildren();
    this.body.style.height = `${count * this._height}px`;
    this.scroller.setAttribute("aria-rowcount", String(this._ended ? count + 1 : -1));
    const top = Math.max(0, this.scroller.scrollTop - this.head.offsetHeight);
    const first = Math.max(0, Math.floor(top / this._height) - 8);
    const last = Math.min(count, Math.ceil((top + this.scroller.clientHeight) / this._height) + 8);
    for (const [place, { element }] of this._shown) {
      if (place < first || place >= last) {
        element.remove();
        this._shown.delete(place);
      }
    }
    for (let place = first; place < last; place++) {
      if (this._shown.has(place)) continue;
      const element = this._row(place);
      this._shown.set(place, { element, row: this.rows[place] });
      this.body.append(element);
    }
    const total = this.options.total?.() ?? null;
    this.foot.textContent = this._ended ? T.rows(count) : T.rowsOf(count, total);
    if (!this._busy && !this._ended && last + AHEAD >= count) this._more();
  }

  /** @param {number} place */
  _row(place) {
    const row = this.rows[place];
    const key = this.options.key(row);
    const made = h("div", {
      class: ["t-row", this.options.rowClass?.(row)], role: "row", "aria-rowindex": place + 2,
      "aria-selected": String(key === this.marked), tabindex: place === this._at ? "0" : "-1",
      data: { place: String(place) }, style: { top: `${place * this._height}px` },
    }, this._columns.map((one) => h("div", { role: "gridcell", class: one.align === "right" ? "right" : "" },
      one.cell(row))));
    reach(made, place === this._at);
    return made;
  }

  /** @param {Event} event */
  _rowOf(event) {
    const element = /** @type {Element} */ (event.target).closest?.("[data-place]");
    return element instanceof HTMLElement ? this.rows[Number(element.dataset.place)] : undefined;
  }

  /** @param {MouseEvent} event */
  _click(event) {
    const row = this._rowOf(event);
    if (!row || inControl(event)) return;
    this._at = this.rows.indexOf(row);
    this.options.onSelect?.(row, event);
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    if (inControl(event) && (event.key === "Enter" || event.key === " ")) return;
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this._height) - 2);
    const end = this.rows.length - 1;
    /** @type {Record<string, number>} */
    const moves = { ArrowDown: this._at + 1, ArrowUp: this._at - 1, PageDown: this._at + page,
                    PageUp: this._at - page, Home: 0, End: end };
    if (event.key in moves) {
      event.preventDefault();
      this._focus(Math.max(0, Math.min(end, moves[event.key])));
      return;
    }
    const row = this.rows[this._at];
    if (!row) return;
    if (event.key === "Enter") this.options.onOpen?.(row);
    else if (event.key === " ") {
      event.preventDefault();
      this.options.onSelect?.(row, event);
    } else this.options.onKey?.(event, row);
  }

  /** @param {number} place */
  _focus(place) {
    this._at = place;
    const top = place * this._height;
    const view = this.scroller;
    const head = this.head.offsetHeight;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + this._height + head > view.scrollTop + view.clientHeight) {
      view.scrollTop = top + this._height + head - view.clientHeight;
    }
    this._paint();
    const element = this._shown.get(place)?.element;
    for (const one of this._shown.values()) {
      one.element.tabIndex = -1;
      reach(one.element, one.element === element);
    }
    if (element) {
      element.tabIndex = 0;
      element.focus({ preventScroll: true });
    }
  }
}

/**
 * The buttons of the row at hand are reached by Tab, those of no other row.
 * @param {HTMLElement} row
 * @param {boolean} mine
 */
function reach(row, mine) {
  for (const one of row.querySelectorAll("button")) one.tabIndex = mine ? 0 : -1;
}

/** @param {Event} event */
function inControl(event) {
  return Boolean(/** @type {Element} */ (event.target).closest?.("button, a, input, select"));
}

/**
 * A plain table of few rows, for the tabs that need no paging.
 * @param {{title: any, align?: "right"}[]} columns
 * @param {any[][]} rows
 * @param {string} caption
 * @returns {HTMLElement}
 */
export function plainTable(columns, rows, caption) {
  return h("div", { class: "plain-table", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "visually-hidden" }, caption),
      h("thead", {}, h("tr", {}, columns.map((one) =>
        h("th", { scope: "col", class: one.align ?? "" }, one.title)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((value, place) =>
        h("td", { class: columns[place].align ?? "" }, value)))))));
}

