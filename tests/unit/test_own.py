"""Users' own anchors, evaluators, objectives and checks: registered, loaded, trained, scored."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch

import evosearch as es
from evosearch.config import Anchor, Checks, Hurdles, Quality, SearchConfig, Stability, Task
from evosearch.errors import ConfigError, PluginError, Stopped
from evosearch.own import REGISTER, collecting
from evosearch.plugins import ensure, find, load, read_source, receive, user_line
from evosearch.records import EvaluationDone, Job, JobDone, Run, Subject
from evosearch.screen import Screen
from workers.anchors import ANCHORS
from workers.evaluate import Context, make_training, run_job
from workers.inline import InlinePool
from workers.layers import layer_factory

MY_TASK = Path(__file__).parents[1] / "support" / "my_task.py"
GRAPH = es.parse("x * sigmoid(x)")
QUIET = Checks(quality=Quality(steps=2, accuracy=-1e9), stability=Stability(steps=1))


@pytest.fixture(scope="module")
def plugin():
    return load(read_source(str(MY_TASK))).plugin


def job_of(plugin, anchor, **changed):
    entry = REGISTER.find("anchor", anchor)
    objectives = entry.value.objectives if entry is not None else ()
    task = Task(
        anchors=(Anchor(name=anchor, objectives=objectives),),
        steps=6, batch_size=16, plugins=(plugin,), **changed.pop("task", {}),
    )  # fmt: skip
    run = Run(anchor=anchor, seed=3, learning_rate=0.2)
    facts = {"id": "j", "purpose": "search", "subject": Subject(birth=0), "graph": GRAPH,
             "runs": (run,), "task": task, "checks": QUIET}  # fmt: skip
    return Job(**(facts | changed))


def outcome(job, context=None):
    messages = list(run_job(job, context or Context(device="cpu")))
    assert isinstance(messages[-1], JobDone)
    found = [one.evaluation for one in messages if isinstance(one, EvaluationDone)]
    return (found[0] if found else None), messages[-1]


@pytest.mark.parametrize("anchor", ["my-net", "tiny-seq", "my-eval"])
def test_each_depth_is_trained_and_repeats_bit_for_bit(plugin, anchor):
    before = torch.get_rng_state()
    scores = []
    for _ in range(2):
        evaluation, done = outcome(job_of(plugin, anchor))
        assert done.failure is None, done.failure
        scores.append(evaluation.score)
    assert scores[0] == scores[1]
    assert torch.equal(before, torch.get_rng_state())


DROPS = """
from torch import nn
import evosearch as es

def net(layer, num_classes, in_channels):
    return nn.Sequential(nn.Conv2d(in_channels, 8, 3, 2, 1), layer(8), nn.Dropout(),
                         nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, num_classes))

es.anchor("drops", build=net)
es.anchor("drops-model", model=lambda num_classes, in_channels: net(
    lambda channels: nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()), num_classes, in_channels))
