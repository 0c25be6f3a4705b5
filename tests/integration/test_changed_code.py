"""An unfinished search whose plug-ins have other code now: asked about, recorded, reported."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

import evosearch as es
from api.cli import run
from api.code_change import Assent, change, changed_plugins, resumed, with_plugins
from api.rerun import stored_numbers
from api.run import extended
from api.wiring import load_state, open_database
from db.controllers import Controllers
from db.queries_rest import Notes
from db.service_writes import ServiceWrites
from db.sql_store import SqlStore
from evosearch import plugins
from evosearch.config import Plugin
from evosearch.controller import Controller
from evosearch.errors import PluginError
from evosearch.events import CandidateQueued, CodeChanged, Created
from evosearch.jobs import first_job
from evosearch.ports import ChangeCode, Pause, Resume
from evosearch.presets import load_preset
from evosearch.snapshot import dump_state, reopen
from evosearch.snapshot import load_state as read_snapshot
from evosearch.state import State
from tests.acceptance.command import COMMAND, environment
from tests.support.controlling import SMALL, controlling, seconds_until, step_until
from tests.support.events import CREATED
from tests.support.service import OFFERS, SEARCH, fill, running
from tests.unit.test_front_cli import MY_TASK, START, TOML
from workers.simulated import SimulatedPool

TEXT = MY_TASK.read_text() + "\n# of these tests alone, whatever else this process has loaded\n"


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with a search of two evaluated candidates that has one more to do."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "my_task.py").write_text(TEXT)
    (folder / "mine.toml").write_text(TOML)
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert run([*START]) == 0
        (first,) = ids(folder)
        assert run(["search", "extend", first, "1"]) == 0
    finally:
        os.chdir(before)
    (folder / "my_task.py").write_text(TEXT + "\n# changed\n")
    return folder


@pytest.fixture
def folder(begun, tmp_path, monkeypatch):
    """The same in a place of its own; the search's files are looked for where it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVOSEARCH_DB", raising=False)
    for name in ("my_task.py", "mine.toml", "evosearch.db"):
        (tmp_path / name).write_bytes((begun / name).read_bytes())
    return tmp_path


def ids(folder):
    store = open_database(f"sqlite:///{folder}/evosearch.db")
    try:
        return [one.id for one in store.searches()]
    finally:
        store.close()


def forget(store, search_id):
    """As in a process that has not executed the old code."""
    for plugin in store.search(search_id).config.task.plugins:
        plugins._LOADED.pop(plugin.sha256, None)


def changes(store, search_id):
    return [one.event for one in store.events(search_id) if isinstance(one.event, CodeChanged)]


def test_without_a_terminal_it_is_refused_with_the_option_that_says_yes(folder, begun, capsys):
    search_id = ids(folder)[0]
    store = open_database(None)
    last = store.search(search_id).last_seq
    forget(store, search_id)
    assert run(["search", "resume", search_id, "--pool", "inline"]) == 2
    told = capsys.readouterr().err
    for words in ("my_task.py", "sha256", "--accept-changed-code goes on", "other code"):
        assert words in told
    assert told.count("\n") == 1
    assert store.search(search_id).last_seq == last
    store.close()


def test_a_number_is_trained_again_with_the_code_of_its_time_or_not_at_all(folder, capsys):
    search_id = ids(folder)[0]
    store = open_database(None)
    (old,) = store.search(search_id).config.task.plugins
    forget(store, search_id)
    go_on = ["search", "resume", search_id, "--pool", "inline", "--accept-changed-code"]
    assert run(go_on) == 0
    (new,) = store.search(search_id).config.task.plugins
    members = load_state(store, search_id).members
    first, *_, last = sorted(birth for birth, one in members.items() if one.evaluated)
    for birth, plugin in ((first, old), (last, new)):
        for number in stored_numbers(store, f"{search_id}-{birth}"):
            assert [one.sha256 for one in number.job.task.plugins] == [plugin.sha256]
    store.close()
    assert run(["rerun", f"{search_id}-{last}"]) == 0
    assert "the same score" in capsys.readouterr().out
    assert run(["rerun", f"{search_id}-{first}"]) == 2
    told = capsys.readouterr().err
    assert "my_task.py has changed" in told
    assert "the number was trained with the old text: bring that back" in told
    (folder / "my_task.py").write_text(TEXT)
    assert run(["rerun", f"{search_id}-{first}"]) == 0


