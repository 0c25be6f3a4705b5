"""The search core with simulated workers: exact resume, repeatability, failures, confirmation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from api.progress import confirmation_steps_left
from evosearch import events as ev
from evosearch.confirm import leader
from evosearch.errors import StateConflict
from evosearch.jobs import Pending
from evosearch.pareto import non_dominated
from evosearch.ports import Enqueue, Extend, Pause, Resume, Stop
from evosearch.presets import load_preset
from evosearch.records import (
    CheckRun,
    Evaluation,
    EvaluationDone,
    Failure,
    Job,
    JobDone,
    Message,
    Rejection,
)
from evosearch.replay import replay
from evosearch.report import final_rights, final_tests
from evosearch.state import State, recover
from evosearch.stats import p_against_best
from primitives.formula import parse
from primitives.graph import Graph, Node
from tests.simulated_worker import answer
from tests.support.small_search import Script, controller, finished, start
from tests.support.whole_log import assert_a_kill_leaves_no_mark, log


def test_a_search_runs_through_every_phase_and_reports() -> None:
    store = start("confirmation.final_seeds=99")
    state = finished(store)
    assert state.evaluated == 25
    phases = [e.event.phase for e in store.events("search01") if e.event.kind == "phase_entered"]
    assert phases == ["confirm", "tune", "final", "done"]
    report = state.report
    assert report is not None
    a_seed = 3 * 3 * state.config.task.steps  # leader and two rivals on three anchors
    assert report["final"]["seeds"] == state.search_steps // a_seed < 99
    assert "too narrow" in report["notes"][0]
    assert {row["anchor"] for row in report["final"]["anchors"]} == set(state.config.anchor_names)
    assert report["leader"]["confirmed_seeds"] == state.config.confirmation.seeds


def test_what_final_shows_is_tested_on_each_anchor_against_the_better_rival() -> None:
    state = finished(start("task.select_rows=100"))
    rights = final_rights(state)
    assert rights is not None
    assert state.report is not None
    tests, each = final_tests(state, rights), []
    for place, row in enumerate(state.report["final"]["anchors"]):
        ours, *rivals = (
            rights[key][[place]] for key in (f"c{state.chosen[0]}", "bn-relu", "bn-silu")
        )
        assert row[row["better_rival"]] == max(row["bn-relu"], row["bn-silu"])
        each.append(p_against_best(ours, rivals))
    assert all(0.0 < p <= 1.0 for p in each)
    # The least p counts three times, the next one twice: that many could be true by chance.
    first, second, third = sorted(each)
    expected = [min(1.0, 3 * first), min(1.0, 2 * second), third]
    assert sorted(tests.anchors) == pytest.approx(np.maximum.accumulate(expected))
    whole = [rights[key] for key in ("bn-relu", "bn-silu")]
    assert tests.mean == p_against_best(rights[f"c{state.chosen[0]}"], whole)


def test_the_best_candidates_are_tuned_and_the_best_at_its_own_rate_leads() -> None:
    tuned: list[int] = []

    def script(job: Job) -> tuple[float, Sequence[Message]]:
        """As always, but whoever is tuned third is far ahead at one rate."""
        seconds, messages = answer(job)
        birth = job.subject.birth
        if job.purpose != "tune" or birth is None:
            return seconds, messages
        if birth not in tuned:
            tuned.append(birth)
        if birth != tuned[-1] or len(tuned) < 3 or job.runs[0].learning_rate != 0.1:
            return seconds, messages
        found = [one.model_copy(update={"evaluation": one.evaluation.model_copy(
            update={"score": 0.99})}) if isinstance(one, EvaluationDone) else one
            for one in messages]  # fmt: skip
        return seconds, found

    store = start("confirmation.tune_top=3")
    state = finished(store, script)
    assert len(tuned) == 3
    assert state.chosen == (tuned[-1],)
    assert leader(state) == tuned[-1] != tuned[0]
    report = state.report
    assert report is not None
    assert report["leader"]["birth"] == tuned[-1]
    read = {e.event.subject.key for e in store.events("search01")
            if e.event.kind == "job_queued" and e.event.purpose == "final"}  # fmt: skip
    assert read == {f"c{tuned[-1]}", "bn-relu", "bn-silu"}
    assert_a_kill_leaves_no_mark(
        lambda: start("budget.evaluations=6", "confirmation.tune_top=2", "confirmation.top=2",
                      "confirmation.tune_seeds=1"), controller, 1, 23,
    )  # fmt: skip


def test_every_baseline_is_a_control_with_the_candidates_fresh_seeds() -> None:
    store = start("confirmation.seeds=3", "confirmation.baseline_seeds=2")
    state = finished(store)
    wanted = {"bn-relu": 3, "bn-silu": 3, "gn-silu": 2, "evonorm-b0": 2, "evonorm-s0": 2}
    assert state.config.control_seeds == wanted
    candidates = [run.seed for why, run in state.results[f"c{state.chosen[0]}"] if why == "confirm"]
    for name, count in wanted.items():
        mine = [run for why, run in state.results[name] if why == "confirm"]
        assert {run.learning_rate for run in mine} == {state.config.task.learning_rate}
        for anchor in state.config.anchor_names:
            seeds = [run.seed for run in mine if run.anchor == anchor]
            assert len(seeds) == count
            assert set(seeds) <= set(candidates)
    assert load_preset("quickstart", ["confirmation.baseline_seeds=99"]).control_seeds == (
        dict.fromkeys(wanted, 4)
    )


def test_what_the_controls_score_changes_neither_leader_nor_verdict() -> None:
    def worth(score: float) -> Script:
        def script(job: Job) -> tuple[float, Sequence[Message]]:
            seconds, messages = answer(job)
            if job.purpose != "confirm" or job.subject.baseline is None:
                return seconds, messages
            return seconds, [
                one.model_copy(update={"evaluation": one.evaluation.model_copy(
                    update={"score": score})}) if isinstance(one, EvaluationDone) else one
                for one in messages
            ]  # fmt: skip

        return script

    # The search's rate is one of those that are tuned: the rivals' choice could depend on it.
    rate = ("task.learning_rate=0.2", "confirmation.learning_rates=[0.1, 0.2]")
    low, high = (finished(start(*rate), worth(score)) for score in (0.0, 1.0))
    assert low.results["bn-relu"] != high.results["bn-relu"]
    assert low.chosen == high.chosen
    assert low.report is not None
    assert low.report == high.report


def test_a_control_that_fails_ends_nothing() -> None:
    def script(job: Job) -> tuple[float, Sequence[Message]]:
        if job.purpose == "confirm" and job.subject.baseline == "gn-silu":
            return 1.0, [JobDone(job_id=job.id, failure=Failure(cause="error", detail="boom"))]
        return answer(job)

    state = finished(start(), script)
    assert state.report is not None
    assert "final" in state.report


def test_the_steps_that_are_left_count_the_controls() -> None:
    store = start("confirmation.final_seeds=3")
    run = controller(store)
    left: dict[str, float] = {}
    while not run.over:
        run.step(0.0)
        phase = run.state.phase
        if phase not in left and phase != "search":
            left[phase] = confirmation_steps_left(run.state, 0.0)
            left[f"{phase}, done"] = sum(run.state.train_steps.values())
    took = sum(run.state.train_steps.values())
    for phase in ("confirm", "tune", "final"):
        assert left[phase] == took - left[f"{phase}, done"] > 0
    begun = State(ev.Created(config=run.state.config))
    begun.train_steps["search"] = 10**6
    a_seed = 3 * run.state.config.task.steps
    assert run.state.config.confirm_runs == 5 * 4 + 2 * 4 + 3 * 2
    assert confirmation_steps_left(begun, 0.0) == a_seed * (
        run.state.config.confirm_runs + 4 * 3 * 4 + 3 * 3
    )
    off = State(ev.Created(config=load_preset("quickstart", ["confirmation.enabled=false"])))
    assert confirmation_steps_left(off, 0.0) == 0


def test_the_same_seed_gives_the_same_log_and_another_seed_another() -> None:
    logs = []
    for seed in (0, 0, 1):
        store = start(seed=seed)
        finished(store)
        logs.append(log(store))
    assert logs[0] == logs[1]
    assert logs[0] != logs[2]


@pytest.mark.parametrize("hurdles", ["[]", "[40]"])
def test_a_search_killed_after_any_event_ends_with_the_same_log(hurdles: str) -> None:
    small = ("budget.evaluations=6", "confirmation.top=2", "confirmation.tune_seeds=1",
             f"checks.hurdles.steps={hurdles}", "checks.hurdles.after=2")  # fmt: skip
    assert_a_kill_leaves_no_mark(lambda: start(*small), controller, 1, 11)


def test_recover_equals_the_live_state_and_refuses_gaps() -> None:
    store = start()
    live = finished(store)
    again = recover(store.events("search01"))
    assert again.seq == live.seq
    assert again.digests == live.digests
    assert again.front.members == live.front.members
    assert again.funnel == live.funnel
    assert list(again.population) == list(live.population)
    entries = list(store.events("search01"))
    with pytest.raises(StateConflict, match="gap"):
        recover(entries[:5] + entries[6:])
    with pytest.raises(StateConflict, match="begin"):
        recover(entries[1:])


def test_the_recorded_outcomes_of_many_workers_replay_to_the_same_proposals() -> None:
    store = start()
    state = finished(store, workers=5)
    assert state.evaluated >= 25
    replayed = recover(iter([next(store.events("search01"))]))
    fresh = controller(store)
    pending: list[ev.Event] = []
    for entry in list(store.events("search01"))[1:]:
        if entry.event.kind in ("candidate_queued", "candidate_duplicate"):
            if not pending:
                pending = list(fresh.proposer.propose(replayed))
            proposed = pending.pop(0)
            same = ev.without_times(json.loads(ev.dump_event(proposed)))
            assert same == ev.without_times(json.loads(ev.dump_event(entry.event)))
        replayed.apply(entry.event)


def test_the_front_in_the_log_equals_the_front_from_scratch() -> None:
    state = finished(start())
    births = list(state.front.points)
    mask = non_dominated([state.front.points[b] for b in births])
    assert state.front.members == {b for b, keep in zip(births, mask, strict=True) if keep}
    assert state.remeasured > 0, "nothing was measured anew, so the test shows too little"


def test_the_leading_members_are_brought_to_several_seeds_and_no_others() -> None:
    asked = ("evolution.challenge_top=3", "evolution.challenge_seeds=3",
             "evolution.remeasure_every=0", "evolution.remeasure_share=0.5")  # fmt: skip
    store = start(*asked)
    finished(store)
    entries = iter(store.events("search01"))
    state = recover(iter([next(entries)]))
    challenged = 0
    for entry in entries:
        event = entry.event
        if event.kind == "job_queued" and event.purpose == "remeasure":
            means = {b: state.objectives(state.members[b].means()).mean() for b in state.population}
            leading = sorted(means, key=lambda birth: (means[birth], birth))[:3]
            assert event.subject.birth in leading
            assert state.members[event.subject.birth].measured < 3
            assert state.remeasured < 0.5 * state.evaluated
            challenged += 1
        state.apply(event)
    assert challenged > 3
    assert replay(store.events("search01")).difference is None
    assert finished(start(*asked, "evolution.challenge_top=0")).remeasured == 0


def test_who_enters_the_front_by_one_anchor_alone_gets_fresh_seeds_too() -> None:
    store = start("evolution.challenge_top=1", "evolution.challenge_front=true",
                  "evolution.remeasure_every=0", "evolution.remeasure_share=0.5",
                  "evolution.warm_up=4")  # fmt: skip
    state = finished(store)
    folded, outside = recover(iter([next(iter(store.events("search01")))])), 0
    for entry in [*store.events("search01")][1:]:
        event = entry.event
        if event.kind == "job_queued" and event.purpose == "remeasure":
            birth = event.subject.birth
            first = min(folded.population, key=lambda b: (-folded.mean_score(b), b))
            assert birth == first or birth in folded.front.members
            fewest = min(folded.members[b].measured for b in folded.front.members)
            assert birth == first or folded.members[birth].measured == fewest
            outside += birth != first
        folded.apply(event)
    assert outside >= 3
    assert state.remeasured <= 0.5 * state.evaluated + 1
    assert replay(store.events("search01")).difference is None


def test_parents_are_earlier_evaluated_candidates_and_duplicates_name_originals() -> None:
    store = start("budget.evaluations=30", "evolution.random_share=0.1")
    finished(store)
    evaluated: set[int] = set()
    queued: set[int] = set()
    children = 0
    for entry in store.events("search01"):
        event = entry.event
        if event.kind == "candidate_evaluated":
            evaluated.add(event.birth)
        elif event.kind == "candidate_queued":
            assert set(event.parents) <= evaluated
            children += bool(event.parents)
            queued.add(event.birth)
        elif event.kind == "candidate_duplicate":
            assert event.of in queued
    assert children > 15


def test_the_random_share_is_one_of_new_functions_where_it_says_so() -> None:
    shares = {}
    for of in ("proposals", "functions"):
        store = start(
            "budget.evaluations=30", "evolution.random_share=0.5", f'evolution.random_of="{of}"'
        )
        finished(store)
        origins = Counter(e.event.origin for e in store.events("search01")
                          if e.event.kind == "candidate_queued")  # fmt: skip
        shares[of] = origins["random"] / origins.total()
    assert 0.35 < shares["functions"] < 0.65
    assert shares["proposals"] < shares["functions"] - 0.1


def test_aging_keeps_the_most_recent_candidates() -> None:
    store = start("evolution.population_size=7")
    state = finished(store)
    evaluated = [e.event.birth for e in store.events("search01")
                 if e.event.kind == "candidate_evaluated"]  # fmt: skip
    assert list(state.population) == evaluated[-7:]


def test_a_candidate_without_fresh_scores_on_an_anchor_cannot_lead() -> None:
    """Its mean over the anchors that are left compares with no other candidate's."""
    best: list[int] = []

    def script(job: Job) -> tuple[float, Sequence[Message]]:
        seconds, messages = answer(job)
        if job.purpose != "confirm":
            return seconds, messages
        if not best and job.subject.birth is not None:
            best.append(job.subject.birth)
        if job.subject.birth not in best:
            return seconds, messages
        told = messages[0]
        assert isinstance(told, EvaluationDone)
        high = told.model_copy(
            update={"evaluation": told.evaluation.model_copy(update={"score": 1.0})}
        )
        failure = Failure(cause="error", detail="no memory on this anchor")
        return seconds, [high, JobDone(job_id=job.id, failure=failure)]

    state = finished(start(), script)
    assert state.results[f"c{best[0]}"]
    assert leader(state) is not None
    assert leader(state) != best[0]
    assert state.chosen[0] != best[0]


