"""A tiny table: built, killed, gone on with, loaded, searched on, compared with the inline pool."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api.cli import run
from db.memory import MemoryStore
from evosearch import events as ev
from evosearch.config import Bounds, Hurdles, Quality, Signal, Stability
from evosearch.controller import Controller
from evosearch.errors import ConfigError, NotFound, WorkerError
from evosearch.records import Job, JobDone, Run, Subject
from evosearch.state import State
from evosearch.streams import evaluation_seed
from evosearch.subspace import Enumeration, Function
from primitives.digest import digest
from primitives.fingerprint import fingerprint
from primitives.graph import Graph, Node
from tests.support.small_table import (
    EVOLUTION,
    SEARCH,
    as_checked,
    configured,
    full,
    inline,
    plain,
)
from workers.table import build as building
from workers.table.build import Plan, build, build_folder, make_plan, sampled
from workers.table.figures import figures, first_job, proposals_to_meet, verdicts
from workers.table.form import Table, load_table, save_table
from workers.table.journal import Journal
from workers.table.pool import TablePool, plan_seeds

BOUNDS = {"resnet": {"grad_ratio": Bounds(low=0.5, high=2.0)}}


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Ten of the functions: half of them normalise, for else none would train."""
    whole = make_plan(configured(), seeds=2)
    graphs = [one.graph for one in whole.found.functions]
    good = [place for place, graph in enumerate(graphs) if _normalises(graph)][:5]
    others = [place for place in whole.order if place not in good][:5]
    assert len(good) == 5
    return replace(whole, order=(*good, *others))


def _normalises(graph: Graph) -> bool:
    first, last = graph.nodes[0], graph.nodes[-1]
    return first.over is not None and last.op == "div" and last.inputs == (0, 4)