"""


@pytest.mark.parametrize("anchor", ["drops", "drops-model"])
def test_dropout_of_a_users_network_draws_from_the_runs_seed(tmp_path, anchor):
    (tmp_path / "drops.py").write_text(DROPS)
    job = job_of(load(read_source(str(tmp_path / "drops.py"))).plugin, anchor)
    ours, losses = torch.get_rng_state(), []
    for seed in (3, 3, 4):
        torch.manual_seed(len(losses))
        before = torch.get_rng_state()
        run = job.runs[0].model_copy(update={"seed": seed})
        training = make_training(run, job.task, layer_factory(job, anchor), Context(device="cpu"))
        training.advance(3)
        training.score("select")
        training.advance(6)
        losses.append(training.curve)
        assert torch.equal(before, torch.get_rng_state())
    torch.set_rng_state(ours)
    assert losses[0] == losses[1] != losses[2]


def test_lower_is_better_becomes_a_score_of_which_higher_is(plugin):
    evaluation, _ = outcome(job_of(plugin, "tiny-seq"))
    assert evaluation.score < 0
    goal = es.Objective("bpc", "min", "bit/char")
    assert goal.text(evaluation.score) == f"{-evaluation.score:.3f} bit/char"
    assert goal.change(-0.25) == "+0.250"
    assert es.Objective("miou", "max", "%").score(50.0) == 0.5


def test_training_improves_the_users_own_metric(plugin):
    task = {"steps": 200, "batch_size": 16}
    short = job_of(plugin, "tiny-seq")
    long = short.model_copy(update={"task": short.task.model_copy(update=task)})
    assert outcome(long)[0].score > outcome(short)[0].score + 0.2


def test_a_finished_model_takes_layers_and_is_a_baseline_as_it_came(plugin):
    original = job_of(plugin, "my-model", graph=None, checks=None, purpose="baseline",
                      subject=Subject(baseline="original"))  # fmt: skip
    ours, done = outcome(job_of(plugin, "my-model"))
    assert done.failure is None, done.failure
    theirs, done = outcome(original)
    assert done.failure is None, done.failure
    assert ours.score != theirs.score
    relu = outcome(original.model_copy(update={"subject": Subject(baseline="bn-relu")}))[0]
    assert relu.score == pytest.approx(theirs.score, abs=0.02)


def test_layers_in_a_finished_model_have_the_tasks_groups(plugin):
    found = {}
    for groups, rule in ((32, "two_channels"), (1, "two_channels"), (32, "authors")):
        job = job_of(plugin, "my-model", graph=es.parse("x * sigmoid(x) / std_group(x)"),
                     task={"groups": groups, "group_rule": rule})  # fmt: skip
        evaluation, done = outcome(job)
        assert done.failure is None, done.failure
        found[groups, rule] = evaluation
    assert [one.groups for one in found.values()] == [{"4": 2}, {"4": 1}, {"4": 4}]
    assert len({one.score for one in found.values()} | {one.curve for one in found.values()}) > 1


NO_PLACE = """
from torch import nn
import evosearch as es

def bare(num_classes, in_channels):
    net = nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, num_classes))
    return net

