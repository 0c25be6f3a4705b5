"""A re-ranking of what a search put on top: its plan, its run, and what is kept of it in the store.

Two stages: every row is tuned on ``select``, then trained with fresh seeds and read on ``final``.
Each trial, each rate, each read and each number is an item of a study in the store as soon as it is
there, so that the same command goes on after a kill. Nothing is written to the search itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.reporting.gather import Facts
from api.transfers import default_transfer, settings_of
from api.wiring import versions
from db.studies import Studies
from evosearch.confirm import ranked
from evosearch.errors import ConfigError, NotFound
from evosearch.observe import tried_again
from evosearch.ports import Pool, Progress
from evosearch.records import Evaluation, EvaluationDone, Job, JobDone, Subject
from evosearch.report import formula_of, known_as
from evosearch.rerank import Layer, Plan, Tuned, best_rates, default_rates, row_of
from evosearch.rerank_result import result_of
from evosearch.streams import evaluation_seed

LONGER = 4
"""Steps of the longer task, where none are asked for: so many times the search's."""
STUDY = "rerank"
"""First part of a study's name; the plan's digest is the second."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller wants otherwise than by default; None or empty is the search's own.

    ``transfer``: None for what `default_transfer` names, unless anchors or data are asked for.
    """

    top: int | None = None
    steps: int | None = None
    seeds: int | None = None
    rates: tuple[float, ...] = ()
    anchors: tuple[str, ...] = ()
    dataset: str | None = None
    transfer: tuple[str, ...] | None = None


def make_plan(facts: Facts, asked: Asked) -> Plan:
    """The plan of a re-ranking.

    Raises:
        NotFound: no candidate was evaluated, or a name names nothing.
        ConfigError: anchors and data do not fit, or were used by the search and called a transfer.
    """
    config = facts.state.config
    confirmation, task = config.confirmation, config.task
    steps = asked.steps or LONGER * task.steps
    if task.warm_up_steps > steps:
        raise ConfigError("fewer steps than the warm-up has", expected=f"{task.warm_up_steps} at "
                          "least", got=str(steps))  # fmt: skip
    transfer = asked.transfer
    if transfer is None:
        transfer = () if asked.anchors or asked.dataset else default_transfer(task)
    settings = settings_of(
        task, transfer, anchors=asked.anchors, dataset=asked.dataset, in_rungs=True
    )
    # A time limit is a machine's, and this task is longer.
    longer = task.model_copy(update={"steps": steps, "evaluation_seconds": None})
    count = asked.seeds or confirmation.final_seeds
    return Plan(
        search=facts.info.id,
        layers=tuple(_layers(facts, asked.top or confirmation.top)),
        settings=tuple(settings),
        task=longer,
        rates=asked.rates or default_rates(config),
        tune_seeds=_seeds(config.seed, "rerank tune", confirmation.tune_seeds),
        final_seeds=_seeds(config.seed, "rerank final", count),
        resamples=confirmation.resamples,
        level=confirmation.level,
        versions=versions(),
    )


def _seeds(seed: int, purpose: str, count: int) -> tuple[int, ...]:
    return tuple(evaluation_seed(seed, purpose, index) for index in range(count))


def _layers(facts: Facts, top: int) -> Iterable[Layer]:
    """The top candidates, by fresh seeds where they have them, and every baseline."""
    state = facts.state
    confirmed = facts.samples.confirmed()
    tops = sorted(confirmed, key=lambda one: (-sum(confirmed[one]), one))
    tops += [birth for birth in ranked(state) if birth not in confirmed]
    if not tops:
        raise NotFound(f"search {facts.info.id} has no candidate to rank",
                       hint="none has been evaluated")  # fmt: skip
    for birth in tops[:top]:
        graph = state.members[birth].graph
        yield Layer(subject=Subject(birth=birth), graph=graph, formula=formula_of(graph),
                    known_as=known_as(graph))  # fmt: skip
    for name in dict.fromkeys((*state.config.baselines, *state.config.confirmation.rivals)):
        yield Layer(subject=Subject(baseline=name))


