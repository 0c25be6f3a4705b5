/**
 * What the page knows of one search, kept fresh: each topic is one bounded request, asked again
 * when events say that it changed, never more often than its pace. Nothing here draws.
 * @module
 */
import { get } from "../api.js";
import { throttled } from "../dom.js";
import { EventFeed } from "../stream.js";

/** @typedef {"search" | "line" | "scatter" | "progress" | "funnel" | "throughput" | "workers" | "costs" | "since" | "inside"} Topic */

/** Topic -> milliseconds between two requests for it while events come. @type {Record<string, number>} */
const PACE = { search: 1500, line: 2000, workers: 3000, scatter: 5000, progress: 5000, funnel: 5000,
               throughput: 5000, costs: 8000, since: 20_000, inside: 5000 };

/** Kinds of events -> what they change. @type {Record<string, Topic[]>} */
const CHANGES = {
  candidate_evaluated: ["search", "line", "scatter", "inside", "progress", "funnel", "throughput", "costs", "since"],
  candidate_rejected: ["search", "line", "funnel", "throughput"],
  candidate_failed: ["search", "line", "funnel", "throughput"],
  candidate_queued: ["search", "workers"],
  candidate_duplicate: ["search"],
  enqueued_refused: ["funnel"],
  evaluation_recorded: ["workers", "costs"],
  job_lost: ["line", "workers", "since"],
  job_queued: ["workers"],
  job_finished: ["line", "scatter", "inside", "progress", "costs", "since"],
  phase_entered: ["search", "progress"],
  status_changed: ["search", "line", "progress", "workers"],
  budget_changed: ["search", "progress"],
  code_changed: ["search"],
  reported: ["search", "line"],
};

const KEPT_EVENTS = 500;

