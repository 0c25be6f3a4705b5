/**
 * What the reader filters by: a box brushed on the chart, and what the table is told; both stand
 * in the URL, so that a link shows the same.
 * @module
 */
import { params, setParams } from "../router.js";

/** @typedef {{xName: string, yName: string, x: [number, number], y: [number, number]}} Box */

/**
 * The box as text, such as `step_time:0.9..1.2,gain:0..0.02`.
 * @param {Box} box
 * @returns {string}
 */
export function boxText(box) {
  const range = (/** @type {[number, number]} */ pair) => pair.map((one) => Number(one.toPrecision(5))).join("..");
  return `${box.xName}:${range(box.x)},${box.yName}:${range(box.y)}`;
}

/**
 * @param {string | null} text
 * @returns {Box | null} null where the text says none
 */
export function readBox(text) {
  const number = "(-?[0-9.]+(?:e[+-]?[0-9]+)?)";
  const found = new RegExp(`^([\\w.#-]+):${number}\\.\\.${number},([\\w.#-]+):${number}\\.\\.${number}$`).exec(text ?? "");
  if (!found) return null;
  const numbers = [found[2], found[3], found[5], found[6]].map(Number);
  if (!numbers.every(Number.isFinite)) return null;
  return { xName: found[1], yName: found[4], x: [numbers[0], numbers[1]], y: [numbers[2], numbers[3]] };
}

/** @returns {Box | null} */
export function box() {
  return readBox(params().get("brush"));
}

/** @param {Box | null} wanted */
export function setBox(wanted) {
  setParams({ brush: wanted ? boxText(wanted) : null });
}

/**
 * The box as the service's `range` parameters: charts, table and downloads are filtered by the same.
 * @returns {string[]}
 */
export function ranges() {
  const wanted = box();
  return wanted ? boxText(wanted).split(",") : [];
}
