/**
 * The best candidate of each size, and what each further node buys.
 * @module
 */
import { get } from "../api.js";
import { h } from "../dom.js";
import { dotSource } from "../dots.js";
import { count, gainText, points } from "../format.js";
import { saveButton } from "../pictures.js";
import { T, WORDS } from "../strings.js";
import { plainTable } from "../table.js";
import { emptyState, loadInto, word } from "../ui.js";
import { intervals } from "./verdict.js";

export class Simplest {
  /**
   * @param {import("./model.js").Model} model
   * @param {any} page
   */
  constructor(model, page) {
    this.page = page;
    this.model = model;
    this.element = h("div", { class: "panel" });
    this.off = model.onBrush(this);
    this.load();
  }

  close() {
    this.off();
  }

  load() {
    const ranges = this.ranges = this.model.ranges;
    loadInto(this.element, async () => this.content(await get(`${this.model.path}/simplest`, { range: ranges })), 5);
  }

  /** @param {any} found */
  content(found) {
    if (!found.rows.length) return emptyState(this.ranges?.length ? T.simplest.noneInside : T.simplest.none);
    const rows = found.rows.map((/** @type {any} */ row) => ({ name: String(row.live_nodes), gain: row.gain, strong: row.confirmed }));
    const open = (/** @type {any} */ row) => h("button", { type: "button", class: "linklike mono", onclick: () => this.page.openDrawer(row.birth) }, row.birth);
    const buys = (/** @type {any} */ row) => (row.buys === null ? "" : h("span", { class: row.buys > 0 ? "good" : "quiet" }, points(row.buys)));
    return [h("p", { class: "quiet panel-help" }, T.simplest.help),
      h("div", { class: "split" },
        plainTable([{ title: word("live_nodes", T.simplest.nodes), align: "right" }, { title: T.table.id, align: "right" }, { title: T.table.formula },
          { title: h("span", { data: { tip: WORDS.gain } }, T.simplest.gain), align: "right" }, { title: T.table.seeds, align: "right" },
          { title: T.simplest.buys, align: "right" }, { title: T.simplest.candidates, align: "right" }],
        found.rows.map((/** @type {any} */ row) => [row.live_nodes, open(row), h("code", {}, row.formula ?? ""),
          gainText(row.gain), row.seeds, buys(row), count(row.candidates)]), T.tabs.simplest),
        h("div", {}, h("div", { class: "panel-bar" }, h("h3", {}, T.simplest.chart), h("div", { class: "spacer" }),
          saveButton({ ...dotSource("simplest", () => rows), table: () => ({ columns: ["live_nodes", "candidate", "formula", "gain", "low", "high", "seeds", "buys", "candidates"],
            rows: found.rows.map((/** @type {any} */ row) => [row.live_nodes, row.birth, row.formula, row.gain.value, row.gain.low, row.gain.high, row.seeds, row.buys, row.candidates]) }) })),
          intervals(rows, T.simplest.chart)))];
  }
}
