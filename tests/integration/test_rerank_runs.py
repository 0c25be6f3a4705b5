"""A re-ranking from the command line, without Ray and with it, broken off and gone on with."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from api.cli import run
from api.rerank import Rerank
from api.wiring import versions
from db import open_store
from db.sql_store import SqlStore
from db.studies import Item, Studies
from evosearch.config import Anchor, Task
from evosearch.ports import unseen
from evosearch.records import Cause, Failure, Job, JobDone, Message, Subject
from evosearch.rerank import Tuned, row_key
from tests.acceptance.command import COMMAND, environment, evosearch
from tests.integration.test_study import finished
from tests.simulated_worker import answer
from tests.support.events import CREATED
from tests.unit.test_rerank import make_plan
from workers import rerank_tune
from workers.simulated import SimulatedPool
from workers.training import Training

__all__ = ["finished"]

SMALL = ("--top", "2", "--steps", "8", "--seeds", "2", "--rates", "0.1,0.2,0.4")


@pytest.fixture
def search(finished: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Id of a finished search, in a database of this test's own in the working folder."""
    shutil.copy(finished[0].removeprefix("sqlite:///"), tmp_path / "evosearch.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVOSEARCH_DB", raising=False)
    return finished[1]


def items(folder: Path, search: str, kind: str) -> dict[str, Item]:
    """The items of a kind, of all studies."""
    store = open_store(str(folder / "evosearch.db"))
    try:
        studies = Studies(store)
        return {
            name: item for study in studies.of(search)
            for name, item in studies.items(search, study, kind).items()
        }  # fmt: skip
    finally:
        store.close()


