"""The web process alone, as `evosearch serve` starts it, with what the system says of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import httpx

from api.settings import as_variables, load_settings
from api.supervisor import Child, python_command
from api.web import bind

ROOT = str(Path(__file__).resolve().parents[2])


class WebProcess:
    """A web process over that SQLite file, without limits of rate."""

    def __init__(self, path: Path, **more: Any) -> None:
        settings = load_settings({
            "db": f"sqlite:///{path}", "port": 0, "rate_per_minute": 10**8, "rate_burst": 10**8,
            "log_level": "warning", **more,
        })  # fmt: skip
        self._bound = bind(settings)
        self.url = f"http://127.0.0.1:{self._bound.getsockname()[1]}"
        env = {**os.environ, **as_variables(settings), "PYTHONPATH": ROOT}
        descriptor = self._bound.fileno()
        self._child = Child("web", python_command("web-process", str(descriptor)), env,
                            (descriptor,))  # fmt: skip

    def start(self, seconds: float = 120.0) -> None:
        """Start it, and wait until it can be asked."""
        self._child.start()
        until = time.monotonic() + seconds
        while httpx.get(f"{self.url}/readyz", timeout=seconds).status_code != 200:
            if time.monotonic() > until:
                raise RuntimeError("the web process did not start")
            time.sleep(0.05)

    def _status(self, name: str) -> float:
        assert self._child.process is not None
        text = Path(f"/proc/{self._child.process.pid}/status").read_text()
        (line,) = (one for one in text.splitlines() if one.startswith(f"{name}:"))
        return round(int(line.split()[1]) / 1024, 1)

    def memory(self) -> float:
        """MiB that it holds now."""
        return self._status("VmRSS")

    def peak(self) -> float:
        """MiB that it has held at most."""
        return self._status("VmHWM")

    def loaded(self, *packages: str) -> list[str]:
        """Those of the packages whose compiled parts it has loaded."""
        assert self._child.process is not None
        maps = Path(f"/proc/{self._child.process.pid}/maps").read_text()
        return [name for name in packages if f"/{name}/" in maps]

    def close(self) -> None:
        """End it."""
        self._child.end()
        self._child.wait(time.monotonic() + 30)
        self._bound.close()
