"""Jobs end to end in this process: order of stages, no step twice, every ending recorded."""

from __future__ import annotations

import math
from itertools import count

import pytest

from evosearch.config import Anchor, Bounds, Checks, Hurdles, Quality, Signal, Stability, Task
from evosearch.errors import ConfigError, PluginError, WorkerError
from evosearch.events import without_times
from evosearch.objectives import ACCURACY, Objective
from evosearch.records import EvaluationDone, Job, JobDone, Run, Subject
from primitives.graph import Graph, Node
from workers.evaluate import Context, _Work, run_job
from workers.inline import InlinePool

ANCHORS = ("resnet", "mobilenetv2", "efficientnet")
RMS_RELU = Graph((Node("rms", (0,), "batch"), Node("div", (0, 4)), Node("max", (1, 5))))
GROUP_RELU = Graph((Node("std", (0,), "group"), Node("div", (0, 4)), Node("max", (1, 5))))
CONSTANT = Graph((Node("mul", (0, 1)),))
CUBE = Graph((Node("square", (0,)), Node("mul", (0, 4))))
TOWER = Graph((Node("exp", (0,)), Node("exp", (4,)), Node("exp", (5,))))

CHECKS = Checks(
    signal=Signal(bounds={name: {"grad_ratio": Bounds(low=1e-4, high=1e4)} for name in ANCHORS}),
    quality=Quality(steps=8, accuracy=0.05),
    stability=Stability(steps=2),
)


def job(graph=RMS_RELU, *, baseline=None, anchors=ANCHORS, steps=12, **changed):
    subject = Subject(baseline=baseline) if baseline else Subject(birth=1)
    settings = {
        "id": "j1",
        "purpose": "search",
        "subject": subject,
        "graph": None if baseline else graph,
        "runs": tuple(Run(anchor=name, seed=0, learning_rate=0.2) for name in anchors),
        "task": Task(
            anchors=tuple(Anchor(name=name) for name in anchors), steps=steps, batch_size=32
        ),
        "checks": CHECKS,
        **changed,
    }
    return Job(**settings)


def run(work):
    messages = list(run_job(work, Context()))
    assert isinstance(messages[-1], JobDone)
    assert all(isinstance(message, EvaluationDone) for message in messages[:-1])
    assert all(message.job_id == work.id for message in messages)
    told = tuple(check for message in messages for check in message.checks)
    done = messages[-1].model_copy(update={"checks": told})
    return [message.evaluation for message in messages[:-1]], done


def stages(done):
    return [(check.check, check.anchor) for check in done.checks]


def test_a_good_layer_passes_all_stages_in_order_and_no_step_is_done_twice():
    evaluations, done = run(job())
    assert done.rejection is None
    assert done.failure is None
    assert stages(done) == [
        *[("signal", name) for name in ANCHORS],
        *[("quality", name) for name in ANCHORS],
        ("stability", "resnet"),
        *[("training", name) for name in ANCHORS],
    ]
    assert sum(check.steps for check in done.checks) == 3 * 12
    assert [check.steps for check in done.checks if check.check == "quality"] == [8, 8, 8]
    assert [evaluation.anchor for evaluation in evaluations] == list(ANCHORS)
    assert all(evaluation.steps == 12 for evaluation in evaluations)
    assert all(0.1 < evaluation.score < 1 for evaluation in evaluations)
    assert all(evaluation.curve[-1][0] == 12 for evaluation in evaluations)
    assert done.worker == "inline"


def test_checks_do_not_change_the_score():
    checked, _ = run(job(anchors=("resnet",)))
    plain, done = run(job(anchors=("resnet",), checks=None))
    assert checked[0].score == plain[0].score
    assert checked[0].curve == plain[0].curve
    assert stages(done) == [("training", "resnet")]


def test_signal_rejects_before_any_training():
    evaluations, done = run(job(CONSTANT))
    assert evaluations == []
    assert done.rejection.code == "signal"
    assert done.audit_passed is None
    assert stages(done) == [("signal", "resnet")]
    assert sum(check.steps for check in done.checks) == 0


def test_learnt_bounds_ride_on_the_job_and_hold_instead_of_the_configs():
    tight = {"resnet": {"loss": Bounds(low=5.0, high=6.0)}}
    evaluations, done = run(job(bounds=tight, checks=CHECKS))
    assert evaluations == []
    assert done.rejection.code == "signal"
    assert "expected 5 to 6" in done.rejection.detail
    strict = CHECKS.model_copy(update={"signal": Signal(bounds=tight)})
    wide = {"resnet": {"loss": Bounds(low=-9.0, high=9.0)}}
    assert run(job(bounds=wide, checks=strict, anchors=("resnet",)))[1].rejection is None


