"""Puts a layer into somebody's own torch model, slot by slot, and says what went where and why.

``norm_act``: a normalisation with the activation right after it becomes the layer; without one
only its affine stays, as the paper's authors have it. ``norm``: every normalisation. ``act``: every
activation. Nothing is guessed: what is not understood stays as it is and is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import fx, nn

from primitives.errors import LayerError
from primitives.graph import FIRST_OP, Graph
from primitives.groups import group_count
from primitives.model_scan import (
    Layout,
    Scan,
    channels_of,
    graph_module,
    is_activation,
    is_evolved,
    is_norm,
    layout_of,
    own_activation,
    pairs_in_containers,
    scan,
)
from primitives.module import layer_class
from primitives.named import layer_graph

Slot = Literal["norm_act", "norm", "act"]
Action = Literal["replaced", "affine", "left"]


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
    where functional or shared activations had to go (``traced`` says which).
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
    groups: int | None = None,
    recompute: bool = False,
    report: Callable[[str], object] | None = print,
) -> Placement:
    """The model with the layer in every place of the slot, and the placement table.

    ``layer``: a graph, formula text, or a name of the catalog. Scale, shift and running statistics
    of what goes are kept where the layer has a place for them. ``report`` gets the table; None is
    silent.

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
    work = _Work(model, graph, scan(model), groups, recompute)
    {"norm_act": work.norm_act, "norm": work.norm, "act": work.act}[slot]()
    placed = work.finish()
    if not placed.count("replaced"):
        raise LayerError(
            "the model has no place for this layer", where=f"slot {slot}",
            got=f"{len(placed.rows)} normalisations and activations, all left",
            hint=placed.rows[0].why if placed.rows else "try another slot",
        )  # fmt: skip
    if report is not None:
        report(str(placed))
    return placed