def test_accepted_it_goes_on_and_the_log_and_the_report_say_so(folder, capsys):
    search_id = ids(folder)[0]
    store = open_database(None)
    old = store.search(search_id).config
    forget(store, search_id)
    go_on = ["search", "resume", search_id, "--pool", "inline", "--accept-changed-code"]
    assert run(go_on) == 0
    info = store.search(search_id)
    assert (info.status, info.evaluated) == ("finished", 3)
    (event,) = changes(store, search_id)
    (before,), (after,) = old.task.plugins, info.config.task.plugins
    assert before.sha256 != after.sha256 == event.config.task.plugins[0].sha256
    assert info.config.task.anchors == old.task.anchors  # one front has one scale
    assert load_state(store, search_id).config == info.config
    capsys.readouterr()
    assert run(["search", "report", search_id]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "the code of my_task.py (sha256" in told
    assert "was changed after 2 evaluated candidates" in told
    assert run(["report", search_id, "--out", "report.md"]) == 0
    assert "was changed after 2 evaluated" in (folder / "report.md").read_text()
    assert run(["db", "check"]) == 0  # the tables are what the events say
    store.close()


def test_the_command_that_began_it_asks_and_goes_on_when_told(begun, folder, capsys, monkeypatch):
    # The search that `mine.toml` of that folder made: plug-ins are told apart by their place, too.
    database = f"sqlite:///{folder}/evosearch.db"
    store = open_database(database)
    search_id = ids(folder)[0]
    monkeypatch.chdir(begun)
    assert run([*START, "--db", database]) == 2
    assert "--accept-changed-code" in capsys.readouterr().err
    assert changes(store, search_id) == []
    assert run([*START, "--db", database, "--accept-changed-code"]) == 0
    assert store.search(search_id).status == "finished"
    assert len(changes(store, search_id)) == 1
    store.close()


def test_python_refuses_with_the_parameter_that_says_yes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "my_task.py"
    file.write_text(TEXT + "\n# one\n")

    def search(**more):
        settings = {"task.steps": 4, "checks.quality.accuracy": -9.0, "task.batch_size": 16,
                    "checks.stability.enabled": False}  # fmt: skip
        return es.search(
            ["my_task.py:TinySeq"], settings=settings, budget=2, confirm=False, pool="inline",
            db="sqlite:///runs.db", show=False, where="causal_safe", **more,
        )  # fmt: skip

    first = search()
    first.id = extended(first._store, first.id, 1)
    file.write_text(TEXT + "\n# two\n")
    with pytest.raises(PluginError, match="accept_changed_code=True"):
        search()
    run_ = search(accept_changed_code=True)
    assert (run_.id, run_.status) == (first.id, "finished")
    assert run_.state.evaluated == 3
    assert "was changed after 2 evaluated" in run_.report["notes"][0]


def at_terminal(folder, answer, *arguments):
    """Output and exit code of the command at a terminal on which somebody types ``answer``."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [*COMMAND, *arguments], cwd=folder, env=environment() | {"TERM": "dumb"}, stdin=theirs,
        stdout=theirs, stderr=theirs, close_fds=True,
    )  # fmt: skip
    os.close(theirs)
    told = b""
    try:
        while True:
            told += os.read(ours, 65536)
            if answer and b"[y/N]" in told:
                os.write(ours, f"{answer}\n".encode())
                answer = ""
    except OSError:  # the other end was closed
        pass
    finally:
        os.close(ours)
    return told.decode(), running.wait(120)


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of this kind")
def test_at_a_terminal_the_question_is_put(folder):
    search_id = ids(folder)[0]
    command = ("search", "resume", search_id, "--pool", "inline")
    told, code = at_terminal(folder, "n", *command)
    assert code == 2
    assert "/my_task.py or what it imports has changed (sha256" in told.replace("\r\n", "")
    assert "2 evaluated candidates" in told
    assert "Go on with the changed code? [y/N]" in told
    store = open_database(None)
    assert changes(store, search_id) == []
    told, code = at_terminal(folder, "y", *command)
    assert code == 0, told
    assert len(changes(store, search_id)) == 1
    assert store.search(search_id).status == "finished"
    store.close()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"bpc", "min", "bit/char"', '"bpc", "max", "bit/char"', "has other objectives than"),
        ("(model(x) - y).square().mean()\n", "(model(x) - z).square().mean()\n", "my_task.py:"),
    ],
)
def test_changed_code_that_cannot_go_on_is_refused_in_spite_of_assent(folder, old, new, words):
    file = folder / "my_task.py"
    assert old in TEXT
    file.write_text(TEXT.replace(old, new))
    store = open_database(None)
    search_id = ids(folder)[0]
    forget(store, search_id)
    info = store.search(search_id)
    moved = tuple(one.model_copy(update={"file": str(file)}) for one in info.config.task.plugins)
    task = info.config.task.model_copy(update={"plugins": moved})
    info = replace(info, config=info.config.model_copy(update={"task": task}))
    with pytest.raises(PluginError, match=words):
        resumed(store, info, Assent(True, "yes"))
    assert changes(store, search_id) == []
    store.close()
    file.write_text(TEXT)
    plugins.load(plugins.read_source(str(file)))


def test_waiting_jobs_are_of_the_new_code_and_a_snapshot_knows_it(folder):
    store = open_database(None)
    info = store.search(ids(folder)[0])
    old = info.config.task.plugins
    new = (old[0].model_copy(update={"sha256": "f" * 64}),)
    changed = CodeChanged(**change(info, new))
    state: State = load_state(store, info.id)
    member = next(iter(state.members.values()))
    event = CandidateQueued(
        birth=member.birth, graph=member.graph, digest="d", fingerprint="f", origin="random"
    )
    job = first_job(state, event)
    state.pending[job.id] = job
    state.apply(changed)
    assert state.pending[job.id].task.plugins == new
    assert read_snapshot(dump_state(state)).config == changed.config
    assert changed_plugins(old) == old  # this process has executed what it was made with
    store.close()


OWN = "import evosearch as es\nes.anchor('own-{0}', build=len)\n"


@pytest.fixture
def offered(tmp_path, monkeypatch):
    return two_texts(tmp_path, monkeypatch)


def two_texts(tmp_path, monkeypatch):
    """A plug-in of the server's settings, and its text as it is from now on."""
    file = tmp_path / "own.py"
    file.write_text(OWN.format("net"))
    monkeypatch.setenv("EVOSEARCH_PLUGINS", str(file))
    old = Plugin(name="own.py", sha256=plugins.read_source(str(file)).sha256)
    file.write_text(OWN.format("net") + "# changed\n")
    return old, Plugin(name="own.py", sha256=plugins.read_source(str(file)).sha256)


def changed_search(folder, old, new):
    """A store with a search whose plug-in has other text where the service would run it."""
    store = SqlStore(f"{folder}/store.db")
    fill(store)
    told = OFFERS | {"plugins": [
        {"name": "own.py", "sha256": new.sha256, "anchors": {}, "datasets": [], "checks": [],
         "primitives": [], "objectives": []},
    ]}  # fmt: skip
    Controllers(store).register("now", "here", 2, "inline", told)
    store.create("aaaaaaaa", "own", Created(config=with_plugins(CREATED.config, [old])))
    return store


def test_over_rest_the_field_says_yes(tmp_path, offered):
    old, new = offered
    store = changed_search(tmp_path, old, new)
    with running(tmp_path) as service, httpx.Client(base_url=service.url + "/api/v1") as http:
        refused = http.post("/searches/aaaaaaaa/resume")
        assert refused.status_code == 409
        assert "accept_changed_code: true goes on" in refused.json()["detail"]
        assert refused.json()["errors"][0]["where"] == "accept_changed_code"
        assert "own.py or what it imports has changed" in refused.json()["detail"]
        same = http.post("/searches/aaaaaaaa/resume", json={"accept_changed_code": False})
        assert same.status_code == 409
        assert http.post(f"/searches/{SEARCH}/resume").status_code == 202  # it has no plug-ins
        agreed = http.post("/searches/aaaaaaaa/resume", json={"accept_changed_code": True})
        assert (agreed.status_code, agreed.json()["command"]) == (202, "resume")
    sent = [one.command for one in store.commands(store.acquire("aaaaaaaa", "me", 60))]
    assert [one.kind for one in sent] == ["change_code", "resume"]
    assert sent[0].config == with_plugins(CREATED.config, [new])
    store.close()


def test_a_controller_runs_it_again_once_that_was_agreed_to(tmp_path, offered):
    old, new = offered
    store = SqlStore(f"{tmp_path}/store.db")
    plain = load_preset("quickstart", SMALL, seed=3)
    created = Created(config=with_plugins(plain, [old]))
    ServiceWrites(store).create("aaaaaaaa", "own", created, Notes())
    control, alerts = controlling(store)
    step_until(control, lambda: bool(control._trouble))
    assert store.search("aaaaaaaa").last_seq == 1
    store.send("aaaaaaaa", ChangeCode(**change(store.search("aaaaaaaa"), [new])))
    step_until(control, lambda: store.search("aaaaaaaa").config.task.plugins == (new,))
    control._trouble.clear()  # as after the seconds that a search in trouble waits
    step_until(control, lambda: store.search("aaaaaaaa").status == "finished")
    assert len(changes(store, "aaaaaaaa")) == 1
    control.close()
    alerts.close()
    store.close()


def test_a_search_that_is_held_gives_its_jobs_anew(tmp_path, offered):
    new = offered[1]
    store, seen = SqlStore(f"{tmp_path}/store.db"), []

    def endless(job):
        seen.append((job.id, job.task.plugins))
        return 1e9, []

    plain = load_preset("quickstart", SMALL, seed=3)
    store.create("aaaaaaaa", "own", Created(config=plain))
    lease = store.acquire("aaaaaaaa", "me", 60)
    controller = Controller(store, SimulatedPool(endless, 2), lease)
    controller.step(0.0)
    first = [name for name, _ in seen]
    store.send("aaaaaaaa", ChangeCode(config=with_plugins(plain, [new]), reason="so"))
    controller.step(0.0)
    assert seen == [*((name, ()) for name in first), *((name, (new,)) for name in first)]
    store.close()


CHECK = "import evosearch as es\n\n@es.check('own-check')\ndef own(graph):\n    return {!r}\n"


class Checked:
    """A search whose plug-in refuses layers, by other code from `change` on; its jobs never end."""

    def __init__(self, folder, monkeypatch):
        file = folder / "check.py"
        file.write_text(CHECK.format(None))
        monkeypatch.setenv("EVOSEARCH_PLUGINS", str(file))
        old = plugins.load(plugins.read_source(str(file))).plugin
        file.write_text(CHECK.format("by the new code"))
        self.new = Plugin(name=old.name, sha256=plugins.read_source(str(file)).sha256)
        self.jobs = []
        config = load_preset("quickstart", [*SMALL, "space.checks=['own-check']"], seed=3)
        self.config = with_plugins(config, [old])
        self.store = SqlStore(f"{folder}/store.db")
        self.store.create("aaaaaaaa", "own", Created(config=self.config))

    def endless(self, job):
        self.jobs.append((job.id, [one.sha256 for one in job.task.plugins]))
        return 1e9, []

    def change(self):
        changed = ChangeCode(config=with_plugins(self.config, [self.new]), reason="so")
        self.store.send("aaaaaaaa", changed)

    @contextmanager
    def changed_while(self, asked, go):
        """A controller of it, whose code changes between what sets ``asked`` and ``go``."""
        control, alerts = controlling(self.store, self.endless, 2)
        seconds_until(control, asked.is_set)
        self.change()
        seconds_until(control, self.changed)
        go.set()
        yield control
        control.close()
        alerts.close()

    def changed(self):
        return self.store.search("aaaaaaaa").config.task.plugins == (self.new,)

    def assert_checks(self, controller):
        """Fail unless it checks with the new code."""
        (check,) = controller.proposer.screen._own_checks
        assert check(None) == "by the new code"

    def assert_new(self, controller):
        """Fail unless it checks with the new code, and has given its jobs anew with it."""
        self.assert_checks(controller)
        old, new = self.jobs[:2], self.jobs[2:]  # two workers
        assert [name for name, _ in old] == [name for name, _ in new]
        assert [code for _, code in new] == [[self.new.sha256]] * 2


@pytest.fixture
def checked(tmp_path, monkeypatch):
    made = Checked(tmp_path, monkeypatch)
    yield made
    made.store.close()


def test_a_search_that_is_held_checks_with_the_new_code(checked):
    lease = checked.store.acquire("aaaaaaaa", "me", 60)
    controller = Controller(checked.store, SimulatedPool(checked.endless, 2), lease)
    controller.step(0.0)
    checked.change()
    controller.step(0.0)
    checked.assert_new(controller)


def test_code_that_changes_while_a_snapshot_is_written_is_the_code_from_then_on(
    checked, monkeypatch
):
    go, asked = threading.Event(), threading.Event()

    def slow(state):
        asked.set()
        assert go.wait(60)
        return dump_state(state)

    monkeypatch.setattr("evosearch.controller.dump_state", slow)

    def due(*_):  # once, when the workers have their jobs
        return bool(checked.jobs) and not asked.is_set()

    monkeypatch.setattr("evosearch.controller.worth_saving", due)
    with checked.changed_while(asked, go) as control:
        seconds_until(control, lambda: control._held["aaaaaaaa"].saving is None)
        checked.assert_new(control._held["aaaaaaaa"].controller)


@pytest.mark.parametrize("when", ["before its log is read", "after it"])
def test_code_that_changes_while_a_search_is_opened_is_the_code_from_then_on(
    checked, monkeypatch, when
):
    go, asked = threading.Event(), threading.Event()

    def slow(store, search_id):
        found = reopen(store, search_id) if when == "after it" else None
        asked.set()
        assert go.wait(60)
        return found or reopen(store, search_id)

    monkeypatch.setattr("evosearch.controller.reopen", slow)
    with checked.changed_while(asked, go) as control:
        seconds_until(control, lambda: bool(control.held))
        checked.assert_checks(control._held["aaaaaaaa"].controller)


def test_code_that_changes_in_a_pause_is_the_code_from_then_on(checked):
    control, alerts = controlling(checked.store, checked.endless, 2)
    seconds_until(control, lambda: bool(checked.jobs))
    checked.store.send("aaaaaaaa", Pause())
    seconds_until(control, lambda: "aaaaaaaa" in control._openings._kept)
    checked.change()
    checked.store.send("aaaaaaaa", Resume())
    seconds_until(control, lambda: len(checked.jobs) == 4)
    checked.assert_new(control._held["aaaaaaaa"].controller)
    control.close()
    alerts.close()
