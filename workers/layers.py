"""The layer that a job trains, as a factory for anchors.

A candidate's graph becomes generated code. The baselines of tables are torch's own modules, so
that nothing of ours can make them look worse; EvoNorm and the rest come from the catalog. No layer
here may draw random numbers when built.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from evosearch.records import Job
from primitives.catalog import CATALOG
from primitives.graph import Graph
from primitives.groups import group_count
from primitives.module import build_layer
from workers.registry import not_found

MOMENTUM = 0.1
"""Share of the new batch in a moving average: the authors' decay of 0.9, and torch's default."""


def _batch(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, momentum=MOMENTUM)


NORMALISATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "bn": lambda channels, groups: _batch(channels),
    "gn": lambda channels, groups: nn.GroupNorm(groups, channels),
    "ln": lambda channels, groups: nn.GroupNorm(1, channels),
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU}

TORCH_BASELINES = ("bn-relu", "bn-silu", "gn-relu", "gn-silu", "ln-relu")
"""Baselines made of torch's own modules; ``ln`` is GroupNorm with one group, over (w, h, c)."""


class LayerFactory:
    """Number of channels -> a new layer.

    ``groups`` collects the group count of each width that was built, for layers that have groups;
    the count is the largest divisor that is at most ``most_groups`` and leaves two channels each.
    """

    def __init__(self, graph: Graph | None, baseline: str | None, most_groups: int) -> None:
        self.groups: dict[str, int] = {}
        self._graph, self._baseline, self._most_groups = graph, baseline, most_groups
        if graph is None and baseline not in TORCH_BASELINES:
            self._graph = _catalog_graph(str(baseline))
        if self._graph is not None:
            live = (self._graph.node(index).over for index in self._graph.live_ops())
            self._has_groups = "group" in live
        else:
            self._has_groups = str(baseline).startswith("gn-")

    def __call__(self, num_features: int) -> nn.Module:
        count = group_count(num_features, self._most_groups)
        if self._has_groups:
            self.groups[str(num_features)] = count
        if self._graph is not None:
            return build_layer(self._graph, num_features, groups=count, momentum=MOMENTUM)
        normalisation, activation = str(self._baseline).split("-")
        return nn.Sequential(
            NORMALISATIONS[normalisation](num_features, count), ACTIVATIONS[activation]()
        )


def _catalog_graph(name: str) -> Graph:
    if name not in CATALOG:
        raise not_found("baseline", name, sorted({*TORCH_BASELINES, *CATALOG}))
    return CATALOG[name].graph


def layer_factory(job: Job) -> LayerFactory:
    """The factory of the job's layer: its graph, or the baseline that its subject names.

    Raises:
        NotFound: the baseline's name names nothing.
    """
    return LayerFactory(job.graph, job.subject.baseline, job.task.groups)
