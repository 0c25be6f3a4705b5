/**
 * Light, dark, or as the system has it; told to whoever draws with colours of its own.
 * @module
 */

import { keep, recall } from "./storage.js";

/** @typedef {"auto" | "light" | "dark"} Choice */

const KEY = "evosearch.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
/** @type {Set<() => void>} */
const told = new Set();

/** @returns {Choice} */
export function choice() {
  const kept = recall(KEY);
  return kept === "light" || kept === "dark" ? kept : "auto";
}

/** @param {Choice} wanted */
export function choose(wanted) {
  keep(KEY, wanted === "auto" ? null : wanted);
  apply();
}

/** @param {() => void} call */
export function onTheme(call) {
  told.add(call);
  return () => told.delete(call);
}

/**
 * The value of a colour of `tokens.css` now.
 * @param {string} name such as c1
 * @returns {string}
 */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

let lightOnly = false;

/**
 * Light colours whatever was chosen, for what goes on paper; or the choice again.
 * @param {boolean} wanted
 */
export function forceLight(wanted) {
  lightOnly = wanted;
  apply();
}

function apply() {
  const kept = lightOnly ? "light" : choice();
  const dark = kept === "dark" || (kept === "auto" && system.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  for (const call of told) call();
}

system.addEventListener("change", apply);
