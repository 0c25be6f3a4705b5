"""The process in which a user's own anchor is tried: it may hang, crash, or do anything.

Findings go to the parent as lines of JSON on a pipe of their own; what the user's code prints goes
to standard error. In a check network access is refused, so that a download shows before a search.
It ends with its parent, and everything that was started ends with it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from api.process_tree import supervised
from evosearch.garbage import collect_rarely
from evosearch.plugins import user_line

SAMPLE_SECONDS = 0.5
SLOW_SECONDS, TOO_SLOW_SECONDS = 5.0, 20.0
"""A plug-in that takes so long to load is named, and one that takes the second is refused."""
NETWORK = frozenset({"socket.connect", "socket.getaddrinfo", "socket.gethostbyname"})


def main() -> None:
    """Do what the JSON on standard input says."""
    collect_rarely()
    wanted = json.loads(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    check(wanted)


def check(wanted: dict[str, Any]) -> NoReturn:
    """Do it, tell what came of it on standard output, and end the process with all it started."""
    if wanted.get("device") == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what needs a GPU fails on hosts with one, too
    supervised(lambda: _work(wanted))


def _work(wanted: dict[str, Any]) -> NoReturn:
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    faulthandler.enable(file=2)  # a crash in C tells the line, too
    watching = _Watch(out)
    try:
        (_preflight if "preflight" in wanted else _check)(wanted, out, watching)
    except SystemExit as err:
        line = user_line(err) or watching.line
        _say(out, error=f"{line}: the plug-in ends the process: exit code {err.code}")
    except BaseException as err:  # everything a user's code may do is told in one line
        from workers.anchor_check import failure_line

        _say(out, error=failure_line(err))
    out.flush()
    os._exit(0)


def _say(out: Any, **data: Any) -> None:
    out.write(json.dumps(data) + "\n")


class _Watch:
    """Tells twice a second which of the user's lines runs, for the case that it never ends."""

    def __init__(self, out: Any) -> None:
        self.stage, self.line, self._out = "loading", "", out
        self._main = threading.main_thread().ident
        self._parent = os.getppid()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            time.sleep(SAMPLE_SECONDS)
            if os.getppid() != self._parent:
                os._exit(1)
            line = _running_line(sys._current_frames().get(self._main or 0))
            if line:
                self.line = line
                _say(self._out, stage=self.stage, line=line)


def _check(wanted: dict[str, Any], out: Any, watch: _Watch) -> None:
    attempts = _refuse_network()
    import torch  # loaded before the clock starts: it is not the plug-in's own time

    from api.naming import anchor_names, loaded_from
    from evosearch.errors import PluginError
    from workers.anchor_check import findings, global_state

    before, start = global_state(), time.perf_counter()
    loaded, name = loaded_from(wanted["anchor"], _path(wanted))
    seconds = time.perf_counter() - start
    slow = seconds > SLOW_SECONDS
    ok = False if seconds > TOO_SLOW_SECONDS else None if slow else True
    _say(out, finding={"name": "loading", "ok": ok, "text": f"{seconds:.2g} s"
                       + ("; every worker waits so long" if slow else ""),
                       "where": watch.line if slow else ""})  # fmt: skip
    changed = [key for key, value in global_state().items() if value != before[key]]
    if changed:
        raise PluginError(
            f"loading it changes {', '.join(changed)}", where=_global_line(loaded),
            hint="a plug-in leaves the process as it is",
        )  # fmt: skip
    names = anchor_names(loaded, name) if loaded is not None else [name]
    torch.set_num_threads(1)
    for anchor in names:
        watch.stage = f"checking {anchor}"
        task, baselines = _task(wanted, anchor, loaded)
        for one in findings(task, anchor, baselines, wanted["seeds"], _context(wanted)):
            _say(out, finding=asdict(one), anchor=anchor)
        if attempts:  # the refusal was an exception, which the plug-in may have swallowed
            raise PluginError(attempts[0][0], **attempts[0][1])
    _say(out, done=True)


def _preflight(wanted: dict[str, Any], out: Any, watch: _Watch) -> None:
    """One short pass through an anchor, as a search asks for before it begins."""
    import base64

    from evosearch.config import Stability, Task
    from evosearch.plugins import Source, ensure, receive
    from workers.evaluate import Context
    from workers.preflight import preflight

    asked = wanted["preflight"]
    sources: dict[str, Source] = {}
    for data in asked["sources"]:
        if "pickled" in data:
            data["pickled"] = base64.b64decode(data["pickled"])
        receive(data, sources)
    task = Task.model_validate(asked["task"])
    ensure(task.plugins, sources)
    watch.stage = f"a first pass through {asked['anchor']}"
    stability = asked["stability"] and Stability.model_validate(asked["stability"])
    found = preflight(task, asked["anchor"], asked["baseline"], Context(), stability)
    _say(out, result=asdict(found))
    _say(out, done=True)


def _path(wanted: dict[str, Any]) -> Path | None:
    return Path(wanted["plugin_path"]) if wanted["plugin_path"] else None


def _context(wanted: dict[str, Any]) -> Any:
    from workers.evaluate import Context

    return Context(device=wanted["device"])


def _task(wanted: dict[str, Any], anchor: str, loaded: Any) -> tuple[Any, list[str]]:
    from api.own_config import own_config

    settings = {"task.steps": wanted["steps"]} if wanted["steps"] else {}
    reference = anchor if loaded is None else wanted["anchor"].rpartition(":")[0] + f":{anchor}"
    if loaded is not None and wanted["anchor"].endswith(".py"):
        reference = f"{wanted['anchor']}:{anchor}"
    config = own_config(
        [reference], preset=None, settings=settings | wanted["settings"], baselines=None,
        checks=(), objectives=(), plugin_path=_path(wanted),
    )  # fmt: skip
    return config.task, list(config.baselines)


def _global_line(loaded: Any) -> str:
    import re

    from workers.anchor_check import GLOBAL_CALLS

    for number, line in enumerate(loaded.source.text.splitlines() if loaded else (), 1):
        if re.search(GLOBAL_CALLS, line):
            return f"{loaded.source.name}:{number}: {line.strip()[:80]}"
    return ""


def _refuse_network() -> list[tuple[str, dict[str, str]]]:
    """From now on connections fail; what was tried stands in the list that is returned."""
    attempts: list[tuple[str, dict[str, str]]] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in NETWORK:
            from evosearch.errors import PluginError

            if event == "socket.connect" and not isinstance(arguments[1], tuple):
                return  # a local socket of the system's own
            told = ("the plug-in uses the network", {
                "where": _running_line(sys._getframe()), "got": str(arguments[-1])[:80],
                "hint": "workers may have none: put data below ctx.data_dir",
            })  # fmt: skip
            attempts.append(told)
            raise PluginError(told[0], **told[1])

    sys.addaudithook(hook)
    return attempts


def _running_line(frame: FrameType | None) -> str:
    """The innermost of the user's lines that runs, seen from a frame."""
    import linecache

    from evosearch import plugins

    while frame is not None:
        name = frame.f_code.co_filename
        if name in plugins.user_files():
            code = linecache.getline(name, frame.f_lineno).strip()[:80]
            place = "" if frame.f_code.co_name == "<module>" else f" in {frame.f_code.co_name}"
            return f"{os.path.basename(name)}:{frame.f_lineno}{place}: {code}"
        frame = frame.f_back
    return ""


if __name__ == "__main__":
    main()
