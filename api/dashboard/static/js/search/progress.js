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

/** Pinned searches that are looked at; of random search more make the band surer. */
const MOST_PINNED = 12;

export class ProgressChart {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    this.model = model;
    this.unit = "evaluated";
    /** @type {any[]} */
    this.pinned = [];
    /** Pinned searches that only draw at random. @type {any[]} */
    this.random = [];
    /** The ranges that the drawn lines were asked for. @type {string[]} */
    this.ranges = [];
    this.chart = new Chart({ title: T.progress.title, name: "progress", tip: T.progress.tip, height: "var(--chart)",
      controls: segments(Object.entries(T.progress.units).map(([value, text]) => ({ value, text, tip: T.progress.axes[/** @type {"hours"} */ (value)] })),
        this.unit, (value) => {
          this.unit = value;
          this.draw({ now: true });
        }, T.progress.unitLabel),
      alt: () => T.progress.alt(gainUnit(), points((this.model.data.progress.leader.at(-1) ?? this.model.data.progress.provisional.at(-1))?.gain)) });
    this.element = this.chart.element;
    model.on("progress", () => {
      const now = this.ranges !== model.ranges;
      this.ranges = model.ranges;
      this.draw({ now });
    });
  }

  close() {
    this.chart.close();
  }

  /** Searches that are pinned and comparable: those of random search together, two others at most. */
  async loadPinned() {
    const all = (await allSearches()).filter((/** @type {any} */ one) => one.pinned && one.id !== this.model.id);
    const ids = all.slice(0, MOST_PINNED).map((/** @type {any} */ one) => one.id);
    if (!ids.length) return;
    const lines = (await get("/compare", { search: [this.model.id, ...ids] })).searches;
    const same = lines.slice(1).filter((/** @type {any} */ one) => one.comparable);
    const wanted = [...same.filter((/** @type {any} */ one) => one.random), ...same.filter((/** @type {any} */ one) => !one.random).slice(0, 2)];
    const found = await Promise.all(wanted.map(async (one) =>
      ({ title: one.title, random: one.random, progress: await get(`/searches/${one.id}/progress`, { points: 200 }) })));
    this.random = found.filter((one) => one.random);
    this.pinned = found.filter((one) => !one.random);
    this.draw();
  }

  /** @param {{now?: boolean}} [options] */
  draw(options) {
    const found = this.model.data.progress;
    if (!found) {
      if (this.model.errors.progress) this.chart.failed(this.model.errors.progress, () => this.model.load("progress"));
      return;
    }
    if (!found.provisional.length && !found.hypervolume.length) {
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
    const brushed = this.model.ranges.length > 0;
    const lasting = (/** @type {any[]} */ leads) => (leads.length ? [...leads, { ...leads.at(-1), [unit]: found.now[unit] }] : []);
    const sure = lasting(found.leader);
    const lucky = lasting(found.provisional);
    const line = (/** @type {any[]} */ leads, /** @type {(one: any) => number} */ gain, /** @type {any} */ style, /** @type {string} */ name) => ({
      type: "scatter", mode: "lines", x: leads.map((one) => one[unit]), y: leads.map((one) => gainFactor() * gain(one)), name,
      line: { shape: "hv", ...style }, opacity: brushed ? 0.35 : 1, hovertemplate: `%{y:+.${gainDigits()}f} · ${name}<extra></extra>` });
    const traces = [...band(this.random, unit), ...(sure.length ? found.anchors : []).map((/** @type {string} */ anchor, /** @type {number} */ k) => {
      const style = series(k);
      return line(sure, (one) => one.gains[k], { color: style.colour, width: 1.2, dash: style.dash }, anchor);
    })];
    if (lucky.length) traces.push(line(lucky, (one) => one.gain, { color: colour("ink-3"), width: 1.4, dash: "dot" }, T.progress.provisional));
    if (sure.length) {
      traces.push(line(sure, (one) => one.gain, { color: colour("ink"), width: 2.2 }, T.progress.mean));
      traces.push({ type: "scatter", mode: "markers", x: found.leader.map((/** @type {any} */ one) => one[unit]), y: found.leader.map((/** @type {any} */ one) => gainFactor() * one.gain),
                    name: T.gain.legend.confirmed, showlegend: false, hoverinfo: "skip", opacity: brushed ? 0.35 : 1, marker: { color: colour("ink"), size: 6 } });
    }
    if (brushed && found.inside.length) {
      const held = lasting(found.inside);
      traces.push({ type: "scatter", mode: "lines", x: held.map((one) => one[unit]), y: held.map((one) => gainFactor() * one.gain),
                    line: { shape: "hv", color: colour("c1"), width: 2.2 }, name: T.progress.inside, hoverinfo: "skip" });
    }
    for (const one of this.pinned) {
      const leads = one.progress.leader.length ? one.progress.leader : one.progress.provisional;
      traces.push({ type: "scatter", mode: "lines", x: leads.map((/** @type {any} */ p) => p[unit]),
                    y: leads.map((/** @type {any} */ p) => gainFactor() * p.gain), name: `${T.progress.reference}: ${one.title}`,
                    line: { shape: "hv", width: 6, color: `${colour("c0")}55` } });
    }
    const volume = [...found.hypervolume, found.now];
    traces.push({ type: "scatter", mode: "lines", x: volume.map((one) => one[unit]), y: volume.map((one) => one.value), yaxis: "y2",
                  name: T.progress.volume, showlegend: false, fill: "tozeroy", fillcolor: `${colour("c3")}22`, line: { shape: "hv", width: 1.3, color: colour("c3") },
                  hovertemplate: "%{y:.3g}<extra></extra>" });
    return { traces, layout: this.layout(found, unit), table: table(found) };
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
    for (const [x, text] of signsOf(found, unit).slice(-6)) {
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

/**
 * What random search reaches: from the lowest to the highest of the pinned ones, or the only one.
 * @param {any[]} searches
 * @param {string} unit
 * @returns {any[]}
 */
function band(searches, unit) {
  const runs = searches.map((one) => one.progress.provisional).filter((one) => one.length);
  const tone = colour("c0");
  if (!runs.length) return [];
  if (runs.length === 1) {
    return [{ type: "scatter", mode: "lines", x: runs[0].map((/** @type {any} */ one) => one[unit]), y: runs[0].map((/** @type {any} */ one) => gainFactor() * one.gain),
              name: T.progress.random(1), hoverinfo: "skip", line: { shape: "hv", width: 6, color: `${tone}55` } }];
  }
  const xs = [...new Set(runs.flat().map((one) => one[unit]))].sort((a, b) => a - b)
    .filter((x) => runs.every((run) => run[0][unit] <= x));
  const at = (/** @type {any[]} */ run, /** @type {number} */ x) => gainFactor() * run.findLast((one) => one[unit] <= x).gain;
  const edge = (/** @type {(...values: number[]) => number} */ of) => xs.map((x) => of(...runs.map((run) => at(run, x))));
  const style = { type: "scatter", mode: "lines", x: xs, hoverinfo: "skip", line: { shape: "hv", width: 0.6, color: `${tone}88` } };
  return [{ ...style, y: edge(Math.min), showlegend: false, name: T.progress.random(runs.length) },
          { ...style, y: edge(Math.max), name: T.progress.random(runs.length), fill: "tonexty", fillcolor: `${tone}33` }];
}

/**
 * Where which words stand above the chart. Those of marks that are close together stand at the last
 * of these, for they would lie on each other.
 * @param {any} found
 * @param {string} unit
 * @returns {[number, string][]}
 */
function signsOf(found, unit) {
  const near = 0.15 * (found.now[unit] || 1);
  /** @type {{first: number, last: number, words: Set<string>}[]} */
  const groups = [];
  for (const mark of found.marks) {
    if (mark.kind === "phase") continue;
    const at = mark[unit];
    let group = groups.at(-1);
    if (!group || at - group.first > near) groups.push((group = { first: at, last: at, words: new Set() }));
    group.last = at;
    group.words.add(T.progress.marks[/** @type {"pause"} */ (mark.kind)] ?? mark.kind);
  }
  return groups.map((one) => [one.last, [...one.words].join(", ")]);
}

/** @param {any} found */
function table(found) {
  const rows = (/** @type {string} */ series, /** @type {any[]} */ leads) => leads.map((one) =>
    [series, one.evaluated, one.hours, one.steps, one.gpu_hours, one.birth, one.seeds, one.gain, ...one.gains]);
  return { columns: ["series", "evaluated", "hours", "steps", "gpu_hours", "candidate", "seeds", "gain", ...found.anchors],
           rows: [...rows("confirmed", found.leader), ...rows("provisional", found.provisional), ...rows("in filter", found.inside),
                  ...found.hypervolume.map((/** @type {any} */ one) => ["hypervolume", one.evaluated, one.hours, one.steps, one.gpu_hours, "", "", one.value])] };
}
