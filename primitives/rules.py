"""The rewrite rules as two tables of pattern -> function; it must not import torch.

``EXACT`` rules keep every value bit for bit while all values are finite, -0 counting as 0 (they
differ only at a pole); so they define the canonical form and the digest.
``ALGEBRAIC`` rules hold over the reals only and serve the search for duplicates. The tables are
never mixed. Families such as "odd functions" are read off the op table's properties.

A pattern is a tuple ``(typed primitive, *inputs)``; words other than the initial nodes' names are
variables, the same word meaning the same node. A function takes the matched nodes and returns one
of them, the name of an initial node, or a tuple of the same shape. Commutative inputs match in
either order. Every rule makes `primitives.rewrite.weight` fall, so rewriting ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from primitives.ops import (
    AGGREGATIONS,
    ELEMENTWISE,
    INDEX_SETS,
    OPS,
    typed_name,
)

Pattern = Any
"""A variable, an initial node's name, or ``(typed primitive, *patterns)``."""


class Facts(Protocol):
    """What a rule's condition may ask about a matched node."""

    def nonnegative(self, node: int) -> bool:
        """Whether the value is never below zero, whatever the inputs."""
        ...

    def constant_over(self, node: int, index_set: str) -> bool:
        """Whether the value is the same along every axis of the index set."""
        ...


@dataclass(frozen=True, slots=True)
class Rule:
    """One identity: ``pattern`` may be replaced by ``build(**matched)`` where ``when`` holds."""

    pattern: Pattern
    build: Callable[..., Pattern]
    when: Callable[..., bool] | None = None


def _having(*properties: str, of: tuple[str, ...] = ELEMENTWISE) -> tuple[str, ...]:
    """Typed names of the primitives with all of the properties."""
    return tuple(
        typed_name(name, over)
        for name in of
        if OPS[name].properties.issuperset(properties)
        for over in OPS[name].index_sets or (None,)
    )


ONE = ("exp", "zero")
"""The constant 1; the exponential of zero is exactly 1."""

ROOT_EPS = ("rms_instance", "zero")
"""The constant sqrt(eps), which every root-mean-square and deviation of a constant zero is."""

_DERIVED = _having("derived")
_EVEN = _having("even") + _having("even", of=AGGREGATIONS)
_ODD = tuple(name for name in _having("odd") if name != "neg" and name not in _DERIVED)
_ODD += _having("linear", of=AGGREGATIONS)
_FIXING = _having("fixes_zero") + _having("fixes_zero", of=AGGREGATIONS)
_FIXING_NONNEGATIVE = _having("fixes_nonnegative")
_RISING_ODD = _having("odd", "increasing")
_BLIND_TO_SIGN = ("square", *(f"rms_{over}" for over in INDEX_SETS))
# In evaluation mode a batch moment is a moving average that starts elsewhere: not the same bits.
_MEMORYLESS = tuple(over for over in INDEX_SETS if over != "batch")


def _nonnegative(facts: Facts, n: int, **_: int) -> bool:
    return facts.nonnegative(n)


def _both_nonnegative(facts: Facts, n: int, m: int) -> bool:
    return facts.nonnegative(n) and facts.nonnegative(m)


def _even(f: str) -> Rule:
    return Rule((f, ("neg", "a")), lambda a: (f, a))


def _odd(f: str) -> Rule:
    return Rule((f, ("neg", "a")), lambda a: ("neg", (f, a)))


def _fixes_zero(f: str) -> Rule:
    return Rule((f, "zero"), lambda: "zero")


def _ignores_abs(f: str) -> Rule:
    return Rule((f, ("abs", "a")), lambda a: (f, a))


def _abs_outward(f: str) -> Rule:
    return Rule((f, ("abs", "a")), lambda a: ("abs", (f, a)))


def _root_of_guard(f: str) -> Rule:
    return Rule((f, "zero"), lambda: ROOT_EPS)


