/**
 * The drawer: one candidate beside the page, by a link of its own.
 * @module
 */
import { get } from "../api.js";
import { fill, h, s } from "../dom.js";
import { duration, exactMoment, number, score } from "../format.js";
import { copyText } from "../layer/facts.js";
import { formulaOf } from "../mathml.js";
import { shortTitle } from "../measure.js";
import { SERIES } from "../plot.js";
import { href } from "../router.js";
import { T } from "../strings.js";
import { button, errorState, loadingState } from "../ui.js";
import { exportMenu, remeasureButton, takesCommands } from "./verdict.js";

export class Drawer {
  /**
   * @param {import("./model.js").Model} model
   * @param {{openDrawer: (birth: number | null) => void, tray: import("./tray.js").Tray,
   *          header: import("./header.js").Header, openPage: (birth: number) => void}} page
   */
  constructor(model, page) {
    this.model = model;
    this.page = page;
    /** @type {number | null} */
    this.birth = null;
    this.body = h("div", { class: "drawer-body" });
    this.title = h("h2", { tabindex: "-1" });
    this.element = h("aside", { class: "drawer no-print", hidden: true, "aria-label": T.drawer.title(0) },
      h("div", { class: "drawer-head" }, this.title, h("div", { class: "spacer" }),
        button(T.drawer.page, () => page.openPage(/** @type {number} */ (this.birth)), { icon: "open" }),
        button("", () => page.openDrawer(null), { icon: "cross", kind: "plain", title: T.drawer.close, tip: T.drawer.close })),
      this.body);
    model.on("events", () => this.maybe());
    model.on("search", () => {
      if (this.birth !== null && this._alive !== takesCommands(model)) this.load();
    });
    this._place = () => this.place();
    window.addEventListener("scroll", this._place, { passive: true });
    this._sizes = new ResizeObserver(this._place);
    this._sizes.observe(page.header.element);
    this._sizes.observe(page.header.line);
  }

  /** Below the header, which holds what stops the search. */
  place() {
    if (this.birth !== null) this.element.style.top = `${this.page.header.bottom()}px`;
  }

  /** @param {number | null} birth */
  show(birth) {
    if (birth === this.birth) return;
    this.birth = birth;
    this.element.hidden = birth === null;
    document.body.classList.toggle("with-drawer", birth !== null);
    this.place();
    if (birth === null) return;
    this.title.textContent = T.drawer.title(birth);
    this.element.setAttribute("aria-label", T.drawer.title(birth));
    fill(this.body, loadingState(6));
    this.body.scrollTop = 0;
    this.load();
  }

  close() {
    window.removeEventListener("scroll", this._place);
    this._sizes.disconnect();
    document.body.classList.remove("with-drawer");
  }

  /** An outcome of this candidate came in: it is shown, if the pointer is elsewhere. */
  maybe() {
    if (this.birth === null || this.element.matches(":hover")) return;
    const mine = (/** @type {any} */ one) => one.event.birth === this.birth || one.event.subject?.birth === this.birth;
    if (this.model.events.slice(0, 40).some((one) => mine(one) && one.seq > (this._seen ?? 0))) {
      this._seen = this.model.events[0].seq;
      this.load();
    }
  }

  async load() {
    const mine = this.birth;
    this._alive = takesCommands(this.model);
    try {
      const found = await get(`${this.model.path}/candidates/${mine}`);
      if (mine === this.birth) fill(this.body, this.content(found));
    } catch (err) {
      if (mine === this.birth) fill(this.body, errorState(err, () => this.load()));
    }
  }

  /** @param {any} one the candidate's detail */
  content(one) {
    const { id } = this.model;
    const name = `${id}-${one.birth}`;
    const exporting = button(T.verdict.export, () => exportMenu(exporting, id, one.birth), { icon: "download", kind: "primary" });
    const text = one.formula ?? "";
    const outcome = one.state === "evaluated" ? "good" : ["queued", "running"].includes(one.state) ? "" : "warn";
    return [
      formulaOf(id, one.birth, text),
      h("div", { class: "formula small quiet" }, text),
      h("p", {}, h("span", { class: ["pill", outcome] }, T.table.states[/** @type {"evaluated"} */ (one.state)] ?? one.state), " ",
        h("span", { class: "small" }, one.verdict.reason)),
      one.known_as && h("p", { class: "small warn" }, T.drawer.knownAs(one.known_as)),
      h("div", { class: "actions" }, one.graph && exporting,
        one.state === "evaluated" && remeasureButton(this.model, one.birth),
        button(T.verdict.compare, () => this.page.tray.toggle(name), { icon: "compare" }),
        button("", () => copyText(text, T.drawer.copied), { icon: "copy", title: T.drawer.copy, tip: T.drawer.copy })),
      one.evaluations.length ? h("section", {}, h("h3", {}, T.drawer.scores), this.scores(one)) : null,
      one.evaluations.some((/** @type {any} */ e) => e.curve.length) ? h("section", {}, h("h3", {}, T.drawer.curves), this.curves(one)) : null,
      h("section", {}, h("h3", {}, T.drawer.facts), this.facts(one)),
      h("section", {}, h("h3", {}, T.drawer.family), this.family(one)),
    ];
  }

