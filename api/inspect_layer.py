"""What a layer is and which cheap check would reject it, for someone who typed it by hand.

The checks are the search's own; none is repeated here.
"""

from __future__ import annotations

from collections.abc import Iterator

from evosearch.config import SearchConfig
from evosearch.records import Job, Run, Subject
from evosearch.report import formula_of, known_as
from evosearch.screen import SCREEN_CODES, Screen
from evosearch.streams import evaluation_seed
from primitives.digest import digest
from primitives.fingerprint import fingerprint
from primitives.graph import Graph
from primitives.properties import properties
from primitives.structure import analyse

AXES = {"b": "batch", "c": "channels", "s": "positions"}


def facts(graph: Graph) -> dict[str, str]:
    """Name -> value of what can be said of the layer without a network."""
    structure = analyse(graph)
    mixes = [word for axis, word in AXES.items() if axis in structure.mixes]
    return {
        "formula": formula_of(graph),
        "digest": digest(graph),
        "fingerprint": fingerprint(graph),
        "live nodes": str(structure.live_nodes),
        "axes mixed": ", ".join(mixes) or "none",
        "batch independent": _yes(structure.batch_independent),
        "causal safe": _yes(structure.causal_safe),
        "pointwise": _yes(structure.pointwise),
        **behaviour(graph),
        "equals": known_as(graph) or "no layer of the catalog",
    }


def behaviour(graph: Graph) -> dict[str, str]:
    """Name -> value of what the layer does on a probe, and what it costs by count."""
    found = properties(graph)
    return {
        "scale invariant": _yes(found.scale_invariant),
        "shift invariant": _yes(found.shift_invariant),
        "sign symmetry": found.symmetry,
        "bounded (probe)": _yes(found.bounded),
        "monotone (probe)": found.monotone,
        "parameters a channel": str(found.parameters_per_channel),
        "FLOPs an element": f"{found.flops:g}",
        "bytes an element": f"{found.bytes_moved:g}",
    }


def measured(graph: Graph, runs: int = 7) -> dict[str, str]:
    """Name -> ratio to BatchNorm2d + ReLU on this machine: time and bytes saved for backward.

    Layer and baseline take turns at (16, 32, 16, 16) in float32; medians are compared.
    """
    from primitives.cost import against_bn_relu

    cost = against_bn_relu(graph, (16, 32, 16, 16), runs)
    return {
        "forward": f"{cost.forward:.2f} x BN-ReLU (n={runs}, this machine, now)",
        "backward": f"{cost.backward:.2f} x BN-ReLU",
        "forward + backward": f"{cost.both:.2f} x BN-ReLU",
        "saved for backward": f"{cost.saved:.2f} x BN-ReLU",
        "  with recompute": f"{cost.saved_recompute:.2f} x BN-ReLU",
    }


def cheap_checks(graph: Graph, config: SearchConfig) -> Iterator[tuple[str, str]]:
    """(check, verdict) of the controller's checks and of *signal* on each anchor, as they come.

    A verdict that begins with ``rejects`` is a rejection.
    """
    verdict = Screen(config).judge(graph, {}, {})
    if verdict.code is not None:
        yield "in the controller", f"rejects: {verdict.code}, {SCREEN_CODES[verdict.code]}"
    else:
        yield "in the controller", "passes"
    # Without x there is no gradient to look at, and an anchor refuses what leaks.
    if verdict.code not in ("ignores_input", "leaks_future"):
        yield from signal_checks(graph, config)


def signal_checks(graph: Graph, config: SearchConfig) -> Iterator[tuple[str, str]]:
    """The *signal* check's verdict on every anchor, with what it measured."""
    import time

    from workers.checks import check_signal
    from workers.evaluate import Context
    from workers.inline import one_thread
    from workers.layers import layer_factory
    from workers.training import Training

    seed = evaluation_seed(config.seed, "search", 0)
    context = Context()
    for anchor in config.anchor_names:
        run = Run(anchor=anchor, seed=seed, learning_rate=config.task.learning_rate)
        job = Job(
            id="layer", purpose="search", subject=Subject(birth=0), graph=graph, runs=(run,),
            task=config.task,
        )  # fmt: skip
        with one_thread():
            training = Training(
                run, config.task, layer_factory(job, anchor), context.dataset(config.task.dataset)
            )
            bounds = config.checks.signal.bounds.get(anchor, {})
            standard = config.checks.signal.reference
            reference = context.reference(run, config.task, standard) if bounds else None
            result = check_signal(training, bounds, reference, time.perf_counter)
        findings = ", ".join(f"{name} {value:.3g}" for name, value in result.findings.items())
        if result.rejection is not None:
            yield f"signal, {anchor}", f"rejects: {result.rejection.detail} ({findings})"
        else:
            yield f"signal, {anchor}", f"passes ({findings})"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
