"""What a report trains besides: fair comparisons, kept as they come, refused where senseless."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from xml.etree import ElementTree

import pytest

from api.reporting.contents import document
from api.reporting.gather import Facts, gather
from api.reporting.render import to_markdown
from api.reporting.run_studies import run_studies
from api.reporting.studies import (
    knock_out_study,
    robustness_study,
    run_study,
    seconds_of,
    transfer_study,
)
from api.reporting.study_tables import study_section
from db import open_store
from evosearch.confirm import leader
from evosearch.errors import ConfigError
from evosearch.ports import unseen
from evosearch.records import Evaluation, EvaluationDone, Failure, Job, JobDone, Message
from evosearch.streams import evaluation_seed
from primitives.digest import digest
from primitives.formula import parse
from tests.integration.test_study import finished
from workers.inline import InlinePool

__all__ = ["finished"]


@pytest.fixture(scope="module")
def facts(finished: tuple[str, str]) -> Facts:
    store = open_store(finished[0])
    try:
        return gather(store, finished[1])
    finally:
        store.close()


class Planted:
    """A pool that knows scores: by digest or baseline, plus a noise of the seed that all share."""

    capacity = 3

    def __init__(self, worth: dict[str, float], last: int = 10**9) -> None:
        self._worth, self._waiting, self.trained, self._last = worth, deque[Job](), 0, last

    def submit(self, job: Job) -> None:
        self._waiting.append(job)

    def poll(self, timeout: float) -> list[Message]:
        if not self._waiting:
            return []
        job = self._waiting.popleft()
        told: list[Message] = []
        key = digest(job.graph) if job.graph is not None else job.subject.key
        if self._worth.get(key) == -1.0:
            return [JobDone(job_id=job.id, failure=Failure(cause="error", detail="boom"))]
        for run in job.runs:
            if self.trained == self._last:
                raise KeyboardInterrupt
            self.trained += 1
            score = self._worth.get(key, 0.5) + (run.seed % 97) / 1000
            told.append(EvaluationDone(job_id=job.id, evaluation=Evaluation(
                anchor=run.anchor, seed=run.seed, learning_rate=run.learning_rate, split=run.split,
                score=score, steps=1, seconds=0.0)))  # fmt: skip
        return [*told, JobDone(job_id=job.id)]

    def cancel(self, job_id: str) -> None:
        pass

    def close(self) -> None:
        pass


def best_of(facts: Facts) -> int:
    best = leader(facts.state)
    assert best is not None
    return best


def with_leader(facts: Facts, formula: str) -> Facts:
    """The same facts with that layer in the leader's place."""
    member = facts.state.members[best_of(facts)]
    member.graph = parse(formula)
    return facts


@pytest.fixture
def evonorm(finished: tuple[str, str]) -> Facts:
    store = open_store(finished[0])
    try:
        return with_leader(gather(store, finished[1]), "x * sigmoid(v1 * x) / std_group(x)")
    finally:
        store.close()


def test_a_knock_out_is_paired_with_the_leader(evonorm: Facts) -> None:
    whole = digest(parse("x * sigmoid(v1 * x) / std_group(x)"))
    bare = digest(parse("x * sigmoid(v1 * x)"))
    study = knock_out_study(evonorm, best_of(evonorm), 4)
    run_study(study, Planted({whole: 0.8, bare: 0.3}), unseen)
    (table,) = study_section(study).blocks
    rows = {row[2]: row for row in table.rows}
    # The seeds' noise is common to both, so the difference has none.
    assert rows["x * sigmoid(x * v1)"][-1] == "-0.500 [-0.500, -0.500]"
    assert rows["x / std_group(x)"][-1] == "-0.300 [-0.300, -0.300]"
    assert rows["std_group(x)"][-2:] == ("no layer", "no_spatial")
    assert "4 seeds" in table.title
    drawn = ElementTree.fromstring(table.svg)
    shown = [one.text for one in drawn.iter() if one.tag.endswith("text")]
    assert "-0.500 [-0.500, -0.500]" in shown
    assert sum(one.tag.endswith("circle") for one in drawn.iter()) == sum(
        "[" in row[-1] for row in table.rows
    )


