"""Own code on the command line, over REST and in alerts; configs go round."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from api.alerts import Alerts
from api.cli import run
from api.offers import offers
from api.own_config import complete, own_config
from api.problems import Refused
from api.rest.own import name_objectives, with_offered_plugins
from api.skeletons import skeleton
from evosearch.config import Anchor, Plugin, SearchConfig, Task
from evosearch.errors import ConfigError, PluginError
from evosearch.objectives import ACCURACY, Objective
from evosearch.own import REGISTER, collecting
from evosearch.plugins import ensure, load, read_source
from evosearch.presets import config_from, load_preset, preset_names, to_toml

MY_TASK = Path(__file__).parents[1] / "support" / "my_task.py"
TOML = """
preset = "mine"
series = "S"
[space]
op_set = "paper+token"
where = "causal_safe"
[task]
steps = 6
batch_size = 16
[[task.anchors]]
name = "my_task.py:TinySeq"
[checks.quality]
steps = 2
accuracy = -9.0
[checks.stability]
enabled = false
[confirmation]
enabled = false
[budget]
evaluations = 2
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVOSEARCH_DB", raising=False)
    (tmp_path / "my_task.py").write_text(MY_TASK.read_text())
    (tmp_path / "mine.toml").write_text(TOML)
    return tmp_path


START = ("search", "start", "mine.toml", "--pool", "inline")


