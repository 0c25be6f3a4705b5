"""How each export is used: a few lines to copy. Texts only; nothing is run or computed here."""

from __future__ import annotations

from typing import get_args

from api.rest.candidates import MEDIA
from primitives.artefacts import Format

NAMES: dict[str, str] = {
    "python": "Python module", "json": "Graph JSON", "formula": "Formula", "latex": "LaTeX",
    "mathml": "MathML", "svg": "SVG picture", "dot": "Graphviz DOT",
    "torch-export": "torch.export program", "onnx": "ONNX program", "bundle": "Bundle (zip)",
}  # fmt: skip

_SNIPPETS: dict[str, tuple[str, str]] = {
    "python": ("python", """\
# The file needs torch and nothing else.
from {module} import EvolvedLayer

layer = EvolvedLayer(64)  # channels
y = layer(x)              # (N, 64, H, W)"""),
    "json": ("python", """\
from pathlib import Path
import evosearch

graph = evosearch.Graph.from_json_text(Path("{file}").read_text())
layer = evosearch.build_layer(graph, 64)"""),
    "formula": ("python", """\
import evosearch

layer = evosearch.build_layer(evosearch.parse("{formula}"), 64)"""),
    "latex": ("tex", r"""\begin{{equation}}
  \input{{{file}}}
\end{{equation}}"""),
    "mathml": ("html", "<p>The layer computes <!-- paste {file} here --></p>"),
    "svg": ("html", '<img src="{file}" alt="graph of the layer">'),
    "dot": ("sh", "dot -Tpdf {file} -o graph.pdf"),
    "torch-export": ("python", """\
import torch

# Evaluation mode, 64 channels, any batch and size.
program = torch.export.load("{file}")
y = program.module()(x)"""),
    "onnx": ("python", """\
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
# x: a float32 array of 64 channels
(y,) = session.run(None, {{"x": x}})"""),
    "bundle": ("sh", """\
unzip {file} -d layer
cd layer && sha256sum -c SHA256SUMS"""),
}  # fmt: skip


def usage(name: str, formula: str) -> list[dict[str, str]]:
    """One entry a format: ``format``, ``title``, ``language``, ``file`` and ``snippet``.

    ``name``: of the files, without an ending.
    """
    found = []
    for form in get_args(Format):
        file = f"{name}.{MEDIA[form][1]}"
        language, text = _SNIPPETS[form]
        shown = formula.replace("\\", "\\\\").replace('"', '\\"')
        module = name.replace("-", "_")
        if form == "python":
            file = f"{module}.py"  # a module's name holds no hyphen
        found.append({
            "format": form, "title": NAMES[form], "language": language, "file": file,
            "snippet": text.format(file=file, module=module, formula=shown),
        })  # fmt: skip
    return found
