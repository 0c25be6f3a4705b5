"""Puts a layer into somebody's own torch model, slot by slot, and says what went where and why.

``norm_act``: a normalisation with the activation right after it becomes the layer; without one
only its affine stays, as the paper's authors have it. ``norm``: every normalisation. ``act``: every
activation. Nothing is guessed: what is not understood stays as it is and is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import fx, nn

from primitives.carry_over import copy_statistics
from primitives.errors import LayerError
from primitives.fast_path import leave_fast_path
from primitives.functional_norms import (
    Called,
    Place,
    erase,
    functional_norms,
    made_of_calls,
    read_tensors,
)
from primitives.graph import Graph
from primitives.groups import group_count
from primitives.model_scan import (
    Layout,
    Pair,
    Scan,
    channels_of,
    is_activation,
    is_evolved,
    is_norm,
    is_other_norm,
    layout_of,
    own_activation,
    pairs_in_containers,
    scan,
)
from primitives.module import layer_class
from primitives.named import layer_graph
from primitives.other_norms import layout_by_probe, why_left
from primitives.tracing import graph_module

Slot = Literal["norm_act", "norm", "act"]
Action = Literal["replaced", "affine", "left"]

_ALONE = "not after a normalisation"


@dataclass(frozen=True, slots=True)
class Row:
    """One normalisation or activation of the model, and what became of it."""

    module: str
    kind: str
    action: Action
    why: str


@dataclass(slots=True)
class Placement:
    """The changed model and the table of what was done.

    ``model`` is the model that was given, or a traced copy of its forward that shares its modules,
    where functional normalisations or activations, or shared ones, had to go (``traced`` says
    which), or the layer itself, where the model was one normalisation.
    """

    model: nn.Module
    rows: list[Row] = field(default_factory=list)
    traced: bool = False

    def count(self, action: Action) -> int:
        """Number of rows with that action."""
        return sum(row.action == action for row in self.rows)

    def __str__(self) -> str:
        widths = [max([len(row[k]) for row in self._cells()]) for k in range(3)]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)),
                       cells[3]])
            for cells in self._cells()
        ]  # fmt: skip
        total = ", ".join(f"{self.count(word)} {word}" for word in ("replaced", "affine", "left"))
        return "\n".join([*lines, total])

    def _cells(self) -> list[tuple[str, str, str, str]]:
        head = ("module", "kind", "action", "why")
        return [head, *((row.module, row.kind, row.action, row.why) for row in self.rows)]


def replace_norm_act(
    model: nn.Module,
    layer: Graph | str,
    slot: Slot = "norm_act",
    *,
    groups: int | Callable[[int], int] | None = None,
    recompute: bool = False,
    report: Callable[[str], object] | None = print,
) -> Placement:
    """The model with the layer in every place of the slot, and the placement table.

    ``layer``: a graph, formula text, or a name of the catalog. ``groups``: of every layer, or a
    function from channels to them; by default `primitives.groups.group_count`. Scale, shift and
    running statistics of what goes are kept where the layer has a place for them. ``report`` gets
    the table; None is silent.

    Raises:
        LayerError: the slot is unknown, or the model has no place for the layer.
        FormulaError: the text is no layer.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        >>> placed = replace_norm_act(net, "evonorm-s0", report=None)
        >>> [(row.module, row.action) for row in placed.rows]
        [('1', 'replaced'), ('2', 'replaced')]
    """
    if slot not in ("norm_act", "norm", "act"):
        raise LayerError("unknown slot", expected="norm_act, norm or act", got=repr(slot)[:60])
    graph = layer if isinstance(layer, Graph) else layer_graph(layer)
    work = _Work(model, graph, scan(model, made_of_calls(model)), groups, recompute)
    {"norm_act": work.norm_act, "norm": work.norm, "act": work.act}[slot]()
    placed = work.finish()
    if not placed.count("replaced"):
        whys = sorted((row.why for row in placed.rows), key=lambda why: why.startswith(_ALONE))
        raise LayerError(
            "the model has no place for this layer", where=f"slot {slot}",
            got=f"{len(placed.rows)} normalisations and activations, all left",
            hint=whys[0] if whys else "try another slot",
        )  # fmt: skip
    if report is not None:
        report(str(placed))
    return placed


class _Norm(NamedTuple):
    """A normalisation of the model, under its first path."""

    path: str
    module: nn.Module
    channels: int
    layout: Layout


class _Work:
    """One replacement under way: rows for the table, modules to put in, calls to take out."""

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        found: Scan,
        groups: int | Callable[[int], int] | None,
        recompute: bool,
    ) -> None:
        self.model, self.graph, self.scan = model, graph, found
        self.recompute = recompute
        self.groups = _counted(groups)
        self.rows: list[Row] = []
        self.gone: list[fx.Node] = []
        self.silent: list[Pair] = []
        self.swaps: dict[int, nn.Module] = {}
        self.added: list[tuple[list[fx.Node], nn.Module]] = []
        self.taken: list[fx.Node] = []  # what only a copy loses
        self.read = read_tensors(self.scan)

    def norm_act(self) -> None:
        """A norm and its activation become the layer; a norm without one keeps its affine."""
        beside = pairs_in_containers(self.model) if self.scan.graph is None else {}
        waiting: list[tuple[_Norm, list[fx.Node]]] = []
        for norm in self._norms():
            path, module = norm.path, norm.module
            following = [self.scan.following(call) for call in self.scan.calls(path)]
            activated = [
                len(users) == 1 and self.scan.is_activation(users[0]) for users in following
            ]
            if own_activation(module) is not None:
                self._swap(norm, "with its own activation")
            elif following and all(activated):
                waiting.append((norm, [users[0] for users in following]))
            elif id(module) in beside:
                self.silent += beside[id(module)]
                self._swap(norm, "with the activation beside it")
            elif self.scan.graph is None:
                self._leave(path, module, f"what follows is unknown ({self.scan.reason})")
            elif not following:
                self._leave(path, module, "the traced forward does not call it itself")
            elif why := self._unlike_affine(self.scan.calls(path), path, norm.layout):
                self._leave(path, module, why)
            else:
                self._swap(norm, "no activation follows", affine=True)
        self._take(waiting)
        for place in self._functional():
            self._norm_act_calls(place)

    def _unlike_affine(self, calls: list[fx.Node], path: str, layout: Layout) -> str:
        """Why a normalisation must not become its affine alone; empty where it may."""
        if any(self.scan.is_activation(user) for one in calls for user in self._users(one)):
            return "an activation follows some of its calls only"
        if unclear := self.scan.unclear(calls, path):
            return unclear
        last = layout == "nhwc"
        return "no activation follows; a LayerNorm is a norm slot" if last else ""

    def _users(self, call: fx.Node) -> list[fx.Node]:
        """What takes a call's value, if that is one thing."""
        users = self.scan.following(call)
        return users if len(users) == 1 else []

    def _norm_act_calls(self, place: Place) -> None:
        """A functional norm and its activation become the layer, as a module does."""
        assert isinstance(place.read, Called)
        nodes = [node for _, node in place.calls]
        users = [self._users(node) for node in nodes]
        if all(one and self.scan.is_activation(one[0]) for one in users):
            self.taken += [one[0] for one in users]
            self._swap_calls(place, "with the activation after it")
        elif why := self._unlike_affine(nodes, place.read.where, place.read.layout):
            self._leave_calls(place, why)
        else:
            self._swap_calls(place, "no activation follows", affine=True)

    def _functional(self) -> Iterable[Place]:
        """Functional norms that a layer can stand for; the others get their rows here."""
        for place in functional_norms(self.scan, self.model):
            why = place.read if isinstance(place.read, str) else self.scan.bound
            if why:
                self._leave_calls(place, why)
            else:
                yield place

    def _swap_calls(self, place: Place, why: str, affine: bool = False) -> None:
        read = place.read
        assert isinstance(read, Called)
        made = self._made(read.channels, read.layout, read.old, affine)
        copy_statistics(read.old, made, self.graph)
        self.added.append(([node for _, node in place.calls], made))
        action: Action = "affine" if affine else "replaced"
        (first, _), *others = place.calls
        self.rows.append(Row(first, "function", action, why + read.why))
        self.rows += [Row(name, "function", action, f"the layer of {first}") for name, _ in others]

    def _leave_calls(self, place: Place, why: str) -> None:
        self.rows += [Row(name, "function", "left", why) for name, _ in place.calls]

    def _take(self, waiting: list[tuple[_Norm, list[fx.Node]]]) -> None:
        """Norms with the activation after them; where no copy can be made, only those in place."""
        bound = []
        while self.scan.bound:
            free = self._free([node for _, users in waiting for node in users])
            stuck = [one for one in waiting if not free.issuperset(one[1])]
            if not stuck:
                break
            bound += stuck
            waiting = [one for one in waiting if one not in stuck]
        for norm, _ in bound:
            why = f"its activation is a function or shared, and {self.scan.bound}"
            self._leave(norm.path, norm.module, why)
        for norm, users in waiting:
            self.gone += users
            self._swap(norm, "with the activation after it")

    def _free(self, nodes: Iterable[fx.Node]) -> set[fx.Node]:
        """Those that call modules which nothing but these nodes calls."""
        modules = [node for node in nodes if node.op == "call_module"]
        calls = Counter(id(self.scan.modules[str(node.target)]) for node in modules)
        return {
            node
            for node in modules
            if calls[id(self.scan.modules[str(node.target)])]
            == len(self.scan.calls(str(node.target)))
        }

    def norm(self) -> None:
        """Every normalisation becomes the layer; activations stay."""
        for norm in self._norms():
            if own_activation(norm.module) is not None:
                self._leave(norm.path, norm.module, "has its own activation: a norm_act slot")
            else:
                self._swap(norm, "a normalisation")
        for place in self._functional():
            self._swap_calls(place, "a normalisation")
        self._inner_rows()

    def act(self) -> None:
        """Every activation, module or call, becomes the layer where its channels are known."""
        if self.scan.graph is None:
            raise LayerError(
                "cannot place activations", got=self.scan.reason, expected="a traceable model"
            )
        taken: set[int] = set()
        for name, node in self.scan.activations():
            source = self.scan.source(node)
            module = self.scan.modules.get(str(node.target)) if node.op == "call_module" else None
            where = self.scan.output_of(source) if source is not None else None
            if module is None:
                self._act_call(name, node, where)
                continue
            if id(module) in taken:
                continue
            calls = self.scan.calls(name)
            if where is None or len(calls) > 1:
                why = "its channels are not known" if where is None else "called several times"
                self.rows.append(Row(name, type(module).__name__, "left", why))
                continue
            taken.add(id(module))
            self.swaps[id(module)] = self._made(*where, module)
            self.rows.append(Row(name, type(module).__name__, "replaced", "an activation"))
        for place in functional_norms(self.scan, self.model):
            self._leave_calls(place, "a normalisation: a norm or norm_act slot")
        self._inner_rows()

    def _act_call(self, name: str, node: fx.Node, where: tuple[int, Layout] | None) -> None:
        """An activation that is a function or method: a new module of a traced copy."""
        if where is None or self.scan.bound:
            why = self.scan.bound if where is not None else "its channels are not known"
            self.rows.append(Row(name, "function", "left", why))
            return
        self.added.append(([node], self._made(*where, nn.Identity())))
        self.rows.append(Row(name, "function", "replaced", "an activation"))

    def finish(self) -> Placement:
        """Put the modules in and take the activations out."""
        whole_model = self.swaps.get(id(self.model))
        if whole_model is not None:  # what the norm itself did inside went with it
            return Placement(whole_model, [row for row in self.rows if not row.module])
        free = self._free(self.gone)
        whole = free.issuperset(self.gone)
        self._activation_rows()
        place = {path: number for number, path in enumerate(self.scan.modules)}
        self.rows.sort(key=lambda row: place.get(row.module, len(place)))
        if whole:
            for node in free:
                self.swaps[id(self.scan.modules[str(node.target)])] = nn.Identity()
        for pair in self.silent:
            setattr(pair.container, pair.activation, nn.Identity())
        for path, module in self.scan.modules.items():
            if id(module) in self.swaps and path:
                parent, _, name = path.rpartition(".")
                setattr(self.model.get_submodule(parent), name, self.swaps[id(module)])
        leave_fast_path(self.model)
        if self.scan.graph is None or (whole and not self.added):
            return Placement(self.model, self.rows)
        for node in (*self.gone, *self.taken):
            node.replace_all_uses_with(_given(node))
            self.scan.graph.erase_node(node)
        names = [self._put_in(*one) for one in self.added]
        traced = graph_module(self.model, self.scan.graph)
        for name in names:  # they are the copy's; the given model never calls them
            delattr(self.model, name)
        return Placement(traced, self.rows, traced=True)

    def _put_in(self, nodes: list[fx.Node], layer: nn.Module) -> str:
        """The layer in place of calls, as a module of a new name."""
        kind = "act" if self.scan.is_activation(nodes[0]) else "norm"
        number = 0
        while hasattr(self.model, f"evolved_{kind}_{number}"):
            number += 1
        name = f"evolved_{kind}_{number}"
        self.model.add_module(name, layer)
        for node in nodes:
            graph = node.graph
            with graph.inserting_before(node):
                called = graph.create_node("call_module", name, (_given(node),))
            node.replace_all_uses_with(called)
            erase(graph, node)
        return name

    def _activation_rows(self) -> None:
        """Rows of the activations that have none yet."""
        known = {row.module for row in self.rows}
        gone = {*self.gone, *self.taken}
        for name, node in self.scan.activations():
            if name in known:
                continue
            kind = self.scan.kind(name, node)
            source = self.scan.source(node)
            after = source.name if source is not None else "an input"
            if node in gone:
                self.rows.append(Row(name, kind, "replaced", "part of the layer before it"))
            else:
                self.rows.append(Row(name, kind, "left", f"{_ALONE}: {after}"))
        if self.scan.graph is None:
            self._untraced_rows()

    def _untraced_rows(self) -> None:
        known = {row.module for row in self.rows}
        taken = {(id(pair.container), pair.activation) for pair in self.silent}
        for path, module in self.scan.modules.items():
            parent, _, name = path.rpartition(".")
            holder = self.scan.modules[parent]
            if not is_activation(module) or path in known or own_activation(holder) is module:
                continue
            if (id(holder), name) in taken:
                self.rows.append(Row(path, type(module).__name__, "replaced", "part of the layer"))
            else:
                why = "what it follows is unknown"
                self.rows.append(Row(path, type(module).__name__, "left", why))

    def _inner_rows(self) -> None:
        """Rows of activations that belong to a norm-act module, which is another slot's."""
        seen: set[int] = set()
        for path, module in self.scan.modules.items():
            act = own_activation(module) if is_norm(module) or is_other_norm(module) else None
            if act is not None and id(module) not in seen:
                seen.add(id(module))
                why = "inside a norm-act module: a norm_act slot"
                self.rows.append(Row(f"{path}.act", type(act).__name__, "left", why))

    def _norms(self) -> list[_Norm]:
        """Every normalisation that a layer can stand for; the others get their row here."""
        seen: set[int] = set()
        found = []
        for path, module in self.scan.modules.items():
            ours = is_norm(module) or is_other_norm(module)
            if not ours or is_evolved(module) or id(module) in seen:
                continue
            seen.add(id(module))
            if self.scan.opened(path):
                continue  # its calls have rows
            channels = channels_of(module)
            layout = layout_of(module) if is_norm(module) else layout_by_probe(module)
            read = [name for tensor, name in self.read.items() if tensor.startswith(f"{path}.")]
            if read:
                self._leave(path, module, f"its vectors are those of {read[0]}")
            elif layout is None:
                self._leave(path, module, why_left(module))
            elif channels is None:
                self._leave(path, module, "normalises more than one axis")
            else:
                found.append(_Norm(path, module, channels, layout))
        return found

    def _swap(self, norm: _Norm, why: str, affine: bool = False) -> None:
        made: Any = self._made(norm.channels, norm.layout, norm.module, affine)
        copy_statistics(norm.module, made, self.graph)
        if isinstance(norm.module, nn.SyncBatchNorm) and hasattr(made, "synchronise"):
            made.synchronise, made.process_group = True, norm.module.process_group
            why += "; its batch statistics stay those of all processes"
        self.swaps[id(norm.module)] = made
        action: Action = "affine" if affine else "replaced"
        self.rows.append(Row(norm.path, type(norm.module).__name__, action, why))

    def _leave(self, path: str, norm: nn.Module, why: str) -> None:
        self.rows.append(Row(path, type(norm).__name__, "left", why))

    def _made(
        self, channels: int, layout: Layout, old: nn.Module, affine: bool = False
    ) -> nn.Module:
        own = (*old.parameters(), *old.buffers(), *self.model.parameters(), torch.empty(0))
        reference = next(tensor for tensor in own if tensor.is_floating_point())
        made = layer_class(self.graph)(
            channels, groups=self.groups(channels), layout=layout, apply_act=not affine,
            recompute=self.recompute, device=reference.device, dtype=reference.dtype,
            eps=_eps_of(old), momentum=getattr(old, "momentum", 0.1),
        )  # fmt: skip
        return made.train(old.training)


def _counted(groups: int | Callable[[int], int] | None) -> Callable[[int], int]:
    """Channels -> groups."""
    if isinstance(groups, int):
        count = groups
        return lambda channels: count
    return group_count if groups is None else groups


def _given(node: fx.Node) -> fx.Node:
    """What an activation is applied to."""
    found = node.args[0] if node.args else node.kwargs["input"]
    assert isinstance(found, fx.Node)
    return found


def _eps_of(old: nn.Module) -> float:
    """The guard of what goes; hand-written ones have it under two names."""
    for name in ("eps", "variance_epsilon"):
        eps = getattr(old, name, None)
        if isinstance(eps, float) and eps > 0:
            return eps
    return 1e-5
