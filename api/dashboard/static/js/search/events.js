/**
 * The log: live at the top, older pages on demand, by kind.
 * @module
 */
import { get } from "../api.js";
import { fill, h, throttled } from "../dom.js";
import { exactMoment, score } from "../format.js";
import { shortTitle } from "../measure.js";
import { params, setParams } from "../router.js";
import { T } from "../strings.js";
import { button, emptyState, errorState, loadingState } from "../ui.js";

const PAGE = 200;
const SHOWN = 400;

/**
 * Groups of events: the kinds that are asked for, and which of them belong to it.
 * @type {Record<string, {kinds: string[], fits: (one: any) => boolean}>}
 */
const GROUPS = {
  outcomes: { kinds: ["candidate_evaluated", "candidate_rejected", "candidate_failed", "candidate_duplicate"], fits: () => true },
  front: { kinds: ["candidate_evaluated", "job_finished"],
           fits: (one) => Boolean(one.event.standing?.front_in?.length || one.event.standing?.front_out?.length) },
  failures: { kinds: ["candidate_failed", "job_lost", "enqueued_refused", "job_finished"],
              fits: (one) => one.kind !== "job_finished" || Boolean(one.event.failure) },
  lost: { kinds: ["candidate_failed", "job_lost"], fits: (one) => one.kind === "job_lost" || one.event.failure.cause === "died" },
  steering: { kinds: ["created", "phase_entered", "status_changed", "budget_changed", "code_changed", "reported", "job_queued"], fits: () => true },
};
/** Pages without a fitting event that are read by themselves. */
const MOST_PAGES = 5;

/** @param {any} one */
const failed = (one) => GROUPS.failures.kinds.includes(one.kind) && GROUPS.failures.fits(one);

/**
 * What an event says, in a line.
 * @param {string} kind
 * @param {any} event
 * @returns {string}
 */
export function eventText(kind, event) {
  switch (kind) {
    case "candidate_queued": return `${event.birth}: ${T.events.text.of(event.operator || event.origin, event.parents)}`;
    case "candidate_duplicate": return `${event.birth} = ${event.of}`;
    case "candidate_waiting": return `${event.birth}: ${T.events.text.promise(event.promise)}`;
    case "candidate_rejected": return `${event.birth}: ${event.rejection.code}, ${event.rejection.detail}`;
    case "candidate_failed": return `${event.birth}: ${event.failure.cause} ${event.failure.detail ?? ""}`;
    case "candidate_evaluated": return `${event.birth}: ${scores(event.standing)}`;
    case "evaluation_recorded": return `${event.subject.birth ?? event.subject.baseline}: ${T.events.text.trained(event.purpose, event.evaluation.anchor, score(event.evaluation.score, event.evaluation.anchor))}`;
    case "job_queued": return `${event.id}: ${event.purpose}`;
    case "job_finished": return `${event.id}${event.failure ? `: ${event.failure.cause}` : ""}`;
    case "job_lost": return `${event.id}: ${event.failure.cause}, ${T.events.text.attempt(event.attempt)}${event.worker ? `, ${event.worker}` : ""}`;
    case "enqueued_refused": return `${event.birth}: ${event.rejection.code}, ${event.rejection.detail}`;
    case "phase_entered": return `${T.phases[/** @type {"done"} */ (event.phase)] ?? event.phase}${event.note ? `, ${event.note}` : ""}`;
    case "status_changed": return `${event.status}${event.reason ? `: ${event.reason}` : ""}`;
    case "budget_changed": return limits(event) + (event.reason ? `: ${event.reason}` : "");
    case "code_changed": return event.reason;
    case "bounds_learnt": return T.events.text.bounds(event.passed, event.factor);
    case "reported": return event.report?.verdict ?? "";
    default: return "";
  }
}

/** @param {any} event */
function limits(event) {
  const others = Object.entries(event.limits ?? {}).map(([name, value]) => `${T.events.text.limits[/** @type {"hours"} */ (name)] ?? name} ${value ?? T.events.text.noLimit}`);
  return [...(event.evaluations === null ? [] : [event.evaluations]), ...others].join(", ");
}

/** @param {any} standing */
function scores(standing) {
  const all = Object.entries(standing.scores).map(([anchor, value]) => `${shortTitle(anchor)} ${score(/** @type {number} */ (value), anchor)}`).join(", ");
  return standing.front_in.length ? `${all}; ${T.events.text.ontoFront}` : all;
}

