"""What a report tells, section by section; every number comes from the store or is said to be
computed from it. Nothing is trained here, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from api.layer_drawing import node_name
from api.progress import funnel
from api.report_text import audit_line, odds_line, rate_text
from api.reporting.blocks import Block, Code, Document, Formula, Picture, Section, Table, Text
from api.reporting.drawings import Bar, bars, counts, dot, panels
from api.reporting.gather import Facts
from api.reporting.rerank_tables import rerank_section
from api.reporting.scores import final_scores, front_scores, select_scores
from api.reporting.studies import Study
from api.reporting.study_tables import study_section
from api.reporting.winners_curve import picture, points, unit
from api.rerun import command_of
from api.text import cost, count, duration, heading, shown
from api.wiring import versions
from evosearch.confirm import leader
from evosearch.presets import to_toml
from evosearch.report import KINDS, contributions, formula_of, lineage, operator_yields
from evosearch.stats import Interval
from evosearch.streams import SEED_PURPOSES, evaluation_seed
from evosearch.surrogate import calibration, discard_rate
from primitives.digest import digest
from primitives.errors import EvosearchError
from primitives.fingerprint import fingerprint
from primitives.graph import Graph
from primitives.picture import to_svg
from primitives.relatives import behaviour_difference, relatives, simplified
from primitives.rewrite import canonical, live_form
from primitives.symbolic import to_latex, to_mathml

MOST_ANCESTORS = 60
MOST_NUMBERS = 500
SHOWN_SEEDS = 10


def document(facts: Facts, studies: Sequence[Study] = ()) -> Document:
    """The whole report of a search, wherever it stands, with what was trained for it besides."""
    state, info = facts.state, facts.info
    best = leader(state)
    verdict = (state.report or {}).get("verdict")
    standing = f"the search is {info.status} in the phase {state.phase}; nothing is confirmed yet"
    head: list[Block] = [Text(f"Verdict: {verdict or standing}.", strong=True)]
    head += [Text(f"Note: {note}.") for note in state.notes]
    if best is not None:
        head.append(Text(f"Leader: candidate {best}."))
        head.append(_formula("leader", state.members[best].graph))
    sections = [Section("Verdict", tuple(head)), _scores(facts, best)]
    if best is not None:
        graph = state.members[best].graph
        sections += [_layer(graph), _relatives(graph), _lineage(facts, best)]
    if facts.reranks:
        sections.append(rerank_section(facts.reranks))
    sections += [study_section(study) for study in studies]
    sections += [_funnel(facts), _cost(facts), _again(facts, best)]
    subtitle = (
        f"search {info.id}, preset {state.config.preset}, seed {state.config.seed}; began "
        f"{info.created_at:%Y-%m-%d %H:%M} UTC; {state.evaluated} candidates evaluated of "
        f"{count(state.next_birth)} proposals"
    )
    return Document(f"Report: {info.title}", subtitle, tuple(sections))


def _scores(facts: Facts, best: int | None) -> Section:
    blocks: list[Block] = []
    final = final_scores(facts)
    if final is not None:
        blocks.append(final)
    blocks.append(select_scores(facts, best))
    found = points(facts, best)
    if found:
        blocks.append(picture(found, unit(facts)))
    else:
        blocks.append(Text("No candidate has fresh seeds: there is no winner's curve."))
    front = front_scores(facts)
    if front is not None:
        blocks.append(front)
    return Section("Scores", tuple(blocks))


def _layer(graph: Graph) -> Section:
    forms = {"as found": live_form(graph)}
    try:
        forms["canonical"] = canonical(graph)
    except EvosearchError:  # longer than a graph may be
        forms["canonical"] = live_form(graph)
    # A normal form may be longer than what was found: a sign that moves outward is a node more.
    shortest = (simplified(graph), forms["canonical"], forms["as found"])
    forms["simplified"] = min(shortest, key=lambda form: len(form.live_ops()))
    rows = [
        (name, formula_of(form), str(len(form.live_ops())), _equality(graph, form, name))
        for name, form in forms.items()
    ]
    return Section(
        "The layer",
        (
            Table(
                "forms", "the leader's formula, simplified",
                ("form", "formula", "live nodes", "equal to the leader's graph"), tuple(rows),
                left=frozenset({0, 1, 3}),
                caption="The behaviour check compares values and gradients with respect to x, v0 "
                "and v1 in float64, in training and evaluation mode, on fixed inputs of two "
                "shapes. Training the simplified form instead would round otherwise.",
            ),
            _formula("simplified", forms["simplified"]),
            Picture("graph", "The leader's live graph", to_svg(graph), _nodes(graph)),
        ),
    )  # fmt: skip


def _nodes(graph: Graph) -> Table:
    """The live graph as a table, a node a row."""
    live = live_form(graph)
    inputs = {index: live.node(index).inputs for index in live.live_ops()}
    rows = tuple(
        (str(index), node_name(live, index), ", ".join(map(str, inputs.get(index, ()))))
        for index in live.live()
    )
    return Table("graph", "the nodes of the live graph", ("node", "is", "of"), rows,
                 left=frozenset({1, 2}), folded=True)  # fmt: skip


def _equality(graph: Graph, form: Graph, name: str) -> str:
    """How a form is known to be equal: which proof, and what the behaviour check measured."""
    if name == "as found":
        return "itself, without dead nodes"
    how = (
        "by exact rewriting, equal in floats (the same digest)" if digest(form) == digest(graph)
        else "by algebraic rewriting, equal over the reals, poles aside"
    )  # fmt: skip
    return f"{how}; behaviour check: largest difference {behaviour_difference(graph, form):.1g}"


def _relatives(graph: Graph) -> Section:
    found = relatives(graph)
    rows = tuple((one.name, one.relation, f"{one.share:.2f}", one.common) for one in found)
    title = "Relatives in the catalog"
    if not rows:
        return Section(title, (Text("No known layer equals it, or shares a sub-graph with it."),))
    return Section(
        title,
        (
            Table(
                "relatives", "known layers, the nearest first",
                ("layer", "relation", "shared", "largest shared sub-graph"), rows,
                left=frozenset({0, 1, 3}),
                svg=bars("Sub-graphs shared with known layers, over all that either has", [
                    Bar(one.name, one.share, f"{one.share:.2f}") for one in found
                ]),
                caption="Shared: sub-graphs of x that both simplified forms have, over all that "
                "either has. It says what two formulas have in common, not how alike they train.",
            ),
        ),
    )  # fmt: skip


def _lineage(facts: Facts, best: int) -> Section:
    state, goal, rows = facts.state, unit(facts), []
    drawn: list[tuple[str, Interval]] = []
    for one in lineage(state, best)[:MOST_ANCESTORS]:
        member = state.members[one["birth"]]
        means = [
            member.scores[name][0] for name in state.config.anchor_names if member.scores[name]
        ]
        mean = sum(means) / len(means) if means else None
        if mean is not None:
            drawn.append((str(one["birth"]), dot(goal.value(mean))))
        parents = ", ".join(map(str, one["parents"]))
        origin = member.operator or one["origin"]
        rows.append((str(one["birth"]), origin, parents, one["formula"], shown(mean, goal)))
    head = heading("mean search score", goal)
    return Section(
        "Lineage of the leader",
        (
            Table(
                "lineage", "the leader and its ancestors, youngest first",
                ("birth", "made by", "parents", "formula", head),
                tuple(rows),
                left=frozenset({1, 3}),
                svg=panels("Search scores along the lineage", [birth for birth, _ in drawn],
                           [(head, [found for _, found in drawn])]),
            ),
        ),
    )  # fmt: skip


def _funnel(facts: Facts) -> Section:
    state = facts.state
    rows = tuple(
        (row.stage, "" if row.seen is None else count(row.seen), count(row.rejected),
         cost(row.seconds))
        for row in funnel(state)
    )  # fmt: skip
    thrown = [(row.stage, row.rejected) for row in funnel(state) if row.rejected]
    line = audit_line(state)
    return Section(
        "Funnel",
        (
            Table("funnel", "what each check threw out",
                  ("check", "runs", "rejected", "cost"), rows,
                  svg=counts("Rejected by each check (bars grow with the digits)", thrown)),
            Text(f"{line[0].upper()}{line[1:]}."),
            *_surrogate(facts),
            *_odds(facts),
            *_operators(facts),
        ),
    )  # fmt: skip


def _operators(facts: Facts) -> list[Block]:
    yields, weights = operator_yields(facts.state), facts.state.config.evolution.operators
    found, whole = contributions(yields), sum(weights.values())
    each = tuple(
        (name, f"{weights[name] / whole:.2f}" if name in weights else "-", count(one.proposals),
         count(one.new_functions), count(one.evaluated), count(one.on_front),
         f"{one.new_share:.3f}", f"{one.survivor_share:.4f}")
        for name, one in found.items()
    )  # fmt: skip
    blocks: list[Block] = [
        Table(
            "operators", "what each operator contributed",
            ("operator", "weight", "proposals", "new functions", "evaluated", "on the front",
             "new functions per proposal", "survivors per proposal"), each,
            svg=bars("New functions per proposal", [
                Bar(name, one.new_share, f"{one.new_share:.3f}") for name, one in found.items()
            ]),
            caption="Weight: how often an operator is drawn when a parent is edited, as a share; "
            "what is no operator has none. A proposal of two edits counts for both operators. "
            "Survivors came through all checks and were evaluated.",
        )
    ]  # fmt: skip
    if any("+" in label for label in yields):
        rows = tuple(
            (label, *(count(row[kind]) for kind in KINDS)) for label, row in yields.items()
        )
        head = ("edits", "proposals", "new functions", "evaluated", "on the front")
        blocks.append(Table("edits", "the same by edits made", head, rows, folded=True))
    return blocks


def _surrogate(facts: Facts) -> list[Block]:
    """How far the surrogate could be trusted."""
    state = facts.state
    if not state.config.surrogate.enabled:
        return []
    found = calibration(state)
    rate = discard_rate(state)
    correlation = found["correlation"]
    rows = (
        ("candidates foretold and trained", count(int(found["foretold"] or 0))),
        ("rank correlation of promise and outcome (Spearman)",
         "-" if correlation is None else f"{correlation:.2f}"),
        ("discarded as unpromising", count(state.discards.discarded)),
        ("audited: below the cut and trained all the same", count(state.discards.audited)),
        ("of these better than half of the population", count(state.discards.useful)),
        ("of all such candidates discarded (95 %)", "-" if rate is None else rate_text(rate)),
    )  # fmt: skip
    return [
        Table(
            "surrogate",
            "calibration of the surrogate",
            ("what", "number"),
            rows,
            caption="It only delays what it has not earned the right to discard.",
        )
    ]


def _odds(facts: Facts) -> list[Block]:
    """How far the odds could be trusted by which new functions are chosen."""
    if facts.state.config.evolution.choose_of == 1:
        return []
    return [Text(f"{(line := odds_line(facts.state))[0].upper()}{line[1:]}.")]


def _cost(facts: Facts) -> Section:
    state, info = facts.state, facts.info
    steps = {**state.train_steps, **facts.rerank_steps}
    names = [*dict.fromkeys((*steps, *facts.seconds))]
    rows = [
        (name, count(facts.trainings.get(name, 0)), count(steps.get(name, 0)),
         duration(facts.seconds[name]) if name in facts.seconds else "")
        for name in names
    ]  # fmt: skip
    total = sum(facts.seconds.values())
    rows.append(("all", count(sum(facts.trainings.values())),
                 count(sum(steps.values())), duration(total)))  # fmt: skip
    wall = (info.updated_at - info.created_at).total_seconds()
    return Section(
        "Cost",
        (
            Table(
                "cost", "training by purpose",
                ("purpose", "trainings ended", "training steps", "worker time"), tuple(rows),
                bold=frozenset({len(rows) - 1}),
                svg=bars("Worker time by purpose", [
                    Bar(name, facts.seconds[name], duration(facts.seconds[name]))
                    for name in names if name in facts.seconds
                ]),
                caption="Steps of quality and audit are those of candidates that were rejected; "
                "the worker time of all these is under rejected. Re-rankings are after the search "
                "and none of its budget; what was broken off in them is not counted.",
            ),
            Text(f"From its creation to its last change the search took {duration(wall)} by the "
                 "wall clock, pauses included."),
            *_anchor_costs(facts),
        ),
    )  # fmt: skip


def _anchor_costs(facts: Facts) -> list[Block]:
    """What a step took on each anchor, in the order in which the search trained them."""
    times = facts.samples.step_times
    found = [
        [seconds for by_anchor in times.values() for seconds in by_anchor[place]]
        for place in range(len(facts.state.config.anchor_names))
    ]
    if not all(found):
        return []
    steps = [float(np.median(one)) for one in found]
    order = sorted(range(len(steps)), key=lambda place: steps[place])
    told = "They stand in the order of their cost."
    if order != sorted(order):
        names = ", ".join(facts.state.config.anchor_names[place] for place in order)
        told = f"Cheaper in this order: {names}; what fails on a cheap one costs less."
    rows = tuple(
        (name, f"{1000 * seconds:.3g} ms", count(len(one)))
        for name, seconds, one in zip(
            facts.state.config.anchor_names, steps, found, strict=True
        )
    )  # fmt: skip
    return [
        Table(
            "anchors", "a training step by anchor, in the order of training",
            ("anchor", "median of a step", "trainings"), rows,
            svg=bars("Median of a training step", [
                Bar(cells[0], seconds, cells[1])
                for cells, seconds in zip(rows, steps, strict=True)
            ]),
            caption=f"Of the baselines, checks and scoring included. {told}",
        )
    ]  # fmt: skip


def _again(facts: Facts, best: int | None) -> Section:
    state, info = facts.state, facts.info
    here = versions()
    blocks: list[Block] = [
        Table(
            "versions", "versions", ("package", "when it began", "when this was written"),
            tuple((name, facts.versions.get(name, "unknown"), here.get(name, "unknown"))
                  for name in dict.fromkeys((*facts.versions, *here))),
            left=frozenset({0, 1, 2}),
        ),
        Table(
            "seeds", f"training seeds (all from seed {state.config.seed}, shared by all layers)",
            ("purpose", f"the first {SHOWN_SEEDS}"),
            tuple((purpose, ", ".join(str(evaluation_seed(state.config.seed, purpose, index))
                                      for index in range(SHOWN_SEEDS)))
                  for purpose in SEED_PURPOSES),
            left=frozenset({0, 1}), folded=True,
        ),
    ]  # fmt: skip
    if best is not None:
        graph = state.members[best].graph
        lines = f"digest       {digest(graph)}\nfingerprint  {fingerprint(graph)}\n"
        blocks.append(Code("identity", "The leader's identity", lines))
    blocks.append(
        Code(
            "commands", "The same search again",
            f"evosearch search show {info.id} --config > search-{info.id}.toml\n"
            f"evosearch search start search-{info.id}.toml --new\n", "bash",
        )
    )  # fmt: skip
    blocks.append(_numbers(facts))
    blocks.append(Code("config", "Config", to_toml(state.config), "toml", folded=True))
    return Section("Reproduce", tuple(blocks))


def _numbers(facts: Facts) -> Table:
    rows = tuple(_number_rows(facts))
    cut = (
        f" The first {MOST_NUMBERS} of {len(rows):,} are shown; `evosearch report --parts` writes "
        "all of them into a file."
    ) if len(rows) > MOST_NUMBERS else ""  # fmt: skip
    return Table(
        "numbers", "the command that trains each number again",
        ("layer", "purpose", "anchor", "value", "command"), rows,
        left=frozenset({0, 1, 2, 4}), folded=True, shown=MOST_NUMBERS,
        caption="Of baselines, of the front, of whatever was trained more than once, and of what "
        "re-rankings read on final. With the inline pool, or Ray on the same kind of CPU and the "
        "same versions, the new number is the stored one to the last bit. Scores of a re-ranking's "
        "rates on select, and those of knock-out, robustness and transfer, are not among these."
        + cut,
    )  # fmt: skip


def _number_rows(facts: Facts) -> Iterator[tuple[str, ...]]:
    """Those that verdicts rest on come first, for a page may be cut."""
    config = facts.state.config
    for one in facts.reread:
        done, task, key = one.stored, one.job.task, one.job.subject.key
        value = task.anchors[0].objective.text(done.score, 4)
        command = command_of(facts.info.id, key, done, dataset=task.dataset, rerank=one.rerank)
        where = f"{done.anchor}, {task.dataset}"
        yield key, f"re-ranking {one.rerank}", where, value, command
    every = [(key, *one) for key, found in facts.numbers.items() for one in found]
    for key, purpose, done in sorted(every, key=lambda one: one[1] != "final"):
        value = config.objective(done.anchor).text(done.score, 4)
        yield key, purpose, done.anchor, value, command_of(facts.info.id, key, done)


def _formula(name: str, graph: Graph) -> Formula:
    text = formula_of(graph)
    try:
        return Formula(name, text, to_latex(graph), to_mathml(graph))
    except EvosearchError:  # too large to write out as a tree
        return Formula(name, text)
