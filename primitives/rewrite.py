"""Canonical forms of graphs: dead nodes dropped, equal nodes merged, rules applied to the end.

Nodes are rebuilt bottom-up in a table that never holds the same node twice; each new node is
rewritten by `primitives.rules` before it enters. This file decides nothing about which identities
hold and must not import torch.
"""

from __future__ import annotations

from itertools import product

from primitives.graph import FIRST_OP, Graph, Node
from primitives.ops import COMMUTATIVE, INDEX_SETS, INITIAL_NODES, OPS, VECTORS, typed_name
from primitives.rules import ALGEBRAIC, EXACT, Pattern, Rule

__all__ = ["ALGEBRAIC", "EXACT", "canonical", "canonical_nodes", "live_form", "simplify", "weight"]

# Every initial node and typed primitive has a small number, its code.
_TYPED = [(op, over) for op, row in OPS.items() for over in row.index_sets or (None,)]
_NAMES = (*INITIAL_NODES, *(typed_name(op, over) for op, over in _TYPED))
_CODES = {name: code for code, name in enumerate(_NAMES)}
_CODE_OF = {typed: code for code, typed in enumerate(_TYPED, FIRST_OP)}
_SWAPS = frozenset(_CODES[name] for name in COMMUTATIVE)
_SPAN = 4096  # more than all codes; rows of users' own get the next ones
_ANY = -1

# Axes a value varies over; the channels are split into those inside ("g") and between groups.
_BIT = {"b": 1, "s": 2, "g": 4, "G": 8}
_AXES = {
    over: sum(_BIT[axis] for axis in axes.replace("c", "gG")) for over, axes in INDEX_SETS.items()
}
_LEAF_VARIES = [15, 0, 12, 12]
_LEAF_NONNEGATIVE = [False, True, False, False]


def _keeps_sign(properties: frozenset[str]) -> bool:
    """Nonnegative inputs give a nonnegative value: f(0) = 0 and f does not fall, or a mean."""
    return properties >= {"odd", "increasing"} or properties >= {"linear", "fixes_zero"}


_ALWAYS_NONNEGATIVE = frozenset(
    code for (op, _), code in _CODE_OF.items() if OPS[op].properties & {"nonnegative", "positive"}
)
_KEEPS_SIGN = frozenset(
    code
    for (op, _), code in _CODE_OF.items()
    if op in ("add", "mul", "div", "max") or _keeps_sign(OPS[op].properties)
)
_MAX = _CODES["max"]
_VECTOR_VARIES = {_CODES[name]: _LEAF_VARIES[2] for name in VECTORS}


class _Index:
    """The rules that can apply to a node, found by its code and those of its inputs."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rows = [
            (pattern, rule) for rule in rules for pattern in dict.fromkeys(_orders(rule.pattern))
        ]
        self.found: dict[tuple[int, ...], tuple[tuple[Pattern, Rule], ...]] = {}

    def lookup(self, codes: tuple[int, ...]) -> tuple[tuple[Pattern, Rule], ...]:
        rows = tuple(row for row in self.rows if _may_match(row[0], codes))
        self.found[codes] = rows
        return rows


def _orders(pattern: Pattern) -> list[Pattern]:
    """The pattern with the inputs of commutative primitives in all orders."""
    if isinstance(pattern, str):
        return [pattern]
    head, *inputs = pattern
    variants = [(head, *chosen) for chosen in product(*map(_orders, inputs))]
    if head in COMMUTATIVE:
        variants += [(head, right, left) for _, left, right in variants]
    return variants


def _head(pattern: Pattern) -> int:
    """Code of the pattern's root; ``_ANY`` for a variable."""
    return _CODES.get(pattern, _ANY) if isinstance(pattern, str) else _CODES[pattern[0]]


def _may_match(pattern: Pattern, codes: tuple[int, ...]) -> bool:
    head, *inputs = pattern
    if _CODES[head] != codes[0]:
        return False
    if len(inputs) == 2 and inputs[0] == inputs[1] and codes[1] != codes[2]:
        return False
    return all(
        _head(wanted) in (_ANY, code) for wanted, code in zip(inputs, codes[1:], strict=True)
    )


