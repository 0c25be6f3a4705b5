/**
 * Ancestry: of one candidate, or of the whole front; the nearest generations on the right.
 * @module
 */
import { get } from "../api.js";
import { h, s } from "../dom.js";
import { points, score } from "../format.js";
import { params } from "../router.js";
import { T } from "../strings.js";
import { emptyState, loadInto, loadingState, segments } from "../ui.js";

const DEPTH = 14;
const MOST_FRONT = 8;
const WIDE = 118;
const HIGH = 40;

export class Lineage {
  /**
   * @param {import("./model.js").Model} model
   * @param {any} page
   */
  constructor(model, page) {
    this.model = model;
    this.page = page;
    this.whole = false;
    this.element = h("div", { class: "panel" });
    this.off = model.on("line", () => {
      if (!this.shown) this.load();
    });
    this.load();
  }

  close() {
    this.off();
  }

  update() {
    if (params().get("of") !== this.of) this.load();
  }

  load() {
    this.of = params().get("of");
    loadInto(this.element, () => this.content(), 5);
  }

  async content() {
    const leader = this.model.data.line?.verdict.leader?.birth ?? null;
    const chosen = this.of ? Number(this.of) : leader;
    if (chosen === null) return this.model.data.line ? emptyState(T.verdict.nothingYet) : loadingState(5);
    this.shown = true;
    const births = this.whole
      ? (await get(`${this.model.path}/front`)).candidates.slice(0, MOST_FRONT).map((/** @type {any} */ one) => one.birth) : [chosen];
    const answers = await Promise.all(births.map((/** @type {number} */ birth) =>
      get(`${this.model.path}/candidates/${birth}/lineage`, { depth: DEPTH })));
    const bar = h("div", { class: "panel-bar" }, h("p", { class: "quiet panel-help" }, T.lineage.help), h("div", { class: "spacer" }),
      segments([{ value: "one", text: T.lineage.one(chosen) }, { value: "front", text: T.lineage.whole }], this.whole ? "front" : "one", (value) => {
        this.whole = value === "front";
        this.load();
      }, T.lineage.label));
    const nothing = answers.every((one) => !one.ancestors.length);
    return [bar, nothing ? emptyState(T.lineage.none) : this.tree(births, answers),
      answers.some((one) => one.truncated) && h("p", { class: "small quiet" }, T.lineage.truncated)];
  }

  /**
   * @param {number[]} roots
   * @param {any[]} answers
   */
  tree(roots, answers) {
    /** @type {Map<number, any>} */
    const known = new Map(answers.flatMap((one) => one.candidates).map((one) => [one.birth, one]));
    const links = new Map(answers.flatMap((one) => one.ancestors).map((one) => [`${one.parent}-${one.child}`, one]));
    /** @type {Map<number, number>} */
    const depth = new Map(roots.map((birth) => [birth, 0]));
    for (const link of [...links.values()].sort((a, b) => a.distance - b.distance)) {
      depth.set(link.parent, Math.max(depth.get(link.parent) ?? 0, Math.min(DEPTH, (depth.get(link.child) ?? link.distance - 1) + 1)));
    }
    const deepest = Math.max(...depth.values());
    /** @type {Map<number, {x: number, y: number}>} */
    const places = new Map();
    const used = new Array(deepest + 1).fill(0);
    for (const [birth, level] of [...depth].sort((a, b) => a[1] - b[1] || b[0] - a[0])) {
      places.set(birth, { x: (deepest - level) * WIDE + 8, y: used[level]++ * HIGH + 8 });
    }
    const height = Math.max(...used) * HIGH + 16;
    const width = (deepest + 1) * WIDE + 16;
    const best = Math.max(...[...known.values()].map((one) => one.mean_score ?? 0));
    return h("div", { class: "lineage", tabindex: "0", role: "region", "aria-label": T.tabs.lineage },
      s("svg", { width, height, viewBox: `0 0 ${width} ${height}` },
        [...links.values()].map(({ parent, child }) => {
          const a = places.get(parent);
          const b = places.get(child);
          if (!a || !b) return null;
          const from = [a.x + WIDE - 24, a.y + 13];
          const to = [b.x, b.y + 13];
          const middle = (from[0] + to[0]) / 2;
          return [s("path", { d: `M${from}C${middle} ${from[1]} ${middle} ${to[1]} ${to}`, class: "branch" }),
            this.change(known.get(parent), known.get(child), middle, (from[1] + to[1]) / 2 - 3)];
        }),
        [...places].map(([birth, at]) => this.node(birth, at, known.get(birth), best, roots.includes(birth)))));
  }

  /**
   * What a mutation did to the number of live nodes, on the way from parent to child.
   * @param {any} parent
   * @param {any} child
   * @param {number} x
   * @param {number} y
   */
  change(parent, child, x, y) {
    if (!parent || !child) return null;
    const by = child.live_nodes - parent.live_nodes;
    return s("text", { x, y, class: "mutation", "text-anchor": "middle" }, by === 0 ? "=" : `${by > 0 ? "+" : "\u2212"}${Math.abs(by)}`);
  }

  /**
   * @param {number} birth
   * @param {{x: number, y: number}} at
   * @param {any} one
   * @param {number} best
   * @param {boolean} root
   */
  node(birth, at, one, best, root) {
    const made = s("g", { transform: `translate(${at.x} ${at.y})`, class: ["kin", one?.on_front && "front", root && "root", one?.origin], tabindex: "0", role: "button",
      "aria-label": `${T.drawer.title(birth)}: ${one?.formula ?? ""}`, data: { tip: one ? `${one.formula ?? ""}\n${one.origin}, ${one.live_nodes} ${T.table.nodes}` : "" },
      onclick: () => this.page.openDrawer(birth),
      onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && this.page.openDrawer(birth) },
    s("rect", { width: WIDE - 24, height: 27, rx: 6 }),
    one?.origin === "mutation" ? null : s("circle", { cx: WIDE - 33, cy: 8, r: 2.5, class: "origin" }),
    s("text", { x: 8, y: 12 }, String(birth)),
    s("text", { x: 8, y: 23, class: "sub" }, one?.mean_score === null || !one ? (one?.state ?? "") : `${score(one.mean_score)} (${points(one.mean_score - best)})`));
    return made;
  }
}

