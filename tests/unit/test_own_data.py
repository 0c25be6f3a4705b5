"""A user's own data, and text: what is taken, how it is split, what is refused."""

from __future__ import annotations

import gc
import os
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from evosearch.config import Anchor, Task
from evosearch.errors import ConfigError
from evosearch.own import Entry, OwnAnchor
from workers import datasets
from workers.data_dir import DATA_DIR_VARIABLE
from workers.datasets import tinyshakespeare
from workers.datasets._own import load_own
from workers.evaluate import Context
from workers.latest import PLUGIN_VERSIONS, Latest

RNG = np.random.default_rng(0)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    return tmp_path


def images(count, shape=(8, 8, 3)):
    return RNG.integers(0, 256, (count, *shape)).astype(np.uint8)


def test_npz_in_any_layout_is_split_and_numbered(root):
    for shape, channels in (((8, 8, 3), 3), ((8, 8), 1), ((3, 8, 8), 3)):
        name = f"own{len(shape)}{shape[0]}.npz"
        np.savez(root / name, x_train=images(100, shape), y_train=np.arange(100) % 4)
        data = datasets.load(name)
        assert data.train.x.shape == (80, channels, 8, 8)
        assert [len(split) for split in (data.train, data.select, data.final)] == [80, 10, 10]
        assert data.num_classes == 4
        assert len(data.mean) == channels


def test_npz_with_all_splits_keeps_them_and_floats_stay(root):
    x = RNG.standard_normal((30, 4, 4))
    y = np.arange(10) % 3
    np.savez(root / "all.npz", x_train=x[:10], y_train=y, x_val=x[10:20], y_val=y,
             x_test=x[20:], y_test=y[:, None])  # fmt: skip
    data = datasets.load(str(root / "all.npz"))
    assert torch.allclose(data.final.x[:, 0], torch.from_numpy(x[20:]).float())
    assert data.select.y.tolist() == y.tolist()
    assert data.prepare(data.train.x) is data.train.x


@pytest.mark.parametrize(
    ("arrays", "part"),
    [
        ({"x": images(4)}, "x_train and y_train"),
        ({"x_train": images(4), "y_train": np.arange(3)}, "4 images, 3 labels"),
        ({"x_train": images(4), "y_train": np.ones(4)}, "float64"),
        ({"x_train": images(4), "y_train": np.arange(4) - 1}, "smallest -1"),
        ({"x_train": images(4, (8,)), "y_train": np.arange(4)}, "(4, 8)"),
        ({"x_train": images(4, (8, 8, 7)), "y_train": np.arange(4)}, "1, 3 or 4 channels"),
        ({"x_train": np.full((4, 8, 8), np.nan), "y_train": np.arange(4)}, "not finite"),
        ({"x_train": np.array([None] * 4), "y_train": np.arange(4)}, "allow_pickle"),
    ],
)
def test_npz_that_is_no_data_set_is_refused(root, arrays, part):
    np.savez(root / "bad.npz", **arrays)
    with pytest.raises(ConfigError) as caught:
        datasets.load("bad.npz")
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_broken_npz_are_named(root):
    with pytest.raises(ConfigError, match=r"none\.npz"):
        datasets.load("none.npz")
    (root / "text.npz").write_text("hello")
    with pytest.raises(ConfigError, match=r"text\.npz"):
        datasets.load("text.npz")


