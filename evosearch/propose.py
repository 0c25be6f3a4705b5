"""What to try next: pure functions from the state to the events of one new candidate.

Proposal ``k`` draws from its own random stream, so the same events give the same proposals. The
clock only measures; its readings never influence a decision.
"""

from __future__ import annotations

import math
import random
from collections import ChainMap, Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

from evosearch import events as ev
from evosearch.config import Operator, SearchConfig
from evosearch.members import Member
from evosearch.odds import BRED, Brood, Odds, by_lot, looks_after
from evosearch.operators import OPERATORS, applicable, apply_operator, pick_operator
from evosearch.records import Rejection, Run, Subject
from evosearch.screen import SCREEN_CODES, Clock, Screen, Verdict
from evosearch.selection import tournament
from evosearch.state import MAX_EXAMPLES, State
from evosearch.streams import below, evaluation_seed, stream
from evosearch.template_space import Drawer, drawer
from evosearch.variation import Table, draw_table, weighted
from primitives.graph import Graph
from primitives.structure import analyse

Origin = Literal["random", "mutation"]
AGAIN = "again"
"""What counts as the origin of a runner-up that is looked at once more."""
ROUNDS = 100
"""Times that a hunt for the next new function may change its mind, of ``max_proposals`` in all."""


def no_clock() -> float:
    """A clock that stands still, for runs in which nothing is measured."""
    return 0.0


class _Draft(NamedTuple):
    """A proposal before its checks."""

    graph: Graph
    operator: str = ""
    parents: tuple[int, ...] = ()

    @property
    def origin(self) -> Origin:
        """Whether it comes of candidates, or of nothing."""
        return "mutation" if self.parents else "random"

    @property
    def label(self) -> str:
        """What the report counts it under."""
        return self.operator or self.origin


class _Drawn(NamedTuple):
    """A new function, the number of its proposal, and what its checks took."""

    birth: int
    draft: _Draft
    verdict: Verdict
    seconds: float


class _Source(NamedTuple):
    """What is edited, and the evaluated candidates that it comes from."""

    graph: Graph
    parents: tuple[int, ...]


