"""The parser of formula text: what people type becomes a graph, or one precise refusal.

The text is data: nothing is ever evaluated, every limit is checked before work is spent, and no
recursion depends on the text. This file must not import torch.

Grammar (names and numbers as below; spaces and line breaks are free)::

    formula    = { name "=" expression ";" } expression [ ";" ]
    expression = term { ("+" | "-") term }
    term       = factor { ("*" | "/") factor }
    factor     = { "-" } power
    power      = atom { ("^" | "**") "2" }
    atom       = "0" | "1" | constant | name | function "(" expression { "," expression } ")"
               | "(" expression ")"
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches

from primitives.errors import FormulaError
from primitives.graph import FIRST_OP, MAX_NODES, Graph, Node
from primitives.ops import INITIAL_NODES, OP_SETS, OPS, TypedPrimitive, typed_name
from primitives.rewrite import live_form

MAX_CHARACTERS = 20_000
MAX_NESTING = 200
MAX_NAME = 64

_FUNCTIONS: dict[str, tuple[int, TypedPrimitive]] = {
    typed_name(op, over): (row.arity, (op, over))
    for op, row in OPS.items()
    for over in row.index_sets or (None,)
    if row.arity
}
_LEAVES = {row.text: name for name, row in OPS.items() if row.arity == 0}
_SHORTHANDS = {"sub": 2, "relu": 1, "silu": 1}
_ARITY = {name: arity for name, (arity, _) in _FUNCTIONS.items()} | _SHORTHANDS
_INFIX = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
_BINDING = {"+": 1, "-": 1, "*": 2, "/": 2}
_NEG_BINDING = 3
_LOOKALIKES = {
    "−": "-", "–": "-", "—": "-", "·": "*", "×": "*", "∗": "*", "÷": "/", "∕": "/", "²": "^2",
    "（": "(", "）": ")", "，": ",",
}  # fmt: skip
_TOKEN = re.compile(r"[ \t\r\n]*(?:([A-Za-z_][A-Za-z0-9_]*)|([0-9.][0-9A-Za-z_.]*)|(\*\*|.))", re.S)


def parse(text: str, op_set: str | Iterable[TypedPrimitive] | None = None) -> Graph:
    """The graph that the formula text says, without dead nodes or repetitions.

    ``a - b`` and ``sub(a, b)`` become ``add(a, neg(b))``, ``1`` becomes ``exp(zero)``, ``relu(a)``
    becomes ``max(a, zero)``, ``silu(a)`` becomes ``a * sigmoid(a)``, ``a^2`` becomes ``square(a)``.
    Text that says an initial node alone becomes that node plus zero.

    Args:
        text: see the grammar in this module; at most 20,000 characters and 200 levels of nesting.
        op_set: name of an op set or typed primitives that the graph may use; ``None`` allows all.

    Raises:
        FormulaError: the text is no formula, is too large, or needs a primitive outside the op
            set; ``position`` is the offset of the first character that is wrong.

    Example:
        >>> parse("x / max(std_batch(x), v1 * x + std_instance(x))").nodes[0]
        Node(op='std', inputs=(0,), over='batch')
    """
    if not isinstance(text, str):
        raise FormulaError("not a formula", expected="text", got=type(text).__name__)
    if len(text) > MAX_CHARACTERS:
        raise FormulaError(
            "the formula is too long", expected=f"at most {MAX_CHARACTERS} characters",
            got=str(len(text)), hint="name what is used more than once: a = ...; a * a",
        )  # fmt: skip
    return _Parser(_tokens(text), len(text), _allowed(op_set)).formula()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    """``name``, ``number``, ``sign`` or ``end``."""
    text: str
    at: int


@dataclass(slots=True)
class _Open:
    """An operator that waits for its right side, or a bracket that waits to be closed."""

    kind: str
    """``infix``, ``neg``, ``(`` or ``call``."""
    text: str
    at: int
    binding: int = 0
    inputs: list[int] = field(default_factory=list)


def _allowed(op_set: str | Iterable[TypedPrimitive] | None) -> frozenset[TypedPrimitive] | None:
    if op_set is None:
        return None
    if not isinstance(op_set, str):
        return frozenset(op_set)
    if op_set not in OP_SETS:
        raise FormulaError(
            "unknown op set", expected="one of " + ", ".join(OP_SETS), got=repr(op_set)[:60]
        )
    return frozenset(OP_SETS[op_set])


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    body = text.rstrip(" \t\r\n")
    while found := _TOKEN.match(body, at):
        name, number, sign = found.groups()
        kind, word = ("name", name) if name else ("number", number) if number else ("sign", sign)
        at = found.end()
        if kind == "sign" and word not in "+-*/^**(),;=":
            _refuse_sign(word, at - 1)
        tokens.append(_Token(kind, word, at - len(word)))
    tokens.append(_Token("end", "", len(text)))
    return tokens


def _refuse_sign(sign: str, at: int) -> None:
    plain = _LOOKALIKES.get(sign)
    shown = repr(sign) if sign.isprintable() else f"the character U+{ord(sign):04X}"
    raise FormulaError(
        "unknown character", position=at,
        expected="a letter, a digit or one of + - * / ^ ( ) , ; =", got=shown,
        hint=f"write {plain}" if plain else None,
    )  # fmt: skip


class _Parser:
    """Two stacks, of values and of what is open; nothing here recurses."""

    def __init__(
        self, tokens: list[_Token], length: int, allowed: frozenset[TypedPrimitive] | None
    ) -> None:
        self.tokens, self.length, self.allowed = tokens, length, allowed
        self.next = 0
        self.nodes: list[Node] = []
        self.ids: dict[Node, int] = {}
        self.named: dict[str, int] = {}
        self.unused: dict[str, int] = {}
        self.open: list[_Open] = []
        self.values: list[int] = []
        self.nesting = 0

    def formula(self) -> Graph:
        while self.tokens[self.next].kind == "name" and self.tokens[self.next + 1].text == "=":
            self._definition()
        if self.tokens[self.next].kind == "end":
            raise FormulaError(
                "the formula has no result" if self.named else "the formula is empty",
                position=self.length, expected="an expression",
                hint="for example: " + (next(reversed(self.named), "max(x, zero)")),
            )  # fmt: skip
        root = self._expression()
        if self.tokens[self.next].text == ";":
            self.next += 1
        token = self.tokens[self.next]
        if token.kind != "end":
            raise FormulaError(
                "text after the result", position=token.at, expected="the end",
                got=_shown(token), hint="every line before the last needs a name: a = ...;",
            )  # fmt: skip
        if self.unused:
            name, at = next(iter(self.unused.items()))
            raise FormulaError("a name is never used", position=at, got=name[:MAX_NAME])
        if root < FIRST_OP:
            root = self._node("add", (root, 1), None, 0)
        return live_form(Graph(tuple(self.nodes[: root - FIRST_OP + 1])))

    def _definition(self) -> None:
        name = self.tokens[self.next]
        known: tuple[Container[str], ...] = (INITIAL_NODES, _LEAVES, _ARITY, self.named)
        taken = any(name.text in names for names in known)
        if taken or len(name.text) > MAX_NAME:
            raise FormulaError(
                "this name cannot be given", position=name.at,
                expected=f"a new name of at most {MAX_NAME} characters", got=_shown(name),
                hint="it already means something" if taken else None,
            )  # fmt: skip
        self.next += 2
        value = self._expression()
        token = self.tokens[self.next]
        if token.text != ";":
            raise FormulaError(
                f"the definition of {name.text} does not end", position=token.at,
                expected="; and then the result", got=_shown(token),
            )  # fmt: skip
        self.next += 1
        self.named[name.text] = value
        self.unused[name.text] = name.at

    def _expression(self) -> int:
        """Reads to ``;`` or the end and returns the value's index."""
        while True:
            self._operand()
            if not self._after_operand():
                return self.values.pop()

    def _operand(self) -> None:
        """Reads signs and opening brackets up to and with one plain operand."""
        while True:
            token = self.tokens[self.next]
            self.next += 1
            if token.text == "-":
                self._push(_Open("neg", "-", token.at, _NEG_BINDING))
            elif token.text == "(":
                self._push(_Open("(", "(", token.at))
            elif token.kind == "number":
                self.values.append(self._number(token))
                return
            elif token.kind == "name" and token.text in _ARITY:
                self._call(token)
            elif token.kind == "name":
                self.values.append(self._named(token))
                return
            else:
                raise FormulaError(
                    "an expression is missing", position=token.at,
                    expected="a name, 0, 1, - or (", got=_shown(token),
                )  # fmt: skip

    def _after_operand(self) -> bool:
        """Reads what may follow an operand; true where another operand must follow."""
        while True:
            token = self.tokens[self.next]
            if token.text in _BINDING and token.kind == "sign":
                self.next += 1
                self._reduce(_BINDING[token.text])
                self.open.append(_Open("infix", token.text, token.at, _BINDING[token.text]))
                return True
            if token.text in ("^", "**"):
                self._square(token)
            elif token.text == ",":
                self.next += 1
                self._comma(token)
                return True
            elif token.text == ")":
                self.next += 1
                self._close(token)
            else:
                self._finish(token)
                return False

    def _finish(self, token: _Token) -> None:
        self._reduce(0)
        if self.open:
            bracket = self.open[-1]
            raise FormulaError(
                "a bracket is not closed" if token.kind == "end" or token.text == ";"
                else "an operator is missing", position=token.at,
                expected=f") for the ( of character {bracket.at + 1}, or + - * /",
                got=_shown(token),
            )  # fmt: skip
        if token.kind != "end" and token.text != ";":
            raise FormulaError(
                "an operator is missing", position=token.at, got=_shown(token),
                expected="one of + - * / ^ ; or the end",
                hint="write a * b for a product" if token.text != "=" else None,
            )  # fmt: skip

    def _push(self, opened: _Open) -> None:
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise FormulaError(
                "the formula is nested too deeply", position=opened.at,
                expected=f"at most {MAX_NESTING} levels", hint="name the inner part: a = ...;",
            )  # fmt: skip
        self.open.append(opened)

    def _call(self, token: _Token) -> None:
        bracket = self.tokens[self.next]
        if bracket.text != "(":
            raise FormulaError(
                f"{token.text} is a function", position=bracket.at, expected="(",
                got=_shown(bracket), hint=f"write {_usage(token.text)}",
            )  # fmt: skip
        self.next += 1
        self._push(_Open("call", token.text, token.at))

    def _number(self, token: _Token) -> int:
        if token.text == "0":
            return 1
        if token.text == "1":
            return self._node("exp", (1,), None, token.at)
        if token.text in _LEAVES:
            return self._node(_LEAVES[token.text], (), None, token.at)
        raise FormulaError(
            "this number is no part of the language", position=token.at, expected="0, 0.5, 1 or 2",
            got=_shown(token), hint="v0 and v1 are trainable; constants are built from 0 and 1",
        )  # fmt: skip

    def _named(self, token: _Token) -> int:
        name = token.text
        if self.tokens[self.next].text == "(":
            _refuse_name(token, "unknown function", list(_ARITY))
        if name in INITIAL_NODES:
            return INITIAL_NODES.index(name)
        if name in _LEAVES:
            return self._node(_LEAVES[name], (), None, token.at)
        if name in self.named:
            self.unused.pop(name, None)
            return self.named[name]
        return _refuse_name(token, "unknown name", [*INITIAL_NODES, *_LEAVES, *self.named, *_ARITY])

    def _square(self, token: _Token) -> None:
        exponent = self.tokens[self.next + 1]
        if exponent.text != "2":
            raise FormulaError(
                "only squares are written as powers", position=exponent.at, expected="2",
                got=_shown(exponent),
            )  # fmt: skip
        self.next += 2
        self.values.append(self._node("square", (self.values.pop(),), None, token.at))

    def _reduce(self, binding: int) -> None:
        """Applies the open operators that bind at least as tightly."""
        while self.open and self.open[-1].binding >= max(binding, 1):
            operator = self.open.pop()
            right = self.values.pop()
            if operator.kind == "neg":
                self.nesting -= 1
                self.values.append(self._node("neg", (right,), None, operator.at))
            else:
                left = self.values.pop()
                name = _INFIX[operator.text]
                self.values.append(self._apply(name, [left, right], operator.at))

    def _comma(self, token: _Token) -> None:
        self._reduce(0)
        if not self.open or self.open[-1].kind != "call":
            raise FormulaError(
                "a comma outside a function", position=token.at,
                expected=") or an operator" if self.open else "an operator or the end", got="','",
            )  # fmt: skip
        call = self.open[-1]
        call.inputs.append(self.values.pop())
        if len(call.inputs) >= _ARITY[call.text]:
            _refuse_count(call, f"more than {_ARITY[call.text]}", token.at)

    def _close(self, token: _Token) -> None:
        self._reduce(0)
        if not self.open:
            raise FormulaError("a ) without its (", position=token.at, got="')'")
        bracket = self.open.pop()
        self.nesting -= 1
        if bracket.kind == "call":
            bracket.inputs.append(self.values.pop())
            if len(bracket.inputs) != _ARITY[bracket.text]:
                _refuse_count(bracket, str(len(bracket.inputs)), token.at)
            self.values.append(self._apply(bracket.text, bracket.inputs, bracket.at))

    def _apply(self, name: str, inputs: list[int], at: int) -> int:
        """The node of a function; shorthands are lowered to primitives here."""
        first = inputs[0]
        if name == "sub":
            return self._node("add", (first, self._node("neg", (inputs[1],), None, at)), None, at)
        if name == "relu":
            return self._node("max", (first, 1), None, at)
        if name == "silu":
            return self._node("mul", (first, self._node("sigmoid", (first,), None, at)), None, at)
        op, over = _FUNCTIONS[name][1]
        return self._node(op, tuple(inputs), over, at)

    def _node(self, op: str, inputs: tuple[int, ...], over: str | None, at: int) -> int:
        node = Node(op, inputs, over)
        known = self.ids.get(node)
        if known is not None:
            return known
        if self.allowed is not None and (op, over) not in self.allowed:
            raise FormulaError(
                "a primitive outside the op set", position=at,
                expected="only " + ", ".join(sorted(typed_name(*typed) for typed in self.allowed)),
                got=typed_name(op, over),
            )  # fmt: skip
        if len(self.nodes) >= MAX_NODES:
            raise FormulaError(
                "too many nodes", position=at, expected=f"at most {MAX_NODES} different ones"
            )
        self.nodes.append(node)
        self.ids[node] = FIRST_OP + len(self.nodes) - 1
        return self.ids[node]


def _refuse_name(token: _Token, what: str, known: list[str]) -> int:
    name = token.text
    near: list[str] = []
    if len(name) <= MAX_NAME:
        near = [word for word in known if word.startswith(name + "_")][:5]
        near = near or get_close_matches(name.lower(), known, n=3)
    raise FormulaError(
        what, position=token.at, got=_shown(token),
        expected=None if near else "x, zero, v0, v1, a name given before, or a function",
        hint=f"did you mean {' or '.join(near)}?" if near else None,
    )  # fmt: skip


def _refuse_count(call: _Open, got: str, at: int) -> None:
    raise FormulaError(
        f"wrong number of inputs for {call.text}", position=at, expected=str(_ARITY[call.text]),
        got=got, hint=f"write {_usage(call.text)}",
    )  # fmt: skip


def _usage(name: str) -> str:
    return f"{name}({', '.join('ab'[: _ARITY[name]])})"


def _shown(token: _Token) -> str:
    if token.kind == "end":
        return "the end"
    return repr(token.text if len(token.text) <= MAX_NAME else token.text[:24] + "...")
