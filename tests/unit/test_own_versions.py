"""A user's code in versions and parts: each hash runs its own text, whatever came before it."""

from __future__ import annotations

import json
import linecache
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy
import pytest

from evosearch import plugin_sources, plugins
from evosearch.errors import PluginError
from evosearch.own import REGISTER
from evosearch.plugins import Source, adopt, ensure, find, load, loaded, read_source, receive

TASK = """
from their_own_parts import WIDTH
import evosearch as es

def build(layer):
    from their_own_parts.late import LATE
    return layer(WIDTH), LATE

es.anchor("versions", build=build)
"""


def write(home, width):
    package = home / "their_own_parts"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(f"WIDTH = {width}\n")
    (package / "late.py").write_text(f"LATE = 'late {width}'\n")


def built():
    return REGISTER.find("anchor", "versions").value.made_by(lambda channels: channels)


@pytest.mark.parametrize("travels", [True, False])
def test_two_versions_of_a_users_package_live_side_by_side(tmp_path, travels):
    """A worker that has run one version of a search runs another one with that one's package."""
    home, file = tmp_path / "home", tmp_path / f"task_{travels}.py"
    file.write_text(TASK + f"# {travels}\n")
    made = []
    for width in (6, 9):
        write(home, width)
        source = read_source(str(file), home)
        if travels:
            received = {}
            receive(json.loads(json.dumps(source.to_json())), received)
            (source,) = received.values()
        made.append(load(source).plugin)
        assert made[-1].sha256 == source.sha256
    assert made[0].sha256 != made[1].sha256
    for plugin, width in ((made[1], 9), (made[0], 6), (made[1], 9), (made[0], 6)):
        ensure([plugin])
        assert built() == (width, f"late {width}")


def test_an_installed_module_is_not_hidden_by_a_users_file_of_its_name(tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('decoy')\n")
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("raise SystemExit('decoy')\n")
    file = tmp_path / "task.py"
    file.write_text("import json, numpy\nimport evosearch as es\n"
                    "es.anchor('plain-names', build=lambda layer: numpy.ones(1))\n")  # fmt: skip
    for path in (None, tmp_path):
        made = load(read_source(str(file), path))
        assert (made.module.json, made.module.numpy) == (json, numpy)
        assert list(REGISTER.find("anchor", "plain-names").value.made_by(len)) == [1.0]


def test_what_lies_beside_a_file_and_is_imported_belongs_to_it(tmp_path):
    (tmp_path / "beside_it.py").write_text("from beside_that.deep import WIDTH\n")
    (tmp_path / "beside_that").mkdir()
    (tmp_path / "beside_that" / "deep.py").write_text("WIDTH = 5\n")
    (tmp_path / "unused.py").write_text("raise SystemExit('not imported')\n")
    file = tmp_path / "task.py"
    file.write_text("from beside_it import WIDTH\nimport evosearch as es\n"
                    "es.anchor('besides', build=lambda layer: layer(WIDTH))\n")  # fmt: skip
    source = read_source(str(file))
    assert [path for path, _ in source.extra] == ["beside_it.py", "beside_that/deep.py"]
    assert find(source.plugin).sha256 == source.sha256
    load(source)
    assert REGISTER.find("anchor", "besides").value.made_by(lambda channels: channels) == 5
    (tmp_path / "beside_that" / "deep.py").write_text("WIDTH = 7\n")
    with pytest.raises(PluginError, match="has changed"):
        find(source.plugin)
    load(read_source(str(file)))
    assert REGISTER.find("anchor", "besides").value.made_by(lambda channels: channels) == 7


@pytest.mark.parametrize(
    ("taken", "line"),
    [("db/mine.py", "from db import mine"), ("db/mine.py", "import db.mine as theirs"),
     ("workers.py", "import workers"), ("api/__init__.py", "from api import WIDTH"),
     ("evosearch/mine.py", "from evosearch.mine import WIDTH")],
)  # fmt: skip
@pytest.mark.parametrize("with_path", [False, True])
def test_an_import_by_a_name_of_ours_is_refused_in_one_line(tmp_path, taken, line, with_path):
    home = tmp_path / "home" if with_path else tmp_path
    module = home / taken
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text("WIDTH = 3\n")
    file = tmp_path / "task.py"
    plain = "import evosearch as es\nes.anchor('taken', build=lambda layer: layer(3))\n"
    file.write_text(plain + line + "\n")
    top = Path(taken).parts[0].removesuffix(".py")
    words = f"task.py:3: evosearch has a package {top} of its own.*rename {top}"
    with pytest.raises(PluginError, match=words) as caught:
        read_source(str(file), home if with_path else None)
    assert "\n" not in str(caught.value)
    file.write_text(plain)  # what is not imported does no harm
    assert read_source(str(file), home if with_path else None).text == plain


def test_an_import_of_ours_is_no_import_of_the_users(tmp_path):
    for folder in ("db", "workers", "evosearch/evosearch"):  # a checkout beside the file, too
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "other.py").write_text("")
    file = tmp_path / "task.py"
    file.write_text(
        "from db.memory import MemoryStore\nfrom workers.anchors import ANCHORS\n"
        "from evosearch import Objective\nfrom evosearch.config import Task\n"
    )
    assert read_source(str(file)).extra == ()