def write_folder(base, classes=("cat", "dog"), count=10, size=(40, 50)):
    for number, name in enumerate(classes):
        (base / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.full((*size, 3), 60 * number + index, np.uint8)
            Image.fromarray(pixels).save(base / name / f"{index}.png")


def test_image_folder_takes_its_classes_from_folders(root):
    write_folder(root / "pets")
    data = datasets.load("folder:pets@16")
    assert data.train.x.shape == (16, 3, 16, 16)
    assert (data.num_classes, len(data.select), len(data.final)) == (2, 2, 2)
    value = data.train.x[:, 0, 0, 0].long()
    assert torch.equal(data.train.y, (value >= 60).long())


def test_image_folder_with_test_and_grey_images(root):
    write_folder(root / "pets" / "train")
    write_folder(root / "pets" / "test", count=3)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(root / "pets" / "test" / "cat" / "grey.png")
    data = datasets.load("folder:pets")
    assert data.final.x.shape == (7, 3, 32, 32)
    assert data.final.y.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_image_folder_refusals(root):
    with pytest.raises(ConfigError, match="no such folder"):
        datasets.load("folder:none")
    with pytest.raises(ConfigError, match="SIZE from 4"):
        datasets.load("folder:none@huge")
    write_folder(root / "one", classes=("cat",))
    with pytest.raises(ConfigError, match="two folders or more"):
        datasets.load("folder:one")
    write_folder(root / "two")
    (root / "two" / "cat" / "broken.png").write_bytes(b"PNG?")
    with pytest.raises(ConfigError, match=r"broken\.png"):
        datasets.load("folder:two")


def test_the_versions_that_were_used_last_are_kept():
    made, kept = [], Latest(2)

    def of(name, version):
        return kept.of(name, version, lambda: made.append((name, version)) or (name, version))

    for version in (1, 2, 1, 3, 1, 2):  # 1 is used again before 3 comes, so 2 goes, and comes again
        assert of("a", version) == ("a", version)
        assert of("b", 0) == ("b", 0)
    assert made == [("a", 1), ("b", 0), ("a", 2), ("a", 3), ("a", 2)]
    with pytest.raises(ZeroDivisionError):
        kept.of("c", 1, lambda: 1 // 0)
    assert of("c", 1) == ("c", 1)


def alive(rows):
    gc.collect()
    return sum(one() is not None for one in rows)


@pytest.mark.parametrize("name", ["own.npz", "folder:pets@8"])
def test_images_that_were_edited_are_let_go(root, name):
    write_folder(root / "pets")
    np.savez(root / "own.npz", x_train=images(10), y_train=np.arange(10) % 2)
    changed, rows = root / ("own.npz" if name == "own.npz" else "pets/cat"), []
    for number in range(4):
        os.utime(changed, ns=(number, number))
        rows += [weakref.ref(datasets.load(name).train.x)]
        assert datasets.load(name).train.x is rows[-1]()
    assert alive(rows) == 1


def test_versions_of_a_plugin_are_let_go_and_those_in_use_stay():
    class Edited:
        def data(self, ctx):
            x = torch.rand(40, 3)
            return x, x

        build = loss = evaluate = None

    rows, context, own = [], Context(device="cpu"), OwnAnchor("edited", "task", Edited)
    for number in range(2 * PLUGIN_VERSIONS):
        entry = Entry(
            "dataset", "edited", lambda: {"train": (images(20), np.arange(20) % 2)}, "", ""
        )
        rows += [weakref.ref(load_own(entry).train.x)]
        assert load_own(entry).train.x is rows[-1]()
        task = Task(anchors=(Anchor(name="edited"),), batch_size=8, steps=number + 1)
        data = context.own_data(own, task)
        assert context.own_data(own, task) is data
        rows += [weakref.ref(data.instance)]
        del data
    assert alive(rows[::2]) == alive(rows[1::2]) == PLUGIN_VERSIONS


def test_text_windows_predict_the_next_character_and_splits_do_not_overlap(root):
    text = bytes(RNG.integers(97, 120, 8000).astype(np.uint8))
    (root / "tinyshakespeare").mkdir()
    (root / "tinyshakespeare" / "input.txt").write_bytes(text)
    tinyshakespeare.load.cache_clear()
    data = datasets.load("tinyshakespeare")
    tinyshakespeare.load.cache_clear()
    assert data.kind == "text"
    assert data.num_classes == data.channels == 23
    symbols = sorted(set(text))
    assert [symbols[n] for n in data.train.x[1].tolist()] == list(text[16:80])
    assert torch.equal(data.train.x[0, 1:], data.train.y[0, :-1])
    assert data.prepare(data.train.x).dtype == torch.int64
    last = [symbols[n] for n in data.train.y[-1].tolist()]
    assert bytes(last) in text[: int(0.9 * 8000)]
    first = [symbols[n] for n in data.select.x[0].tolist()]
    assert bytes(first) == text[7200 : 7200 + 64]
    assert bytes(symbols[n] for n in data.final.x[0].tolist()) == text[7600 : 7600 + 64]