export class Model {
  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.path = `/searches/${id}`;
    /** @type {Record<string, any>} */
    this.data = {};
    /** @type {Record<string, unknown>} */
    this.errors = {};
    /** Number of the last event at the last visit. @type {number | undefined} */
    this.lastVisit = undefined;
    /** @type {number | undefined} */
    this.visitedAt = undefined;
    this.axes = { x: "step_time", y: "gain" };
    /** What is brushed, as the service's ranges. @type {string[]} */
    this.ranges = [];
    /** Newest events, the newest first. @type {import("../stream.js").LiveEvent[]} */
    this.events = [];
    /** Number of the newest event that is known. */
    this.last = 0;
    /** Events since the table was loaded, by kind; rejections by `candidate_rejected/CODE`, too. @type {Map<string, number>} */
    this.fresh = new Map();
    /** @type {Map<string, Set<() => void>>} */
    this._told = new Map();
    /** @type {Record<string, any>} */
    this._paced = {};
    /** @type {Record<string, number>} */
    this._asked = {};
    this._abort = new AbortController();
    /** @type {EventFeed | null} */
    this.feed = null;
    /** @type {(state: any, since: number) => void} */
    this.onLink = () => {};
    for (const topic of Object.keys(PACE)) {
      this._paced[topic] = throttled(() => this.load(/** @type {Topic} */ (topic)), PACE[topic]);
    }
  }

  /**
   * @param {string} topic of the data, or "events"
   * @param {() => void} call
   */
  on(topic, call) {
    if (!this._told.has(topic)) this._told.set(topic, new Set());
    this._told.get(topic)?.add(call);
    return () => this._told.get(topic)?.delete(call);
  }

  /**
   * Has a panel load anew once another brush than its own is drawn.
   * @param {{ranges?: string[], load: () => void}} panel ranges: those that it last asked for
   */
  onBrush(panel) {
    return this.on("inside", () => {
      if (panel.ranges !== this.ranges) panel.load();
    });
  }

  /** @param {string} topic */
  tell(topic) {
    for (const call of this._told.get(topic) ?? []) call();
  }

  /**
   * Asks for a topic; an answer that a later question has overtaken is dropped.
   * @param {Topic} topic
   */
  async load(topic) {
    const mine = (this._asked[topic] = (this._asked[topic] ?? 0) + 1);
    try {
      const found = await this._ask(topic);
      if (mine !== this._asked[topic]) return;
      this.data[topic] = found;
      delete this.errors[topic];
    } catch (err) {
      if (this._abort.signal.aborted || mine !== this._asked[topic]) return;
      this.errors[topic] = err;
    }
    this.tell(topic);
  }

  /** @param {Topic} topic */
  async _ask(topic) {
    const { signal } = this._abort;
    const range = this.ranges;
    switch (topic) {
      case "search": return get(this.path, {}, signal);
      case "line": return (await get("/compare", { search: this.id }, signal)).searches[0];
      case "scatter": return get(`${this.path}/scatter`, { ...this.axes, points: 5000 }, signal);
      case "inside": return range.length ? get(`${this.path}/scatter`, { ...this.axes, points: 5000, range }, signal) : null;
      case "funnel": return get(`${this.path}/funnel/path`, { range }, signal);
      case "progress": case "throughput": return get(`${this.path}/${topic}`, { range }, signal);
      case "workers": return get("/workers", {}, signal);
      case "since": return this.lastVisit === undefined ? null
        : get(`${this.path}/since`, { event: this.lastVisit }, signal);
      default: return get(`${this.path}/${topic}`, {}, signal);
    }
  }

  /**
   * The brush has changed: every chart that can be filtered asks anew.
   * @param {string[]} ranges
   */
  narrow(ranges) {
    this.ranges = ranges;
    this.data.inside = null;
    for (const topic of /** @type {const} */ (["inside", "funnel", "progress", "throughput"])) this.load(topic);
  }

  /** @param {Topic} topic */
  touch(topic) {
    this._paced[topic]();
  }

  /** Begins to listen, from what `search` said last. */
  listen() {
    this.feed = new EventFeed(`${this.path}/events/stream`, (events) => this._took(events),
      (state, since) => this._linked(state, since), String(this.data.search.last_event));
    // Not all that changes is an event: workers come and go, other tabs write titles and notes, and
    // failures are no longer of the last hour.
    this._clock = setInterval(() => {
      for (const topic of /** @type {const} */ (["workers", "search", "line"])) this.touch(topic);
      this.tell("since");
    }, 20_000);
  }

  /**
   * @param {any} state
   * @param {number} since
   */
  _linked(state, since) {
    this.onLink(state, since);
    if (state === "live" && this._wasLost) {
      for (const topic of new Set(Object.keys({ ...this.data, ...this.errors }))) this.touch(/** @type {Topic} */ (topic));
    }
    this._wasLost = state === "lost";
    this.linked = state;
    this.tell("link");
  }

  /** @param {import("../stream.js").LiveEvent[]} events */
  _took(events) {
    /** @type {Set<Topic>} */
    const dirty = new Set();
    for (const one of events) {
      for (const topic of CHANGES[one.kind] ?? []) dirty.add(topic);
      this._count(one.kind);
      if (one.kind === "candidate_rejected") this._count(`${one.kind}/${one.event.rejection.code}`);
      this.last = Math.max(this.last, one.seq);
    }
    this.events = [...events.reverse(), ...this.events].slice(0, KEPT_EVENTS);
    for (const topic of dirty) this.touch(topic);
    this.tell("events");
  }

  /** @param {string} name */
  _count(name) {
    this.fresh.set(name, (this.fresh.get(name) ?? 0) + 1);
  }

  /**
   * The reader has been away, and is back: what is new since then is asked for.
   * @param {{event: number, at: number} | null} before
   */
  cameBack(before) {
    this.lastVisit = before?.event;
    this.visitedAt = before?.at;
    this.load("since");
  }

  close() {
    this._abort.abort();
    this.feed?.close();
    clearInterval(this._clock);
    for (const one of Object.values(this._paced)) one.cancel();
    this._told.clear();
  }
}
