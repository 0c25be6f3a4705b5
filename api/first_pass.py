"""The short pass through a user's own anchor before a search: in a process that can be ended.

What hangs, crashes or ends the process there costs a search nothing but a message.
"""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Any

from api.anchor_check import Checked, Start, forked, new_process, run_apart
from evosearch.config import Stability, Task
from evosearch.errors import ConfigError, PluginError
from evosearch.own import Untrained
from evosearch.plugins import loaded

SECONDS_VARIABLE = "EVOSEARCH_PREFLIGHT_SECONDS"
SECONDS = 600.0
"""Making a large data set may take minutes; an endless loop takes longer than any limit."""
GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd")


def first_pass(
    task: Task, anchor: str, baseline: str, stability: Stability | None = None
) -> Untrained:
    """Build, one step and one evaluation of the anchor around a known layer, elsewhere.

    ``stability``: that check's settings, where it is on: it differentiates twice.

    Raises:
        PluginError: the user's code fails, hangs or crashes; the error names the line.
    """
    asked = {
        "task": task.model_dump(mode="json"), "anchor": anchor, "baseline": baseline,
        "stability": stability.model_dump(mode="json") if stability is not None else None,
    }  # fmt: skip
    files = [plugin.file for plugin in task.plugins if plugin.file]
    reference = f"{files[0]}:{anchor}" if files else anchor

    def run(start: Start, sources: list[dict[str, Any]]) -> Checked:
        wanted = {"preflight": asked | {"sources": sources}}
        return run_apart(wanted, reference, _seconds(), lambda told: None, start)

    found = run(forked, []) if _can_fork() else Checked(elsewhere=True)
    if found.elsewhere:  # or it was the fork that died, of threads that this process has
        found = run(new_process, _sources(task))
    if found.error:
        hint = f"; {SECONDS_VARIABLE} sets the limit" if "takes longer than" in found.error else ""
        raise PluginError(found.error + hint)
    return Untrained(**found.result)


def _seconds() -> float:
    text = os.environ.get(SECONDS_VARIABLE, "")
    try:
        return float(text) if text else SECONDS
    except ValueError:
        raise ConfigError(f"bad {SECONDS_VARIABLE}", expected="seconds", got=text[:40]) from None


def _can_fork() -> bool:
    """Whether torch and Ray work in a fork of this process: GPUs and connections do not."""
    ray = sys.modules.get("ray")
    connected = ray is not None and bool(ray.is_initialized())
    return hasattr(os, "fork") and not connected and not any(Path(p).exists() for p in GPU_DEVICES)


def _sources(task: Task) -> list[dict[str, Any]]:
    """The task's plug-ins as JSON; a notebook's with Ray's own bytes."""
    found = []
    for plugin in task.plugins:
        known = loaded(plugin.sha256)
        if known is None:
            continue
        data = known.source.to_json()
        if not known.source.file:
            from workers.ray_start import pickled

            data["pickled"] = base64.b64encode(pickled(known.entries)).decode()
        found.append(data)
    return found