EXACT: tuple[Rule, ...] = (
    # Signs move outward, where they meet and vanish.
    Rule(("neg", ("neg", "a")), lambda a: a),  # -(-a) = a
    Rule(("neg", "zero"), lambda: "zero"),  # -0 = 0
    Rule(("add", ("neg", "a"), ("neg", "b")), lambda a, b: ("neg", ("add", a, b))),  # -a-b = -(a+b)
    Rule(("neg", ("add", ("neg", "a"), "b")), lambda a, b: ("add", a, ("neg", b))),  # -(-a+b) = a-b
    Rule(("mul", ("neg", "a"), "b"), lambda a, b: ("neg", ("mul", a, b))),  # (-a) b = -(a b)
    Rule(("div", ("neg", "a"), "b"), lambda a, b: ("neg", ("div", a, b))),  # (-a) / b = -(a / b)
    Rule(("div", "a", ("neg", "b")), lambda a, b: ("neg", ("div", a, b))),  # a / (-b) = -(a / b)
    *(_even(f) for f in _EVEN),  # f(-a) = f(a): abs, square, rms, std
    *(_odd(f) for f in _ODD),  # f(-a) = -f(a): tanh, log, sqrt, mean
    # Primitives that others say.
    Rule(("subtract", "a", "b"), lambda a, b: ("add", a, ("neg", b))),  # a - b
    Rule(("min", "a", "b"), lambda a, b: ("neg", ("max", ("neg", a), ("neg", b)))),  # min(a, b)
    Rule(("reciprocal", "a"), lambda a: ("div", ONE, a)),  # 1 / a
    # Zero and one.
    *(_fixes_zero(f) for f in _FIXING),  # f(0) = 0: tanh, log, abs, square, sqrt, mean
    *(_root_of_guard(f"rms_{o}") for o in _MEMORYLESS if o != "instance"),  # rms(0) = sqrt(eps)
    *(_root_of_guard(f"std_{o}") for o in _MEMORYLESS),  # std(0) = sqrt(eps)
    Rule(("add", "a", "zero"), lambda a: a),  # a + 0 = a
    Rule(("mul", "a", ONE), lambda a: a),  # a * 1 = a
    Rule(("div", "a", ONE), lambda a: a),  # a / 1 = a
    Rule(("square", ONE), lambda: ONE),  # 1 * 1 = 1
    # The larger of related values.
    Rule(("max", "a", "a"), lambda a: a),  # max(a, a) = a
    Rule(("max", "a", ("max", "a", "b")),
         lambda a, b: ("max", a, b)),  # max(a, max(a,b)) = max(a,b)
    Rule(("max", "a", ("neg", "a")), lambda a: ("abs", a)),  # max(a, -a) = |a|
    Rule(("max", "a", ("abs", "a")), lambda a: ("abs", a)),  # max(a, |a|) = |a|
    Rule(("max", "n", "zero"), lambda n: n, _nonnegative),  # max(n, 0) = n for n >= 0
    Rule(("max", "zero", ("neg", "n")),
         lambda n: "zero", _nonnegative),  # max(0, -n) = 0 for n >= 0
    Rule(("max", ("neg", "n"), "m"),
         lambda n, m: m, _both_nonnegative),  # max(-n, m) = m, n, m >= 0
    # Squares and absolute values.
    Rule(("mul", "a", "a"), lambda a: ("square", a)),  # a a = a^2
    *(Rule((f, "n"), lambda n: n, _nonnegative) for f in _FIXING_NONNEGATIVE),  # |n| = n for n >= 0
    *(_ignores_abs(f) for f in _BLIND_TO_SIGN),  # f(|a|) = f(a): square, rms
    *(_abs_outward(f) for f in _RISING_ODD),  # f(|a|) = |f(a)|: tanh, sqrt
    Rule(("mul", ("abs", "a"), "n"),
         lambda a, n: ("abs", ("mul", a, n)), _nonnegative),  # |a| n = |a n|
    Rule(("div", ("abs", "a"), "n"),
         lambda a, n: ("abs", ("div", a, n)), _nonnegative),  # |a|/n = |a/n|
    Rule(("div", "n", ("abs", "a")),
         lambda a, n: ("abs", ("div", n, a)), _nonnegative),  # n/|a| = |n/a|
    Rule(("abs", ("mul", ("abs", "a"), "b")),
         lambda a, b: ("abs", ("mul", a, b))),  # ||a| b| = |a b|
    Rule(("abs", ("div", ("abs", "a"), "b")),
         lambda a, b: ("abs", ("div", a, b))),  # ||a|/b| = |a/b|
    Rule(("abs", ("div", "a", ("abs", "b"))),
         lambda a, b: ("abs", ("div", a, b))),  # |a/|b|| = |a/b|
)  # fmt: skip


def _axes(index_set: str) -> frozenset[str]:
    """The axes of an index set, channels split into those inside and those between groups."""
    return frozenset(INDEX_SETS[index_set].replace("c", "gG"))


def _mean_of_mean(outer: str, inner: str) -> Rule | None:
    """The rule for a mean of a mean, where one mean over a named index set says the same."""
    union = _axes(outer) | _axes(inner)
    for over in INDEX_SETS:
        if _axes(over) == union:
            pattern = (f"mean_{outer}", (f"mean_{inner}", "a"))
            return Rule(pattern, lambda a, f=f"mean_{over}": (f, a))
    return None


