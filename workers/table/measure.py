"""Measures one row of a table: a layer on every anchor and seed, as far as it is worth.

Signal everywhere; then the first steps until an anchor falls short of quality; where some seed
passes quality on every anchor, all seeds are trained to the end and stability is measured. What is
measured does not depend on the milestones that are looked at on the way.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from evosearch.config import SearchConfig
from evosearch.errors import ConfigError
from evosearch.records import Job, Run, Subject
from primitives.graph import Graph
from workers.checks import MEASURED, ascended, signal_statistics
from workers.evaluate import Context
from workers.inline import one_thread
from workers.layers import LayerFactory, layer_factory
from workers.table.form import Ascent, Row, Stored
from workers.training import Training, anchor_setting

Clock = time.process_time
"""Of one thread in one process: costs that other work on the machine does not change."""

EARLY = (0.2, 0.6, 0.8)
"""Shares of a training with a milestone beside those of quality and hurdles."""


def milestones(config: SearchConfig) -> tuple[int, ...]:
    """The steps at which a table of this config holds scores."""
    task, checks = config.task, config.checks
    early = {math.ceil(task.steps * share) for share in EARLY}
    found = {checks.quality.steps, *checks.hurdles.steps, *early, task.steps}
    return tuple(sorted(step for step in found if step <= task.steps))


def refuse_unfit(config: SearchConfig) -> None:
    """Refuse a config that a table cannot answer.

    Raises:
        ConfigError: an anchor has several objectives, or quality or signal are off.
    """
    anchors = config.task.anchors
    several = next((one.name for one in anchors if len(one.objectives) > 1), None)
    if several is not None:
        raise ConfigError("a table holds one score an anchor", where="task.anchors", got=several)
    if not (config.checks.signal.enabled and config.checks.quality.enabled):
        raise ConfigError(
            "a table is built with the signal and quality checks", where="checks",
            hint="a search on it may do without them",
        )  # fmt: skip


def measure_row(
    config: SearchConfig,
    seeds: tuple[int, ...],
    layer: Graph | str,
    context: Context,
    groups: dict[str, dict[str, int]] | None = None,
) -> Row:
    """The row of a graph or of the baseline of that name, which is trained whatever it scores.

    ``groups``: is told anchor -> width -> group count, where the layer has groups.
    """
    with one_thread():
        return _Measuring(config, seeds, layer, context).row(groups)


@dataclass(slots=True)
class _Run:
    """A training while it is measured."""

    training: Training
    layer: LayerFactory
    build_seconds: float
    signal: dict[str, float]
    signal_seconds: float
    scores: dict[int, float] = field(default_factory=dict)
    training_seconds: float = 0.0
    scoring_seconds: float = 0.0
    diverged_at: int = 0

    def advance(self, to_step: int, steps: tuple[int, ...]) -> None:
        """Train to that step, scoring at each milestone on the way."""
        for step in (one for one in steps if self.training.step < one <= to_step):
            if self.diverged_at:
                return
            begin = Clock()
            self.training.advance(step)
            trained = Clock()
            self.training_seconds += trained - begin
            if self.training.diverged:
                self.diverged_at = self.training.diverged_at()
                return
            self.scores[step] = self.training.score("select").accuracy
            self.scoring_seconds += Clock() - trained

    def stored(self) -> Stored:
        steps = self.training.step
        return Stored(
            signal=self.signal,
            scores=self.scores,
            curve=tuple(self.training.curve),
            diverged_at=self.diverged_at,
            trained=steps,
            build_seconds=self.build_seconds,
            signal_seconds=self.signal_seconds,
            step_seconds=self.training_seconds / steps if steps else 0.0,
            score_seconds=self.scoring_seconds / max(1, len(self.scores)),
        )


class _Measuring:
    def __init__(
        self, config: SearchConfig, seeds: tuple[int, ...], layer: Graph | str, context: Context
    ) -> None:
        self.config, self.seeds, self.layer, self.context = config, seeds, layer, context
        self.steps = milestones(config)
        self.runs: dict[tuple[int, str], _Run] = {}

    def row(self, groups: dict[str, dict[str, int]] | None) -> Row:
        anchors, ends = self.config.anchor_names, self.config.task.steps
        for seed in self.seeds:
            for anchor in anchors:
                self.runs[seed, anchor] = self.begin(seed, anchor)
        passed = [self.passes(seed) for seed in self.seeds]
        worth = isinstance(self.layer, str) or any(passed)
        ascents: list[Ascent | None] = [None] * len(self.seeds)
        if worth:
            for run in self.runs.values():
                run.advance(ends, self.steps)
            ascents = [self.ascent(seed) for seed in self.seeds]
        for (_, anchor), run in self.runs.items():
            if groups is not None and run.layer.has_groups:
                groups.setdefault(anchor, {}).update(run.layer.groups)
        stored = (tuple(self.runs[seed, a].stored() for a in anchors) for seed in self.seeds)
        return Row(tuple(stored), tuple(ascents))

    def begin(self, seed: int, anchor: str) -> _Run:
        task = self.config.task
        run = Run(anchor=anchor, seed=seed, learning_rate=task.learning_rate)
        named = isinstance(self.layer, str)
        subject = Subject(baseline=str(self.layer)) if named else Subject(birth=0)
        graph = None if isinstance(self.layer, str) else self.layer
        job = Job(id="row", purpose="search", subject=subject, graph=graph, runs=(run,), task=task)
        begin = Clock()
        layer = layer_factory(job, anchor)
        training = self.context.training(run, task, layer)
        built = Clock()
        found = signal_statistics(training)
        signal = {name: found[name] for name in MEASURED}
        return _Run(training, layer, built - begin, signal, Clock() - built)

    def passes(self, seed: int) -> bool:
        """Whether the first steps reach quality on every anchor; they end where they do not."""
        quality = self.config.checks.quality
        for anchor in self.config.anchor_names:
            run = self.runs[seed, anchor]
            run.advance(quality.steps, self.steps)
            least = anchor_setting(run.training.run, self.config.task).quality
            score = run.scores.get(quality.steps, -math.inf)
            if not score >= (quality.accuracy if least is None else least):
                return False
        return True

    def ascent(self, seed: int) -> Ascent:
        begin = Clock()
        run = self.runs[seed, self.config.anchor_names[0]]
        norm, steps = ascended(run.training, self.config.checks.stability)
        return Ascent(norm, steps, Clock() - begin)
