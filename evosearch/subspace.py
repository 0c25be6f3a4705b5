"""Every graph of a small search space: which there are, and how often random search draws each.

A sub-space is what a config may draw (``space.allow``) in graphs of ``space.nodes`` op nodes, of
which any number may be dead. The enumeration is pure and deterministic; this file must not train
or measure anything.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from evosearch.config import SearchConfig
from evosearch.errors import ConfigError
from evosearch.ports import Progress, unseen
from evosearch.screen import Screen
from evosearch.variation import Table, draw_table
from primitives.graph import FIRST_OP, Graph, Node
from primitives.ops import COMMUTATIVE, TypedPrimitive

MAX_RAW = 10**9
"""Largest number of node sequences that are enumerated."""

_BITS = 24
"""Bits of a value's number in the key of what reads it."""


@dataclass(slots=True)
class Function:
    """One function of the sub-space: its first graph, and everything that computes the same.

    ``probability``: that a random graph of the space computes it. ``digests``: of all its graphs.
    """

    graph: Graph
    fingerprint: str
    digests: list[str]
    probability: float = 0.0


@dataclass(slots=True)
class Enumeration:
    """What a sub-space holds.

    ``raw``: sequences of nodes that may be drawn. ``graphs``: live graphs, input order of
    commutative primitives and repetitions apart. ``refused``: in-controller code -> such graphs
    and the probability of drawing one; ``repeat`` and ``duplicate`` are refused for no search.
    """

    raw: int
    graphs: int = 0
    functions: list[Function] = field(default_factory=list)
    refused: dict[str, tuple[int, float]] = field(default_factory=dict)


def raw_sequences(table: Table, nodes: int) -> int:
    """Sequences of ``nodes`` op nodes over earlier nodes.

    Example:
        >>> raw_sequences(Table((((("exp", None), 1),), ((("add", None), 2),))), 2)
        600
    """
    arities = [arity for row in table.rows for _, arity in row]
    initial = len(table.initial)
    return math.prod(sum((initial + index) ** arity for arity in arities) for index in range(nodes))


def live_graphs(table: Table, nodes: int) -> Iterator[tuple[Graph, float]]:
    """All live graphs of at most ``nodes`` op nodes, with the probability of drawing each.

    The smallest come first. A graph stands for all that differ in dead nodes, repetitions, the
    order of nodes and of the inputs of commutative primitives; the probabilities add up to one.

    Raises:
        ConfigError: there are too many.
    """
    raw = raw_sequences(table, nodes)
    if raw > MAX_RAW:
        raise ConfigError(
            "the sub-space is too large to be enumerated", where="space",
            expected=f"at most {MAX_RAW:,} sequences of nodes", got=f"{raw:,}",
            hint="fewer primitives or fewer nodes",
        )  # fmt: skip
    values = _Values(table)
    states: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(nodes - 1):
        after: dict[tuple[int, ...], float] = {}
        for state, share in states.items():
            for value, chance in values.draws(state):
                grown = tuple(sorted((*state, value)))
                after[grown] = after.get(grown, 0.0) + share * chance
        states = after
    outputs: dict[int, float] = {}
    for state, share in states.items():
        for value, chance in values.draws(state):
            outputs[value] = outputs.get(value, 0.0) + share * chance
    found: list[list[tuple[Graph, float]]] = [[] for _ in range(nodes)]
    for value in sorted(outputs):
        graph = values.graph(value)
        found[len(graph.nodes) - 1].append((graph, outputs[value]))
    for of_size in found:
        yield from of_size


