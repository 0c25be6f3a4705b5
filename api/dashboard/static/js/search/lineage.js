/**
 * Ancestry: of one candidate, or of the whole front; the nearest generations on the right.
 * @module
 */
import { get } from "../api.js";
import { h, s } from "../dom.js";
import { points, score } from "../format.js";
import { saveButton } from "../pictures.js";
import { params } from "../router.js";
import { T } from "../strings.js";
import { emptyState, loadInto, loadingState, segments } from "../ui.js";

const DEPTH = 14;
/** How many of the front are drawn, as the reader chooses; each takes a request. */
const CHOICES = [8, 16, 32, 64];
const STEP = 200;
const BOX = 94;
const HIGH = 40;
/** Width of what stands on a line. */
const SIGN = 84;

export class Lineage {
  /**
   * @param {import("./model.js").Model} model
   * @param {any} page
   */
  constructor(model, page) {
    this.model = model;
    this.page = page;
    this.whole = false;
    this.most = CHOICES[0];
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
    const front = this.whole ? (await get(`${this.model.path}/front`)).candidates.map((/** @type {any} */ one) => one.birth) : [];
    const births = this.whole ? front.slice(0, this.most) : [chosen];
    const answers = await Promise.all(births.map((/** @type {number} */ birth) =>
      get(`${this.model.path}/candidates/${birth}/lineage`, { depth: DEPTH })));
    const bar = h("div", { class: "panel-bar" }, h("p", { class: "quiet panel-help" }, T.lineage.help), h("div", { class: "spacer" }),
      this.whole && this.choice(front.length),
      segments([{ value: "one", text: T.lineage.one(chosen) }, { value: "front", text: T.lineage.whole }], this.whole ? "front" : "one", (value) => {
        this.whole = value === "front";
        this.load();
      }, T.lineage.label),
      saveButton({ name: "lineage", svg: () => this.element.querySelector(".lineage svg"), table: () => this.table(answers),
        drawn: () => this.element.querySelector(".lineage svg") !== null }));
    const nothing = answers.every((one) => !one.ancestors.length);
    return [bar, nothing ? emptyState(T.lineage.none) : this.tree(births, answers),
      answers.some((one) => one.truncated) && h("p", { class: "small quiet" }, T.lineage.truncated)];
  }

  /**
   * How many of the front are drawn, of how many.
   * @param {number} size
   */
  choice(size) {
    if (size <= CHOICES[0]) return null;
    const made = h("select", { class: "input pick", "aria-label": T.lineage.howMany, onchange: () => {
      this.most = Number(made.value);
      this.load();
    } }, CHOICES.filter((one, i) => i === 0 || CHOICES[i - 1] < size).map((one) =>
      h("option", { value: one, selected: one === this.most }, T.lineage.of(Math.min(one, size), size))));
    return made;
  }

  /** @param {any[]} answers */
  table(answers) {
    const known = new Map(answers.flatMap((one) => one.candidates).map((one) => [one.birth, one]));
    const links = new Map(answers.flatMap((one) => one.ancestors).map((one) => [`${one.parent}-${one.child}`, one]));
    return { columns: ["parent", "child", "operator", "live_nodes_before", "live_nodes", "origin", "mean_score", "on_front", "formula"],
             rows: [...links.values()].map(({ parent, child }) => {
               const one = known.get(child);
               return [parent, child, one?.operator, known.get(parent)?.live_nodes, one?.live_nodes, one?.origin, one?.mean_score, one?.on_front, one?.formula];
             }) };
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
    // Each parent left of all its children: one may be known by a short way before its long one.
    for (let moved = true; moved;) {
      moved = false;
      for (const { parent, child, distance } of links.values()) {
        const least = Math.min(DEPTH, (depth.get(child) ?? distance - 1) + 1);
        if ((depth.get(parent) ?? -1) >= least) continue;
        depth.set(parent, least);
        moved = true;
      }
    }
    const deepest = Math.max(...depth.values());
    /** @type {Map<number, {x: number, y: number}>} */
    const places = new Map();
    const used = new Array(deepest + 1).fill(0);
    for (const [birth, level] of [...depth].sort((a, b) => a[1] - b[1] || b[0] - a[0])) {
      places.set(birth, { x: (deepest - level) * STEP + 8, y: used[level]++ * HIGH + 8 });
    }
    const height = Math.max(...used) * HIGH + 16;
    const width = deepest * STEP + BOX + 16;
    const best = Math.max(...[...known.values()].map((one) => one.mean_score ?? 0));
    const made = h("div", { class: "lineage", tabindex: "0", role: "region", "aria-label": T.tabs.lineage },
      s("svg", { width, height, viewBox: `0 0 ${width} ${height}` },
        this.branches([...links.values()], places, known),
        [...places].map(([birth, at]) => this.node(birth, at, known.get(birth), best, roots.includes(birth)))));
    requestAnimationFrame(() => (made.scrollLeft = made.scrollWidth)); // who was asked for is in sight
    return made;
  }

