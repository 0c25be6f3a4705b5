"""A user's own evaluator: one function trains and measures by itself, and reports on the way.

It is told what to do and when to stop; nothing of it is timed or repeated here. Errors of the
user's code pass through: who catches them names the line.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from evosearch.config import Task
from evosearch.errors import PluginError, Stopped
from evosearch.own import ORIGINAL, OwnAnchor
from evosearch.records import Run
from workers.anchors import Layer
from workers.data_dir import DATA_DIR_VARIABLE
from workers.measures import Trained, measure_all
from workers.own_batches import seeded
from workers.own_network import in_layout
from workers.own_task import given, scores_of
from workers.training import Score, anchor_setting, stream_seed


@dataclass(slots=True)
class EvaluatorContext:
    """What an evaluator is told, and where it reports.

    ``steps``: training steps that the search asks for. ``split``: select or final, which to score
    on. ``rng``, ``generator``: random numbers of the run's seed. ``report(step, name=value)``:
    how far it is.
    """

    steps: int
    batch_size: int
    learning_rate: float
    split: str
    seed: int
    device: torch.device
    data_dir: Path | None
    rng: np.random.Generator
    generator: torch.Generator
    _reported: Callable[[int, Mapping[str, float]], None]

    def report(self, step: int, **values: float) -> None:
        """Say how far the evaluation is, with objectives as far as they are known.

        Raises:
            Stopped: a hurdle was missed, the search takes the job back, or the time is up.
        """
        self._reported(step, values)


@dataclass(slots=True)
class OwnEvaluation:
    """One evaluation by a user's function.

    ``hurdles``: step -> least score. ``interrupted``: asked at each report; an error that it
    raises ends the evaluation. ``built``: channels of each layer that was asked for.
    """

    own: OwnAnchor
    run: Run
    task: Task
    layer: Layer
    device: torch.device
    clock: Callable[[], float]
    hurdles: Mapping[int, float] = field(default_factory=dict)
    interrupted: Callable[[], None] = lambda: None
    step: int = 0
    diverged: bool = False
    milestones: dict[int, float] = field(default_factory=dict)
    stopped: Stopped | None = None
    built: list[int] = field(default_factory=list)
    _start: float = 0.0

    def evaluate(self) -> tuple[Score, dict[str, float]]:
        """The score and those of further objectives; `diverged` where one is not finite.

        Raises:
            Stopped: it was told to stop.
            PluginError: the layer was placed nowhere, or what the function returns is not what it
                should.
        """
        self._start = self.clock()
        self.built.clear()
        seed = stream_seed(self.run.seed, 0)
        folder = os.environ.get(DATA_DIR_VARIABLE)
        context = EvaluatorContext(
            self.task.steps, self.task.batch_size, self.run.learning_rate, self.run.split,
            self.run.seed, self.device, Path(folder) if folder else None,
            np.random.default_rng(seed), torch.Generator().manual_seed(seed), self._report,
        )  # fmt: skip
        with seeded(seed):
            found = self.own.made_by(self._counted, context)
        if self.stopped is not None:  # the function caught it and went on
            raise self.stopped
        if not self.built and getattr(self.layer, "baseline", None) != ORIGINAL:
            raise PluginError(
                "the layer is placed nowhere", where=self.own.line(),
                expected="the evaluator calls layer(num_features) where it wants one",
            )  # fmt: skip
        goals = anchor_setting(self.run, self.task).objectives or self.own.objectives
        scores = scores_of(found, given(goals, found), self.own.line(), "the evaluator")
        graph = getattr(self.layer, "graph", None)
        scores |= measure_all(
            [goal for goal in goals if goal.name not in scores], Trained(self.run.anchor, graph)
        )
        self.step = self.step or self.task.steps
        self.diverged = not all(math.isfinite(one) for one in scores.values())
        first, *others = goals
        return Score(scores[first.name], ""), {one.name: scores[one.name] for one in others}

    def _counted(self, channels: int) -> nn.Module:
        made = in_layout(self.layer, self.own.layout)(channels)
        self.built.append(channels)
        return made

    @property
    def worst(self) -> float:
        """The score of an evaluation that diverged.

        Raises:
            PluginError: the objective does not say it.
        """
        goal = self.own.objectives[0]
        if goal.worst is None:
            raise PluginError(
                "the evaluator returned NaN or infinity", where=self.own.line(),
                hint=f'say the value of knowing nothing: es.Objective("{goal.name}", ..., worst=)',
            )  # fmt: skip
        return goal.score(goal.worst)

    def _report(self, step: int, values: Mapping[str, float]) -> None:
        if self.stopped is not None:
            raise self.stopped
        self.step = max(self.step, int(step) + 1)
        try:
            self.interrupted()
            self._deadline()
            self._hurdle(int(step), values)
        except Stopped as err:
            self.stopped = err
            raise

    def _deadline(self) -> None:
        limit = self.task.evaluation_seconds
        if limit is not None and self.clock() - self._start > limit:
            raise Stopped("deadline", f"{limit:g} seconds are over at step {self.step}")

    def _hurdle(self, step: int, values: Mapping[str, float]) -> None:
        goal = self.own.objectives[0]
        if goal.name not in values:
            return
        score = goal.score(float(values[goal.name]))
        for at, least in self.hurdles.items():
            if at in self.milestones or step + 1 < at:
                continue
            self.milestones[at] = score
            if not score >= least:
                raise Stopped(
                    "hurdle",
                    f"{goal.text(score)} on {self.run.anchor} after {at} steps, "
                    f"expected {goal.text(least)} or better",
                )
