/**
 * The population: age against score, of those that may become parents.
 * @module
 */
import { get } from "../api.js";
import { h } from "../dom.js";
import { points, score } from "../format.js";
import { gainFactor, gainUnit, scoreTitle, valueFactor } from "../measure.js";
import { Chart } from "../plot.js";
import { T } from "../strings.js";
import { colour } from "../theme.js";

const MOST = 2000;

export class Population {
  /**
   * @param {import("./model.js").Model} model
   * @param {any} page
   */
  constructor(model, page) {
    this.model = model;
    /** The ranges that were last asked for. @type {string[]} */
    this.ranges = model.ranges;
    this.chart = new Chart({ title: T.population.title, name: "population", tip: T.population.help, height: "var(--chart-tall)",
      alt: () => T.population.alt(this.found.members.length), exact: () => this.figure() });
    this.element = h("div", { class: "panel bare" }, this.chart.element);
    this.chart.onDrawn.push((plot) => {
      plot.removeAllListeners?.("plotly_click");
      plot.on("plotly_click", (/** @type {any} */ event) => page.openDrawer(event.points[0].customdata));
    });
    const offs = [model.on("scatter", () => this.load()), model.onBrush(this)];
    this.off = () => offs.forEach((one) => one());
    this.load();
  }

  close() {
    this.off();
    this.chart.close();
  }

  async load() {
    const now = this.ranges !== this.model.ranges;
    const ranges = this.ranges = this.model.ranges;
    try {
      const found = await get(`${this.model.path}/ages`, { members: MOST, range: ranges });
      if (ranges !== this.ranges) return;
      this.found = found;
    } catch (err) {
      if (ranges === this.ranges) this.chart.failed(err, () => this.load());
      return;
    }
    if (!this.found.members.length) {
      this.chart.empty(this.found.size ? T.population.noneInside : T.population.none);
      this.chart.note.textContent = "";
      return;
    }
    this.chart.note.textContent = `${T.population.size(this.found.size, this.found.inside, this.found.members.length)}. ${T.population.help}`;
    this.chart.show(() => this.figure(), { now });
  }

  figure() {
    // Before a baseline is trained there is no gain, of anybody.
    const known = this.found.members.every((/** @type {any} */ one) => one.gain !== null);
    const set = (/** @type {boolean} */ front) => {
      const mine = this.found.members.filter((/** @type {any} */ one) => one.on_front === front);
      return { type: "scatter", mode: "markers", name: front ? T.population.front : T.gain.rest, x: mine.map((/** @type {any} */ one) => one.age),
               y: mine.map((/** @type {any} */ one) => (known ? gainFactor() * one.gain : valueFactor() * one.score)), customdata: mine.map((/** @type {any} */ one) => one.birth),
               text: mine.map((/** @type {any} */ one) => `${T.drawer.title(one.birth)}<br>${known ? points(one.gain) : score(one.score)}`), hovertemplate: "%{text}<extra></extra>",
               marker: { size: 8, symbol: front ? "diamond" : "circle", color: colour(front ? "c1" : "c0"), opacity: 0.85 } };
    };
    return { traces: [set(false), set(true)], layout: { showlegend: true, margin: { l: 46, r: 12, t: 24, b: 36 },
      xaxis: { title: T.population.age, fixedrange: true }, yaxis: { title: known ? T.population.gain(gainUnit()) : scoreTitle(), fixedrange: true } } };
  }
}
