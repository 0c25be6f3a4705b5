"""Which known layers a graph is related to, and how far two graphs compute the same.

Equality is said together with how it was found: by rewriting, which holds in floats or over the
reals, or by behaviour on fixed probes, which is evidence and no proof. Nearness counts sub-graphs
in common and claims nothing else. This file must not import torch.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from primitives.catalog import CATALOG
from primitives.digest import digest
from primitives.errors import EvosearchError, GraphError
from primitives.fingerprint import PROBES, fingerprint, initial_fingerprint
from primitives.graph import FIRST_OP, Graph
from primitives.ops import typed_name
from primitives.printer import format_formula
from primitives.probe import Array, Inputs, evaluation_moments, respond
from primitives.rewrite import live_form, simplify

REWRITTEN = "equal by exact rewriting (the same digest)"
OVER_THE_REALS = "equal over the reals by rewriting"
SAME_BEHAVIOUR = "equal in function (the same values and gradients on fixed probes)"
UP_TO_AFFINE = "equal in function up to the affine that follows every layer (on fixed probes)"
SAME_START = "the same network at the initial v0 and v1, up to that affine (on fixed probes)"
NEAR = "shares sub-graphs"


class Relative(NamedTuple):
    """A known layer, how it is related, and what is shared.

    ``share``: sub-graphs of x in common over all of both, 1 for an equal one. ``common``: the
    largest of them as a formula, empty where there is none.
    """

    name: str
    relation: str
    share: float
    common: str


def relatives(graph: Graph, most: int = 5) -> list[Relative]:
    """The catalog's layers that are equal in some way, and then the nearest, ``most`` in all.

    Example:
        >>> from primitives.formula import parse
        >>> relatives(parse("tanh(x) / std_batch(x)"), most=1)[0].common
        'std_batch(x)'
    """
    mine, known = _identities(graph), dict[str, str]()
    for name in CATALOG:
        relation = _relation(mine, catalog_identities(name))
        if relation is not None:
            known[name] = relation
    found = [
        _relative(graph, name, known.get(name, NEAR)) for name in CATALOG
    ]  # fmt: skip
    order = [REWRITTEN, OVER_THE_REALS, SAME_BEHAVIOUR, UP_TO_AFFINE, SAME_START, NEAR]
    found = [one for one in found if one.relation != NEAR or one.share > 0.0]
    found.sort(key=lambda one: (order.index(one.relation), -one.share, one.name))
    return found[:most]


def behaviour_difference(graph: Graph, other: Graph) -> float:
    """Largest difference of values and gradients on the probes, relative to their magnitude.

    Training and evaluation mode, two shapes, random v0 and v1, float64. Infinite where one is
    finite and the other is not.
    """
    largest = 0.0
    with np.errstate(all="ignore"):
        for inputs in PROBES:
            pairs = zip(_answers(graph, inputs), _answers(other, inputs), strict=True)
            largest = max(largest, *(_difference(one, two) for one, two in pairs))
    return largest


def simplified(graph: Graph) -> Graph:
    """The form after exact and algebraic rules, or the live graph where that would be too long."""
    try:
        return simplify(graph)
    except GraphError:
        return live_form(graph)


class Identities(NamedTuple):
    """What a graph is known by again, from the narrowest kind of equality to the widest."""

    digest: str
    reals: str
    behaviour: str
    affine: str
    start: str


def _identities(graph: Graph) -> Identities:
    return Identities(
        digest(graph), digest(simplified(graph)), fingerprint(graph),
        fingerprint(graph, modulo_affine=True), initial_fingerprint(graph),
    )  # fmt: skip


@cache
def catalog_identities(name: str) -> Identities:
    """Those of a layer of the catalog, computed once."""
    return _identities(CATALOG[name].graph)


def _relation(mine: Identities, other: Identities) -> str | None:
    relations = (REWRITTEN, OVER_THE_REALS, SAME_BEHAVIOUR, UP_TO_AFFINE, SAME_START)
    pairs = zip(relations, mine, other, strict=True)
    return next((relation for relation, one, two in pairs if one == two), None)


def _relative(graph: Graph, name: str, relation: str) -> Relative:
    ours, theirs = _subgraphs(graph), _subgraphs(CATALOG[name].graph)
    common = ours.keys() & theirs.keys()
    equal = relation not in (NEAR, SAME_START)
    share = 1.0 if equal else len(common) / max(1, len(ours.keys() | theirs.keys()))
    if not common:
        return Relative(name, relation, share, "")
    largest = max(common, key=lambda key: (len(ours[key].nodes), key))
    try:
        return Relative(name, relation, share, format_formula(ours[largest]))
    except EvosearchError:
        return Relative(name, relation, share, "")


def _subgraphs(graph: Graph) -> dict[str, Graph]:
    """Hash -> each sub-graph of the simplified form that depends on x."""
    form = simplified(graph)
    keys, of_x, found = [f"{place}" for place in range(FIRST_OP)], [True, False, False, False], {}
    for place, (op, inputs, over) in enumerate(form.nodes):
        text = f"{typed_name(op, over)}({','.join(keys[source] for source in inputs)})"
        keys.append(sha256(text.encode()).hexdigest())
        of_x.append(any(of_x[source] for source in inputs))
        if of_x[-1]:
            found[keys[-1]] = live_form(Graph(form.nodes[: place + 1]))
    return found


def _answers(graph: Graph, inputs: Inputs) -> list[Array]:
    training = respond(graph, inputs)
    modes = [training]
    moments = evaluation_moments(graph, training)
    modes.append(training if moments is None else respond(graph, inputs, moments))
    shapes = (inputs.x.shape, inputs.v0.shape, inputs.v1.shape)
    found: list[Array] = []
    for answer in modes:
        found.append(np.broadcast_to(answer.value, inputs.x.shape))
        for gradient, shape in zip(answer.gradients, shapes, strict=True):
            none = np.zeros(shape)
            found.append(none if gradient is None else np.broadcast_to(gradient, shape))
    return found


def _difference(one: Array, two: Array) -> float:
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(two)):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(1.0, float(np.abs(one[finite]).max()))
    return float(np.abs(one[finite] - two[finite]).max()) / scale
