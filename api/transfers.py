"""Settings of trainings after a search: its own anchors and data, and what it never used.

One parser of names and one check for re-rankings and for the studies of a report. What cannot train
is refused here, before anything does. Nothing is trained or kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from evosearch.config import Anchor, Size, Task
from evosearch.errors import ConfigError, EvosearchError
from evosearch.rerank import Setting

TRANSFERS = ("resnet", "mobilenetv2", "efficientnet", "convnext")
"""Anchors that a re-ranking transfers to by default; the first that the search did not use."""
SIZES: tuple[Size, ...] = get_args(Size)


def default_transfer(task: Task) -> tuple[str, ...]:
    """An anchor that the search did not use (`TRANSFERS`), and embedded data that it did not.

    The anchor is of the size of the search's own; none where that is dear (full size). Neither
    where layers do not move: texts, and anchors of a user's own.
    """
    from workers.anchors import ANCHORS
    from workers.datasets import EMBEDDED

    own = {anchor.name for anchor in task.anchors}
    networks = [ANCHORS.get(name) for name in own]
    if not all(one.own is None and one.kind == "image" and not one.forbids for one in networks):
        return ()
    dear = task.anchors[0].size == "full"
    anchors = [name for name in TRANSFERS if name not in own][: 0 if dear else 1]
    data = [name for name, kind in EMBEDDED.items() if kind == "image" and name != task.dataset]
    return (*anchors, *data[:1])


def settings_of(
    task: Task, transfer: Iterable[str], *, anchors: Sequence[str] = (),
    dataset: str | None = None, in_rungs: bool = False,
) -> list[Setting]:  # fmt: skip
    """Every anchor on every data set: those that are asked for or the search's, then the transfers.

    ``transfer``: names of anchors, ``NAME`` or ``NAME:SIZE``, and of data sets. ``in_rungs``: the
    training stops at rungs and is looked at there.

    Raises:
        ConfigError: a name is neither, is the search's and called a transfer, comes twice, or
            anchors and data do not fit.
    """
    own = {anchor.name: anchor for anchor in task.anchors}
    base = dataset or task.dataset
    more, datasets = _transfers(task, own, transfer)
    every = [*([anchor_of(text, own) for text in anchors] or task.anchors), *more]
    names = [*(anchor.name for anchor in every), base, *datasets]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError("named twice", expected="each anchor and data set once", got=twice[0])
    found = []
    for name in (base, *datasets):
        _check_fit(name, every, moved=name != task.dataset, in_rungs=in_rungs)
        whole = name != task.dataset and _other_images(task, name)
        found += [
            Setting(dataset=name, anchor=anchor, whole=whole, sized=_sized(anchor.name),
                    searched=name == task.dataset and anchor.name in own)
            for anchor in every
        ]  # fmt: skip
    return found


def label(anchor: Anchor, *, sized: bool = True) -> str:
    """The anchor as headings name it, with its size where it comes in sizes."""
    return f"{anchor.name} {anchor.size}" if sized else anchor.name


def _transfers(
    task: Task, own: Mapping[str, Anchor], transfer: Iterable[str]
) -> tuple[list[Anchor], list[str]]:
    """The anchors and the data sets among the names."""
    from workers.anchors import ANCHORS
    from workers.datasets import DATASETS

    anchors, datasets = list[Anchor](), list[str]()
    for text in transfer:
        name = text.partition(":")[0]
        if name in own or text == task.dataset:
            raise ConfigError("the search used it: that is no transfer", got=text)
        if text in DATASETS.names() or name == "folder" or text.endswith(".npz"):
            datasets.append(text)
        elif name in ANCHORS.names():
            anchors.append(anchor_of(text, own))
        else:
            known = [one for one in (*ANCHORS.names(), *DATASETS.names())
                     if one not in (*own, task.dataset)]  # fmt: skip
            raise ConfigError("neither an anchor nor a data set", got=repr(text),
                              expected=", ".join(known))  # fmt: skip
    return anchors, datasets


def anchor_of(text: str, own: Mapping[str, Anchor]) -> Anchor:
    """The setting of ``NAME`` or ``NAME:SIZE``, by default of the size of the search's anchors.

    Of the search's own anchors in its setting.

    Raises:
        ConfigError: no such size, or the anchor takes no layer of the search.
    """
    from workers.anchors import ANCHORS

    name, colon, size = text.partition(":")
    network = ANCHORS.get(name)
    if colon and size not in SIZES:
        raise ConfigError("no size of an anchor", expected="NAME or NAME:SIZE, with size micro, "
                          "small or full", got=repr(text))  # fmt: skip
    if colon and network.own is not None:
        raise ConfigError("an anchor of your own has one size", expected=name, got=text)
    anchor = own.get(name)
    if anchor is None:
        kinds = {ANCHORS.get(one).kind for one in own}
        if network.forbids or network.kind not in kinds:
            raise ConfigError("an anchor that forbids mixing axes, or of other data, takes no such "
                              "layer", got=name)  # fmt: skip
        sizes = [one.size for one in own.values() if _sized(one.name)] if _sized(name) else []
        anchor = Anchor(name=name, size=sizes[0] if sizes else "micro")
    if not colon:
        return anchor
    return anchor.model_copy(update={"size": size, "width": None, "depth": None})


def _sized(name: str) -> bool:
    from workers.anchors import ANCHORS

    return ANCHORS.get(name).own is None


def _check_fit(dataset: str, anchors: Iterable[Anchor], *, moved: bool, in_rungs: bool) -> None:
    """Refuse data that is not at hand, or that anchors cannot train on."""
    from workers.anchors import ANCHORS
    from workers.datasets import load

    kind = None
    for anchor in anchors:
        network = ANCHORS.get(anchor.name)
        own = network.own
        if own is not None and own.kind == "evaluator" and in_rungs:
            raise ConfigError("an evaluator trains in one go and cannot be tuned in rungs",
                              got=anchor.name)  # fmt: skip
        if own is not None and (own.kind in ("task", "evaluator") or own.dataset):
            if moved:
                raise ConfigError("an anchor of your own that brings its data stays with it",
                                  got=f"{anchor.name} on {dataset}")  # fmt: skip
            continue
        kind = kind or load(dataset).kind
        if network.kind != kind:
            raise ConfigError(f"anchor {anchor.name} does not fit the data set {dataset}",
                              expected=f"an anchor of kind {kind}", got=network.kind)  # fmt: skip


def _other_images(task: Task, dataset: str) -> bool:
    """Whether the task's crops and flips were made for images of another size, or of who knows."""
    from workers.augment import wanted
    from workers.datasets import load

    if not wanted(task.augmentation):
        return False
    try:
        before = load(task.dataset)
    except EvosearchError:  # it is not at hand any more
        return True
    return before.train.x.shape[1:] != load(dataset).train.x.shape[1:]
