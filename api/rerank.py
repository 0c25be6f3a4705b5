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
from db.studies import Studies
from evosearch.config import Anchor, Task
from evosearch.confirm import ranked
from evosearch.errors import ConfigError, NotFound
from evosearch.ports import Pool, Progress
from evosearch.records import Evaluation, EvaluationDone, Job, JobDone, Subject
from evosearch.report import formula_of, known_as
from evosearch.rerank import Layer, Plan, Setting, Tuned, best_rates, row_of
from evosearch.rerank_result import result_of
from evosearch.streams import evaluation_seed

LONGER = 4
"""Steps of the longer task, where none are asked for: so many times the search's."""
STUDY = "rerank"
"""First part of a study's name; the plan's digest is the second."""
ATTEMPTS = 3
"""How often a training is begun whose worker dies under it."""
LOST = ("died", "hung")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller wants otherwise than by default; None or empty is the search's own.

    ``transfer``: None for one anchor that the search did not use, where that is cheap.
    """

    top: int | None = None
    steps: int | None = None
    seeds: int | None = None
    rates: tuple[float, ...] = ()
    anchors: tuple[str, ...] = ()
    dataset: str | None = None
    transfer: tuple[str, ...] | None = None


TRANSFERS = ("resnet", "mobilenetv2", "efficientnet", "convnext")
"""Anchors that a re-ranking transfers to by default, the cheapest first."""


def default_transfer(task: Task) -> tuple[str, ...]:
    """The cheapest anchor that the search did not use, at the size of its own; none where that is
    dear (full size), or where layers do not move (texts, and anchors of a user's own)."""
    from workers.anchors import ANCHORS

    own = {anchor.name: anchor for anchor in task.anchors}
    networks = [ANCHORS.get(name) for name in own]
    moves = all(one.own is None and one.kind == "image" and not one.forbids for one in networks)
    size = task.anchors[0].size
    if not moves or size == "full":
        return ()
    unused = [name for name in TRANSFERS if name not in own]
    return tuple(f"{name}:{size}" for name in unused[:1])


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
    # A time limit is a machine's, and this task is longer.
    longer = task.model_copy(update={"steps": steps, "evaluation_seconds": None})
    count = asked.seeds or confirmation.final_seeds
    return Plan(
        search=facts.info.id,
        layers=tuple(_layers(facts, asked.top or confirmation.top)),
        settings=tuple(_settings(task, asked)),
        task=longer,
        rates=asked.rates or tuple(dict.fromkeys(confirmation.learning_rates)),
        tune_seeds=_seeds(config.seed, "rerank tune", confirmation.tune_seeds),
        final_seeds=_seeds(config.seed, "rerank final", count),
        resamples=confirmation.resamples,
        level=confirmation.level,
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


def _settings(task: Task, asked: Asked) -> Iterable[Setting]:
    """Anchors on the data set that is asked for, then what the search never used."""
    from workers.anchors import ANCHORS
    from workers.datasets import DATASETS

    own = {anchor.name: anchor for anchor in task.anchors}
    base = asked.dataset or task.dataset
    anchors = [_anchor(text, own) for text in asked.anchors] or list(task.anchors)
    more, datasets = list[Anchor](), list[str]()
    transfer = asked.transfer
    if transfer is None:
        transfer = () if asked.anchors or asked.dataset else default_transfer(task)
    for text in transfer:
        name = text.partition(":")[0]
        if text in DATASETS.names() or name == "folder" or text.endswith(".npz"):
            datasets.append(text)
        elif name in ANCHORS.names():
            more.append(_anchor(text, own))
        else:
            known = [one for one in (*ANCHORS.names(), *DATASETS.names())
                     if one not in (*own, task.dataset)]  # fmt: skip
            raise ConfigError("neither an anchor nor a data set", got=repr(text),
                              expected=", ".join(known))  # fmt: skip
        if name in own or text == task.dataset:
            raise ConfigError("the search used it: that is no transfer", got=text)
    every = [anchor.name for anchor in (*anchors, *more)]
    twice = [name for name in (*every, *datasets, base)
             if (*every, *datasets, base).count(name) > 1]  # fmt: skip
    if twice:
        raise ConfigError("named twice", expected="each anchor and data set once", got=twice[0])
    for dataset in (base, *datasets):
        _fits(dataset, (*anchors, *more), moved=dataset != task.dataset)
        for anchor in (*anchors, *more):
            searched = dataset == task.dataset and anchor.name in own
            yield Setting(dataset=dataset, anchor=anchor, searched=searched)


def _anchor(text: str, own: Mapping[str, Anchor]) -> Anchor:
    """The setting of ``NAME`` or ``NAME:SIZE``; of the search's own anchors in its setting."""
    from workers.anchors import ANCHORS

    name, colon, size = text.partition(":")
    network = ANCHORS.get(name)
    if colon and size not in ("micro", "small", "full"):
        raise ConfigError("no size of an anchor", expected="NAME or NAME:SIZE, with size micro, "
                          "small or full", got=repr(text))  # fmt: skip
    if colon and network.own is not None:
        raise ConfigError("an anchor of your own has one size", expected=name, got=text)
    anchor = own.get(name)
    if anchor is None:
        kinds = {ANCHORS.get(one).kind for one in own}
        if network.forbids or network.kind not in kinds:
            raise ConfigError("an anchor that forbids mixing axes, or of other data, takes no such "
                              "layer", got=name)  # fmt: skip
        anchor = Anchor(name=name)
    if not colon:
        return anchor
    return anchor.model_copy(update={"size": size, "width": None, "depth": None})


def _fits(dataset: str, anchors: Iterable[Anchor], *, moved: bool) -> None:
    """Refuse data that is not at hand, or that anchors cannot train on, before anything trains."""
    from workers.anchors import ANCHORS
    from workers.datasets import load

    kind = None
    for anchor in anchors:
        network = ANCHORS.get(anchor.name)
        if network.own is not None and network.own.kind == "evaluator":
            raise ConfigError("an evaluator trains in one go and cannot be tuned in rungs",
                              got=anchor.name)  # fmt: skip
        if network.own is not None and (network.own.kind == "task" or network.own.dataset):
            if moved:
                raise ConfigError("an anchor of your own that brings its data stays with it",
                                  got=f"{anchor.name} on {dataset}")  # fmt: skip
            continue
        kind = kind or load(dataset).kind
        if network.kind != kind:
            raise ConfigError(f"anchor {anchor.name} does not fit the data set {dataset}",
                              expected=f"an anchor of kind {kind}", got=network.kind)  # fmt: skip


class Rerank:
    """A plan while it is carried out, and its items in the store.

    Items: ``plan``; ``tune/TRIAL``; ``rate/ROW``; ``asked/JOB``, written before a job reads
    ``final``; ``final/JOB``, the number; ``failed/NAME``; ``result``.
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

    def left_to_tune(self) -> list[Job]:
        """Trials that have not ended."""
        known = self.tuned()
        return [job for job in self.plan.tune_jobs() if not known.get(job.id, Tuned()).ended]

    def choose_rates(self, failures: Mapping[str, str]) -> None:
        """Settle the rate of each row that has none; it never changes again."""
        for name, why in failures.items():
            self.put(f"failed/{name}", {"why": why})
        for row, rate in best_rates(self.plan, self.tuned()).items():
            self.add(f"rate/{row}", {"rate": rate})

    def left_to_read(self, rates: Mapping[str, float]) -> list[Job]:
        """Trainings whose number on ``final`` is not there yet."""
        known = self.kept("final")
        return [job for job in self.plan.final_jobs(rates) if job.id not in known]

    def read_final(self, jobs: Iterable[Job], pool: Pool, told: Progress) -> None:
        """Train the jobs with fresh seeds; each reads ``final`` once, and every read is kept."""
        waiting = {job.id: job for job in jobs}
        total, queue = len(waiting), list(waiting)
        reads = {name: int(one["reads"]) for name, one in self.kept("asked").items()}
        while waiting:
            while queue and len(waiting) - len(queue) < pool.capacity:
                name = queue.pop(0)
                reads[name] = reads.get(name, 0) + 1
                self.put(f"asked/{name}", {"reads": reads[name]})
                attempt = {"attempt": reads[name]}
                pool.submit(waiting[name].model_copy(update=attempt))
            for message in pool.poll(0.5):
                if message.job_id not in waiting:
                    continue
                if isinstance(message, EvaluationDone):
                    number = message.evaluation.model_dump(mode="json", exclude={"curve"})
                    self.add(f"final/{message.job_id}", number)
                elif isinstance(message, JobDone):
                    self._ended(message, waiting, queue, reads)
            told("final", total - len(waiting), total)

    def _ended(
        self, done: JobDone, waiting: dict[str, Job], queue: list[str], reads: Mapping[str, int]
    ) -> None:
        failed = done.failure
        if failed is not None and failed.cause in LOST and reads[done.job_id] < ATTEMPTS:
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
        failures = {name: str(one["why"]) for name, one in self.kept("failed").items()}
        result = result_of(self.plan, self.rates(), complete, failures)
        reads = [int(one["reads"]) for one in self.kept("asked").values()]
        result |= {"reads": sum(reads), "judged": judged(self._studies, facts)}
        self.put("result", result)
        return result


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
        jobs = list(plan.tune_jobs())
        ended = {name for name, one in rerank.tuned().items() if one.ended}

        def heard(name: str, tuned: Tuned) -> None:
            rerank.heard(name, tuned)
            if tuned.ended:
                ended.add(name)
            told("tuning on select", len(ended), len(jobs))

        rerank.choose_rates(tune(jobs, plan.rungs, rerank.tuned(), heard, folder))
    rerank.choose_rates({})
    left = rerank.left_to_read(rerank.rates())
    if left:
        pool = make_pool()
        try:
            rerank.read_final(left, pool, told)
        finally:
            pool.close()
    return rerank.conclude(facts)
