"""Formula text of a graph, spaced as in the paper; the inverse of `primitives.formula`.

Only live nodes are printed and nothing is rewritten: reading the text again gives the same live
graph. This file must not import torch.
"""

from __future__ import annotations

from primitives.errors import FormulaError
from primitives.graph import FIRST_OP, Graph, Node
from primitives.ops import INITIAL_NODES, OPS, typed_name
from primitives.rewrite import live_form

MAX_PLAIN = 4_000
"""Longest text that is printed without names for shared nodes."""

_MAX_LEVELS = 60
"""A term this deep gets a name, so that no text nests deeper than the parser reads."""

_SUM, _PRODUCT, _ATOM = 1, 2, 3
_INFIX = {"mul": " * ", "div": " / "}
_NAMES = "abcdefghijkmnpqrstuw"


def format_formula(graph: Graph, *, name_shared: bool = True) -> str:
    """Formula text of the live graph with as few brackets as its reading allows.

    An op node that is used more than once gets a name in front: ``a = std_batch(x); x / (a * a)``;
    signs and the constant 1 do not.

    Args:
        graph: the graph; left and right inputs keep their places.
        name_shared: whether to name shared nodes; without names they are repeated.

    Raises:
        FormulaError: without names the text would be longer than 4,000 characters.

    Example:
        >>> from primitives.formula import parse
        >>> format_formula(parse("(x)*sigmoid((v1 * x)) / std_group(x)"))
        'x * sigmoid(v1 * x) / std_group(x)'
    """
    nodes = live_form(graph).nodes
    if not name_shared:
        _refuse_long(nodes)
    named = _needing_names(nodes) if name_shared else set()
    texts = [(name, _ATOM) for name in INITIAL_NODES]
    definitions: list[str] = []
    for index, node in enumerate(nodes, FIRST_OP):
        text = _text(node, nodes, texts)
        if index in named:
            name = _name(len(definitions))
            definitions.append(f"{name} = {text[0]}; ")
            text = (name, _ATOM)
        texts.append(text)
    return "".join(definitions) + texts[-1][0]


def _is_one(node: Node) -> bool:
    return node.op == "exp" and node.inputs == (1,)


def _text(node: Node, nodes: tuple[Node, ...], texts: list[tuple[str, int]]) -> tuple[str, int]:
    """A node's text and how tightly it binds."""
    if _is_one(node):
        return "1", _ATOM
    if not node.inputs:
        return OPS[node.op].text, _ATOM
    parts = [texts[source] for source in node.inputs]
    if node.op == "add":
        return _sum(node, nodes, texts), _SUM
    if node.op in _INFIX:
        # A factor on the right needs brackets even around a product: a / (b * c).
        left, right = _within(parts[0], _PRODUCT), _within(parts[1], _ATOM)
        return left + _INFIX[node.op] + right, _PRODUCT
    if node.op == "neg":
        return "-" + _within(parts[0], _ATOM), _ATOM
    return f"{typed_name(node.op, node.over)}({', '.join(text for text, _ in parts)})", _ATOM


def _sum(node: Node, nodes: tuple[Node, ...], texts: list[tuple[str, int]]) -> str:
    left, right = node.inputs
    sign = " + "
    if right >= FIRST_OP and nodes[right - FIRST_OP].op == "neg" and texts[right][0][0] == "-":
        sign, right = " - ", nodes[right - FIRST_OP].inputs[0]
    return _within(texts[left], _SUM) + sign + _within(texts[right], _PRODUCT)


def _within(part: tuple[str, int], binding: int) -> str:
    text, own = part
    return text if own >= binding else f"({text})"


def _needing_names(nodes: tuple[Node, ...]) -> set[int]:
    """Op nodes used more than once, and those that would nest too deeply."""
    uses = [0] * (FIRST_OP + len(nodes))
    uses[-1] = 1
    # A sign is written at every use, so it passes its uses on.
    for index in range(FIRST_OP + len(nodes) - 1, FIRST_OP - 1, -1):
        node = nodes[index - FIRST_OP]
        for source in node.inputs:
            uses[source] += uses[index] if node.op == "neg" else 1
    named: set[int] = set()
    levels = [0] * FIRST_OP
    for index, node in enumerate(nodes, FIRST_OP):
        level = 1 + max((levels[source] for source in node.inputs), default=0)
        last = index == FIRST_OP + len(nodes) - 1
        shared = uses[index] > 1 and node.op != "neg" and not _is_one(node) and node.inputs
        if not last and (shared or level >= _MAX_LEVELS):
            named.add(index)
            level = 0
        levels.append(level)
    return named


def _name(number: int) -> str:
    letter = _NAMES[number % len(_NAMES)]
    return letter if number < len(_NAMES) else f"{letter}{number // len(_NAMES)}"


def _refuse_long(nodes: tuple[Node, ...]) -> None:
    """Refuses before the text is built; brackets and spaces are not counted."""
    lengths = [len(name) for name in INITIAL_NODES]
    for node in nodes:
        lengths.append(
            1 + sum(lengths[source] for source in node.inputs)
            + (0 if node.op in ("add", "mul", "div", "neg") else len(node.op))
        )  # fmt: skip
    if lengths[-1] > MAX_PLAIN:
        raise FormulaError(
            "the formula is too long to print without names",
            expected=f"at most {MAX_PLAIN} characters",
            got="far more" if lengths[-1].bit_length() > 64 else str(lengths[-1]),
            hint="let shared nodes be named (name_shared=True)",
        )
