"""Layers through torch.compile with inductor, as users run them; needs a C++ compiler."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path

import pytest
import torch

from primitives.catalog import CATALOG
from primitives.module import build_layer
from tests.support.skips import unavailable

CHANNELS = 8


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of these tests' own, so that it is this code that is compiled."""
    return tmp_path_factory.mktemp("inductor")


@pytest.fixture(autouse=True)
def compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips without a compiler."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        unavailable("needs a C++ compiler (Debian: apt-get install g++)")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(cache))
    torch.compiler.reset()


# Torch's own: inductor scripts a helper when it is imported.
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("name", ["evonorm-s0", "evonorm-b0"])
def test_inductor_computes_what_the_layer_does(name: str) -> None:
    layer = build_layer(CATALOG[name].graph, CHANNELS, groups=2)
    rng = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
    twin = copy.deepcopy(layer)
    counters = torch._dynamo.utils.counters
    counters.clear()
    from torch._inductor import config, metrics

    metrics.reset()
    with config.patch(compile_threads=1):  # no pool of processes that outlives the test
        compiled = torch.compile(twin, fullgraph=True, dynamic=False)
        for mode in (True, False):
            layer.train(mode)
            twin.train(mode)
            x = (2 * torch.randn(3, CHANNELS, 6, 5, generator=rng) + 0.5).requires_grad_()
            other = x.detach().clone().requires_grad_()
            value, meant = compiled(x), layer(other)
            torch.testing.assert_close(value, meant, rtol=1e-4, atol=1e-5)
            cotangent = torch.randn(value.shape, generator=rng)
            value.backward(cotangent)
            meant.backward(cotangent)
            torch.testing.assert_close(x.grad, other.grad, rtol=1e-4, atol=1e-5)
            with torch.no_grad():
                torch.testing.assert_close(compiled(x), layer(x), rtol=1e-4, atol=1e-5)
    assert metrics.generated_kernel_count > 0  # C++ was written and run, nothing fell back
    assert not counters["graph_break"]
    for (key, ours), theirs in zip(layer.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad, ours.grad, rtol=1e-4, atol=1e-4, msg=key)
    for ours_state, theirs_state in zip(layer.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(theirs_state, ours_state)
