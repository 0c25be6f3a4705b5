/**
 * Small pieces that several pages show of a search: its state, its title, a sparkline.
 * @module
 */
import { h, s } from "./dom.js";
import { icon } from "./icons.js";
import { T } from "./strings.js";

const SIGNS = { running: "play", paused: "pause", stopped: "stop", finished: "check", failed: "cross" };

/**
 * A search's state: colour, sign and word.
 * @param {string} status
 * @returns {HTMLElement}
 */
export function statePill(status) {
  return h("span", { class: ["pill", status] }, icon(SIGNS[/** @type {"running"} */ (status)] ?? "dots"),
    T.states[/** @type {"running"} */ (status)] ?? status);
}

/**
 * How many candidates a search evaluates; those under way when its budget ended are among them.
 * @param {{evaluated: number, budget: number}} search
 */
export function wanted(search) {
  return Math.max(search.budget, search.evaluated);
}

/**
 * A line without axes.
 * @param {number[]} values
 * @param {string} label
 * @param {{width?: number, height?: number}} [size]
 * @returns {SVGElement | null}
 */
export function sparkline(values, label, size = {}) {
  if (values.length < 2) return null;
  const { width = 120, height = 24 } = size;
  const low = Math.min(...values);
  const range = Math.max(...values) - low || 1;
  const points = values.map((value, i) =>
    [(i / (values.length - 1)) * (width - 6) + 2, height - 3 - ((value - low) / range) * (height - 6)]);
  const line = points.map((one) => one.map((n) => n.toFixed(1)).join(",")).join(" ");
  const [x, y] = points[points.length - 1];
  return s("svg", { class: "spark", role: "img", "aria-label": label, width, height,
                    viewBox: `0 0 ${width} ${height}` },
    s("polyline", { points: line, fill: "none", stroke: "var(--c1)", "stroke-width": "1.5",
                    "stroke-linejoin": "round" }),
    s("circle", { cx: x, cy: y, r: "2.2", fill: "var(--c1)" }));
}

/**
 * @param {number} share from 0 to 1
 * @param {string} label
 * @returns {HTMLElement}
 */
export function progressBar(share, label) {
  const value = Math.max(0, Math.min(1, share || 0));
  return h("div", { class: "progress", role: "progressbar", "aria-label": label, "aria-valuemin": "0",
                    "aria-valuemax": "100", "aria-valuenow": Math.round(100 * value) },
    h("i", { style: { width: `${100 * value}%` } }));
}
