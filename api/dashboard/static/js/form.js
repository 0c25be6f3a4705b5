/**
 * A form made from a JSON schema: each value gets the control that its schema asks for, says what
 * is wrong with it at once, and what was changed against given values can be read out.
 * @module
 */
import { h, s } from "./dom.js";
import { T } from "./strings.js";
import { button } from "./ui.js";

/** @typedef {Record<string, any>} Schema */

export class SchemaForm {
  /**
   * @param {Schema} schema the whole document, with `$defs`
   * @param {{changed: () => void, choices?: Record<string, string[]>}} options
   *   `choices`: dotted key -> values that are offered here
   */
  constructor(schema, options) {
    this.schema = schema;
    this.options = options;
    /** @type {Map<string, {read: () => any, mark: (text: string) => void, box: HTMLElement, from: any}>} */
    this.fields = new Map();
    /** Takes back what the service refused. @type {(() => void) | null} */
    this.refused = null;
  }

  /**
   * @param {Schema} one
   * @returns {Schema} what a reference leads to, with what stands beside it
   */
  resolve(one) {
    let found = one;
    if (found.$ref) found = { ...this.schema.$defs[found.$ref.split("/").pop()], ...found };
    if (found.anyOf) {
      const kinds = found.anyOf.filter((/** @type {Schema} */ kind) => kind.type !== "null");
      if (kinds.length < found.anyOf.length) found = { ...this.resolve(kinds[0]), ...found, optional: true };
    }
    return found;
  }

  /**
   * The fields of an object, below each other.
   * @param {string} prefix
   * @param {Schema} schema
   * @param {any} values
   * @returns {HTMLElement[]}
   */
  object(prefix, schema, values) {
    return Object.entries(schema.properties ?? {}).map(([name, part]) =>
      this.part(prefix ? `${prefix}.${name}` : name, name, this.resolve(part), values?.[name]));
  }

  /**
   * @param {string} key dotted
   * @param {string} name
   * @param {Schema} schema
   * @param {any} value
   * @returns {HTMLElement}
   */
  part(key, name, schema, value) {
    if (schema.properties) {
      return h("fieldset", { class: "form-part" }, h("legend", {}, words(name)), h("div", { class: "form-grid" }, this.object(key, schema, value)));
    }
    const items = schema.items && this.resolve(schema.items);
    if (items?.properties) return this.rows(key, name, items, value);
    return this.field(key, name, schema, value);
  }

