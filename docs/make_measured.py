"""Writes docs/measured.md from the results of benchmarks and studies.

    python -m docs.make_measured

Every figure of the page stands in ``tests/benchmarks/results``; what has no result yet is named.
"""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from api.text import changed, goal_of
from evosearch.known import KEPT_TRIED
from evosearch.objectives import ACCURACY
from evosearch.stats import p_value

TARGET = Path(__file__).with_name("measured.md")
PICTURES = Path(__file__).with_name("pictures")
RESULTS = Path(__file__).parents[1] / "tests" / "benchmarks" / "results"
ALPHA = 0.05
"""A smaller p counts as shown."""
POPULATION = "evolution.population_size"
WORKERS_PICTURE, STORE_PICTURE = "workers.svg", "store.svg"

HEAD = """# Measured

Written by `python -m docs.make_measured` from the results of the scripts that each part names; do
not edit. Machines are shared and noisy: ratios were taken side by side in one run."""

NO_GPU = (
    "`cifar10-gpu` with EvoNorm-S0 trains five times as many steps a second as a plain eager loop",
    "several candidates on one GPU get more done than one",
    "3,000 candidates on three networks in a night of ten hours",
    "the share of a GPU's memory that its workers stay within",
    "the fused layers and the channels-last layout are faster there",
)
"""What is claimed or aimed at on a GPU, and has no figure without one."""


def missing(command: str) -> Iterator[str]:
    """What is said of a result that is not there."""
    yield f"Not measured yet; `{command}` does it."


class Part(NamedTuple):
    """A part of the page: its title, the command that measures it, and what is said of its result,
    or without one."""

    title: str
    command: str
    says: Callable[[str, Mapping[str, Any]], Iterator[str]]
    lacks: Callable[[str], Iterator[str]] = missing


MEAN_OF = {
    "jobs": "a candidate in the mean, whether it is trained to the end or fails a check before",
    "evaluations": "a candidate that is trained to the end, in the mean",
}
"""What the study of thousands of workers scales -> in words."""


def page(folder: Path = RESULTS) -> str:
    """The whole page, of the results that are in the folder."""
    parts = [HEAD]
    for name, part in PARTS.items():
        path = folder / f"{name}.json"
        if path.exists():
            lines = part.says(part.command, json.loads(path.read_text()))
        else:
            lines = part.lacks(part.command)
        parts.append("\n".join((f"## {part.title}", "", *lines)))
    return "\n\n".join(parts) + "\n"


def on_cifar(command: str, result: Mapping[str, Any]) -> Iterator[str]:
    """Known layers on CIFAR-10: scores over seeds, what the checks say, what a seed tells apart."""
    rows, task = result["rows"], result["config"]["task"]
    anchors = [anchor["name"] for anchor in task["anchors"]]
    yield (
        f"`{command}`, preset `{result['config']['preset']}`: "
        f"{task['steps']} steps of {task['batch_size']}, rate {task['learning_rate']:g}, crops of "
        f"{task['augmentation']['crop']}, one CPU thread, {task['select_rows']:,} rows of "
        "*select*; accuracy, mean and standard deviation over seeds; processor seconds of a "
        "candidate with all checks and trainings. "
        f"Data: {result['data']}. {hardware(result)}"
    )
    yield ""
    yield from table(
        ("layer", *anchors, "rejected by", "seconds"),
        (cifar_row(rows, name, anchors) for name in dict.fromkeys(row["layer"] for row in rows)),
    )
    yield from ("", result["decision"]["said"], "", result["checks"]["said"])
    if result["calibration"]:
        yield from ("", *calibration(result["calibration"]))
    if result.get("longer"):
        steps = max(row["steps"] for row in result["longer"])
        seeds = len({row["seed"] for row in result["longer"]})
        yield from ("", f"The longer task: {steps} steps, {seeds} seed{'s' * (seeds > 1)} a layer.")


def cifar_row(
    rows: Sequence[Mapping[str, Any]], name: str, anchors: Sequence[str]
) -> Iterator[str]:
    """A layer's cells: its scores on each anchor, what rejected it, and its cost."""
    mine = [row for row in rows if row["layer"] == name]
    yield f"`{name}`"
    for anchor in anchors:
        yield spread([row["scores"][anchor] for row in mine if anchor in row["scores"]])
    codes = [row["rejected_by"].split(":")[0] for row in mine if row["rejected_by"]]
    named = ", ".join(sorted(set(codes)))
    yield f"{named} ({len(codes)} of {len(mine)})" if codes else "nothing"
    seconds = [row["seconds"] for row in mine if row.get("clock") == "processor"]
    yield f"{statistics.median(seconds):.1f}" if seconds else "-"


