/**
 * Gains with their intervals, as text and as dots around zero.
 * @module
 */
import { h, s } from "../dom.js";
import { gainText, score } from "../format.js";

/** @typedef {{value: number, low: number | null, high: number | null}} Gain */

/** @param {Gain | null} gain */
export function tone(gain) {
  if (!gain) return "open";
  if (gain.low !== null && gain.low > 0) return "good";
  return gain.high !== null && gain.high < 0 ? "bad" : "open";
}

/**
 * Of the read of final: its test decides, for an interval of a few seeds is too narrow.
 * @param {{verdict: string}} final
 */
export function finalTone(final) {
  if (final.verdict.startsWith("better")) return "good";
  return final.verdict.startsWith("not better: worse") ? "bad" : "open";
}

/**
 * One dot with its interval a row, around a line at zero.
 * @param {{name: string, note?: string, gain: Gain, strong?: boolean}[]} rows
 * @param {string} label
 * @param {[number, number]} [range] the same for several of these
 * @returns {HTMLElement}
 */
export function gainDots(rows, label, range) {
  const ends = rows.flatMap(({ gain }) => [gain.value, gain.low ?? gain.value, gain.high ?? gain.value, 0]);
  const [low, high] = range ?? [Math.min(...ends), Math.max(...ends)];
  const pad = (high - low || 0.01) * 0.07;
  const at = (/** @type {number} */ value) => `${((100 * (value - low + pad)) / (high - low + 2 * pad)).toFixed(2)}%`;
  return h("ul", { class: "gain-dots", "aria-label": label }, rows.map(({ name, note, gain, strong }) =>
    h("li", { class: [strong && "strong", tone(gain)] },
      h("span", { class: "gain-name" }, name, note && h("small", { class: "quiet" }, ` ${note}`)),
      s("svg", { width: "100%", height: "20", "aria-hidden": "true" },
        s("line", { x1: at(0), x2: at(0), y1: "0", y2: "20", class: "zero" }),
        gain.low !== null && s("line", { x1: at(gain.low), x2: at(gain.high ?? gain.value), y1: "10", y2: "10", class: "whisker" }),
        s("circle", { cx: at(gain.value), cy: "10", r: strong ? "5" : "4", class: "mark" })),
      h("span", { class: "gain-value" }, gainText(gain)))));
}

/**
 * Rows for `gainDots` of a candidate: the mean, then each anchor with its score.
 * @param {{gain: Gain, anchors: {anchor: string, baseline: string, score: number, baseline_score: number, gain: Gain}[]}} one
 * @param {string} mean the word for it
 */
export function gainRows(one, mean) {
  return [
    { name: mean, gain: one.gain, strong: true },
    ...one.anchors.map((row) => ({
      name: row.anchor, note: `${score(row.score, row.anchor)} / ${score(row.baseline_score, row.anchor)}`, gain: row.gain,
    })),
  ];
}