class Rerank:
    """A plan while it is carried out, and its items in the store.

    Items: ``plan``; ``tune/TRIAL``; ``rate/ROW``, settled once a job of the row was asked;
    ``asked/JOB``, written before a job reads ``final``; ``final/JOB``, the number;
    ``failed/NAME``; ``result``.
    """

    def __init__(self, studies: Studies, plan: Plan) -> None:
        self.plan, self._studies = plan, studies
        self.name = f"{STUDY}-{plan.key}"
        self.add("plan", plan.model_dump(mode="json"))

    def add(self, item: str, payload: Mapping[str, Any]) -> bool:
        """Write an item that stays; whether it is new."""
        return self._studies.add(self.plan.search, self.name, item, payload)

    def put(self, item: str, payload: Mapping[str, Any]) -> None:
        """Write an item in place of an older one."""
        self._studies.put(self.plan.search, self.name, item, payload)

    def kept(self, kind: str) -> dict[str, dict[str, Any]]:
        """The items of a kind."""
        found = self._studies.items(self.plan.search, self.name, kind)
        return {name: item.payload for name, item in found.items()}

    def tuned(self) -> dict[str, Tuned]:
        """How far each trial has come."""
        return {name: Tuned.model_validate(one) for name, one in self.kept("tune").items()}

    def rates(self) -> dict[str, float]:
        """Row -> its rate, once it was chosen."""
        return {row: float(one["rate"]) for row, one in self.kept("rate").items()}

    def heard(self, name: str, tuned: Tuned) -> None:
        """Keep how far a trial has come."""
        self.put(f"tune/{name}", tuned.model_dump(mode="json"))

    def to_tune(self) -> list[Job]:
        """The trials of all rows that nothing was read of on ``final``; they race together.

        A row that was read keeps its rate, and what failed in it is not tried again.
        """
        read = {row_of(name) for name in self.kept("asked")}
        return [job for job in self.plan.tune_jobs() if row_of(job.id) not in read]

    def left_to_tune(self) -> list[Job]:
        """Those of them that have not ended."""
        known = self.tuned()
        return [job for job in self.to_tune() if not known.get(job.id, Tuned()).ended]

    def choose_rates(self, failures: Mapping[str, str]) -> None:
        """The rate of each row by what is known of it; one that was read on ``final`` keeps it."""
        for name, why in failures.items():
            self.put(f"failed/{name}", {"why": why})
        rates = best_rates(self.plan, self.tuned())
        for row in dict.fromkeys(row_of(job.id) for job in self.to_tune()):
            if row in rates:
                self.put(f"rate/{row}", {"rate": rates[row]})

    def failures(self) -> dict[str, str]:
        """Trial or job -> why it has no number, of those that have none to this day."""
        has = {name for name, one in self.tuned().items() if one.ended} | {*self.kept("final")}
        failed = self.kept("failed")
        return {name: str(one["why"]) for name, one in failed.items() if name not in has}

    def other_versions(self) -> list[str]:
        """Re-rankings of the same that other versions began, as ``KEY (torch 1.0)``."""
        search = self.plan.search
        found = []
        for name in self._studies.of(search):
            item = self._studies.item(search, name, "plan")
            other = None if item is None else Plan.model_validate(item.payload)
            if other is not None and self.plan.differs_in_versions_alone(other):
                found.append(
                    f"{name.split('-', 1)[1]} ({differences(other.versions, self.plan.versions)})"
                )
        return found

    def left_to_read(self, rates: Mapping[str, float]) -> list[Job]:
        """Trainings whose number on ``final`` is not there yet."""
        known = self.kept("final")
        return [job for job in self.plan.final_jobs(rates) if job.id not in known]

    def read_final(self, jobs: Iterable[Job], pool: Pool, told: Progress) -> None:
        """Train the jobs with fresh seeds; each reads ``final`` once, and every read is kept.

        One whose worker is lost is tried again as in a search.
        """
        waiting = {job.id: job for job in jobs}
        total, queue = len(waiting), list(waiting)
        reads = {name: int(one["reads"]) for name, one in self.kept("asked").items()}
        while waiting:
            while queue and len(waiting) - len(queue) < pool.capacity:
                name = queue.pop(0)
                reads[name] = reads.get(name, 0) + 1
                self.put(f"asked/{name}", {"reads": reads[name]})
                pool.submit(waiting[name])
            for message in pool.poll(0.5):
                if message.job_id not in waiting:
                    continue
                if isinstance(message, EvaluationDone):
                    number = message.evaluation.model_dump(mode="json", exclude={"curve"})
                    self.add(f"final/{message.job_id}", number)
                elif isinstance(message, JobDone):
                    self._ended(message, waiting, queue)
            told("final", total - len(waiting), total)

    def _ended(self, done: JobDone, waiting: dict[str, Job], queue: list[str]) -> None:
        failed = done.failure
        if failed is not None and tried_again(waiting[done.job_id], failed):
            waiting[done.job_id] = waiting[done.job_id].again(failed)
            queue.append(done.job_id)
            return
        if failed is not None:
            self.put(f"failed/{done.job_id}", {"why": failed.detail or failed.cause})
        del waiting[done.job_id]

    def conclude(self, facts: Facts) -> dict[str, Any]:
        """The result, which is kept too."""
        finals: dict[str, dict[int, Evaluation]] = defaultdict(dict)
        for name, number in self.kept("final").items():
            one = Evaluation.model_validate(number)
            finals[row_of(name)][one.seed] = one
        complete = {row: by_seed for row, by_seed in finals.items()
                    if len(by_seed) == len(self.plan.final_seeds)}  # fmt: skip
        result = result_of(self.plan, self.rates(), complete, self.failures())
        reads = [int(one["reads"]) for one in self.kept("asked").values()]
        result |= {"reads": sum(reads), "judged": judged(self._studies, facts)}
        self.put("result", result)
        return result


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The versions of then that are others now: ``torch 1.0``."""
    told = [f"{name} {version}" for name, version in before.items() if now.get(name) != version]
    return ", ".join(told) or "unknown versions"


def judged(studies: Studies, facts: Facts) -> dict[str, int]:
    """Data set -> layers that were ever read on its ``final``, by the search or after it."""
    found: dict[str, set[str]] = defaultdict(set)
    state = facts.state
    for key, results in state.results.items():
        if any(purpose == "final" for purpose, _ in results):
            found[state.config.task.dataset].add(key)
    for study in studies.of(facts.info.id):
        for name in studies.items(facts.info.id, study, "asked"):
            layer, *dataset, _, _ = name.split("/")
            found["/".join(dataset)].add(layer)
    return {dataset: len(layers) for dataset, layers in sorted(found.items())}


Tune = Callable[[list[Job], tuple[int, ...], Mapping[str, Tuned], Callable[[str, Tuned], None],
                 Path], dict[str, str]]  # fmt: skip
"""Runs all trials of the first stage; `workers.tuning.tune_inline` is one."""


def carry_out(
    rerank: Rerank, facts: Facts, tune: Tune, make_pool: Callable[[], Pool], folder: Path,
    told: Progress,
) -> dict[str, Any]:  # fmt: skip
    """Both stages, as far as they are not done, and the result."""
    plan = rerank.plan
    if rerank.left_to_tune():
        folder.mkdir(parents=True, exist_ok=True)
        jobs = rerank.to_tune()
        names, known = {job.id for job in jobs}, rerank.tuned()
        ended = {name for name, one in known.items() if one.ended and name in names}

        def heard(name: str, tuned: Tuned) -> None:
            rerank.heard(name, tuned)
            if tuned.ended:
                ended.add(name)
            told("tuning on select", len(ended), len(jobs))

        rerank.choose_rates(tune(jobs, plan.rungs, known, heard, folder))
    rerank.choose_rates({})
    left = rerank.left_to_read(rerank.rates())
    if left:
        pool = make_pool()
        try:
            rerank.read_final(left, pool, told)
        finally:
            pool.close()
    return rerank.conclude(facts)
