/**
 * Progress: the gain of whoever led, and the hypervolume in its own strip, with what was done to
 * the search marked, and a pinned search as a band beside it.
 * @module
 */
import { allSearches, get } from "../api.js";
import { points } from "../format.js";
import { gainDigits, gainFactor, gainUnit } from "../measure.js";
import { Chart, series } from "../plot.js";
import { T } from "../strings.js";
import { colour } from "../theme.js";
import { segments } from "../ui.js";
import { birthsIn, box } from "./filter.js";

export class ProgressChart {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    this.model = model;
    this.unit = "evaluated";
    /** @type {any[]} */
    this.pinned = [];
    this.chart = new Chart({ title: T.progress.title, name: "progress", tip: T.progress.tip, height: "var(--chart)",
      controls: segments(Object.entries(T.progress.units).map(([value, text]) => ({ value, text, tip: T.progress.axes[/** @type {"hours"} */ (value)] })),
        this.unit, (value) => {
          this.unit = value;
          this.draw({ now: true });
        }, T.progress.unitLabel),
      alt: () => T.progress.alt(gainUnit(), points(this.model.data.progress.leader.at(-1)?.gain)) });
    this.element = this.chart.element;
    model.on("progress", () => this.draw());
  }

  close() {
    this.chart.close();
  }

  /** Searches that are pinned and comparable: at most two, or it is no reference any more. */
  async loadPinned() {
    const all = (await allSearches()).filter((/** @type {any} */ one) => one.pinned && one.id !== this.model.id);
    const ids = all.slice(0, 2).map((/** @type {any} */ one) => one.id);
    if (!ids.length) return;
    const lines = (await get("/compare", { search: [this.model.id, ...ids] })).searches;
    const same = lines.slice(1).filter((/** @type {any} */ one) => one.comparable);
    this.pinned = await Promise.all(same.map(async (/** @type {any} */ one) =>
      ({ title: one.title, progress: await get(`/searches/${one.id}/progress`, { points: 200 }) })));
    this.draw();
  }

  /** @param {{now?: boolean}} [options] */
  draw(options) {
    const found = this.model.data.progress;
    if (!found) {
      if (this.model.errors.progress) this.chart.failed(this.model.errors.progress, () => this.model.load("progress"));
      return;
    }
    if (!found.leader.length && !found.hypervolume.length) {
      this.chart.empty(T.progress.none);
      return;
    }
    this.chart.show(() => this.figure(found), options);
  }

  /**
   * @param {any} found
   * @returns {import("../plot.js").Figure}
   */
  figure(found) {
    const { unit } = this;
    const inside = birthsIn(this.model.data.scatter, box());
    const leads = [...found.leader, ...(found.leader.length ? [{ ...found.leader.at(-1), [unit]: found.now[unit] }] : [])];
    const xs = leads.map((one) => one[unit]);
    const line = (/** @type {number[]} */ ys, /** @type {any} */ style, /** @type {string} */ name) => ({
      type: "scatter", mode: "lines", x: xs, y: ys, name, line: { shape: "hv", ...style }, opacity: inside ? 0.35 : 1,
      hovertemplate: `%{y:+.${gainDigits()}f} · ${name}<extra></extra>` });
    const traces = found.anchors.map((/** @type {string} */ anchor, /** @type {number} */ k) => {
      const style = series(k);
      return line(leads.map((one) => gainFactor() * one.gains[k]), { color: style.colour, width: 1.2, dash: style.dash }, anchor);
    });
    traces.push(line(leads.map((one) => gainFactor() * one.gain), { color: colour("ink"), width: 2.2 }, T.progress.mean));
    if (inside) {
      const mine = leads.filter((one) => inside.has(one.birth));
      traces.push({ type: "scatter", mode: "markers", x: mine.map((one) => one[unit]), y: mine.map((one) => gainFactor() * one.gain),
                    marker: { color: colour("c1"), size: 8 }, name: T.funnel.inBrush, hoverinfo: "skip" });
    }
    for (const one of this.pinned) {
      traces.push({ type: "scatter", mode: "lines", x: one.progress.leader.map((/** @type {any} */ p) => p[unit]),
                    y: one.progress.leader.map((/** @type {any} */ p) => gainFactor() * p.gain), name: `${T.progress.reference}: ${one.title}`,
                    line: { shape: "hv", width: 6, color: `${colour("c0")}55` } });
    }
    const volume = [...found.hypervolume, found.now];
    traces.push({ type: "scatter", mode: "lines", x: volume.map((one) => one[unit]), y: volume.map((one) => one.value), yaxis: "y2",
                  name: T.progress.volume, showlegend: false, fill: "tozeroy", fillcolor: `${colour("c3")}22`, line: { shape: "hv", width: 1.3, color: colour("c3") },
                  hovertemplate: "%{y:.3g}<extra></extra>" });
    return { traces, layout: this.layout(found, unit) };
  }

  /**
   * @param {any} found
   * @param {string} unit
   */
  layout(found, unit) {
    const shapes = [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0, line: { dash: "dash", width: 1.1, color: colour("ink-3") } }];
    const signs = [];
    for (const mark of found.marks.slice(-60)) {
      shapes.push(/** @type {any} */ ({ type: "line", yref: "paper", y0: 0, y1: 1, x0: mark[unit], x1: mark[unit], layer: "below",
        line: { width: 1, color: `${colour("line-strong")}`, dash: "dot" } }));
    }
    const words = new Map();
    for (const mark of found.marks) {
      if (mark.kind === "phase") continue;
      words.set(mark[unit], T.progress.marks[/** @type {"pause"} */ (mark.kind)] ?? mark.kind);
    }
    for (const [x, text] of [...words].slice(-6)) {
      signs.push({ x, y: 1, yref: "paper", yanchor: "bottom", showarrow: false, text, font: { size: 10, color: colour("ink-3") }, xanchor: "right" });
    }
    signs.push({ x: 0.012, xref: "paper", y: 0.23, yref: "paper", xanchor: "left", yanchor: "top", showarrow: false,
      text: T.progress.volume, font: { size: 10, color: colour("ink-3") } });
    return {
      margin: { l: 46, r: 12, t: 22, b: 34 }, hovermode: "x", shapes, annotations: signs, showlegend: true,
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 10.5, color: colour("ink-2") }, itemwidth: 22 },
      xaxis: { title: T.progress.axes[/** @type {"hours"} */ (unit)], anchor: "y2", fixedrange: true, rangemode: "tozero" },
      yaxis: { title: T.progress.gain(gainUnit()), domain: [0.3, 1], fixedrange: true },
      yaxis2: { domain: [0, 0.22], fixedrange: true, nticks: 3, rangemode: "tozero" },
    };
  }
}