export class Events {
  /**
   * @param {import("./model.js").Model} model
   * @param {any} page
   */
  constructor(model, page) {
    this.model = model;
    this.page = page;
    /** Number of the newest event that was looked at. */
    this.seen = 0;
    this.filter = h("select", { class: "input pick", "aria-label": T.events.filter, onchange: () =>
      setParams({ kind: this.filter.value || null }) },
    [["", T.events.all], ...Object.entries(T.events.groups), ...Object.entries(T.events.kinds)].map(([value, text]) => h("option", { value }, text)));
    this.list = h("div", { class: "event-list", tabindex: "0", role: "log", "aria-live": "off", "aria-label": T.tabs.events }, loadingState(6));
    this.more = button(T.events.older, () => this.loadOlder(), { kind: "plain" });
    this.after = h("span", { class: "actions", hidden: true });
    this.element = h("div", { class: "panel" }, h("div", { class: "toolbar" }, this.filter, this.after), this.list, this.more);
    this.paced = throttled(() => this.draw(), 400);
    this.off = model.on("events", () => {
      this.take();
      if (!this.list.matches(":hover")) this.paced();
    });
    this.list.addEventListener("pointerleave", () => this.paced());
    /** The filter that is shown. @type {string | null} */
    this.chosen = null;
    this.update();
  }

  close() {
    this.off();
    this.paced.cancel();
  }

  /** Another kind, or another beginning: its events are asked for anew, from the end of the log. */
  update() {
    const kind = params().get("kind") ?? "";
    const start = Number(params().get("after") ?? 0);
    this.filter.value = kind;
    const chosen = `${kind}/${start}`;
    if (chosen === this.chosen) return;
    this.chosen = chosen;
    this.kind = kind;
    this.start = Number.isSafeInteger(start) && start > 0 ? start : 0;
    this.after.hidden = !this.start;
    fill(this.after, h("span", { class: "pill accent" }, T.events.after(this.start)),
      button(T.events.anyTime, () => setParams({ after: null }), { icon: "cross", kind: "plain" }));
    this.again();
  }

  /** From the end of the log. */
  again() {
    /** What the filter lets through of the newest events, without a gap. @type {any[]} */
    this.rows = [];
    this.oldest = 0;
    this.room = SHOWN;
    this.loaded = false;
    fill(this.list, loadingState(6));
    this.loadOlder();
  }

  /** What the filter asks the service for, and which of that it shows. */
  wanted() {
    const chosen = this.kind ?? "";
    if (GROUPS[chosen]) return GROUPS[chosen];
    return { kinds: chosen ? [chosen] : [], fits: () => true };
  }

  /** Older events of the kind, by the service; a rare one may lie far back. */
  async loadOlder() {
    const { kinds, fits } = this.wanted();
    const { chosen } = this;
    const { last } = this.model;
    try {
      let found = 0;
      for (let pages = 0; pages < MOST_PAGES && !found; pages++) {
        const page = await get(`${this.model.path}/events`,
          { newest: true, limit: PAGE, kind: kinds, before: this.oldest || null, after: this.start || null });
        if (chosen !== this.chosen) return;
        const events = page.events.reverse();
        const fitting = events.filter(fits);
        found = fitting.length;
        this.rows = [...this.rows, ...fitting];
        this.oldest = events.at(-1)?.seq ?? this.oldest;
        this.more.hidden = !page.more;
        if (this.more.hidden) break;
      }
      this.room = Math.max(SHOWN, this.rows.length);
      if (!this.loaded) {
        this.loaded = true;
        this.seen = Math.max(this.rows[0]?.seq ?? 0, last);
        this.take();
      }
      this.draw();
    } catch (err) {
      if (chosen === this.chosen) fill(this.list, errorState(err, () => this.loadOlder()));
    }
  }

  /** Live events go on top, and stay however many of other kinds come after them. */
  take() {
    if (!this.loaded) return;
    const { kinds, fits } = this.wanted();
    const known = this.model.events;
    const fresh = known.filter((one) => one.seq > this.seen);
    if (!fresh.length) return;
    const lost = fresh.length === known.length && fresh[fresh.length - 1].seq > this.seen + 1;
    this.seen = fresh[0].seq;
    if (lost) {
      this.again();
      return;
    }
    this.rows = [...fresh.filter((one) => one.seq > this.start && (!kinds.length || kinds.includes(one.kind)) && fits(one)), ...this.rows];
    if (this.rows.length > this.room) {
      this.rows.length = this.room;
      this.oldest = this.rows[this.room - 1].seq;
      this.more.hidden = false;
    }
  }

  draw() {
    if (!this.loaded) return;
    if (!this.rows.length) {
      fill(this.list, emptyState(this.more.hidden ? T.events.none : T.events.searching));
      return;
    }
    fill(this.list, this.rows.map((one) => this.row(one)));
  }

  /** @param {any} one */
  row(one) {
    const birth = one.event.birth ?? one.event.subject?.birth ?? null;
    const when = new Date(one.at);
    const bad = failed(one) ? "bad" : one.kind === "candidate_evaluated" ? "good" : "";
    return h("div", { class: "event-row" },
      h("time", { datetime: one.at, class: "quiet", title: exactMoment(one.at) }, when.toLocaleTimeString()),
      h("span", { class: ["event-kind", bad] }, T.events.kinds[/** @type {"created"} */ (one.kind)] ?? one.kind),
      birth === null ? h("span", { class: "clip" }, eventText(one.kind, one.event))
        : h("button", { type: "button", class: "linklike clip", onclick: () => this.page.openDrawer(birth) }, eventText(one.kind, one.event)),
      h("span", { class: "quiet small mono" }, one.seq));
  }
}