es.anchor("bare-model", model=bare)
"""


def test_a_finished_model_without_a_place_is_refused_before_a_search(tmp_path):
    file = tmp_path / "bare.py"
    file.write_text(NO_PLACE)
    line = NO_PLACE.splitlines().index("    return net") + 1
    with pytest.raises(PluginError) as caught:
        es.search(f"{file}:bare", budget=2, pool="inline", db=f"sqlite:///{tmp_path}/x.db",
                  settings={"task.steps": 4}, show=False)  # fmt: skip
    told = str(caught.value)
    assert told.startswith(f"bare.py:{line} in bare: no layer of slot norm_act fits into the")
    assert "the model has no place for this layer" in told
    assert "not after a normalisation" in told
    assert not (tmp_path / "x.db").exists()


def test_a_layer_that_leaks_is_refused_by_the_users_own_axes(plugin):
    assert ANCHORS.get("tiny-seq").forbids == {"batch", "positions"}
    _, done = outcome(job_of(plugin, "tiny-seq", graph=es.parse("x / std_batch(x)")))
    assert "mixes batch" in done.failure.detail


def test_further_objectives_are_measured_and_are_coordinates_of_the_front(plugin):
    goals = (*REGISTER.find("anchor", "tiny-seq").value.objectives,
             es.Objective("width", "min", "channels"))  # fmt: skip
    job = job_of(plugin, "tiny-seq")
    anchor = job.task.anchors[0].model_copy(update={"objectives": goals})
    task = job.task.model_copy(update={"anchors": (anchor,)})
    evaluation, _ = outcome(job.model_copy(update={"task": task}))
    assert evaluation.more == {"width": -32.0}
    config = SearchConfig(task=task, checks=QUIET)
    assert list(config.coordinates) == ["tiny-seq", "tiny-seq#width"]
    assert config.objective("tiny-seq#width").text(-32.0) == "32.000 channels"


def test_a_hurdle_stops_an_evaluator_and_says_so_in_its_unit(plugin):
    checks = QUIET.model_copy(update={"hurdles": Hurdles(steps=(2,), after=1)})
    passed, _ = outcome(job_of(plugin, "my-eval", checks=checks))
    assert set(passed.milestones) == {2}
    high = job_of(plugin, "my-eval", checks=checks, hurdles={"my-eval": {2: 0.99}})
    evaluation, done = outcome(high)
    assert evaluation is None
    assert done.rejection.code == "hurdle"
    assert "expected 99.000 % or better" in done.rejection.detail


def test_a_deadline_rejects_a_task_and_an_evaluator(plugin):
    ticks = iter(range(0, 10_000, 10))
    for anchor in ("my-eval", "tiny-seq"):
        context = Context(device="cpu", clock=lambda: float(next(ticks)))
        job = job_of(plugin, anchor, checks=QUIET,
                     task={"evaluation_seconds": 15.0})  # fmt: skip
        _, done = outcome(job, context)
        assert done.rejection is not None, done
        assert done.rejection.code == "too_slow"


def test_an_evaluator_that_swallows_the_stop_is_stopped_all_the_same(plugin):
    with collecting() as register:

        @es.evaluator("stubborn", objectives=[es.Objective("a", worst=0.0)])
        def stubborn(layer, ctx):
            for step in range(3):
                with contextlib.suppress(Stopped):
                    ctx.report(step, a=0.1)
            return {"a": 1.0}

    REGISTER.replace(register.entries())
    checks = QUIET.model_copy(update={"hurdles": Hurdles(steps=(1,), after=1)})
    hard = job_of(plugin, "stubborn", checks=checks, hurdles={"stubborn": {1: 0.5}})
    evaluation, done = outcome(hard)
    assert (evaluation, done.rejection.code) == (None, "hurdle")


def test_an_evaluator_that_never_asks_for_a_layer_fails_at_its_own_line(plugin):
    with collecting() as register:

        @es.evaluator("layerless", objectives=[es.Objective("a", worst=0.0)])
        def layerless(layer, ctx):
            return {"a": 0.5}

    REGISTER.replace(register.entries())
    line = layerless.__code__.co_firstlineno + 2
    evaluation, done = outcome(job_of(plugin, "layerless"))
    assert evaluation is None
    where = f"test_own.py:{line} in layerless"
    assert f"{where}: the layer is placed nowhere" in done.failure.detail


def test_an_interrupted_inline_job_is_taken_back_and_can_run_again(plugin):
    pool = InlinePool(Context(device="cpu"))
    for anchor in ("my-eval", "tiny-seq"):
        job = job_of(plugin, anchor)
        pool.submit(job)
        pool.interrupt()
        assert pool.poll(0.0) == []
        pool.submit(job)
        assert pool.poll(0.0)[0].kind == "evaluation_done"
        pool.cancel(job.id)


def test_an_error_in_the_users_code_names_the_users_line(tmp_path):
    text = MY_TASK.read_text().replace("(model(x) - y).square().mean()", "model(x).nothing()", 1)
    file = tmp_path / "other.py"
    file.write_text(text)
    broken = load(read_source(str(file)))
    try:
        _, done = outcome(job_of(broken.plugin, "tiny-seq"))
    finally:
        load(read_source(str(MY_TASK)))
    line = text.splitlines().index("        return model(x).nothing()") + 1
    assert done.failure.detail.startswith(f"other.py:{line} in loss: return model(x).nothing()")


def test_two_versions_of_one_file_live_side_by_side(tmp_path):
    file = tmp_path / "my_task.py"
    plugins, widths = [], []
    for classes in (8, 12):
        file.write_text(
            MY_TASK.read_text()
            .replace("layer(8), nn.Linear(8", f"layer({classes}), nn.Linear({classes}")
            .replace("nn.Linear(4, 8)", f"nn.Linear(4, {classes})")
        )
        plugins.append(load(read_source(str(file))).plugin)
    assert plugins[0].sha256 != plugins[1].sha256
    for plugin in (*plugins, plugins[0]):
        ensure([plugin])
        net = ANCHORS.get("tiny-seq").own.made_by().build(lambda channels: torch.nn.Identity())
        widths.append(net[0].out_features)
    assert widths == [8, 12, 8]
    load(read_source(str(MY_TASK)))


def test_a_changed_or_lost_file_is_refused(tmp_path):
    file = tmp_path / "task.py"
    file.write_text(MY_TASK.read_text())
    source = read_source(str(file))
    assert find(source.plugin).sha256 == source.sha256
    file.write_text(MY_TASK.read_text() + "\n# another text\n")
    with pytest.raises(PluginError, match="has changed"):
        find(source.plugin)
    file.unlink()
    with pytest.raises(PluginError, match="is not here"):
        find(source.plugin)


def test_a_package_of_the_users_own_comes_with_plugin_path(tmp_path):
    package = tmp_path / "home" / "my_layers"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("WIDTH = 6\n")
    decoy = tmp_path / "home" / "db"
    decoy.mkdir()
    (decoy / "__init__.py").write_text("raise SystemExit('decoy')\n")
    file = tmp_path / "task.py"
    file.write_text("from my_layers import WIDTH\nimport evosearch as es\n"
                    "es.anchor('wide', build=lambda layer: layer(WIDTH))\n")  # fmt: skip
    with pytest.raises(PluginError, match="No module named 'my_layers'"):
        load(read_source(str(file)))
    source = read_source(str(file), tmp_path / "home")
    assert [path for path, _ in source.extra] == ["my_layers/__init__.py"]
    widths = []
    load(source).entries[0].value.made_by(widths.append)
    assert widths == [6]
    import db

    assert hasattr(db, "open_store")


def test_the_users_package_reaches_a_worker_as_text(tmp_path, monkeypatch):
    """A worker has the text alone: in another folder, and without the user's."""
    home = tmp_path / "home"
    (home / "their_parts").mkdir(parents=True)
    (home / "their_parts" / "__init__.py").write_text("from their_parts.deep import WIDTH\n")
    (home / "their_parts" / "deep.py").write_text("WIDTH = 9\n")
    file = tmp_path / "task.py"
    file.write_text("from their_parts import WIDTH\nimport evosearch as es\n"
                    "es.anchor('deep', build=lambda layer: layer(WIDTH))\n")  # fmt: skip
    told = read_source(str(file), home).to_json()
    shutil.rmtree(home)
    file.unlink()
    monkeypatch.setattr(sys, "path", [*sys.path])
    sources = {}
    receive(json.loads(json.dumps(told)), sources)
    (source,) = sources.values()
    widths = []
    load(source).entries[0].value.made_by(widths.append)
    assert widths == [9]


