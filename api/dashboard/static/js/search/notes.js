/**
 * What people write about a search; saved as they type.
 * @module
 */
import { patch } from "../api.js";
import { h, setText, throttled } from "../dom.js";
import { T } from "../strings.js";
import { toastProblem } from "../ui.js";

export class Notes {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    this.model = model;
    const { search } = model.data;
    this.state = h("span", { class: "small quiet", role: "status" });
    this.text = h("textarea", { class: "input", id: "notes", rows: "9", maxlength: "20000", placeholder: T.notes.placeholder, value: search.notes, oninput: () => this.changed() });
    this.tags = h("input", { class: "input", id: "tags", value: search.tags.join(", "), oninput: () => this.changed() });
    this.priority = h("input", { class: "input", id: "priority", type: "number", min: "1", max: "100", value: String(search.priority), oninput: () => this.changed() });
    this.save = throttled(() => this.send(), 900);
    this.element = h("div", { class: "panel notes" },
      h("div", { class: "field" }, h("label", { for: "notes" }, T.notes.label), this.text),
      h("div", { class: "notes-side" },
        h("div", { class: "field" }, h("label", { for: "tags" }, T.notes.tags), this.tags),
        h("div", { class: "field" }, h("label", { for: "priority", data: { tip: T.notes.priorityTip } }, T.notes.priority), this.priority), this.state));
  }

  close() {
    if (this.waiting) this.send();
  }

  changed() {
    this.waiting = true;
    setText(this.state, T.notes.saving);
    this.save();
  }

  async send() {
    this.waiting = false;
    try {
      await patch(this.model.path, { notes: this.text.value, priority: Number(this.priority.value),
        tags: this.tags.value.split(",").map((/** @type {string} */ one) => one.trim()).filter(Boolean) });
      setText(this.state, T.notes.saved);
      this.model.load("search");
    } catch (err) {
      setText(this.state, "");
      toastProblem(err);
    }
  }
}
