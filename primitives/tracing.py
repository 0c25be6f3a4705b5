"""Traces a model's forward so that a copy made of the trace still follows training and evaluation.

``torch.fx`` writes down what happened in one mode. The forward is therefore traced in both: numbers
that differ (``F.dropout(x, p, self.training)``) are looked up when the copy runs, modules that do
different things (stochastic depth) are kept whole, and so are those that switch gradients or
autocast, which no trace writes down. What cannot be told apart so is said.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import fx, nn

MODE = "evolved_mode"
"""Name of the module that knows the mode, beside the calls that ask for it."""


class ByMode(nn.Module):
    """The first of two numbers in training mode, else the other."""

    def forward(self, one: Any, other: Any) -> Any:
        return one if self.training else other


class Traced(NamedTuple):
    """``graph``: None where tracing failed for the ``reason``.

    ``bound``: why a copy of the graph would not follow the mode; empty where it does.
    ``owners``: name of a node -> path of the module whose forward made it.
    """

    graph: fx.Graph | None
    reason: str = ""
    bound: str = ""
    owners: Mapping[str, str] = MappingProxyType({})


class _Tracer(fx.Tracer):
    """Keeps whole what the caller wants whole, and the paths that are named.

    A copy that is loaded again makes one without arguments.
    """

    def __init__(
        self,
        is_whole: Callable[[nn.Module], bool] = lambda module: False,
        paths: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._is_whole, self._paths = is_whole, paths
        self._entered = [("", _surroundings())]
        self.switching: set[str] = set()
        """Paths of modules whose forward switches gradients or autocast around what it calls."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name in self._paths or self._is_whole(m):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Goes into a module, or writes its call down."""
        self._entered.append((self.path_of_module(m), _surroundings()))
        try:
            return super().call_module(m, forward, args, kwargs)
        finally:
            self._entered.pop()

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """A node; who switched what it runs in is remembered."""
        if _surroundings() != self._entered[0][1]:
            switch = next(
                path for path, then in reversed(self._entered) if then == self._entered[0][1]
            )
            self.switching.add(switch)
        return super().create_node(*args, **kwargs)

    def switched(self) -> None:
        """What is being traced switches something for what it calls next."""
        self.switching.add(self._entered[-1][0])

    def owner(self, node: fx.Node) -> str:
        """Path of the module whose forward made the node."""
        return self.node_name_to_scope.get(node.name, ("", None))[0]


def _surroundings() -> tuple[object, ...]:
    """What a forward may switch with a context manager: gradients, autocast and its type."""
    kinds = ("cpu", "cuda")
    return (
        torch.is_grad_enabled(), torch.is_inference_mode_enabled(),
        *(torch.is_autocast_enabled(kind) for kind in kinds),
        *(torch.get_autocast_dtype(kind) for kind in kinds),
    )  # fmt: skip


Both = tuple[tuple[_Tracer, fx.Graph], tuple[_Tracer, fx.Graph]]


def trace(
    model: nn.Module,
    is_whole: Callable[[nn.Module], bool],
    matters: Callable[[fx.Node], bool],
) -> Traced:
    """The forward as a graph; a module with a node that ``matters`` is never made whole."""
    whole: set[str] = set()
    while True:
        try:
            both = tuple(_one(model, is_whole, whole, training) for training in (True, False))
        except Exception as err:  # tracing runs the user's own code, which may raise anything
            reason = (str(err).splitlines() or [""])[0][:100]
            return Traced(None, f"{type(err).__name__}: {reason}")
        switching = both[0][0].switching | both[1][0].switching
        differing = _differing(both) | switching  # type: ignore[arg-type]
        tracer, graph = both[0]
        owners = {node.name: tracer.owner(node) for node in graph.nodes}
        if not differing:
            return _switched(both)._replace(owners=owners)  # type: ignore[arg-type]
        for owner in differing:
            inside = (
                node
                for one, its_graph in both
                for node in its_graph.nodes
                if f"{one.owner(node)}.".startswith(f"{owner}.")
            )
            if not owner or owner in whole or any(matters(node) for node in inside):
                bound = _bound(owner, owner in switching)
                return Traced(graph, bound=bound, owners=owners)
        whole |= differing


def _bound(owner: str, switches: bool = False) -> str:
    where = f" of {owner}" if owner else ""
    if switches:
        return f"the forward{where} switches gradients or autocast, which a copy would not"
    return f"the forward{where} does something else in evaluation mode"


def _one(
    model: nn.Module, is_whole: Callable[[nn.Module], bool], whole: set[str], training: bool
) -> tuple[_Tracer, fx.Graph]:
    tracer = _Tracer(is_whole, whole)
    with _in_mode(model, training), _noting_autocast(tracer), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tracer, tracer.trace(model)


