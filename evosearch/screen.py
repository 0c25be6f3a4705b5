"""The in-controller checks: microseconds to milliseconds, cheapest first, in a fixed order.

Measured times never influence a decision. A rejection here is counted, not stored; only a graph
that passes the structural checks and the probe gets a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import NamedTuple, TypeVar

from evosearch.alike import Alike, Tried
from evosearch.config import SearchConfig
from evosearch.graph_filter import Answers, GraphFilter, own_check
from primitives.digest import digest as digest_of
from primitives.fingerprint import fingerprint as fingerprint_of
from primitives.fingerprint import initial_fingerprint, initial_response
from primitives.graph import Graph
from primitives.probe import Array, probe_fault
from primitives.rewrite import live_form
from primitives.structure import analyse, structural_fault

Clock = Callable[[], float]

SCREEN_CODES = {
    "ignores_input": "the output does not depend on x",
    "no_spatial": "the output does not vary over the spatial axes",
    "uses_batch": "batch statistics are live, and the series is S",
    "leaks_future": "the layer mixes positions or batch, which an anchor forbids",
    "constraint": "the layer is not what the search's where asks for",
    "own_check": "a check of a plug-in refused it",
    "repeat": "the canonical digest was seen before",
    "not_finite": "an output or gradient of the probe is NaN or infinite, perhaps only at a zero",
    "constant": "the output of the probe is constant",
    "no_gradient": "the gradient of the probe is zero",
    "duplicate": "the behaviour fingerprint was seen before",
    "crowded": "its function at the initial v0 and v1, or one like it, was tried often enough",
    "passed_over": "another new function of the same draw had better odds",
}
"""Every in-controller code, in the order of the checks, with its meaning."""

WORKER_CODES = {
    "signal": "a statistic of the first three batches is out of bounds",
    "quality": "too low a score after the first steps",
    "stability": "the gradient grows beyond the limit under gradient ascent",
    "not_finite": "a loss, gradient or score is NaN or infinite",
    "hurdle": "a score in the middle of training that is below the hurdle",
    "too_slow": "the evaluation took longer than task.evaluation_seconds",
    "unpromising": "the surrogate has earned the right to discard what it expects so little of",
    "outranked": "the surrogate put others first until the search was over",
    "outside_table": "the tabular benchmark that answers in place of workers does not hold it",
}
"""Every worker-side code, with its meaning."""


_AXES = {"batch": "b", "positions": "s"}
"""Axis that an anchor may forbid -> its letter in `primitives.structure`."""


class Verdict(NamedTuple):
    """What the checks found: a code if rejected, and the identities as far as they were needed.

    ``of``: birth of the earlier candidate, for ``repeat`` and ``duplicate``.
    """

    code: str | None
    digest: str = ""
    fingerprint: str = ""
    of: int | None = None


KEPT_GRAPHS, KEPT_DIGESTS, KEPT_RESPONSES = 1 << 14, 1 << 16, 1 << 13
"""Answers that a screen keeps in mind: some 30 MB by graph, digest, and as arrays each."""

Key = TypeVar("Key")
Answer = TypeVar("Answer")


class Screen:
    """The checks of one search, with a bounded memory of their answers (pure functions').

    Who breeds comes to the same graphs, and others of the same digest, again and again.
    """

    def __init__(self, config: SearchConfig) -> None:
        self._batch_allowed = config.series == "B"
        self._forbidden = {_AXES[axis] for anchor in config.task.anchors for axis in anchor.forbids}
        self._constraint = GraphFilter(config.space.where) if config.space.where else None
        self._own_checks = [own_check(name) for name in config.space.checks]
        self._modulo_affine = config.evolution.modulo_affine
        self._same_start = config.evolution.same_start
        self._alike = Alike(config.evolution.alike) if config.evolution.alike < 1.0 else None
        self._read: dict[Graph, tuple[str | None, str]] = {}
        self._probed: dict[str, tuple[str | None, str]] = {}
        self._answers: dict[Graph, Answers] = {}
        self._starts: dict[str, str] = {}
        self._responses: dict[str, Array | None] = {}

    def judge(
        self,
        graph: Graph,
        digests: Mapping[str, int],
        fingerprints: Mapping[str, int],
        full: Set[str] = frozenset(),
        tried: Tried = (),
    ) -> Verdict:
        """Run the checks against what the search has seen.

        ``digests``, ``fingerprints``: identity -> birth; ``full``: starts that no further candidate
        may have; ``tried``: the latest candidates that were trained at all.
        """
        fault, digest = _known(self._read, graph, KEPT_GRAPHS, lambda: self._reading(graph))
        if fault is not None:
            return Verdict(fault)
        seen = digests.get(digest)
        if seen is not None:
            return Verdict("repeat", digest, of=seen)
        fault, fingerprint = _known(self._probed, digest, KEPT_DIGESTS, lambda: self._probe(graph))
        if fault is not None:
            return Verdict(fault, digest)
        seen = fingerprints.get(fingerprint)
        if seen is not None:
            return Verdict("duplicate", digest, fingerprint, seen)
        if not self._same_start:
            return Verdict(None, digest, fingerprint)
        crowded = self._crowded(graph, digest, full, tried)
        return Verdict("crowded" if crowded else None, digest, fingerprint)

    def _reading(self, graph: Graph) -> tuple[str | None, str]:
        """What can be told without a probe: why the graph is rejected, or its digest."""
        fault = structural_fault(graph)
        if fault is not None:
            return fault, ""
        if not self._batch_allowed and not analyse(graph).batch_independent:
            return "uses_batch", ""
        if self._forbidden and self._forbidden & analyse(graph).mixes:
            return "leaks_future", ""
        if self._constraint is not None and not self._constraint.holds(
            graph, lambda: self.answers(graph)
        ):
            return "constraint", ""
        if any(refuse(graph) is not None for refuse in self._own_checks):
            return "own_check", ""
        return None, digest_of(graph)

    def answers(self, graph: Graph) -> Answers:
        """What constraints have found of graphs that compute the same bit for bit.

        A digest would not do: where values inside are infinite, graphs of one may differ.
        """
        return _known(self._answers, live_form(graph), KEPT_GRAPHS, dict)

    def _probe(self, graph: Graph) -> tuple[str | None, str]:
        fault = probe_fault(graph)
        return fault, "" if fault else fingerprint_of(graph, modulo_affine=self._modulo_affine)

    def _crowded(self, graph: Graph, digest: str, full: Set[str], tried: Tried) -> bool:
        most = self._same_start
        if self._alike is not None and len(tried) >= most:
            response = _known(
                self._responses, digest, KEPT_RESPONSES, lambda: initial_response(graph)
            )
            if self._alike.count(response, tried) >= most:
                return True
        return bool(full) and self.start(graph, digest) in full

    def start(self, graph: Graph, digest: str) -> str:
        """The identity by which layers that begin alike are told; empty where none is needed."""
        if not self._same_start:
            return ""
        return _known(self._starts, digest, KEPT_DIGESTS, lambda: initial_fingerprint(graph))


def _known(memory: dict[Key, Answer], key: Key, most: int, ask: Callable[[], Answer]) -> Answer:
    """The answer in mind, or one asked for now; a full memory forgets all that it held."""
    if key not in memory:
        if len(memory) >= most:
            memory.clear()
        memory[key] = ask()
    return memory[key]
