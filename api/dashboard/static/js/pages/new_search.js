/**
 * A new search: a preset, what is changed of it, and what that would take.
 * @module
 */
import { Problem, get, post } from "../api.js";
import { fill, h, throttled } from "../dom.js";
import { bytes, count, duration, number, percent } from "../format.js";
import { SchemaForm } from "../form.js";
import { icon } from "../icons.js";
import { go, href, params } from "../router.js";
import { T } from "../strings.js";
import { errorState, loadingState, problemText } from "../ui.js";

/** Settings that most searches differ in; all others are below, by section. */
const FIRST = ["budget.evaluations", "task.dataset", "task.steps", "evolution.population_size", "series"];
const HIDDEN = new Set(["preset", "seed"]);

/** @type {import("../router.js").Open} */
export async function open(host, _match, _params, signal) {
  document.title = `${T.fresh.title} · evosearch`;
  fill(host, h("div", { class: "page" }, loadingState(8)));
  try {
    const [presets, datasets, anchors] = await Promise.all([get("/presets"), get("/datasets"), get("/anchors")]);
    if (signal.aborted) return {};
    const page = new NewSearch(host, presets, { "task.dataset": datasets, "task.anchors.name": anchors });
    return { leave: () => page.close() };
  } catch (err) {
    fill(host, h("div", { class: "page" }, errorState(err, () => location.reload())));
    return {};
  }
}

class NewSearch {
  /**
   * @param {HTMLElement} host
   * @param {any} presets
   * @param {Record<string, string[]>} choices
   */
  constructor(host, presets, choices) {
    this.presets = presets.presets;
    this.schema = presets.json_schema;
    this.choices = choices;
    this.closed = false;
    /** @type {string} */
    this.key = crypto.randomUUID?.() ?? `page-${Date.now()}-${Math.random()}`;
    const wanted = params().get("preset");
    this.preset = this.presets.find((/** @type {any} */ one) => one.name === (wanted ?? "quickstart")) ?? this.presets[0];
    this.title = h("input", { class: "input", id: "title", maxlength: "200", autocomplete: "off" });
    this.seed = h("input", { class: "input", id: "seed", type: "number", min: "0", step: "1", value: "0", oninput: () => this.changed() });
    this.tags = h("input", { class: "input", id: "new-tags", autocomplete: "off" });
    this.formBox = h("div", { class: "new-form" });
    this.estimate = h("div", { class: "card-body", "aria-live": "polite" }, loadingState(4));
    this.told = h("p", { class: "field-error", role: "alert" });
    this.start = h("button", { type: "submit", class: "button primary", id: "start" }, icon("play"), T.fresh.start);
    this.changes = h("p", { class: "small quiet" });
    this.paced = throttled(() => this.ask(), 450);
    fill(host, h("form", { class: "page new-page", novalidate: true, onsubmit: (/** @type {Event} */ event) => {
      event.preventDefault();
      this.create();
    } },
      h("div", { class: "page-head" }, h("h1", {}, T.fresh.title)),
      h("div", { class: "new-grid" },
        h("div", {}, this.presetCards(), this.formBox),
        h("aside", { class: "new-side" }, h("section", { class: "card", "aria-label": T.fresh.estimate },
          h("div", { class: "card-head" }, h("h2", {}, T.fresh.estimate)), this.estimate,
          h("div", { class: "card-body" }, this.changes, this.told, h("div", { class: "actions" }, this.start,
            h("a", { class: "button plain", href: href("") }, T.cancel))))))));
    this.build();
  }

  close() {
    this.closed = true;
    this.paced.cancel();
  }

  presetCards() {
    return h("div", { class: "preset-cards", role: "radiogroup", "aria-label": T.fresh.preset }, this.presets.map((/** @type {any} */ one) => {
      const radio = h("input", { type: "radio", name: "preset", value: one.name, checked: one === this.preset, onchange: () => {
        this.preset = one;
        this.build();
      } });
      return h("label", { class: "preset-card" }, radio, h("span", {}, h("strong", {}, one.name),
        h("span", { class: "small quiet" }, `${one.config.task.dataset}, ${one.config.task.anchors.map((/** @type {any} */ a) => a.name).join(", ")}`),
        h("span", { class: "small quiet" }, T.fresh.presetLine(count(one.config.budget.evaluations), count(one.config.task.steps)))));
    }));
  }

  /** The form anew, with the values of the preset. */
  build() {
    const { config } = this.preset;
    this.form = new SchemaForm(this.schema, { changed: () => this.changed(), choices: this.choices });
    const known = this.form;
    const first = FIRST.map((key) => {
      const { schema, value } = this.at(key);
      return known.field(key, key.split(".").at(-1) ?? key, schema, value);
    });
    const field = (/** @type {string} */ id, /** @type {string} */ text, /** @type {any} */ control) =>
      h("div", { class: "field" }, h("label", { for: id }, text), control);
    const filter = h("input", { class: "input form-filter", type: "search", placeholder: T.form.filter, "aria-label": T.form.filter,
      oninput: () => this.filter(filter.value, all) });
    const all = h("div", {}, Object.entries(this.schema.properties).filter(([name]) => !HIDDEN.has(name) && !FIRST.includes(name)).map(([name, part]) =>
      this.section(name, known.resolve(part), /** @type {any} */ (config)[name])));
    fill(this.formBox, h("section", { class: "card" }, h("div", { class: "card-body form-first" }, h("div", { class: "form-grid" },
      field("title", T.fresh.name, this.title), field("seed", T.fresh.seed, this.seed), field("new-tags", T.notes.tags, this.tags), first))),
    h("details", { class: "card all-settings", open: Boolean(this.opened), ontoggle: (/** @type {any} */ event) => {
      this.opened = event.target.open;
    } }, h("summary", {}, T.fresh.all), h("div", { class: "card-body" }, filter, all)));
    this.changed();
  }

