/**
 * Nothing moves under the pointer or the focus: what is new waits until both have left.
 * @module
 */

export class Still {
  /** @param {HTMLElement} element what the reader may be in */
  constructor(element) {
    this.element = element;
    this._over = false;
    this._focused = false;
    /** @type {(() => void) | null} */
    this._waiting = null;
    element.addEventListener("pointerenter", (event) => {
      this._over = event.pointerType !== "touch";
    });
    element.addEventListener("pointerleave", () => {
      this._over = false;
      this._go();
    });
    element.addEventListener("focusin", (event) => {
      this._focused = /** @type {Element} */ (event.target).matches(":focus-visible");
    });
    element.addEventListener("focusout", (event) => {
      if (element.contains(/** @type {Node | null} */ (event.relatedTarget))) return;
      this._focused = false;
      this._go();
    });
  }

  /** Whether the reader is in it. */
  get held() {
    return this._over || (this._focused && this.element.contains(document.activeElement));
  }

  /**
   * Draws now, or when the reader has left; of several that wait the last one counts.
   * @param {() => void} draw
   * @param {boolean} [asked] by the reader, who is not kept waiting
   */
  run(draw, asked = false) {
    this._waiting = draw;
    if (asked) this._now();
    else this._go();
  }

  _go() {
    if (!this.held) this._now();
  }

  _now() {
    const draw = this._waiting;
    this._waiting = null;
    draw?.();
  }
}
