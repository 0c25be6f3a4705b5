"""From what a caller names (anchors of their own or ours, budgets, constraints) to a config.

Names are found in `api.naming`. What an anchor's own code says (slot, forbidden axes, objectives,
baselines) is written into the config, so that it is complete in itself. A short pass through each
own anchor comes before anything is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from api.naming import Parts, anchor_setting, named, plugin_of
from evosearch.config import Anchor, Plugin, SearchConfig
from evosearch.errors import ConfigError, PluginError
from evosearch.own import ORIGINAL, OwnAnchor
from evosearch.plugins import (
    ensure,
    load,
    loaded,
    read_source,
)
from evosearch.presets import config_from, load_preset, preset_with, set_overrides
from evosearch.rerank import RATE_FACTORS

WITHOUT_EXPERIENCE = {"experience": False, "warm_up": 5}
"""Experience is of convolutional networks; who has none needs a few candidates to begin with."""
CONFIRMATION = {"top": 3, "seeds": 3, "tune_seeds": 2, "final_seeds": 10}
BASELINES = {
    "norm_act": ("bn-relu", "bn-silu", "gn-relu", "token_ln-gelu"),
    "norm": ("token_ln-gelu", "rms-norm", "bn-relu"),
    "act": ("token_ln-gelu", "bn-relu", "swish"),
}
"""By slot; of these the first two that no anchor forbids."""


def allowed_baselines(anchors: Sequence[Anchor], wanted: Iterable[str]) -> list[str]:
    """Of the baselines those that every anchor takes."""
    from workers.anchors import ANCHORS
    from workers.layers import LayerFactory

    found = []
    for name in dict.fromkeys(wanted):
        fits = True
        for anchor in anchors:
            network = ANCHORS.get(anchor.name)
            if name == ORIGINAL:
                fits &= network.own is not None and network.own.kind == "model"
            else:
                made = LayerFactory(None, name, 32, anchor.slot or network.slots[0])
                fits &= not made.mixes() & network.forbids
                # Into a finished model go formulas; others are modules of torch's.
                is_model = network.own is not None and network.own.kind == "model"
                fits &= not is_model or made.graph is not None
        if fits:
            found.append(name)
    return found


def default_baselines(anchors: Sequence[Anchor]) -> list[str]:
    """What the anchors' own code names, or else known layers of their slot.

    Raises:
        ConfigError: the anchors have none in common.
    """
    from workers.anchors import ANCHORS

    networks = [ANCHORS.get(anchor.name) for anchor in anchors]
    own = [network.own for network in networks if network.own is not None]
    named = [name for one in own for name in _own_baselines(one)]
    slot = anchors[0].slot or networks[0].slots[0]
    found = allowed_baselines(anchors, named) or allowed_baselines(anchors, BASELINES[slot])[:2]
    if not found:
        raise ConfigError(
            "no known layer fits all these anchors", got=", ".join(one.name for one in anchors),
            expected="baselines=[...] that each of them takes",
        )  # fmt: skip
    return found


def _own_baselines(own: OwnAnchor) -> tuple[str, ...]:
    original = (ORIGINAL,) if own.kind == "model" and ORIGINAL not in own.baselines else ()
    return (*original, *own.baselines)


def complete(config: SearchConfig) -> SearchConfig:
    """The config with its plug-ins hashed and loaded, and its own anchors' measures filled in.

    What a person wrote stays. Anchors of a user's own are tried here, in a process of their own.

    Raises:
        PluginError: a plug-in is gone, has changed, or fails.
    """
    plugins = tuple(_hashed(plugin) for plugin in config.task.plugins)
    ensure(plugins)
    anchors = [
        Anchor.model_validate(
            anchor_setting(one.name, one.model_dump(mode="json", exclude_defaults=True))
        )
        for one in config.task.anchors
    ]
    task = config.task.model_copy(update={"plugins": plugins, "anchors": tuple(anchors)})
    config = _with_baselines(config.model_copy(update={"task": task}))
    stability = config.checks.stability if config.checks.stability.enabled else None
    filled = tuple(_measured(task, one, config.baselines, stability) for one in task.anchors)
    task = task.model_copy(update={"anchors": filled})
    return config.model_copy(update={"task": task})


def _with_baselines(config: SearchConfig) -> SearchConfig:
    """Baselines that no anchor takes give way to those that the user's own code names."""
    from workers.anchors import ANCHORS

    anchors = config.task.anchors
    if all(ANCHORS.get(one.name).own is None for one in anchors):
        return config
    fitting = allowed_baselines(anchors, config.baselines) or default_baselines(anchors)
    rivals = allowed_baselines(anchors, config.confirmation.rivals) or fitting[:2]
    confirmation = config.confirmation.model_copy(update={"rivals": tuple(rivals)})
    return config.model_copy(update={"baselines": tuple(fitting), "confirmation": confirmation})


