"""Looks into a user's own anchor before a search does: placement, cost, repeats, leaks, noise.

Each look is a finding of its own, told as soon as it is known; what fails says which line of the
user's. It runs in a process that can be ended (`api.check_child`), for a user's code may do
anything. Nothing here decides what a search would do.
"""

from __future__ import annotations

import math
import os
import re
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evosearch.calibrate import Z
from evosearch.config import Task
from evosearch.errors import PluginError
from evosearch.objectives import Objective
from evosearch.own import ORIGINAL
from evosearch.plugins import user_line
from evosearch.records import Job, Run, Subject
from workers.anchors import ANCHORS
from workers.device import choose
from workers.evaluate import Context, make_training
from workers.inline import one_thread
from workers.layers import LayerFactory, formula_for, layer_factory
from workers.leaks import Look, NotedLayers, leaks_of, leaks_of_evaluator
from workers.own_evaluator import OwnEvaluation
from workers.own_network import placement
from workers.own_task import OwnTraining
from workers.preflight import preflight
from workers.training import anchor_setting

TIMED_STEPS = 5
LIBRARIES_OWN = ("KMP_", "OMP_", "MKL_", "CUDA", "NCCL_", "TORCH", "PYTORCH", "TF_", "RAY_")
"""Variables that numerical libraries set when they are imported."""
RANDOM_CALLS = re.compile(
    r"default_rng\(\s*\)|SystemRandom|urandom|secrets\.|uuid|time\.time|time_ns|perf_counter|RandomState\(\s*\)"
)
GLOBAL_CALLS = re.compile(
    r"set_default_dtype|set_default_device|set_num_threads|environ|chdir|sys\.path|"
    r"use_deterministic|set_grad_enabled|set_detect_anomaly|signal\.signal|matmul_precision"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One look. ``ok``: None where there was nothing to judge. ``where``: the user's line."""

    name: str
    ok: bool | None
    text: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What is checked: an anchor of a task, with baselines and their seeds."""

    task: Task
    anchor: str
    baselines: tuple[str, ...]
    seeds: int

    def run(self, seed: int = 0) -> Run:
        return Run(anchor=self.anchor, seed=seed, learning_rate=self.task.learning_rate)

    def layer(self, baseline: str) -> LayerFactory:
        job = Job(
            id="check", purpose="baseline", subject=Subject(baseline=baseline), graph=None,
            runs=(self.run(),), task=self.task,
        )  # fmt: skip
        return layer_factory(job, self.anchor)

    def noted(self, baseline: str) -> NotedLayers:
        own = ANCHORS.get(self.anchor).own
        slot = own.slot if own is not None else "norm_act"
        return NotedLayers(self.layer(baseline), self.task.groups, slot)

    @property
    def goal(self) -> Objective:
        return anchor_setting(self.run(), self.task).objective


def findings(
    task: Task, anchor: str, baselines: Sequence[str], seeds: int, context: Context
) -> Iterator[Finding]:
    """Everything about the anchor, cheapest first.

    Raises:
        PluginError: the user's code fails; the error names the line.
    """
    it = Checked(task, anchor, tuple(baselines), seeds)
    before = global_state()
    own = ANCHORS.get(anchor).own
    evaluator = own is not None and own.kind == "evaluator"
    found = preflight(task, anchor, it.baselines[0], context)
    yield Finding("one step", True, f"{it.goal.text(found.score)} untrained, {it.goal.label}")
    yield _globals(before, it)
    if evaluator:
        yield from _evaluated(it, context)
    else:
        yield from _placed(it, context)
        yield _cost(it, context)
    yield from _leaks(it, context)
    yield _repeats(it, context)
    yield from _trained(it, context)
    yield _globals(before, it)


def _placed(it: Checked, context: Context) -> Iterator[Finding]:
    """Where the layers went."""
    own = ANCHORS.get(it.anchor).own
    if own is not None and own.kind == "model":
        yield from _placed_in_model(it, context)
        return
    noted = it.noted(it.baselines[0])
    training = make_training(it.run(), it.task, noted, context)
    layers = noted.built
    rows = placement(training.network, layers)
    lost = [row for row in rows if row.module == "-"]
    for row in rows:
        yield Finding("placed", True if row.module != "-" else None,
                      f"{row.module}: {row.channels} channels")  # fmt: skip
    text = f"{len(rows) - len(lost)} of {len(rows)} layers stand in the network"
    yield Finding("placement", not lost, text, _line_of(it, r"layer\(") or _method(it, "build"))


def _placed_in_model(it: Checked, context: Context) -> Iterator[Finding]:
    """What becomes of a finished model's normalisations and activations with a formula in them."""
    name = formula_for(it.anchor)
    noted = it.noted(name)
    make_training(it.run(), it.task, noted, context)
    for row in noted.placed:
        ok = None if row.action == "left" else True
        yield Finding("placed", ok, f"{row.module}: {row.kind} {row.action}, {row.why}")
    count = Counter(row.action for row in noted.placed)
    told = ", ".join(f"{count[action]} {action}" for action in ("replaced", "affine", "left"))
    yield Finding("placement", True, f"with {name}: {told}")


def _evaluated(it: Checked, context: Context) -> Iterator[Finding]:
    """Which layers a user's evaluator asks for; its seconds a step and memory, now and here.

    Seconds are those between its first report and its last one, or else of the whole.
    """
    own = ANCHORS.get(it.anchor).own
    assert own is not None
    device = choose(context.device)
    short = it.task.model_copy(update={"steps": min(1 + TIMED_STEPS, it.task.steps)})
    reports: list[tuple[int, float]] = []

    def noted() -> None:
        reports.append((work.step, time.perf_counter()))

    work = OwnEvaluation(
        own, it.run(), short, it.layer(it.baselines[0]), device, context.clock, interrupted=noted
    )
    start = time.perf_counter()
    with one_thread():
        work.evaluate()
    first, last = (0, start), (work.step, time.perf_counter())
    if len(reports) > 1 and reports[-1][0] > reports[0][0]:
        first, last = reports[0], reports[-1]
    widths = Counter(work.built)
    told = ", ".join(f"{width} ({times} times)" if times > 1 else str(width)
                     for width, times in widths.items())  # fmt: skip
    yield Finding("placement", True, f"layers built, by channels: {told}")
    yield _told_cost(it, (last[1] - first[1]) / max(1, last[0] - first[0]), _peak(device), device)


def _cost(it: Checked, context: Context) -> Finding:
    """Seconds a step and memory; of the first baseline, on this machine, now."""
    training = make_training(it.run(), it.task, it.layer(it.baselines[0]), context)
    with one_thread():
        training.advance(1)
        device = next(training.network.parameters()).device
        base = _peak(device)
        times = []
        for _ in range(min(TIMED_STEPS, it.task.steps - 1)):
            start = time.perf_counter()
            training.advance(training.step + 1)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
    seconds = float(np.median(times)) if times else float("nan")
    return _told_cost(it, seconds, max(base, _peak(device)), device)


def _told_cost(it: Checked, seconds: float, memory: float, device: torch.device) -> Finding:
    whole = seconds * it.task.steps
    return Finding(
        "cost", True,
        f"{1000 * seconds:.3g} ms a step, {whole:.3g} s for {it.task.steps} steps; peak memory "
        f"{memory / 1e6:.0f} MB of the process on {device.type}",
    )  # fmt: skip


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _leaks(it: Checked, context: Context) -> Iterator[Finding]:
    """Whether the network shows a row or a position what it must not see, with any baseline."""
    network = ANCHORS.get(it.anchor)
    forbidden, names = sorted(network.forbids), it.baselines
    if network.own is not None and network.own.kind == "model":
        names = (*dict.fromkeys((*names, formula_for(it.anchor))),)
    for axis in forbidden:
        looks = [(name, _look(it, axis, name, context)) for name in names]
        name, worst = next(
            (pair for wanted in (True, None) for pair in looks if pair[1].leaks is wanted), looks[0]
        )
        clean = worst.leaks is False
        text = worst.text if clean else f"{worst.text} (with {name})"
        # An axis that nobody can look at is no axis that does not leak.
        yield Finding(f"leaks over {axis}", clean, text, "" if clean else _method(it, "build"))
    if not forbidden:
        yield Finding("leaks", None, "no axis is forbidden")


def _look(it: Checked, axis: str, baseline: str, context: Context) -> Look:
    network = ANCHORS.get(it.anchor)
    own = network.own
    layout, layers = own.layout if own is not None else "btc", it.noted(baseline)
    if own is not None and own.kind == "evaluator":
        short = it.task.model_copy(update={"steps": 1})
        work = OwnEvaluation(
            own, it.run(), short, layers, choose(context.device), context.clock
        )  # fmt: skip
        return leaks_of_evaluator(work, axis, layout, layers)
    training = make_training(it.run(), it.task, layers, context)
    # Of a model as it came no layer can be asked for: what it would hold is looked at instead.
    placed = it.noted(formula_for(it.anchor)) if baseline == ORIGINAL else layers
    return leaks_of(training, axis, layout, placed)


def _method(it: Checked, name: str) -> str:
    """The line of the user's function of that name, or of the one that is all there is."""
    own = ANCHORS.get(it.anchor).own
    return own.line(name) if own is not None else ""


def _repeats(it: Checked, context: Context) -> Finding:
    """The same seed twice, each with the task made anew; and the same data read twice."""
    short = it.task.model_copy(update={"steps": min(3, it.task.steps)})
    told = [_told(it, short, 0, it.baselines[0], Context(device=context.device)) for _ in (1, 2)]
    one, other = (each.score for each in told)
    if one != other and not (math.isnan(one) and math.isnan(other)):
        return _other(it, f"{it.goal.text(one, 6)} and {it.goal.text(other, 6)}", context)
    # An accuracy of few rows may be the same by chance; losses hardly ever are. On a GPU they may
    # differ in their last bits, as sums are made in any order there.
    pairs = zip_longest(told[0].losses, told[1].losses)
    differ = next((pair for pair in pairs if pair[0] != pair[1]), None)
    if differ and choose(context.device).type == "cpu":
        return _other(it, f"the training losses {differ[0]} and {differ[1]}", context)
    own = ANCHORS.get(it.anchor).own
    if own is not None and own.kind == "task" and not _rereads(it, context):
        text = (
            "data(ctx) gives other batches when they are read again, so that a resumed training "
            "and one after other candidates differ; draw in data(ctx), not while reading"
        )
        return Finding("repeats", False, text, _method(it, "data"))
    return Finding("repeats", True, "the same seed gives the same score, bit for bit")


def _other(it: Checked, values: str, context: Context) -> Finding:
    text = (
        f"the same seed gives {values}; "
        "draw from ctx.rng or ctx.generator, and change no state of your own"
    )
    return Finding("repeats", False, text, _unrepeatable(it, context))


def _rereads(it: Checked, context: Context) -> bool:
    """Whether a later training, or one that goes on in the middle, reads the same batches."""
    steps, made = (0, 1, 2, 0, 2), []
    for _ in (1, 2):
        made.append(make_training(it.run(), it.task, it.layer(it.baselines[0]), context))
    first, later = (one for one in made if isinstance(one, OwnTraining))
    told = [first.own_batch(step) for step in steps]
    again = [later.own_batch(step) for step in reversed(steps)][::-1]
    return _equal(told, again)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return bool(torch.equal(one, other))
    if isinstance(one, dict):
        return all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return True  # nothing that can be compared


def _unrepeatable(it: Checked, context: Context) -> str:
    """Where the difference comes from: a telling line, or the first method that differs."""
    told = _line_of(it, RANDOM_CALLS.pattern)
    own = ANCHORS.get(it.anchor).own
    if told or own is None or own.kind != "task":
        return told or _method(it, "")
    made = [
        make_training(it.run(), it.task, it.layer(it.baselines[0]), Context(device=context.device))
        for _ in (1, 2)
    ]
    one, other = (each for each in made if isinstance(each, OwnTraining))
    if not _equal(one.own_batch(0), other.own_batch(0)):
        return _method(it, "data")
    if not _equal(dict(one.network.state_dict()), dict(other.network.state_dict())):
        return _method(it, "build")
    if not torch.equal(one.pass_at(0)[2], other.pass_at(0)[2]):
        return _method(it, "loss")
    differ = one.score("select") != other.score("select")
    return _method(it, "evaluate" if differ else "loss")


@dataclass(frozen=True, slots=True)
class Told:
    """What a training tells: its score and the losses on the way; of an evaluator the score."""

    score: float
    losses: tuple[float, ...] = ()


def _told(it: Checked, task: Task, seed: int, baseline: str, context: Context) -> Told:
    own = ANCHORS.get(it.anchor).own
    layer = it.layer(baseline)
    with one_thread():
        if own is not None and own.kind == "evaluator":
            work = OwnEvaluation(
                own, it.run(seed), task, layer, choose(context.device), context.clock
            )
            return Told(work.evaluate()[0].accuracy)
        training = make_training(it.run(seed), task, layer, context)
        training.advance(task.steps)
        losses = tuple(loss for _, loss in training.curve)
        return Told(
            training.worst if training.diverged else training.score("select").accuracy, losses
        )


def _trained(it: Checked, context: Context) -> Iterator[Finding]:
    """Each baseline over seeds; what a difference of one per cent takes."""
    goal, noise, means = it.goal, [], []
    for name in it.baselines:
        scores = np.array([
            _told(it, it.task, seed, name, context).score for seed in range(1, it.seeds + 1)
        ])  # fmt: skip
        finite = bool(np.isfinite(scores).all())
        spread = float(scores.std(ddof=1)) if finite and len(scores) > 1 else float("nan")
        shown = ", ".join(goal.text(float(one)) for one in scores)
        yield Finding(f"trained {name}", finite, shown, "" if finite else _method(it, "loss"))
        noise.append(spread)
        means.append(float(scores.mean()))
    if not noise or not all(math.isfinite(one) for one in (*noise, *means)):
        return
    sd = float(np.sqrt(np.mean(np.square(noise))))
    # Of per cents, and of a share that higher is better of, a point is one hundredth.
    share = goal.unit == "%" or (goal.unit == "" and goal.direction == "max")
    point = 0.01 if share else 0.01 * abs(float(np.mean(means)))
    needed = max(1, math.ceil(2 * (Z * sd / point) ** 2)) if point else 1
    what = "one point" if share else "one per cent of the mean"
    yield Finding(
        "noise", True,
        f"seeds differ by {abs(goal.value(sd)):.3g} {goal.unit}".rstrip()
        + f"; {needed} seeds a layer resolve {what}",
    )  # fmt: skip


def global_state() -> dict[str, str]:
    """Settings of the process that a plug-in must leave alone."""
    return {
        "torch's default dtype": str(torch.get_default_dtype()),
        "torch's default device": str(torch.get_default_device()),
        "torch's number of threads": str(torch.get_num_threads()),
        "whether gradients are kept": str(torch.is_grad_enabled()),
        "torch's deterministic mode": str(torch.are_deterministic_algorithms_enabled()),
        "torch's search for anomalies": str(torch.is_anomaly_enabled()),
        "torch's precision of products": torch.get_float32_matmul_precision(),
        "handlers of signals": str([signal.getsignal(one) for one in signal.valid_signals()]),
        # Packages that are installed may add folders of their own.
        "the path of imports": str([one for one in sys.path if "site-packages" not in one]),
        "the working folder": str(Path.cwd()),
        "the environment": str(
            sorted(
                (name, value)
                for name, value in os.environ.items()
                if not name.startswith(LIBRARIES_OWN)
            )
        ),
    }


def _globals(before: dict[str, str], it: Checked) -> Finding:
    changed = [name for name, value in global_state().items() if value != before[name]]
    if not changed:
        return Finding("globals", True, "the process is left as it was")
    return Finding(
        "globals", False, f"the plug-in changes {', '.join(changed)}, which other candidates share",
        _line_of(it, GLOBAL_CALLS.pattern) or _method(it, ""),
    )  # fmt: skip


def _line_of(it: Checked, pattern: str) -> str:
    """The first line of the anchor's file on which the pattern stands, if one does."""
    from evosearch.own import REGISTER
    from evosearch.plugins import all_loaded

    entry = REGISTER.find("anchor", it.anchor)
    if entry is None:
        return ""
    for one in all_loaded():
        if entry in one.entries:
            for number, line in enumerate(one.source.text.splitlines(), 1):
                if re.search(pattern, line) and not line.lstrip().startswith("#"):
                    return f"{one.source.name}:{number}: {line.strip()[:80]}"
    return ""


def failure_line(err: BaseException) -> str:
    """The error in one line, with the user's own line in front."""
    place = user_line(err)
    text = " ".join(str(err).split())
    if isinstance(err, PluginError) and (err.where or not place):
        return text
    if not place:
        return f"{type(err).__name__}: {text}"
    return f"{place}: {type(err).__name__}: {text}"