def test_an_error_beside_a_file_names_its_line(tmp_path):
    (tmp_path / "wrong_beside.py").write_text("\n\n1 / 0\n")
    file = tmp_path / "task.py"
    file.write_text("import wrong_beside\n")
    with pytest.raises(PluginError, match=r"wrong_beside\.py:3: 1 / 0"):
        load(read_source(str(file)))


def test_two_plugins_of_one_search_do_not_bring_different_modules_of_one_name(tmp_path):
    made = []
    for width in (1, 2):
        folder = tmp_path / str(width)
        folder.mkdir()
        (folder / "same_name.py").write_text(f"WIDTH = {width}\n")
        file = folder / f"task{width}.py"
        file.write_text("import same_name\nimport evosearch as es\n"
                        f"es.anchor('same-{width}', build=len)\n")  # fmt: skip
        made.append(load(read_source(str(file))).plugin)
    with pytest.raises(PluginError, match=r"different modules same_name.*same_name\.py of task1"):
        ensure(made)


def test_a_script_keeps_its_plugin_path_and_its_own_modules(tmp_path, monkeypatch):
    """What a script registers itself goes to workers with the package that it imports."""
    home = tmp_path / "home"
    write(home, 4)
    (home / "their_own_parts").rename(home / "script_parts")
    file = tmp_path / "script_of_mine.py"
    file.write_text(TASK.replace("versions", "scripted").replace("their_own_parts", "script_parts"))
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.syspath_prepend(str(tmp_path))
    import script_of_mine

    mine = sys.modules["script_parts"]
    adopted = adopt("script_of_mine", home)
    assert {path for path, _ in adopted.source.extra} == {
        "script_parts/__init__.py", "script_parts/late.py",
    }  # fmt: skip
    assert sys.modules["script_parts"] is mine
    assert script_of_mine.WIDTH == 4
    REGISTER.forget("script_of_mine")


def test_a_plugin_that_ends_the_process_is_an_error_of_its_line(tmp_path):
    file = tmp_path / "leaves.py"
    file.write_text("import sys\n\nsys.exit(0)\n")
    for _ in range(2):
        with pytest.raises(PluginError, match=r"leaves\.py:3: sys\.exit\(0\).*ends the process"):
            load(read_source(str(file)))


def test_a_bad_row_is_refused_each_time(tmp_path):
    file = tmp_path / "rows.py"
    file.write_text(
        "import evosearch as es\nes.anchor('rows', build=len)\n"
        "es.primitive(es.Primitive('wrongrow', 1, 'torch.atan(a)', 'sympy.atan(a)', 'other({a})',\n"
        "    forward=lambda a, eps: a, vjp=lambda g, y, a, eps: (g,)))\n"
    )
    source = read_source(str(file))
    for _ in range(2):
        with pytest.raises(PluginError, match=r"rows\.py:3: the primitive wrongrow is wrong"):
            load(source)
    assert loaded(source.sha256) is None


def cell(name, text, space):
    """Run a cell as a notebook does: its lines are known under a name of its own."""
    file = f"<cell {name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    exec(compile(text, file, "exec"), space)


CELLS = {
    "helper": "def helper(x):\n    return x * FACTOR\n",
    "factor": "FACTOR = 2\n",
    "base": "class Base:\n    def shared(self):\n        return OTHER\n",
    "other": "OTHER = ('a', 1)\n",
    "unused": "def unused():\n    return 1\n",
    "task": "import evosearch as es\n\n@es.evaluator('in-cells', objectives=[es.Objective('a')])\n"
    "def f(layer, ctx):\n    return {'a': helper(1.0)}\n\n@es.anchor('cells-too', slot='norm')\n"
    "class Task(Base):\n    def data(self, ctx): pass\n    def build(self, layer): pass\n"
    "    def loss(self, model, batch): pass\n    def evaluate(self, model, batches): pass\n"
    "    objectives = [es.Objective('a')]\n",
}


