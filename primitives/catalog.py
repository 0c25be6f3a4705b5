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
from primitives.ops import OP_SETS


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
    slot: Literal["norm_act", "norm", "act"] = "norm_act"

    @property
    def graph(self) -> Graph:
        """The formula's graph, parsed once."""
        return _graph(self.formula)

    @property
    def op_set(self) -> str:
        """The smallest named op set that can say the layer."""
        needed = {(node.op, node.over) for node in self.graph.nodes}
        return next(name for name, kinds in OP_SETS.items() if needed <= set(kinds))


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


_GELU = "activation: Hendrycks, Gimpel: Gaussian Error Linear Units (GELUs), 2016, arXiv 1606.08415"
_INSTANCE_NORM = (
    "Ulyanov, Vedaldi, Lempitsky: Instance Normalization: The Missing Ingredient for Fast "
    "Stylization, 2016, arXiv 1607.08022"
)
_RMS_NORM = "Zhang, Sennrich: Root Mean Square Layer Normalization, NeurIPS 2019, arXiv 1910.07467"
_POLY = (
    "Zhuo et al.: Polynomial Composition Activations: Unleashing the Dynamics of Large Language "
    "Models, ICLR 2025, arXiv 2411.03884"
)


def _gelu(inner: str) -> str:
    """Exact GELU, with the Gaussian's distribution function."""
    return f"a = {inner}; 0.5 * a * (1 + erf(a / root2))"


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
    Entry(
        "in-relu", "InstanceNorm, then ReLU", f"relu({_normalised('instance')})",
        _INSTANCE_NORM, 2016, "InstanceNorm2d(C, affine=True), ReLU()",
    ),
    Entry(
        "rms-norm", "RMSNorm over the channels of a token", "x / rms_token(x) * v1",
        _RMS_NORM, 2019, slot="norm",
    ),
    Entry(
        "simple-rms-norm", "SimpleRMSNorm: RMSNorm without a gain", "x / rms_token(x)",
        "Qin et al.: TransNormerLLM, 2023, arXiv 2307.14995", 2023, slot="norm",
    ),
    Entry(
        "power-norm", "PowerNorm's quadratic mean over the batch, with its batch value",
        "x / rms_batch(x)",
        "Shen, Yao, Gholami, Mahoney, Keutzer: PowerNorm: Rethinking Batch Normalization in "
        "Transformers, ICML 2020, arXiv 2003.07845", 2020, slot="norm",
    ),
    Entry(
        "batch-channel-norm", "BatchNorm, then GroupNorm",
        f"a = {_normalised('batch')}; (a - mean_group(a)) / std_group(a)",
        "Qiao, Wang, Liu, Shen, Yuille: Micro-Batch Training with Batch-Channel Normalization and "
        "Weight Standardization, 2019, arXiv 1903.10520", 2019, slot="norm",
    ),
    Entry(
        "rep-bn", "RepBN: BatchNorm plus a share of the input",
        "(x - mean_batch(x)) / std_batch(x) * v1 + v0 * x",
        "Guo, Chen, Tang, Wang: SLAB: Efficient Transformers with Simplified Linear Attention and "
        "Progressive Re-parameterized Batch Normalization, ICML 2024, arXiv 2405.11582",
        2024, slot="norm",
    ),
    Entry(
        "dyt", "DyT: dynamic tanh in the place of a normalization, with a slope for each channel, "
        "from 1 (the paper: one number, from 0.5)", "tanh(v1 * x)",
        "Zhu, Chen, He, LeCun, Liu: Transformers without Normalization, CVPR 2025, "
        "arXiv 2503.10622", 2025, slot="norm",
    ),
    Entry(
        "dice", "Dice: PReLU with a gate that follows the batch",
        "p = sigmoid((x - mean_batch(x)) / std_batch(x)); p * x + (1 - p) * (v0 * x)",
        "Zhou et al.: Deep Interest Network for Click-Through Rate Prediction, KDD 2018, "
        "arXiv 1706.06978", 2018, slot="act",
    ),
    Entry(
        "squared-relu", "Squared ReLU", "square(relu(x))",
        "So et al.: Primer: Searching for Efficient Transformers for Language Modeling, "
        "NeurIPS 2021, arXiv 2109.08668", 2021, slot="act",
    ),
    Entry(
        "swish", "Swish with a trainable slope", "x * sigmoid(v1 * x)",
        "Ramachandran, Zoph, Le: Searching for Activation Functions, 2017, arXiv 1710.05941",
        2017, slot="act",
    ),
    Entry(
        "crrelu", "CRReLU: ReLU with a correction that fades on both sides",
        "relu(x) + v0 * (x * exp(-(square(x) / (1 + 1))))",
        "Sun et al.: A Method on Searching Better Activation Functions, 2024, arXiv 2405.12954",
        2024, slot="act",
    ),
    Entry(
        "elu", "ELU", "relu(x) + (exp(-relu(-x)) - 1)",
        "Clevert, Unterthiner, Hochreiter: Fast and Accurate Deep Network Learning by Exponential "
        "Linear Units (ELUs), ICLR 2016, arXiv 1511.07289", 2016, "ELU()", slot="act",
    ),
    Entry(
        "mish-like", "Mish, with the guarded logarithm", "x * tanh(log(1 + exp(x)))",
        "Misra: Mish: A Self Regularized Non-Monotonic Activation Function, BMVC 2020, "
        "arXiv 1908.08681", 2020, slot="act",
    ),
    Entry(
        "layer-norm", "LayerNorm over the channels of a token", _normalised("token"), _LAYER_NORM,
        2016, slot="norm",
    ),
    Entry(
        "ln-silu", "LayerNorm over the whole sample, then SiLU", f"silu({_normalised('sample')})",
        f"{_LAYER_NORM}; {_SILU}", 2017, "GroupNorm(1, C), SiLU()",
    ),
    Entry(
        "in-silu", "InstanceNorm, then SiLU", f"silu({_normalised('instance')})",
        f"{_INSTANCE_NORM}; {_SILU}", 2017, "InstanceNorm2d(C, affine=True), SiLU()",
    ),
    Entry(
        "rms-relu", "RMSNorm over the channels of a token, then ReLU",
        "relu(x / rms_token(x) * v1)",
        _RMS_NORM, 2019,
    ),
    Entry(
        "rms-silu", "RMSNorm over the channels of a token, then SiLU",
        "silu(x / rms_token(x) * v1)",
        f"{_RMS_NORM}; {_SILU}", 2019,
    ),
    Entry("gelu", "GELU, exact", _gelu("x"), _GELU, 2016, "GELU()", slot="act"),
    Entry(
        "bn-gelu", "BatchNorm, then GELU", _gelu(_normalised("batch")), f"{_BATCH_NORM}; {_GELU}",
        2016, "BatchNorm2d(C), GELU()",
    ),
    Entry(
        "gn-gelu", "GroupNorm, then GELU", _gelu(_normalised("group")), f"{_GROUP_NORM}; {_GELU}",
        2018, "GroupNorm(G, C), GELU()",
    ),
    Entry(
        "ln-gelu", "LayerNorm over the whole sample, then GELU", _gelu(_normalised("sample")),
        f"{_LAYER_NORM}; {_GELU}", 2016, "GroupNorm(1, C), GELU()",
    ),
    Entry(
        "in-gelu", "InstanceNorm, then GELU", _gelu(_normalised("instance")),
        f"{_INSTANCE_NORM}; {_GELU}", 2016, "InstanceNorm2d(C, affine=True), GELU()",
    ),
    Entry(
        "rms-gelu", "RMSNorm over the channels of a token, then GELU",
        _gelu("x / rms_token(x) * v1"), f"{_RMS_NORM}; {_GELU}", 2019,
    ),
    Entry(
        "frn-tlu", "Filter response normalization, then a thresholded linear unit",
        "max(x / rms_instance(x) * v1 + v0, v2)",
        "Singh, Krishnan: Filter Response Normalization Layer: Eliminating Batch Dependence in the "
        "Training of Deep Neural Networks, CVPR 2020, arXiv 1911.09737", 2020,
    ),
    Entry(
        "derf", "Derf: dynamic erf in the place of a normalization, with slope and shift for each "
        "channel, from 1 and 0 (the paper: one number each)", "erf(v1 * x + v0)",
        "Chen, Lu, Zhu, Sun, Liu: Stronger Normalization-Free Transformers, CVPR 2026, "
        "arXiv 2512.10938", 2025, slot="norm",
    ),
    Entry(
        "poly-relu", "PolyReLU of order 3, with coefficients for each channel, from 1 (the paper: "
        "one number for each power)",
        "a = relu(x); v0 + v1 * a + v3 * square(a) + v4 * (a * square(a))", _POLY, 2024, slot="act",
    ),
    Entry(
        "poly-norm", "PolyNorm of order 3, with coefficients for each channel, from 1 (the paper: "
        "one number for each power)",
        "a = square(x); b = x * a; "
        "v0 + v1 * (x / rms_token(x)) + v3 * (a / rms_token(a)) + v4 * (b / rms_token(b))",
        _POLY, 2024, slot="act",
    ),
    Entry(
        "celu", "CELU with a trainable alpha: ELU that stays smooth at zero",
        "relu(x) + v1 * (exp(min(x, zero) / v1) - 1)",
        "Barron: Continuously Differentiable Exponential Linear Units, 2017, arXiv 1704.07483",
        2017, slot="act",
    ),
    Entry(
        "mish", "Mish", "x * tanh(softplus(x))",
        "Misra: Mish: A Self Regularized Non-Monotonic Activation Function, BMVC 2020, "
        "arXiv 1908.08681", 2020, "Mish()", slot="act",
    ),
    Entry(
        "serf", "Serf: Mish with the error function", "x * erf(softplus(x))",
        "Nag, Bhattacharyya, Mukherjee, Kundu: SERF: Towards better training of deep neural "
        "networks using log-Softplus ERror activation Function, WACV 2023, arXiv 2108.09598",
        2021, slot="act",
    ),
    Entry(
        "snake", "Snake with a trainable frequency", "x + square(sin(v1 * x)) / v1",
        "Ziyin, Hartwig, Ueda: Neural Networks Fail to Learn Periodic Functions and How to Fix It, "
        "NeurIPS 2020, arXiv 2006.08195", 2020, slot="act",
    ),
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