@pytest.fixture(scope="module")
def table(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Table:
    out = tmp_path_factory.mktemp("table") / "tiny.npz"
    built, loaded = build(plan, out), load_table(out)
    assert loaded.header == built.header
    assert _comparable(loaded) == _comparable(built)
    assert [one.graph for one in loaded.functions] == [one.graph for one in built.functions]
    return loaded


def _comparable(table: Table) -> list[str]:
    """Rows as text, for NaN is not equal to itself; without costs, which are rounded."""
    return [
        repr([(one.signal, one.scores, one.curve, one.diverged_at, one.trained)
              for seed in row.runs for one in seed]
             + [(one.norm, one.steps) if one else None for one in row.ascents])
        for row in table.rows
    ]  # fmt: skip


def test_the_tables_answers_are_what_the_inline_pool_computes(table: Table) -> None:
    pool = TablePool(table)
    plain_checks = table.header.config.checks
    strict = plain_checks.model_copy(
        update={"quality": Quality(steps=6, accuracy=0.3), "stability": Stability(enabled=False)}
    )
    narrow = plain_checks.model_copy(update={"signal": Signal(bounds=BOUNDS)})
    high = plain_checks.model_copy(update={"hurdles": Hurdles(steps=(6, 12))})
    hurdles = {"resnet": {12: 0.2}, "mobilenetv2": {6: 0.15}}
    codes = set()
    for function in range(len(table.functions)):
        job = first_job(table, function, function % 2)
        for asked in (
            job,
            as_checked(job, strict),
            as_checked(job, narrow, audit=bool(function % 3)),
            as_checked(job, high, hurdles=hurdles),
        ):
            seconds, answered = pool.answer(asked)
            assert plain(list(answered)) == plain(inline(asked))
            done = answered[-1]
            assert isinstance(done, JobDone)
            assert seconds == pytest.approx(done.seconds)
            codes.add((done.rejection.code if done.rejection else None, done.audit_passed))
    assert {code for code, _ in codes} >= {None, "signal", "quality", "hurdle"}
    assert {audit for _, audit in codes} >= {None, False}


def test_baselines_and_fresh_seeds_are_answered_too(table: Table) -> None:
    pool = TablePool(table)
    config = table.header.config
    runs = tuple(
        Run(anchor=a, seed=table.header.seeds[1], learning_rate=config.task.learning_rate)
        for a in config.anchor_names
    )
    baseline = Job(id="b", purpose="baseline", subject=Subject(baseline="bn-relu"), graph=None,
                   runs=runs, task=config.task)  # fmt: skip
    fresh = Job(id="r", purpose="remeasure", subject=Subject(birth=1), runs=runs, task=config.task,
                graph=table.functions[table.viable()[0]].graph)  # fmt: skip
    for job in (baseline, fresh):
        assert plain(list(pool.answer(job)[1])) == plain(inline(job))
    with pytest.raises(WorkerError, match="no such baseline"):
        pool.answer(baseline.model_copy(update={"subject": Subject(baseline="gn-relu")}))


def test_a_divergence_is_seen_where_a_worker_sees_it(plan: Plan) -> None:
    x2, x4 = Node("square", (0,)), Node("square", (4,))
    graphs = [
        Graph((Node("max", (0, 1)),)),
        Graph((x2,)),
        Graph((x2, x4, Node("mul", (0, 5)))),
        Graph((Node("exp", (0,)), Node("exp", (4,)))),
    ]
    functions = [Function(one, fingerprint(one), [digest(one)], 0.1) for one in graphs]
    found = Enumeration(raw=1, graphs=4, functions=functions)
    rates = [
        plan.config.task.model_copy(update={"learning_rate": rate}) for rate in (0.4, 3.0, 30.0)
    ]
    met = set()
    for task in rates:
        config = plan.config.model_copy(update={"task": task})
        wild, _ = sampled(Plan(config, found, plan.seeds, (0, 1, 2, 3), plan.baselines))
        for row in range(4):
            job = first_job(wild, row, 0)
            assert job.checks is not None
            bounded = job.checks.model_copy(update={"signal": Signal(bounds=BOUNDS)})
            watched = job.checks.model_copy(update={"hurdles": Hurdles(steps=(12, 16))})
            audited = as_checked(job, bounded, audit=True)
            late = as_checked(job, watched)
            for asked in (job, audited, late):
                answered = plain(list(TablePool(wild).answer(asked)[1]))
                assert answered == plain(inline(asked))
                met.add(str(answered[-1]["rejection"]))
    assert any("not_finite" in one and "training loss" in one for one in met)
    assert any("at initialisation" in one for one in met)


def test_a_killed_build_goes_on_where_it_was(
    plan: Plan, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "again.npz"

    def kill(what: str, done: int, of: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(plan, out, kill)
    assert not out.exists()
    with (build_folder(out) / "rows.jsonl").open("a") as file:
        file.write('{"row": 9, "runs": [[{"sig')  # a line whose writer was killed
    measured: list[Any] = []
    measure = building.measure_row
    monkeypatch.setattr(
        building, "measure_row", lambda *args: (measured.append(args[2]), measure(*args))[1]
    )
    again = build(plan, out)
    assert len(measured) == plan.rows - 4
    assert _comparable(again) == _comparable(table)
    assert _comparable(load_table(out)) == _comparable(table)
    build(plan, out)  # all rows are there: nothing is measured again
    assert len(measured) == plan.rows - 4
    other = replace(plan, seeds=plan.seeds[:1])
    with pytest.raises(ConfigError, match="another build"):
        build(other, out)


def test_a_row_is_claimed_by_one_process_and_freed_by_its_death(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom workers.table.journal import Journal\n"
        f"with Journal(Path({str(tmp_path)!r}), {{}}) as j, j.claim(0) as mine:\n"
        "    print(mine, flush=True)\n    sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with Journal(tmp_path, {}) as journal:
        assert child.stdout.readline() == "True\n"
        with journal.claim(0) as first, journal.claim(1) as second:
            assert (first, second) == (False, True)
        child.kill()
        child.wait()
        with journal.claim(0) as mine:
            assert mine
    child.stdin.close()
    child.stdout.close()


def searched(table: Table, *more: str, seed: int = 3, **settings: Any) -> tuple[State, TablePool]:
    config = configured("budget.evaluations=200", *more).model_copy(update={"seed": seed})
    store = MemoryStore()
    store.create("onatable", "on a table", ev.Created(config=config))
    pool = TablePool(table, search_seed=seed, held_out=1, **settings)
    controller = Controller(store, pool, store.acquire("onatable", "test", 1e6))
    return controller.run(), pool


@pytest.fixture(scope="module")
def full_table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return full(tmp_path_factory.mktemp("full") / "full.npz")


def test_a_search_runs_on_the_table_until_the_space_is_exhausted(full_table: Table) -> None:
    inside = (
        'space.allow=["max", "div", "rms_batch"]', "evolution.random_share=1.0",
        "evolution.max_proposals=20000",
    )  # fmt: skip
    state, pool = searched(full_table, *inside, workers=3)
    assert full_table.complete
    assert pool.outside == 0
    assert pool.asked == len(full_table.functions)
    assert state.notes == ["the search space is exhausted"]
    assert set(state.rejected) <= {"quality", "not_finite", "stability", "signal"}
    assert state.evaluated + state.rejected.total() == len(full_table.functions)
    assert pool.now > 0.0
    place = plan_seeds(3, 2, 1).answers[0]
    for member in state.members.values():
        row = full_table.find(member.graph)
        assert row is not None
        scores = [member.means()[name] for name in state.config.anchor_names]
        assert scores == full_table.scores(row)[place].tolist()
    again, same = searched(full_table, *inside, workers=3)
    assert (again.members.keys(), same.now) == (state.members.keys(), pool.now)
    _, alone = searched(full_table, *inside, workers=1)
    assert alone.now > pool.now  # three simulated workers need less simulated time


def test_what_the_table_does_not_hold_is_rejected_and_counted(table: Table) -> None:
    state, pool = searched(
        table, "space.nodes=3", "budget.evaluations=2", "evolution.random_share=1"
    )
    assert pool.outside > 0
    assert state.rejected["outside_table"] == pool.outside
    assert pool.miss_rate == pool.outside / pool.asked
    assert pool.asked > pool.outside
    assert not table.complete


def test_seeds_are_drawn_from_the_searchs_and_kept_apart() -> None:
    plans = [plan_seeds(seed, 4, 2) for seed in range(50)]
    assert all(sorted((*one.answers, *one.held_out)) == [0, 1, 2, 3] for one in plans)
    assert len(set(plans)) > 6
    with pytest.raises(ConfigError, match="held out"):
        plan_seeds(0, 2, 2)


def test_no_stored_seed_is_given_out_twice(full_table: Table) -> None:
    often = ("evolution.remeasure_every=1", "evolution.remeasure_share=1.0",
             'space.allow=["max", "div", "rms_batch"]', "evolution.random_share=1.0",
             "evolution.challenge_top=5", "evolution.max_proposals=20000")  # fmt: skip
    found = verdicts(full_table)
    good = next(place for place in (0, 1) if any(row[place][0] == "passes" for row in found))
    search_seed = next(one for one in range(9) if plan_seeds(one, 2, 1).answers == (good,))
    state, pool = searched(full_table, *often, seed=search_seed)
    # One stored seed is held out, and the other one was the first.
    assert pool.ran_out == pool.fresh > 0
    assert state.failures["error"] == pool.ran_out
    assert all(member.seeds == 1 for member in state.members.values() if member.evaluated)
    assert state.train_steps["remeasure"] == 0
    whole = TablePool(full_table, search_seed=3)
    drawn = [evaluation_seed(3, "search", 0), evaluation_seed(3, "remeasure", 1)]
    assert sorted(whole._place(seed) for seed in drawn) == [0, 1]
    job = first_job(full_table, full_table.viable()[0], 0)
    for seed in (job.runs[0].seed, evaluation_seed(3, "remeasure", 2), 12345):
        runs = tuple(run.model_copy(update={"seed": seed}) for run in job.runs)
        seconds, told = whole.answer(job.model_copy(update={"runs": runs}))
        assert (seconds, [one.kind for one in told]) == (0.0, ["job_done"])


def test_jobs_of_another_task_are_refused(table: Table) -> None:
    pool, job = TablePool(table), first_job(table, 0, 0)
    run = job.runs[0]
    cases = {
        "another task": {"task": job.task.model_copy(update={"steps": 21})},
        "one learning rate": {"runs": (run.model_copy(update={"learning_rate": 0.7}),)},
        "scored on select": {"runs": (run.model_copy(update={"split": "final"}),)},
        "no scores at that step": {
            "checks": job.checks.model_copy(update={"hurdles": Hurdles(steps=(7,))})
        },
        "another check": {"checks": job.checks.model_copy(update={"stability": Stability()})},
    }
    for message, change in cases.items():
        with pytest.raises(ConfigError, match=message):
            pool.answer(job.model_copy(update=change))
    references = tuple(one.model_copy(update={"reference": 0.9}) for one in job.task.anchors)
    pool.answer(
        job.model_copy(update={"task": job.task.model_copy(update={"anchors": references})})
    )
    poor = next(row for row in range(len(table.functions)) if row not in table.viable())
    off = job.checks.model_copy(update={"quality": Quality(enabled=False)})
    with pytest.raises(WorkerError, match="at least as high"):
        pool.answer(as_checked(first_job(table, poor, 0), off))


def test_configs_that_no_table_can_answer_are_refused() -> None:
    with pytest.raises(ConfigError, match="signal and quality"):
        make_plan(configured("checks.quality.enabled=false"), seeds=1)


def test_the_figures_are_those_of_the_rows(table: Table) -> None:
    found = figures(table)
    counted = [code for row in verdicts(table) for code, _, _ in row]
    assert sum(found["verdicts"].values()) == pytest.approx(len(table.functions))
    assert found["verdicts"].get("quality", 0) * 2 == counted.count("quality")
    assert found["viable"] == len(table.viable()) > 0
    rival = table.scores(table.baseline("bn-relu")).mean()
    better = sum(bool(table.scores(row).mean() > rival) for row in table.viable())
    assert found["beats"]["bn-relu"]["mean"] == better
    assert found["space"]["in_the_table"] == 10
    steps = sum(steps for row in verdicts(table) for _, steps, _ in row) / 2
    assert found["random_search_to_the_end"]["train_steps"] == round(steps)
    json.dumps(found, allow_nan=False)


def test_proposals_until_functions_are_met() -> None:
    assert proposals_to_meet(np.full(8, 0.5), 0.5) == 1
    assert proposals_to_meet(np.full(8, 0.5), 0.9) == 4  # 1 - 2**-4 is the first above .9
    mixed = np.array([0.5, 0.01])
    assert proposals_to_meet(mixed, 1.0) == 69  # the first n with .99**n below one half
    rng = np.random.default_rng(0)
    first = rng.geometric(mixed, size=(4000, 2)).max(axis=1)
    assert abs(float(np.median(first)) - 69) < 6


def test_broken_and_newer_files_are_refused(table: Table, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such table"):
        load_table(tmp_path / "none.npz")
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ConfigError, match="not a table"):
        load_table(broken)
    newer = tmp_path / "newer.npz"
    np.savez(newer, header=np.frombuffer(b'{"version": 99}', np.uint8))
    with pytest.raises(ConfigError, match="another version"):
        load_table(newer)


def test_a_table_is_made_anew_under_the_checks_of_now(
    full_table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = building.again(full_table)
    assert [one.fingerprint for one in same.functions] == [
        one.fingerprint for one in full_table.functions
    ]
    assert same.rows == full_table.rows
    with pytest.raises(ConfigError, match="made anew"):
        building.again(Table(full_table.header, full_table.functions[1:], full_table.rows[1:]))

    def divides(graph: Graph) -> str | None:
        return "not_finite" if any(node.op == "div" for node in graph.nodes) else None

    monkeypatch.setattr("evosearch.screen.probe_fault", divides)
    old, new = tmp_path / "old.npz", tmp_path / "new.npz"
    save_table(old, full_table)
    assert run(["bench", "table", "build", "--again", str(old), "--out", str(new)]) == 0
    fewer = load_table(new)
    assert fewer.complete
    assert 0 < len(fewer.functions) < len(full_table.functions)
    for index, function in enumerate(fewer.functions):
        place = full_table.find(function.graph)
        assert place is not None
        assert np.array_equal(fewer.scores(index), full_table.scores(place), equal_nan=True)


def test_the_commands_build_and_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["bench", "table", "build", "--primitives", "max,div,rms_batch", "--live", "2"]
    command += ["--seeds", "2", "--out", "shown.npz"]
    for setting in (*SEARCH[2:], *EVOLUTION):
        command += ["--set", setting]
    assert run([*command, "--dry-run", "--limit", "2"]) == 0
    said = capsys.readouterr().out
    assert "live graphs" in said
    assert "known layers inside: power-norm" in said
    assert "a search comes to" in said
    assert "hours of one core" in said
    assert not list(tmp_path.iterdir())
    assert run([*command, "--limit", "4"]) == 0
    assert "4 functions" in capsys.readouterr().out
    assert run(["bench", "table", "show", "shown.npz"]) == 0
    assert "better than bn-relu" in capsys.readouterr().out
    assert run(["bench", "table", "show", "shown.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["space"]["in_the_table"] == 4
    assert run([*command, "--dry-run", "--primitives", "neg", "--live", "1"]) == 0
    assert "warning: no known layer is inside" in capsys.readouterr().err
    assert run([*command, "--primitives", "max,maxx"]) != 0
    assert "no such primitive" in capsys.readouterr().err