def test_a_search_that_learns_measures_beside_the_reference_from_the_start():
    def findings(**signal):
        checks = CHECKS.model_copy(update={"signal": Signal(**signal)})
        return run(job(None, baseline="bn-relu", checks=checks, anchors=("resnet",)))[1].checks[0]

    assert findings().findings["logit_std"] != 1.0, "as measured"
    assert findings(learn=True).findings["logit_std"] == pytest.approx(1.0)
    assert findings(learn=True).findings["loss"] == pytest.approx(0.0, abs=1e-6)


def test_where_the_reference_is_refused_what_is_learnt_is_absolute():
    anchors = (Anchor(name="char-transformer", slot="norm", forbids=("batch", "positions")),)
    task = Task(anchors=anchors, steps=1, batch_size=2, dataset="tinyshakespeare")
    work = job(None, baseline="token_ln-gelu", task=task, anchors=("char-transformer",))
    learning = CHECKS.model_copy(update={"signal": Signal(learn=True)})
    doer = _Work(work, Context())
    assert doer.reference(work.runs[0], learning, needed=False) is None
    assert doer.reference(work.runs[0], CHECKS, needed=False) is None
    with pytest.raises(ConfigError, match="forbids"):
        doer.reference(work.runs[0], CHECKS, needed=True)


def test_audit_trains_what_signal_rejects_and_still_rejects():
    strict = CHECKS.model_copy(
        update={"signal": Signal(bounds={"resnet": {"loss": Bounds(low=5, high=6)}})}
    )
    evaluations, done = run(job(checks=strict, audit=True))
    assert evaluations == []
    assert done.rejection.code == "signal"
    assert done.audit_passed is True
    assert stages(done) == [("signal", "resnet"), *[("quality", name) for name in ANCHORS]]
    assert [check.audited for check in done.checks] == [False, True, True, True]
    hard = strict.model_copy(update={"quality": Quality(steps=2, accuracy=0.9)})
    _, failed = run(job(checks=hard, audit=True))
    assert failed.rejection.code == "signal"
    assert failed.audit_passed is False
    assert stages(failed) == [("signal", "resnet"), ("quality", "resnet")]


def test_quality_rejects_on_the_first_anchor_that_fails():
    hard = CHECKS.model_copy(update={"quality": Quality(steps=4, accuracy=0.95)})
    evaluations, done = run(job(checks=hard))
    assert evaluations == []
    assert done.rejection.code == "quality"
    assert stages(done)[-1] == ("quality", "resnet")


def test_divergence_in_full_training_rejects_a_candidate_and_scores_a_baseline_at_chance():
    checks = Checks(
        signal=Signal(enabled=False),
        quality=Quality(enabled=False),
        stability=Stability(enabled=False),
    )
    evaluations, done = run(job(CUBE, anchors=("resnet",), checks=checks, steps=40))
    assert evaluations == []
    assert done.rejection.code == "not_finite"
    assert done.checks[-1].check == "training"
    assert done.checks[-1].rejection == done.rejection
    evaluations, done = run(
        job(CUBE, anchors=("resnet",), checks=None, steps=40, purpose="confirm")
    )
    assert done.rejection is None
    assert evaluations[0].diverged
    assert all(math.isfinite(loss) for _, loss in evaluations[0].curve), "no store takes it"
    assert evaluations[0].score == 0.1
    assert evaluations[0].steps < 40


def test_after_a_divergence_a_further_objective_gets_the_worst_that_is_known():
    """Of what lower is better of, 0 would be the best there is."""
    goals = (
        Objective("ms", "min", worst=900.0), Objective("watts", "min"), Objective("recall", "max"),
        Objective("parameters", "min", scale=1e6),
    )  # fmt: skip
    anchor = Anchor(name="resnet", objectives=(ACCURACY, *goals), references={"watts": -7.0})
    task = Task(anchors=(anchor,), steps=40, batch_size=32)
    work = _Work(job(anchors=("resnet",), task=task, purpose="confirm"), Context())
    training = work.training(0)
    told = work.further(work.job.runs[0], {}, True, training)
    assert told.pop("parameters") < 0.0
    assert told == {"ms": -900.0, "watts": -7.0, "recall": 0.0}
    assert work.further(work.job.runs[0], {"ms": -1.0}, False) == {"ms": -1.0}
    unknown = anchor.model_copy(update={"references": {}})
    lost = job(anchors=("resnet",), purpose="confirm",
               task=task.model_copy(update={"anchors": (unknown,)}))  # fmt: skip
    with pytest.raises(PluginError, match="nothing says what watts is then"):
        _Work(lost, Context()).further(lost.runs[0], {}, True, training)
    only = anchor.model_copy(update={"objectives": (ACCURACY, goals[-1])})
    diverging = job(
        CUBE, anchors=("resnet",), checks=None, purpose="confirm",
        task=task.model_copy(update={"anchors": (only,)}),
    )  # fmt: skip
    evaluations, done = run(diverging)
    assert done.failure is None
    assert evaluations[0].diverged
    assert evaluations[0].more["parameters"] < 0.0


