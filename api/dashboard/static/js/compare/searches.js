/**
 * Searches side by side: verdicts, progress, fronts, funnels, and the settings that differ.
 * @module
 */
import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { count, duration, gainText } from "../format.js";
import { finalTone, tone } from "../layer/gain.js";
import { gainDigits, gainFactor, gainUnit, scoreTitle, useObjectives, valueFactor } from "../measure.js";
import { statePill, wanted } from "../parts.js";
import { Chart, series } from "../plot.js";
import { go, href } from "../router.js";
import { T } from "../strings.js";
import { button, errorState, segments } from "../ui.js";

const C = T.comparePage;
const FRONT_MOST = 500;

export class SearchComparison {
  /**
   * @param {HTMLElement} page
   * @param {string[]} ids
   * @param {number} leftOut searches that were asked for beyond these
   */
  static async make(page, ids, leftOut) {
    const { searches } = await get("/compare", { search: ids });
    const made = new SearchComparison(searches);
    made.leftOut = leftOut;
    made.draw(page);
    made.load();
    return made;
  }

  /** @param {any[]} searches lines of the service */
  constructor(searches) {
    this.searches = searches;
    useObjectives(searches[0].objectives);
    this.leftOut = 0;
    this.unit = "evaluated";
    /** @type {any[]} */
    this.progress = [];
    /** @type {any[]} */
    this.fronts = [];
    const anchors = searches[0].anchors.filter((/** @type {string} */ one) => searches.every((search) => search.anchors.includes(one)));
    this.anchors = anchors;
    /** @type {string} */
    this.x = anchors[0];
    /** @type {string} */
    this.y = anchors[1] ?? anchors[0];
    const unit = segments(Object.entries(C.units).map(([value, text]) => ({ value, text })), this.unit, (value) => {
      this.unit = value;
      this.drawProgress();
    }, C.unit);
    this.charts = {
      progress: this.chart("progress", C.progress, C.progressTip, unit),
      volume: this.chart("volume", C.volume, C.volumeTip),
      fronts: this.chart("fronts", C.fronts, C.frontsTip, anchors.length > 1 ? this.axisPickers() : null),
      funnels: this.chart("funnels", C.funnels, C.funnelsTip),
    };
    this.config = h("div", { class: "card-body" });
  }

  /**
   * @param {"progress" | "volume" | "fronts" | "funnels"} name
   * @param {string} title
   * @param {string} tip
   * @param {any} [controls]
   */
  chart(name, title, tip, controls) {
    const made = new Chart({ title, tip, name: `compare-${name}`, controls, height: "340px", alt: () => C.alt[name] });
    made.element.classList.add("span-6");
    made.plot.setAttribute("aria-label", title);
    return made;
  }

  axisPickers() {
    const pick = (/** @type {"x" | "y"} */ axis, /** @type {string} */ label) => h("select", { class: "input compact", "aria-label": label,
      onchange: (/** @type {any} */ event) => {
        this[axis] = event.target.value;
        this.drawFronts();
      } }, this.anchors.map((/** @type {string} */ one) => h("option", { value: one, selected: one === this[axis] }, one)));
    return h("div", { class: "axis-pickers" }, pick("x", C.xAnchor), h("span", { class: "quiet", "aria-hidden": "true" }, "/"), pick("y", C.yAnchor));
  }

  close() {
    for (const one of Object.values(this.charts)) one.close();
  }

  /** @param {HTMLElement} page */
  draw(page) {
    fill(page,
      h("div", { class: "page-head" }, h("h1", {}, C.title), h("div", { class: "spacer" }), button(C.change, () => go("compare"))),
      this.leftOut > 0 && h("p", { class: "pill warn", role: "status", id: "left-out", style: { margin: "0 0 12px" } }, C.leftOut(this.searches.length, this.leftOut)),
      h("div", { class: "grid" },
        h("section", { class: "card span-12", "aria-label": C.searches }, h("div", { class: "table-box", tabindex: "0", role: "group", "aria-label": C.searches }, this.table())),
        Object.values(this.charts).map((one) => one.element),
        h("section", { class: "card span-12", "aria-label": C.config },
          h("div", { class: "card-head" }, h("h2", {}, C.config)), this.config)));
  }