def test_a_dry_run_says_what_it_would_do_and_stores_nothing(folder, capsys):
    assert run([*START, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "anchor tiny-seq: micro, bpc, bit/char, lower is better" in told
    assert "plug-in my_task.py: sha256" in told
    assert "baselines: token_ln-gelu, dyt" in told
    assert not (folder / "evosearch.db").exists()


def test_a_dry_run_tells_what_is_rare_and_what_does_not_count(folder, capsys):
    start = ("search", "start", "quickstart", "--dry-run", "--set")
    form = 'space.template="x * f(x) / g(x)"'
    assert run([*start, form]) == 0
    told = capsys.readouterr().out
    assert "note: evolution.operators do not count: edits, crossover among them" in told
    assert run([*start, form, "--set", "evolution.sure_edits=true"]) == 0
    assert "note: evolution.operators and evolution.sure_edits do not" in capsys.readouterr().out
    assert run([*start, form, "--set", "evolution.operators={paper=1.0}"]) == 0
    assert "note:" not in capsys.readouterr().out
    assert run([*start, "space.where='scale_invariant and live_nodes > 60'"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"of 1,\d\d\d random graphs 0 pass: where; below 0\.\d+ % \(95 %\)", told)
    assert "note:" not in told
    assert "this search would hardly find a layer" in told
    more = ("--set", 'space.deny=["exp"]', "--set", form, "--set", "space.nodes=4")
    assert run([*start, "space.where='bounded and live_nodes <= 9'", *more]) == 0
    told = capsys.readouterr().out
    shares = re.findall(r"of ([\d,]+) random graphs ([\d,]+) pass: ([^;\n]+)", told)
    names = ["nodes", "template", "deny", "layers", "where bounded", "where live_nodes <= 9"]
    assert [name for *_, name in shares][: len(names)] == names
    assert shares[1][1] == "0", "free layers of this form are rare, and a search draws no others"
    assert "everything is in order" in told
    assert run([*start, "space.where='mean_score > 0.5'"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "mean_score cannot be asked of a proposal: its graph alone does not tell it" in told
    assert "scale_invariant" in told


def test_a_broken_file_is_refused_before_anything_is_stored(folder, capsys):
    file = folder / "my_task.py"
    file.write_text(file.read_text().replace('return {"bpc"', 'return {"bits"'))
    assert run([*START]) == 2
    assert "does not return the objective bpc" in capsys.readouterr().err
    assert not (folder / "evosearch.db").exists()


def test_start_diff_and_changed_code(folder, capsys):
    assert run([*START]) == 0
    assert run(["search", "list"]) == 0
    listed = capsys.readouterr().out
    search_id = next(line.split()[0] for line in listed.splitlines() if "finished" in line)
    assert run(["search", "show", search_id, "--config"]) == 0
    text = capsys.readouterr().out
    again = config_from(tomllib.loads(text))
    assert again.task.anchors[0].objective.unit == "bit/char"
    assert again.task.anchors[0].quality == again.task.anchors[0].reference < 0
    (folder / "again.toml").write_text(text.replace("seed = 0", "seed = 1"))
    assert run(["search", "diff", search_id, "again.toml"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "seed: 0 -> 1"
    assert told[1].startswith(f"{search_id}: finished, 2 evaluated")
    assert len(told) == 2
    assert run(["search", "diff", search_id, "mine.toml"]) == 0  # the very file that made it
    assert capsys.readouterr().out.splitlines()[0] == "the settings are the same"


def test_an_unfinished_search_asks_when_its_code_has_changed(folder, capsys):
    from api.wiring import new_id, open_database, versions
    from evosearch.events import Created

    (folder / "my_task.py").write_text(MY_TASK.read_text() + "\n# as it was\n")
    config = complete(own_config(
        ["my_task.py:TinySeq"], preset=None, settings={"task.steps": 6}, baselines=None,
        checks=(), objectives=(), plugin_path=None))  # fmt: skip
    store = open_database(None, create=True)
    search_id = new_id()
    store.create(search_id, "t", Created(config=config, versions=versions()))
    store.close()
    (folder / "my_task.py").write_text(MY_TASK.read_text() + "\n# changed\n")
    from evosearch import plugins

    plugins._LOADED.pop(config.task.plugins[0].sha256)
    try:
        assert run(["search", "resume", search_id, "--pool", "inline"]) == 2
    finally:
        load(read_source(str(MY_TASK)))
    told = capsys.readouterr().err
    assert "my_task.py or what it imports has changed (sha256" in told
    assert told.count("\n") == 1


def test_every_search_but_the_papers_proposes_as_the_quickstart_does():
    quick = load_preset("quickstart")
    own = own_config(
        [f"{MY_TASK}:TinySeq"], preset=None, settings={}, baselines=None, checks=(),
        objectives=(), plugin_path=None,
    )  # fmt: skip
    others = [own, *map(load_preset, ("cifar10-cpu", "cifar10-gpu", "shakespeare-cpu"))]
    size = ("population_size", "tournament_share", "warm_up", "experience")
    for config in others:
        assert config.space.draw == quick.space.draw
        told = config.evolution.model_dump(exclude=set(size))
        assert told == quick.evolution.model_dump(exclude=set(size))
        convolutional = config.preset.startswith("cifar10")
        assert config.evolution.experience is convolutional


@pytest.mark.parametrize("name", preset_names())
def test_a_presets_config_goes_round(name):
    config = load_preset(name)
    assert config_from(tomllib.loads(to_toml(config))) == config


def test_an_own_config_goes_round():
    config = complete(own_config(
        [f"{MY_TASK}:TinySeq", "resnet"], preset=None,
        settings={"task.steps": 6, "space.start_from": ["dyt"], "space.template": "x * f(x)"},
        baselines=["dyt"], checks=["no-exp"], objectives=["parameters"], plugin_path=None,
    ))  # fmt: skip
    assert config_from(tomllib.loads(to_toml(config))) == config
    assert len(config.task.plugins) == 1
    assert list(config.coordinates) == [
        "tiny-seq", "resnet", "tiny-seq#parameters", "resnet#parameters",
    ]  # fmt: skip


def test_plugins_of_the_option_bring_data_and_primitives(folder, capsys):
    for kind, name in (("dataset", "stripes"), ("primitive", "arctan")):
        assert run(["new", kind, name]) == 0
    told = capsys.readouterr().out
    assert "written: stripes.py" in told
    assert run(["new", "dataset", "stripes"]) == 2
    assert run([
        "search", "start", "quickstart", "--pool", "inline", "--plugin", "stripes.py",
        "--set", "task.dataset=stripes", "--dry-run",
    ]) == 0  # fmt: skip
    assert "plug-in stripes.py" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["anchor", "dataset", "primitive"])
def test_a_skeletons_own_test_passes(tmp_path, kind):
    name = f"my-{kind}"
    files = skeleton(kind, name)
    for path, text in files.items():
        (tmp_path / path).write_text(text)
    test = next(path for path in files if path.startswith("test_"))
    space = {"__name__": "t", "__file__": str(tmp_path / test)}
    exec(compile((tmp_path / test).read_text(), str(tmp_path / test), "exec"), space)
    functions = [thing for name, thing in space.items() if name.startswith("test_")]
    assert functions
    for function in functions:
        function()


@pytest.mark.parametrize("name", ["Bad", "a b", "1x", "../x"])
def test_a_skeleton_of_no_name_is_refused(name):
    with pytest.raises(ConfigError, match="cannot be a name"):
        skeleton("anchor", name)


@pytest.fixture
def offered(monkeypatch):
    monkeypatch.setenv("EVOSEARCH_PLUGINS", str(MY_TASK))
    return offers()


def test_a_request_names_what_the_server_registered_and_nothing_else(offered):
    (plugin,) = offered["plugins"]
    assert set(plugin["anchors"]) == {"my-net", "my-model", "tiny-seq", "my-eval"}
    plain = SearchConfig(task=Task(anchors=(Anchor(name="tiny-seq"),)))
    config = with_offered_plugins(offered, plain)
    (used,) = config.task.plugins
    assert (used.sha256, used.file) == (plugin["sha256"], "")
    (anchor,) = config.task.anchors
    assert set(anchor.forbids) == {"batch", "positions"}
    assert anchor.quality < 0
    assert config.baselines == ("token_ln-gelu", "dyt")
    foreign = plain.task.model_copy(
        update={"plugins": (Plugin(name="evil.py", file="/etc/passwd"),)}
    )
    with pytest.raises(Refused, match="EVOSEARCH_PLUGINS"):
        with_offered_plugins(offered, plain.model_copy(update={"task": foreign}))
    told = Plugin(name="my_task.py", sha256=plugin["sha256"], file="/elsewhere.py")
    known = plain.task.model_copy(update={"plugins": (told,)})
    (kept,) = with_offered_plugins(offered, plain.model_copy(update={"task": known})).task.plugins
    assert kept.file == ""


def test_a_request_may_ask_for_an_objective_that_a_plugin_measures(offered):
    (plugin,) = offered["plugins"]
    assert plugin["objectives"]["width"]["direction"] == "min"
    for goals, used in (((ACCURACY, Objective("width", "min")), 1), ((ACCURACY,), 0)):
        anchor = Anchor(name="resnet", objectives=goals)
        config = with_offered_plugins(offered, SearchConfig(task=Task(anchors=(anchor,))))
        assert [one.sha256 for one in config.task.plugins] == [plugin["sha256"]] * used
        assert config.task.anchors[0].objectives == goals


def test_a_request_names_further_objectives_as_a_file_of_settings_does(offered):
    data = {"task": {"anchors": [{"name": "tiny-seq"}, {"name": "resnet"}],
                     "objectives": ["width", "parameters"]}}  # fmt: skip
    name_objectives(offered, data)
    assert "objectives" not in data["task"]
    config = with_offered_plugins(offered, config_from(data))
    assert list(config.coordinates) == [
        "tiny-seq", "resnet", "tiny-seq#width", "tiny-seq#parameters", "resnet#width",
        "resnet#parameters",
    ]  # fmt: skip
    assert config.objective("tiny-seq").unit == "bit/char"
    assert config.objective("resnet#width").direction == "min"
    (used,) = config.task.plugins
    assert used.name == "my_task.py"
    for wrong in ("my_task.py:width", 3, ["my_task.py:width"]):
        with pytest.raises(Refused, match="expected a list of names among"):
            name_objectives(offered, {"task": {"objectives": wrong}})


def test_a_controller_follows_no_path_of_a_config(tmp_path, monkeypatch):
    file = tmp_path / "own.py"
    file.write_text("import evosearch as es\nes.anchor('own-1', build=len)\n")
    plugin = read_source(str(file)).plugin
    monkeypatch.delenv("EVOSEARCH_PLUGINS", raising=False)
    with pytest.raises(PluginError, match="is not here"):
        ensure([plugin], registered_only=True)
    monkeypatch.setenv("EVOSEARCH_PLUGINS", str(file))
    ensure([plugin], registered_only=True)
    assert REGISTER.find("anchor", "own-1") is not None


def test_alert_sinks_hear_and_a_broken_one_holds_nothing_up():
    import evosearch as es

    heard = []
    with collecting() as register:
        es.alert_sink("broken")(lambda alert: 1 / 0)
        es.alert_sink("good")(heard.append)
    REGISTER.replace(register.entries())
    try:
        alerts = Alerts(None, None, 60.0)
        alerts.tell("finished", "abc", "it is done")
        alerts.close()
    finally:
        REGISTER.forget(__name__)
    assert heard == [{"alert": "finished", "search": "abc", "text": "it is done"}]


SINK = """
import evosearch as es

@es.alert_sink("noted")
def noted(alert):
    with open("alerts.txt", "a") as file:
        print(alert["alert"], alert["search"], file=file)
"""


def test_a_sink_hears_of_searches_that_no_service_runs(folder, capsys):
    """From the command line and from Python, finished and in trouble."""
    import evosearch as es

    (folder / "sink.py").write_text(SINK)
    assert run([*START, "--plugin", "sink.py"]) == 0
    search_id = capsys.readouterr().out.split()[2]
    assert (folder / "alerts.txt").read_text() == f"finished {search_id}\n"
    quiet = {"task.steps": 4, "checks.quality.accuracy": -9.0, "checks.stability.enabled": False}
    made = es.search("my_task.py:TinySeq", budget=1, pool="inline", db="memory:", confirm=False,
                     settings=quiet, show=False)  # fmt: skip
    assert (folder / "alerts.txt").read_text().splitlines()[1:] == [f"finished {made.id}"]
    failing = MY_TASK.read_text().replace("return {\"bpc\"", "raise_later(model)\n        "
                                          "return {\"bpc\"")  # fmt: skip
    failing += (
        "\ndef raise_later(model, seen=[]):\n    seen.append(1)\n"
        "    if len(seen) > 1:\n        raise ValueError('later')\n"
    )
    (folder / "later.py").write_text(failing)
    with pytest.raises(PluginError, match="cannot come to anything"):
        es.search("later.py:TinySeq", budget=9, pool="inline", db="sqlite:///t.db", confirm=False,
                  settings=quiet, show=False)  # fmt: skip
    assert (folder / "alerts.txt").read_text().splitlines()[2].startswith("failed ")
    load(read_source(str(MY_TASK)))
    for entry in REGISTER.entries():
        if entry.name == "noted":
            REGISTER.forget(entry.module)


def test_extend_means_the_same_on_the_command_line_and_in_python(folder, capsys):
    """So many further evaluations; of an ended search a copy has them."""
    import evosearch as es
    from api.wiring import open_database

    assert run([*START]) == 0
    first = capsys.readouterr().out.split()[2]
    assert run(["search", "extend", first, "2", "--enqueue", "tanh(x)"]) == 0
    told = capsys.readouterr().out
    assert f"search {first} is finished and stays as it is" in told
    copy = told.split("evosearch search resume ")[1].split()[0]
    assert run(["search", "resume", copy, "--pool", "inline"]) == 0
    store = open_database(None)
    assert (store.search(first).evaluated, store.search(copy).evaluated) == (2, 4)
    capsys.readouterr()
    assert run(["search", "extend", copy, "1"]) == 0
    store.close()
    quiet = {"task.steps": 4, "checks.quality.accuracy": -9.0, "checks.stability.enabled": False}
    made = es.search("my_task.py:TinySeq", budget=2, pool="inline", confirm=False, show=False,
                     settings=quiet)  # fmt: skip
    first = made.id
    made.enqueue("tanh(v1 * x)", note="for later")  # after the end: it waits for extend
    assert (made.id, made.state.evaluated) == (first, 2)
    with pytest.raises(es.EvosearchError):
        made.enqueue("nothing(x)")
    made.extend(evaluations=2)
    assert made.id != first
    assert made.state.evaluated == 4
    mine = [made.candidate(birth) for birth in made.state.population]
    assert "tanh(v1 * x)" in [one.formula for one in mine if one.origin == "enqueued"]
    made.close()


def test_extensions_that_wait_for_a_controller_add_up():
    from api.run import extended
    from api.runner import act_on_commands
    from api.wiring import load_state, versions
    from db.memory import MemoryStore
    from evosearch.events import Created

    store = MemoryStore()
    config = SearchConfig(task=Task(anchors=(Anchor(name="resnet"),)))
    store.create("abcd2345", "t", Created(config=config, versions=versions()))
    lease = store.acquire("abcd2345", "a controller", 60.0)
    for _ in range(2):
        extended(store, "abcd2345", 10)
    assert [one.command.evaluations for one in store.commands(lease)] == [110, 120]
    store.release(lease)
    act_on_commands(store, "abcd2345")
    assert load_state(store, "abcd2345").target == 120
    extended(store, "abcd2345", 5)
    assert [one.command.evaluations for one in store.commands(lease)] == [125]


def test_a_whole_script_of_a_users_steers_after_the_end(folder):
    """Own and built-in anchor, constraint, template, known layers, two limits; then more of it."""
    import evosearch as es

    run = es.search(
        anchors=["my_task.py:TinySeq", "vit"], where="causal_safe and live_nodes <= 6",
        template="x * f(x) / g(x)", start_from=["dyt", "x / rms_token(x)"], seed=0, pool="inline",
        db="sqlite:///runs.db", budget=es.Budget(evaluations=3, hours=10), show=False,
        settings={"task.steps": 3, "task.batch_size": 16, "task.select_rows": 60,
                  "checks.stability.steps": 1,
                  "checks.quality.accuracy": -9.0, "confirmation.top": 1, "confirmation.seeds": 1,
                  "confirmation.tune_seeds": 1, "confirmation.final_seeds": 3,
                  "confirmation.resamples": 50,
                  "confirmation.learning_rates": [0.2]},
    )  # fmt: skip
    assert (run.status, run.state.evaluated) == ("finished", 3)
    first = run.id
    run.enqueue("tanh(v1 * x)")
    run.extend(evaluations=2)
    assert (run.status, run.state.evaluated) == ("finished", 5)
    assert run.id != first
    assert run._store.search(first).evaluated == 3
    assert "tanh(v1 * x)" in [run.candidate(birth).formula for birth in run.state.population]
    assert run.leader.module(64).num_features == 64
    assert "bit/char" in run.leader.explain() + run.table()
    run.close()


def test_a_first_pass_that_hangs_crashes_or_leaves_costs_a_search_nothing(folder, monkeypatch):
    import evosearch as es

    text = MY_TASK.read_text()
    for name, seconds, code, words in (
        ("hangs", "4", "while True: pass", r"longer than 4 s; EVOSEARCH_PREFLIGHT_SECONDS"),
        ("crashes", "60", "__import__('ctypes').string_at(0)", "process died: signal 11"),
        ("leaves", "60", "raise SystemExit(0)", "ends the process: exit code 0"),
    ):
        monkeypatch.setenv("EVOSEARCH_PREFLIGHT_SECONDS", seconds)
        file = folder / f"{name}.py"
        file.write_text(text.replace("        x, y = batch", f"        {code}", 1))
        line = text.splitlines().index("        x, y = batch") + 1
        with pytest.raises(PluginError, match=words) as caught:
            es.search(f"{file}:TinySeq", budget=1, pool="inline", db="memory:", show=False)
        assert f"{name}.py:{line} in loss" in str(caught.value)
    load(read_source(str(MY_TASK)))


def test_a_first_pass_in_an_interpreter_of_its_own_says_the_same(folder, monkeypatch):
    """Where a fork will not do: beside a GPU, and in a controller with Ray."""
    from api import first_pass

    config = own_config(["my_task.py:TinySeq"], preset=None, settings={"task.steps": 6},
                        baselines=None, checks=(), objectives=(), plugin_path=None)  # fmt: skip
    asked = (config.task, "tiny-seq", "token_ln-gelu", config.checks.stability)
    forked = first_pass.first_pass(*asked)
    monkeypatch.setattr(first_pass, "_can_fork", lambda: False)
    assert first_pass.first_pass(*asked) == forked
    (folder / "my_task.py").unlink()  # the text goes along
    assert first_pass.first_pass(*asked) == forked


def test_a_file_of_settings_may_name_its_plugins(folder, capsys):
    named = TOML.replace("my_task.py:TinySeq", "tiny-seq")
    table = '[[task.plugins]]\nname = "my_task.py"\n'
    named = named.replace("[checks.quality]", table + "[checks.quality]")
    (folder / "named.toml").write_text(named)
    assert run(["search", "start", "named.toml", "--pool", "inline", "--dry-run"]) == 0
    assert "anchor tiny-seq" in capsys.readouterr().out


def test_a_primitive_of_a_plugin_is_searched_and_read_again(folder, capsys):
    assert run(["new", "primitive", "arcsinus"]) == 0
    text = (folder / "arcsinus.py").read_text()
    (folder / "arcsinus.py").write_text(text.replace('"odd", "bounded", ', '"odd", '))
    assert run([
        "search", "start", "mine.toml", "--pool", "inline", "--plugin", "arcsinus.py",
        "--set", 'space.primitives=["arcsinus"]', "--set", 'space.start_from=["arcsinus(x)"]',
        "--set", "checks.signal.enabled=false",
    ]) == 0  # fmt: skip
    from api.wiring import load_state, open_database

    store = open_database(None)
    (info,) = store.searches()
    state = load_state(store, info.id)
    store.close()
    assert state.members[0].graph.nodes[0].op == "arcsinus"
    assert run(["search", "front", info.id]) == 0
    for told, *command in (
        ["arcsinus(x)\n", "export", f"{info.id}-0", "--format", "formula"],
        ["token_ln-gelu", "rerun", f"{info.id}-token_ln-gelu", "--list"],
    ):
        done = subprocess.run(  # a process that has not loaded the plug-in yet
            [sys.executable, "-c", "from api.cli import main; main()", *command],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert told in done.stdout