def file_config(
    name: str, overrides: Iterable[str] = (), seed: int | None = None,
    plugins: Iterable[str] = (), plugin_path: Path | None = None,
) -> SearchConfig:  # fmt: skip
    """The config of a preset or a .toml file, in which parts are named by file or by name.

    What an anchor's code says (slot, axes, objectives, baselines) is filled in by `complete`; the
    baselines of an own anchor replace those of a preset that does not fit it.

    Raises:
        NotFound, ConfigError: as `load_preset`.
        PluginError: a plug-in cannot be loaded, or has no such name.
    """
    data = preset_with(name, overrides, seed)
    parts = Parts(plugin_path)
    for reference in plugins:
        parts.take(load(read_source(reference, plugin_path)))
    named(data, parts)
    return config_from(data, where=name)


def _hashed(plugin: Plugin) -> Plugin:
    known = loaded(plugin.sha256) if plugin.sha256 else None
    return plugin if known is not None else plugin_of(plugin).plugin


def _measured(task: Any, anchor: Anchor, baselines: Sequence[str], stability: Any) -> Anchor:
    """The anchor with its reference point and quality limit: what knowing nothing scores.

    Of a built-in one only where a further objective does not say its worst value.
    """
    from api.first_pass import first_pass
    from workers.anchors import ANCHORS

    own = ANCHORS.get(anchor.name).own
    is_set = own is None or "reference" in anchor.model_fields_set
    missing = [
        goal.name for goal in anchor.objectives[1:]
        if goal.worst is None and goal.name not in anchor.references
    ]  # fmt: skip
    if is_set and not missing and (own is None or anchor.quality is not None):
        return anchor
    fitting = allowed_baselines([anchor], baselines or default_baselines([anchor]))
    if not fitting:
        raise ConfigError(
            f"no baseline fits anchor {anchor.name}", got=", ".join(baselines),
            expected="baselines=[...] that mix no axis it forbids",
        )  # fmt: skip
    found = first_pass(task, anchor.name, fitting[0], stability)
    changes: dict[str, Any] = {}
    if not is_set:
        changes["reference"] = round(found.score, 6)
    wanted = missing if is_set else found.more
    # A tenth worse: a measure that no layer changes would leave no volume at all.
    worse = {name: round(one - 0.1 * abs(one), 6) for name, one in found.more.items()}
    changes["references"] = {**anchor.references, **{name: worse[name] for name in wanted}}
    if own is None:
        return anchor.model_copy(update=changes)
    if own.kind != "evaluator" and anchor.quality is None and anchor.objectives:
        changes["quality"] = round(found.score, 6)
    return anchor.model_copy(update=changes)


