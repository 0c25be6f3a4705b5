/**
 * What the search was told: where it differs from its preset, and all of it as TOML.
 * @module
 */
import { get, url } from "../api.js";
import { h } from "../dom.js";
import { icon } from "../icons.js";
import { copyText } from "../layer/facts.js";
import { T } from "../strings.js";
import { plainTable } from "../table.js";
import { button, loadInto } from "../ui.js";

export class Config {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    this.element = h("div", { class: "panel" });
    loadInto(this.element, async () => {
      const found = await get(`${model.path}/config-difference`);
      const text = (/** @type {any} */ value) => (value === null ? "–" : JSON.stringify(value));
      return [
        h("div", { class: "panel-bar" }, h("p", { class: "panel-help" }, !found.known ? T.config.unknown(found.preset)
          : found.differences.length ? T.config.differs(found.preset) : T.config.same), h("div", { class: "spacer" }),
        button(T.config.copy, () => copyText(found.toml, T.config.copied), { icon: "copy" }),
        h("a", { class: "button", href: url(`${model.path}/config.toml`), download: "" }, icon("download"), T.config.download)),
        found.known && found.differences.length ? plainTable([{ title: T.config.key }, { title: T.config.preset }, { title: T.config.here }],
          found.differences.map((/** @type {any} */ one) => [h("code", {}, one.key), text(one.preset), h("strong", {}, text(one.here))]), T.tabs.config) : null,
        h("pre", { class: "code-box", tabindex: "0", "aria-label": "TOML" }, found.toml)];
    }, 6);
  }

  close() {}
}
