"""The search that a tiny table answers, and what to compare its answers with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evosearch import events as ev
from evosearch.config import Checks, SearchConfig
from evosearch.presets import load_preset
from evosearch.records import Job, Message
from workers.evaluate import Context, run_job
from workers.inline import one_thread
from workers.table.build import build, make_plan
from workers.table.form import Table

ANCHORS = [f'{{name = "{name}", width = 4}}' for name in ("resnet", "mobilenetv2")]
SEARCH = (
    'space.allow=["max", "neg", "div", "rms_batch", "std_group"]', "space.nodes=2",
    "space.draw=typed", f"task.anchors=[{', '.join(ANCHORS)}]",
    "task.steps=20", "task.learning_rate=0.1", "task.batch_size=16", "task.select_rows=80",
    'baselines=["bn-relu"]',
    "checks.signal.bounds={}", "checks.signal.audit_share=0.5", "checks.quality.steps=6",
    "checks.quality.accuracy=0.09", "checks.stability.steps=2",
    "confirmation.enabled=false",
)  # fmt: skip
EVOLUTION = (
    "evolution.same_start=0", "evolution.warm_up=3", "evolution.max_proposals=3000",
    "checks.hurdles.steps=[]", "evolution.choose_of=1",
)  # fmt: skip
"""A study takes these of the preset, not of the table."""


def configured(*more: str) -> SearchConfig:
    return load_preset("quickstart", (*SEARCH, *EVOLUTION, *more))


def full(path: Path) -> Table:
    """A table that holds all of its space, built into that file."""
    return build(make_plan(configured('space.allow=["max", "div", "rms_batch"]'), seeds=2), path)


def plain(messages: list[Message]) -> Any:
    """The messages without times and the worker's name."""
    told = [json.loads(one.model_dump_json()) for one in messages]
    for one in told:
        one.pop("worker", None)
    return ev.without_times(told)


def inline(job: Job) -> list[Message]:
    with one_thread():
        return list(run_job(job, Context(device="cpu")))


def as_checked(job: Job, checks: Checks, **changed: Any) -> Job:
    return job.model_copy(update={"checks": checks, **changed})
