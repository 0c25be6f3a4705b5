/**
 * Gains as dots with intervals, as a figure and a table, for pictures of what the page draws itself.
 * @module
 */
import { gainFactor, gainUnit } from "./measure.js";
import { T } from "./strings.js";
import { colour } from "./theme.js";

/** @typedef {{name: string, gain: {value: number, low: number | null, high: number | null}, strong?: boolean}} Row */

/**
 * @param {Row[]} rows
 * @returns {import("./plot.js").Figure}
 */
export function dotFigure(rows) {
  const factor = gainFactor();
  const part = (/** @type {"low" | "high"} */ end) => rows.map(({ gain }) => Math.abs((gain[end] ?? gain.value) - gain.value) * factor);
  return {
    traces: [{ type: "scatter", mode: "markers", name: T.table.gain, x: rows.map(({ gain }) => factor * gain.value), y: rows.map(({ name }) => name),
               marker: { color: colour("c1"), size: rows.map(({ strong }) => (strong ? 12 : 9)) },
               error_x: { type: "data", symmetric: false, array: part("high"), arrayminus: part("low"), color: colour("ink-3"), thickness: 1.4, width: 3 } }],
    layout: { margin: { l: 130, r: 20, t: 20, b: 44 }, xaxis: { title: T.gain.gainAxis(gainUnit()) },
              yaxis: { type: "category", autorange: "reversed" },
              shapes: [{ type: "line", yref: "paper", y0: 0, y1: 1, x0: 0, x1: 0, line: { dash: "dash", width: 1.2, color: colour("ink-3") } }] },
    table: dotTable(rows),
  };
}

/** @param {Row[]} rows */
export function dotTable(rows) {
  return { columns: ["name", "gain", "low", "high"], rows: rows.map(({ name, gain }) => [name, gain.value, gain.low, gain.high]) };
}

/**
 * The source of `saveButton` for such rows.
 * @param {string} name
 * @param {() => Row[]} rows
 */
export function dotSource(name, rows) {
  return { name, figure: () => dotFigure(rows()), table: () => dotTable(rows()) };
}