class Counted:
    """Counts trained steps, and breaks off after so many calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, calls: int = 10**9) -> None:
        self.steps, self._left, advance = 0, calls, Training.advance

        def counting(training: Training, to_step: int) -> int:
            if not self._left:
                raise KeyboardInterrupt
            self._left -= 1
            done = advance(training, to_step)
            self.steps += done
            return done

        monkeypatch.setattr(Training, "advance", counting)


def test_without_ray_it_ranks_and_goes_on_where_it_was_broken_off(
    search: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = ["rerank", search, *SMALL, "--pool", "inline", "--transfer", "mobilenetv2"]
    shutil.copy("evosearch.db", "whole.db")
    with monkeypatch.context() as patch:
        whole = Counted(patch)
        assert run([*words, "--out", "whole.json", "--db", "sqlite:///whole.db"]) == 0
    steps = []
    for calls in (10, 23, 20, 10**9):
        with monkeypatch.context() as patch:
            counted = Counted(patch, calls)
            assert run([*words, "--out", "parts.json"]) == (0 if calls == 10**9 else 130)
            steps.append(counted.steps)
    # A training on `final` that was broken off is done again, and no step of any other.
    assert whole.steps <= sum(steps) <= whole.steps + 8
    result = json.loads(Path("parts.json").read_text())
    ones = json.loads(Path("whole.json").read_text())
    assert result["reads"] - ones["reads"] in (0, 1)
    assert result | {"reads": 0} == ones | {"reads": 0}
    with monkeypatch.context() as patch:
        again = Counted(patch)
        capsys.readouterr()
        assert run(words) == 0
        assert again.steps == 0
    said = capsys.readouterr()
    assert "Verdict of re-ranking" in said.out
    assert "24 trials have ended and 16 numbers are there already" in said.err
    assert_complete(result, tmp_path, search)


def assert_complete(result: dict[str, Any], folder: Path, search: str) -> None:
    """Fail unless every row was tuned on the same rates, read once a seed, and compared."""
    layers = list(result["layers"])
    assert [layer for layer in layers if not layer.startswith("c")] == ["bn-relu", "gn-silu"]
    assert len(layers) == 4
    asked, final = items(folder, search, "asked"), items(folder, search, "final")
    settings = sum(len(table["anchors"]) for table in result["tables"])
    assert len(final) == len(asked) == 4 * settings * 2
    assert result["judged"]["polarity-digits"] >= 4
    rates = items(folder, search, "rate")
    for table in result["tables"]:
        assert (table["seeds"], table["images"]) == (2, 697)
        for key, row in table["rows"].items():
            low, value, high = (row["mean"][name] for name in ("low", "value", "high"))
            assert low <= value <= high
            for anchor, rate in row["rates"].items():
                assert rates[f"{key}/{table['dataset']}/{anchor}"].payload == {"rate": rate}
        assert len(table["comparisons"]) == 2
    tuned = items(folder, search, "tune")
    assert len(tuned) == 4 * settings * len(result["rates"])
    assert all(item.payload["ended"] for item in tuned.values())
    for row, item in rates.items():
        last = {
            rate: one.payload["scores"].get(str(result["steps"]))
            for rate in result["rates"] for one in [tuned[f"{row}/{rate!r}"]]
        }  # fmt: skip
        known = {rate: sum(scores) for rate, scores in last.items() if scores}
        assert known[item.payload["rate"]] == max(known.values())


def test_the_report_tells_results_and_progress(
    search: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["rerank", search, "--top", "1", "--steps", "4", "--seeds", "2", "--rates", "0.2",
             "--no-transfer", "--pool", "inline"]  # fmt: skip
    with monkeypatch.context() as patch:
        Counted(patch, 4)
        assert run(words) == 130
    assert run(["report", search, "--out", "a.md"]) == 0
    assert "3 of 3 trials have ended on select, 1 of 6" in Path("a.md").read_text()
    assert run(words) == 0
    assert run(["report", search, "--out", "a.md", "--parts", "parts"]) == 0
    told = Path("a.md").read_text()
    assert "## Re-ranking: the top layers and every baseline on a longer task" in told
    assert "Verdict of re-ranking" in told
    assert len(list(Path("parts").glob("rerank-*.csv"))) == 2
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--rates", "0"), "no learning rate"),
        (("--rates", "0.1,0.1"), "twice"),
        (("--steps", "0"), "--steps"),
        (("--seeds", "1"), "--seeds"),
        (("--top", "0"), "--top"),
        (("--anchors", "vgg"), "vgg"),
        (("--anchors", "resnet:huge"), "no size"),
        (("--anchors", "resnet,resnet"), "named twice"),
        (("--anchors", "char-transformer"), "forbids"),
        (("--transfer", "resnet"), "no transfer"),
        (("--transfer", "vgg"), "neither an anchor"),
        (("--transfer", "convnext", "--no-transfer"), "a transfer, and none"),
        (("--dataset", "nothing"), "nothing"),
        (("--dataset", "tinyshakespeare"), "tinyshakespeare"),
        (("--out", "no/a.json"), "folder that exists"),
        (("--pool", "inline", "--workers", "2"), "one worker"),
        (("--pool", "inline", "--ray-address", "head:1"), "no cluster"),
        (("--data-dir", "gone"), "no such data folder"),
    ],
)
def test_nonsense_is_refused_before_anything_is_kept(
    search: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...],
    told: str,
) -> None:  # fmt: skip
    assert run(["rerank", search, *words]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert told in said
    assert items(tmp_path, search, "tune") == {}


def test_a_dry_run_says_what_it_takes(
    search: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["rerank", search, *SMALL, "--no-transfer", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "4 layers on polarity-digits/resnet micro: 12 trainings of at most 8 steps" in said
    assert "at the rates 0.1, 0.2, 0.4" in said
    assert run(["rerank", search, *SMALL, "--dry-run"]) == 0
    said = capsys.readouterr().out
    told = "4 layers on polarity-digits/resnet micro, polarity-digits/mobilenetv2 micro: 24"
    assert told in said, "one anchor that the search did not use is part of it by default"
    assert items(tmp_path, search, "tune") == {}


class OneTrial:
    """What a scheduler sees of a trial of Tune's."""

    def __init__(self, place: int) -> None:
        self.trial_id, self.config = f"t{place}", {"place": place}


