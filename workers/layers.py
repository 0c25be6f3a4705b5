"""The layer that a job trains, as a factory for anchors.

A candidate's graph becomes generated code. The baselines of tables are torch's own modules, so
that nothing of ours can make them look worse; EvoNorm and the rest come from the catalog. No layer
here may draw random numbers when built.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from evosearch.config import Forbidden, Slot, Task
from evosearch.errors import ConfigError
from evosearch.own import ORIGINAL
from evosearch.records import Job
from primitives.catalog import CATALOG
from primitives.graph import Graph
from primitives.groups import group_count
from primitives.module import build_layer
from primitives.structure import analyse
from workers.anchors import ANCHORS
from workers.registry import not_found

MOMENTUM = 0.1
"""Share of the new batch in a moving average: the authors' decay of 0.9, and torch's default."""


def _batch(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, momentum=MOMENTUM)


class TokenNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position. Shapes: (n, c, h, w) -> the same."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x.movedim(1, -1))
        return y.movedim(-1, 1)


NORMALISATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "bn": lambda channels, groups: _batch(channels),
    "gn": lambda channels, groups: nn.GroupNorm(groups, channels),
    "ln": lambda channels, groups: nn.GroupNorm(1, channels),
    "token_ln": lambda channels, groups: TokenNorm(channels),
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}

TORCH_BASELINES = (
    "bn-relu", "bn-silu", "gn-relu", "gn-silu", "ln-relu", "token_ln-gelu", "token_ln-silu",
)  # fmt: skip
"""Baselines made of torch's own modules; ``ln`` is GroupNorm with one group, over (w, h, c), and
``token_ln`` LayerNorm over the channels of each position, as transformers have it."""
KEEPS_POSITIONS_APART = ("token_ln",)

STANDARD = "bn-relu"
"""What costs are told relative to."""

FORMULAS: dict[Slot, tuple[str, ...]] = {
    "norm_act": ("bn-relu", "gn-relu", "rms-relu"), "norm": ("layer-norm",), "act": ("swish",),
}  # fmt: skip
"""By slot, known layers that are formulas; the last one mixes no axis that an anchor may forbid."""


class LayerFactory:
    """Number of channels -> a new layer.

    ``groups`` collects the group count of each width that was built, for layers that have groups
    (``has_groups``); the count is the largest divisor that is at most ``most_groups`` and leaves
    two channels each.
    A baseline of torch's modules gives its part for the slot: both, or one of the two.
    """

    def __init__(
        self,
        graph: Graph | None,
        baseline: str | None,
        most_groups: int,
        slot: Slot = "norm_act",
        *,
        authors_rule: bool = False,
    ) -> None:
        self.groups: dict[str, int] = {}
        self._graph, self._baseline, self._most_groups = graph, baseline, most_groups
        self._slot, self._authors_rule = slot, authors_rule
        self.baseline = baseline if graph is None else None
        if graph is None and baseline not in (*TORCH_BASELINES, ORIGINAL):
            self._graph = _catalog_graph(str(baseline))
        if self._graph is not None:
            live = (self._graph.node(index).over for index in self._graph.live_ops())
            self.has_groups = "group" in live
        else:
            self.has_groups = str(baseline).startswith("gn-")

    @property
    def graph(self) -> Graph | None:
        """The layer as a graph, where it has one: torch's own modules have the catalog's."""
        if self._graph is not None or self.baseline not in CATALOG:
            return self._graph
        return CATALOG[self.baseline].graph

    def __call__(self, num_features: int) -> nn.Module:
        if self.baseline == ORIGINAL:
            raise ConfigError(
                f'the baseline "{ORIGINAL}" is a finished model as it came',
                expected="an anchor of es.anchor(..., model=...)",
            )
        count = self.group_count(num_features)
        if self._graph is not None:
            return build_layer(self._graph, num_features, groups=count, momentum=MOMENTUM)
        normalisation, activation = str(self._baseline).split("-")
        if self._slot == "act":
            return ACTIVATIONS[activation]()
        norm = NORMALISATIONS[normalisation](num_features, count)
        return norm if self._slot == "norm" else nn.Sequential(norm, ACTIVATIONS[activation]())

    def group_count(self, num_features: int) -> int:
        """How many groups a layer of that width has; noted, where the layer has groups."""
        count = self._count(num_features)
        if self.has_groups:
            self.groups[str(num_features)] = count
        return count

    def _count(self, num_features: int) -> int:
        if not self._authors_rule:
            return group_count(num_features, self._most_groups)
        most = min(self._most_groups, num_features)
        return next(count for count in range(most, 0, -1) if num_features % count == 0)

    def mixes(self) -> frozenset[Forbidden]:
        """Which of the axes that an anchor may forbid the layer mixes."""
        if self._graph is not None:
            return _mixed_by(self._graph)
        if self.baseline == ORIGINAL:
            return frozenset()  # the user's own model; what it mixes is the user's own choice
        normalisation = str(self._baseline).split("-")[0]
        if self._slot == "act" or normalisation in KEEPS_POSITIONS_APART:
            return frozenset()
        return frozenset(("batch", "positions") if normalisation == "bn" else ("positions",))


def _mixed_by(graph: Graph) -> frozenset[Forbidden]:
    mixed = analyse(graph).mixes
    axes: tuple[tuple[Forbidden, str], ...] = (("batch", "b"), ("positions", "s"))
    return frozenset(axis for axis, letter in axes if letter in mixed)


def formula_for(anchor: str) -> str:
    """A known layer that is a formula and mixes no axis that the anchor forbids.

    Those that the anchor's own code names come first.
    """
    network = ANCHORS.get(anchor)
    named = network.own.baselines if network.own is not None else ()
    wanted = [name for name in named if name in CATALOG] + [*FORMULAS[network.slots[0]]]
    fitting = (name for name in wanted if not _mixed_by(CATALOG[name].graph) & network.forbids)
    return next(fitting, wanted[-1])


def standard_layer(task: Task, anchor: str) -> LayerFactory:
    """BN-ReLU for an anchor of the task, or another known layer where the anchor forbids that."""
    setting = next(one for one in task.anchors if one.name == anchor)
    network = ANCHORS.get(anchor)
    slot = setting.slot or network.slots[0]
    names = (STANDARD, formula_for(anchor))
    made = [
        LayerFactory(None, name, task.groups, slot, authors_rule=task.group_rule == "authors")
        for name in names
    ]
    return next((one for one in made if not one.mixes() & network.forbids), made[-1])


def _catalog_graph(name: str) -> Graph:
    if name not in CATALOG:
        raise not_found("baseline", name, sorted({*TORCH_BASELINES, *CATALOG}))
    return CATALOG[name].graph


def layer_factory(job: Job, anchor: str | None = None) -> LayerFactory:
    """The factory of the job's layer for an anchor of its task (by default the slot norm_act).

    Raises:
        NotFound: the baseline's name names nothing.
        ConfigError: the layer mixes an axis that the anchor forbids.
    """
    setting = next((one for one in job.task.anchors if one.name == anchor), None)
    network = ANCHORS.get(setting.name) if setting is not None else None
    slot: Slot = "norm_act"
    if setting is not None and network is not None:
        slot = setting.slot or network.slots[0]
    made = LayerFactory(
        job.graph,
        job.subject.baseline,
        job.task.groups,
        slot,
        authors_rule=job.task.group_rule == "authors",
    )
    leaks = sorted(made.mixes() & network.forbids) if network is not None else []
    if leaks:
        raise ConfigError(
            f"{job.subject.key} mixes {' and '.join(leaks)}, which anchor {anchor} forbids",
            hint="choose a layer over index set token, or a baseline such as token_ln-gelu",
        )
    return made