def own_config(
    anchors: Iterable[Any], *, preset: str | None, settings: Mapping[str, Any],
    baselines: Iterable[str] | None, checks: Iterable[str], objectives: Iterable[str],
    plugin_path: Path | None, plugins: Iterable[str] = (),
) -> SearchConfig:  # fmt: skip
    """The config of a search over these anchors; ``settings`` are dotted keys over the defaults.

    Raises:
        ConfigError, NotFound, PluginError: something named is wrong.
    """
    parts = Parts(plugin_path)
    names = list(dict.fromkeys(name for one in anchors for name in parts.anchors(one)))
    if not names:
        raise ConfigError("no anchors", expected='anchors=["my_task.py:TinyGPT"] or names')
    data: dict[str, Any] = load_preset(preset).model_dump(mode="json") if preset else _defaults()
    task = data.setdefault("task", {})
    before = {one["name"]: one for one in task.get("anchors", ())}
    task["anchors"] = [anchor_setting(name, before.get(name)) for name in names]
    made = [Anchor.model_validate(one) for one in task["anchors"]]
    set_overrides(data, settings)
    space = data.setdefault("space", {})
    space["checks"] = list(dict.fromkeys((*space.get("checks", ()), *checks)))
    task["objectives"] = [*task.get("objectives", ()), *objectives]
    task["plugins"] = [*task.get("plugins", ()), *plugins]
    named(data, parts)
    chosen = list(baselines) if baselines is not None else default_baselines(made)
    data["baselines"] = chosen
    confirmation = data.setdefault("confirmation", {})
    confirmation["rivals"] = chosen[:2] or ["bn-relu"]
    _follow(data, made)
    return config_from(data, where="es.search")


def _follow(data: dict[str, Any], anchors: Sequence[Anchor]) -> None:
    """Settings that follow from the anchors, where nobody has set them."""
    forbidden = {axis for anchor in anchors for axis in anchor.forbids}
    space = data.setdefault("space", {})
    if "positions" in forbidden:
        space.setdefault("op_set", "paper+token")
    if "batch" in forbidden:
        data.setdefault("series", "S")
    task, checks = data["task"], data.setdefault("checks", {})
    steps = task.get("steps", 100)
    quality = checks.setdefault("quality", {})
    quality["steps"] = min(quality.get("steps", max(1, round(0.4 * steps))), steps)
    rate = task.get("learning_rate", 0.2)
    rates = [round(rate * factor, 6) for factor in RATE_FACTORS]
    data["confirmation"].setdefault("learning_rates", rates)


def _defaults() -> dict[str, Any]:
    """A search of a few hundred cheap evaluations that proposes as the quickstart does."""
    quick = load_preset("quickstart")
    return {
        "preset": "own",
        "space": {"draw": quick.space.draw},
        "evolution": quick.evolution.model_dump(mode="json") | WITHOUT_EXPERIENCE,
        "confirmation": {**CONFIRMATION},
    }


def ensure_same_task(config: SearchConfig) -> None:
    """Try the loaded code of a search's anchors, and see that it still has the search's task.

    Raises:
        PluginError: it fails, or says other objectives, axes or another slot than the config.
    """
    from api.first_pass import first_pass
    from workers.anchors import ANCHORS

    stability = config.checks.stability if config.checks.stability.enabled else None
    for anchor in config.task.anchors:
        if ANCHORS.get(anchor.name).own is None:
            continue
        now = Anchor.model_validate(anchor_setting(anchor.name))
        goals = anchor.objectives[: len(now.objectives)]
        pairs = {"objectives": (goals, now.objectives), "slot": (anchor.slot, now.slot),
                 "forbids": (anchor.forbids, now.forbids)}  # fmt: skip
        for what, (before, after) in pairs.items():
            if before != after:
                raise PluginError(
                    f"the changed code of anchor {anchor.name} has other {what} than the search",
                    expected=str(before), got=str(after), hint="start a search of its own with it",
                )  # fmt: skip
        fitting = allowed_baselines([anchor], config.baselines or default_baselines([anchor]))
        first_pass(config.task, anchor.name, fitting[0], stability)


def same_but_for_code(one: SearchConfig, other: SearchConfig) -> bool:
    """Whether two configs differ in nothing but the content of their plug-ins."""
    return one != other and _without_code(one) == _without_code(other)


def _without_code(config: SearchConfig) -> dict[str, Any]:
    data = config.model_dump(mode="json")
    for plugin in data["task"]["plugins"]:
        plugin["sha256"] = ""
    for anchor in data["task"]["anchors"]:
        # These were measured with the code.
        anchor["reference"], anchor["references"], anchor["quality"] = 0.0, {}, None
    return data


__all__ = ["complete", "ensure_same_task", "file_config", "own_config", "same_but_for_code"]