def test_where_and_own_checks_refuse_in_the_controller(plugin):
    task = Task(anchors=(Anchor(name="resnet"),), plugins=(plugin,))
    config = SearchConfig(task=task).model_copy(
        update={
            "space": SearchConfig(task=task).space.model_copy(
                update={"where": "live_nodes <= 2 and not pointwise", "checks": ("no-exp",)}
            )
        }
    )
    screen = Screen(config)
    assert screen.judge(es.parse("x / rms_batch(x)"), {}, {}).code is None
    assert screen.judge(es.parse("tanh(x)"), {}, {}).code == "constraint"
    assert screen.judge(es.parse("exp(std_batch(x)) * x"), {}, {}).code == "constraint"
    free = config.model_copy(update={"space": config.space.model_copy(update={"where": ""})})
    assert Screen(free).judge(es.parse("x * exp(-x)"), {}, {}).code == "own_check"
    with pytest.raises(ConfigError, match="mean_score cannot be asked of a proposal"):
        Screen(
            config.model_copy(
                update={"space": config.space.model_copy(update={"where": "mean_score > 0.5"})}
            )
        )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: es.anchor("a b", build=len), "bad name"),
        (lambda: es.anchor("a", build=len, slot="all"), "unknown slot"),
        (lambda: es.anchor("a", build=len, layout="bhwc"), "unknown layout"),
        (lambda: es.anchor("a", build=3), "no function"),
        (lambda: es.anchor("a", build=len, model=len), "not both"),
        (lambda: es.anchor("a", slot="norm")(len), "no task"),
        (lambda: es.evaluator(objectives=[]), "no objectives"),
        (lambda: es.check("c")(3), "a check is a function"),
    ],
)  # fmt: skip
def test_a_bad_registration_is_refused_at_its_own_line(call, words):
    line = call.__code__.co_firstlineno
    with pytest.raises(PluginError, match=words) as caught:
        call()
    assert str(caught.value).startswith(f"test_own.py:{line}:")


def test_nobody_takes_anothers_name():
    with collecting():
        es.anchor("mine", build=len)
        es.anchor("mine", build=len)  # a cell that runs again
        exec("import evosearch as es", space := {"__name__": "elsewhere"})
        with pytest.raises(PluginError, match="registered twice"):
            exec("es.anchor('mine', build=len)", space)


