"""Writes docs/search-efficiency.md from the studies' results.

    python -m docs.make_search_efficiency

Reads ``table.json`` and ``table_longer.json`` of `tests.benchmarks.study_table` and ``search.json``
of `tests.benchmarks.study_search`; every figure of the page comes from them. What is not there is
named as not measured yet. Where a target is missed, ``search_tried.md`` beside the results says
what else was tried.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from docs.search_figures import FEWEST, number, points, share
from docs.search_ingredients import ingredients
from tests.benchmarks.rivals import KINDS, NO_EXPERIENCE, RIVALS, WANTED

TARGET = Path(__file__).with_name("search-efficiency.md")
PICTURES = Path(__file__).with_name("pictures")
RESULTS = Path(__file__).parents[1] / "tests" / "benchmarks" / "results"
KIND_NAMES = {"random": "random search", "paper": "the paper's algorithm"}
STEPS, SECONDS = "training steps", "seconds"
PLOTS = ("table_steps", "table_seconds", "search_steps", "search_seconds")

HEAD = """# How much training the search saves

The default search, random search and the paper's aging evolution on the same task. Every training
step counts: those of rejected and audited candidates, and the two that each signal check takes and
takes back. What a search is worth at a moment is the hypervolume of the front that it would return
then, on seeds that it never saw; the images are those of *select*, on which it chose. The question
is how soon the default has, *and keeps*, what a rival has at the end of its budget; how soon it
touches that for the first time stands beside it, for a lucky peak counts there.

No search trains a function twice, or one that the probe shows to be constant, without gradient or
not finite: the paper's own algorithm is helped by that as much as ours.

- **random**: random graphs; signal, quality and stability as the default has them.
- **random with hurdles**: the same with all checks of the default, hurdles and the limit on layers
  that begin alike included.
- **paper**: the evolution of the preset `paper-b` ([sources](paper-settings.md)); signal, quality
  and stability as the default has them. It races no candidate against others, as in the paper.
- **paper with hurdles**: the same with all checks of the default.
- **paper, our population**: `paper` with the default's population and tournament, for a population
  of 2,500 never ages within such a budget.
- **paper with hurdles, our population**: both.

A target is judged against the hardest rival of its kind: the one of whose spending the default
needs the largest share. It is met where the median is within what is wanted; where the interval
holds more, that is said. A median is the upper of two middle values, for a search that never comes
there is as far off as can be, and nothing lies between. Seeds on which a rival's front is worth
nothing have nothing to be reached; they do not count there and are told apart. *Over all seeds*
counts them: on these the default has to be worth anything at all, which is more than the rival is.
Intervals are bootstrap intervals (95 %) of the median; there is none for fewer than six seeds."""


def page(folder: Path = RESULTS) -> str:
    """The whole page."""
    found = {name: _read(folder, name) for name in ("table", "search")}
    parts = [HEAD, *begun_with(folder, found), "\n".join(verdicts(found))]
    parts.append("\n".join(on_table(found["table"], folder)))
    parts.append("\n".join(on_real_runs(found["search"], folder)))
    parts.append("\n".join(one_or_three(found["search"])))
    tried = "\n".join(what_was_tried(found, folder))
    return "\n\n".join([*parts, *([tried] if tried else [])]) + "\n"


def begun_with(folder: Path, found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What the default was given before its first step."""
    searches = _read(folder, "experience").get("searches")
    if searches:
        known = any(NO_EXPERIENCE in one.get("summary", {}) for one in found.values())
        without = f" The lines *{NO_EXPERIENCE}* say what the default is without it."
        steps = sum(one["steps"] for one in searches)
        yield (
            f"**What the default begins with.** Its odds come of experience: what {len(searches)} "
            f"earlier searches learnt in {steps:,} training steps on polarity digits with the same "
            "three networks. It holds traits of layers and how far these came, no layer. Those "
            "steps are not in the shares below. The table is of that very task; Fashion-MNIST the "
            f"experience has never seen.{without if known else ''}"
        )


