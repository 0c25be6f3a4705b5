"""Runs the trainings that a report was asked for, says before how long they take, and keeps them.

Only the command comes here: the web process loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console

from api.report_text import say
from api.reporting.gather import Facts
from api.reporting.studies import (
    Study,
    knock_out_study,
    robustness_study,
    run_study,
    seconds_of,
    transfer_study,
)
from api.text import duration
from evosearch.confirm import leader
from evosearch.errors import NotFound
from evosearch.plugins import ensure
from evosearch.ports import Pool
from workers.cache import CachedPool, EvaluationCache


def run_studies(
    facts: Facts, wanted: Sequence[str], transfer: Iterable[str], seeds: int | None, kept: Path,
    make_pool: Callable[[], Pool],
) -> list[Study]:  # fmt: skip
    """The studies of those names, trained; what lies in the folder ``kept`` is not trained again.

    Raises:
        NotFound: the search has no leader.
        ConfigError: a transfer names what cannot be.
    """
    best = leader(facts.state)
    if best is None:
        raise NotFound(f"search {facts.info.id} has no leader yet")
    ensure(facts.state.config.task.plugins)
    count = seeds or facts.state.config.confirmation.seeds
    studies = []
    if "knock-out" in wanted:
        studies.append(knock_out_study(facts, best, count))
    if "robustness" in wanted:
        studies.append(robustness_study(facts, best, count))
    if "transfer" in wanted:
        studies.append(transfer_study(facts, best, count, transfer))
    cache, console = EvaluationCache(kept), Console(stderr=True)
    left = [
        job.model_copy(update={"runs": runs}) for study in studies for job in study.jobs
        if (runs := tuple(run for run in job.runs if cache.get(job, run) is None))
    ]  # fmt: skip
    every = sum(len(job.runs) for study in studies for job in study.jobs)
    todo = sum(len(job.runs) for job in left)
    pool = CachedPool(make_pool(), cache)
    try:
        say(
            console,
            f"{', '.join(wanted)}: {every} trainings, {every - todo} of them kept in {kept}; "
            f"the others take about {duration(seconds_of(facts, left))} of worker time; "
            "Ctrl-C loses none that has ended",
        )
        with console.status("training ...") as status:

            def told(name: str, done: int, of: int) -> None:
                status.update(f"{name}: {done} of {of} jobs")

            for study in studies:
                run_study(study, pool, told)
    finally:
        pool.close()
    return studies
