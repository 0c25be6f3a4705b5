"""Generated layers of the catalog against torch's own functions, or formulas written by hand.

Nothing of the language of graphs is used for the references: value and gradients in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from primitives.catalog import CATALOG
from primitives.module import build_layer

EPS, GROUPS, CHANNELS = 1e-5, 2, 6
Vectors = dict[str, Tensor]


def vector(tensor: Tensor) -> Tensor:
    return tensor.view(1, -1, 1, 1)


def bn(x: Tensor, v: Vectors) -> Tensor:
    return functional.batch_norm(x, None, None, v["v1"], v["v0"], True, 0.1, EPS)


def gn(x: Tensor, v: Vectors) -> Tensor:
    return functional.group_norm(x, GROUPS, v["v1"], v["v0"], EPS)


def ln(x: Tensor, v: Vectors) -> Tensor:
    return functional.group_norm(x, 1, v["v1"], v["v0"], EPS)


def instance(x: Tensor, v: Vectors) -> Tensor:
    return functional.instance_norm(x, None, None, v["v1"], v["v0"], True, 0.1, EPS)


def rms(x: Tensor, v: Vectors) -> Tensor:
    last = functional.rms_norm(x.movedim(1, -1), (CHANNELS,), v["v1"], EPS)
    return last.movedim(-1, 1)


def plain_rms(x: Tensor) -> Tensor:
    return functional.rms_norm(x.movedim(1, -1), (CHANNELS,), None, EPS).movedim(-1, 1)


def token_ln(x: Tensor, v: Vectors) -> Tensor:
    last = functional.layer_norm(x.movedim(1, -1), (CHANNELS,), v["v1"], v["v0"], EPS)
    return last.movedim(-1, 1)


def whitened(x: Tensor) -> Tensor:
    return functional.batch_norm(x, None, None, training=True, eps=EPS)


def deviation(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return torch.sqrt(x.var(axes, correction=0, keepdim=True) + EPS)


def root_mean_square(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return torch.sqrt(x.square().mean(axes, keepdim=True) + EPS)


def by_group(x: Tensor, of: Callable[[Tensor, tuple[int, ...]], Tensor]) -> Tensor:
    """A statistic over each group's channels and positions, at x's shape."""
    split = x.unflatten(1, (GROUPS, -1))
    return of(split, (2, 3, 4)).expand_as(split).flatten(1, 2)


NORMS = {"bn": bn, "gn": gn, "ln": ln, "in": instance, "rms": rms}
ACTIVATIONS = {"relu": functional.relu, "silu": functional.silu, "gelu": functional.gelu}


def evonorm_b(x: Tensor, other: Tensor) -> Tensor:
    return x / torch.maximum(deviation(x, (0, 2, 3)), other)


def dice(x: Tensor, v: Vectors) -> Tensor:
    gate = torch.sigmoid(whitened(x))
    return gate * x + (1 - gate) * vector(v["v0"]) * x


OTHERS: dict[str, Callable[[Tensor, Vectors], Tensor]] = {
    "relu-rms-batch": lambda x, v: x.relu() / root_mean_square(x, (0, 2, 3)),
    "evonorm-b0": lambda x, v: evonorm_b(x, vector(v["v1"]) * x + deviation(x, (2, 3))),
    "evonorm-b1": lambda x, v: evonorm_b(x, (x + 1) * root_mean_square(x, (2, 3))),
    "evonorm-b2": lambda x, v: evonorm_b(x, root_mean_square(x, (2, 3)) - x),
    "evonorm-s0": lambda x, v: x * (vector(v["v1"]) * x).sigmoid() / by_group(x, deviation),
    "evonorm-s1": lambda x, v: functional.silu(x) / by_group(x, deviation),
    "evonorm-s2": lambda x, v: functional.silu(x) / by_group(x, root_mean_square),
    "rms-norm": rms,
    "layer-norm": token_ln,
    "simple-rms-norm": lambda x, v: plain_rms(x),
    "power-norm": lambda x, v: x / root_mean_square(x, (0, 2, 3)),
    "batch-channel-norm": lambda x, v: functional.group_norm(bn(x, v), GROUPS, eps=EPS),
    "rep-bn": lambda x, v: whitened(x) * vector(v["v1"]) + vector(v["v0"]) * x,
    "dyt": lambda x, v: torch.tanh(vector(v["v1"]) * x),
    "derf": lambda x, v: torch.erf(vector(v["v1"]) * x + vector(v["v0"])),
    "dice": dice,
    "squared-relu": lambda x, v: functional.relu(x).square(),
    "swish": lambda x, v: x * torch.sigmoid(vector(v["v1"]) * x),
    "crrelu": lambda x, v: x.relu() + vector(v["v0"]) * x * torch.exp(-0.5 * x.square()),
    "elu": lambda x, v: functional.elu(x),
    "mish-like": lambda x, v: x * torch.tanh(torch.log(1 + torch.exp(x) + EPS)),
    "mish": lambda x, v: functional.mish(x),
    "gelu": lambda x, v: functional.gelu(x),
    "serf": lambda x, v: x * torch.erf(functional.softplus(x)),
    "snake": lambda x, v: x + torch.sin(vector(v["v1"]) * x) ** 2 / vector(v["v1"]),
    "celu": lambda x, v: torch.where(
        x > 0, x, vector(v["v1"]) * torch.expm1(x.clamp(max=0) / vector(v["v1"]))
    ),
    "frn-tlu": lambda x, v: torch.maximum(
        vector(v["v1"]) * x / root_mean_square(x, (2, 3)) + vector(v["v0"]), vector(v["v2"])
    ),
    "poly-relu": lambda x, v: sum(
        (vector(v[name]) * x.relu() ** k for k, name in ((1, "v1"), (2, "v3"), (3, "v4"))),
        vector(v["v0"]),
    ),
    "poly-norm": lambda x, v: sum(
        (vector(v[name]) * plain_rms(x**k) for k, name in ((1, "v1"), (2, "v3"), (3, "v4"))),
        vector(v["v0"]),
    ),
}


def reference(name: str) -> Callable[[Tensor, Vectors], Tensor]:
    if name in OTHERS:
        return OTHERS[name]
    normalisation, activation = name.split("-")
    return lambda x, v: ACTIVATIONS[activation](NORMS[normalisation](x, v))


@pytest.mark.parametrize("recompute", [False, True], ids=["plain", "recompute"])
@pytest.mark.parametrize("name", CATALOG)
def test_generated_layer_equals_the_reference(name: str, recompute: bool) -> None:
    layer = build_layer(CATALOG[name].graph, CHANNELS, groups=GROUPS, dtype=torch.float64)
    layer.recompute = recompute  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in layer.parameters():
            noise = torch.rand(CHANNELS, generator=generator, dtype=torch.float64)
            parameter.add_(0.1 + 0.5 * noise)
    x = torch.randn(4, CHANNELS, 3, 5, generator=generator, dtype=torch.float64)
    x.requires_grad_()
    own = dict(layer.named_parameters())
    value = layer(x)
    plain = reference(name)(x, own) * vector(own["weight"]) + vector(own["bias"])
    torch.testing.assert_close(value, plain, rtol=1e-11, atol=1e-11)
    cotangent = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    inputs = (x, *own.values())
    got = torch.autograd.grad(value, inputs, cotangent)
    want = torch.autograd.grad(plain, inputs, cotangent)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CATALOG)
def test_every_layer_compiles_without_graph_breaks(name: str) -> None:
    torch.compiler.reset()
    layer = build_layer(CATALOG[name].graph, CHANNELS)
    twin = copy.deepcopy(layer)
    compiled = torch.compile(twin, fullgraph=True, backend="eager")
    for mode in (True, False):
        layer.train(mode)
        twin.train(mode)
        x = torch.randn(2, CHANNELS, 3, 3, generator=torch.manual_seed(0)).requires_grad_()
        other = x.detach().clone().requires_grad_()
        value, meant = compiled(x), layer(other)
        torch.testing.assert_close(value, meant)
        value.square().sum().backward()
        meant.square().sum().backward()
        torch.testing.assert_close(x.grad, other.grad)


def test_further_vectors_start_where_the_table_says_and_keep_their_names() -> None:
    state = build_layer(CATALOG["poly-norm"].graph, 4).state_dict()
    assert sorted(state) == ["bias", "v0", "v1", "v3", "v4", "weight"]
    assert [state[name].tolist() for name in ("v0", "v3")] == [[0.0] * 4, [1.0] * 4]
    assert build_layer(CATALOG["frn-tlu"].graph, 4).state_dict()["v2"].tolist() == [0.0] * 4