_EXACT_INDEX = _Index(EXACT)
_ALL_INDEX = _Index(EXACT + ALGEBRAIC)


class _Table:
    """Nodes by number, each once; inputs have smaller numbers; 0 to 3 are the initial nodes."""

    __slots__ = ("_code", "_ids", "_index", "_inputs", "_nonnegative", "_rank", "_varies")

    def __init__(self, index: _Index | None) -> None:
        self._index = index
        self._ids: dict[tuple[int, ...], int] = {}
        self._code = [0, 1, 2, 3]
        self._inputs: list[tuple[int, ...]] = [(), (), (), ()]
        # Height and code in one number: the first criterion of the structural order.
        self._rank = [0, 1, 2, 3]
        self._nonnegative = _LEAF_NONNEGATIVE.copy()
        self._varies = _LEAF_VARIES.copy()

    def nonnegative(self, node: int) -> bool:
        return self._nonnegative[node]

    def constant_over(self, node: int, index_set: str) -> bool:
        return not self._varies[node] & _AXES[index_set]

    def add(self, code: int, inputs: tuple[int, ...]) -> int:
        """Number of the node, in normal form where the table has rules."""
        index, codes = self._index, self._code
        while True:
            if index is not None and code in _SWAPS and self._before(inputs[1], inputs[0]):
                inputs = (inputs[1], inputs[0])
            known = self._ids.get((code, *inputs))
            if known is not None:
                return known
            if index is None:
                return self._enter(code, inputs)
            heads = (code, *[codes[source] for source in inputs])
            rows = index.found.get(heads)
            if rows is None:
                rows = index.lookup(heads)
            for pattern, rule in rows:
                matched = self._matched(pattern, inputs)
                if matched is not None and (rule.when is None or rule.when(self, **matched)):
                    built = rule.build(**matched)
                    break
            else:
                return self._enter(code, inputs)
            if not isinstance(built, tuple):
                return self._build(built)
            # The root goes round the loop: chains of rewrites at a root need no recursion.
            code, inputs = _CODES[built[0]], tuple(map(self._build, built[1:]))

    def _build(self, built: Pattern) -> int:
        if isinstance(built, int):
            return built
        if isinstance(built, str):
            return _CODES[built]
        return self.add(_CODES[built[0]], tuple(map(self._build, built[1:])))

    def _enter(self, code: int, inputs: tuple[int, ...]) -> int:
        number = len(self._code)
        self._ids[(code, *inputs)] = number
        self._code.append(code)
        self._inputs.append(inputs)
        height, varies, nonnegative = 0, _VECTOR_VARIES.get(code, 0), True
        if inputs:
            height, varies = self._rank[inputs[0]], self._varies[inputs[0]]
        if len(inputs) == 2:
            height = max(height, self._rank[inputs[1]])
            varies |= self._varies[inputs[1]]
        over = _TYPED[code - FIRST_OP][1]
        if over is not None:
            varies &= ~_AXES[over]
        if code not in _ALWAYS_NONNEGATIVE:
            signs = [self._nonnegative[source] for source in inputs]
            nonnegative = code in _KEEPS_SIGN and (any(signs) if code == _MAX else all(signs))
        self._rank.append((height // _SPAN + 1) * _SPAN + code)
        self._varies.append(varies)
        self._nonnegative.append(nonnegative)
        return number

    def _before(self, a: int, b: int) -> bool:
        """Structural order: height, primitive, then the first inputs that differ."""
        rank = self._rank
        while a != b:
            if rank[a] != rank[b]:
                return rank[a] < rank[b]
            # Equal nodes have equal numbers, so only one pair need be followed.
            a, b = next(
                pair
                for pair in zip(self._inputs[a], self._inputs[b], strict=True)
                if pair[0] != pair[1]
            )
        return False

    def _matched(self, pattern: Pattern, inputs: tuple[int, ...]) -> dict[str, int] | None:
        """The variables' nodes where the inputs fit the pattern."""
        matched: dict[str, int] = {}
        open_pairs = list(zip(pattern[1:], inputs, strict=True))
        while open_pairs:
            wanted, node = open_pairs.pop()
            if isinstance(wanted, str):
                if matched.setdefault(wanted, node) != node:
                    return None
                if wanted in INITIAL_NODES:
                    if _CODES[wanted] != node:
                        return None
                    del matched[wanted]
            elif self._code[node] != _CODES[wanted[0]]:
                return None
            else:
                open_pairs += zip(wanted[1:], self._inputs[node], strict=True)
        return matched

    def nodes_under(self, root: int) -> tuple[Node, ...]:
        """The nodes that ``root`` needs as a graph's nodes, inputs before users, left first."""
        if root < FIRST_OP:
            return (Node("add", (root, 1)),)
        place = {0: 0, 1: 1, 2: 2, 3: 3}
        ordered: list[Node] = []
        waiting = [root]
        while waiting:
            node = waiting[-1]
            inputs = self._inputs[node]
            missing = [source for source in inputs if source not in place]
            if missing:
                waiting += reversed(missing)
                continue
            waiting.pop()
            if node not in place:
                op, over = _TYPED[self._code[node] - FIRST_OP]
                place[node] = FIRST_OP + len(ordered)
                ordered.append(Node(op, tuple([place[source] for source in inputs]), over))
        return tuple(ordered)


def _normal_nodes(graph: Graph, index: _Index | None) -> tuple[Node, ...]:
    """Live nodes of the graph, rewritten by the index's rules and numbered inputs first."""
    nodes = graph.nodes
    live = bytearray(FIRST_OP + len(nodes))
    live[-1] = 1
    for position in range(len(nodes) - 1, -1, -1):
        if live[FIRST_OP + position]:
            for source in nodes[position].inputs:
                live[source] = 1
    table = _Table(index)
    place = [0, 1, 2, 3]
    for position, (op, inputs, over) in enumerate(nodes):
        if live[FIRST_OP + position]:
            place.append(table.add(_CODE_OF[op, over], tuple([place[source] for source in inputs])))
        else:
            place.append(0)
    return table.nodes_under(place[-1])


def live_form(graph: Graph) -> Graph:
    """The graph without dead nodes and repetitions; no rule applied, no input moved."""
    return Graph(_normal_nodes(graph, None))


def canonical_nodes(graph: Graph) -> tuple[Node, ...]:
    """The op nodes of `canonical`, without the cost of checking a graph that is right."""
    return _normal_nodes(graph, _EXACT_INDEX)


def canonical(graph: Graph) -> Graph:
    """The live graph with ordered commutative inputs, after all exact rules.

    Its value equals the graph's bit for bit where all values inside are finite, -0 counting as 0.
    Where it is an initial node ``k``, the form is the one node ``add(k, zero)``, because a graph
    has an op node.

    Returns:
        A graph that `canonical` maps to itself; equal for graphs that differ in the order of
        nodes, in dead nodes, repetitions, commuted inputs or exact identities.

    Raises:
        GraphError: the form has more than the allowed nodes; a sign or absolute value that several
            nodes shared can come to stand outside each of them, so the form may be longer than the
            graph (its `weight` is not larger).

    Example:
        >>> twice = Graph((Node("neg", (0,)), Node("neg", (4,)), Node("mul", (5, 0))))
        >>> canonical(twice).nodes
        (Node(op='square', inputs=(0,), over=None),)
    """
    return Graph(canonical_nodes(graph))


def simplify(graph: Graph) -> Graph:
    """The live graph after exact and algebraic rules: equal over the reals, poles aside.

    For the search for duplicates and for display; training the result instead of the graph would
    change rounding.
    """
    return Graph(_normal_nodes(graph, _ALL_INDEX))


def weight(graph: Graph) -> int:
    """The size measure that every rule makes smaller, of the output written as a tree.

    Signs and absolute values cost less outside than inside, so that they may move outward;
    the two functions that write constants (1 and sqrt(eps)) cost less than others, and a primitive
    that rules write by others costs more than what they write.
    """
    weights = [1, 1, 1, 1]
    for op, inputs, over in graph.nodes:
        below = sum(weights[source] for source in inputs)
        if op == "neg":
            weights.append(1 + below)
        elif op == "abs":
            weights.append(2 + below)
        else:
            cheap = op == "exp" or (op, over) == ("rms", "instance")
            own = 20 if "derived" in OPS[op].properties else 3 if cheap else 4
            weights.append(own + 2 * below)
    return weights[-1]