  /**
   * A list of objects: rows that can be added and taken out; read as one value.
   * @param {string} key
   * @param {string} name
   * @param {Schema} schema
   * @param {any[]} values
   */
  rows(key, name, schema, values) {
    const list = h("div", { class: "form-rows" });
    /** @type {{form: SchemaForm, from: any, element: HTMLElement}[]} */
    const rows = [];
    const add = (/** @type {any} */ from) => {
      const form = new SchemaForm(this.schema, { ...this.options, choices: this.choicesBelow(key) });
      const element = h("div", { class: "form-row" }, h("div", { class: "form-grid" }, form.object("", schema, from)),
        button("", () => {
          rows.splice(rows.findIndex((one) => one.element === element), 1);
          element.remove();
          this.options.changed();
        }, { icon: "cross", kind: "plain", title: T.form.takeOut(words(name)) }));
      rows.push({ form, from, element });
      list.append(element);
    };
    (values ?? []).forEach(add);
    const told = h("span", { class: "field-error", role: "alert" });
    const box = h("fieldset", { class: "form-part" }, h("legend", {}, words(name)), list, told,
      button(T.form.add(words(name)), () => {
        add(rows.length ? { ...rows[0].from, name: "" } : {});
        this.options.changed();
      }, { icon: "plus" }));
    this.fields.set(key, { box, from: values, mark: (text) => {
      told.textContent = text;
    }, read: () => rows.map((one) => {
      const row = { ...one.from };
      for (const [part, field] of one.form.fields) row[part] = field.read();
      return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null));
    }) });
    return box;
  }

  /** @param {string} key */
  choicesBelow(key) {
    return Object.fromEntries(Object.entries(this.options.choices ?? {}).filter(([name]) => name.startsWith(`${key}.`))
      .map(([name, values]) => [name.slice(key.length + 1), values]));
  }

  /**
   * @param {string} key
   * @param {string} name
   * @param {Schema} schema
   * @param {any} value
   */
  field(key, name, schema, value) {
    const id = `f-${key.replaceAll(".", "-")}-${Math.random().toString(36).slice(2, 7)}`;
    const { control, read } = this.control(id, key, schema, value);
    const told = h("span", { class: "field-error", id: `${id}-told`, role: "alert" });
    const mark = (/** @type {string} */ text) => {
      told.textContent = text;
      if (text) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    };
    control.setAttribute("aria-describedby", `${id}-told`);
    const check = () => {
      this.forgive();
      mark(faultOf(read(), schema));
      box.classList.toggle("changed", JSON.stringify(read()) !== JSON.stringify(value ?? null));
      this.options.changed();
    };
    control.addEventListener("input", check);
    const box = h("div", { class: ["field", schema.type === "boolean" && "field-check"], data: { key } },
      h("label", { for: id, data: schema.description ? { tip: schema.description } : {} }, words(name),
        schema.description ? sign() : null), control, told);
    this.fields.set(key, { read, mark, box, from: value ?? null });
    return box;
  }

  /**
   * @param {string} id
   * @param {string} key
   * @param {Schema} schema
   * @param {any} value
   * @returns {{control: HTMLElement & {value: string}, read: () => any}}
   */
  control(id, key, schema, value) {
    const choices = this.options.choices?.[key] ?? schema.enum;
    if (choices) {
      const all = choices.includes(value) || value === null || value === undefined ? choices : [value, ...choices];
      const made = h("select", { class: "input", id }, schema.optional && h("option", { value: "" }, T.form.unset),
        all.map((/** @type {string} */ one) => h("option", { value: one, selected: one === value }, one)));
      return { control: made, read: () => made.value || null };
    }
    if (schema.type === "boolean") {
      const made = h("input", { type: "checkbox", id, checked: Boolean(value) });
      return { control: made, read: () => made.checked };
    }
    if (schema.type === "integer" || schema.type === "number") {
      const made = h("input", { class: "input", id, type: "number", step: schema.type === "integer" ? "1" : "any",
        min: schema.minimum, max: schema.maximum, value: value ?? "", placeholder: schema.optional ? T.form.unset : null });
      return { control: made, read: () => (made.value === "" ? (made.validity.badInput ? NaN : null) : Number(made.value)) };
    }
    if (schema.type === "array" && schema.items) {
      const numbers = ["number", "integer"].includes(this.resolve(schema.items).type);
      const made = h("input", { class: "input", id, value: (value ?? []).join(", ") });
      return { control: made, read: () => made.value.split(",").map((/** @type {string} */ one) => one.trim()).filter(Boolean)
        .map((/** @type {string} */ one) => (numbers ? Number(one) : one)) };
    }
    if (schema.type === "object") {
      const made = h("textarea", { class: "input mono", id, rows: "4", spellcheck: "false", value: JSON.stringify(value ?? {}, null, 1) });
      return { control: made, read: () => {
        try {
          return JSON.parse(made.value);
        } catch {
          return NaN;
        }
      } };
    }
    const made = h("input", { class: "input", id, value: value ?? "" });
    return { control: made, read: () => made.value || (schema.optional ? null : "") };
  }

  /** Values that differ from those given, by dotted key. @returns {Record<string, any>} */
  changes() {
    /** @type {Record<string, any>} */
    const found = {};
    for (const [key, field] of this.fields) {
      const now = field.read();
      if (JSON.stringify(now) !== JSON.stringify(this.plain(field.from))) found[key] = now;
    }
    return found;
  }

  /** Rows are read without their nulls, so they are compared so. @param {any} value */
  plain(value) {
    if (!Array.isArray(value) || !value.some((one) => one && typeof one === "object")) return value;
    return value.map((row) => Object.fromEntries(Object.entries(row).filter(([, one]) => one !== null)));
  }

  /** Whether every control holds what its schema allows. */
  valid() {
    return ![...this.fields.values()].some((one) => one.box.querySelector('[aria-invalid="true"]'));
  }

  /**
   * Shows what the service refused, at its field if it names one.
   * @param {string} key
   * @param {string} text
   * @returns {boolean} whether there is such a field
   */
  refuse(key, text) {
    let name = key;
    while (name && !this.fields.has(name)) name = name.includes(".") ? name.slice(0, name.lastIndexOf(".")) : "";
    this.forgive();
    const field = this.fields.get(name);
    field?.mark(text);
    this.refused = field ? () => field.mark("") : null;
    return Boolean(name);
  }

  /** A value has changed: what the service said of the former ones no longer counts. */
  forgive() {
    this.refused?.();
    this.refused = null;
  }
}

/**
 * @param {any} value
 * @param {Schema} schema
 * @returns {string} what is wrong with it, or nothing
 */
export function faultOf(value, schema) {
  if (value === null) return schema.optional ? "" : T.form.required;
  if (Number.isNaN(value)) return schema.type === "object" ? T.form.noJson : T.form.noNumber;
  if (schema.type === "integer" && !Number.isInteger(value)) return T.form.noInteger;
  if (schema.minimum !== undefined && value < schema.minimum) return T.form.least(schema.minimum);
  if (schema.maximum !== undefined && value > schema.maximum) return T.form.most(schema.maximum);
  if (schema.exclusiveMinimum !== undefined && value <= schema.exclusiveMinimum) return T.form.above(schema.exclusiveMinimum);
  if (schema.exclusiveMaximum !== undefined && value >= schema.exclusiveMaximum) return T.form.below(schema.exclusiveMaximum);
  if (schema.minItems && value.length < schema.minItems) return T.form.required;
  if (Array.isArray(value) && value.some((one) => Number.isNaN(one))) return T.form.noNumber;
  return "";
}

/** @param {string} name */
function words(name) {
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}

function sign() {
  return s("svg", { class: "help-sign", viewBox: "0 0 16 16", "aria-hidden": "true" },
    s("circle", { cx: 8, cy: 8, r: 6.3, fill: "none", stroke: "currentColor", "stroke-width": 1.4 }),
    s("path", { d: "M8 7.300v3.700M8 4.900v.01", stroke: "currentColor", "stroke-width": 1.700, "stroke-linecap": "round" }));
}