@contextmanager
def _noting_autocast(tracer: _Tracer) -> Iterator[None]:
    """The tracer hears of autocast, also where it changes nothing now (``enabled=False``)."""
    enter: Any = torch.autocast.__enter__

    def noting(given: torch.autocast) -> Any:
        tracer.switched()
        return enter(given)

    torch.autocast.__enter__ = noting  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.autocast.__enter__ = enter  # type: ignore[method-assign]


@contextmanager
def _in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Every module in that mode; each is given back its own, and buffers that a forward moved."""
    before = [(module, module.training) for module in model.modules()]
    kept = [(one, one.detach().clone()) for one in model.buffers() if not one.is_inference()]
    moves = [one._version for one, _ in kept]
    for module, _ in before:
        module.training = training
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode
        with torch.no_grad():
            for (one, value), version in zip(kept, moves, strict=True):
                if one._version != version:
                    one.copy_(value)


def _differing(both: Both) -> set[str]:
    """Paths of modules whose own forward calls other things in evaluation mode."""
    calls: list[dict[str, list[tuple[str, Any]]]] = []
    for tracer, graph in both:
        of_owner: dict[str, list[tuple[str, Any]]] = defaultdict(list)
        for node in graph.nodes:
            of_owner[tracer.owner(node)].append((node.op, node.target))
        calls.append(of_owner)
    one, other = calls
    return {owner for owner in one.keys() | other.keys() if one.get(owner) != other.get(owner)}


class _Unlike(Exception):
    """Two arguments that no number tells apart."""


def _switched(both: Both) -> Traced:
    """The graph of training mode, which asks for the mode where the other has another number."""
    (tracer, graph), (_, other) = both
    theirs = dict(zip(graph.nodes, other.nodes, strict=True))
    for node in list(graph.nodes):
        owner = tracer.owner(node)

        def choose(one: Any, another: Any, node: fx.Node = node, owner: str = owner) -> fx.Node:
            with graph.inserting_before(node):
                path = f"{owner}.{MODE}" if owner else MODE
                return graph.create_node("call_module", path, (one, another))

        twin = theirs[node]
        try:
            args = _merged(node.args, twin.args, theirs, choose)
            kwargs = _merged(node.kwargs, twin.kwargs, theirs, choose)
        except _Unlike:
            return Traced(graph, bound=_bound(owner))
        node.args, node.kwargs = args, kwargs
    return Traced(graph)


def _merged(
    one: Any, other: Any, theirs: dict[fx.Node, fx.Node], choose: Callable[[Any, Any], fx.Node]
) -> Any:
    """Arguments of both modes as one: the same nodes, and numbers that may differ."""
    if isinstance(one, fx.Node):
        if theirs.get(one) is not other:
            raise _Unlike
        return one
    if type(one) is not type(other) and not (_is_plain(one) and _is_plain(other)):
        raise _Unlike
    if isinstance(one, dict):
        if one.keys() != other.keys():
            raise _Unlike
        return {key: _merged(value, other[key], theirs, choose) for key, value in one.items()}
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            raise _Unlike
        merged = [_merged(a, b, theirs, choose) for a, b in zip(one, other, strict=True)]
        return type(one)(*merged) if hasattr(one, "_fields") else type(one)(merged)
    if isinstance(one, slice):
        ends = ("start", "stop", "step")
        return slice(*(_merged(getattr(one, e), getattr(other, e), theirs, choose) for e in ends))
    if one is other or one == other:
        return one
    if _is_plain(one):
        return choose(one, other)
    raise _Unlike


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def graph_module(model: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """The model with its forward replaced by the graph; its modules are shared, not copied.

    Each part of the copy is in the mode of the model's part of that name.
    """
    graph.lint()
    for node in graph.nodes:
        node.type = None  # annotations, which are text in many files and then cannot be pickled
    asked = {
        str(node.target).rpartition(".")[0]
        for node in graph.nodes
        if node.op == "call_module" and str(node.target).rpartition(".")[2] == MODE
    }
    for owner in asked:
        model.get_submodule(owner).add_module(MODE, ByMode())
    try:
        with torch.no_grad():
            made = fx.GraphModule(model, graph, class_name=type(model).__name__)
    finally:
        for owner in asked:
            delattr(model.get_submodule(owner), MODE)
    own = dict(model.named_modules(remove_duplicate=False))
    for path, module in made.named_modules(remove_duplicate=False):
        if path in own:
            module.training = own[path].training
        elif path.rpartition(".")[2] == MODE:
            module.training = own[path.rpartition(".")[0]].training
    return made
