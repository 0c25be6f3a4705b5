"""Generated layers beside BatchNorm2d + ReLU, timm's modules and a plain port of each formula.

Forward plus backward, both memory formats, eager and compiled, and the bytes saved for backward.
All contestants of one row take turns, so that a machine's moods meet all of them; a row in
channels-last has BatchNorm2d + ReLU in both formats. Those of one formula have the same groups and
eps, and must agree before they are timed, ours in gradients too. On a GPU the input is
bfloat16, as after a convolution under autocast, and peak memory is measured too. A verdict for each
target ends it. Run
``python -m tests.benchmarks.bench_layers [--runs N] [--threads T] [--no-compile] [--device cuda]``;
with fewer shapes or runs, other threads, or nothing compiled it is a trial that writes nothing.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Iterable
from math import exp, log
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from primitives.catalog import CATALOG
from primitives.cost import saved_bytes
from primitives.groups import group_count
from primitives.module import build_layer, layer_class
from tests.benchmarks.record import write_result
from tests.support.timm_models import timm

SHAPES = ((64, 64, 16, 16), (64, 128, 8, 8), (64, 32, 32, 32))
LAYERS = ("S0", "S1", "S2", "B0", "B1", "B2")
COMPILED = ("S0", "B0")
RUNS, THREADS = 20, 2
EPS = 1e-5
AT_KINKS = 1e-5
"""Share of a gradient that may differ: where a maximum's two sides are equal up to rounding."""
IN_NCHW = "bn-relu in nchw"
FORMATS = {"nchw": torch.contiguous_format, "channels-last": torch.channels_last}


class PlainPort(nn.Module):
    """The published formula as it is usually written down; training mode only."""

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind, self.groups = kind, group_count(channels)
        one, zero = torch.ones(1, channels, 1, 1), torch.zeros(1, channels, 1, 1)
        self.v, self.weight = nn.Parameter(one), nn.Parameter(one.clone())
        self.bias = nn.Parameter(zero)

    def forward(self, x: Tensor) -> Tensor:
        return self._graph(x) * self.weight + self.bias

    def _graph(self, x: Tensor) -> Tensor:
        if self.kind.startswith("S"):
            split = x.reshape(x.shape[0], self.groups, -1)
            if self.kind == "S2":
                scale = split.square().mean(2, keepdim=True)
            else:
                scale = split.var(2, correction=0, keepdim=True)
            gate = torch.sigmoid(self.v * x if self.kind == "S0" else x)
            scale = torch.sqrt(scale + EPS).expand_as(split).reshape(x.shape)
            return x * gate / scale
        batch = torch.sqrt(x.var((0, 2, 3), correction=0, keepdim=True) + EPS)
        if self.kind == "B0":
            instance = torch.sqrt(x.var((2, 3), correction=0, keepdim=True) + EPS)
            return x / torch.maximum(batch, self.v * x + instance)
        rms = torch.sqrt(x.square().mean((2, 3), keepdim=True) + EPS)
        other = (x + 1) * rms if self.kind == "B1" else rms - x
        return x / torch.maximum(batch, other)


class Contestant(NamedTuple):
    """A module, and what it is run on."""

    module: nn.Module
    x: Tensor
    cotangent: Tensor

    def run(self) -> Tensor:
        """Forward and backward, as a training step has them; the value."""
        self.x.grad = None
        device = self.x.device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device != "cpu"):
            value: Tensor = self.module(self.x)
        value.backward(self.cotangent.to(value.dtype))
        return value


