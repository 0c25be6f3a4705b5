"""What a search would take, before anything is written: counted where it can be, else measured.

Seconds come from searches of the same task in this store; without any they are unknown, and said
to be so. Nothing here trains.
"""

from __future__ import annotations

import math

from api.rest.schemas import Estimate, StageView
from api.service import Service
from evosearch.config import Budget, SearchConfig
from evosearch.plan_notes import plan_notes
from evosearch.space_share import space_stages

BYTES_PER_EVALUATION = 60_000
"""Room in the store for an evaluated candidate and the proposals on the way to it; measured on
quickstart searches, rounded up."""


def search_steps(config: SearchConfig) -> int:
    """Training steps of the evaluations; what checks take is not in it."""
    task = config.task
    return (config.budget.evaluations + len(config.baselines)) * len(task.anchors) * task.steps


def confirmation_steps(config: SearchConfig) -> int:
    """Training steps of the confirmation."""
    task, end = config.task, config.confirmation
    if not end.enabled:
        return 0
    runs = config.confirm_runs + end.tune_runs + end.final_runs
    return runs * len(task.anchors) * task.steps


def estimate(service: Service, config: SearchConfig) -> Estimate:
    """The figures; hours are for the workers that controllers have now.

    Other limits of the budget end the search phase earlier: hours follow those of time, GPU-hours
    and training steps; the counts are without them.
    """
    search, confirmation = search_steps(config), confirmation_steps(config)
    steps, settings = search + confirmation, service.settings
    found = _seconds_per_step(service, config)
    alive = [one for one in service.controllers.list() if one.alive]
    at_hand = [w for one in alive for w in one.workers if w["state"] != "dead"]
    workers = len(at_hand) or settings.workers or 1
    hours = None
    if found is not None:
        a_step = found[0] / 3600
        most = most_hours(config.budget, workers, service.gpus_per_worker(), a_step)
        hours = min(search * a_step, most) + confirmation * a_step
    a_candidate = len(config.task.anchors) * config.task.steps
    return Estimate(
        config=config.model_dump(mode="json"),
        evaluations=config.budget.evaluations,
        train_steps=steps,
        seconds_per_evaluation=None if found is None else found[0] * a_candidate,
        worker_hours=hours,
        hours=None if hours is None else hours / workers,
        gpu_hours=None if hours is None else hours * service.gpus_per_worker(),
        disk_bytes=config.budget.evaluations * BYTES_PER_EVALUATION,
        price=None if hours is None or settings.price_per_hour is None
        else hours * settings.price_per_hour,
        space=[
            StageView(**one._asdict(), below=one.below)
            for one in space_stages(apart_from_code(config))
        ],
        notes=[*plan_notes(apart_from_code(config)), *left_out(config)],
        based_on="no search of this task has run here yet" if found is None else found[1],
    )  # fmt: skip


def most_hours(budget: Budget, workers: int, gpus_per_worker: float, a_step: float) -> float:
    """Worker-hours that the budget lets the search phase take; ``a_step``: those of a step."""
    limits = []
    if budget.hours is not None:
        limits.append(budget.hours * workers)
    if budget.gpu_hours is not None and gpus_per_worker:
        limits.append(budget.gpu_hours / gpus_per_worker)
    if budget.train_steps is not None:
        limits.append(budget.train_steps * a_step)
    return min(limits, default=math.inf)


def apart_from_code(config: SearchConfig) -> SearchConfig:
    """The config without a user's own checks, which the web process does not run."""
    space = config.space.model_copy(update={"checks": ()})
    return config.model_copy(update={"space": space})


def left_out(config: SearchConfig) -> list[str]:
    """What the shares of the space say nothing about in this process; one sentence each."""
    if not config.space.checks:
        return []
    return [
        f"space.checks ({', '.join(config.space.checks)}) are in none of these shares: the service "
        "runs no code of a user's own; evosearch search start --dry-run counts them"
    ]


def _seconds_per_step(service: Service, config: SearchConfig) -> tuple[float, str] | None:
    """Worker-seconds for each step of training, checks included, of the newest similar search."""
    for info in service.store.searches()[:50]:
        if info.config.task != config.task or info.evaluated < 3:
            continue
        trained = service.rest.training_costs(info.id)
        steps = sum(row["steps"] for row in trained)
        checks = sum(
            row.seconds for row in service.queries.funnel(info.id)
            if row.stage in ("signal", "quality", "stability")
        )  # fmt: skip
        if steps:
            seconds = sum(row["seconds"] for row in trained) + checks
            return seconds / steps, f"search {info.id}: {info.evaluated} evaluated candidates"
    return None