def test_messages_of_unknown_jobs_and_unasked_evaluations_change_nothing() -> None:
    running = controller(start())
    running.step()
    from evosearch.observe import observe

    assert observe(running.state, JobDone(job_id="c999999")) == ()
    job_id, job = next(iter(running.state.pending.items()))
    strange = Evaluation(
        anchor="resnet", seed=1, learning_rate=9.0, split="select", score=1.0, steps=1, seconds=1.0
    )
    event = observe(running.state, EvaluationDone(job_id=job_id, evaluation=strange))[0]
    before = running.state.pending[job_id]
    with pytest.raises(StateConflict, match="not asked"):
        running.state.apply(event)
    assert running.state.pending[job_id] == before == job


LAYER = Graph((Node("rms", (0,), "batch"), Node("div", (0, 4))))


def test_commands_pause_resume_enqueue_extend_and_stop() -> None:
    store = start()
    running = controller(store)
    for command in (Pause(), Pause(), Enqueue(graph=LAYER, note="mine"), Extend(evaluations=2)):
        store.send("search01", command)
    running.step()
    assert running.state.status == "paused"
    assert running.state.target == 2
    queued = [e.event for e in store.events("search01") if e.event.kind == "candidate_queued"]
    assert [(event.origin, event.note) for event in queued] == [("enqueued", "mine")]
    store.send("search01", Enqueue(graph=LAYER))
    store.send("search01", Resume())
    running.step()
    refused = [e.event for e in store.events("search01") if e.event.kind == "enqueued_refused"]
    assert [event.rejection.code for event in refused] == ["repeat"]
    assert running.state.status == "running"
    store.send("search01", Stop())
    running.step()
    assert running.over
    assert not store.commands(running.lease)


