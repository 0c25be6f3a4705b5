/**
 * Which primitives proposals, survivors and the front are made of, and how that moved.
 * @module
 */
import { get } from "../api.js";
import { fill, h, s } from "../dom.js";
import { percent } from "../format.js";
import { saveButton } from "../pictures.js";
import { T } from "../strings.js";
import { plainTable } from "../table.js";
import { colour } from "../theme.js";
import { emptyState, loadInto, segments } from "../ui.js";

export class Primitives {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    /** @type {"proposals" | "survivors" | "front"} */
    this.set = "survivors";
    this.element = h("div", { class: "panel" });
    this.rows = h("div", {});
    this.model = model;
    this.off = model.onBrush(this);
    this.load();
  }

  close() {
    this.off();
  }

  load() {
    const ranges = this.ranges = this.model.ranges;
    loadInto(this.element, async () => {
      const found = await get(`${this.model.path}/primitive-shares`, { bins: 24, range: ranges });
      if (ranges !== this.ranges) return null;
      this.found = found;
      if (!this.found.rows.length) return emptyState(T.primitives.none);
      this.draw();
      const help = ranges.length ? `${T.primitives.help} ${T.primitives.inside}` : T.primitives.help;
      return [h("div", { class: "panel-bar" }, h("p", { class: "quiet panel-help" }, help), h("div", { class: "spacer" }),
        segments(Object.entries(T.primitives.sets).map(([value, text]) => ({ value, text })), this.set, (value) => {
          this.set = /** @type {"front"} */ (value);
          this.draw();
        }, T.primitives.setLabel), saveButton({ name: "primitives", figure: () => this.figure(), table: () => this.table(), size: () => [900, 120 + 16 * this.found.rows.length] })), this.rows];
    }, 6);
  }

  /** The chosen set over births, as shades. */
  figure() {
    const rows = [...this.found.rows].reverse();
    return { traces: [{ type: "heatmap", x: this.found.births, y: rows.map((row) => row.primitive), z: rows.map((row) => row[this.set].map((/** @type {number | null} */ one) => one && 100 * one)),
                        colorscale: [[0, `${colour("c1")}11`], [1, colour("c1")]], colorbar: { ticksuffix: " %", thickness: 12 } }],
             layout: { margin: { l: 150, r: 20, t: 20, b: 44 }, xaxis: { title: T.table.birth }, yaxis: { type: "category", nticks: rows.length } } };
  }

  table() {
    const sets = /** @type {const} */ (["proposals", "survivors", "front"]);
    return { columns: ["primitive", "from_birth", ...sets], rows: this.found.rows.flatMap((/** @type {any} */ row) =>
      this.found.births.map((/** @type {number} */ birth, /** @type {number} */ i) => [row.primitive, birth, ...sets.map((set) => row[set][i])])) };
  }

  draw() {
    const last = (/** @type {any} */ row, /** @type {"proposals"} */ set) => row[set].findLast((/** @type {number | null} */ one) => one !== null) ?? null;
    const first = (/** @type {any} */ row) => row[this.set].find((/** @type {number | null} */ one) => one !== null) ?? null;
    const rows = [...this.found.rows].sort((a, b) => (last(b, /** @type {any} */ (this.set)) ?? 0) - (last(a, /** @type {any} */ (this.set)) ?? 0));
    fill(this.rows, plainTable([{ title: T.primitives.primitive }, { title: T.primitives.trend }, { title: T.primitives.first, align: "right" },
      ...Object.values(T.primitives.sets).map((title) => ({ title: `${title}, ${T.primitives.last}`, align: /** @type {const} */ ("right") }))],
    rows.map((row) => [h("code", {}, row.primitive), strip(row[this.set], row.primitive), percent(first(row), 0),
      ...["proposals", "survivors", "front"].map((set) => {
        const value = last(row, /** @type {any} */ (set));
        return h("span", { class: set === this.set ? "" : "quiet" }, percent(value, 0));
      })]), T.tabs.primitives));
  }
}

/**
 * A share over time as cells: the higher, the fuller.
 * @param {(number | null)[]} values
 * @param {string} name
 */
function strip(values, name) {
  return s("svg", { width: values.length * 9, height: 18, role: "img", "aria-label": `${name}: ${values.map((one) => percent(one, 0)).join(", ")}` },
    values.map((value, i) => value !== null && s("rect", { x: i * 9, width: 8, rx: 1, y: 17 - Math.max(1, 16 * value), height: Math.max(1, 16 * value), fill: "var(--c1)", opacity: 0.35 + 0.65 * value })));
}
