/**
 * Numbers, durations and moments as people read them; times are in the reader's own zone.
 * @module
 */
import { gainDigits, gainFactor, valueFactor } from "./measure.js";
import { T } from "./strings.js";

const MINUS = "\u2212";
export const NONE = "\u2013";

/**
 * @param {number | null | undefined} value
 * @param {number} [digits]
 * @returns {string}
 */
export function number(value, digits = 0) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })
    .replace("-", MINUS);
}

/**
 * 1234 as 1,234 and 1234567 as 1.23M.
 * @param {number | null | undefined} value
 * @returns {string}
 */
export function count(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  if (value < 100_000) return number(Math.round(value));
  return value.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 3 });
}

/**
 * A gain with its sign, in points or the objective's unit: 0.014 of accuracy is +1.4.
 * @param {number | null | undefined} gain
 * @returns {string}
 */
export function points(gain) {
  if (gain === null || gain === undefined || !Number.isFinite(gain)) return NONE;
  const value = gainFactor() * gain;
  const text = Math.abs(value).toFixed(gainDigits());
  if (Number(text) === 0) return text;
  return (value < 0 ? MINUS : "+") + text;
}

/**
 * "+1.4 ± 0.6", or without the spread where none is known.
 * @param {{value: number, low: number | null, high: number | null} | null} gain
 * @returns {string}
 */
export function gainText(gain) {
  if (!gain) return NONE;
  if (gain.low === null || gain.high === null) return points(gain.value);
  return `${points(gain.value)} ± ${marginText((gain.high - gain.low) / 2)}`;
}

/** @param {number} margin */
export function marginText(margin) {
  return (gainFactor() * margin).toFixed(gainDigits());
}

/**
 * @param {number | null | undefined} share
 * @param {number} [digits]
 * @returns {string}
 */
export function percent(share, digits = 1) {
  if (share === null || share === undefined || !Number.isFinite(share)) return NONE;
  return `${(100 * share).toFixed(digits)} %`;
}

/**
 * A score as the value that people read, without its unit: 0.8047 is 0.805 in tables.
 * @param {number | null | undefined} value
 * @param {string} [coordinate] the anchor, or `anchor#name`; none for a mean
 * @returns {string}
 */
export function score(value, coordinate) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const factor = valueFactor(coordinate);
  return (factor * value).toFixed(Math.abs(factor) >= 100 ? 1 : 3).replace("-", MINUS);
}

/**
 * @param {number | null | undefined} seconds
 * @returns {string} such as 12 s, 3 min, 4 h 5 min, 2 d 3 h
 */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  const { ms, s, min, h, d } = T.time;
  if (seconds < 1) return `${(1000 * seconds).toFixed(seconds < 0.01 ? 1 : 0)} ${ms}`;
  if (seconds < 10) return `${seconds.toFixed(1)} ${s}`;
  if (seconds < 90) return `${Math.round(seconds)} ${s}`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} ${min}`;
  if (seconds < 172_800) {
    const hours = Math.floor(seconds / 3600);
    const minutes = Math.floor((seconds % 3600) / 60);
    return minutes ? `${hours} ${h} ${minutes} ${min}` : `${hours} ${h}`;
  }
  return `${Math.floor(seconds / 86_400)} ${d} ${Math.floor((seconds % 86_400) / 3600)} ${h}`;
}

/**
 * @param {number} seconds
 * @returns {string}
 */
export function ago(seconds) {
  return seconds < 2 ? T.time.justNow : T.time.ago(duration(Math.floor(seconds)));
}

/**
 * @param {string | number | Date} when
 * @returns {string} the clock time, with the day where it is not today
 */
export function moment(when) {
  const date = new Date(when);
  const clock = date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
  if (date.toDateString() === new Date().toDateString()) return clock;
  const day = date.toLocaleDateString(undefined, { weekday: "short", day: "numeric", month: "short" });
  return `${day}, ${clock}`;
}

/**
 * @param {string | number | Date} when
 * @returns {string} date and time to the second, with the zone
 */
export function exactMoment(when) {
  return new Date(when).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
}

/**
 * @param {number | null | undefined} bytes
 * @returns {string}
 */
export function bytes(bytes) {
  if (bytes === null || bytes === undefined) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  let value = bytes;
  while (value >= 1000 && place < units.length - 1) {
    value /= 1000;
    place += 1;
  }
  return `${value.toFixed(value < 10 && place ? 1 : 0)} ${units[place]}`;
}

/**
 * Median of numbers; NaN of none.
 * @param {number[]} values
 * @returns {number}
 */
export function median(values) {
  if (!values.length) return NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
