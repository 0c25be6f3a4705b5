"""One short pass through a user's own anchor before a search depends on it.

A wrong shape, a missing key or a loss without a gradient fails here, with the user's line, and not
as thousands of failed candidates. It also measures what knowing nothing scores.
"""

from __future__ import annotations

import math

from evosearch.config import Stability, Task
from evosearch.errors import PluginError
from evosearch.own import Untrained
from evosearch.plugins import plugin_error, user_line
from evosearch.records import Job, Run, Subject
from workers.anchors import ANCHORS
from workers.checks import check_stability, signal_statistics
from workers.device import choose
from workers.evaluate import Context, make_training
from workers.inline import one_thread
from workers.layers import formula_for, layer_factory
from workers.own_evaluator import OwnEvaluation
from workers.training import anchor_setting

SEED = 0


def preflight(
    task: Task, anchor: str, baseline: str, context: Context, stability: Stability | None = None
) -> Untrained:
    """Build, one step and one evaluation of the anchor around a known layer.

    Of a finished model a step with a formula in its places, too.
    ``stability``: that check's settings, where it is on: it differentiates twice.

    Raises:
        PluginError: the user's code fails; ``where`` is the user's line.
    """
    own, tried = ANCHORS.get(anchor).own, baseline
    try:
        with one_thread():
            found = _pass(task, anchor, baseline, context)
            if own is not None and own.kind == "model":
                tried = formula_for(anchor)
                _takes_a_formula(task, anchor, tried, context)
                tried = baseline
            if stability is not None and own is not None and own.kind != "evaluator":
                _differentiates_twice(task, anchor, baseline, context, stability)
    except PluginError:
        raise
    except Exception as err:  # whatever a user's code does wrong
        what = f"anchor {anchor} fails with {tried}"
        if own is not None and not user_line(err):  # it failed in our loss, of what theirs returned
            got = f"{type(err).__name__}: {err}"[:300]
            raise PluginError(what, where=own.line("build"), got=got) from err
        raise plugin_error(err, what) from err
    goal = anchor_setting(_run(task, anchor), task).objective
    bad = [name for name, one in {goal.name: found.score, **found.more}.items()
           if not math.isfinite(one)]  # fmt: skip
    if bad:
        raise PluginError(
            f"the evaluation of {anchor} is not finite before any training",
            where=own.line("evaluate") if own is not None else None,
            got=f"{', '.join(bad)} NaN or infinite",
        )  # fmt: skip
    return found


def _takes_a_formula(task: Task, anchor: str, name: str, context: Context) -> None:
    """One step of a finished model with a formula in its places: as it came it holds none.

    Raises:
        PluginError: it has no place for one.
    """
    run = _run(task, anchor)
    training = make_training(run, task, layer_factory(_job(task, run, name), anchor), context)
    training.advance(1)  # that it diverges would be no fault of the model's


def _differentiates_twice(
    task: Task, anchor: str, baseline: str, context: Context, stability: Stability
) -> None:
    run = _run(task, anchor)
    training = make_training(run, task, layer_factory(_job(task, run, baseline), anchor), context)
    try:
        check_stability(training, stability.model_copy(update={"steps": 1}), context.clock)
    except RuntimeError as err:
        raise plugin_error(
            err, f"the stability check cannot differentiate {anchor} twice; it can be switched "
            "off: checks.stability.enabled = false"
        ) from err  # fmt: skip


def _run(task: Task, anchor: str) -> Run:
    return Run(anchor=anchor, seed=SEED, learning_rate=task.learning_rate)


def _job(task: Task, run: Run, baseline: str) -> Job:
    return Job(
        id="preflight", purpose="baseline", subject=Subject(baseline=baseline), graph=None,
        runs=(run,), task=task,
    )  # fmt: skip


def _pass(task: Task, anchor: str, baseline: str, context: Context) -> Untrained:
    run = _run(task, anchor)
    layer = layer_factory(_job(task, run, baseline), anchor)
    own = ANCHORS.get(anchor).own
    if own is not None and own.kind == "evaluator":
        short = task.model_copy(update={"steps": 1})
        work = OwnEvaluation(own, run, short, layer, choose(context.device), context.clock)
        score, more = work.evaluate()
        return Untrained(score.accuracy, more)
    training = make_training(run, task, layer, context)
    score, more = training.measured("select")
    loss = signal_statistics(training)["loss"]
    if not math.isfinite(loss):
        raise PluginError(
            "the loss is not finite before any training", got=str(loss),
            where=own.line("loss") if own is not None else None,
        )  # fmt: skip
    training.advance(1)
    if training.diverged:
        raise PluginError(
            "the loss is not finite after one step",
            where=own.line("loss") if own is not None else None,
        )
    return Untrained(score.accuracy, more)
