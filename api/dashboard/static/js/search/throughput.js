/**
 * Throughput: outcomes an hour by kind, stacked, and how many workers were busy.
 * @module
 */
import { number } from "../format.js";
import { Chart } from "../plot.js";
import { T } from "../strings.js";
import { colour } from "../theme.js";
import { segments } from "../ui.js";

export class ThroughputChart {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    this.model = model;
    /** Rejections are a hundred times as many; with them evaluations cannot be seen. */
    this.whole = false;
    this.chart = new Chart({ title: T.throughput.title, name: "throughput", tip: T.throughput.tip, height: "var(--chart)",
      controls: segments([{ value: "evaluated", text: T.throughput.evaluated }, { value: "all", text: T.throughput.all }], "evaluated", (value) => {
        this.whole = value === "all";
        this.draw({ now: true });
      }, T.throughput.which),
      alt: () => T.throughput.alt(number(this.model.data.throughput.evaluations_per_hour.at(-1))) });
    this.element = this.chart.element;
    /** The ranges that the drawn bars were asked for. @type {string[]} */
    this.ranges = [];
    model.on("throughput", () => {
      const now = this.ranges !== model.ranges;
      this.ranges = model.ranges;
      this.draw({ now });
    });
  }

  close() {
    this.chart.close();
  }

  /** @param {{now?: boolean}} [options] */
  draw(options) {
    const found = this.model.data.throughput;
    if (!found) {
      if (this.model.errors.throughput) this.chart.failed(this.model.errors.throughput, () => this.model.load("throughput"));
      return;
    }
    if (!found.starts.length) {
      this.chart.empty(T.throughput.none);
      return;
    }
    this.chart.show(() => this.figure(found), options);
  }

  /**
   * @param {any} found
   * @returns {import("../plot.js").Figure}
   */
  figure(found) {
    const half = 500 * found.bin_seconds;
    const at = found.starts.map((/** @type {string} */ one) => localTime(Date.parse(one) + half));
    const hourly = (/** @type {number[]} */ counts) => counts.map((one) => (3600 * one) / found.bin_seconds);
    const mine = found.inside;
    const most = Math.max(found.workers ?? 1, ...found.busy);
    const bar = (/** @type {"evaluated" | "rejected" | "failed"} */ kind, /** @type {string} */ tone, /** @type {string} */ pattern) => ({
      type: "bar", x: at, y: hourly(kind === "evaluated" && mine ? found[kind].map((/** @type {number} */ one, /** @type {number} */ i) => one - mine[i]) : found[kind]),
      opacity: mine ? 0.4 : 1, name: T.throughput[kind], width: 2 * half * 0.9,
      marker: { color: colour(tone), line: { width: 0 }, pattern: { shape: pattern, size: 5, solidity: 0.35, fgcolor: colour("surface") } },
      hovertemplate: `%{y:.0f} / h · ${T.throughput[kind]}<extra></extra>` });
    return {
      traces: [...(mine ? [{ type: "bar", x: at, y: hourly(mine), name: T.funnel.inBrush, width: 2 * half * 0.9, marker: { color: colour("c2") },
        hovertemplate: `%{y:.0f} / h · ${T.funnel.inBrush}<extra></extra>` }] : []), bar("evaluated", "c3", ""), ...(found.failed.some(Boolean) ? [bar("failed", "c2", "/")] : []), ...(this.whole ? [bar("rejected", "c0", "")] : []),
        { type: "scatter", mode: "lines", x: at, y: found.busy, yaxis: "y2", name: T.throughput.busy,
          fill: "tozeroy", fillcolor: `${colour("c1")}22`, line: { width: 1.3, color: colour("c1"), shape: "hvh" }, hovertemplate: `%{y:.1f} ${T.throughput.busy}<extra></extra>` }],
      layout: {
        barmode: "stack", bargap: 0.1, showlegend: true, hovermode: "x", margin: { l: 46, r: 12, t: 22, b: 34 },
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 10.5, color: colour("ink-2") }, itemwidth: 22, traceorder: "normal" },
        xaxis: { type: "date", anchor: "y2", fixedrange: true },
        yaxis: { title: this.whole ? T.throughput.perHour : T.throughput.evaluationsPerHour, domain: [0.3, 1], fixedrange: true, rangemode: "tozero" },
        yaxis2: { domain: [0, 0.22], range: [0, 1.08 * most], fixedrange: true, nticks: 3 },
        ...pool(found.workers, most),
      },
      table: { columns: ["start", "evaluated", "rejected", "failed", "busy", "workers_now", ...(mine ? ["in_filter"] : [])],
               rows: found.starts.map((/** @type {string} */ one, /** @type {number} */ i) => [one, found.evaluated[i], found.rejected[i], found.failed[i], found.busy[i], found.workers, ...(mine ? [mine[i]] : [])]) },
    };
  }
}

/**
 * The size of the pool, which is known of this moment alone, as a line over the busy workers.
 * @param {number | null} workers
 * @param {number} most that the axis holds
 */
function pool(workers, most) {
  if (!workers) return {};
  return {
    shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, yref: "y2", y0: workers, y1: workers, line: { dash: "dash", width: 1.1, color: colour("ink-3") } }],
    annotations: [{ x: 0.012, xref: "paper", xanchor: "left", y: workers, yref: "y2", yanchor: 2 * workers > most ? "top" : "bottom", showarrow: false,
                    text: T.throughput.pool(workers), font: { size: 10, color: colour("ink-3") } }],
  };
}

/**
 * The moment as plotly wants it: it knows no zones, so it gets the reader's clock.
 * @param {number} when
 */
function localTime(when) {
  const date = new Date(when);
  return new Date(when - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 23);
}
