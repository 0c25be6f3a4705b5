"""Everything that a layer is taken home as: text, pictures, saved programs, and all in one bundle.

What computes is run and compared with the interpreter first; a failed check raises and nothing is
returned. Where files go is for others to say.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from primitives.errors import EvosearchError, LayerError
from primitives.graph import Graph

if TYPE_CHECKING:
    from torch import Tensor, nn

Format = Literal[
    "python", "json", "formula", "latex", "mathml", "svg", "dot", "torch-export", "onnx", "bundle"
]

FILES: dict[str, str] = {
    "python": "layer.py",
    "json": "graph.json",
    "formula": "formula.txt",
    "latex": "formula.tex",
    "mathml": "formula.mathml",
    "svg": "graph.svg",
    "dot": "graph.dot",
    "torch-export": "layer.pt2",
    "onnx": "layer.onnx",
}
"""Format -> its file in a bundle."""

BINARY = ("torch-export", "onnx", "bundle")
PROGRAM_CHANNELS = 64
"""Channels of saved programs where nobody says another number: they hold tensors of that size."""


def artefact(
    graph: Graph,
    form: Format,
    *,
    notes: Iterable[str] = (),
    layer: nn.Module | None = None,
    channels: int = PROGRAM_CHANNELS,
    about: Mapping[str, object] | None = None,
) -> bytes:
    """The layer in that form; texts are UTF-8 and end in a newline.

    Args:
        graph: the layer's graph.
        form: see `Format`.
        notes: lines for the docstring of the Python file (source search, scores).
        layer: a generated layer with trained state for saved programs; None makes a fresh one.
        channels: number of channels of a fresh one.
        about: what a bundle says beside the artefacts (lineage, scores, config, seeds).

    Raises:
        LayerError: what was made does not compute what the graph means.
        EvosearchError: the form cannot say this graph, or a package is missing.
    """
    if form == "torch-export":
        return _torch_export(graph, _evaluated(graph, layer, channels))
    if form == "onnx":
        return _onnx(graph, _evaluated(graph, layer, channels))
    if form == "bundle":
        return _bundle(graph, tuple(notes), layer, channels, dict(about or {}))
    text = _text(graph, form, notes)
    return (text if text.endswith("\n") else text + "\n").encode()


def checked_source(graph: Graph, notes: Iterable[str] = ()) -> str:
    """Python text of the layer, verified against the interpreter in both modes.

    Raises:
        LayerError: the code computes something else than the graph means.
    """
    from primitives.codegen import layer_source
    from primitives.digest import digest
    from primitives.printer import format_formula
    from primitives.verify import CLASS_NAME, verify_source

    lines = [f"Formula: {format_formula(graph)}", f"Digest: {digest(graph)}", *notes,
             f"Versions: {', '.join(f'{k} {v}' for k, v in versions().items())}"]  # fmt: skip
    source = layer_source(graph, CLASS_NAME, lines)
    verify_source(source, graph)
    return source


def versions() -> dict[str, str]:
    """Versions that bear on what an export computes."""
    known = {}
    for name in ("evosearch", "torch"):
        try:
            known[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            known[name] = "unknown"
    return known


def _text(graph: Graph, form: Format, notes: Iterable[str]) -> str:
    if form == "python":
        return checked_source(graph, notes)
    if form in ("json", "formula"):
        return _read_again(graph, form)
    if form in ("latex", "mathml"):
        from primitives import symbolic

        return symbolic.to_latex(graph) if form == "latex" else symbolic.to_mathml(graph)
    if form == "svg":
        from primitives.picture import to_svg

        return to_svg(graph)
    if form == "dot":
        from primitives.drawing import to_dot

        return to_dot(graph)
    raise EvosearchError("unknown format", expected=", ".join([*FILES, "bundle"]), got=repr(form))


def _read_again(graph: Graph, form: str) -> str:
    """Graph JSON or formula text, which says the same layer when it is read.

    Raises:
        LayerError: it does not.
    """
    from primitives.digest import digest
    from primitives.formula import parse
    from primitives.printer import format_formula

    if form == "json":
        text = json.dumps(graph.to_json(), indent=1)
        same = Graph.from_json_text(text) == graph
    else:
        text = format_formula(graph)
        same = digest(parse(text)) == digest(graph)
    if not same:
        raise LayerError(f"the {form} says another layer when it is read; no file was written")
    return text


def _evaluated(graph: Graph, layer: nn.Module | None, channels: int) -> nn.Module:
    """A copy of the layer in evaluation mode, in float32 on the CPU.

    One that reads the place of its channels off each input is saved for channels first.
    """
    import copy

    from primitives.module import build_layer, layer_class

    made = build_layer(graph, channels) if layer is None else copy.deepcopy(layer)
    kind = layer_class(graph)
    if isinstance(made, kind):
        made.__class__ = kind
    return made.cpu().float().eval()


def _torch_export(graph: Graph, layer: nn.Module) -> bytes:
    import torch

    from primitives.verify import verify_program

    free = _free_axes(layer)
    program = torch.export.export(layer, (_example(layer),), dynamic_shapes=free)
    kept = io.BytesIO()
    torch.export.save(program, kept)
    loaded = torch.export.load(io.BytesIO(kept.getvalue())).module()
    verify_program(loaded, layer, graph, "torch-export")
    return kept.getvalue()


def _onnx(graph: Graph, layer: nn.Module) -> bytes:
    import torch

    from primitives.verify import verify_program

    try:
        import onnxruntime  # type: ignore[import-not-found, import-untyped, unused-ignore]
        import onnxscript  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: F401
    except ImportError as err:
        raise EvosearchError(
            "onnx export needs packages that are not installed", got=str(err),
            hint="pip install 'evosearch[export]'",
        ) from err  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The exporter logs every optional package that it does without.
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        path = Path(folder) / "layer.onnx"
        torch.onnx.export(
            layer, (_example(layer),), str(path), dynamo=True, external_data=False,
            dynamic_shapes=_free_axes(layer), input_names=["x"], output_names=["y"], verbose=False,
        )  # fmt: skip
        data = path.read_bytes()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])

    verify_program(run, layer, graph, "onnx")
    return data


def _example(layer: nn.Module) -> Tensor:
    """An input in the layer's layout, in which only the channels' axis has that many entries."""
    import torch

    from primitives.verify import free_sizes, laid_out

    channels = int(layer.num_features)  # type: ignore[arg-type]
    shape = (3, channels, *free_sizes(channels)[0])
    x = torch.randn(shape, generator=torch.Generator().manual_seed(22))
    return laid_out(x, str(layer.layout)).contiguous()


def _free_axes(layer: nn.Module) -> tuple[dict[int, Any]]:
    """Batch and positions may change; channels are the layer's own."""
    from torch.export import Dim

    axes = {"nchw": (0, 2, 3), "nhwc": (0, 1, 2), "btc": (0, 1)}[str(layer.layout)]
    return (dict.fromkeys(axes, Dim.DYNAMIC),)


def _bundle(
    graph: Graph,
    notes: tuple[str, ...],
    layer: nn.Module | None,
    channels: int,
    about: dict[str, object],
) -> bytes:
    """A zip of every artefact, what is known of the layer, and SHA-256 sums of all files."""
    files: dict[str, bytes] = {}
    left_out: dict[str, str] = {}
    for form, name in FILES.items():
        try:
            files[name] = artefact(graph, form, notes=notes, layer=layer, channels=channels)  # type: ignore[arg-type]
        except LayerError:
            raise  # a failed check is never left out in silence
        except EvosearchError as err:
            left_out[name] = str(err)
    from primitives.digest import digest

    known = {**about, "digest": digest(graph), "versions": versions(), "left_out": left_out}
    files["about.json"] = (json.dumps(known, indent=1, sort_keys=True) + "\n").encode()
    sums = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())
    )
    files["SHA256SUMS"] = sums.encode()
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            # A fixed date: the same layer gives the same entry.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return kept.getvalue()