def take_turns(contestants: dict[str, Contestant], runs: int) -> dict[str, list[float]]:
    """Milliseconds of forward plus backward, ``runs`` for each, in turns after two warm-ups."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(-2, runs):
        for name, contestant in contestants.items():
            settle(contestant.x)
            begin = perf_counter()
            contestant.run()
            settle(contestant.x)
            if turn >= 0:
                times[name].append(1e3 * (perf_counter() - begin))
    return times


def peak_bytes(contestant: Contestant) -> int:
    """Most GPU memory that a step takes beyond what is there before it."""
    contestant.run()  # gradients of parameters are there from now on
    contestant.x.grad = None
    settle(contestant.x)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    contestant.run()
    settle(contestant.x)
    return int(torch.cuda.max_memory_allocated() - before)


def settle(x: Tensor) -> None:
    if x.device.type == "cuda":
        torch.cuda.synchronize()


def results_of(contestant: Contestant) -> list[Tensor]:
    """What a step gives: value, and gradients of input and parameters by name."""
    contestant.module.zero_grad()
    value = contestant.run().detach().float()
    assert contestant.x.grad is not None
    of_parameters = [
        p.grad.flatten().float()
        for _, p in sorted(contestant.module.named_parameters())
        if p.grad is not None
    ]
    return [value, contestant.x.grad.clone().float(), *of_parameters]


def check(made: dict[str, Contestant]) -> None:
    """Contestants of one formula have one value; compiled and recomputing ones its gradients too.

    Raises:
        AssertionError: they differ by more than rounding explains.
    """
    for name, one in made.items():
        eager = name.removesuffix(", compiled")
        ours = eager if eager.startswith("bn-relu") else f"{name.split()[0]} ours"
        if name == ours:
            continue
        loose = 1e-3 if one.x.dtype == torch.float32 else 5e-2
        got, meant = results_of(one), results_of(made[ours])
        for place in range(len(meant) if name.startswith(ours) else 1):
            limit = loose * max(1.0, float(meant[place].abs().max()))
            off = (got[place] - meant[place]).abs() > limit + loose * meant[place].abs()
            share = off.float().mean().item()
            if not share <= AT_KINKS or not bool(got[place].isfinite().all()):
                raise AssertionError(
                    f"{name} differs from {ours} in result {place} of a step, {share:.2g} of it"
                )


def summary(times: list[float]) -> dict[str, float]:
    return {
        "median_ms": round(statistics.median(times), 4),
        "min_ms": round(min(times), 4),
        "max_ms": round(max(times), 4),
        "n": len(times),
    }


def modules_of(channels: int, device: str, compiled: bool) -> dict[str, nn.Module]:
    """Name -> module: baseline, ours, timm's, plain ports; compiled twins where asked for."""
    theirs = timm().layers
    made: dict[str, nn.Module] = {"bn-relu": nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())}
    for kind in LAYERS:
        graph = CATALOG[f"evonorm-{kind.lower()}"].graph
        made[f"{kind} ours"] = build_layer(graph, channels, eps=EPS)
        made[f"{kind} ours, recompute"] = layer_class(graph)(  # type: ignore[call-arg]
            channels, recompute=True, eps=EPS
        )
        same: dict[str, Any] = {"groups": group_count(channels)} if kind.startswith("S") else {}
        made[f"{kind} timm"] = getattr(theirs, f"EvoNorm2d{kind}")(channels, eps=EPS, **same)
        made[f"{kind} plain"] = PlainPort(kind, channels)
    if compiled:
        for name in ("bn-relu", *(f"{kind} ours" for kind in COMPILED)):
            made[f"{name}, compiled"] = torch.compile(  # type: ignore[assignment]
                copy.deepcopy(made[name]), dynamic=False
            )
    return {name: module.to(device) for name, module in made.items()}


def contestants_of(
    shape: tuple[int, ...], form: str, device: str, compiled: bool
) -> dict[str, Contestant]:
    """Every module with its input; in channels-last the baseline has a twin in NCHW."""
    torch.manual_seed(0)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    given = [torch.randn(shape, device=device, dtype=dtype) for _ in range(2)]
    x, cotangent = (tensor.to(memory_format=FORMATS[form]) for tensor in given)
    x.requires_grad_()
    found = {
        name: Contestant(module, x, cotangent)
        for name, module in modules_of(shape[1], device, compiled).items()
    }
    if form != "nchw":
        other = [name for name in found if name.startswith("bn-relu")]
        plain = given[0].clone().requires_grad_()
        for name in other:
            module = copy.deepcopy(found["bn-relu"].module)
            if "compiled" in name:
                module = torch.compile(module, dynamic=False)  # type: ignore[assignment]
            found[name.replace("bn-relu", IN_NCHW)] = Contestant(module, plain, given[1])
    return found


def row_of(shape: tuple[int, ...], form: str, options: argparse.Namespace) -> dict[str, Any]:
    """Times, saved bytes and, on a GPU, peak memory of one shape in one memory format."""
    torch.compiler.reset()  # what was compiled for other shapes must not count here
    made = contestants_of(shape, form, options.device, not options.no_compile)
    check(made)
    times = take_turns(made, options.runs)
    row: dict[str, Any] = {
        "shape": shape,
        "format": form,
        "times": {name: summary(values) for name, values in times.items()},
        "paired": paired(times),
        "saved": {
            name: saved_bytes(one.module, one.x)
            for name, one in made.items()
            if "compiled" not in name
        },
    }
    if options.device != "cpu":
        row["peak_bytes"] = {name: peak_bytes(one) for name, one in made.items()}
    return row


def paired(times: dict[str, list[float]]) -> dict[str, list[float]]:
    """Quartiles of the ratio of times over the turns, of each pair that a claim is about."""
    pairs = [(f"{kind} {other}", f"{kind} ours") for kind in LAYERS for other in ("timm", "plain")]
    pairs += [
        (f"{kind} ours, compiled", f"{baseline}{how}")
        for kind in COMPILED for baseline in ("bn-relu", IN_NCHW) for how in ("", ", compiled")
    ]  # fmt: skip
    return {
        f"{one} / {other}": [
            round(cut, 3)
            for cut in quantiles(a / b for a, b in zip(times[one], times[other], strict=True))
        ]
        for one, other in pairs
        if one in times and other in times
    }