def _moments_of_constants(over: str) -> tuple[Rule, ...]:
    """Moments over an index set of something (``c``) that does not vary over it."""
    mean, std = f"mean_{over}", f"std_{over}"

    def constant(facts: Facts, c: int, **_: int) -> bool:
        return facts.constant_over(c, over)

    return (
        Rule((mean, "c"), lambda c: c, constant),  # mean(c) = c
        Rule((std, "c"), lambda c: ROOT_EPS, constant),  # std(c) = sqrt(0 + eps)
        Rule((std, ("add", "a", "c")), lambda a, c: (std, a), constant),  # std(a + c) = std(a)
        Rule((mean, ("add", "a", "c")), lambda a, c: ("add", (mean, a), c), constant),  # + c
        Rule((mean, ("mul", "a", "c")), lambda a, c: ("mul", (mean, a), c), constant),  # * c
        Rule((mean, ("div", "a", "c")), lambda a, c: ("div", (mean, a), c), constant),  # / c
    )  # fmt: skip


def _max_inward(f: str) -> Rule:
    return Rule(("max", (f, "a"), (f, "b")), lambda a, b: (f, ("max", a, b)))


_MINUS_B = ("neg", "b")
_MEANS_OF_MEANS = (_mean_of_mean(o, i) for o in INDEX_SETS for i in INDEX_SETS)

ALGEBRAIC: tuple[Rule, ...] = (
    # Cancelling; poles aside.
    Rule(("add", "a", ("neg", "a")), lambda a: "zero"),  # a - a = 0
    Rule(("add", ("add", "a", "b"), _MINUS_B), lambda a, b: a),  # a + b - b = a
    Rule(("add", ("add", "a", _MINUS_B), "b"), lambda a, b: a),  # a - b + b = a
    Rule(("mul", "a", "zero"), lambda a: "zero"),  # a 0 = 0
    Rule(("div", "zero", "a"), lambda a: "zero"),  # 0 / a = 0
    Rule(("div", "a", "a"), lambda a: ONE),  # a / a = 1
    Rule(("mul", ("div", "a", "b"), "b"), lambda a, b: a),  # (a / b) b = a
    Rule(("div", ("mul", "a", "b"), "b"), lambda a, b: a),  # a b / b = a
    Rule(("div", ("square", "a"), "a"), lambda a: a),  # a^2 / a = a
    Rule(("div", "a", ("mul", "a", "b")), lambda a, b: ("div", ONE, b)),  # a / (a b) = 1 / b
    Rule(("div", "a", ("square", "a")), lambda a: ("div", ONE, a)),  # a / a^2 = 1 / a
    Rule(("div", ONE, ("div", "a", "b")), lambda a, b: ("div", b, a)),  # 1 / (a / b) = b / a
    Rule(("mul", "a", ("div", ONE, "b")), lambda a, b: ("div", a, b)),  # a (1 / b) = a / b
    # Gathering: one function where there were two.
    Rule(("mul", ("square", "a"), ("square", "b")),
         lambda a, b: ("square", ("mul", a, b))),  # a^2 b^2
    Rule(("div", ("square", "a"), ("square", "b")),
         lambda a, b: ("square", ("div", a, b))),  # a^2/b^2
    Rule(("mul", ("exp", "a"), ("exp", "b")),
         lambda a, b: ("exp", ("add", a, b))),  # e^a e^b = e^(a+b)
    Rule(("div", ("exp", "a"), ("exp", "b")),
         lambda a, b: ("exp", ("add", a, ("neg", b)))),  # e^(a-b)
    Rule(("add", ("mul", "a", "c"), ("mul", "b", "c")),
         lambda a, b, c: ("mul", ("add", a, b), c)),  # c(a+b)
    Rule(("add", ("div", "a", "c"), ("div", "b", "c")),
         lambda a, b, c: ("div", ("add", a, b), c)),  # (a+b)/c
    Rule(("add", ("mul", "a", "c"), ("neg", ("mul", "b", "c"))),
         lambda a, b, c: ("mul", ("add", a, ("neg", b)), c)),  # a c - b c = (a - b) c
    Rule(("add", ("div", "a", "c"), ("neg", ("div", "b", "c"))),
         lambda a, b, c: ("div", ("add", a, ("neg", b)), c)),  # a / c - b / c = (a - b) / c
    Rule(("max", ("add", "a", "b"), ("add", "a", "c")),
         lambda a, b, c: ("add", a, ("max", b, c))),  # max(a + b, a + c) = a + max(b, c)
    *(_max_inward(f) for f in _having("increasing")),  # max(f(a), f(b)) = f(max(a, b))
    # Moments.
    *(rule for rule in _MEANS_OF_MEANS if rule is not None),  # mean(mean(a)) = mean over the union
    *(rule for over in INDEX_SETS for rule in _moments_of_constants(over)),
    _root_of_guard("rms_batch"),  # rms_batch(0) = sqrt(eps) in training mode
)  # fmt: skip
