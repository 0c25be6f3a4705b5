/**
 * Every chart as PNG, SVG and CSV: those that plotly draws, and those that are plain SVG. A picture
 * stands alone: it holds its colours and fonts, and its ground.
 * @module
 */
import { saveBlob } from "./api.js";
import { plotly, themed } from "./plotly.js";
import { T } from "./strings.js";
import { colour } from "./theme.js";
import { button, openMenu, toastProblem } from "./ui.js";

/** Pixels of a PNG for one of the page. */
const SCALE = 2;
/** What a shape or a text of an SVG gets from the style sheets. */
const STYLES = ["fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray", "stroke-linejoin",
                "opacity", "font-family", "font-size", "font-weight", "text-anchor", "dominant-baseline", "marker-end", "display"];

/**
 * @typedef {import("./plot.js").Figure} Figure
 * @typedef {{columns: string[], rows: any[][]}} Rows
 * @typedef {{name: string, figure?: () => Figure, svg?: () => SVGElement | null, table: () => Rows,
 *            size?: () => [number, number], drawn?: () => boolean}} Source
 *   name: of the file; figure or svg: what is drawn; drawn: whether there is anything to be saved
 */

/**
 * The button that offers all three.
 * @param {Source} source
 * @returns {HTMLButtonElement}
 */
export function saveButton(source) {
  const made = button("", () => {
    if (source.drawn && !source.drawn()) return;
    openMenu(made, [["png", T.asPng], ["svg", T.asSvg], ["csv", T.asCsv]].map(([form, text]) => ({ text, icon: "download",
      run: () => save(source, /** @type {"png"} */ (form)).catch(toastProblem) })));
  }, { icon: "dots", kind: "plain", title: T.chartMenu });
  made.setAttribute("aria-haspopup", "menu");
  made.classList.add("save-chart");
  return made;
}

/**
 * @param {Source} source
 * @param {"png" | "svg" | "csv"} form
 */
async function save(source, form) {
  const file = `${source.name}.${form}`;
  if (form === "csv") {
    saveBlob(csv(source.table()), file);
    return;
  }
  const svg = source.svg?.();
  if (svg) saveBlob(await drawing(svg, form), file);
  else if (source.figure) saveBlob(await chart(source.figure(), form, source.size?.() ?? [0, 0]), file);
}

/**
 * @param {Rows} table
 */
function csv(table) {
  const lines = [table.columns, ...table.rows].map((row) => row.map(cell).join(","));
  return new Blob([`${lines.join("\n")}\n`], { type: "text/csv" });
}

/**
 * A cell of a table; text that a spreadsheet would take for a formula is led by an apostrophe.
 * @param {any} value
 */
function cell(value) {
  if (value === null || value === undefined) return "";
  const plain = String(value);
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(plain) && Number.isNaN(Number(plain)) ? `'${plain}` : plain;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * @param {Figure} figure
 * @param {"png" | "svg"} form
 * @param {[number, number]} size as it is on the page
 */
async function chart({ traces, layout }, form, size) {
  const Plotly = await plotly();
  const [width, height] = [Math.max(640, size[0]), Math.max(320, size[1])];
  const data = await Plotly.toImage({ data: traces, layout: {
    ...themed(layout), paper_bgcolor: colour("surface"), width, height, autosize: false,
  } }, { format: form, width, height, scale: form === "png" ? SCALE : 1 });
  if (form === "svg") return new Blob([decodeURIComponent(data.slice(data.indexOf(",") + 1))], { type: "image/svg+xml" });
  const raw = atob(data.slice(data.indexOf(",") + 1));
  return new Blob([Uint8Array.from(raw, (one) => one.charCodeAt(0))], { type: "image/png" });
}

/**
 * A drawing of the page as a file.
 * @param {SVGElement} element
 * @param {"png" | "svg"} form
 * @returns {Promise<Blob>}
 */
async function drawing(element, form) {
  const { width, height } = element.getBoundingClientRect();
  const made = /** @type {SVGElement} */ (element.cloneNode(true));
  const theirs = element.querySelectorAll("*");
  made.querySelectorAll("*").forEach((one, i) => dress(/** @type {SVGElement} */ (one), theirs[i]));
  dress(made, element);
  for (const [name, value] of Object.entries({ xmlns: "http://www.w3.org/2000/svg", width, height })) made.setAttribute(name, String(value));
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ width: "100%", height: "100%", fill: colour("surface") })) ground.setAttribute(name, value);
  made.prepend(ground);
  const picture = new Blob([new XMLSerializer().serializeToString(made)], { type: "image/svg+xml" });
  return form === "svg" ? picture : painted(picture, width, height);
}

/**
 * @param {SVGElement} one
 * @param {Element} as
 */
function dress(one, as) {
  const style = getComputedStyle(as);
  for (const name of STYLES) one.style.setProperty(name, style.getPropertyValue(name));
  for (const name of ["class", "tabindex", "role", "data-tip"]) one.removeAttribute(name);
}

/**
 * @param {Blob} picture SVG
 * @param {number} width
 * @param {number} height
 * @returns {Promise<Blob>} PNG
 */
async function painted(picture, width, height) {
  const image = new Image(width, height);
  const address = URL.createObjectURL(picture);
  try {
    await new Promise((done, fail) => {
      image.onload = done;
      image.onerror = () => fail(new Error(T.noPicture));
      image.src = address;
    });
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width * SCALE, height * SCALE];
    canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((done, fail) => canvas.toBlob((blob) => (blob ? done(blob) : fail(new Error(T.noPicture))), "image/png"));
  } finally {
    URL.revokeObjectURL(address);
  }
}