def test_no_command_displaces_a_layer_that_the_search_starts_from() -> None:
    seeds = ("x / rms_batch(x)", "tanh(x)")
    store = start(f"space.start_from={list(seeds)}".replace("'", '"'))
    store.send("search01", Enqueue(graph=parse("sigmoid(x)"), note="mine"))
    store.send("search01", Pause())
    controller(store).step()
    queued = [e.event for e in store.events("search01") if e.event.kind == "candidate_queued"]
    assert [event.note for event in queued] == [*(f"from: {one}" for one in seeds), "mine"]
    store.send("search01", Resume())
    controller(store).step()
    queued = [e.event for e in store.events("search01") if e.event.kind == "candidate_queued"]
    assert sum(event.origin == "enqueued" for event in queued) == 3


def test_every_step_of_a_candidate_that_falls_at_its_second_network_counts() -> None:
    """Quality on three networks, one training to the end, and a hurdle at step 80 of the next."""

    def script(job: Job) -> tuple[float, Sequence[Message]]:
        if job.checks is None or not job.runs[1:]:
            return answer(job)
        first, second = job.runs[:2]
        quality = tuple(CheckRun(check="quality", anchor=run.anchor, seconds=0.1, steps=40)
                        for run in job.runs)  # fmt: skip
        done = Evaluation(anchor=first.anchor, seed=first.seed, learning_rate=first.learning_rate,
                          split="select", score=0.5, steps=100, seconds=1.0)  # fmt: skip
        fell = Rejection(code="hurdle", detail="low")
        stopped = CheckRun(check="training", anchor=second.anchor, seconds=0.1, steps=40,
                           rejection=fell, findings={"score": 0.1, "step": 80.0})  # fmt: skip
        return 1.0, [EvaluationDone(job_id=job.id, evaluation=done, checks=quality),
                     JobDone(job_id=job.id, checks=(stopped,), rejection=fell)]  # fmt: skip

    store = start("baselines=[]", "confirmation.enabled=false")
    running = controller(store, script)
    while running.state.rejected["hurdle"] < 3:
        running.step()
    state = running.state
    assert dict(state.train_steps) == {"search": 300, "quality": 3 * (40 + 40 + 40)}
    assert not state.begun