def test_a_users_line_is_found_through_causes(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text("import evosearch\n\n1 / 0\n")
    with pytest.raises(PluginError) as caught:
        load(read_source(str(file)))
    assert user_line(caught.value) == "bad.py:3: 1 / 0"
    assert "bad.py:3" in str(caught.value)


def test_an_objective_that_is_not_finite_is_a_rejection(plugin):
    with collecting() as register:

        @es.evaluator("nan", objectives=[es.Objective("a")])
        def not_a_number(layer, ctx):
            layer(4)
            return {"a": math.nan}

    REGISTER.replace(register.entries())
    evaluation, done = outcome(job_of(plugin, "nan"))
    assert (evaluation, done.rejection.code) == (None, "not_finite")


def test_an_installed_package_registers_by_its_entry_point(tmp_path, monkeypatch):
    from importlib.metadata import EntryPoint

    from evosearch import plugin_sources, plugins

    (tmp_path / "their_layers.py").write_text(
        "import evosearch as es\nes.anchor('theirs', build=lambda layer: layer(7))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("their-layers", "their_layers", plugin_sources.GROUP)
    monkeypatch.setattr(plugin_sources, "entry_points", lambda group: [point])
    loaded = load(read_source("their-layers"))
    assert [entry.name for entry in loaded.entries] == ["theirs"]
    again = plugins.Source.from_json(loaded.source.to_json())
    assert (again.entry_point, again.sha256) == (True, loaded.source.sha256)
    with pytest.raises(PluginError, match=r"ends in \.py, or their-layers"):
        read_source("their-layer")


LATE = """
import torch
from torch import nn
import evosearch as es

CALLS = []

@es.anchor("late", slot="norm_act", layout="bc", baselines=["ln-relu"])
class Late:
    objectives = [es.Objective("mse", "min")]
    def data(self, ctx):
        x = torch.randn(64, 4, generator=ctx.generator)
        return x, x.sum(1, keepdim=True)
    def build(self, layer):
        return nn.Sequential(nn.Linear(4, 8), layer(8), nn.Linear(8, 1))
    def loss(self, model, batch):
        x, y = batch
        CALLS.append(1)
        if len(CALLS) > 6:
            raise KeyError("late")
        return (model(x) - y).square().mean()
    def evaluate(self, model, batches):
        return {"mse": torch.cat([(model(x) - y).square() for x, y in batches]).mean()}
"""


def test_a_search_whose_own_code_fails_pauses_at_once_and_names_the_line(tmp_path):
    file = tmp_path / "late.py"
    file.write_text(LATE)
    line = LATE.splitlines().index('            raise KeyError("late")') + 1
    with pytest.raises(PluginError) as caught:
        es.search(f"{file}:Late", budget=50, pool="inline", db=f"sqlite:///{tmp_path}/x.db",
                  settings={"task.steps": 8}, show=False)  # fmt: skip
    assert "is paused, for it cannot come to anything: the baseline ln-relu failed" in str(
        caught.value
    )
    assert f"late.py:{line} in loss" in str(caught.value)
    store = es.open_store(f"sqlite:///{tmp_path}/x.db")
    (info,) = store.searches()
    store.close()
    assert (info.status, info.evaluated) == ("paused", 0)


def test_a_network_that_cannot_be_differentiated_twice_is_told_before_a_search(tmp_path):
    file = tmp_path / "once.py"
    once = (
        "\nclass Once(torch.autograd.Function):\n"
        "    @staticmethod\n    def forward(ctx, x):\n        return x * 1\n"
        "    @staticmethod\n    def backward(ctx, g):\n"
        "        if torch.is_grad_enabled():\n            raise RuntimeError('once')\n"
        "        return g * 1\n"
    )
    text = LATE.replace("len(CALLS) > 6", "False").replace(
        "model(x) - y).square().mean()", "Once.apply(model(x)) - y).square().mean()"
    )
    file.write_text(text + once)
    facts = {"budget": 1, "pool": "inline", "db": "memory:", "show": False, "confirm": False}
    with pytest.raises(PluginError, match="cannot differentiate late twice"):
        es.search(f"{file}:Late", settings={"task.steps": 4}, **facts)
    off = {"task.steps": 4, "checks.stability.enabled": False, "checks.quality.enabled": False}
    assert es.search(f"{file}:Late", settings=off, **facts).status == "finished"
