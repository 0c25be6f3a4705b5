/**
 * Parallel coordinates of the candidates that matter: those on the front, and the highest ones.
 * Drawn as one broken line, since plotly's own trace needs what the content policy forbids.
 * @module
 */
import { get } from "../api.js";
import { number, points, score } from "../format.js";
import { T } from "../strings.js";
import { colour } from "../theme.js";
import { axisTitle } from "./gain.js";

const MOST = 300;

export class Parallel {
  /**
   * @param {import("./model.js").Model} model
   * @param {import("../plot.js").Chart} chart
   * @param {() => boolean} wanted whether the reader still looks at it
   */
  constructor(model, chart, wanted) {
    this.model = model;
    this.wanted = wanted;
    this._asked = 0;
    this.chart = chart;
    /** @type {any} */
    this.data = null;
  }

  async show() {
    const mine = ++this._asked;
    const late = () => mine !== this._asked || !this.wanted();
    try {
      const found = await this.load();
      if (late()) return;
      this.data = found;
      this.chart.note.textContent = T.gain.lines(found.rows.length);
      this.chart.show(() => this.figure(), { now: true });
    } catch (err) {
      if (!late()) this.chart.failed(err, () => this.show());
    }
  }

  /** Several bounded requests, one a pair of axes, joined by birth. */
  async load() {
    const anchors = this.model.data.search.anchors;
    const names = ["step_time", "live_nodes", ...anchors.map((/** @type {string} */ one) => `score.${one}`), "gain"];
    const answers = await Promise.all(names.slice(0, -1).map((name) =>
      get(`${this.model.path}/scatter`, { x: name, y: "gain", points: MOST, range: this.model.ranges })));
    /** @type {Map<number, any>} */
    const rows = new Map();
    answers.forEach((found, place) => found.births.forEach((/** @type {number} */ birth, /** @type {number} */ i) => {
      const row = rows.get(birth) ?? { birth, front: found.on_front[i], values: {} };
      row.values[names[place]] = found.x[i];
      row.values.gain = found.y[i];
      rows.set(birth, row);
    }));
    return { names, rows: [...rows.values()].filter((row) => names.every((name) => row.values[name] !== undefined)) };
  }

  /** @returns {import("../plot.js").Figure} */
  figure() {
    const { names, rows } = this.data;
    const ranges = names.map((/** @type {string} */ name) => {
      const values = rows.map((/** @type {any} */ row) => row.values[name]);
      return [Math.min(...values), Math.max(...values)];
    });
    const at = (/** @type {any} */ row, /** @type {number} */ i) => {
      const [low, high] = ranges[i];
      return (row.values[names[i]] - low) / (high - low || 1);
    };
    const line = (/** @type {boolean} */ front) => {
      const x = [];
      const y = [];
      for (const row of rows) {
        if (row.front !== front) continue;
        names.forEach((/** @type {string} */ _, /** @type {number} */ i) => {
          x.push(i);
          y.push(at(row, i));
        });
        x.push(null);
        y.push(null);
      }
      return { type: "scatter", mode: "lines", x, y, hoverinfo: "skip", name: front ? T.gain.legend.front : T.gain.rest,
               line: { width: front ? 1.8 : 0.8, color: front ? colour("c1") : `${colour("c0")}88` } };
    };
    const ends = names.flatMap((/** @type {string} */ name, /** @type {number} */ i) => ranges[i].map((/** @type {number} */ value, /** @type {number} */ end) => ({
      x: i, y: end ? 1.07 : -0.07, showarrow: false, font: { size: 10.5, color: colour("ink-3") },
      text: name === "gain" ? points(value) : name.startsWith("score") ? score(value, name.slice(6)) : number(value, name === "live_nodes" ? 0 : 2),
    })));
    return {
      traces: [line(false), line(true)],
      layout: {
        margin: { l: 40, r: 40, t: 16, b: 34 }, annotations: ends,
        xaxis: { tickvals: names.map((/** @type {string} */ _, /** @type {number} */ i) => i), ticktext: names.map((/** @type {string} */ name) => axisTitle(name, "short")), fixedrange: true, showgrid: true,
                 gridcolor: colour("line-strong"), range: [-0.15, names.length - 0.85] },
        yaxis: { visible: false, range: [-0.14, 1.14], fixedrange: true },
      },
      table: { columns: ["candidate", ...names, "on_front"], rows: rows.map((/** @type {any} */ row) => [row.birth, ...names.map((/** @type {string} */ name) => row.values[name]), row.front]) },
    };
  }
}