  /**
   * A line from each parent to its child. What was done stands on it where there is room, the nearest
   * kin first; pointing at the line tells it, too.
   * @param {{parent: number, child: number}[]} links
   * @param {Map<number, {x: number, y: number}>} places
   * @param {Map<number, any>} known
   */
  branches(links, places, known) {
    /** @type {{x: number, y: number}[]} */
    const signs = [];
    const room = (/** @type {number} */ x, /** @type {number} */ y) =>
      !signs.some((one) => Math.abs(one.x - x) < SIGN && Math.abs(one.y - y) < 11)
      && ![...places.values()].some((one) => Math.abs(one.x + BOX / 2 - x) < (BOX + SIGN) / 2 && y > one.y - 3 && y < one.y + 39);
    const drawn = links.flatMap(({ parent, child }) => {
      const a = places.get(parent);
      const b = places.get(child);
      return a && b ? [{ a: { x: a.x + BOX, y: a.y + 13 }, b: { x: b.x, y: b.y + 13 }, parent: known.get(parent), child: known.get(child) }] : [];
    }).sort((one, other) => one.b.x - one.a.x - (other.b.x - other.a.x));
    return drawn.map(({ a, b, parent, child }) => {
      const x = (a.x + b.x) / 2;
      const y = (a.y + b.y) / 2 - 3;
      const told = parent && child ? change(parent, child) : null;
      const seen = told && room(x, y);
      if (seen) signs.push({ x, y });
      const data = told ? { tip: told.whole } : {};
      return [s("path", { d: `M${a.x},${a.y}C${x} ${a.y} ${x} ${b.y} ${b.x},${b.y}`, class: "branch", data }),
        seen && s("text", { x, y, class: "mutation", "text-anchor": "middle", data }, told.short)];
    });
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
      data: { tip: one ? `${one.formula ?? ""}\n${one.origin}, ${one.live_nodes} ${T.table.nodes}` : "" },
      onclick: () => this.page.openDrawer(birth),
      onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && this.page.openDrawer(birth) },
    s("rect", { width: BOX, height: 27, rx: 6 }),
    one?.origin === "mutation" ? null : s("circle", { cx: BOX - 9, cy: 8, r: 2.5, class: "origin" }),
    s("text", { x: 8, y: 12 }, String(birth)), " ",
    s("text", { x: 8, y: 23, class: "sub" }, one?.mean_score === null || !one ? (one?.state ?? "") : `${score(one.mean_score)} (${points(one.mean_score - best)})`));
    return made;
  }
}

/**
 * What the mutation was, and what it did to the number of live nodes: on a line, and in full.
 * @param {any} parent
 * @param {any} child
 */
function change(parent, child) {
  const by = child.live_nodes - parent.live_nodes;
  const size = by === 0 ? "=" : `${by > 0 ? "+" : "\u2212"}${Math.abs(by)}`;
  const name = child.operator ?? (child.origin === "mutation" ? T.lineage.mutation : child.origin);
  const short = name.length > 13 ? `${name.slice(0, 12)}\u2026` : name;
  return { short: `${short} ${size}`, whole: T.lineage.change(name, parent.live_nodes, child.live_nodes) };
}
