/**
 * When the reader was here last, and where the log stood then. A visit is the reader's, not the
 * tab's: it lasts while the page is in sight and somebody moves, presses or scrolls.
 * @module
 */
import { keep, recall } from "../storage.js";

/** Milliseconds without a sign of the reader that end a visit. */
const AWAY = 30 * 60_000;
/** Milliseconds between two notes of one visit. */
const OFTEN = 5000;
const SIGNS = ["pointerdown", "pointermove", "keydown", "wheel", "touchmove"];

/** @typedef {{event: number, at: number}} Before number of the last event that was seen, and when */

/**
 * Notes that the reader is here.
 * @param {string} search
 * @param {number} lastEvent
 * @returns {{before: Before | null, fresh: boolean}} the visit before this one; fresh: this one begins
 */
function note(search, lastEvent) {
  const key = `evosearch.visit.${search}`;
  const now = Date.now();
  const kept = recall(key);
  const fresh = !kept || now - kept.seen > AWAY;
  const before = fresh ? (kept ? { event: kept.event, at: kept.seen } : null) : kept.before;
  keep(key, { seen: now, event: lastEvent, before });
  return { before, fresh };
}

export class Visits {
  /**
   * @param {string} search
   * @param {() => number} lastEvent number of the newest event that the page shows
   * @param {(before: Before | null) => void} cameBack another visit began on the page that stood open
   */
  constructor(search, lastEvent, cameBack) {
    this.search = search;
    this.lastEvent = lastEvent;
    this.cameBack = cameBack;
    this._noted = 0;
    this._place = "";
    /** The visit before this one. @type {Before | null} */
    this.before = recall(`evosearch.visit.${search}`)?.before ?? null;
    this._here = (/** @type {Event} */ event) => this.here(event);
    for (const kind of SIGNS) document.addEventListener(kind, this._here, { capture: true, passive: true });
    document.addEventListener("visibilitychange", this._here);
    if (document.visibilityState === "visible") this.before = note(search, lastEvent()).before;
  }

  close() {
    for (const kind of SIGNS) document.removeEventListener(kind, this._here, { capture: true });
    document.removeEventListener("visibilitychange", this._here);
  }

  /**
   * A sign of the reader; that the page moves under a pointer at rest is none.
   * @param {Event} event
   */
  here(event) {
    if (event instanceof PointerEvent && event.type === "pointermove") {
      const place = `${event.screenX}/${event.screenY}`;
      if (place === this._place) return;
      this._place = place;
    }
    const now = Date.now();
    if (document.visibilityState !== "visible" || now - this._noted < OFTEN) return;
    this._noted = now;
    const { before, fresh } = note(this.search, this.lastEvent());
    this.before = before;
    if (fresh) this.cameBack(before);
  }
}
