"""Checks what is given away against the interpreter: code text, and saved programs by their runs.

An artefact that fails is an error and no file. Nothing here writes files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from primitives.errors import LayerError
from primitives.graph import Graph
from primitives.interpret import batch_moments_of, interpret
from primitives.ops import OPS, V_INIT

CLASS_NAME = "EvolvedLayer"
CHANNELS = 8
TOLERANCE = 1e-9
"""Largest relative difference of generated code to the interpreter, in float64."""

PROGRAM_TOLERANCE = 1e-4
"""The same for saved float32 programs."""


def verify_source(source: str, graph: Graph) -> None:
    """Compare the text's class with the interpreter on a probe batch: training, then evaluation.

    Raises:
        LayerError: the outputs differ.
    """
    namespace: dict[str, Any] = {"__name__": "evosearch_export_check"}
    exec(compile(source, "<export>", "exec"), namespace)
    # With momentum 1 the moving averages are those of the last batch.
    layer = namespace[CLASS_NAME](CHANNELS, groups=2, momentum=1.0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(20)
    with torch.no_grad():
        for tensor in layer.parameters():
            tensor.add_(0.3 * torch.randn(CHANNELS, generator=generator, dtype=tensor.dtype))
        first, second = torch.randn(2, 4, CHANNELS, 5, 6, generator=generator, dtype=torch.float64)
        own = {name: getattr(layer, name, torch.zeros(CHANNELS).double()) for name in V_INIT}
        given: dict[str, Any] = {"v0": own["v0"], "v1": own["v1"], "groups": 2, "vectors": own}
        moments = batch_moments_of(graph, first, **given)
        trained = interpret(graph, first, **given)
        judged = interpret(graph, second, **given, batch_moments=moments)
        shape = (1, CHANNELS, 1, 1)
        for mode, x, meant in (("training", first, trained), ("evaluation", second, judged)):
            layer.train(mode == "training")
            meant = meant * layer.weight.view(shape) + layer.bias.view(shape)
            compare(f"{mode} mode", layer(x), meant, TOLERANCE)


def verify_program(
    run: Callable[[Tensor], Tensor], layer: nn.Module, graph: Graph, what: str
) -> None:
    """Compare a saved program with the interpreter in evaluation mode, on three shapes.

    Raises:
        LayerError: an output differs by more than 1e-4.
    """
    channels, groups = int(layer.num_features), int(layer.groups or 1)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(21)
    for shape in ((2, channels, 8, 8), (5, channels, 8, 8), (1, channels, 6, 10)):
        x = torch.randn(shape, generator=generator)
        meant = meaning(graph, layer, x, groups)
        compare(f"{what}, input {shape}", run(x).detach(), meant, PROGRAM_TOLERANCE)


def meaning(graph: Graph, layer: nn.Module, x: Tensor, groups: int) -> Tensor:
    """The interpreter's value of the graph with a layer's parameters and moving averages."""
    state = {name: value.detach() for name, value in layer.state_dict().items()}
    channels = x.shape[1]
    shape = (1, -1, *[1] * (x.ndim - 2))
    vectors = {
        name: state.get(name, torch.full((channels,), start)) for name, start in V_INIT.items()
    }
    v0, v1 = vectors["v0"], vectors["v1"]
    own = batch_moments_of(graph, x, v0, v1, groups=groups, vectors=vectors)
    moments = {}
    known = {
        (key.removeprefix("running_").rpartition("_")[0],
         graph.node(int(key.rpartition("_")[2])).inputs): value
        for key, value in state.items() if key.startswith("running_")
    }  # fmt: skip
    for index, batch in own.items():
        node = graph.node(index)
        row = OPS[node.op].moment
        assert row is not None
        kept = known.get((row.name, node.inputs), state.get(f"running_{row.name}_{index}"))
        moments[index] = batch if kept is None else kept.view(shape)
    value = interpret(graph, x, v0, v1, groups=groups, batch_moments=moments, vectors=vectors)
    with_affine: Tensor = value * state["weight"].view(shape) + state["bias"].view(shape)
    return with_affine


def compare(where: str, got: Tensor, meant: Tensor, tolerance: float) -> None:
    """Nothing, if the tensors are equal within the tolerance.

    Raises:
        LayerError: they are not.
    """
    scale = max(1.0, float(torch.nan_to_num(meant).abs().max()))
    same = torch.isclose(got, meant, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
    if not bool(same.all()):
        raise LayerError(
            "the export differs from what the graph means; no file was written",
            where=where,
            expected=f"equal within {tolerance:g}",
            got=f"a difference of {float((got - meant).abs().max()):.3g}",
            hint="export it as json, and report this graph",
        )