class Proposer:
    """The settings of one search turned into what every proposal needs."""

    def __init__(self, state: State, clock: Clock = no_clock) -> None:
        self.screen = Screen(state.config)
        self.table = draw_table(state.config.space)
        self.drawer = drawer(state.config.space)
        self.clock = clock
        self.odds = Odds()
        self._hunt: _Hunt | None = None

    def propose(self, state: State) -> tuple[ev.Event, ...]:
        """The next candidate or re-measurement, after the duplicates met on the way to it.

        Returns:
            Duplicates, then one `CandidateQueued` or `JobQueued`; nothing at all once
            ``evolution.max_proposals`` proposals in a row held no new function.
        """
        return self.seek(state, math.inf) or ()

    def seek(self, state: State, until: float, jobs: int = 1) -> tuple[ev.Event, ...] | None:
        """As `propose`, but None once the clock shows ``until``: the next call goes on.

        Where it was left off does not change what is found. A state that has changed meanwhile
        makes it begin anew. ``jobs``: how many the pool holds at a time; it is told in the event,
        and counts from the next candidate on, so that what is found follows from the events alone.
        """
        due = remeasurement_due(state)
        if due is not None:
            return (remeasurement(state, due),)
        hunt = self._hunt
        if hunt is None or hunt.seq != state.seq:
            hunt = self._hunt = _Hunt(state, self.table, self.drawer, self.odds)
        last = state.next_birth + state.config.evolution.max_proposals
        begun, patience = hunt.birth, max(1, state.config.evolution.max_proposals // ROUNDS)
        while hunt.birth < last:
            if hunt.birth > begun and self.clock() >= until:
                return None
            if (hunt.birth - state.next_birth) % patience == 0:
                hunt.at_random = _draws_at_random(state, hunt.birth)
            self._try(state, hunt)
            hunt.birth += 1
            if hunt.over:
                break
        self._hunt = None
        return self._chosen(state, hunt, jobs) if hunt.drawn else ()

    def _chosen(self, state: State, hunt: _Hunt, jobs: int) -> tuple[ev.Event, ...]:
        """Of the new functions that were drawn the one that is tried."""
        brood = hunt.brood
        chosen = hunt.drawn[brood.best()]
        for one in hunt.drawn:
            if one is not chosen:
                passed = one.verdict._replace(code="passed_over")
                hunt.skipped.add(one.birth, one.draft.graph, passed, one.seconds)
        runners_up = [hunt.drawn[place].draft for place in brood.runners_up()]
        skipped = hunt.skipped.record(
            after=hunt.birth - chosen.birth - 1,
            new=hunt.skipped.new_beside(chosen.draft),
            runners_up=tuple((draft.graph, draft.parents) for draft in runners_up),
            made_by=tuple(draft.operator for draft in runners_up),
            looks=looks_after(state, brood.gain) if brood.wanted > 1 else None,
            jobs=jobs if state.config.evolution.choose_of > 1 else None,
            **self._odds(state, hunt, chosen.draft.graph),
        )
        return (*hunt.found, self._queued(state, chosen, skipped))

    def _odds(self, state: State, hunt: _Hunt, graph: Graph) -> dict[str, Any]:
        """What is told of the odds of the candidate that is tried."""
        if state.config.evolution.choose_of == 1:
            return {}
        told = self.odds.of(state, [graph])
        return {"odds": told and round(told[0], 6), "by_lot": hunt.by_lot}

    def _try(self, state: State, hunt: _Hunt) -> None:
        """One proposal."""
        birth, skipped = hunt.birth, hunt.skipped
        again = hunt.again()
        draft = again or self._draw(state, hunt)
        graph = draft.graph
        begin = self.clock()
        verdict = self.screen.judge(
            graph, hunt.digests, state.fingerprints, state.full_starts, state.tried
        )
        seconds = self.clock() - begin
        skipped.draw(draft.label if again is None else AGAIN)
        if verdict.code is None and not hunt.holds(verdict):
            if again is None:
                skipped.find(draft)
            hunt.draw(_Drawn(birth, draft, verdict, seconds), again is not None)
            hunt.at_random = _draws_at_random(state, birth + 1)
            return
        if verdict.code is None:
            verdict = verdict._replace(code="passed_over")
        skipped.add(birth, graph, verdict, seconds)
        if verdict.code == "duplicate" and verdict.of is not None:
            hunt.fresh[verdict.digest] = verdict.of
            hunt.found.append(
                ev.CandidateDuplicate(
                    birth=birth,
                    of=verdict.of,
                    graph=graph,
                    digest=verdict.digest,
                    fingerprint=verdict.fingerprint,
                    origin=draft.origin,
                    parents=draft.parents,
                )
            )

    def enqueue(self, state: State, graph: Graph, note: str = "") -> tuple[ev.Event, ...]:
        """A person's layer, through the same checks but ``crowded``, before the next proposal."""
        birth = state.next_birth
        verdict = self.screen.judge(graph, state.digests, state.fingerprints)
        if verdict.code is not None:
            rejection = Rejection(code=verdict.code, detail=SCREEN_CODES[verdict.code])
            return (
                ev.EnqueuedRefused(birth=birth, graph=graph, rejection=rejection, of=verdict.of),
            )
        return (
            ev.CandidateQueued(
                birth=birth,
                graph=graph,
                digest=verdict.digest,
                fingerprint=verdict.fingerprint,
                start=self.screen.start(graph, verdict.digest),
                origin="enqueued",
                audit=_audited(state, birth),
                note=note,
            ),
        )

    def _draw(self, state: State, hunt: _Hunt) -> _Draft:
        rng = stream(state.config.seed, "propose", hunt.birth)
        if hunt.brood.breeds:
            return self._bred(rng, state.config, hunt)
        at_random = hunt.at_random
        if at_random is None:
            at_random = rng.random() < state.config.evolution.random_share
        if at_random:
            return _Draft(hunt.drawer.random(rng))

        def parent() -> _Source:
            found = _parent(rng, state, hunt)
            return _Source(found.graph, (found.birth,))

        return self._child(rng, state.config, hunt, parent)

    def _bred(self, rng: random.Random, config: SearchConfig, hunt: _Hunt) -> _Draft:
        """An edit of functions that were looked at; its parents are those that they came from."""

        def parent() -> _Source:
            found = hunt.drawn[hunt.brood.parent(rng)].draft
            return _Source(found.graph, found.parents)

        child = self._child(rng, config, hunt, parent)
        return child._replace(operator="+".join(filter(None, (BRED, child.operator))))

    def _child(
        self, rng: random.Random, config: SearchConfig, hunt: _Hunt, parent: Callable[[], _Source]
    ) -> _Draft:
        evolution, nodes, first = config.evolution, config.space.nodes, parent()
        graph, parents, names = first.graph, [*first.parents], list[str]()
        if not evolution.operators or config.space.template:  # edits know of no frame
            for _ in range(evolution.mutations):
                graph = hunt.drawer.mutate(rng, graph)
            return _Draft(graph, parents=first.parents)
        for _ in range(1 + below(rng, evolution.mutations)):
            weights: Mapping[Operator, float] = evolution.operators
            if evolution.sure_edits:
                weights = applicable(weights, hunt.table, graph, nodes)
            name = pick_operator(rng, weights)
            names.append(name)
            other = first
            if OPERATORS[name].parents > 1:
                other = parent()
                parents += other.parents
            graph = apply_operator(
                rng, hunt.table, name, graph, other.graph, nodes, sure=evolution.sure_edits
            )
        return _Draft(graph, "+".join(names), tuple(dict.fromkeys(parents)))

    def _queued(self, state: State, chosen: _Drawn, skipped: ev.Skipped) -> ev.CandidateQueued:
        birth, draft, verdict, _ = chosen
        return ev.CandidateQueued(
            birth=birth,
            graph=draft.graph,
            digest=verdict.digest,
            fingerprint=verdict.fingerprint,
            start=self.screen.start(draft.graph, verdict.digest),
            origin=draft.origin,
            operator=draft.operator,
            parents=draft.parents,
            audit=_audited(state, birth),
            skipped=skipped,
        )


class _Skips:
    """Counts of the proposals that ended here since the last queued candidate."""

    def __init__(self, state: State) -> None:
        self._room = {code: MAX_EXAMPLES - state.examples[code] for code in SCREEN_CODES}
        self._counts: Counter[str] = Counter()
        self._seconds: dict[str, float] = defaultdict(float)
        self._repeats: Counter[int] = Counter()
        self._origins: Counter[str] = Counter()
        self._new: Counter[str] = Counter()
        self._examples: list[tuple[int, str, Graph]] = []

    def draw(self, label: str) -> None:
        self._origins[label] += 1

    def find(self, draft: _Draft) -> None:
        """It holds a new function."""
        self._new[draft.label] += 1

    def new_beside(self, chosen: _Draft) -> dict[str, int] | None:
        """New functions by where they come from; None where the chosen one is all there is."""
        return None if self._new == {chosen.label: 1} else dict(self._new)

    def add(self, birth: int, graph: Graph, verdict: Verdict, seconds: float) -> None:
        code = str(verdict.code)
        self._counts[code] += 1
        self._seconds[code] += seconds
        if verdict.code == "repeat" and verdict.of is not None:
            self._repeats[verdict.of] += 1
        if self._room[code] > 0 and verdict.code != "duplicate":
            self._room[code] -= 1
            self._examples.append((birth, code, graph))

    def record(self, **chosen: Any) -> ev.Skipped:
        """With the fields that tell of the choice."""
        return ev.Skipped(
            counts=dict(self._counts),
            seconds=dict(self._seconds),
            repeats=dict(self._repeats),
            origins=dict(self._origins),
            examples=tuple(self._examples),
            **chosen,
        )


class _Hunt:
    """A search for the next candidate, as far as it has come.

    ``birth``: its next proposal; ``found``: duplicates on the way; ``drawn``: new functions.
    """

    def __init__(self, state: State, table: Table, drawer: Drawer, odds: Odds) -> None:
        self.seq, self.birth = state.seq, state.next_birth
        self.parents = state.parents
        weights = state.primitive_weights()
        self.table = weighted(table, weights) if weights else table
        self.drawer = drawer.drawing(self.table) if weights else drawer
        self.at_random = _draws_at_random(state, self.birth)
        self.skipped = _Skips(state)
        self.fresh: dict[str, int] = {}
        self.digests = ChainMap(self.fresh, state.digests)
        self.found: list[ev.Event] = []
        self.drawn: list[_Drawn] = []
        self._met: set[str] = set()
        self.by_lot = by_lot(state, self.birth)
        self.brood = Brood(partial(odds.of, state), odds.wanted(state, self.birth))
        self._runners_up = iter(state.choice.runners_up if self.brood.wanted > 1 else ())

    @property
    def over(self) -> bool:
        """Whether enough new functions were looked at, or there seem to be no others."""
        if not self.drawn:
            return False
        return self.brood.enough or self.birth - self.drawn[-1].birth > self.brood.patience

    def again(self) -> _Draft | None:
        """The next runner-up of earlier candidates."""
        one = next(self._runners_up, None)
        return one and _Draft(one.graph, one.operator, one.parents)

    def draw(self, one: _Drawn, again: bool) -> None:
        """One more function that is looked at; ``again``: it is a runner-up."""
        self.drawn.append(one)
        self._met |= {one.verdict.digest, one.verdict.fingerprint}
        self.brood.add(one.draft.graph, again)

    def holds(self, verdict: Verdict) -> bool:
        """Whether that function was drawn already."""
        return not self._met.isdisjoint((verdict.digest, verdict.fingerprint))


def _parent(rng: random.Random, state: State, hunt: _Hunt) -> Member:
    def live_nodes(birth: int) -> int:
        return analyse(state.members[birth].graph).live_nodes

    evolution, points = state.config.evolution, state.front.points
    anchors = len(state.config.task.anchors)
    return state.members[tournament(rng, hunt.parents, points, evolution, live_nodes, anchors)]


def _draws_at_random(state: State, birth: int) -> bool | None:
    """Whether proposals from that one on come from nothing; None: each decides for itself.

    It holds until a new function is found, but is drawn anew where a round of proposals held none:
    a parent's neighbourhood may be exhausted, while random graphs are not.
    """
    evolution = state.config.evolution
    if not state.parents or state.evaluated - state.begun_at < evolution.warm_up:
        return True
    if evolution.random_of == "proposals":
        return None
    return stream(state.config.seed, "origin", birth).random() < evolution.random_share


def _audited(state: State, birth: int) -> bool:
    signal = state.config.checks.signal
    if not signal.enabled or signal.audit_share <= 0.0:
        return False
    return stream(state.config.seed, "audit", birth).random() < signal.audit_share


def remeasurement_due(state: State) -> Member | None:
    """The evaluated candidate that gets a fresh seed now: a leading one, or a popular one."""
    evolution = state.config.evolution
    if state.remeasured >= evolution.remeasure_share * state.evaluated:
        return None
    return _unchallenged(state) or _popular(state)


def _unchallenged(state: State) -> Member | None:
    """The member with the highest mean score, and then that of the front with the fewest seeds, of
    those that have too few."""
    evolution, points = state.config.evolution, state.front.points

    def doubted(births: Iterable[int]) -> Iterator[Member]:
        members = (state.members[birth] for birth in births)
        return (one for one in members if one.measured < evolution.challenge_seeds)

    found = next(doubted(state.leading()), None)
    if found is not None or not (evolution.challenge_top and evolution.challenge_front):
        return found
    anchors = len(state.config.task.anchors)
    return min(
        doubted(state.front.members),
        key=lambda one: (one.measured, float(points[one.birth][:anchors].sum()), one.birth),
        default=None,
    )


def _popular(state: State) -> Member | None:
    """The member whose function was proposed again most often, if often enough."""
    if not state.popular or state.pending.purposes["remeasure"]:
        return None
    popular = [state.members[birth] for birth in state.popular.intersection(state.population)]
    return max(popular, key=lambda m: (m.repeats / m.measured, -m.birth), default=None)


def remeasurement(
    state: State, member: Member, ahead: int = 0, *, asked: bool | None = False
) -> ev.JobQueued:
    """A fresh seed on every anchor for an evaluated candidate, ``ahead`` others before it."""
    index = member.measured + ahead
    seed = evaluation_seed(state.config.seed, "remeasure", index)
    rate = state.config.task.learning_rate
    runs = (Run(anchor=a, seed=seed, learning_rate=rate) for a in state.config.anchor_names)
    return ev.JobQueued(
        id=f"remeasure/c{member.birth}/{index}",
        purpose="remeasure",
        subject=Subject(birth=member.birth),
        runs=tuple(runs),
        asked=asked,
    )
