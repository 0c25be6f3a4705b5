/**
 * Pointer and keys over a chart's field: which point is near, what was clicked, what box was drawn.
 * @module
 */
import { h } from "./dom.js";
import { hideTip } from "./ui.js";

/** Pixels within which a point counts as meant. */
const NEAR = 14;
const CELL = 24;
/** Pixels that a pointer may stray before a press is a drag. */
const SLOP = { mouse: 4, pen: 6, touch: 10 };

/**
 * @typedef {import("./points.js").Frame} Frame
 * @typedef {{x: number, y: number}} Place as the axes have it
 */

export class Field {
  /**
   * @param {HTMLElement} host
   * @param {{label: (index: number) => string, click: (index: number, event: PointerEvent | KeyboardEvent) => void,
   *          open: (index: number) => void, brush: (box: [Place, Place] | null) => void, corner: string}} told
   *   corner: what is said when a corner of a box is set by keys
   * @param {string} name what it is and which keys it takes, for those who do not see it
   */
  constructor(host, told, name) {
    this.told = told;
    /** @type {Frame | null} */
    this.frame = null;
    /** @type {Map<number, number[]>} */
    this._cells = new Map();
    /** @type {{x: number, y: number}[]} */
    this._pixels = [];
    /** Points by axis, made when the keys are used. @type {Record<string, number[]> | null} */
    this._ways = null;
    this._hovered = -1;
    /** What `showBox` was told. @type {[Place, Place] | null} */
    this._shown = null;
    /** The first corner of a box that is drawn by keys. @type {Place | null} */
    this._corner = null;
    this.box = h("div", { class: "brush-box", hidden: true });
    this.ring = h("div", { class: "point-ring", hidden: true });
    this.tip = h("div", { class: "tip", hidden: true });
    this.said = h("div", { class: "visually-hidden", role: "status" });
    this.element = h("div", { class: "field-layer", tabindex: "0", role: "application", "aria-label": name }, this.box, this.ring);
    host.append(this.element, this.said);
    document.body.append(this.tip);
    this._from = null;
    this.element.addEventListener("pointermove", (/** @type {PointerEvent} */ e) => this._move(e));
    this.element.addEventListener("pointerleave", () => this._hover(-1));
    this.element.addEventListener("pointerdown", (/** @type {PointerEvent} */ e) => this._down(e));
    this.element.addEventListener("pointerup", (/** @type {PointerEvent} */ e) => this._up(e));
    this.element.addEventListener("pointercancel", () => {
      this._from = null;
      this.showBox(this._shown);
    });
    this.element.addEventListener("keydown", (/** @type {KeyboardEvent} */ e) => this._key(e));
    this.element.addEventListener("blur", () => {
      this._hover(-1);
      this._drop();
    });
    this.element.addEventListener("dblclick", (/** @type {MouseEvent} */ e) => {
      const near = this._near(e.offsetX, e.offsetY);
      if (near >= 0) told.open(near);
    });
  }

  close() {
    this.tip.remove();
  }

  /**
   * @param {Frame} frame
   * @param {Place[]} points
   */
  place(frame, points) {
    this.frame = frame;
    Object.assign(this.element.style, { left: `${frame.left}px`, top: `${frame.top}px`,
      width: `${frame.width}px`, height: `${frame.height}px` });
    this._pixels = points.map((one) => this.toPixel(one));
    this._cells.clear();
    this._pixels.forEach((one, index) => {
      const key = cellOf(one.x, one.y);
      const list = this._cells.get(key);
      if (list) list.push(index);
      else this._cells.set(key, [index]);
    });
    this._hover(-1);
    this.ring.hidden = this.tip.hidden = true;
    this._ways = null;
  }