class _Work:
    """One replacement under way: rows for the table, modules to put in, calls to take out."""

    def __init__(
        self, model: nn.Module, graph: Graph, found: Scan, groups: int | None, recompute: bool
    ) -> None:
        self.model, self.graph, self.scan = model, graph, found
        self.groups, self.recompute = groups, recompute
        self.rows: list[Row] = []
        self.gone: list[fx.Node] = []
        self.silent: list[nn.Module] = []
        self.swaps: dict[int, nn.Module] = {}
        self.added: list[tuple[fx.Node, nn.Module]] = []

    def norm_act(self) -> None:
        """A norm and its activation become the layer; a norm without one keeps its affine."""
        beside = pairs_in_containers(self.model) if self.scan.graph is None else {}
        for path, norm in self._norms():
            act = own_activation(norm)
            pair = beside.get(id(norm))
            following = [self.scan.following(call) for call in self.scan.calls(path)]
            activated = [
                len(users) == 1 and self.scan.is_activation(users[0]) for users in following
            ]
            if act is not None:
                self._swap(path, norm, "with its own activation")
            elif following and all(activated):
                self.gone += [users[0] for users in following]
                self._swap(path, norm, "with the activation after it")
            elif pair is not None:
                self.silent.append(pair[1])
                self._swap(path, norm, "with the activation beside it")
            elif self.scan.graph is None:
                self._leave(path, norm, f"what follows is unknown ({self.scan.reason})")
            elif any(activated):
                self._leave(path, norm, "an activation follows some of its calls only")
            elif not following:
                self._leave(path, norm, "never called")
            elif layout_of(norm) == "nhwc":
                self._leave(path, norm, "no activation follows; a LayerNorm is a norm slot")
            else:
                self._swap(path, norm, "no activation follows", affine=True)

    def norm(self) -> None:
        """Every normalisation becomes the layer; activations stay."""
        for path, norm in self._norms():
            if own_activation(norm) is not None:
                self._leave(path, norm, "has its own activation: a norm_act slot")
            else:
                self._swap(path, norm, "a normalisation")

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
            before = self.scan.modules.get(str(source.target)) if source is not None else None
            where = (
                _output_of(before) if source is not None and source.op == "call_module" else None
            )
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
            self.swaps[id(module)] = self._made(*where, False, module)
            self.rows.append(Row(name, type(module).__name__, "replaced", "an activation"))

    def _act_call(self, name: str, node: fx.Node, where: tuple[int, Layout] | None) -> None:
        """An activation that is a function or method: a new module of a traced copy."""
        if where is None:
            self.rows.append(Row(name, "function", "left", "its channels are not known"))
            return
        self.added.append((node, self._made(*where, False, nn.Identity())))
        self.rows.append(Row(name, "function", "replaced", "an activation"))

    def finish(self) -> Placement:
        """Put the modules in and take the activations out."""
        calls = Counter(str(node.target) for node in self.gone if node.op == "call_module")
        whole = all(
            node.op == "call_module"
            and calls[str(node.target)] == len(self.scan.calls(str(node.target)))
            for node in self.gone
        )
        self._activation_rows()
        if whole:
            self.silent += [self.scan.modules[path] for path in calls]
        for module in self.silent:
            self.swaps[id(module)] = nn.Identity()
        for path, module in self.scan.modules.items():
            if id(module) in self.swaps and path:
                parent, _, name = path.rpartition(".")
                setattr(self.model.get_submodule(parent), name, self.swaps[id(module)])
        if self.scan.graph is None or (whole and not self.added):
            return Placement(self.model, self.rows)
        for node in self.gone:
            node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
            self.scan.graph.erase_node(node)
        names = [self._put_in(*one) for one in self.added]
        traced = graph_module(self.model, self.scan.graph)
        for name in names:  # they are the copy's; the given model never calls them
            delattr(self.model, name)
        return Placement(traced.train(self.model.training), self.rows, traced=True)

    def _put_in(self, node: fx.Node, layer: nn.Module) -> str:
        """The layer in place of a call, as a module of a new name."""
        graph, number = node.graph, 0
        while hasattr(self.model, f"evolved_act_{number}"):
            number += 1
        name = f"evolved_act_{number}"
        self.model.add_module(name, layer)
        given = node.args[0] if node.args else node.kwargs["input"]
        with graph.inserting_before(node):
            called = graph.create_node("call_module", name, (given,))
        node.replace_all_uses_with(called)
        graph.erase_node(node)
        return name

    def _activation_rows(self) -> None:
        known = {row.module for row in self.rows}
        gone = set(self.gone)
        for name, node in self.scan.activations():
            if name in known:
                continue
            kind = (
                "function" if node.op != "call_module" else type(self.scan.modules[name]).__name__
            )
            source = self.scan.source(node)
            after = source.name if source is not None else "an input"
            if node in gone:
                self.rows.append(Row(name, kind, "replaced", "part of the layer before it"))
            else:
                self.rows.append(Row(name, kind, "left", f"not after a normalisation: {after}"))
        if self.scan.graph is None:
            taken = {id(module) for module in self.silent}
            for path, module in self.scan.modules.items():
                if is_activation(module):
                    action: Action = "replaced" if id(module) in taken else "left"
                    why = (
                        "part of the layer" if id(module) in taken else "what it follows is unknown"
                    )
                    self.rows.append(Row(path, type(module).__name__, action, why))

    def _norms(self) -> list[tuple[str, nn.Module]]:
        seen: set[int] = set()
        found = []
        for path, module in self.scan.modules.items():
            if is_norm(module) and not is_evolved(module) and id(module) not in seen:
                seen.add(id(module))
                found.append((path, module))
        return found

    def _swap(self, path: str, norm: nn.Module, why: str, affine: bool = False) -> None:
        channels = channels_of(norm)
        if channels is None:
            self._leave(path, norm, "normalises more than one axis")
            return
        self.swaps[id(norm)] = self._made(channels, layout_of(norm), affine, norm)
        action: Action = "affine" if affine else "replaced"
        self.rows.append(Row(path, type(norm).__name__, action, why))

    def _leave(self, path: str, norm: nn.Module, why: str) -> None:
        self.rows.append(Row(path, type(norm).__name__, "left", why))

    def _made(self, channels: int, layout: Layout, affine: bool, old: nn.Module) -> nn.Module:
        reference = next(old.parameters(), next(self.model.parameters(), torch.empty(0)))
        count = group_count(channels) if self.groups is None else self.groups
        made = layer_class(self.graph)(
            channels, groups=count, layout=layout, apply_act=not affine,
            recompute=self.recompute, device=reference.device, dtype=reference.dtype,
            eps=getattr(old, "eps", None) or 1e-5, momentum=getattr(old, "momentum", 0.1),
        )  # fmt: skip
        copy_statistics(old, made, self.graph)
        return made.train(old.training)


def copy_statistics(old: nn.Module, new: nn.Module, graph: Graph) -> None:
    """Scale, shift and moving averages of a normalisation, where the layer has their like.

    A layer with both ``v1`` and ``v0`` inside gets the affine there, others in the affine at their
    end; moving averages go to moments of the layer's input itself.
    """
    inner = hasattr(new, "v0") and hasattr(new, "v1")
    names = ("v1", "v0") if inner else ("weight", "bias")
    with torch.no_grad():
        for source, target in zip(("weight", "bias"), names, strict=True):
            value, place = getattr(old, source, None), getattr(new, target, None)
            if isinstance(value, torch.Tensor) and isinstance(place, torch.Tensor):
                place.copy_(value.reshape(place.shape))
        mean, variance = getattr(old, "running_mean", None), getattr(old, "running_var", None)
        if not isinstance(mean, torch.Tensor) or not isinstance(variance, torch.Tensor):
            return
        known = {"mean": mean, "variance": variance, "mean_square": variance + mean.square()}
        for name, buffer in new.named_buffers():
            kind, _, index = name.removeprefix("running_").rpartition("_")
            if kind in known and int(index) >= FIRST_OP and graph.node(int(index)).inputs == (0,):
                buffer.copy_(known[kind])


def _output_of(module: nn.Module | None) -> tuple[int, Layout] | None:
    """Channels and layout of what a module gives, where that can be read off it."""
    if module is None:
        return None
    if is_norm(module):
        channels = channels_of(module)
        return None if channels is None else (channels, layout_of(module))
    if isinstance(module, nn.Linear):
        return module.out_features, "nhwc"
    channels = getattr(module, "out_channels", None)
    return (channels, "nchw") if isinstance(channels, int) else None
