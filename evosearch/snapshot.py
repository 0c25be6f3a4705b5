"""A state as JSON text, so that a long search opens without folding its whole log.

A snapshot is only ever a shortcut: what it says is what the events up to it fold to, and whoever
cannot read one folds the events instead. Nothing may be kept in it that the events do not tell.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from evosearch import events as ev
from evosearch.config import Bounds, SearchConfig
from evosearch.errors import StateConflict
from evosearch.jobs import Pending
from evosearch.members import Audit, Member, Tally, Yield
from evosearch.odds import Choice
from evosearch.ports import Store
from evosearch.records import CheckRun, Evaluation, Job
from evosearch.signal import Learnt
from evosearch.state import State, recover
from evosearch.surrogate import Discards, Lesson, Waiting
from primitives.errors import EvosearchError
from primitives.graph import Graph

VERSION = 13
"""Raise it whenever `State` folds an event differently or remembers something else."""

LEAST_EVENTS = 5000
"""A shorter log is folded faster than a snapshot is written and read."""


class _Part(NamedTuple):
    """How one attribute of `State` becomes JSON data, and back (the state knows its config)."""

    dump: Callable[[Any], Any]
    load: Callable[[Any, State], Any]


def worth_saving(state: State, saved: int) -> bool:
    """Whether so much has happened since event ``saved`` that a snapshot should be written.

    The step grows with the log, so that all snapshots together cost what the last one costs.
    """
    return state.seq - saved >= max(LEAST_EVENTS, state.seq // 4)


def dump_state(state: State) -> str:
    """The state as JSON text."""
    told: dict[str, Any] = {"version": VERSION, "config": state.config.model_dump(mode="json")}
    for name, part in _PARTS.items():
        told[name] = part.dump(getattr(state, name))
    return json.dumps(told, separators=(",", ":"), allow_nan=False)


def load_state(text: str) -> State:
    """The state in the text.

    Raises:
        StateConflict: it is none of this version.
    """
    try:
        told = json.loads(text)
        if told["version"] != VERSION:
            raise StateConflict(
                "a snapshot of another version", expected=str(VERSION), got=str(told["version"])
            )
        state = State(ev.Created(config=SearchConfig.model_validate(told["config"])))
        for name, part in _PARTS.items():
            setattr(state, name, part.load(told[name], state))
    except (LookupError, TypeError, ValueError, AttributeError, ValidationError) as err:
        raise StateConflict("a snapshot cannot be read", got=str(err)[:100]) from err
    return state


def reopen(store: Store, search_id: str) -> tuple[State, int]:
    """The state that the events of the search fold to, from its snapshot where there is one.

    Returns:
        The state, and the event of the snapshot that it began with, 0 if there was none.

    Raises:
        StateConflict: the log contradicts itself.
    """
    found = store.snapshot(search_id)
    if found is None:
        return recover(store.events(search_id)), 0
    try:
        state = load_state(found.text)
        if state.seq != found.seq:
            raise StateConflict("a snapshot of another event", got=str(state.seq))
    except EvosearchError:  # whatever is wrong with it, the events know better
        return recover(store.events(search_id)), 0
    for entry in store.events(search_id, after=found.seq):
        state.follow(entry)
    return state, found.seq


def _as_is(value: Any) -> Any:
    return value


def _keep(value: Any, _state: State) -> Any:
    return value


def _dump_members(members: Mapping[int, Member]) -> list[Any]:
    return [
        [one.birth, one.graph.to_json(), one.origin, one.operator, one.parents, one.audit,
         one.odds, one.by_lot, one.evaluated, one.scores, one.repeats, one.measured]
        for one in members.values()
    ]  # fmt: skip


def _load_members(rows: list[Any], _state: State) -> dict[int, Member]:
    found = {}
    for birth, graph, origin, operator, parents, *more in rows:
        audit, odds, by_lot, evaluated, scores, repeats, times = more
        found[birth] = Member(
            birth, Graph.from_json(graph), origin, operator, tuple(parents), audit, odds, by_lot,
            evaluated, defaultdict(list, scores), repeats, times,
        )  # fmt: skip
    return found


def _dump_front(front: Any) -> dict[str, Any]:
    points = [[member, [float(x) for x in point]] for member, point in front.points.items()]
    return {"points": points, "members": sorted(front.members)}


def _load_front(data: Any, state: State) -> Any:
    state.front.restore(dict(data["points"]), data["members"])
    return state.front


def _dump_results(results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: [[purpose, one.model_dump(mode="json", exclude={"curve"})] for purpose, one in runs]
        for key, runs in results.items()
    }


def _load_results(data: Mapping[str, Any], _state: State) -> Any:
    found = {
        key: [(purpose, Evaluation.model_validate(one)) for purpose, one in runs]
        for key, runs in data.items()
    }
    return defaultdict(list, found)


def _dump_tallies(tallies: Mapping[str, Tally]) -> dict[str, Any]:
    return {code: [tally.count, tally.seconds] for code, tally in tallies.items()}


def _load_tallies(data: Mapping[str, Any], _state: State) -> Any:
    return defaultdict(Tally, {code: Tally(*values) for code, values in data.items()})


def _dump_yields(yields: Mapping[str, Yield]) -> dict[str, Any]:
    return {label: [one.proposals, one.new, one.evaluated] for label, one in yields.items()}


def _load_yields(data: Mapping[str, Any], _state: State) -> Any:
    return defaultdict(Yield, {label: Yield(*values) for label, values in data.items()})


def _dump_milestones(milestones: Mapping[str, Mapping[int, deque[float]]]) -> dict[str, Any]:
    return {
        anchor: [[step, list(scores)] for step, scores in by_step.items()]
        for anchor, by_step in milestones.items()
    }


def _load_milestones(data: Mapping[str, Any], state: State) -> Any:
    size = state.population.maxlen
    return {
        anchor: {step: deque(scores, maxlen=size) for step, scores in by_step}
        for anchor, by_step in data.items()
    }


def _dump_early(early: Mapping[int, Mapping[int, Mapping[str, float]]]) -> list[Any]:
    return [[birth, [*by_step.items()]] for birth, by_step in early.items()]


def _load_early(data: list[Any], _state: State) -> Any:
    return {birth: {step: dict(scores) for step, scores in by_step} for birth, by_step in data}


def _dump_pending(pending: Mapping[str, Job]) -> list[Any]:
    return [job.model_dump(mode="json") for job in pending.values()]


def _load_pending(data: list[Any], _state: State) -> Pending:
    return Pending({job["id"]: Job.model_validate(job) for job in data})


def _dump_tried(tried: deque[tuple[int, Graph]]) -> Any:
    return [[birth, graph.to_json()] for birth, graph in tried]


def _load_tried(data: Any, state: State) -> Any:
    kept = ((birth, Graph.from_json(graph)) for birth, graph in data)
    return deque(kept, maxlen=state.tried.maxlen)


def _load_choice(data: dict[str, Any], state: State) -> Choice:
    state.choice.load(data)
    return state.choice


def _dump_learnt(learnt: Learnt) -> list[Any]:
    return [learnt.passed, learnt.confirmed, learnt.ranges]


def _load_learnt(data: list[Any], _state: State) -> Learnt:
    passed, confirmed, ranges = data
    found = {
        anchor: {name: (low, high) for name, (low, high) in by.items()}
        for anchor, by in ranges.items()
    }
    return Learnt(passed, confirmed, found)


def _dump_bounds(bounds: Mapping[str, Mapping[str, Bounds]]) -> dict[str, Any]:
    return {
        anchor: {name: [one.low, one.high] for name, one in by.items()}
        for anchor, by in bounds.items()
    }


def _load_bounds(data: Mapping[str, Any], _state: State) -> dict[str, dict[str, Bounds]]:
    return {
        anchor: {name: Bounds(low=low, high=high) for name, (low, high) in by.items()}
        for anchor, by in data.items()
    }


def _dump_waiting(waiting: Mapping[int, Waiting]) -> list[Any]:
    return [
        [birth, one.number, [run.model_dump(mode="json") for run in one.checks], one.features,
         one.promise, one.below, one.seconds, one.begun]
        for birth, one in waiting.items()
    ]  # fmt: skip


def _load_waiting(rows: list[Any], _state: State) -> dict[int, Waiting]:
    found = {}
    for birth, number, checks, features, *rest in rows:
        runs = tuple(CheckRun.model_validate(run) for run in checks)
        found[birth] = Waiting(number, runs, tuple(features), *rest)
    return found


def _load_lessons(rows: list[Any], state: State) -> deque[Lesson]:
    lessons = (Lesson(tuple(features), *rest) for features, *rest in rows)
    return deque(lessons, maxlen=state.lessons.maxlen)


def _dump_report(report: dict[str, Any] | None) -> Any:
    # The way a report takes through its event, so that both ways tell the same.
    return None if report is None else json.loads(ev.dump_event(ev.Reported(report=report)))


def _load_report(data: Any, _state: State) -> Any:
    return None if data is None else ev.Reported.model_validate(data).report


_PLAIN = _Part(_as_is, _keep)
_COUNTER = _Part(dict, lambda data, _: Counter(data))
_SET = _Part(sorted, lambda data, _: set(data))
_TALLIES = _Part(_dump_tallies, _load_tallies)

_PARTS: dict[str, _Part] = {
    **dict.fromkeys(
        ("seq", "status", "phase", "target", "next_birth", "digests", "fingerprints",
         "hypervolume", "evaluated", "remeasured", "confirmed", "confirmed_at", "duplicates",
         "notes", "limits", "begun_at", "gained_at", "primitives", "waits", "taught"), _PLAIN,
    ),
    **dict.fromkeys(("rejected", "examples", "failures", "train_steps", "starts"), _COUNTER),
    **dict.fromkeys(("funnel", "checks"), _TALLIES),
    "operators": _Part(_dump_yields, _load_yields),
    "members": _Part(_dump_members, _load_members),
    **dict.fromkeys(("popular", "job_ids", "full_starts"), _SET),
    "population": _Part(list, lambda data, state: deque(data, maxlen=state.population.maxlen)),
    "tried": _Part(_dump_tried, _load_tried),
    "choice": _Part(Choice.dump, _load_choice),
    "front": _Part(_dump_front, _load_front),
    "pending": _Part(_dump_pending, _load_pending),
    "results": _Part(_dump_results, _load_results),
    "audit": _Part(
        lambda audit: [audit.audited, audit.wrongly_rejected, audit.passed_quality],
        lambda data, _: Audit(*data),
    ),
    "learnt": _Part(_dump_learnt, _load_learnt),
    "bounds": _Part(_dump_bounds, _load_bounds),
    "milestones": _Part(_dump_milestones, _load_milestones),
    "early": _Part(_dump_early, _load_early),
    "begun": _Part(
        lambda begun: list(begun.items()),
        lambda data, _: {birth: dict(steps) for birth, steps in data},
    ),
    "waiting": _Part(_dump_waiting, _load_waiting),
    "lessons": _Part(list, _load_lessons),
    "discards": _Part(
        lambda one: [one.discarded, one.audited, one.useful, one.passed],
        lambda data, _: Discards(*data),
    ),
    "chosen": _Part(list, lambda data, _: tuple(data)),
    "report": _Part(_dump_report, _load_report),
}  # fmt: skip
"""Every attribute of `State` but what follows from its config; a test compares the two."""
