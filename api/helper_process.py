"""The helper: a warm process that holds torch, so that the web process need not.

It answers one line of JSON with one line of JSON, and does nothing but the few things named here.
Whoever started it may kill it at any time; it owns nothing.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from evosearch.errors import EvosearchError
from evosearch.garbage import collect_rarely
from evosearch.plugins import load_registered_rows
from primitives.graph import Graph


def check(request: dict[str, Any]) -> dict[str, Any]:
    """Facts about a graph, and what each cheap check of the preset says."""
    from api.inspect_layer import cheap_checks, facts
    from evosearch.presets import config_from, load_preset

    graph = Graph.from_json(request["graph"])
    given = request.get("config")
    config = config_from(given) if given else load_preset(request["preset"])
    checks = [
        {"check": name, "passes": not verdict.startswith("rejects"), "verdict": verdict}
        for name, verdict in cheap_checks(graph, config)
    ]
    return {"facts": facts(graph), "checks": checks}


def export(request: dict[str, Any]) -> dict[str, Any]:
    """A graph in one of the export formats; code is verified against the interpreter first.

    ``notes``, ``about`` and ``channels`` are those of `primitives.artefacts.artefact`.
    """
    from primitives.artefacts import BINARY, PROGRAM_CHANNELS, artefact

    form = request["form"]
    made = artefact(
        Graph.from_json(request["graph"]), form, notes=request.get("notes", ()),
        channels=request.get("channels", PROGRAM_CHANNELS), about=request.get("about"),
    )  # fmt: skip
    if form in BINARY:
        return {"base64": base64.b64encode(made).decode()}
    return {"text": made.decode()}


def curves(request: dict[str, Any]) -> dict[str, Any]:
    """Output and gradient of a graph against its input."""
    from api.layer_curves import response_curves

    return response_curves(Graph.from_json(request["graph"]))


def cost(request: dict[str, Any]) -> dict[str, Any]:
    """Time and saved bytes of a layer against BN-ReLU on this machine."""
    from primitives.cost import against_bn_relu

    batch, channels, height, width = request["shape"]
    shape = (batch, channels, height, width)
    found = against_bn_relu(Graph.from_json(request["graph"]), shape, request["runs"])
    return {
        "forward": found.forward, "forward_backward": found.both, "saved_bytes": found.saved,
        "saved_bytes_recompute": found.saved_recompute,
    }  # fmt: skip


def offers(request: dict[str, Any]) -> dict[str, Any]:
    """What this installation can train."""
    from api.offers import offers as made

    return made()


ANSWERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "check": check,
    "cost": cost,
    "curves": curves,
    "export": export,
    "offers": offers,
}


def answer(line: str) -> dict[str, Any]:
    """The answer to one request; an error of ours is told in words, others by their kind."""
    try:
        request = json.loads(line)
        return {"ok": ANSWERS[request["do"]](request)}
    except EvosearchError as err:
        return {"error": str(err), "kind": type(err).__name__}
    except Exception as err:  # the border of the process
        print(f"helper: {type(err).__name__}: {err}", file=sys.stderr)
        return {"error": "the layer could not be worked on", "kind": "Unexpected"}


def main() -> None:
    """Answers until the input ends."""
    collect_rarely()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not look like an answer
    import torch

    torch.set_num_threads(1)
    load_registered_rows()
    for line in sys.stdin:
        answers.write(json.dumps(answer(line)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
