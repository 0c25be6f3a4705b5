"""The interpreter against figures worked out by hand and formulas written out here."""

from __future__ import annotations

import pytest
import torch
from known_graphs import KNOWN, V0, V1, ZERO, Build, X

from primitives.errors import LayerError
from primitives.graph import Graph, Node
from primitives.interpret import batch_moments_of, interpret
from primitives.moments import batch_statistics, node_axes
from primitives.ops import AGGREGATIONS, INDEX_SETS

EPS = 1e-5
ONE = torch.ones(4, dtype=torch.float64)
NONE = torch.zeros(4, dtype=torch.float64)


def counted(shape: tuple[int, ...] = (2, 4, 1, 2)) -> torch.Tensor:
    """0, 1, 2, ... so that every mean can be worked out in the head."""
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)


@pytest.mark.parametrize(
    ("over", "groups", "expected"),
    [
        ("batch", 1, [[4.5, 6.5, 8.5, 10.5]] * 2),
        ("sample", 1, [[3.5] * 4, [11.5] * 4]),
        ("instance", 1, [[0.5, 2.5, 4.5, 6.5], [8.5, 10.5, 12.5, 14.5]]),
        ("group", 2, [[1.5, 1.5, 5.5, 5.5], [9.5, 9.5, 13.5, 13.5]]),
        ("group", 1, [[3.5] * 4, [11.5] * 4]),
        ("group", 4, [[0.5, 2.5, 4.5, 6.5], [8.5, 10.5, 12.5, 14.5]]),
    ],
)
def test_mean_over_each_index_set(over: str, groups: int, expected: list[list[float]]) -> None:
    x = counted()
    value = interpret(Graph((Node("mean", (X,), over),)), x, NONE, ONE, groups=groups)
    assert value.shape == x.shape
    assert value.tolist() == [[[[m, m]] for m in row] for row in expected]


def test_mean_over_token_is_over_channels() -> None:
    value = interpret(Graph((Node("mean", (X,), "token"),)), counted(), NONE, ONE)
    assert value[:, 0, 0].tolist() == [[3.0, 4.0], [11.0, 12.0]]


def test_rms_and_biased_deviation_with_eps_inside_the_root() -> None:
    x = counted((1, 4, 1, 2))  # instances (0, 1), (2, 3), ...
    std = interpret(Graph((Node("std", (X,), "instance"),)), x, NONE, ONE)
    assert torch.allclose(std, torch.full_like(std, (0.25 + EPS) ** 0.5), rtol=1e-14)
    rms = interpret(Graph((Node("rms", (X,), "instance"),)), x, NONE, ONE)
    assert rms[0, 1, 0].tolist() == pytest.approx([(6.5 + EPS) ** 0.5] * 2, rel=1e-14)


def test_parameters_are_per_channel_and_zero_is_zero() -> None:
    b = Build()
    b("add", b("mul", V1, X), b("add", V0, ZERO))
    v0, v1 = torch.arange(4.0, dtype=torch.float64), torch.tensor([1.0, 2, 3, 4]).double()
    value = interpret(b.graph(), counted(), v0, v1)
    assert value[1, 2].tolist() == [[3 * 12.0 + 2, 3 * 13.0 + 2]]


@pytest.mark.parametrize("over", INDEX_SETS)
@pytest.mark.parametrize("op", AGGREGATIONS)
def test_moment_of_a_constant_is_known(op: str, over: str) -> None:
    b = Build()
    b(op, b("exp", ZERO), over=over)
    value = interpret(b.graph(), counted(), NONE, ONE, groups=2)
    known = {"mean": 1.0, "rms": (1 + EPS) ** 0.5, "std": EPS**0.5}[op]
    assert torch.allclose(value, torch.full_like(value, known), rtol=1e-14)


def test_evaluation_mode_uses_the_given_moments() -> None:
    graph = KNOWN["BN-ReLU"]
    x = torch.randn(3, 4, 2, 2, dtype=torch.float64, generator=torch.manual_seed(0))
    mean, std = batch_statistics(graph)
    moments = {mean: torch.full((1, 4, 1, 1), 0.5), std: torch.full((1, 4, 1, 1), 4.0)}
    value = interpret(
        graph, x, NONE, ONE, batch_moments={k: v.double() for k, v in moments.items()}
    )
    assert torch.allclose(value, torch.relu((x - 0.5) / (4 + EPS) ** 0.5), rtol=1e-14)
    own = batch_moments_of(graph, x, NONE, ONE)
    assert own.keys() == {mean, std}
    assert torch.allclose(own[std].flatten(), x.var((0, 2, 3), correction=0))
    same = interpret(graph, x, NONE, ONE, batch_moments=own)
    assert torch.equal(same, interpret(graph, x, NONE, ONE))


def test_moments_of_what_does_not_vary_over_the_batch_are_no_statistics() -> None:
    b = Build()
    deviation = b("std", X, over="batch")
    again = b("mean", deviation, over="batch")
    parameter = b("rms", V1, over="batch")
    dead = b("mean", X, over="batch")
    b("mul", b("mul", again, parameter), X)
    graph = b.graph()
    assert batch_statistics(graph) == (deviation,)
    assert dead not in node_axes(graph)
    assert {node_axes(graph)[index] for index in (deviation, again, parameter)} == {"c"}


def test_axes_follow_the_index_sets() -> None:
    left = {}
    for over in INDEX_SETS:
        b = Build()
        mean = b("mean", X, over=over)
        left[over] = node_axes(b.graph())[mean]
    assert left == {"batch": "c", "sample": "b", "instance": "bc", "group": "bc", "token": "bs"}


def test_wrong_shapes_and_missing_moments_are_refused() -> None:
    graph = KNOWN["EvoNorm-B0"]
    with pytest.raises(LayerError, match="3 groups divide, got"):
        interpret(graph, counted(), NONE, ONE, groups=3)
    with pytest.raises(LayerError, match="node 7: a batch moment is missing"):
        interpret(graph, counted(), NONE, ONE, batch_moments={})