  table() {
    const row = (/** @type {string} */ name, /** @type {(one: any) => any} */ cell) =>
      h("tr", {}, h("th", { scope: "row" }, name), this.searches.map((one) => h("td", {}, cell(one))));
    return h("table", { class: "compare-table" },
      h("thead", {}, h("tr", {}, h("td", {}), this.searches.map((one, place) => h("th", { scope: "col" },
        h("span", { class: "compare-name" }, key(place), h("a", { href: href(`search/${one.id}`) }, one.title)),
        h("span", { class: "pills" }, statePill(one.status),
          !one.comparable && h("span", { class: "pill warn", tabindex: "0", data: { tip: C.notComparableTip } }, C.notComparable)))))),
      h("tbody", {},
        row(C.rows.verdict, (one) => h("div", {},
          one.verdict.leader && h("strong", { class: ["table-gain", tone(one.verdict.leader.gain)] }, `${gainText(one.verdict.leader.gain)} ${gainUnit()}`),
          h("div", { class: "small" }, one.verdict.text))),
        row(C.rows.final, (one) => (one.verdict.final
          ? h("strong", { class: finalTone(one.verdict.final) }, `${gainText(one.verdict.final.gain)} ${gainUnit()}`) : h("span", { class: "quiet" }, C.noFinal))),
        row(C.rows.leader, (one) => one.verdict.leader && h("div", {},
          h("a", { href: href(`search/${one.id}/candidate/${one.verdict.leader.birth}`) }, T.candidatePage.title(one.verdict.leader.birth)),
          h("div", { class: "formula small" }, one.verdict.leader.formula ?? ""))),
        row(C.rows.evaluated, (one) => `${count(one.evaluated)} / ${count(wanted(one))}`),
        row(C.rows.hours, (one) => duration(3600 * one.worker_hours)),
        row(C.rows.dataset, (one) => one.dataset),
        row(C.rows.anchors, (one) => one.anchors.join(", "))));
  }

  load() {
    this.loadEach(["progress", "volume"], async () => {
      this.progress = await this.each((id) => get(`/searches/${id}/progress`, { points: 300 }));
      this.drawProgress();
    });
    this.loadEach(["fronts"], async () => {
      this.fronts = await this.each((id) => get(`/searches/${id}/front`));
      this.drawFronts();
    });
    this.loadEach(["funnels"], async () => this.drawFunnels(await this.each((id) => get(`/searches/${id}/funnel/path`))));
    this.loadConfig();
  }

  /** @param {(id: string) => Promise<any>} ask */
  each(ask) {
    return Promise.all(this.searches.map((one) => ask(one.id)));
  }

  /**
   * @param {("progress" | "volume" | "fronts" | "funnels")[]} names
   * @param {() => Promise<void>} load
   */
  async loadEach(names, load) {
    try {
      await load();
    } catch (err) {
      for (const name of names) this.charts[name].failed(err, () => this.loadEach(names, load));
    }
  }

  drawProgress() {
    const { unit } = this;
    if (!this.progress.length) return;
    const title = T.progress.axes[/** @type {"hours"} */ (unit)];
    this.charts.progress.show(() => ({
      traces: this.progress.flatMap((one, place) => {
        const look = series(place);
        const leads = one.leader.length ? one.leader : one.provisional;
        const points = [...leads];
        if (points.length) points.push({ ...points[points.length - 1], ...one.now, value: undefined });
        const name = this.searches[place].title;
        return [{
          x: points.map((point) => point[unit]), y: points.map((point) => gainFactor() * point.gain), name, mode: "lines",
          line: { shape: "hv", color: look.colour, dash: look.dash, width: one.leader.length ? 2 : 1 }, hovertemplate: `%{y:+.${gainDigits()}f}<extra>${name}</extra>`,
        }, {
          x: one.leader.filter(sure).map((/** @type {any} */ point) => point[unit]),
          y: one.leader.filter(sure).map((/** @type {any} */ point) => gainFactor() * point.gain), name: `${name}, ${T.candidatePage.purposes.confirm}`,
          mode: "markers", marker: { color: look.colour, symbol: look.symbol, size: 9 }, showlegend: false,
          hovertemplate: `%{y:+.${gainDigits()}f}<extra>${name}</extra>`,
        }];
      }),
      layout: { showlegend: true, xaxis: { title }, yaxis: { title: gainUnit(), zeroline: true } },
    }));
    this.charts.volume.show(() => ({
      traces: this.progress.map((one, place) => {
        const look = series(place);
        const points = [...one.hypervolume, one.now];
        return {
          x: points.map((point) => point[unit]), y: points.map((point) => point.value), name: this.searches[place].title, mode: "lines",
          line: { shape: "hv", color: look.colour, dash: look.dash, width: 2 },
        };
      }),
      layout: { showlegend: true, xaxis: { title }, yaxis: { rangemode: "tozero" } },
    }));
  }

