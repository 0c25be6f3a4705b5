"""Generated layers beside BatchNorm2d + ReLU, timm's modules and a plain port of each formula.

Forward plus backward, both memory formats, eager and compiled, and the bytes saved for backward.
All contestants of one row take turns, so that a machine's moods meet all of them. Run with
``python -m tests.benchmarks.bench_layers [--runs N] [--threads T] [--no-compile] [--device cuda]``.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from math import exp, log
from time import perf_counter
from typing import Any

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
            scale = torch.sqrt(scale + 1e-5).expand_as(split).reshape(x.shape)
            return x * gate / scale
        batch = torch.sqrt(x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5)
        if self.kind == "B0":
            instance = torch.sqrt(x.var((2, 3), correction=0, keepdim=True) + 1e-5)
            return x / torch.maximum(batch, self.v * x + instance)
        rms = torch.sqrt(x.square().mean((2, 3), keepdim=True) + 1e-5)
        other = (x + 1) * rms if self.kind == "B1" else rms - x
        return x / torch.maximum(batch, other)


def take_turns(
    contestants: dict[str, nn.Module], x: Tensor, cotangent: Tensor, runs: int, amp: bool
) -> dict[str, list[float]]:
    """Milliseconds of forward plus backward, ``runs`` for each, in turns after two warm-ups."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(-2, runs):
        for name, module in contestants.items():
            x.grad = None
            settle(x)
            begin = perf_counter()
            with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=amp):
                value = module(x)
            value.backward(cotangent.to(value.dtype))
            settle(x)
            if turn >= 0:
                times[name].append(1e3 * (perf_counter() - begin))
    return times


def settle(x: Tensor) -> None:
    if x.device.type == "cuda":
        torch.cuda.synchronize()


def summary(times: list[float]) -> dict[str, float]:
    return {
        "median_ms": round(statistics.median(times), 4),
        "min_ms": round(min(times), 4),
        "max_ms": round(max(times), 4),
        "n": len(times),
    }


def contestants_of(channels: int, device: str, compiled: bool) -> dict[str, nn.Module]:
    """Name -> module: baseline, ours, timm's, plain ports; compiled twins where asked for."""
    theirs = timm().layers
    made: dict[str, nn.Module] = {"bn-relu": nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())}
    for kind in LAYERS:
        graph = CATALOG[f"evonorm-{kind.lower()}"].graph
        made[f"{kind} ours"] = build_layer(graph, channels)
        made[f"{kind} ours, recompute"] = layer_class(graph)(  # type: ignore[call-arg]
            channels, recompute=True
        )
        made[f"{kind} timm"] = getattr(theirs, f"EvoNorm2d{kind}")(channels)
        made[f"{kind} plain"] = PlainPort(kind, channels)
    if compiled:
        for name in ("bn-relu", *(f"{kind} ours" for kind in COMPILED)):
            made[f"{name}, compiled"] = torch.compile(  # type: ignore[assignment]
                copy.deepcopy(made[name]), dynamic=False
            )
    return {name: module.to(device) for name, module in made.items()}


def ratios(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The claims: medians against each other, geometric means over the rows."""

    def median(row: dict[str, Any], name: str) -> float:
        return float(row["times"][name]["median_ms"])

    def mean(values: list[float]) -> float:
        return round(exp(sum(log(value) for value in values) / len(values)), 3)

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
            for kind in COMPILED:
                found[f"compiled {kind} time against the faster bn-relu, {form}"] = [
                    round(
                        median(row, f"{kind} ours, compiled")
                        / min(median(row, "bn-relu"), median(row, "bn-relu, compiled")),
                        3,
                    )
                    for row in rows
                    if row["format"] == form
                ]
    for kind in LAYERS:
        found[f"saved bytes of {kind} with recompute against bn-relu"] = max(
            row["saved"][f"{kind} ours, recompute"] / row["saved"]["bn-relu"] for row in rows
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    gpu = options.device != "cpu"
    rows: list[dict[str, Any]] = []
    begin = perf_counter()
    for shape in SHAPES:
        for form, memory_format in FORMATS.items():
            torch.manual_seed(0)
            torch.compiler.reset()  # what was compiled for other shapes must not count here
            x, cotangent = (
                torch.randn(shape, device=options.device).to(memory_format=memory_format)
                for _ in range(2)
            )
            x.requires_grad_()
            modules = contestants_of(shape[1], options.device, not options.no_compile)
            times = take_turns(modules, x, cotangent, options.runs, gpu)
            rows.append(
                {
                    "shape": shape,
                    "format": form,
                    "times": {name: summary(values) for name, values in times.items()},
                    "saved": {
                        name: saved_bytes(module, x)
                        for name, module in modules.items()
                        if "compiled" not in name
                    },
                }
            )
            print(f"{shape} {form}: done after {perf_counter() - begin:.0f} s", flush=True)
    found = ratios(rows)
    for name, value in found.items():
        print(f"{name}: {value}")
    name = "layers_gpu" if gpu else "layers"
    settings = {
        "threads": options.threads, "device": options.device, "autocast": gpu,
        "timm": timm().__version__,
    }  # fmt: skip
    if gpu:
        settings["device name"] = torch.cuda.get_device_name()
    write_result(name, {"settings": settings, "ratios": found, "rows": rows})


if __name__ == "__main__":
    main()
