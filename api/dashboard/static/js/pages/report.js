/**
 * A search on paper: verdict, leader, funnel, progress, front, settings, and how to repeat it. It
 * shows one moment and does not follow the search; always in light colours, for paper is white.
 * @module
 */
import { Problem, get } from "../api.js";
import { fill, h } from "../dom.js";
import { exactMoment, gainText, NONE, score } from "../format.js";
import { gainUnit, meaning, objectiveOf, shortTitle, useObjectives } from "../measure.js";
import { wanted } from "../parts.js";
import { go, href } from "../router.js";
import { Config } from "../search/config.js";
import { FunnelChart } from "../search/funnel.js";
import { Model } from "../search/model.js";
import { ProgressChart } from "../search/progress.js";
import { VerdictCard } from "../search/verdict.js";
import { T } from "../strings.js";
import { plainTable } from "../table.js";
import { forceLight } from "../theme.js";
import { button, emptyState, errorState, loadInto, loadingState } from "../ui.js";

const R = T.report;
const FRONT_SHOWN = 40;

/** @type {import("../router.js").Open} */
export async function open(host, [ref], _params, signal) {
  forceLight(true);
  fill(host, h("div", { class: "page" }, loadingState(8)));
  const model = new Model(ref);
  signal.addEventListener("abort", () => leave(model));
  await model.load("search");
  if (signal.aborted) return {};
  const { search } = model.data;
  if (!search) {
    const err = model.errors.search;
    fill(host, h("div", { class: "page" }, err instanceof Problem && err.status === 404
      ? emptyState(T.search.notFound, h("a", { href: href("") }, T.toSearches), "search")
      : errorState(err, () => location.reload())));
    return {};
  }
  model.id = search.id;
  model.path = `/searches/${search.id}`;
  useObjectives(search.objectives);
  document.title = `${search.title} · ${R.title} · evosearch`;
  const page = {
    openDrawer: (/** @type {number} */ birth) => go(`search/${search.id}/candidate/${birth}`),
    addToTray: () => {}, showTab: () => {}, filterTable: () => {},
  };
  const verdict = new VerdictCard(model, page);
  const progress = new ProgressChart(model);
  const funnel = new FunnelChart(model, page);
  const config = new Config(model);
  const front = h("div", { class: "card-body report-front" });
  const origin = h("div", { class: "card-body" });
  const part = (/** @type {string} */ title, /** @type {any} */ body) =>
    h("section", { class: "card", "aria-label": title }, h("div", { class: "card-head" }, h("h2", {}, title)), body);
  fill(host, h("div", { class: "page report-page" },
    h("div", { class: "page-head" }, h("div", {}, h("h1", {}, search.title), h("p", { class: "quiet" }, about(search))),
      h("div", { class: "spacer" }),
      h("div", { class: "actions no-print" }, h("a", { class: "button plain", href: href(`search/${search.id}`) }, R.back),
        button(R.print, () => window.print(), { icon: "print", kind: "primary", id: "print" }))),
    verdict.element,
    h("div", { class: "report-pair" }, progress.element, funnel.element),
    part(R.front, front), part(R.origin, origin), part(T.tabs.config, config.element)));
  for (const topic of /** @type {const} */ (["line", "funnel", "progress"])) model.load(topic);
  loadInto(front, () => frontTable(model), 6);
  loadInto(origin, () => provenance(model), 3);
  return { leave: () => {
    for (const one of [progress, funnel, config]) one.close();
  } };
}

/** @param {Model} model */
function leave(model) {
  model.close();
  forceLight(false);
}

/** @param {any} search */
function about(search) {
  const task = search.config.task;
  return [R.id(search.id), T.states[/** @type {"running"} */ (search.status)] ?? search.status,
    R.evaluated(search.evaluated, wanted(search)), R.task(task.dataset, task.steps), search.anchors.join(", "), meaning(),
    R.printed(exactMoment(new Date()))].filter(Boolean).join(" · ");
}

/** @param {Model} model */
async function frontTable(model) {
  const { search } = model.data;
  const found = await get(`${model.path}/candidates`, { where: "on_front", sort: "-gain_low", limit: FRONT_SHOWN });
  if (!found.candidates.length) return emptyState(T.gain.none);
  const right = (/** @type {any} */ title) => ({ title, align: /** @type {const} */ ("right") });
  const names = Object.keys(search.objectives);
  const titled = (/** @type {string} */ name) => h("span", { title: objectiveOf(name)?.label ?? "" }, shortTitle(name));
  return [
    plainTable([right(T.table.id), { title: T.table.formula }, right(`${T.table.gain}, ${gainUnit()}`),
      ...names.map((name) => right(titled(name))), right(T.table.seeds), right(T.table.nodes)],
    found.candidates.map((/** @type {any} */ one) => [
      h("a", { href: href(`search/${model.id}/candidate/${one.birth}`) }, one.birth), h("code", {}, one.formula ?? NONE), gainText(one.gain),
      ...names.map((name) => score(one.scores?.[name], name)), one.gain_seeds || NONE, one.live_nodes]), R.front),
    h("p", { class: "quiet small" }, R.frontNote, found.next === null ? "" : ` ${R.more(FRONT_SHOWN)}`)];
}

/** What made it, and how to make it again. @param {Model} model */
async function provenance(model) {
  const { search } = model.data;
  const { events } = await get(`${model.path}/events`, { after: 0, limit: 1 });
  const versions = Object.entries(events[0]?.event.versions ?? {});
  const fact = (/** @type {string} */ name, /** @type {any} */ value) => [h("dt", {}, name), h("dd", {}, value)];
  return [
    h("dl", { class: "facts" }, fact(R.preset, search.preset), fact(R.seed, search.seed),
      fact(R.created, exactMoment(search.created_at)), fact(R.last, `${search.last_event}, ${exactMoment(search.updated_at)}`),
      versions.map(([name, version]) => fact(name, version))),
    h("p", {}, R.repeat), h("pre", { class: "code-box" }, R.commands(search.id))];
}
