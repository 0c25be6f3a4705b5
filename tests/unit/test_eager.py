"""The fast eager steps of generated layers: exact at ties and infinities, small in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from primitives.catalog import CATALOG
from primitives.codegen import layer_source
from primitives.cost import saved_bytes
from primitives.module import build_layer, layer_class

DOUBLE = torch.float64


def names_of(entry: str) -> dict[str, Any]:
    """What the generated file of a catalog layer defines."""
    namespace: dict[str, Any] = {"__name__": "generated"}
    exec(compile(layer_source(CATALOG[entry].graph), "<generated>", "exec"), namespace)
    return namespace


def gradients(value: Tensor, inputs: tuple[Tensor, ...], cotangent: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value, inputs, cotangent))


@pytest.mark.parametrize("shape", [(3, 4, 5, 5), (1, 4, 1, 1)])
def test_maximum_shares_ties_and_keeps_infinite_gradients_where_they_belong(
    shape: tuple[int, ...],
) -> None:
    fast = names_of("evonorm-b0")["_maximum"]
    rng = torch.Generator().manual_seed(1)
    b = torch.randint(-2, 3, (3, 4, 5, 5), generator=rng).to(DOUBLE)
    a = torch.randint(-2, 3, shape, generator=rng).to(DOUBLE)
    b[0, 0, 0, :2] = torch.inf
    a[0, 0, 0, 0] = torch.inf
    cotangent = torch.randn(b.shape, generator=rng, dtype=DOUBLE)
    cotangent[1, 1] = torch.inf
    a.requires_grad_()
    b.requires_grad_()
    meant = gradients(torch.maximum(a, b), (a, b), cotangent)
    for got, want in zip(gradients(fast(a, b), (a, b), cotangent), meant, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-14, atol=1e-14)
    assert torch.equal(fast(a, b), torch.maximum(a, b))


@pytest.mark.parametrize("groups", [None, 2, 4])
@pytest.mark.parametrize("part", [0, 1])
def test_variance_and_mean_have_the_plain_gradient(groups: int | None, part: int) -> None:
    fast = names_of("evonorm-s0")["_var_mean"]
    x = 3 + torch.randn(2, 4, 3, 5, generator=torch.manual_seed(2), dtype=DOUBLE)
    x.requires_grad_()
    split = x if groups is None else x.unflatten(1, (groups, -1))
    dims = (2, 3) if groups is None else (2, 3, 4)
    plain = torch.var_mean(split, dims, correction=0, keepdim=True)[part]
    plain = plain.expand_as(split).reshape(x.shape)[:, :, :1, :1]
    got = fast(x, (2, 3), groups)[part]
    torch.testing.assert_close(got, plain)
    cotangent = torch.randn(got.shape, generator=torch.manual_seed(3), dtype=DOUBLE)
    torch.testing.assert_close(
        torch.autograd.grad(got, x, cotangent), torch.autograd.grad(plain, x, cotangent)
    )


@pytest.mark.parametrize("name", ["evonorm-s0", "evonorm-b0"])
def test_recomputation_saves_at_most_a_tenth_more_than_bn_relu(name: str) -> None:
    x = torch.randn(8, 16, 8, 8, requires_grad=True)
    reference = saved_bytes(nn.Sequential(nn.BatchNorm2d(16), nn.ReLU()), x)
    kind = layer_class(CATALOG[name].graph)
    frugal = saved_bytes(kind(16, recompute=True), x)  # type: ignore[call-arg]
    assert frugal <= 1.1 * reference
    assert frugal < saved_bytes(build_layer(CATALOG[name].graph, 16), x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CATALOG)
def test_recomputation_changes_nothing_but_memory(name: str, training: bool) -> None:
    made = []
    for recompute in (False, True):
        kind = layer_class(CATALOG[name].graph)
        layer = kind(6, groups=3, recompute=recompute, dtype=DOUBLE)  # type: ignore[call-arg]
        layer.train(training)
        x = torch.randn(2, 6, 3, 3, generator=torch.manual_seed(4), dtype=DOUBLE)
        x.requires_grad_()
        inputs = (x, *layer.parameters())
        first = torch.autograd.grad(layer(x).square().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
        made.append([*first, *second, *layer.buffers()])
    for plain, again in zip(*made, strict=True):
        torch.testing.assert_close(again, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["evonorm-s0", "evonorm-b0", "bn-relu"])
def test_recomputation_saves_a_half_precision_input_as_it_came(
    name: str, dtype: torch.dtype
) -> None:
    made = []
    for recompute in (False, True):
        layer = layer_class(CATALOG[name].graph)(16, recompute=recompute)  # type: ignore[call-arg]
        x = torch.randn(8, 16, 8, 8, generator=torch.manual_seed(4)).to(dtype).requires_grad_()
        if recompute:
            assert saved_bytes(layer, x) <= 1.1 * x.nbytes
        value = layer(x)
        value.backward(x.detach())
        assert value.dtype == dtype
        made.append([value.detach(), x.grad, *(p.grad for p in layer.parameters())])
    for plain, again in zip(*made, strict=True):
        torch.testing.assert_close(again, plain)