def test_an_exhausted_space_ends_the_search_and_says_so() -> None:
    store = start("space.nodes=1", "evolution.max_proposals=3000")
    state = finished(store)
    assert state.evaluated < 25
    assert any("exhausted" in note for note in state.notes)


def test_audited_rejections_are_counted() -> None:
    state = finished(start("checks.signal.audit_share=1.0"))
    assert state.audit.audited == state.rejected["signal"] > 0
    assert state.audit.passed_quality == state.evaluated


def test_a_training_that_diverges_on_final_counts_at_chance_and_is_not_left_out() -> None:
    def script(job: Job) -> tuple[float, Sequence[Message]]:
        seconds, messages = answer(job)
        if job.purpose != "final" or job.subject.baseline is not None:
            return seconds, messages
        first = messages[0]
        assert isinstance(first, EvaluationDone)
        failed = first.evaluation.model_copy(update={"diverged": True, "score": 0.1, "correct": ""})
        return seconds, [first.model_copy(update={"evaluation": failed}), *messages[1:]]

    state = finished(start(), script)
    assert state.report is not None
    rows = {row["anchor"]: row for row in state.report["final"]["anchors"]}
    assert rows["resnet"]["leader"] == pytest.approx(0.1)
    assert rows["resnet"]["difference"]["high"] < 0 < rows["mobilenetv2"]["leader"]
    assert state.report["final"]["seeds"] == state.config.confirmation.final_seeds


def test_pending_jobs_are_counted_by_purpose_and_keep_their_places() -> None:
    store = start("evolution.challenge_top=2", "evolution.remeasure_share=0.5")
    run = controller(store, workers=5)
    seen: set[str] = set()
    while not run.over:
        run.step(0.0)
        pending = run.state.pending
        counted = Counter(job.purpose for job in pending.values())
        assert +pending.purposes == counted
        seen |= set(counted)
    assert {"search", "remeasure", "confirm"} <= seen
    made: dict[str, Any] = {"purpose": "search"}
    first, second = (Job.model_construct(**made, id=name) for name in "ab")
    held = Pending({"a": first, "b": second})
    held["a"] = first.model_copy(update={"purpose": "tune"})
    assert [*held] == ["a", "b"]
    assert +held.purposes == Counter(search=1, tune=1)
