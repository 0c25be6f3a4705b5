/**
 * What scores mean on the page that is open. Of a score higher is better, always; people read its
 * value in the objective's own unit and direction. A page shows one search, or some that can be
 * compared, and says here once which objectives hold; nothing here knows what is shown.
 * @module
 */
import { T } from "./strings.js";

/** @typedef {{name: string, unit: string, direction: string, scale: number, label: string}} Objective */

/** @type {Objective} */
const ACCURACY = { name: "accuracy", unit: "", direction: "max", scale: 1, label: T.measure.accuracy };

/** @type {Record<string, Objective>} */
let known = {};
/** What all anchors have in common; null where they differ. @type {Objective | null} */
let common = ACCURACY;

/** @param {Record<string, Objective>} objectives by anchor, and `anchor#name` for further ones */
export function useObjectives(objectives) {
  known = objectives;
  const each = Object.entries(objectives).filter(([name]) => !name.includes("#")).map(([, one]) => one);
  common = each.length && each.every((one) => JSON.stringify(one) === JSON.stringify(each[0])) ? each[0] : null;
}

/** @param {string} [coordinate] an anchor, or `anchor#name`; none for a mean over anchors */
export function objectiveOf(coordinate) {
  return (coordinate && known[coordinate]) || common;
}

/** @returns {string[]} further objectives, as `anchor#name` */
export function furtherObjectives() {
  return Object.keys(known).filter((name) => name.includes("#"));
}

/** @param {Objective | null} one */
const isShare = (one) => one !== null && (one.unit === "%" || (one.name === "accuracy" && !one.unit));

/** What a gain is multiplied by to be in the unit of `gainUnit`; a gain is better the higher it is. */
export function gainFactor() {
  return isShare(common) ? 100 : (common?.scale ?? 1);
}

/** Digits behind the point of a gain. */
export function gainDigits() {
  return isShare(common) ? 1 : 3;
}

/** @returns {string} points for shares, else the objective's unit or name */
export function gainUnit() {
  return isShare(common) ? T.measure.points : common ? common.unit || common.name : T.measure.score;
}

/** @returns {string} such as "bpc, bit/char, lower is better"; empty for the plain accuracy */
export function meaning() {
  return common === null || common.name === "accuracy" && !common.unit ? "" : common.label;
}

/**
 * What a score is multiplied by to be a value: negative where lower is better.
 * @param {string} [coordinate]
 */
export function valueFactor(coordinate) {
  const one = objectiveOf(coordinate);
  return one ? (one.direction === "min" ? -one.scale : one.scale) : 1;
}

/**
 * @param {string} [coordinate]
 * @returns {string} such as "bpc on tiny-gpt, bit/char, lower is better"
 */
export function scoreTitle(coordinate) {
  const one = objectiveOf(coordinate);
  const anchor = (coordinate ?? "").split("#")[0];
  const plain = !one || (one.name === "accuracy" && !one.unit);
  const name = T.measure.of(plain ? T.measure.score : one.name, anchor);
  return plain ? name : [name, ...one.label.split(", ").slice(1)].join(", ");
}

/**
 * @param {string} coordinate
 * @returns {string} the anchor, with the objective's name and unit where it is not the accuracy
 */
export function shortTitle(coordinate) {
  const one = objectiveOf(coordinate);
  const [anchor, further] = coordinate.split("#");
  if (!one || (one.name === "accuracy" && !one.unit)) return anchor;
  const unit = one.unit ? `, ${one.unit}` : "";
  return further ? `${anchor}: ${one.name}${unit}` : `${anchor} (${one.name}${unit})`;
}