def test_a_row_compares_with_the_better_rival_and_tells_failures(evonorm: Facts) -> None:
    whole = digest(parse("x * sigmoid(v1 * x) / std_group(x)"))
    study = robustness_study(evonorm, best_of(evonorm), 2)
    rates = {job.runs[0].learning_rate for job in study.jobs}
    batches = {job.task.batch_size for job in study.jobs}
    depths = {anchor.depth for job in study.jobs for anchor in job.task.anchors}
    assert (rates, batches, depths) == ({0.05, 0.2, 0.8}, {4, 16, 64, 256}, {None, 2})
    run_study(study, Planted({whole: 0.8, "bn-relu": 0.6}), unseen)
    (table,) = study_section(study).blocks
    assert {row[-1] for row in table.rows} == {"+0.200 [+0.200, +0.200]"}
    assert len(table.rows) == 24
    drawn = ElementTree.fromstring(table.svg)
    assert sum(one.tag.endswith("circle") for one in drawn.iter()) == 24
    assert "the same learning rate in a row" in table.caption
    failing = robustness_study(evonorm, best_of(evonorm), 2)
    run_study(failing, Planted({whole: -1.0}), unseen)
    table, *told = study_section(failing).blocks
    assert {row[-1] for row in table.rows} == {"-"}
    assert len(told) == 24
    assert "boom" in told[0].text


def test_a_run_that_was_broken_off_goes_on(facts: Facts, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    broken = Planted({}, last=5)
    with pytest.raises(KeyboardInterrupt):
        run_studies(facts, ["robustness"], (), 1, kept, lambda: broken)
    rest = Planted({})
    (study,) = run_studies(facts, ["robustness"], (), 1, kept, lambda: rest)
    assert broken.trained == 5
    assert rest.trained == len(study.jobs) - 5 == 43
    again = Planted({})
    (same,) = run_studies(facts, ["robustness"], (), 1, kept, lambda: again)
    assert again.trained == 0
    assert same.scores == study.scores


def test_the_leader_without_a_knock_out_has_seeds_that_chose_nothing(
    facts: Facts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (study,) = run_studies(facts, ["knock-out"], (), 1, tmp_path / "kept", InlinePool)
    best = best_of(facts)
    seed = facts.state.config.seed
    found = study.by_seed(("nothing", ""), "leader")
    assert found.keys() == {evaluation_seed(seed, "study", 0)}
    assert 0.0 < found.popitem()[1] < 1.0
    used = {run.seed for runs in facts.state.results.values() for _, run in runs}
    assert facts.samples.fresh[best][0].keys() <= used
    moved = transfer_study(facts, best, 5, ["convnext"])
    for one in (study, robustness_study(facts, best, 5), moved):
        assert not used & {run.seed for job in one.jobs for run in job.runs}
    said = capsys.readouterr().err
    assert f"{len(study.jobs)} trainings, 0 of them kept" in said
    told = to_markdown(document(facts, [study]))
    assert "Knock-out: what each node is worth" in told


def test_a_transfer_is_to_what_the_search_never_used(facts: Facts) -> None:
    best = best_of(facts)
    study = transfer_study(facts, best, 1, ["mobilenetv2"])
    assert {trial.row for trial in study.trials} == {("polarity-digits", "mobilenetv2 micro")}
    big = transfer_study(facts, best, 1, ["mobilenetv2:small"])
    assert {trial.row for trial in big.trials} == {("polarity-digits", "mobilenetv2 small")}
    assert {job.task.anchors[0].size for job in big.jobs} == {"small"}
    for names, words in (
        (["resnet"], "no transfer"), (["polarity-digits"], "no transfer"),
        (["vgg"], "neither an anchor"), (["char-transformer"], "forbids"),
        (["convnext", "convnext"], "named twice"), (["convnext:huge"], "no size"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            transfer_study(facts, best, 1, names)


def test_the_estimate_grows_with_batch_depth_and_seeds(facts: Facts) -> None:
    best = best_of(facts)
    one = seconds_of(facts, knock_out_study(facts, best, 1).jobs)
    assert one > 0.0
    assert seconds_of(facts, knock_out_study(facts, best, 3).jobs) == pytest.approx(3 * one)
    study = robustness_study(facts, best, 1)
    by_batch = {
        batch: seconds_of(facts, [job for job in study.jobs if job.task.batch_size == batch])
        for batch in (64, 256)
    }
    assert by_batch[256] == pytest.approx(4 * by_batch[64])
    deep = [job for job in study.jobs if job.task.anchors[0].depth == 2]
    assert 3 * seconds_of(facts, deep) == pytest.approx(2 * seconds_of(facts, study.jobs))