def test_rates_race_within_their_row_and_remember_it_after_a_restore(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"{layer}/polarity-digits/resnet/{rate}" for layer in ("strong", "weak")
             for rate in (0.1, 0.2)]  # fmt: skip
    jobs = [
        Job(id=name, purpose="tune", subject=Subject(baseline="bn-relu"), graph=None, runs=(),
            task=Task(anchors=(Anchor(name="resnet"),)))
        for name in names
    ]  # fmt: skip
    trials = [OneTrial(place) for place in range(4)]
    scores = (0.9, 0.8, 0.1, 0.2)
    results = [{"score": score, "trained_to": 2} for score in scores]
    monkeypatch.setattr(rerank_tune._RACE, "jobs", jobs)
    monkeypatch.setattr(rerank_tune._RACE, "known", {})
    one = rerank_tune.ByRow((2, 4, 8))
    for trial in trials:
        one.on_trial_add(None, trial)
    decided = [one.on_trial_result(None, *both) for both in zip(trials, results, strict=True)]
    # The weak layer's rates are far below the strong one's, and one of them goes on all the same.
    assert decided == ["CONTINUE", "STOP", "CONTINUE", "CONTINUE"]
    known = {names[0]: Tuned(scores={2: (0.9,)}, ended=True)}
    monkeypatch.setattr(rerank_tune._RACE, "known", known)
    restored = pickle.loads(pickle.dumps(rerank_tune.ByRow((2, 4, 8))))
    for trial in trials[:2]:
        restored.on_trial_add(None, trial)
    assert restored.on_trial_result(None, trials[1], results[1]) == "STOP"


