"""Objectives that are measured beside a score: what they count, and where a time is refused."""

from __future__ import annotations

import pytest

import evosearch as es
from api.own_config import complete, file_config
from evosearch.config import Anchor, SearchConfig, Task
from evosearch.errors import ConfigError
from evosearch.objectives import ACCURACY, Objective
from evosearch.own import REGISTER, collecting
from evosearch.pareto import hypervolume
from evosearch.records import Evaluation, EvaluationDone, Job, Run, Subject
from workers.evaluate import Context, run_job
from workers.inline import InlinePool
from workers.measures import BUILT_IN, TIMED, TURNS, goal_of

LAYERS = {"cheap": "tanh(x)", "dear": "tanh(x) * sigmoid(x) * x / rms_group(x)"}


def job_of(layer: str, *objectives: Objective, anchor: str = "resnet") -> Job:
    task = Task(anchors=(Anchor(name=anchor, objectives=objectives),), steps=2, batch_size=16)
    graph = es.parse(LAYERS[layer]) if layer in LAYERS else None
    subject = Subject(baseline=layer) if graph is None else Subject(birth=0)
    run = Run(anchor=anchor, seed=3, learning_rate=0.1)
    return Job(id="j", purpose="baseline", subject=subject, graph=graph, runs=(run,), task=task)


def outcome(job: Job) -> Evaluation:
    messages = [*run_job(job, Context(device="cpu"))]
    return next(one.evaluation for one in messages if isinstance(one, EvaluationDone))


def measured(layer: str, *names: str) -> dict[str, float]:
    goals = [goal_of(name) for name in names]
    more = outcome(job_of(layer, ACCURACY, *goals)).more
    return {goal.name: goal.value(more[goal.name]) for goal in goals}


def test_live_nodes_and_saved_bytes_are_counted_and_repeat_bit_for_bit():
    names = ("live_nodes", "saved_bytes", "parameters")
    cheap, dear, standard = (measured(one, *names) for one in ("cheap", "dear", "bn-relu"))
    assert cheap == measured("cheap", *names)
    assert (cheap["live_nodes"], dear["live_nodes"]) == (1, 6)
    assert standard["saved_bytes"] == standard["parameters"] == 1.0
    assert 0.5 < cheap["parameters"] <= 1.0
    assert 0.3 < cheap["saved_bytes"] < 1.0 < dear["saved_bytes"] < 10.0


def test_measuring_changes_nothing_of_the_score():
    plain = outcome(job_of("dear", ACCURACY))
    every = outcome(job_of("dear", ACCURACY, *(goal for goal, _ in BUILT_IN.values())))
    assert (every.score, every.curve) == (plain.score, plain.curve)


def test_a_step_is_timed_as_a_ratio_to_the_same_network_with_bn_relu(monkeypatch):
    assert measured("dear", "step_time")["step_time"] > 0.0
    # A machine that grows slower, and is once held up: neither changes the median of the ratios.
    durations = [part for turn in range(TURNS + 1) for part in (3.0 * (turn + 1), 1.5 * (turn + 1))]
    durations[4] = 1000.0
    ticks = [tick for part in durations for tick in (0.0, part)]
    monkeypatch.setattr("workers.measures.perf_counter", lambda: ticks.pop(0))
    assert measured("dear", "step_time")["step_time"] == 2.0
    assert ticks == []


def test_the_inline_pool_refuses_a_time_before_anything_is_trained():
    with pytest.raises(ConfigError, match="step_time does not") as caught:
        InlinePool().submit(job_of("cheap", ACCURACY, TIMED))
    assert "resnet" in str(caught.value)
    renamed = Objective("step_time", "min", "x BN-ReLU", scale=8.0, worst=4.0)
    with pytest.raises(ConfigError, match="step_time does not"):
        InlinePool().submit(job_of("cheap", ACCURACY, renamed))
    InlinePool().submit(job_of("cheap", ACCURACY, goal_of("saved_bytes")))
    settings = {"task.dataset": "polarity-digits"}
    with pytest.raises(ConfigError, match="--pool ray"):
        es.search(["resnet"], objectives=["step_time"], settings=settings, pool="inline",
                  db="memory:")  # fmt: skip


def test_the_front_measures_its_volume_from_the_worst_of_an_objective():
    anchor = Anchor(name="resnet", objectives=(ACCURACY, goal_of("live_nodes")))
    config = SearchConfig(task=Task(anchors=(anchor,)))
    assert config.coordinates["resnet#live_nodes"][1] == -1.0
    told = anchor.model_copy(update={"references": {"live_nodes": -10.0}})
    config = SearchConfig(task=Task(anchors=(told,)))
    assert config.coordinates["resnet#live_nodes"][1] == -10.0


def test_a_front_with_parameters_has_a_volume():
    config = file_config("quickstart", ['task.objectives=["parameters"]'])
    config = complete(config)
    names, bound = [*config.coordinates], [-one for _, one in config.coordinates.values()]
    found = {**dict.fromkeys(names[:3], 0.9), **dict.fromkeys(names[3:], -0.5)}
    assert hypervolume([[-found[name] for name in names]], bound) > 0.0


WEIGHTS = """
import evosearch as es

@es.objective("weights", direction="min")
def weights(model):
    return float(sum(one.numel() for one in model.parameters()))
"""


def test_an_objective_that_says_no_worst_value_is_measured_from_a_known_layer(tmp_path):
    (tmp_path / "mine.py").write_text(WEIGHTS)
    wanted = [f'task.objectives=["{tmp_path}/mine.py:weights"]']
    config = complete(file_config("quickstart", wanted))
    plain = complete(file_config("quickstart"))
    for one, other in zip(config.task.anchors, plain.task.anchors, strict=True):
        assert other.references == {}
        assert (one.reference, one.quality) == (other.reference, other.quality)
        assert one.references["weights"] < -1000.0
    told = config.model_copy(deep=True)
    assert complete(told) == config  # what is known is not measured again


def test_an_evaluator_has_live_nodes_and_may_return_the_rest_itself():
    with collecting() as register:

        @es.evaluator("hidden", objectives=[es.Objective("a", worst=0.0)])
        def hidden(layer, ctx):
            layer(4)
            return {"a": 1.0, "saved_bytes": 2.5}

    REGISTER.replace(register.entries())
    goals = (es.Objective("a", worst=0.0), goal_of("live_nodes"), goal_of("saved_bytes"))
    job = job_of("dear", *goals, anchor="hidden")
    assert outcome(job).more == {"live_nodes": -6.0 / 64.0, "saved_bytes": -2.5 / 8.0}
    failed = [*run_job(job_of("dear", *goals, TIMED, anchor="hidden"), Context(device="cpu"))][-1]
    assert "hides its network" in failed.failure.detail


def test_a_bad_objective_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="direction") as caught:
        es.Objective("a", "up")
    assert "\n" not in str(caught.value)
