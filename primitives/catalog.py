"""The layers that are known by name: baselines and published layers as formulas with their source.

They are fixtures of the tests and starting points of searches. The baselines of tables are torch's
own modules; the entries say which. This file must not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Literal

from primitives.errors import EvosearchError
from primitives.formula import parse
from primitives.graph import Graph


@dataclass(frozen=True, slots=True)
class Entry:
    """One known layer; a per-channel affine of its own follows it where a host network says so.

    ``torch_equivalent``: the torch modules that compute the same, for ``C`` channels and ``G``
    groups, where there are such; their weight and bias are ``v1`` and ``v0``.
    """

    name: str
    title: str
    formula: str
    citation: str
    year: int
    torch_equivalent: str | None = None
    slot: Literal["norm_act"] = "norm_act"

    @property
    def graph(self) -> Graph:
        """The formula's graph, parsed once."""
        return _graph(self.formula)


@cache
def _graph(formula: str) -> Graph:
    return parse(formula)


_BATCH_NORM = (
    "Ioffe, Szegedy: Batch Normalization: Accelerating Deep Network Training by Reducing Internal "
    "Covariate Shift, ICML 2015, arXiv 1502.03167"
)
_GROUP_NORM = "Wu, He: Group Normalization, ECCV 2018, arXiv 1803.08494"
_LAYER_NORM = "Ba, Kiros, Hinton: Layer Normalization, 2016, arXiv 1607.06450"
_SILU = (
    "activation: Elfwing, Uchibe, Doya: Sigmoid-Weighted Linear Units for Neural Network Function "
    "Approximation in Reinforcement Learning, 2017, arXiv 1702.03118"
)
_EVONORM = (
    "Liu, Brock, Simonyan, Le: Evolving Normalization-Activation Layers, NeurIPS 2020, "
    "arXiv 2004.02967"
)


def _normalised(index_set: str) -> str:
    """Mean 0 and deviation 1 over the index set, then the trainable affine inside the layer."""
    return f"(x - mean_{index_set}(x)) / std_{index_set}(x) * v1 + v0"


_ENTRIES = (
    Entry(
        "bn-relu", "BatchNorm, then ReLU", f"relu({_normalised('batch')})", _BATCH_NORM, 2015,
        "BatchNorm2d(C), ReLU()",
    ),
    Entry(
        "bn-silu", "BatchNorm, then SiLU", f"silu({_normalised('batch')})",
        f"{_BATCH_NORM}; {_SILU}", 2017, "BatchNorm2d(C), SiLU()",
    ),
    Entry(
        "gn-relu", "GroupNorm, then ReLU", f"relu({_normalised('group')})", _GROUP_NORM, 2018,
        "GroupNorm(G, C), ReLU()",
    ),
    Entry(
        "gn-silu", "GroupNorm, then SiLU", f"silu({_normalised('group')})",
        f"{_GROUP_NORM}; {_SILU}", 2018, "GroupNorm(G, C), SiLU()",
    ),
    Entry(
        "ln-relu", "LayerNorm over the whole sample, then ReLU", f"relu({_normalised('sample')})",
        _LAYER_NORM, 2016, "GroupNorm(1, C), ReLU()",
    ),
    Entry(
        "relu-rms-batch", "ReLU by the root mean square over the batch", "relu(x) / rms_batch(x)",
        f"{_EVONORM} (reported there for random search with rejection)", 2020,
    ),
    Entry(
        "evonorm-b0", "EvoNorm-B0", "x / max(std_batch(x), v1 * x + std_instance(x))",
        _EVONORM, 2020,
    ),
    Entry(
        "evonorm-b1", "EvoNorm-B1", "x / max(std_batch(x), (x + 1) * rms_instance(x))",
        _EVONORM, 2020,
    ),
    Entry(
        "evonorm-b2", "EvoNorm-B2", "x / max(std_batch(x), rms_instance(x) - x)", _EVONORM, 2020
    ),
    Entry("evonorm-s0", "EvoNorm-S0", "x * sigmoid(v1 * x) / std_group(x)", _EVONORM, 2020),
    Entry("evonorm-s1", "EvoNorm-S1", "x * sigmoid(x) / std_group(x)", _EVONORM, 2020),
    Entry("evonorm-s2", "EvoNorm-S2", "x * sigmoid(x) / rms_group(x)", _EVONORM, 2020),
)  # fmt: skip

CATALOG: dict[str, Entry] = {row.name: row for row in _ENTRIES}
"""Name -> known layer, baselines first."""


def entry(name: str) -> Entry:
    """The catalog layer of that name.

    Raises:
        EvosearchError: there is no such layer; close names are offered.

    Example:
        >>> entry("evonorm-s0").formula
        'x * sigmoid(v1 * x) / std_group(x)'
    """
    found = CATALOG.get(name) if isinstance(name, str) else None
    if found is None:
        shown = str(name)[:60]
        near = get_close_matches(shown.lower().replace("_", "-"), CATALOG, n=3)
        raise EvosearchError(
            "unknown catalog layer", got=repr(shown),
            expected=None if near else "one of " + ", ".join(CATALOG),
            hint=f"did you mean {' or '.join(near)}?" if near else None,
        )  # fmt: skip
    return found
