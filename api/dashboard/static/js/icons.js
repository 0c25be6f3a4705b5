/**
 * Icons, drawn here: strokes of 1.6 on a field of 16.
 * @module
 */
import { s } from "./dom.js";

/** @type {Record<string, string>} */
const PATHS = {
  play: "M5 3.5v9l7-4.5z",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  stop: "M4 4h8v8H4z",
  extend: "M2.5 8h9M8.5 4.5 12 8l-3.5 3.5M14 3.5v9",
  check: "m3 8.5 3.2 3.2L13 4.8",
  cross: "m4 4 8 8M12 4l-8 8",
  dots: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  star: "m8 2.2 1.8 3.7 4 .6-2.9 2.8.7 4L8 11.4l-3.6 1.9.7-4L2.2 6.5l4-.6z",
  sun: "M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6M8 1.5v1.2M8 13.3v1.2M1.5 8h1.2M13.3 8h1.2M3.4 3.4l.9.9M11.7 11.7l.9.9M3.4 12.6l.9-.9M11.7 4.3l.9-.9",
  moon: "M13.2 9.6A5.6 5.6 0 0 1 6.4 2.8a5.6 5.6 0 1 0 6.8 6.8",
  auto: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11",
  download: "M8 2.5v7.2M5 7l3 3 3-3M3 13h10",
  plus: "M8 3v10M3 8h10",
  search: "M7 3a4 4 0 1 0 0 8 4 4 0 0 0 0-8M10 10l3.5 3.5",
  trash: "M3 4.5h10M6.5 4.5V3h3v1.5M4.5 4.5l.6 8.5h5.8l.6-8.5",
  copy: "M5.5 5.5h7v7h-7zM3.5 10.5v-7h7",
  pin: "M6 2.5h4l-.5 4 2 2h-7l2-2zM8 8.5v5",
  archive: "M2.5 3.5h11v3h-11zM3.5 6.5v6.500h9v-6.500M6.500 9h3",
  repeat: "M3 7a5 5 0 0 1 9-2.200M13 2.500v2.800h-2.800M13 9a5 5 0 0 1-9 2.200M3 13.500v-2.800h2.800",
  compare: "M4 13V6M8 13V3M12 13V8.500",
  open: "M6 3.500H3.500v9h9V10M9 2.500h4.500V7M13 3 7.500 8.500",
  print: "M4.500 6V2.500h7V6M4.500 11h-2V6h11v5h-2M4.500 9.500h7v4h-7z",
  warn: "M8 2.500 14 13H2zM8 6.500v3M8 11.300v.01",
  clone: "M3 3h7v7H3zM12.500 6v6.500H6",
};

/**
 * @param {string} name
 * @returns {SVGElement}
 */
export function icon(name) {
  return s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true", fill: "none",
                    stroke: "currentColor", "stroke-width": "1.6", "stroke-linecap": "round",
                    "stroke-linejoin": "round" },
           s("path", { d: PATHS[name] ?? "" }));
}