  /**
   * @param {string} name
   * @param {any} schema
   * @param {any} value
   */
  section(name, schema, value) {
    const form = /** @type {SchemaForm} */ (this.form);
    if (!schema.properties) return h("div", { class: "form-grid" }, form.part(name, name, schema, value));
    const parts = Object.entries(schema.properties).filter(([part]) => !FIRST.includes(`${name}.${part}`));
    return form.part(name, name, { ...schema, properties: Object.fromEntries(parts) }, value);
  }

  /**
   * Schema and value at a dotted key.
   * @param {string} key
   */
  at(key) {
    const form = /** @type {SchemaForm} */ (this.form);
    let schema = this.schema;
    let value = this.preset.config;
    for (const part of key.split(".")) {
      schema = form.resolve(schema.properties[part]);
      value = value?.[part];
    }
    return { schema, value };
  }

  /**
   * @param {string} text
   * @param {HTMLElement} all
   */
  filter(text, all) {
    const wanted = text.trim().toLowerCase().replaceAll(" ", "_");
    for (const box of all.querySelectorAll(".field[data-key]")) {
      /** @type {HTMLElement} */ (box).hidden = Boolean(wanted) && !(/** @type {HTMLElement} */ (box).dataset.key ?? "").includes(wanted);
    }
    for (const part of [...all.querySelectorAll(".form-part")].reverse()) {
      /** @type {HTMLElement} */ (part).hidden = Boolean(wanted) && !part.querySelector(".field[data-key]:not([hidden])");
    }
  }

  changed() {
    const form = /** @type {SchemaForm} */ (this.form);
    form.forgive();
    this.told.textContent = "";
    this.title.placeholder = T.fresh.untitled(this.preset.name, this.seed.value || "0");
    const found = Object.keys(form.changes());
    this.changes.textContent = found.length ? T.fresh.changes(found) : T.fresh.noChanges;
    this.start.disabled = !form.valid();
    if (form.valid()) this.paced();
  }

  body() {
    const form = /** @type {SchemaForm} */ (this.form);
    return { preset: this.preset.name, overrides: form.changes(), seed: Number(this.seed.value || 0) };
  }

  /** What it would take, and whether the service takes it at all. */
  async ask() {
    const mine = (this.asked = (this.asked ?? 0) + 1);
    try {
      const found = await post("/searches/dry-run", this.body());
      if (mine !== this.asked) return;
      this.told.textContent = "";
      fill(this.estimate, estimateFacts(found));
      this.start.disabled = !(/** @type {SchemaForm} */ (this.form).valid());
    } catch (err) {
      if (mine === this.asked) this.refused(err);
    }
  }

  /** @param {unknown} err */
  refused(err) {
    const text = problemText(err);
    const named = /^([a-z_]+(?:\.[a-z0-9_]+)*): (.*)/s.exec(err instanceof Problem ? err.message : "");
    const shown = named && /** @type {SchemaForm} */ (this.form).refuse(named[1], named[2]);
    this.told.textContent = shown ? T.fresh.seeField(named[1]) : text;
    this.start.disabled = err instanceof Problem && err.status > 0 && err.status < 500;
  }

  async create() {
    this.start.disabled = true;
    const tags = this.tags.value.split(",").map((/** @type {string} */ one) => one.trim()).filter(Boolean);
    try {
      // A second press, or a retry after a lost answer, finds the first search.
      const made = await post("/searches", { ...this.body(), title: this.title.value.trim() || null, tags },
        { headers: { "Idempotency-Key": this.key } });
      if (!this.closed) go(`search/${made.id}`);
    } catch (err) {
      this.refused(err);
      if (err instanceof Problem && err.status === 409) this.key = `page-${Date.now()}-${Math.random()}`;
      this.start.disabled = false;
    }
  }
}

/** @param {any} one a restriction of the space; where nothing passed, what its share is below */
function spaceShare(one) {
  const fine = (/** @type {number} */ share) => percent(share, share < 0.01 ? 2 : 1);
  if (one.below !== null) return T.fresh.below(fine(one.below));
  return one.came ? fine(one.passed / one.came) : T.fresh.unknown;
}

/** @param {any} found */
function estimateFacts(found) {
  const hours = (/** @type {number | null} */ value) => (value === null ? T.fresh.unknown : duration(3600 * value));
  const rows = [[T.fresh.evaluations, count(found.evaluations)], [T.fresh.steps, count(found.train_steps)], [T.fresh.hours, hours(found.hours)],
    [T.fresh.workerHours, hours(found.worker_hours)], found.gpu_hours ? [T.search.gpuHours, number(found.gpu_hours, 1)] : null,
    [T.fresh.disk, bytes(found.disk_bytes)], ...found.space.map((/** @type {any} */ one) => [T.fresh.space[one.name] ?? one.name, spaceShare(one)]), found.price === null ? null : [T.fresh.price, number(found.price, 2)]].filter(Boolean);
  return [h("dl", { class: "facts estimate" }, rows.map((/** @type {any} */ [name, value]) => [h("dt", {}, name), h("dd", {}, h("strong", {}, value))])),
    ...found.notes.map((/** @type {string} */ note) => h("p", { class: "small" }, note)), h("p", { class: "small quiet" }, found.based_on)];
}