  /**
   * The keys: along one axis to the next point, whatever the other says of it.
   * @param {KeyboardEvent} event
   */
  _key(event) {
    if (!this._pixels.length || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this._hovered;
    if (at >= 0 && event.key === "Enter") this.told.open(at);
    else if (at >= 0 && (event.key === " " || event.key === "c")) this.told.click(at, event);
    else if (at >= 0 && event.key === "b") this._mark(at);
    else if (this._corner && event.key === "Escape") this._drop();
    else if (["ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) this._walk(event.key, at);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /**
   * @param {string} key
   * @param {number} from index of a point, or -1
   */
  _walk(key, from) {
    const way = this._way(key === "ArrowUp" || key === "ArrowDown" ? "y" : "x");
    const last = way.length - 1;
    const step = key === "ArrowRight" || key === "ArrowUp" ? 1 : -1;
    // Who has not begun yet begins at the highest point.
    const next = key === "Home" ? way[0] : key === "End" ? way[last]
      : from < 0 ? this._way("y")[last] : way[Math.max(0, Math.min(last, way.indexOf(from) + step))];
    this._hover(next);
    this.said.textContent = this.told.label(next);
    if (this._corner) this._drawBox(...this._spanned(next));
  }

  /**
   * A box from one point to another: the first time its corner is set, the second time it filters.
   * @param {number} at index of a point
   */
  _mark(at) {
    if (!this._corner) {
      this._corner = this.toPlace(this._pixels[at]);
      this.said.textContent = this.told.corner;
      this._drawBox(...this._spanned(at));
      return;
    }
    const [a, b] = this._spanned(at);
    this._corner = null;
    this._brush(a, b);
  }

  /**
   * Pixels of the box from the corner to the point, both well inside.
   * @param {number} at index of a point
   * @returns {[{x: number, y: number}, {x: number, y: number}]}
   */
  _spanned(at) {
    const from = this.toPixel(/** @type {Place} */ (this._corner));
    const to = this._pixels[at];
    return [{ x: Math.min(from.x, to.x) - 2, y: Math.min(from.y, to.y) - 2 },
            { x: Math.max(from.x, to.x) + 2, y: Math.max(from.y, to.y) + 2 }];
  }

  /** No box by keys any more. */
  _drop() {
    if (!this._corner) return;
    this._corner = null;
    this.showBox(this._shown);
  }

  /**
   * @param {{x: number, y: number}} from pixels
   * @param {{x: number, y: number}} to
   */
  _brush(from, to) {
    const [a, b] = [this.toPlace(from), this.toPlace(to)];
    this.told.brush([{ x: Math.min(a.x, b.x), y: Math.min(a.y, b.y) }, { x: Math.max(a.x, b.x), y: Math.max(a.y, b.y) }]);
  }

  /**
   * Points in the order of an axis: to the right, and upwards.
   * @param {"x" | "y"} axis
   */
  _way(axis) {
    const sign = axis === "x" ? 1 : -1;
    this._ways ??= {};
    return (this._ways[axis] ??= this._pixels.map((_, i) => i).sort((a, b) => sign * (this._pixels[a][axis] - this._pixels[b][axis]) || a - b));
  }

  /** @param {Place} at */
  toPixel(at) {
    const { x, y, width, height } = /** @type {Frame} */ (this.frame);
    return { x: ((at.x - x[0]) / (x[1] - x[0])) * width, y: height - ((at.y - y[0]) / (y[1] - y[0])) * height };
  }

  /** @param {{x: number, y: number}} pixel */
  toPlace(pixel) {
    const { x, y, width, height } = /** @type {Frame} */ (this.frame);
    return { x: x[0] + (pixel.x / width) * (x[1] - x[0]), y: y[0] + ((height - pixel.y) / height) * (y[1] - y[0]) };
  }

  /** @param {[Place, Place] | null} corners */
  showBox(corners) {
    this._shown = corners;
    this.box.hidden = !corners || !this.frame;
    if (!corners || !this.frame) return;
    const [a, b] = corners.map((one) => this.toPixel(one));
    this._drawBox(a, b);
  }

  /**
   * @param {{x: number, y: number}} a
   * @param {{x: number, y: number}} b
   */
  _drawBox(a, b) {
    this.box.hidden = false;
    Object.assign(this.box.style, { left: `${Math.min(a.x, b.x)}px`, top: `${Math.min(a.y, b.y)}px`,
      width: `${Math.abs(a.x - b.x)}px`, height: `${Math.abs(a.y - b.y)}px` });
  }

  /**
   * @param {number} x
   * @param {number} y
   * @returns {number} index of the nearest point, or -1
   */
  _near(x, y) {
    let best = -1;
    let distance = NEAR * NEAR;
    for (let dx = -1; dx <= 1; dx++) {
      for (let dy = -1; dy <= 1; dy++) {
        for (const index of this._cells.get(cellOf(x + dx * CELL, y + dy * CELL)) ?? []) {
          const one = this._pixels[index];
          const far = (one.x - x) ** 2 + (one.y - y) ** 2;
          if (far < distance) {
            distance = far;
            best = index;
          }
        }
      }
    }
    return best;
  }

  /** @param {PointerEvent} event */
  _down(event) {
    if (event.button !== 0) return;
    this._from = { x: event.offsetX, y: event.offsetY };
    this.element.setPointerCapture(event.pointerId);
  }

  /** @param {PointerEvent} event */
  _move(event) {
    const at = { x: event.offsetX, y: event.offsetY };
    if (this._from && apart(this._from, at, event.pointerType)) {
      this._hover(-1);
      this._drawBox(this._from, this._inside(at));
      return;
    }
    this._hover(this._near(at.x, at.y));
  }

  /** @param {PointerEvent} event */
  _up(event) {
    const from = this._from;
    this._from = null;
    if (!from || !this.frame) return;
    const at = this._inside({ x: event.offsetX, y: event.offsetY });
    if (apart(from, at, event.pointerType)) {
      this._brush(from, at);
      return;
    }
    const near = this._near(at.x, at.y);
    if (near >= 0) this.told.click(near, event);
    else if (!this.box.hidden) this.told.brush(null);
  }

  /** @param {{x: number, y: number}} at */
  _inside(at) {
    const { width, height } = /** @type {Frame} */ (this.frame);
    return { x: Math.max(0, Math.min(width, at.x)), y: Math.max(0, Math.min(height, at.y)) };
  }

  /** @param {number} index */
  _hover(index) {
    if (index === this._hovered) return;
    this._hovered = index;
    this.ring.hidden = this.tip.hidden = index < 0;
    this.element.style.cursor = index < 0 ? "crosshair" : "pointer";
    if (index < 0) return;
    hideTip();
    const one = this._pixels[index];
    Object.assign(this.ring.style, { left: `${one.x}px`, top: `${one.y}px` });
    this.tip.textContent = this.told.label(index);
    const host = this.element.getBoundingClientRect();
    const mine = this.tip.getBoundingClientRect();
    const left = host.left + one.x + 14;
    this.tip.style.left = `${left + mine.width > innerWidth - 8 ? host.left + one.x - mine.width - 14 : left}px`;
    this.tip.style.top = `${Math.max(8, host.top + one.y - mine.height / 2)}px`;
  }
}

/**
 * @param {number} x
 * @param {number} y
 */
function cellOf(x, y) {
  return Math.floor(x / CELL) * 4096 + Math.floor(y / CELL);
}

/**
 * @param {{x: number, y: number}} a
 * @param {{x: number, y: number}} b
 * @param {string} pointer mouse, pen or touch
 */
function apart(a, b, pointer) {
  const slop = SLOP[/** @type {"mouse"} */ (pointer)] ?? SLOP.mouse;
  return Math.abs(a.x - b.x) > slop || Math.abs(a.y - b.y) > slop;
}