def on_quickstart(command: str, result: Mapping[str, Any]) -> Iterator[str]:
    """What one seed of the quickstart tells apart."""
    task, scores = result["config"]["task"], result["scores"]
    anchors = [anchor["name"] for anchor in task["anchors"]]
    seeds = len(next(iter(next(iter(scores.values())).values())))
    yield (
        f"`{command}`: {task['dataset']}, {task['steps']} steps of {task['batch_size']}, "
        f"{seeds} seeds a layer; accuracy on *select*, mean and standard deviation over seeds."
    )
    yield ""
    yield from table(
        ("layer", *anchors),
        ([f"`{name}`", *(spread(by[anchor]) for anchor in anchors)] for name, by in scores.items()),
    )
    yield from ("", *calibration(result["calibration"]))
    yield ""
    yield "; ".join(result["advice"]).capitalize() + "."


def on_hour(command: str, result: Mapping[str, Any]) -> Iterator[str]:
    """What a search of an hour found, each seed with its verdict as it came."""
    config, rivals = result["config"], result["config"]["confirmation"]["rivals"]
    level = f"{100 * config['confirmation']['level']:g} %"
    yield (
        f"`{command}`: the quickstart, searching for {config['budget']['hours']:g} hours instead. "
        "*final* is read once, for the leader and its rivals alone, with fresh seeds and each at "
        f"the learning rate that was best for it on *select*. Differences with {level} intervals; "
        "p is two-sided, paired over seeds and images, of anchors corrected for their number "
        "(Holm). [The whole report](../tests/benchmarks/results/quickstart_hour.md) is kept. "
        f"{hardware(result)}"
    )
    for run in result["runs"]:
        yield ""
        if run["anchors"] is None:
            yield f"Seed {run['seed']}: {run['verdict']}."
            continue
        beaten = sum(
            p < ALPHA and row["difference"]["value"] > 0.0
            for p, row in zip(run["p_of_anchors"], run["anchors"], strict=True)
        )
        yield (
            f"Seed {run['seed']}, {run['seconds'] / 60:.0f} minutes with the confirmation, "
            f"{run['evaluated']} candidates evaluated. Verdict: *{run['verdict']}*; with p below "
            f"{ALPHA:g} the leader beats the better rival on **{beaten} of {len(run['anchors'])}** "
            f"anchors. {run['seeds_on_final']} seeds on *final*. The leader: `{run['leader']}`"
            + (f", known as {run['known_as']}." if run["known_as"] else ".")
        )
        yield ""
        rows = [
            (row["anchor"], f"{row['leader']:.3f}", *(f"{row[name]:.3f}" for name in rivals),
             changed(row["difference"], goal_of(row["objective"])), p_value(p))
            for row, p in zip(run["anchors"], run["p_of_anchors"], strict=True)
        ]  # fmt: skip
        mean = ("mean", *[""] * (1 + len(rivals)), changed(run["difference_to_better"], ACCURACY))
        yield from table(
            ("anchor", "leader", *(f"`{name}`" for name in rivals), "to the better one", "p"),
            (*rows, (*mean, p_value(run["p_of_mean"]))),
        )


def on_rates(command: str, result: Mapping[str, Any]) -> Iterator[str]:
    """Which rate the quickstart searches at, and why."""
    rates = ", ".join(f"{rate:g}" for rate in result["confirmation_rates"])
    yield (
        f"`{command}`: the same layers at each rate and warm-up, mean of the networks. *As at the "
        "best rate* is the rank correlation of the layers' means with their means at the best of "
        f"the confirmation's rates ({rates}), which decides in the end. *Fails with some seeds*: "
        f"noise far above the other layers'. {hardware(result)}"
    )
    yield ""
    yield from table(
        ("rate", "warm-up steps", "ratio", "seeds for one point", "as at the best rate",
         "fails with some seeds"),
        (
            (f"{one['rate']:g}", str(one["warm_up_steps"]), number(one["ratio"]),
             str(one["seeds_for_one_point"]), number(one["as_at_the_best_rate"]),
             ", ".join(f"`{name}`" for name in one["failing"]) or "none")
            for one in result["settings"]
        ),
    )  # fmt: skip


