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

/** @type {Record<string, (one: any) => boolean>} */
const GROUPS = {
  outcomes: (one) => ["candidate_evaluated", "candidate_rejected", "candidate_failed", "candidate_duplicate"].includes(one.kind),
  front: (one) => Boolean(one.event.standing?.front_in?.length || one.event.standing?.front_out?.length),
  failures: (one) => ["candidate_failed", "job_lost", "enqueued_refused"].includes(one.kind) || Boolean(one.event.failure),
  steering: (one) => ["created", "phase_entered", "status_changed", "budget_changed", "reported", "job_queued"].includes(one.kind)
    || one.event.origin === "enqueued",
};

/**
 * What an event says, in a line.
 * @param {string} kind
 * @param {any} event
 * @returns {string}
 */
export function eventText(kind, event) {
  switch (kind) {
    case "candidate_queued": return `${event.birth}: ${event.origin}${event.parents.length ? ` of ${event.parents.join(", ")}` : ""}`;
    case "candidate_duplicate": return `${event.birth} = ${event.of}`;
    case "candidate_rejected": return `${event.birth}: ${event.rejection.code}, ${event.rejection.detail}`;
    case "candidate_failed": return `${event.birth}: ${event.failure.cause} ${event.failure.detail ?? ""}`;
    case "candidate_evaluated": return `${event.birth}: ${scores(event.standing)}`;
    case "evaluation_recorded": return `${event.subject.birth ?? event.subject.baseline}: ${event.purpose} on ${event.evaluation.anchor}, ${score(event.evaluation.score, event.evaluation.anchor)}`;
    case "job_queued": return `${event.id}: ${event.purpose}`;
    case "job_finished": return `${event.id}${event.failure ? `: ${event.failure.cause}` : ""}`;
    case "job_lost": return `${event.id}: ${event.failure.cause}, attempt ${event.attempt}${event.worker ? `, ${event.worker}` : ""}`;
    case "enqueued_refused": return `${event.birth}: ${event.rejection.code}, ${event.rejection.detail}`;
    case "phase_entered": return `${T.phases[/** @type {"done"} */ (event.phase)] ?? event.phase}${event.note ? `, ${event.note}` : ""}`;
    case "status_changed": return `${event.status}${event.reason ? `: ${event.reason}` : ""}`;
    case "budget_changed": return `${event.evaluations}${event.reason ? `: ${event.reason}` : ""}`;
    case "reported": return event.report?.verdict ?? "";
    default: return "";
  }
}

/** @param {any} standing */
function scores(standing) {
  const all = Object.entries(standing.scores).map(([anchor, value]) => `${shortTitle(anchor)} ${score(/** @type {number} */ (value), anchor)}`).join(", ");
  return standing.front_in.length ? `${all}; onto the front` : all;
}

export class Events {
  /**
   * @param {import("./model.js").Model} model
   * @param {any} page
   */
  constructor(model, page) {
    this.model = model;
    this.page = page;
    /** @type {any[]} */
    this.older = [];
    this.oldest = 0;
    this.filter = h("select", { class: "input pick", "aria-label": T.events.filter, onchange: () =>
      setParams({ kind: this.filter.value || null }) },
    [["", T.events.all], ...Object.entries(T.events.groups), ...Object.entries(T.events.kinds)].map(([value, text]) => h("option", { value }, text)));
    this.list = h("div", { class: "event-list", tabindex: "0", role: "log", "aria-live": "off", "aria-label": T.tabs.events }, loadingState(6));
    this.more = button(T.events.older, () => this.loadOlder(), { kind: "plain" });
    this.element = h("div", { class: "panel" }, h("div", { class: "toolbar" }, this.filter), this.list, this.more);
    this.paced = throttled(() => this.draw(), 400);
    this.off = model.on("events", () => {
      if (!this.list.matches(":hover")) this.paced();
    });
    this.list.addEventListener("pointerleave", () => this.paced());
    this.update();
    this.loadOlder();
  }

  close() {
    this.off();
    this.paced.cancel();
  }

  update() {
    this.filter.value = params().get("kind") ?? "";
    this.draw();
  }

  async loadOlder() {
    try {
      const from = this.older.length ? Math.max(0, this.oldest - 1 - PAGE) : 0;
      const page = this.older.length
        ? await get(`${this.model.path}/events`, { after: from, limit: Math.min(PAGE, this.oldest - 1 - from) })
        : await get(`${this.model.path}/events`, { newest: true, limit: PAGE });
      this.older = [...this.older, ...page.events.reverse()];
      this.oldest = this.older.at(-1)?.seq ?? 0;
      this.more.hidden = this.oldest <= 1;
      this.loaded = true;
      this.draw();
    } catch (err) {
      fill(this.list, errorState(err, () => this.loadOlder()));
    }
  }

  draw() {
    if (!this.loaded) return;
    const chosen = this.filter.value;
    const wanted = GROUPS[chosen] ?? (chosen ? (/** @type {any} */ one) => one.kind === chosen : () => true);
    const first = this.older[0]?.seq ?? 0;
    const all = [...this.model.events.filter((one) => one.seq > first), ...this.older].filter(wanted).slice(0, Math.max(SHOWN, this.older.length));
    if (!all.length) {
      fill(this.list, emptyState(T.events.none));
      return;
    }
    fill(this.list, all.map((one) => this.row(one)));
  }

  /** @param {any} one */
  row(one) {
    const birth = one.event.birth ?? one.event.subject?.birth ?? null;
    const when = new Date(one.at);
    const bad = GROUPS.failures(one) ? "bad" : one.kind === "candidate_evaluated" ? "good" : "";
    return h("div", { class: "event-row" },
      h("time", { datetime: one.at, class: "quiet", title: exactMoment(one.at) }, when.toLocaleTimeString()),
      h("span", { class: ["event-kind", bad] }, T.events.kinds[/** @type {"created"} */ (one.kind)] ?? one.kind),
      birth === null ? h("span", { class: "clip" }, eventText(one.kind, one.event))
        : h("button", { type: "button", class: "linklike clip", onclick: () => this.page.openDrawer(birth) }, eventText(one.kind, one.event)),
      h("span", { class: "quiet small mono" }, one.seq));
  }
}