def quantiles(values: Iterable[float]) -> list[float]:
    """The quartiles; of one value, that value."""
    known = list(values)
    return statistics.quantiles(known, n=4, method="inclusive") if len(known) > 1 else known * 3


def median(row: dict[str, Any], name: str) -> float:
    return float(row["times"][name]["median_ms"])


def mean(values: list[float]) -> float:
    """The geometric mean."""
    return round(exp(sum(log(value) for value in values) / len(values)), 3)


def against_faster(rows: list[dict[str, Any]], kind: str, baseline: str) -> list[float]:
    """Compiled time over that of the faster of the eager and the compiled baseline, row by row."""
    return [
        round(
            median(row, f"{kind} ours, compiled")
            / min(median(row, baseline), median(row, f"{baseline}, compiled")),
            3,
        )
        for row in rows
    ]


def ratios(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The claims: medians against each other, geometric means over the rows."""
    found: dict[str, Any] = {}
    for other in ("timm", "plain"):
        each = {
            kind: [median(row, f"{kind} {other}") / median(row, f"{kind} ours") for row in rows]
            for kind in LAYERS
        }
        found[f"eager speed against {other}"] = {
            "geometric mean": mean([value for values in each.values() for value in values]),
            **{kind: mean(values) for kind, values in each.items()},
        }
    if "bn-relu, compiled" in rows[0]["times"]:
        for form in FORMATS:
            mine = [row for row in rows if row["format"] == form]
            for baseline in ("bn-relu",) if form == "nchw" else ("bn-relu", IN_NCHW):
                for kind in COMPILED:
                    found[f"compiled {kind} time against the faster {baseline}, {form}"] = (
                        against_faster(mine, kind, baseline)
                    )
    for what in ("saved", "peak_bytes") if "peak_bytes" in rows[0] else ("saved",):
        for kind in LAYERS:
            found[f"{what} of {kind} with recompute against bn-relu"] = round(
                max(row[what][f"{kind} ours, recompute"] / row[what]["bn-relu"] for row in rows), 3
            )
    return found


def verdicts(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What was wanted, what came out, and whether it is met; the worst shape counts."""
    told = []

    def say(name: str, ratio: float, limit: float, least: bool = False, aim: bool = False) -> None:
        met = ratio >= limit if least else ratio <= limit
        told.append({
            "what": name, "ratio": ratio, "target": f"{'>=' if least else '<='} {limit}",
            "kind": "aim" if aim else "target", "met": met,
        })  # fmt: skip

    speed = found["eager speed against timm"]["geometric mean"]
    say("eager speed against timm, geometric mean", speed, 2.0, least=True)
    say("eager speed against timm, geometric mean", speed, 3.0, least=True, aim=True)
    for name, value in found.items():
        if name.startswith("compiled"):
            nchw = name.endswith(", nchw")
            say(name, max(value), 1.3 if nchw else 2.5, aim=not nchw and " B0 " in name)
        elif name.startswith(tuple(f"saved of {kind} " for kind in COMPILED)):
            say(name, value, 1.1)
    return told


def is_trial(options: argparse.Namespace) -> bool:
    """Whether it was run otherwise than the figures that are kept."""
    return (
        options.shapes < len(SHAPES) or options.runs < RUNS or options.threads != THREADS
        or options.no_compile
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--shapes", type=int, default=len(SHAPES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    gpu = options.device != "cpu"
    rows: list[dict[str, Any]] = []
    begin = perf_counter()
    for shape in SHAPES[: options.shapes]:
        for form in FORMATS:
            rows.append(row_of(shape, form, options))
            print(f"{shape} {form}: done after {perf_counter() - begin:.0f} s", flush=True)
    found = ratios(rows)
    judged = verdicts(found)
    for name, value in found.items():
        print(f"{name}: {value}")
    for one in judged:
        print(f"{'met' if one['met'] else 'MISSED'} ({one['kind']} {one['target']}): "
              f"{one['what']}: {one['ratio']}")  # fmt: skip
    for row in rows:
        for name, cuts in row["paired"].items():
            print(f"{row['shape']} {row['format']}, {name}: quartiles over turns {cuts}")
    if is_trial(options):
        print("a trial: nothing is written")
        return
    settings = {
        "threads": options.threads, "device": options.device, "timm": timm().__version__,
        "input": "bfloat16 under autocast" if gpu else "float32",
    }  # fmt: skip
    if gpu:
        settings["device name"] = torch.cuda.get_device_name()
    data = {"settings": settings, "verdicts": judged, "ratios": found, "rows": rows}
    write_result("layers_gpu" if gpu else "layers", data)


if __name__ == "__main__":
    main()
