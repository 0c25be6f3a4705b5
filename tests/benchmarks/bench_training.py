"""Training steps a second of our loop beside a plain one, and what a rejected candidate costs.

The plain loop is what one writes down first: shuffled batches, ``torch.optim.SGD``, a cosine
schedule, the same anchor network around a hand-written layer, eager, one thread. Both take turns
in one process. The cost of a rejection is that of a short real search's own candidates. Run with
``make bench`` or ``python -m tests.benchmarks.bench_training [--runs N] [--preset P]``.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evosearch.config import SearchConfig, Task
from evosearch.presets import load_preset
from evosearch.records import Job, Run, Subject
from evosearch.streams import evaluation_seed
from tests.benchmarks.bench_layers import PlainPort
from tests.benchmarks.record import write_result
from tests.benchmarks.recorded import Outcome, record_search
from workers import datasets
from workers.augment import crop_side
from workers.datasets import Dataset
from workers.device import choose
from workers.layers import layer_factory
from workers.training import Training, build_network

HAND_WRITTEN: dict[str, Callable[[int], nn.Module]] = {
    "bn-relu": lambda channels: nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()),
    "evonorm-s0": lambda channels: PlainPort("S0", channels),
}
TARGET = 0.1
"""Of a full evaluation, what the median rejected candidate may cost."""


class PlainLoop:
    """Trains the anchor's network with the task's recipe, as plainly as that can be written."""

    def __init__(self, run: Run, task: Task, layer: Callable[[int], nn.Module], data: Dataset):
        self.task, self.data = task, data
        self.network = build_network(run, task, layer, data)
        kinds = (nn.Conv2d, nn.Linear)
        decayed = [m.weight for m in self.network.modules() if isinstance(m, kinds)]
        known = {id(weight) for weight in decayed}
        others = [one for one in self.network.parameters() if id(one) not in known]
        groups = [
            {"params": decayed, "weight_decay": task.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(
            groups, lr=run.learning_rate, momentum=task.momentum, nesterov=task.nesterov
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, task.steps)
        self.batches = self._batches()

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled batches; one crop a batch, which is less work than ours of one an image."""
        rows, size = self.data.train, self.task.batch_size
        height, width = rows.x.shape[-2:]
        side = crop_side(self.task.augmentation, (height, width))
        while True:
            order = torch.randperm(len(rows.x))
            for start in range(0, len(order) - size + 1, size):
                chosen = order[start : start + size]
                top = int(torch.randint(height - side[0] + 1, ()))
                left = int(torch.randint(width - side[1] + 1, ()))
                x = rows.x[chosen][..., top : top + side[0], left : left + side[1]]
                if self.task.augmentation.flip and torch.rand(()) < 0.5:
                    x = x.flip(-1)
                x = self.data.prepare(x)
                if self.data.augment is not None:
                    x = self.data.augment(x, torch.default_generator)
                yield x, rows.y[chosen].long()

    def advance(self, steps: int) -> None:
        """Do so many steps, in float32 as one writes it first."""
        self.network.train()
        for _ in range(steps):
            x, y = next(self.batches)
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.network(x), y)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()


def race(
    config: SearchConfig, layer: str, anchor: str, steps: int, runs: int, *,
    device: str = "cpu", data: Dataset | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Steps a second of both loops on one anchor, in turns, after one turn that does not count.

    ``data``: instead of the config's, on the device where both train.
    """
    task = config.task.model_copy(update={"steps": steps * (runs + 1)})
    seed = evaluation_seed(config.seed, "search", 0)
    run = Run(anchor=anchor, seed=seed, learning_rate=task.learning_rate)
    subject = Subject(baseline=layer)
    job = Job(id="bench", purpose="baseline", subject=subject, graph=None, runs=(run,), task=task)
    data = data or datasets.load(task.dataset, choose(device))
    wait = torch.cuda.synchronize if data.train.x.is_cuda else lambda: None
    ours = Training(run, task, layer_factory(job, anchor), data)
    plain = PlainLoop(run, task, HAND_WRITTEN[layer], data)
    speeds: dict[str, list[float]] = {"ours": [], "plain": []}
    for turn in range(runs + 1):
        turns: list[tuple[str, Callable[[], object]]] = [
            ("ours", lambda: ours.advance(steps * (turn + 1))),  # noqa: B023 - called at once
            ("plain", lambda: plain.advance(steps)),
        ]
        for name, work in turns if turn % 2 else reversed(turns):
            wait()
            begin = perf_counter()
            work()
            wait()
            if turn:
                speeds[name].append(steps / (perf_counter() - begin))
    ratios = [a / b for a, b in zip(speeds["ours"], speeds["plain"], strict=True)]
    if ours.diverged or ours.step != steps * (runs + 1):
        raise RuntimeError(f"{layer} on {anchor} did not train to the end")
    return {
        "layer": layer, "anchor": anchor, "steps_per_second": speeds,
        "ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios),
    }  # fmt: skip


def costs(outcomes: list[Outcome]) -> dict[str, Any]:
    """Seconds of rejected candidates and of full evaluations, and their share."""
    full = [one.seconds for one in outcomes if one.rejected_by is None]
    rejected = [one.seconds for one in outcomes if one.rejected_by is not None]
    return {
        "full": len(full), "rejected": len(rejected),
        "median_seconds_full": statistics.median(full),
        "median_seconds_rejected": statistics.median(rejected),
        "mean_seconds_rejected": statistics.mean(rejected),
        "median_share": statistics.median(rejected) / statistics.median(full),
        "mean_share": statistics.mean(rejected) / statistics.mean(full),
        "target": TARGET,
        "codes": dict(Counter(str(one.rejected_by) for one in outcomes)),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="quickstart")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--evaluations", type=int, default=20, help="of the recorded search")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--data-dir")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto, of the two loops")
    options = parser.parse_args()
    if options.data_dir:
        os.environ["EVOSEARCH_DATA_DIR"] = options.data_dir
    torch.set_num_threads(1)
    config = load_preset(options.preset, options.set)
    races = []
    for layer in HAND_WRITTEN:
        for anchor in config.anchor_names:
            row = race(config, layer, anchor, options.steps, options.runs, device=options.device)
            races.append(row)
            speeds = {k: statistics.median(v) for k, v in row["steps_per_second"].items()}
            print(
                f"{layer} on {anchor}: ours {speeds['ours']:.1f}, plain {speeds['plain']:.1f} "
                f"steps/s; ratio {row['ratio']:.2f} "
                f"({row['ratio_low']:.2f} to {row['ratio_high']:.2f}, n={options.runs})",
                flush=True,
            )
    found = costs(record_search(options.preset, tuple(options.set), options.evaluations))
    print(
        f"a rejected candidate costs {found['median_share']:.3f} of a full evaluation (medians "
        f"of {found['rejected']} and {found['full']}; means {found['mean_share']:.3f}; "
        f"target {TARGET})"
    )
    device = choose(options.device)
    name = "training" if options.preset == "quickstart" else f"training_{options.preset}"
    if device.type != "cpu":
        name = f"{name}_{device.type}"
    write_result(
        name.replace("-", "_"),
        {"preset": options.preset, "overrides": options.set, "steps": options.steps, "threads": 1,
         "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
         "races": races, "rejection": found},
    )  # fmt: skip


if __name__ == "__main__":
    main()
