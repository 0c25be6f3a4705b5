"""Reads from the store what a report tells and the state alone does not know: costs, versions.

One pass over the log; nothing is trained and nothing written.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from api.rerun import Number, rerank_numbers
from evosearch.events import (
    CandidateEvaluated,
    CandidateRejected,
    Created,
    EvaluationRecorded,
    JobFinished,
)
from evosearch.gain import Samples
from evosearch.ports import SearchInfo, Store
from evosearch.records import Evaluation, Purpose
from evosearch.state import State

TUNING, FINAL = "re-ranking, tuning", "re-ranking, final"
"""The two stages of re-rankings, where costs are told."""


@dataclass(slots=True)
class Facts:
    """A search as a report needs it.

    ``numbers``: subject key -> its purposes and evaluations, in order, of baselines, the front and
    whatever was trained again. ``seconds``: purpose (and ``rejected``) -> worker-seconds.
    ``reranks``: results of re-rankings, or how far they have come; ``reread``: what these read on
    ``final``; ``rerank_steps``: stage -> training steps; their trainings and seconds stand beside
    those of the search's own purposes.
    """

    info: SearchInfo
    state: State
    samples: Samples
    versions: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    trainings: Counter[str] = field(default_factory=Counter)
    numbers: dict[str, list[tuple[Purpose, Evaluation]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    reranks: list[dict[str, Any]] = field(default_factory=list)
    reread: list[Number] = field(default_factory=list)
    rerank_steps: Counter[str] = field(default_factory=Counter)


def gather(store: Store, ref: str) -> Facts:
    """The facts of the search of that id.

    Raises:
        NotFound: there is none.
    """
    from api.wiring import load_state

    info = store.search(ref)
    state = load_state(store, info.id)
    rate = info.config.task.learning_rate
    facts = Facts(info, state, Samples(info.config.anchor_names, rate))
    kept = {*state.results, *(f"c{birth}" for birth in state.front.members)}
    for entry in store.events(info.id):
        event = entry.event
        if isinstance(event, Created):
            facts.versions = dict(event.versions)
        elif isinstance(event, EvaluationRecorded):
            _take(facts, event, kept)
        elif isinstance(event, CandidateEvaluated):
            facts.seconds["search"] += event.seconds
        elif isinstance(event, CandidateRejected):
            facts.seconds["rejected"] += event.seconds
        elif isinstance(event, JobFinished):
            facts.seconds[event.purpose] += event.seconds
    facts.reranks = _reranks(store, facts)
    facts.reread = list(rerank_numbers(store, info.id))
    for number in facts.reread:
        _spend(facts, FINAL, 1, number.stored.steps, number.stored.seconds)
    return facts


def _spend(facts: Facts, stage: str, trainings: int, steps: int, seconds: float) -> None:
    facts.trainings[stage] += trainings
    facts.rerank_steps[stage] += steps
    facts.seconds[stage] += seconds


def _reranks(store: Store, facts: Facts) -> list[dict[str, Any]]:
    """What re-rankings of the search have found, the first one first; memory keeps none.

    What tuning took is added to the facts.
    """
    from db.sql_store import SqlStore
    from db.studies import Studies
    from evosearch.rerank import Plan, Tuned

    search_id = facts.info.id
    if not isinstance(store, SqlStore):
        return []
    studies, found = Studies(store), list[dict[str, Any]]()
    for name in studies.of(search_id):
        item = studies.item(search_id, name, "plan")
        if item is None:
            continue
        plan = Plan.model_validate(item.payload)
        tuned = [Tuned.model_validate(one.payload)
                 for one in studies.items(search_id, name, "tune").values()]  # fmt: skip
        ended = sum(one.ended for one in tuned)
        _spend(facts, TUNING, ended * len(plan.tune_seeds), sum(one.steps for one in tuned),
               sum(one.seconds for one in tuned))  # fmt: skip
        result = studies.item(search_id, name, "result")
        if result is not None:
            found.append({"result": result.payload})
            continue
        found.append({
            "plan": name.split("-", 1)[1], "trials": len(list(plan.tune_jobs())), "ended": ended,
            "jobs": len(list(plan.rows())) * len(plan.final_seeds),
            "finals": len(studies.items(search_id, name, "final")),
        })  # fmt: skip
    return found


def _take(facts: Facts, event: EvaluationRecorded, kept: set[str]) -> None:
    done, subject = event.evaluation, event.subject
    facts.trainings[event.purpose] += 1
    if subject.key in kept:  # of 100,000 candidates most are seen once and never again
        facts.numbers[subject.key].append((event.purpose, done))
    if event.purpose != "search":
        facts.samples.take(subject, event.purpose, done)