class _Values:
    """Values by number, each once: 0 to 3 are the initial nodes, inputs have smaller numbers."""

    def __init__(self, table: Table) -> None:
        self._kinds: list[TypedPrimitive] = []
        self._rows: list[tuple[int, int, bool, float]] = []
        """Key's head, arity, whether commutative, and the probability of being drawn."""
        self._initial = table.initial
        for row in table.rows:
            for kind, arity in row:
                head = len(self._kinds) << 2 * _BITS
                share = 1.0 / len(table.rows) / len(row)
                self._rows.append((head, arity, kind[0] in COMMUTATIVE, share))
                self._kinds.append(kind)
        self._numbers: dict[int, int] = {}
        self._nodes: list[tuple[int, tuple[int, ...]]] = [(0, ())] * FIRST_OP

    def draws(self, state: tuple[int, ...]) -> Iterator[tuple[int, float]]:
        """What the next node may be over initial nodes and ``state``: value, probability."""
        sources = (*self._initial, *state)
        for head, arity, commutative, share in self._rows:
            chance = share / len(sources) ** arity
            if arity == 2:
                for a in sources:
                    for b in sources:
                        pair = (b, a) if commutative and b < a else (a, b)
                        yield self._number(head, pair), chance
            elif arity == 1:
                for a in sources:
                    yield self._number(head, (a,)), chance
            else:
                yield self._number(head, ()), chance

    def _number(self, head: int, inputs: tuple[int, ...]) -> int:
        key = head
        for position, source in enumerate(inputs):
            key |= source << position * _BITS
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._nodes)
            self._nodes.append((head >> 2 * _BITS, inputs))
        return number

    def graph(self, value: int) -> Graph:
        """The graph whose output is the value; nodes stand in the order of their numbers."""
        needed, waiting = {value}, [value]
        while waiting:
            for source in self._nodes[waiting.pop()][1]:
                if source >= FIRST_OP and source not in needed:
                    needed.add(source)
                    waiting.append(source)
        place = {index: index for index in range(FIRST_OP)}
        nodes: list[Node] = []
        for number in sorted(needed):
            kind, inputs = self._nodes[number]
            place[number] = FIRST_OP + len(nodes)
            op, over = self._kinds[kind]
            nodes.append(Node(op, tuple(place[source] for source in inputs), over))
        return Graph(tuple(nodes))


def enumerate_functions(config: SearchConfig, progress: Progress = unseen) -> Enumeration:
    """Every function of the config's space that passes the in-controller checks.

    The checks are those of a search with this config, ``crowded`` apart, which depends on what a
    search has tried.

    Raises:
        ConfigError: the space is too large, or a template's.
    """
    if config.space.template:
        raise ConfigError("a template's graphs are not enumerated", where="space.template")
    table, nodes = draw_table(config.space), config.space.nodes
    evolution = config.evolution.model_copy(update={"same_start": 0})
    screen = Screen(config.model_copy(update={"evolution": evolution}))
    found = Enumeration(raw_sequences(table, nodes))
    digests: dict[str, int] = {}
    fingerprints: dict[str, int] = {}
    refused: Counter[str] = Counter()
    chances: dict[str, float] = {}
    for graph, chance in live_graphs(table, nodes):
        found.graphs += 1
        if found.graphs % 1000 == 0:
            progress("live graphs", found.graphs, 0)
        verdict = screen.judge(graph, digests, fingerprints)
        if verdict.code is not None:
            refused[verdict.code] += 1
            chances[verdict.code] = chances.get(verdict.code, 0.0) + chance
        if verdict.of is not None:
            function = found.functions[verdict.of]
            function.probability += chance
            if verdict.code == "duplicate":
                digests[verdict.digest] = verdict.of
                function.digests.append(verdict.digest)
        elif verdict.code is None:
            digests[verdict.digest] = fingerprints[verdict.fingerprint] = len(found.functions)
            found.functions.append(Function(graph, verdict.fingerprint, [verdict.digest], chance))
    found.refused = {code: (count, chances[code]) for code, count in refused.items()}
    return found


def uncrowded(functions: Sequence[Function], config: SearchConfig) -> list[int]:
    """Places of those that a search lets through if it comes to all of them in this order.

    The others begin as ``evolution.same_start`` earlier ones do: a search rejects them as
    ``crowded``, so this says how soon it has seen a space, however many functions there are.
    """
    screen, starts, full = Screen(config), Counter[str](), set[str]()
    tried: list[tuple[int, Graph]] = []
    for place, one in enumerate(functions):
        verdict = screen.judge(one.graph, {}, {}, full, tried)
        if verdict.code is None:
            start = screen.start(one.graph, verdict.digest)
            starts[start] += 1
            if starts[start] >= config.evolution.same_start:
                full.add(start)
            tried.append((place, one.graph))
    return [place for place, _ in tried]