def test_overflow_at_initialisation_is_a_rejection():
    _, done = run(job(TOWER))
    assert done.rejection.code == "not_finite"
    assert done.failure is None


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"baseline": "bn-rule"}, "did you mean bn-relu"),
        ({"runs": (Run(anchor="vgg", seed=0, learning_rate=0.1),)}, "vgg"),
        ({"task": Task(anchors=(Anchor(name="resnet", width=7),))}, "even"),
        ({"task": Task(dataset="cats", anchors=(Anchor(name="resnet"),))}, "unknown data set"),
    ],
)
def test_errors_are_recorded_failures_of_one_line(changed, part):
    evaluations, done = run(job(**{"anchors": ("resnet",), "checks": None, **changed}))
    assert evaluations == []
    assert done.rejection is None
    assert done.failure.cause == "error"
    assert part in done.failure.detail
    assert "\n" not in done.failure.detail


def test_running_out_of_memory_is_named():
    class Greedy(Context):
        def dataset(self, name):
            raise MemoryError("no more")

    done = list(run_job(job(), Greedy()))[-1]
    assert done.failure.cause == "out_of_memory"


def test_final_split_counts_right_draws_and_groups_are_recorded():
    final = (Run(anchor="resnet", seed=0, learning_rate=0.2, split="final"),)
    evaluations, _ = run(job(GROUP_RELU, anchors=("resnet",), runs=final, checks=None))
    assert len(evaluations[0].correct) == 697
    assert evaluations[0].groups == {"8": 4, "16": 8, "32": 16, "64": 32}
    plain, _ = run(job(anchors=("resnet",), checks=None))
    assert plain[0].groups == {}
    assert plain[0].correct == ""


@pytest.mark.parametrize(
    "name",
    ["bn-relu", "bn-silu", "gn-relu", "gn-silu", "ln-relu", "evonorm-b0", "evonorm-s0"],
)
def test_baselines_train(name):
    evaluations, done = run(job(baseline=name, anchors=("resnet",), checks=None, steps=60))
    assert done.failure is None
    assert evaluations[0].score > 0.25
    assert bool(evaluations[0].groups) == (name.startswith("gn-") or name == "evonorm-s0")


def test_seconds_come_from_the_clock_and_add_up():
    ticks = count()
    context = Context(clock=lambda: float(next(ticks)))
    messages = list(run_job(job(anchors=("resnet",)), context))
    done = messages[-1]
    checks = [check for check in messages[0].checks if check.check != "stability"]
    assert checks
    assert messages[0].evaluation.seconds == sum(check.seconds for check in checks)
    assert done.seconds == float(next(ticks)) - 1


def drain(pool):
    messages = []
    while True:
        new = pool.poll(0.0)
        if not new:
            return messages
        messages += new


def plain(messages):
    return without_times([message.model_dump(mode="json") for message in messages])


def test_inline_pool_gives_one_message_a_poll_and_repeats_bit_for_bit():
    logs = []
    for _ in range(2):
        pool = InlinePool()
        pool.submit(job(anchors=("resnet",)))
        pool.submit(job(CONSTANT, id="j2"))
        assert pool.capacity == 1
        messages = drain(pool)
        assert [message.kind for message in messages] == ["evaluation_done", "job_done", "job_done"]
        assert [message.job_id for message in messages] == ["j1", "j1", "j2"]
        logs.append(plain(messages))
        pool.close()
        pool.close()
    assert logs[0] == logs[1]


def test_inline_pool_cancels_waiting_and_running_jobs():
    pool = InlinePool()
    pool.submit(job(anchors=("resnet", "mobilenetv2"), checks=None))
    pool.submit(job(CONSTANT, id="j2"))
    pool.submit(job(CONSTANT, id="j3"))
    assert pool.poll(0.0)[0].kind == "evaluation_done"
    pool.cancel("j1")
    pool.cancel("j2")
    pool.cancel("never-heard-of")
    assert [message.job_id for message in drain(pool)] == ["j3"]
    pool.close()
    with pytest.raises(WorkerError, match="closed"):
        pool.submit(job())


