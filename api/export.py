"""Takes a layer home: as PyTorch, graph JSON, formula, LaTeX or DOT text.

Python code is run and compared with the interpreter before it is given away; code that does not
compute what the graph means is an error and no file. Files appear whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from evosearch.errors import EvosearchError, LayerError
from primitives.graph import Graph

Format = Literal["python", "json", "formula", "latex", "dot"]

CLASS_NAME = "EvolvedLayer"
CHANNELS = 8
TOLERANCE = 1e-9
"""Largest relative difference of generated code to the interpreter, in float64."""


def render(graph: Graph, form: Format) -> str:
    """The graph in that form, ending in a newline.

    Raises:
        EvosearchError: the form cannot say this graph, or the code failed its check.
    """
    match form:
        case "python":
            return checked_source(graph)
        case "json":
            return json.dumps(graph.to_json(), indent=1) + "\n"
        case "formula":
            from primitives.printer import format_formula

            return format_formula(graph) + "\n"
        case "latex":
            from primitives.symbolic import to_latex

            return to_latex(graph) + "\n"
        case "dot":
            from primitives.drawing import to_dot

            text = to_dot(graph)
            return text if text.endswith("\n") else text + "\n"


def checked_source(graph: Graph, notes: Iterable[str] = ()) -> str:
    """Python text of the layer, verified against the interpreter in both modes.

    Raises:
        LayerError: the code computes something else than the graph means.
    """
    from evosearch.report import formula_of
    from primitives.codegen import layer_source
    from primitives.digest import digest

    lines = [f"Formula: {formula_of(graph)}", f"Digest: {digest(graph)}", *notes]
    source = layer_source(graph, CLASS_NAME, lines)
    verify(source, graph)
    return source


def verify(source: str, graph: Graph) -> None:
    """Compare the text's class with the interpreter on a probe batch: training, then evaluation.

    Raises:
        LayerError: the outputs differ.
    """
    import torch

    from primitives.interpret import batch_moments_of, interpret

    namespace: dict[str, Any] = {"__name__": "evosearch_export_check"}
    exec(compile(source, "<export>", "exec"), namespace)
    # With momentum 1 the moving averages are those of the last batch.
    layer = namespace[CLASS_NAME](CHANNELS, groups=2, momentum=1.0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(20)
    with torch.no_grad():
        for tensor in layer.parameters():
            tensor.add_(0.3 * torch.randn(CHANNELS, generator=generator, dtype=tensor.dtype))
        first, second = torch.randn(2, 4, CHANNELS, 5, 6, generator=generator, dtype=torch.float64)
        v0, v1 = (getattr(layer, name, torch.zeros(CHANNELS).double()) for name in ("v0", "v1"))
        moments = batch_moments_of(graph, first, v0, v1, groups=2)
        means = (
            ("training", first, interpret(graph, first, v0, v1, groups=2)),
            (
                "evaluation",
                second,
                interpret(graph, second, v0, v1, groups=2, batch_moments=moments),
            ),
        )
        shape = (1, CHANNELS, 1, 1)
        for mode, x, meant in means:
            layer.train(mode == "training")
            _compare(mode, layer(x), meant * layer.weight.view(shape) + layer.bias.view(shape))


def _compare(mode: str, got: Any, meant: Any) -> None:
    import torch

    scale = max(1.0, float(torch.nan_to_num(meant).abs().max()))
    same = torch.isclose(got, meant, rtol=TOLERANCE, atol=TOLERANCE * scale, equal_nan=True)
    if not bool(same.all()):
        raise LayerError(
            "the generated code differs from what the graph means; no file was written",
            where=f"{mode} mode",
            expected=f"equal within {TOLERANCE:g}",
            got=f"a difference of {float((got - meant).abs().max()):.3g}",
            hint="export it as json, and report this graph",
        )


def write_file(path: Path, text: str) -> None:
    """Write the text so that the file is whole or untouched.

    Raises:
        EvosearchError: the folder is missing or cannot be written to.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as err:
        partial.unlink(missing_ok=True)
        raise EvosearchError(
            "cannot write the file", where=str(path), got=err.strerror or str(err),
            hint="name another one with --out",
        ) from err  # fmt: skip