  drawFronts() {
    if (!this.fronts.length) return;
    if (!this.anchors.length) {
      this.charts.fronts.empty(C.notComparable);
      return;
    }
    const { x, y } = this;
    this.charts.fronts.show(() => ({
      traces: this.fronts.map((one, place) => {
        const look = series(place);
        const points = one.candidates.slice(0, FRONT_MOST).sort((/** @type {any} */ a, /** @type {any} */ b) => a.scores[x] - b.scores[x]);
        return {
          x: points.map((/** @type {any} */ point) => valueFactor(x) * point.scores[x]), y: points.map((/** @type {any} */ point) => valueFactor(y) * point.scores[y]),
          text: points.map((/** @type {any} */ point) => `${point.birth}`), name: this.searches[place].title, mode: "markers",
          marker: { color: look.colour, symbol: look.symbol, size: 8, opacity: 0.85 },
          hovertemplate: `%{text}: %{x:.3f}, %{y:.3f}<extra>${this.searches[place].title}</extra>`,
        };
      }),
      layout: { showlegend: true, xaxis: { title: scoreTitle(x) }, yaxis: { title: scoreTitle(y) } },
    }));
  }

  /** @param {any[]} paths */
  drawFunnels(paths) {
    const stages = T.funnel.stages;
    this.charts.funnels.show(() => ({
      traces: paths.map((one, place) => {
        const look = series(place);
        return {
          type: "bar", orientation: "h", name: this.searches[place].title,
          y: one.bars.map((/** @type {any} */ bar) => stages[/** @type {"signal"} */ (bar.stage)] ?? bar.stage),
          x: one.bars.map((/** @type {any} */ bar) => Math.max(bar.count, 0.8)),
          text: one.bars.map((/** @type {any} */ bar) => count(bar.count)), textposition: "outside", cliponaxis: false, textfont: { size: 10 }, textangle: 0, marker: { color: look.colour },
          hovertemplate: `%{text}<extra>${this.searches[place].title}</extra>`,
        };
      }),
      layout: { showlegend: true, barmode: "group", bargap: 0.25, xaxis: { type: "log", tickformat: "~s", dtick: 1 },
                yaxis: { autorange: "reversed", nticks: 20 }, margin: { l: 92, r: 52, t: 8, b: 34 } },
      // None is drawn as a stump, for there is no logarithm of nothing.
      table: { columns: ["search", "stage", "count"], rows: paths.flatMap((one, place) =>
        one.bars.map((/** @type {any} */ bar) => [this.searches[place].title, bar.stage, bar.count])) },
    }));
  }

  async loadConfig() {
    try {
      const configs = (await this.each((id) => get(`/searches/${id}`))).map((one) => flat(one.config));
      const keys = [...new Set(configs.flatMap((one) => Object.keys(one)))];
      const differing = keys.filter((name) => new Set(configs.map((one) => one[name] ?? "")).size > 1);
      fill(this.config, differing.length ? h("div", { class: "table-box", tabindex: "0", role: "group", "aria-label": C.config },
        h("table", { class: "compare-table small-cells" },
          h("thead", {}, h("tr", {}, h("th", { scope: "col" }, C.setting), this.searches.map((one, place) => h("th", { scope: "col" }, key(place), one.title)))),
          h("tbody", {}, differing.map((name) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, name)),
            configs.map((one) => h("td", {}, h("code", {}, one[name] ?? T.look.nothing))))))))
        : h("p", { class: "quiet" }, C.same));
    } catch (err) {
      fill(this.config, errorState(err, () => this.loadConfig()));
    }
  }
}

/** @param {{confirmed: boolean}} point */
function sure(point) {
  return point.confirmed;
}

/** @param {number} place */
export function key(place) {
  const look = series(place);
  return h("i", { class: "series-key", style: { background: `var(--c${(place % 6) + 1})` }, title: look.symbol, "aria-hidden": "true" });
}

/**
 * @param {any} value
 * @param {string} [name]
 * @param {Record<string, string>} [found]
 * @returns {Record<string, string>} dotted key -> value as text
 */
function flat(value, name = "", found = {}) {
  if (value !== null && typeof value === "object" && (!Array.isArray(value) || value.some((one) => typeof one === "object"))) {
    for (const [inner, one] of Object.entries(value)) flat(one, name ? `${name}.${inner}` : inner, found);
  } else found[name] = JSON.stringify(value);
  return found;
}