  /**
   * A dot a seed and anchor, on select; the baseline of that anchor as a line.
   * @param {any} one
   */
  scores(one) {
    const anchors = this.model.data.search.anchors;
    const bests = new Map((this.model.data.line?.verdict.leader?.anchors ?? []).map((/** @type {any} */ a) => [a.anchor, a.baseline_score]));
    const runs = one.evaluations.filter((/** @type {any} */ e) => e.split === "select" && e.purpose !== "tune");
    const all = [...runs.map((/** @type {any} */ e) => e.score), ...bests.values()];
    const low = Math.min(...all);
    const high = Math.max(...all);
    const at = (/** @type {number} */ v) => 4 + (92 * (v - low)) / (high - low || 1);
    return h("div", { class: "intervals" }, anchors.map((/** @type {string} */ anchor) => {
      const mine = runs.filter((/** @type {any} */ e) => e.anchor === anchor).map((/** @type {any} */ e) => e.score);
      const mean = mine.reduce((/** @type {number} */ a, /** @type {number} */ b) => a + b, 0) / mine.length;
      const base = bests.get(anchor);
      return h("div", { class: "interval" }, h("span", { class: "interval-name" }, shortTitle(anchor)),
        s("svg", { width: "100%", height: "18", role: "img", "aria-label": `${mine.map((/** @type {number} */ one) => score(one, anchor)).join(", ")}` },
          base !== undefined && s("line", { x1: `${at(base)}%`, x2: `${at(base)}%`, y1: "0", y2: "18", class: "zero" }),
          mine.map((/** @type {number} */ value) => s("circle", { cx: `${at(value)}%`, cy: "9", r: "3.5", class: "mark open" }))),
        h("span", { class: "interval-value" }, mine.length ? score(mean, anchor) : "", base !== undefined && h("span", { class: "quiet" }, ` / ${score(base, anchor)}`)));
    }));
  }

  /** @param {any} one */
  curves(one) {
    const runs = one.evaluations.filter((/** @type {any} */ e) => e.curve.length > 1 && e.split === "select").slice(0, 24);
    const points = runs.flatMap((/** @type {any} */ e) => e.curve).filter((/** @type {any} */ p) => p[1] !== null);
    const top = Math.max(...points.map((/** @type {any} */ p) => p[1]));
    const low = Math.min(...points.map((/** @type {any} */ p) => p[1]));
    const end = Math.max(...points.map((/** @type {any} */ p) => p[0]));
    const anchors = this.model.data.search.anchors;
    const dashes = ["", "5 3", "2 2", "7 2 2 2"];
    const line = (/** @type {any} */ run) => run.curve.filter((/** @type {any} */ p) => p[1] !== null)
      .map((/** @type {any} */ p) => `${(300 * p[0]) / end},${6 + (98 * (top - p[1])) / (top - low || 1)}`).join(" ");
    return h("div", {},
      s("svg", { viewBox: "0 0 300 110", width: "100%", class: "mini", role: "img", "aria-label": `${T.drawer.curves}: ${T.drawer.span(number(top, 2), number(low, 2))}` },
        runs.map((/** @type {any} */ run) => {
          const k = anchors.indexOf(run.anchor);
          return s("polyline", { points: line(run), fill: "none", "stroke-width": "1.2", stroke: `var(--${SERIES[k % 6].colour})`, "stroke-dasharray": dashes[k % 4], opacity: "0.85" });
        })),
      h("div", { class: "mini-legend small quiet" }, anchors.map((/** @type {string} */ anchor, /** @type {number} */ k) =>
        h("span", {}, s("svg", { width: "20", height: "8" }, s("line", { x1: 0, x2: 20, y1: 4, y2: 4, "stroke-width": "2", stroke: `var(--${SERIES[k % 6].colour})`, "stroke-dasharray": dashes[k % 4] })), anchor)),
        h("span", {}, `${number(top, 2)} → ${number(low, 2)}, ${T.drawer.steps(end)}`)));
  }

  /** @param {any} one */
  facts(one) {
    const yes = (/** @type {boolean | null} */ value) => (value === null || value === undefined ? "–" : value ? T.drawer.yes : T.drawer.no);
    const rows = [[T.table.nodes, one.live_nodes], [T.drawer.batch, yes(one.properties.batch_independent)], [T.drawer.causal, yes(one.properties.causal_safe)],
      [T.drawer.pointwise, yes(one.properties.pointwise)], [T.table.origin, one.origin], [T.drawer.born, exactMoment(one.queued_at)],
      one.finished_at && [T.drawer.ended, exactMoment(one.finished_at)], one.worker && [T.drawer.worker, one.worker], one.seconds && [T.drawer.took, duration(one.seconds)],
      one.repeats && [T.drawer.repeats, T.drawer.times(one.repeats)]].filter(Boolean);
    return h("dl", { class: "facts" }, rows.map((/** @type {any} */ [name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  }

  /** @param {any} one */
  family(one) {
    const links = (/** @type {number[]} */ births) => (births.length ? births.slice(0, 24).flatMap((birth, i) => [i ? ", " : "",
      h("button", { type: "button", class: "linklike", onclick: () => this.page.openDrawer(birth) }, birth)]) : T.drawer.noneOf);
    return h("dl", { class: "facts" }, h("dt", {}, T.drawer.parents), h("dd", {}, links(one.parents)),
      h("dt", {}, T.drawer.children), h("dd", {}, links(one.children)),
      h("dt", {}, ""), h("dd", {}, h("a", { href: href(`search/${this.model.id}?tab=lineage&of=${one.birth}`) }, T.tabs.lineage)));
  }
}
