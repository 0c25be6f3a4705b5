/**
 * Draws a graph that the service has laid out: live and dead nodes, shapes, what reads what.
 * @module
 */
import { h, s } from "../dom.js";
import { saveButton } from "../pictures.js";
import { T } from "../strings.js";

const WIDTH = 124;
const HEIGHT = 40;
const GAP_X = 18;
const GAP_Y = 26;
const MARGIN = 8;

/**
 * @typedef {{id: number, label: string, kind: string, live: boolean, output: boolean, level: number,
 *            column: number, shape: string}} DrawnNode
 * @typedef {{source: number, target: number, live: boolean, side: string}} DrawnEdge
 * @typedef {{nodes: DrawnNode[], edges: DrawnEdge[], levels: number, width: number}} Drawing
 */

/**
 * @param {Drawing} drawing
 * @param {string} [name] of the files that it can be saved as; none where that is not offered
 * @returns {HTMLElement}
 */
export function drawGraph(drawing, name) {
  const box = boxOf(drawing);
  if (!name) return box;
  return h("div", { class: "graph-frame" }, h("div", { class: "save-line no-print" },
    saveButton({ name, svg: () => box.querySelector("svg"), table: () => tableOf(drawing) })), box);
}

/** @param {Drawing} drawing */
function tableOf(drawing) {
  return { columns: ["node", "label", "kind", "live", "shape", "inputs"], rows: drawing.nodes.map((node) => [node.id, node.label, node.kind, node.live, node.shape,
    drawing.edges.filter((edge) => edge.target === node.id).map((edge) => edge.source).join(" ")]) };
}

/**
 * @param {Drawing} drawing
 * @returns {HTMLElement}
 */
function boxOf(drawing) {
  const width = drawing.width * (WIDTH + GAP_X) - GAP_X + 2 * MARGIN + 40;
  const height = drawing.levels * (HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN;
  const x = (/** @type {DrawnNode} */ node) => width / 2 + node.column * (WIDTH + GAP_X);
  const y = (/** @type {DrawnNode} */ node) => height - MARGIN - HEIGHT / 2 - node.level * (HEIGHT + GAP_Y);
  const nodes = new Map(drawing.nodes.map((node) => [node.id, node]));
  const dead = drawing.nodes.filter((node) => !node.live && node.kind !== "input").length;
  const live = drawing.nodes.filter((node) => node.live && node.kind !== "input").length;
  const edges = drawing.edges.map((edge) => {
    const from = /** @type {DrawnNode} */ (nodes.get(edge.source));
    const to = /** @type {DrawnNode} */ (nodes.get(edge.target));
    return drawEdge(edge, from, to, x, y, drawing.nodes);
  });
  return h("div", { class: "graph-box", tabindex: "0", role: "group", "aria-label": T.look.graphAlt(live, dead) },
    s("svg", { class: "graph", viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
               "aria-label": T.look.graphAlt(live, dead) },
      s("defs", {}, arrow("arrow"), arrow("arrow-dead")),
      edges, drawing.nodes.map((node) => drawNode(node, x(node), y(node)))));
}

/** What the colours and borders mean. */
export function graphLegend() {
  return h("div", { class: "graph-legend small quiet" },
    Object.entries(T.look.legend).map(([kind, text]) =>
      h("span", {}, h("i", { class: ["swatch", `of-${kind}`], "aria-hidden": "true" }), text)));
}

/** @param {string} id */
function arrow(id) {
  return s("marker", { id, viewBox: "0 0 8 8", refX: "7", refY: "4", markerWidth: "6", markerHeight: "6",
                       orient: "auto-start-reverse", class: id }, s("path", { d: "M0 0.8 7.2 4 0 7.2z" }));
}

/**
 * @param {DrawnEdge} edge
 * @param {DrawnNode} from
 * @param {DrawnNode} to
 * @param {(node: DrawnNode) => number} x
 * @param {(node: DrawnNode) => number} y
 * @param {DrawnNode[]} all
 */
function drawEdge(edge, from, to, x, y, all) {
  // Two inputs end left and right of the middle, so that a - b reads in its order.
  const shift = edge.side === "L" ? -22 : edge.side === "R" ? 22 : 0;
  const [x1, y1] = [x(from), y(from) - HEIGHT / 2];
  const [x2, y2] = [x(to) + shift, y(to) + HEIGHT / 2 + 1];
  const middle = (y1 + y2) / 2;
  let path = `M${x1} ${y1}C${x1} ${middle} ${x2} ${middle} ${x2} ${y2}`;
  const between = all.filter((node) => node.level > from.level && node.level < to.level
    && Math.abs(x(node) - (x1 + x2) / 2) < WIDTH / 2 + 14);
  if (between.length) {
    // Around what stands in the way, on the side that is nearer.
    const left = Math.min(...between.map(x)) - WIDTH / 2 - 14;
    const right = Math.max(...between.map(x)) + WIDTH / 2 + 14;
    const aside = (x1 + x2) / 2 - left < right - (x1 + x2) / 2 ? left : right;
    const turn = HEIGHT / 2 + GAP_Y / 2;
    path = `M${x1} ${y1}C${x1} ${y1 - turn} ${aside} ${y1 - 6} ${aside} ${y1 - turn - 6}`
      + `L${aside} ${y2 + turn + 6}C${aside} ${y2 + 6} ${x2} ${y2 + turn} ${x2} ${y2}`;
  }
  return s("g", { class: ["edge", !edge.live && "dead"] },
    s("path", { d: path, fill: "none", "marker-end": edge.live ? "url(#arrow)" : "url(#arrow-dead)" }),
    edge.side && s("text", { x: x2 + (edge.side === "L" ? -9 : 9), y: y2 + 12, class: "side" }, edge.side));
}

/**
 * @param {DrawnNode} node
 * @param {number} x
 * @param {number} y
 */
function drawNode(node, x, y) {
  return s("g", { class: ["node", node.kind, !node.live && "dead", node.output && "output"],
                  transform: `translate(${x - WIDTH / 2} ${y - HEIGHT / 2})` },
    s("rect", { width: WIDTH, height: HEIGHT, rx: node.kind === "input" ? HEIGHT / 2 : 7 }),
    s("text", { x: WIDTH / 2, y: 17, class: "label" }, node.label),
    s("text", { x: WIDTH / 2, y: 31, class: "shape" }, node.shape));
}
