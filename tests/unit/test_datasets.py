"""Data sets: shapes, determinism, splits that share no image, and clear refusals."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from evosearch.errors import ConfigError, NotFound
from workers import datasets
from workers.data_dir import DATA_DIR_VARIABLE
from workers.datasets import polarity_digits
from workers.registry import Registry

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("polarity-digits")


def test_polarity_digits_have_the_stated_sizes(digits):
    rows = {name: len(getattr(digits, name)) for name in ("train", "select", "final")}
    assert rows == {"train": 1600, "select": 700, "final": 697 * 4}
    for split in (digits.train, digits.select, digits.final):
        assert split.x.shape[1:] == (1, 8, 8)
        assert (split.x.dtype, split.y.dtype) == (torch.float32, torch.int64)
        assert set(split.y.tolist()) == set(range(10))
    assert digits.num_classes == 10
    assert digits.channels == 1


def test_draws_of_an_image_share_label_and_number_but_not_noise(digits):
    final = digits.final
    assert torch.equal(final.image.unique(), torch.arange(697))
    assert torch.equal(final.image.bincount(), torch.full((697,), 4))
    labels = torch.full((697,), -1)
    labels[final.image] = final.y
    assert torch.equal(labels[final.image], final.y)
    first = final.x[final.image == 0]
    assert len({tuple(row.flatten().tolist()) for row in first}) == 4


def test_signs_and_noise_have_the_stated_shares(digits):
    means = digits.final.x.mean(dim=(1, 2, 3))
    # The mean pixel of a digit is about +-.3, and the noise of a mean over 64 pixels .04.
    assert (means < 0).float().mean().item() == pytest.approx(0.3, abs=0.03)
    # The first row of the digits is empty but for the stroke: the corner pixel is noise alone.
    assert digits.final.x[:, 0, :, 0].std().item() == pytest.approx(0.35, abs=0.03)


def test_noise_does_not_depend_on_global_random_state(digits):
    np.random.seed(1)
    torch.manual_seed(1)
    polarity_digits.load.cache_clear()
    again = datasets.load("polarity-digits")
    assert torch.equal(again.train.x, digits.train.x)
    assert torch.equal(again.final.x, digits.final.x)


def test_the_digits_are_read_as_scikit_learn_reads_them(monkeypatch):
    digits = load_digits()
    rows = polarity_digits._digits()
    assert np.array_equal(rows, np.column_stack([digits.data, digits.target]))
    monkeypatch.setattr(polarity_digits, "find_spec", lambda name: None)  # a file that moved
    assert np.array_equal(rows, polarity_digits._digits())
    assert rows.dtype == polarity_digits._digits().dtype


def test_polarity_digits_are_pinned(digits):
    """The task of every recorded search; a change makes their scores incomparable."""
    rounded = torch.cat([s.x.flatten() for s in (digits.train, digits.select, digits.final)])
    # Rounded, for the last bits of the noise may differ between platforms.
    digest = hashlib.sha256((rounded * 100).round().to(torch.int32).numpy().tobytes())
    assert digest.hexdigest()[:16] == "52e4584e74b21870"


def test_moving_to_a_device_keeps_rows_and_augmentation(digits):
    moved = digits.to("cpu")
    assert torch.equal(moved.select.x, digits.select.x)
    assert moved.augment is digits.augment is None


def _write_idx(folder, train=4200, test=5100):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in zip(IDX_FILES, (train, train, test, test), strict=True):
        shape = (count, 28, 28) if "images" in name else (count,)
        body = rng.integers(0, 256 if "images" in name else 10, shape).astype(np.uint8)
        head = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
        with gzip.open(folder / f"{name}.gz", "wb", compresslevel=1) as file:
            file.write(head + body.tobytes())


def test_idx_data_set_is_read_downsampled_and_split(tmp_path, monkeypatch):
    _write_idx(tmp_path / "mnist")
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    from workers.datasets import mnist

    mnist.load.cache_clear()
    data = datasets.load("mnist")
    mnist.load.cache_clear()
    assert [len(s) for s in (data.train, data.select, data.final)] == [2000, 2000, 5000]
    assert data.train.x.shape[1:] == (1, 14, 14)
    assert 0 <= data.train.x.min() < data.train.x.max() <= 1
    rows = {row.numpy().tobytes() for split in (data.train, data.select) for row in split.x}
    assert len(rows) == 4000, "train and select share an image"


def test_the_full_idx_data_sets_are_read_whole(tmp_path, monkeypatch):
    _write_idx(tmp_path / "fashion-mnist", train=200, test=50)
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    from workers.datasets import fashion_mnist_full

    fashion_mnist_full.load.cache_clear()
    data = datasets.load("fashion-mnist-full")
    fashion_mnist_full.load.cache_clear()
    assert [len(s) for s in (data.train, data.select, data.final)] == [180, 20, 50]
    assert data.train.x.dtype == torch.uint8
    assert data.train.x.shape[1:] == (1, 28, 28)
    assert data.num_classes == 10
    rows = {row.numpy().tobytes() for split in (data.train, data.select) for row in split.x}
    assert len(rows) == 200, "each image once"
    assert abs(float(data.prepare(data.train.x).mean())) < 0.01


def test_missing_file_is_one_line_with_file_and_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        datasets.load("fashion-mnist")
    message = str(caught.value)
    assert "train-images-idx3-ubyte.gz" in message
    assert str(tmp_path / "fashion-mnist") in message
    assert "\n" not in message
    monkeypatch.delenv(DATA_DIR_VARIABLE)
    with pytest.raises(ConfigError, match=DATA_DIR_VARIABLE):
        datasets.load("fashion-mnist")


def test_broken_file_is_named(tmp_path, monkeypatch):
    _write_idx(tmp_path / "fashion-mnist", train=10, test=10)
    path = tmp_path / "fashion-mnist" / f"{IDX_FILES[0]}.gz"
    path.write_bytes(path.read_bytes()[:-200])
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    with pytest.raises(ConfigError, match=IDX_FILES[0]):
        datasets.load("fashion-mnist")


def test_registry_lists_refuses_and_adds():
    registry = Registry("data set", "workers.datasets")
    built_in = ("cifar10", "cifar100", "fashion-mnist", "fashion-mnist-full", "mnist", "mnist-full",
                "polarity-digits", "tinyshakespeare")  # fmt: skip
    assert registry.names() == built_in
    with pytest.raises(NotFound, match="did you mean polarity-digits"):
        registry.get("polarity-digit")
    registry.add("mine", polarity_digits.load)
    assert registry.get("mine") is polarity_digits.load
    assert "mine" in registry.names()
    with pytest.raises(ConfigError, match="exists already"):
        registry.add("mnist", polarity_digits.load)


def test_listing_data_sets_does_not_load_them():
    code = (
        "import sys; from workers.datasets import DATASETS; print(len(DATASETS.names()));"
        "assert 'workers.datasets.polarity_digits' not in sys.modules;"
        "DATASETS.get('polarity-digits')();"
        "assert not {'sklearn', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "8\n"), done.stderr
