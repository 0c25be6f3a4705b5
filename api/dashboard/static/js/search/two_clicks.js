/**
 * Double clicks on what the first click moves: that one opens the drawer, for which the page gives
 * way, so the second may fall on anything. It counts by where the pointer is.
 * @module
 */

/** Milliseconds and pixels within which a second press belongs to the first. */
const SOON = 400;
const NEAR = 8;
const KINDS = ["pointerdown", "pointerup", "mousedown", "mouseup", "click", "dblclick"];

export class TwoClicks {
  /** @param {(birth: number) => void} open */
  constructor(open) {
    this.open = open;
    /** The last press, and what its click opened. */
    this._last = { x: 0, y: 0, at: -Infinity, birth: /** @type {number | null} */ (null) };
    /** Whether a second press is under way, which is nobody else's. */
    this._second = false;
    this._take = (/** @type {any} */ event) => this.take(event);
    for (const kind of KINDS) window.addEventListener(kind, this._take, true);
  }

  close() {
    for (const kind of KINDS) window.removeEventListener(kind, this._take, true);
  }

  /**
   * A candidate was chosen; by a click if it follows one at once.
   * @param {number} birth
   */
  first(birth) {
    if (performance.now() - this._last.at < SOON) this._last.birth = birth;
  }

  /** @param {PointerEvent} event */
  take(event) {
    if (event.type === "pointerdown" && event.button === 0) this.press(event);
    if (!this._second) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (event.type !== "pointerup") return;
    const { birth } = this._last;
    // Once the clicks that follow it have been taken, too.
    setTimeout(() => {
      this._second = false;
      if (birth !== null) this.open(birth);
    });
  }

  /** @param {PointerEvent} event */
  press(event) {
    const now = performance.now();
    const { x, y, at, birth } = this._last;
    const near = Math.hypot(event.clientX - x, event.clientY - y) < NEAR && now - at < SOON;
    this._second = birth !== null && near && !event.shiftKey;
    this._last = { x: event.clientX, y: event.clientY, at: now, birth: this._second ? birth : null };
  }
}