@pytest.mark.parametrize("typed", [False, True])
def test_a_notebooks_hash_follows_the_cells_that_its_code_reaches(typed):
    """``typed``: on standard input, of which Python keeps no lines."""
    hashes = {}
    for changed in (None, *CELLS):
        module = types.ModuleType("a_notebook")
        sys.modules["a_notebook"] = module
        try:
            for name, text in CELLS.items():
                if name == changed:
                    text = text.replace("x * F", "x + F").replace("= 2", "= 3").replace("('a'", (
                        "('b'")).replace("return OTHER", "return [OTHER]").replace(
                        "return 1", "return 2").replace("helper(1.0)", "helper(2.0)")  # fmt: skip
                    assert text != CELLS[name]
                if typed:
                    exec(compile(text, "<stdin>", "exec"), module.__dict__)
                else:
                    cell(name, text, module.__dict__)
            hashes[changed] = adopt("a_notebook").source.sha256
        finally:
            REGISTER.forget("a_notebook")
            del sys.modules["a_notebook"]
    assert hashes["unused"] == hashes[None]
    for name in CELLS.keys() - {"unused"}:
        assert hashes[name] != hashes[None], name


@pytest.fixture
def installed(tmp_path, monkeypatch):
    package = tmp_path / "site" / "their_installed"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "plug.py").write_text(
        "from their_installed.widths import WIDTH\nimport evosearch as es\n"
        "es.anchor('installed', build=lambda layer: layer(WIDTH))\n"
    )
    (package / "widths.py").write_text("WIDTH = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    point = EntryPoint("theirs", "their_installed.plug", plugin_sources.GROUP)
    monkeypatch.setattr(plugin_sources, "entry_points", lambda group: [point])
    yield package
    for name in [one for one in sys.modules if one.startswith("their_installed")]:
        del sys.modules[name]


def test_an_entry_points_hash_is_that_of_its_whole_package(installed):
    source = read_source("theirs")
    assert len(source.extra) == 3
    (installed / "widths.py").write_text("WIDTH = 4\n")
    assert read_source("theirs").sha256 != source.sha256
    with pytest.raises(PluginError, match=r"other code of the plug-in theirs is installed here"):
        load(Source.from_json(source.to_json()))


def test_an_entry_point_runs_where_it_is_not_installed(installed, monkeypatch):
    told = json.loads(json.dumps(read_source("theirs").to_json()))
    monkeypatch.setattr(plugin_sources, "entry_points", lambda group: [])
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(installed.parent)])
    sources = {}
    receive(told, sources)
    (source,) = sources.values()
    load(source)
    assert REGISTER.find("anchor", "installed").value.made_by(lambda channels: channels) == 3
    assert sys.modules["their_installed.widths"].__file__.endswith("widths.py")


def test_a_package_too_large_to_travel_is_compared_all_the_same(installed, monkeypatch):
    monkeypatch.setattr(plugin_sources, "MAX_FILES", 2)
    source = read_source("theirs")
    assert [path for path, _ in source.extra] == ["*"]
    load(Source.from_json(source.to_json()))
    (installed / "widths.py").write_text("WIDTH = 5\n")
    assert read_source("theirs").sha256 != source.sha256
    plugins._LOADED.pop(source.sha256)
    monkeypatch.setattr(plugin_sources, "entry_points", lambda group: [])
    with pytest.raises(PluginError, match="too large to be sent"):
        load(source)


def test_a_server_offers_a_package_for_its_plugins(tmp_path, monkeypatch):
    home, file = tmp_path / "home", tmp_path / "served_task.py"
    write(home, 8)
    file.write_text(TASK)
    monkeypatch.setenv("EVOSEARCH_PLUGINS", str(file))
    monkeypatch.setenv("EVOSEARCH_PLUGIN_PATH", str(home))
    (source,) = plugins.registered_sources()
    load(source)
    assert built() == (8, "late 8")
    plugins._LOADED.pop(source.sha256)
    ensure([source.plugin], registered_only=True)
    assert built() == (8, "late 8")