def _read(folder: Path, name: str) -> dict[str, Any]:
    """The result of that name; empty where it is not measured yet."""
    path = folder / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def verdicts(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The targets with their verdicts, study by study."""
    yield (
        "| where | to have what this has at the end | in | share of what it spent | wanted | seeds "
        "with something to reach | |"
    )
    yield "|---|---|---|---|---|---|---|"
    real = found["search"]
    wheres = {"table": "on the table", "search": "in real runs"}
    if added(real):
        first, every = real["first"]["seeds"], real["summary"]["default"]["searches"]
        wheres |= {"first": f"in real runs, the {first} seeds fixed beforehand",
                   "search": f"in real runs, all {every} seeds"}  # fmt: skip
    for name, targets in judged_on(found):
        where, result = wheres[name], found["table" if name == "table" else "search"]
        for kind, wanted in WANTED.items():
            judged = targets.get(kind, {})
            for axis in ("steps", "seconds"):
                unit = STEPS if axis == "steps" else result.get("seconds_are", SECONDS)
                one = judged.get(axis)
                told = "not measured yet" if not result else "nothing to reach on any seed"
                rival, cell, seeds, verdict = f"{KIND_NAMES[kind]}", told, "", ""
                if one:
                    rival, cell = one["hardest"], share(one["share"], one["seeds"])
                    seeds = f"{one['seeds']} of {one['seeds'] + one['nothing_to_reach']}"
                    verdict = judgement(one, judged["unmeasured"])
                cells = (where, rival, unit, cell, f"{wanted:.2f}", seeds, verdict)
                yield f"| {' | '.join(cells)} |"
    for where, name in (("On the table", "table"), ("In real runs", "search")):
        judged = found[name].get("targets", {})
        left = [one for kind in KINDS for one in judged.get(kind, {}).get("unmeasured", [])]
        if left:
            named = "; ".join(left)
            yield ""
            yield (
                f"{where} these rivals gave nothing to compare yet: {named}. Those that have the "
                "same checks as the default are the ones *with hurdles*."
            )


def judged_on(found: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What targets are judged on -> kind -> the judgement: the table, the real runs, and of these
    before all ``first`` those that were fixed beforehand, where others were added."""
    yield "table", found["table"].get("targets", {})
    if added(found["search"]):
        yield "first", found["search"]["first"]["targets"]
    yield "search", found["search"].get("targets", {})


def judgement(one: Mapping[str, Any], unmeasured: Iterable[str]) -> str:
    """Whether a target is met, and how surely: it stands for the median, whose interval may hold
    more than is wanted, or no end that is ever reached."""
    if not one["met"]:
        told = "**missed**"
    elif one["seeds"] < FEWEST:
        every = one["seeds"] + one["nothing_to_reach"]
        told = f"met, on {one['seeds']} seeds alone"
        if every >= FEWEST:
            told += f"; over all {every}: {share(one['share_of_all'], every)}"
    elif one["share"]["high"] is None or one["share"]["high"] > one["wanted"]:
        told = "met at the median; the interval holds more"
    else:
        told = "met"
    return f"{told}; of the rivals measured so far" if list(unmeasured) else told


def against_rivals(
    found: Mapping[str, Any], seconds: str, variant: str = "default"
) -> Iterator[str]:
    """What the variant needs to have each rival's end."""
    yield (
        "| to have what this has at the end | in | share of what it spent | over all seeds | "
        "first touch | of what it spent until then itself | come there for good | seeds | "
        "nothing to reach |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for rival in RIVALS:
        against = found[variant]["against"].get(rival)
        if against is None:
            yield f"| {rival} | not measured yet | | | | | | | |"
            continue
        counts = f"{against['seeds']} | {against['nothing_to_reach']} |"
        for axis, unit in (("steps", STEPS), ("seconds", seconds)):
            one, together = against.get(axis), against["share_of_all"].get(axis)
            seeds = against["seeds"] + against["nothing_to_reach"]
            of_all = share(together, seeds) if together else ""
            if one is None:
                yield f"| {rival} | {unit} | | {of_all} | | | | {counts}"
                continue
            yield (
                f"| {rival} | {unit} | {share(one['share'], against['seeds'])} | {of_all} | "
                f"{share(one['first_touch'], against['seeds'])} | "
                f"{share(one['of_rivals_own'], against['seeds'])} | "
                f"{100 * one['reached_by']:.0f} % | {counts}"
            )


def ends(found: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    """How each search ended."""
    yield "| variant | searches | hypervolume at the end | worth nothing | exhausted early |"
    yield "|---|---|---|---|---|"
    for name in (name for name in ("default", *names) if name in found):
        one = found[name]
        yield (
            f"| {name} | {one['searches']} | {number(one['hypervolume'], 5)} | "
            f"{one['ended_at_nothing']} | {one['exhausted']} |"
        )
    yield ""
    yield (
        "A search that finds nothing new ends before its budget; it counts as staying as it is "
        "from there on."
    )


def pictures(name: str, folder: Path) -> Iterator[str]:
    """The plots that there are, over training steps and over time."""
    for axis, what in (("steps", STEPS), ("seconds", "time")):
        if (folder / f"{name}_{axis}.svg").exists():
            text = f"Hypervolume on held-out seeds over {what}"
            yield from (f"![{text}](pictures/{name}_{axis}.svg)", "")


def on_table(result: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """The tabular benchmark: the rivals, then every ingredient."""
    yield from ("## On a tabular benchmark", "")
    if not result or "default" not in result["summary"]:
        yield "Not measured yet: `make search-study`."
        return
    about, options, found = result["table"], result["options"], result["summary"]
    given, default = result["conditions"], found["default"]
    where = f" (`{about['where']}`)" if about["where"] else ""
    figures = _read(folder, "table_figures")
    few = (
        f"{figures['viable']} of them pass every check and are trained to the end with all seeds, "
        f"and a search whose layers must not begin alike comes to "
        f"{figures['uncrowded']['viable']} of these. "
    ) if figures else ""  # fmt: skip
    yield (
        f"{about['functions']:,} functions of at most {about['nodes']} live nodes of "
        f"{', '.join(f'`{name}`' for name in about['primitives'])}"
        f"{where}, each measured before as far as the checks let it, with up to "
        f"{given['stored_seeds']} seeds ([what a table is](table.md)). {few}{default['searches']} "
        f"searches of each rival and the default, {options['steps']:,} training steps each, "
        f"{given['held_out']} seeds held out. {100 * default['outside_share']:.1f} % of the "
        "default's candidates were outside the table."
    )
    yield ""
    yield from how_it_counts(result)
    yield from against_rivals(found, result["seconds_are"])
    yield ""
    yield from pictures("table", folder)
    yield from ends(found, RIVALS)
    yield ""
    yield from at_a_larger_budget(_read(folder, "table_longer"), found["default"], options["steps"])
    yield from ingredients(result)


def at_a_larger_budget(
    result: Mapping[str, Any], here: Mapping[str, Any], steps: int
) -> Iterator[str]:
    """The rivals once more, with more training steps than the targets' ``steps``.

    ``here``: the default's summary with these.
    """
    yield from ("### At a larger budget", "")
    if not result:
        yield from ("Not measured yet: `make search-study`.", "")
        return
    found, larger = result["summary"], result["options"]["steps"]
    yield (
        f"The targets stand for {steps:,} training steps, a laptop's few minutes. The same table "
        f"with {larger:,}, {found['default']['searches']} searches a variant. There is no room for "
        "more: the space is then searched to its end, and nearly all that a search still proposes "
        f"it has met before ({number(found['default']['proposals'], 0)} proposals of the default, "
        f"and {number(here['proposals'], 0)} with {steps:,} steps)."
    )
    yield ""
    yield from against_rivals(found, result["seconds_are"])
    yield ""
    yield from ends(found, RIVALS)
    yield ""


def how_it_counts(result: Mapping[str, Any]) -> Iterator[str]:
    """What the table's intervals and seconds are, and how often fresh seeds ran out."""
    given, default = result["conditions"], result["summary"]["default"]
    yield (
        f"**What the intervals are conditional on.** This one table. Its {given['stored_seeds']} "
        f"stored seeds can be dealt in {given['arrangements']} ways to first training, fresh seeds "
        f"and judging, and the searches had {given['met']} of them. The intervals say how much the "
        "median moves over seeds of the search, not what another table, task or set of stored "
        "seeds would give."
    )
    yield ""
    yield (
        "**How the simulated clock counts.** One worker and the controller take turns. A training "
        "costs the processor seconds that it took when the table was built: making the network, "
        "signal, each step, each score. The controller's processor seconds (proposals, checks, "
        "odds and their fits) are measured while it searches, in a process of its own that knows "
        f"nothing of other searches: {number(default['controller_seconds'], 1)} seconds of the "
        f"default's {number(default['seconds'], 0)} in all. Looking things up in the table and "
        "writing to a store are not counted. The ascent of the stability check is no training: it "
        "is in the seconds, and not in the steps, of every variant alike."
    )
    yield ""
    yield (
        f"Fresh seeds run out: of {default['fresh_seeds']:,} that the default's searches asked "
        f"for, {default['fresh_seeds_refused']:,} had no stored seed left and were refused, at no "
        "cost."
    )
    yield ""


def on_real_runs(result: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Real searches on Fashion-MNIST."""
    yield from ("## In real runs", "")
    if not result or "default" not in result["summary"]:
        yield "Not measured yet: `make search-study DATA=...`."
        return
    found, signal = result["summary"], result["signal"]
    judged, audits = signal["judged"], signal["in_the_searches"]
    data = " and ".join(dict.fromkeys(one["dataset"] for one in signal["fitted_on"]))
    wrong = "; ".join(f"{name} {one['wrong']} of {one['audited']}" for name, one in audits.items())
    yield (
        f"Searches on {result['dataset']} with the quickstart's micro networks and "
        f"{result['budget']:,} training steps each, a budget that was fixed beforehand; fronts are "
        f"judged by {result['held_out_seeds']} held-out seeds. Seconds are "
        f"{result['seconds_are']} of one process, controller included."
    )
    yield ""
    yield (
        f"The preset's own signal bounds were fitted on Fashion-MNIST too. So all searches here "
        f"have the same other ones, fitted on {data} alone. On {judged['candidates']:,} candidates "
        f"of {' and '.join(one['dataset'] for one in signal['judged_on'])} these reject "
        f"{100 * judged['failures_rejected']:.0f} % of what fails quality and wrongly "
        f"{judged['good_wrongly_rejected_count']} of the {judged['pass_quality']} that pass it. "
        "The factor that widens them is the preset's; what factors do on Fashion-MNIST was known "
        f"when it was set. Of the rejections that the searches audited these were wrong: {wrong}. "
        "Where odds choose what is tried, less of it is hopeless, and more of what the check "
        "rejects there it rejects wrongly."
    )
    yield ""
    yield from against_rivals(found, result["seconds_are"])
    yield ""
    yield from at_first(result)
    yield from pictures("search", folder)
    yield from ends(found, (*RIVALS, NO_EXPERIENCE))
    if NO_EXPERIENCE in found:
        yield from ("", "The default without experience:", "")
        yield from against_rivals(found, result["seconds_are"], NO_EXPERIENCE)


def added(result: Mapping[str, Any]) -> bool:
    """Whether there are other seeds than those that were fixed beforehand."""
    first = result.get("first", {})
    return bool(first) and first["seeds"] < result["summary"]["default"]["searches"]


def at_first(result: Mapping[str, Any]) -> Iterator[str]:
    """That seeds were added, where they were."""
    if added(result):
        yield (
            f"{result['first']['seeds']} seeds were fixed beforehand, and the others were added "
            "when these had been looked at. What the first say alone stands in the table on top."
        )
        yield ""


def one_or_three(result: Mapping[str, Any]) -> Iterator[str]:
    """Leaders of one anchor against those of three, in a network that neither search saw."""
    yield from ("## One network or three", "")
    unseen = result.get("unseen_network", {})
    if "three_minus_one" not in unseen:
        yield "Not measured yet: `make search-study DATA=...`."
        return
    seeds = result["unseen_seeds"]
    yield (
        "The paper's claim: layers that are searched on several networks at once carry over "
        "better. Leaders of searches on one network and on all three, with the same training "
        "steps, in a plain stack of convolutions that no search saw; accuracy over BN-ReLU's, in "
        "points, mean and 95 % interval over searches. Layer and BN-ReLU each have their own best "
        f"of the learning rates {', '.join(map(str, result['unseen_rates']))}, chosen by "
        f"{seeds['to choose the rate']} seeds; {seeds['reported']} other seeds are reported. A "
        "search without a leader tells nothing and is left out."
    )
    yield ""
    yield (
        "| searched on | over BN-ReLU in the unseen network | candidates evaluated (median) | "
        "searches | without a leader |"
    )
    yield "|---|---|---|---|---|"
    for name in (name for name in unseen if name == "default" or name.endswith(" alone")):
        label = "all three" if name == "default" else name.removesuffix(" alone")
        one = unseen[name]
        told = points(one) if one["searches"] else ""
        counts = f"{one['evaluated']:.0f} | {one['searches']} | {one['without_a_leader']}"
        yield f"| {label} | {told} | {counts} |"
    one = unseen["three_minus_one"]
    yield (
        f"| three minus the mean of one | {points(one)} | | {one['seeds']} seeds | "
        f"{one['left_out']} left out |"
    )
    yield from ("", what_of_the_claim(one))


def what_of_the_claim(one: Mapping[str, float]) -> str:
    """What three minus one says of the paper's claim."""
    if not one["low"] * one["high"] > 0.0:
        return "The interval holds 0: these searches do not tell whether the claim holds."
    if one["value"] > 0.0:
        return "The claim holds here: the interval lies above 0."
    return (
        "**The claim does not hold here**: the interval lies below 0. The same steps train more "
        "candidates to the end on one network than on three, which may be the reason; as many "
        "candidates on one as on three were not tried."
    )


def what_was_tried(found: Mapping[str, Mapping[str, Any]], folder: Path) -> Iterator[str]:
    """Where a target is missed: what came closest on the table, and what else was tried."""
    wheres = {
        "table": "on the table", "search": "in real runs",
        "first": "in real runs, with the seeds that were fixed beforehand",
    }  # fmt: skip
    missed = [
        (wheres[name], targets[kind][axis], axis)
        for name, targets in judged_on(found)
        for kind in WANTED for axis in ("steps", "seconds")
        if not targets.get(kind, {}).get(axis, {"met": True})["met"]
    ]  # fmt: skip
    if not missed:
        return
    yield from ("## What was tried where a ratio is missed", "")
    for where, one, axis in missed:
        yield (
            f"- {where}, {axis}: {share(one['share'], one['seeds'])} of what {one['hardest']} "
            f"spent, wanted {one['wanted']:.2f}. {_closest(found['table'], one['hardest'], axis)}"
        )
    notes = folder / "search_tried.md"
    yield from ("", notes.read_text().strip() if notes.exists() else "No other trial is recorded.")


def _closest(table: Mapping[str, Any], rival: str, axis: str) -> str:
    """The variants on the table that need the least of that rival's spending."""
    shares = []
    for name, one in table.get("summary", {}).items():
        against = one["against"].get(rival, {})
        if name not in RIVALS and axis in against and against[axis]["share"]["value"] is not None:
            shares.append((against[axis]["share"]["value"], name))
    if not shares:
        return "No variant on the table was compared with it."
    best = ", ".join(f"{name} ({value:.2f})" for value, name in sorted(shares)[:3])
    return f"Of all variants on the table these need the least of it: {best}."


def main() -> None:
    TARGET.write_text(page(), encoding="utf-8")
    for name in PLOTS:
        if (RESULTS / f"{name}.svg").exists():
            shutil.copy(RESULTS / f"{name}.svg", PICTURES / f"{name}.svg")


if __name__ == "__main__":
    main()