def test_hurdles_give_a_candidate_up_and_milestones_are_told():
    checks = CHECKS.model_copy(update={"hurdles": Hurdles(steps=(4, 10), after=1)})
    evaluations, done = run(job(anchors=("resnet",), checks=checks))
    assert done.rejection is None
    assert set(evaluations[0].milestones) == {4, 10}
    assert sum(check.steps for check in done.checks) == 12
    hard = {"resnet": {10: 0.99}}
    evaluations, done = run(job(anchors=("resnet",), checks=checks, hurdles=hard))
    assert evaluations == []
    assert done.rejection.code == "hurdle"
    assert "0.990" in done.rejection.detail
    assert sum(check.steps for check in done.checks) == 10
    _, done = run(job(anchors=("resnet",), checks=checks, hurdles={"resnet": {10: 0.0}}))
    assert done.rejection is None


def test_the_hurdle_at_qualitys_step_is_judged_before_the_next_anchor_is_tried():
    quality = Quality(steps=4, accuracy=0.0)
    checks = CHECKS.model_copy(update={"quality": quality, "hurdles": Hurdles(steps=(4,), after=1)})
    anchors = ("resnet", "mobilenetv2")
    _, done = run(job(anchors=anchors, checks=checks, hurdles={"resnet": {4: 0.99}}))
    assert done.rejection.code == "hurdle"
    assert [c.anchor for c in done.checks if c.check == "quality"] == ["resnet"]
    assert sum(c.steps for c in done.checks) == 4
    evaluations, done = run(job(anchors=anchors, checks=checks, hurdles={"resnet": {4: 0.0}}))
    assert done.rejection is None
    assert [list(e.milestones) for e in evaluations] == [[4], [4]]
    assert [e.steps for e in evaluations] == [12, 12]


def test_a_candidate_on_the_front_of_early_scores_goes_on_below_a_hurdle():
    quality = Quality(steps=4, accuracy=0.0)
    checks = CHECKS.model_copy(update={"quality": quality, "hurdles": Hurdles(steps=(4,), after=1)})
    anchors = ("resnet", "mobilenetv2")
    low = {"anchors": anchors, "checks": checks, "hurdles": {"mobilenetv2": {4: 0.99}}}
    _, done = run(job(**low))
    assert done.rejection.code == "hurdle"
    beaten = {"mobilenetv2": {4: ((0.0, 0.999), (1.0, 0.95))}}
    _, done = run(job(**low, fronts=beaten))
    assert done.rejection.code == "hurdle"
    assert "below 0.950" in done.rejection.detail
    spare = {"mobilenetv2": {4: ((0.0, 0.999),)}}
    evaluations, done = run(job(**low, fronts=spare))
    assert done.rejection is None
    # What is left after a worker was lost decides as the whole did.
    off = {name: getattr(checks, name).model_copy(update={"enabled": False})
           for name in ("signal", "quality", "stability")}  # fmt: skip
    alone = job(**low, reached={"resnet": evaluations[0].milestones})
    left = {"runs": alone.runs[1:], "checks": checks.model_copy(update=off)}
    for fronts, rejected in ((beaten, True), (spare, False)):
        _, done = run(alone.model_copy(update={**left, "fronts": fronts}))
        assert (done.rejection is not None) is rejected


def test_a_job_in_two_parts_gives_what_it_gives_in_one():
    """The signal check alone, and later the rest without it: no step is done for it."""
    whole, done = run(job())
    none, first = run(job(signal_only=True))
    assert none == []
    assert first.rejection is None
    assert first.failure is None
    assert stages(first) == [("signal", name) for name in ANCHORS]
    assert all(check.steps == 0 for check in first.checks)
    rest = CHECKS.model_copy(update={"signal": Signal(enabled=False)})
    evaluations, second = run(job(checks=rest))
    assert stages(first) + stages(second) == stages(done)
    assert [one.score for one in evaluations] == [one.score for one in whole]
    assert [one.curve for one in evaluations] == [one.curve for one in whole]


def test_a_job_of_the_signal_check_alone_rejects_and_audits_as_ever():
    bad = job(signal_only=True, audit=True)
    bounds = {name: {"loss": Bounds(low=-1e-9, high=1e-9)} for name in ANCHORS}
    checks = CHECKS.model_copy(update={"signal": Signal(bounds=bounds)})
    _, done = run(bad.model_copy(update={"checks": checks}))
    assert done.rejection.code == "signal"
    assert done.audit_passed is not None
    assert {check.check for check in done.checks} == {"signal", "quality"}
