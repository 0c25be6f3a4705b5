"""How many candidates share a GPU: chosen by a short measurement, once for each kind of GPU.

Trainings of small networks leave most of a GPU idle; several beside each other fill it, until they
only take turns or its memory ends. Processes are measured, for that is what workers are. Run as a
module this file is one of those processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

COUNTS = (1, 2, 4, 8)
STEPS = 60
WARM_UP = 10
GAIN = 1.05
"""By how much more must get done for twice as many processes to be worth their memory."""
PRESET, LAYER = "cifar10-gpu", "evonorm-s0"
ROWS = 2048


@dataclass(frozen=True, slots=True)
class Trial:
    """So many trainings beside each other: steps a second of all together, and what they took.

    ``memory``, ``total``: bytes of the GPU in use, everything counted, and in all; 0 on a CPU.
    """

    processes: int
    steps_per_second: float
    memory: int
    total: int
    device: str = ""


Measure = Callable[[int], Trial | None]
"""Number of processes -> what was measured; None where they do not fit."""


def best_count(
    measure: Measure, memory_share: float, counts: Sequence[int] = COUNTS
) -> tuple[int, list[Trial]]:
    """The number of processes with the most steps a second within that share of the memory.

    It goes up and stops where another doubling gains nothing, or does not fit.

    Returns:
        The number, at least 1, and the trials.
    """
    best, trials = counts[0], list[Trial]()
    for count in counts:
        found = measure(count)
        if found is None or found.memory > memory_share * (found.total or 1):
            break
        trials.append(found)
        if count == counts[0]:
            continue
        if found.steps_per_second < GAIN * trials[-2].steps_per_second:
            break
        best = count
    return best, trials


def measured_share(
    memory_share: float, measure: Measure | None = None, known: Path | None = None
) -> float:
    """Part of a GPU for each worker, measured once for this kind of GPU, torch and share.

    ``known``: the file that keeps what was measured; by default in the user's cache folder.
    """
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    key = f"{name}, torch {version('torch')}, {memory_share:g} of its memory"
    path = known or cache_file()
    shares = _read(path)
    if key not in shares:
        count, trials = best_count(measure or measure_processes, memory_share)
        shares[key] = {"count": count, "trials": [asdict(one) for one in trials]}
        _write(path, shares)
    return 1.0 / int(shares[key]["count"])


def cache_file() -> Path:
    """Where measurements are kept between runs."""
    folder = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(folder) / "evosearch" / "gpu_share.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        return {key: value for key, value in found.items() if int(value["count"]) >= 1}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}  # whatever is wrong with it, measuring again mends it


def _write(path: Path, shares: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(shares, indent=1))
        part.replace(path)
    except OSError:
        pass  # then the next start measures again


def measure_processes(count: int, device: str = "cuda", steps: int = STEPS) -> Trial | None:
    """So many trainings in processes of their own, begun together once all are warm."""
    root = str(Path(__file__).resolve().parents[1])
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-P", "-m", "workers.gpu_share", device, str(steps)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)
        for _ in range(count)
    ]
    try:
        if any(_line(one).get("ready") is None for one in processes):
            return None
        begin = time.monotonic()
        for one in processes:
            _say(one)
        ends = [_line(one) for one in processes]
        if any("memory" not in end for end in ends):
            return None
        rate = count * steps / (time.monotonic() - begin)
        used = max(end["memory"] for end in ends)
        return Trial(count, rate, used, ends[0]["total"], ends[0]["device"])
    finally:
        for one in processes:
            one.kill()
            one.communicate()


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next thing that a process says; nothing where it has died, of its memory or otherwise."""
    assert process.stdout is not None
    try:
        found: dict[str, Any] = json.loads(process.stdout.readline())
    except ValueError:
        return {}
    return found


def _say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def synthetic_training(device: str, steps: int, anchor: str = "resnet") -> Any:
    """A training of the GPU preset's recipe on random images of CIFAR-10's shape."""
    import torch

    from evosearch.presets import load_preset
    from evosearch.records import Job, Run, Subject
    from workers.datasets import Dataset, SplitData
    from workers.device import choose
    from workers.layers import layer_factory
    from workers.training import Training

    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (ROWS, 3, 32, 32), generator=draw, dtype=torch.uint8)
    rows = SplitData(x, torch.randint(0, 10, (ROWS,), generator=draw), torch.arange(ROWS))
    data = Dataset("random", 10, rows, rows, rows, mean=(0.5,) * 3, std=(0.25,) * 3)
    task = load_preset(PRESET, [f"task.steps={steps}", "checks.quality.enabled=false"]).task
    run = Run(anchor=anchor, seed=0, learning_rate=0.01)
    job = Job(id="gpu", purpose="baseline", subject=Subject(baseline=LAYER), graph=None,
              runs=(run,), task=task)  # fmt: skip
    return Training(run, task, layer_factory(job, anchor), data.to(choose(device)))


def main() -> None:
    """One of the processes that are measured beside each other."""
    import torch

    device, steps = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    training = synthetic_training(device, WARM_UP + steps)
    training.advance(min(WARM_UP, steps))
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.synchronize()
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    training.advance(min(WARM_UP, steps) + steps)
    free, total = 0, 0
    if on_gpu:
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info()
    name = torch.cuda.get_device_name() if on_gpu else "cpu"
    told = {"memory": total - free, "total": total, "device": name}
    print(json.dumps(told), flush=True)
    sys.stdin.readline()  # its memory counts until all have said theirs


if __name__ == "__main__":
    main()