def calibration(figures: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The figures of `evosearch preset calibrate`, an anchor a row."""
    yield from table(
        ("", "between layers", "between seeds", "ratio", "seeds for one point",
         "rank correlation with the longer task"),
        (
            (name, f"{one['between']:.4f}", f"{one['noise']:.4f}", number(one["ratio"]),
             str(one["seeds_for_one_point"]), number(one["rank_correlation"]))
            for name, one in figures.items()
        ),
    )  # fmt: skip


def on_training(command: str, result: Mapping[str, Any]) -> Iterator[str]:
    """Our training loop beside a plain one, and the cost of a rejection."""
    yield (
        f"`{command}`, preset `{result['preset']}`, one thread, in turns: steps a second of this "
        "loop and of a plain eager one with the same network and a hand-written layer; medians, "
        f"and the ratio's range. {hardware(result)}"
    )
    yield ""
    yield from table(
        ("layer", "network", "ours", "plain", "ratio"),
        (
            (one["layer"], one["anchor"], *speeds(one))
            for one in result["races"]
        ),
    )  # fmt: skip
    cost = result["rejection"]
    yield ""
    yield (
        f"A rejected candidate costs {100 * cost['median_share']:.1f} % of a full evaluation "
        f"(medians of {cost['rejected']} and {cost['full']} in a real search; means "
        f"{100 * cost['mean_share']:.1f} %)."
    )


def speeds(race: Mapping[str, Any]) -> Iterator[str]:
    """Median steps a second of both loops, and their ratio with its range."""
    for who in ("ours", "plain"):
        yield f"{statistics.median(race['steps_per_second'][who]):.1f}"
    yield f"{race['ratio']:.2f} ({race['ratio_low']:.2f} to {race['ratio_high']:.2f})"


def on_workers(command: str, result: Mapping[str, Any]) -> Iterator[str]:
    """A controller with thousands of workers, and with a million candidates stored."""
    found = result["pool"]
    clock = "by the processor's clock" if result["clock"] == "processor" else "by a real clock"
    yield (
        f"`{command}`: one controller with its SQLite store makes real proposals for "
        f"{result['workers']:,} simulated workers, whose answers and times are those of a real "
        f"search, scaled to ten minutes for {MEAN_OF[result['mean_of']]}. What the controller "
        f"takes {clock} passes on the simulated clock too. {hardware(result)}"
    )
    yield ""
    yield from table(
        ("evaluations", "trained to the end", "simulated hours", "workers idle",
         "after the first fill", "controller busy",
         "a queued candidate", "memory"),
        [(f"{found['answered']:,}", f"{found['to_the_end']:,}",
          f"{found['simulated_hours']:.1f}", f"{100 * found['idle_share']:.2f} %",
          f"{100 * found['idle_after_first_fill']:.2f} %",
          f"{100 * found['controller_share']:.0f} %", f"{found['ms_per_candidate']:.1f} ms",
          f"{found['peak_mib']:,.0f} MiB")],
    )  # fmt: skip
    if not result.get("sizes"):
        return
    population = int(dict(one.split("=", 1) for one in result["overrides"])[POPULATION])
    yield ""
    yield (
        "What a proposal costs with so many candidates stored already. It is compared with the "
        f"latest {KEPT_TRIED * population:,} that were trained, and its parents are of the latest "
        f"{population:,} evaluated: until there are as many, it costs more."
    )
    yield ""
    yield from table(
        ("candidates stored", "a proposal", "of it in checks", "a queued candidate", "opening",
         "memory"),
        (
            (f"{row['stored']:,}", f"{row['us_per_proposal']:.0f} us",
             f"{row['us_per_proposal_in_checks']:.0f} us", f"{row['ms_per_candidate']:.1f} ms",
             f"{row['opening_seconds']:.1f} s", f"{row['mib']:,.0f} MiB")
            for row in result["sizes"]
        ),
    )  # fmt: skip
    yield from ("", f"![Cost of a proposal over candidates stored](pictures/{WORKERS_PICTURE})")


def no_gpu(command: str) -> Iterator[str]:
    """Which claims have no figure."""
    yield (
        f"`{command}` makes these figures; it has not run on one yet. Training steps are not "
        "captured as CUDA graphs. Without a figure are:"
    )
    yield from ("", *(f"- {one};" for one in NO_GPU[:-1]), f"- {NO_GPU[-1]}.")


def on_gpu(command: str, result: Mapping[str, Any]) -> Iterator[str]:
    """The figures of a GPU."""
    yield f"`{command}` on {result['gpu']}:"
    yield ""
    yield from table(
        ("network", "ours", "plain", "ratio"),
        (
            (one["anchor"], *speeds(one))
            for one in result["races"]
        ),
    )  # fmt: skip
    yield ""
    yield (
        f"{result['chosen']} candidates a GPU: {result['candidates_per_hour_several']:,.0f} an "
        f"hour, {result['candidates_per_hour_one']:,.0f} one at a time (trainings alone)."
    )


READS = {
    "REST: by birth, falling": "first page of candidates",
    "REST: by mean_score, falling, second page": "second page, by score",
    "front": "front",
    "funnel": "funnel",
    "population summary": "population summary",
    "candidate": "one candidate with all it has",
    "REST: a least score": "page filtered by a least score",
}
"""Read of the benchmark -> what the page calls it."""


def on_store(command: str, result: Mapping[str, Any]) -> Iterator[str]:
    """The SQLite store as a search grows."""
    sizes = result["sizes"]
    slowest = max(read["median_ms"] for one in sizes for read in one["reads"].values())
    yield (
        f"`{command}`: the SQLite store ({result['sqlite']}), half of the candidates evaluated; "
        f"median milliseconds of {len(sizes[0]['reads'])} reads (the slowest of all takes "
        f"{slowest:.1f} ms), some of which are shown. An outcome is a durable transaction of three "
        f"trainings and what follows from them. {hardware(result)}"
    )
    yield ""
    rows = [[name, *(f"{one['reads'][key]['median_ms']:.1f} ms" for one in sizes)]
            for key, name in READS.items()]  # fmt: skip
    done = [one["outcomes"] for one in sizes]
    rows += [
        ["recording an outcome", *(f"{one['store_median_ms']:.2f} ms" for one in done)],
        ["outcomes a second", *(f"{one['store_per_s']:,.0f}" for one in done)],
        ["of what the bare driver does", *(f"{100 * one['ratio']:.0f} %" for one in done)],
        ["opening the search again", *(f"{one['opening']['open_s']:.1f} s" for one in sizes)],
        ["file", *(f"{one['file_mib']:,.0f} MiB" for one in sizes)],
    ]
    yield from table(("candidates", *(f"{one['candidates']:,}" for one in sizes)), rows)
    yield from ("", f"![Milliseconds over candidates](pictures/{STORE_PICTURE})")


def on_dashboard(command: str, result: Mapping[str, Any]) -> Iterator[str]:
    """The search page at scale, by the browser's own clock."""
    yield (
        f"`{command}`: the search page over {result['candidates']:,} candidates in headless "
        f"Chromium, figures of the browser's performance API; then {result['minutes']:g} minutes "
        f"of live events, {result['live_per_second']:g} a second. {hardware(result)}"
    )
    yield ""
    units = {"paint": "s", "frame": "ms"}
    yield from table(
        ("", "measured", "at most"),
        (
            (name, *(f"{one[key]:g} {next((u for w, u in units.items() if w in name), '')}".strip()
                     for key in ("measured", "limit")))
            for name, one in result["verdicts"].items()
        ),
    )  # fmt: skip


PARTS = {
    "store": Part(
        "A search of a million candidates",
        "python -m tests.benchmarks.bench_store",
        on_store,
    ),
    "dashboard": Part(
        "The dashboard of a large search",
        "python -m tests.benchmarks.bench_dashboard",
        on_dashboard,
    ),
    "cifar10_cpu": Part(
        "Known layers on CIFAR-10",
        "python -m tests.benchmarks.study_cifar",
        on_cifar,
    ),
    "calibrate_quickstart": Part(
        "What the quickstart's proxy tells apart",
        "evosearch preset calibrate quickstart",
        on_quickstart,
    ),
    "quickstart_hour": Part(
        "A quickstart of an hour",
        "python -m tests.benchmarks.soak_quickstart --name quickstart_hour "
        "--set budget.hours=0.9 --set budget.evaluations=5000 --seeds 0 --report",
        on_hour,
    ),
    "rates": Part(
        "The rate that the quickstart searches at",
        "python -m tests.benchmarks.study_rates FOLDER",
        on_rates,
    ),
    "training": Part(
        "Training on a CPU",
        "python -m tests.benchmarks.bench_training",
        on_training,
    ),
    "workers": Part(
        "Thousands of workers",
        "python -m tests.benchmarks.study_workers",
        on_workers,
    ),
    "gpu": Part("On a GPU", "python -m tests.benchmarks.bench_gpu", on_gpu, no_gpu),
}
"""Name of a result -> what the page says of it."""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A Markdown table."""
    names = list(head)
    yield f"| {' | '.join(names)} |"
    yield "|" + "---|" * len(names)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def spread(scores: Sequence[float]) -> str:
    """Mean and standard deviation, with the number of seeds."""
    if not scores:
        return "-"
    if len(scores) == 1:
        return f"{scores[0]:.3f} (n=1)"
    return f"{statistics.mean(scores):.3f} ± {statistics.stdev(scores):.3f} (n={len(scores)})"


def number(value: float | None) -> str:
    """With two digits; a dash where there is none."""
    return "-" if value is None else f"{value:.2f}"


def hardware(result: Mapping[str, Any]) -> str:
    """Where and when it was measured."""
    about = result.get("environment", {})
    if "processor" not in about:
        return ""
    return f"{about['processor']}, {about['cores']} cores, {about['date']}."


def main() -> None:
    TARGET.write_text(page(), encoding="utf-8")
    for name in (WORKERS_PICTURE, STORE_PICTURE):
        if (RESULTS / name).exists():
            shutil.copy(RESULTS / name, PICTURES / name)


if __name__ == "__main__":
    main()
