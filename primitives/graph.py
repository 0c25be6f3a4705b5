"""The immutable computation graph and its JSON form, version 1.

A graph holds operations and nothing else: no shapes, weights, scores, ids or lineage. Each input
index is smaller than the node's own, so a graph is acyclic by construction. This file must not
import torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from primitives.errors import GraphError
from primitives.ops import INITIAL_NODES, OPS

JSON_VERSION = 1
FIRST_OP = len(INITIAL_NODES)
MAX_NODES = 256
"""Largest number of op nodes that a graph may have; a search sets its own, far smaller, limit."""


class Node(NamedTuple):
    """One operation: a primitive's name, the indices of its inputs, and its index set if any."""

    op: str
    inputs: tuple[int, ...]
    over: str | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """Tensor-to-tensor computation graph.

    ``nodes`` are the op nodes; the node at position ``i`` has index ``4 + i``, after the initial
    nodes 0 ``x``, 1 ``zero``, 2 ``v0``, 3 ``v1``. The last node is the output.

    Raises:
        GraphError: the graph breaks a rule; the error names node and reason.

    Example:
        >>> Graph((Node("rms", (0,), "batch"), Node("div", (0, 4)))).to_json_text()
        '{"version":1,"nodes":[{"op":"rms","inputs":[0],"over":"batch"},{"op":"div","inputs":[0,4]}]}'
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        count = len(self.nodes)
        if not 1 <= count <= MAX_NODES:
            raise GraphError(
                "a graph has at least one op node and a limited number of them",
                expected=f"1 to {MAX_NODES} op nodes",
                got=str(count),
            )
        for index, node in enumerate(self.nodes, FIRST_OP):
            row = OPS.get(node.op)
            if (
                row is None
                or len(node.inputs) != row.arity
                or not (node.over in row.index_sets if row.index_sets else node.over is None)
            ):
                _refuse_node(index, node)
            for source in node.inputs:
                if not 0 <= source < index:
                    _refuse_input(index, source)

    @property
    def output(self) -> int:
        """Index of the output node."""
        return FIRST_OP + len(self.nodes) - 1

    def node(self, index: int) -> Node:
        """The op node of that index (4 or more)."""
        return self.nodes[index - FIRST_OP]

    def live(self) -> tuple[int, ...]:
        """Indices of all nodes, initial ones included, that the output depends on, ascending."""
        needed = {self.output}
        for index in range(self.output, FIRST_OP - 1, -1):
            if index in needed:
                needed.update(self.nodes[index - FIRST_OP].inputs)
        return tuple(sorted(needed))

    def live_ops(self) -> tuple[int, ...]:
        """Indices of the live op nodes, ascending; their number is the layer's live nodes."""
        return tuple(index for index in self.live() if index >= FIRST_OP)

    def to_json(self) -> dict[str, Any]:
        """Graph JSON, version 1, as plain data."""
        nodes: list[dict[str, Any]] = []
        for node in self.nodes:
            entry: dict[str, Any] = {"op": node.op, "inputs": list(node.inputs)}
            if node.over is not None:
                entry["over"] = node.over
            nodes.append(entry)
        return {"version": JSON_VERSION, "nodes": nodes}

    def to_json_text(self) -> str:
        """Graph JSON, version 1, as compact text."""
        return json.dumps(self.to_json(), separators=(",", ":"))

    @staticmethod
    def from_json(data: object) -> Graph:
        """The graph that the JSON data describes; anything else than version 1 is refused.

        Raises:
            GraphError: unknown key, op or version, wrong arity, forward reference, too many nodes.
        """
        if not isinstance(data, dict):
            raise GraphError("not a graph", expected="a JSON object", got=_kind(data))
        _refuse_keys(data, {"version", "nodes"}, None)
        version = data.get("version")
        if type(version) is not int or version != JSON_VERSION:
            newer = type(version) is int and version > JSON_VERSION
            raise GraphError(
                "unsupported graph version",
                expected=str(JSON_VERSION),
                got=_short(version),
                hint="install a newer evosearch" if newer else None,
            )
        nodes = data.get("nodes")
        if not isinstance(nodes, list):
            raise GraphError("bad nodes", expected="a list of node objects", got=_kind(nodes))
        if len(nodes) > MAX_NODES:
            raise GraphError("too many nodes", expected=f"at most {MAX_NODES}", got=str(len(nodes)))
        return Graph(tuple(_node(index, entry) for index, entry in enumerate(nodes, FIRST_OP)))

    @staticmethod
    def from_json_text(text: str) -> Graph:
        """The graph in the JSON text; duplicate keys, NaN and deep nesting are refused.

        Raises:
            GraphError: the text is no JSON, or no graph.
        """
        try:
            data = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
        except GraphError:
            raise
        except (ValueError, RecursionError) as err:
            reason = "nested too deeply" if isinstance(err, RecursionError) else str(err)
            raise GraphError("not JSON: " + reason[:120]) from err
        return Graph.from_json(data)


def _refuse_node(index: int, node: Node) -> None:
    row = OPS.get(node.op)
    if row is None:
        raise GraphError(
            "unknown primitive", position=index, expected="one of " + ", ".join(OPS),
            got=_short(node.op),
        )  # fmt: skip
    if len(node.inputs) != row.arity:
        raise GraphError(
            f"wrong number of inputs for {node.op}", position=index, expected=str(row.arity),
            got=str(len(node.inputs)),
        )  # fmt: skip
    if row.index_sets:
        raise GraphError(
            f"{node.op} needs an index set", position=index,
            expected="over one of " + ", ".join(row.index_sets), got=_short(node.over),
        )  # fmt: skip
    raise GraphError(
        f"{node.op} takes no index set", position=index, expected="no key 'over'",
        got=_short(node.over),
    )  # fmt: skip


def _refuse_input(index: int, source: int) -> None:
    raise GraphError(
        "an input must come before its node", position=index,
        expected=f"an index from 0 to {index - 1}", got=_short(source),
    )  # fmt: skip


def _node(index: int, entry: object) -> Node:
    if not isinstance(entry, dict):
        raise GraphError("bad node", position=index, expected="a JSON object", got=_kind(entry))
    _refuse_keys(entry, {"op", "inputs", "over"}, index)
    op, inputs, over = entry.get("op"), entry.get("inputs"), entry.get("over")
    if not isinstance(op, str):
        raise GraphError("bad op", position=index, expected="a primitive's name", got=_short(op))
    if not isinstance(inputs, list) or not all(type(source) is int for source in inputs):
        raise GraphError(
            "bad inputs", position=index, expected="a list of node indices", got=_short(inputs)
        )
    if over is not None and not isinstance(over, str):
        raise GraphError("bad index set", position=index, expected="a word", got=_short(over))
    return Node(op, tuple(inputs), over)


def _refuse_keys(data: dict[Any, Any], known: set[str], position: int | None) -> None:
    for key in data:
        if key not in known:
            raise GraphError(
                "unknown key", position=position, expected="only " + ", ".join(sorted(known)),
                got=_short(key),
            )  # fmt: skip


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in pairs:
        if key in data:
            raise GraphError("a key stands twice", got=_short(key))
        data[key] = value
    return data


def _refuse_constant(name: str) -> None:
    raise GraphError("not a JSON number", got=name)


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def _short(value: object) -> str:
    """A value in an error message, cut to a bounded length whatever its size."""
    if isinstance(value, int) and value.bit_length() > 128:
        return "a huge integer"
    if isinstance(value, (list, tuple, dict)) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)} entries"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