@pytest.mark.parametrize("steps", [2, 4, 6, 50, 51, 53, 100])
def test_ray_judges_rates_at_the_rungs_that_are_told(
    monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Also where a quarter of the steps is no whole number."""
    plan = make_plan(task=Task(anchors=(Anchor(name="resnet"),), steps=steps), rates=(0.1, 0.2))
    jobs = list(plan.tune_jobs())[:2]
    monkeypatch.setattr(rerank_tune._RACE, "jobs", jobs)
    for fatal in plan.rungs[:-1]:
        monkeypatch.setattr(rerank_tune._RACE, "known", {})
        race = rerank_tune.ByRow(plan.rungs)
        for place in range(2):
            race.on_trial_add(None, OneTrial(place))
        for rung in plan.rungs[:-1]:
            decided = [
                race.on_trial_result(None, OneTrial(place), {"score": score, "trained_to": rung})
                for place, score in enumerate((0.5, 0.4 if rung == fatal else 0.6))
            ]  # fmt: skip
            assert decided == ["CONTINUE", "STOP" if rung == fatal else "CONTINUE"]
            if rung == fatal:
                break
        # What is known of the first one from before judges the second one too.
        known = {jobs[0].id: Tuned(scores=dict.fromkeys(plan.rungs, (0.5,)), ended=True)}
        monkeypatch.setattr(rerank_tune._RACE, "known", known)
        again = rerank_tune.ByRow(plan.rungs)
        for place in range(2):
            again.on_trial_add(None, OneTrial(place))
        told = {"score": 0.4, "trained_to": fatal}
        assert again.on_trial_result(None, OneTrial(1), told) == "STOP"


class Broken:
    """A layer's trainings at some rates that fail, until they are mended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rate: float) -> None:
        advance = Training.advance

        def failing(training: Training, to_step: int) -> int:
            if training.run.learning_rate == rate and training.run.split == "select":
                raise RuntimeError("out of luck")
            return advance(training, to_step)

        monkeypatch.setattr(Training, "advance", failing)


def test_a_rate_that_was_read_on_final_stays_and_what_failed_is_not_tried_again(
    search: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["rerank", search, *SMALL, "--pool", "inline", "--no-transfer", "--out", "a.json"]
    with monkeypatch.context() as patch:
        Broken(patch, 0.4)
        Counted(patch, 24)  # some rows are read, and others are not
        assert run(words) == 130
    rates, read = items(tmp_path, search, "rate"), items(tmp_path, search, "asked")
    rows = {name.rpartition("/")[0] for name in read}
    assert 0 < len(rows) < len(rates) == 4
    assert len(items(tmp_path, search, "failed")) == 4
    with monkeypatch.context() as patch:
        Counted(patch)
        assert run(words) == 0
    after = items(tmp_path, search, "rate")
    assert {row: after[row].payload for row in rows} == {row: rates[row].payload for row in rows}
    tuned = items(tmp_path, search, "tune")
    tried = {name.rpartition("/")[0] for name in tuned if name.endswith("/0.4")}
    assert tried == rates.keys() - rows
    result = json.loads(Path("a.json").read_text())
    # What has a number by now did not fail, and every row is read at the rate that is told.
    assert result["failures"].keys() == {f"{row}/0.4" for row in rows}
    for name, item in items(tmp_path, search, "final").items():
        rate = after[name.rpartition("/")[0]].payload["rate"]
        assert item.payload["learning_rate"] == rate
    with monkeypatch.context() as patch:
        again = Counted(patch)
        assert run(words) == 0
        assert again.steps == 0
    assert json.loads(Path("a.json").read_text()) == result


def test_a_training_whose_worker_is_lost_is_tried_again_as_in_a_search(tmp_path: Path) -> None:
    plan, store = make_plan(), SqlStore(f"{tmp_path}/store.db")
    store.create(plan.search, "title", CREATED)
    row = row_key(plan.layers[0], plan.settings[0])
    taken, killing, large, broken, *_ = jobs = [*plan.final_jobs({row: 0.2})]
    causes: dict[str, list[Cause]] = {
        taken.id: ["preempted", "died", "preempted", "preempted"],
        killing.id: ["hung", "preempted", "died"],
        large.id: ["out_of_memory"],
        broken.id: ["error"],
    }
    begun = Counter[str]()

    def script(job: Job) -> tuple[float, list[Message]]:
        begun[job.id] += 1
        if causes.get(job.id):
            failure = Failure(cause=causes[job.id].pop(0))
            return 0.1, [JobDone(job_id=job.id, failure=failure)]
        return answer(job)

    rerank = Rerank(Studies(store), plan)
    rerank.read_final(jobs, SimulatedPool(script, 2), unseen)
    assert [begun[job.id] for job in jobs] == [5, 3, 2, 1, 1, 1]
    assert rerank.failures() == {killing.id: "died", broken.id: "error"}
    assert len(rerank.kept("final")) == 4
    assert {name: one["reads"] for name, one in rerank.kept("asked").items()} == begun
    store.close()


ONE = ("--top", "1", "--steps", "4", "--seeds", "2", "--rates", "0.2", "--pool", "inline")


def test_its_numbers_are_trained_again_and_its_cost_is_told(
    search: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVOSEARCH_DB", "sqlite:///evosearch.db")
    words = ["rerank", search, *ONE, "--transfer", "mobilenetv2", "--out", "a.json"]
    assert run(words) == 0
    result = json.loads(Path("a.json").read_text())
    assert result["versions"] == versions()
    assert run(["report", search, "--out", "a.md", "--parts", "parts"]) == 0
    numbers = list(csv.reader(Path("parts/numbers.csv").read_text().splitlines()))[1:]
    ours = [row for row in numbers if row[1] == f"re-ranking {result['plan']}"]
    assert len(ours) == 3 * 2 * 2
    assert len({row[-1] for row in numbers}) == len(numbers)
    capsys.readouterr()
    for *_, value, command in (ours[0], ours[-1]):
        assert run(command.split()[1:]) == 0
        said = capsys.readouterr().out
        assert "the same score" in said
        assert "the first of" not in said
        assert f"re-ranking {result['plan']}" in said
        assert f"{float(said.split('accuracy')[1].split()[1]):.4f}" == value
    rows = csv.reader(Path("parts/cost.csv").read_text().splitlines())
    cost = {row[0]: row for row in rows}
    assert cost["re-ranking, final"][1:3] == ["12", "48"]
    seeds = result["tune_seeds"]
    assert cost["re-ranking, tuning"][1:3] == [str(6 * seeds), str(6 * seeds * 4)]
    assert run(["rerun", f"{search}-bn-relu", "--rerank", "nothing"]) != 0
    assert "re-ranking nothing" in capsys.readouterr().err
    assert run(["rerun", f"{search}-bn-relu", "--rerank", result["plan"], "--list"]) == 0
    assert capsys.readouterr().out.count("\n") == 4
    assert run([*command.split()[1:], "--out", "again.py"]) == 0
    assert "'rerank'" in Path("again.py").read_text()


def test_with_other_versions_it_begins_anew_and_says_so(
    search: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = ["rerank", search, *ONE, "--no-transfer", "--out", "a.json"]
    with monkeypatch.context() as patch:
        patch.setattr("api.rerank.versions", lambda: {**versions(), "torch": "1.0"})
        assert run(words) == 0
    old = json.loads(Path("a.json").read_text())
    capsys.readouterr()
    assert run(words) == 0
    new, said = json.loads(Path("a.json").read_text()), " ".join(capsys.readouterr().err.split())
    assert new["plan"] != old["plan"]
    assert f"begun with other versions, as {old['plan']} (torch 1.0)" in said
    assert "0 trials have ended and 0 numbers" in said
    store = open_store(str(tmp_path / "evosearch.db"))
    try:
        kept = Studies(store).item(search, f"rerank-{old['plan']}", "result")
    finally:
        store.close()
    assert kept is not None
    assert kept.payload == old  # nothing of it is lost


def test_tune_joins_the_cluster_that_is_named(
    search: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked: list[tuple[Any, ...]] = []

    def no_ray(workers: int | None, address: str | None, empty: str, nice: int) -> None:
        asked.append((workers, address, nice, os.environ.get("EVOSEARCH_DATA_DIR")))
        raise RuntimeError("not here")

    monkeypatch.setattr(rerank_tune, "start_ray", no_ray)
    monkeypatch.setenv("EVOSEARCH_DATA_DIR", "before")
    words = ["rerank", search, *SMALL, "--no-transfer", "--pool", "ray"]
    assert run([*words, "--ray-address", "head:1", "--data-dir", str(tmp_path)]) != 0
    monkeypatch.setenv("EVOSEARCH_RAY_ADDRESS", "head:2")
    monkeypatch.setenv("EVOSEARCH_WORKER_NICE", "3")
    assert run([*words, "--workers", "2"]) != 0
    here = str(tmp_path.resolve())
    assert asked == [(None, "head:1", 10, here), (2, "head:2", 3, here)]
    assert "not here" in capsys.readouterr().err


def ended(folder: Path, search: str) -> dict[str, Item]:
    found = items(folder, search, "tune")
    return {name: item for name, item in found.items() if item.payload["ended"]}


@pytest.mark.soak
def test_ray_tune_is_killed_and_goes_on(search: str, tmp_path: Path) -> None:
    """What had ended before the kill is not trained again: the store holds what it held."""
    words = ["rerank", search, "--top", "2", "--steps", "60", "--seeds", "2", "--rates",
             "0.1,0.2,0.4", "--no-transfer", "--pool", "ray", "--workers", "2", "--out",
             "result.json"]  # fmt: skip
    process = subprocess.Popen(
        [*COMMAND, *words], cwd=tmp_path, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    try:
        while len(ended(tmp_path, search)) < 3:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    before = ended(tmp_path, search)
    assert 3 <= len(before) < 12
    done = evosearch(tmp_path, *words, seconds=240)
    assert done.returncode == 0, done.stderr
    after = ended(tmp_path, search)
    assert {name: after[name] for name in before} == before
    assert len(after) == 12
    assert f"{len(before)} trials have ended" in done.stderr
    # Tune went on with its own experiment: each session leaves its account of one and the same.
    assert len(list(tmp_path.glob("rerank-*-kept/*/tune-*/experiment_state-*.json"))) == 2
    result = json.loads((tmp_path / "result.json").read_text())
    assert_complete(result, tmp_path, search)
    workers = {item.payload["worker"] for name, item in after.items() if name not in before}
    assert workers
    assert not workers & {item.payload["worker"] for item in before.values()}
    told = evosearch(tmp_path, *words, seconds=120)
    assert "12 trials have ended and 8 numbers are there already" in told.stderr
    assert json.loads((tmp_path / "result.json").read_text()) == result


def test_ray_tune_gives_the_numbers_of_the_inline_pool(search: str, tmp_path: Path) -> None:
    shutil.copy("evosearch.db", "inline.db")
    words = ["rerank", search, "--top", "1", "--steps", "8", "--seeds", "2", "--rates", "0.2"]
    where = ["--pool", "inline", "--db", "sqlite:///inline.db", "--out", "inline.json"]
    assert run([*words, *where]) == 0
    done = evosearch(tmp_path, *words, "--pool", "ray", "--workers", "1", "--out", "ray.json",
                     seconds=240)  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours, theirs = (json.loads(Path(f"{name}.json").read_text()) for name in ("ray", "inline"))
    assert ours == theirs
