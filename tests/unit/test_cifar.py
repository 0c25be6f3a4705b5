"""CIFAR: both official layouts give the same rows; a hostile pickle is refused unread."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from evosearch.errors import ConfigError
from workers import datasets
from workers.data_dir import DATA_DIR_VARIABLE
from workers.datasets import cifar10, cifar100
from workers.datasets._unpickle import read_batch

PER_BATCH = 40


def text(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value


def number(value: int) -> bytes:
    return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)


def python2_batch(pixels: np.ndarray, labels: dict[bytes, list[int]]) -> bytes:
    """A batch as Python 2 and its numpy pickled it (protocol 2), written opcode by opcode."""
    lists = b"".join(
        text(key) + b"](" + b"".join(number(n) for n in values) + b"e"
        for key, values in labels.items()
    )
    shape = b"(" + number(pixels.shape[0]) + number(pixels.shape[1]) + b"t"
    raw = pixels.tobytes()
    kind = (
        b"cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR"
        b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
        b"(K\x01" + shape + kind + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    )
    return b"\x80\x02}(" + lists + text(b"data") + array + b"u."


@pytest.fixture
def parts():
    rng = np.random.default_rng(3)
    return [
        (rng.integers(0, 256, (PER_BATCH, 3072)).astype(np.uint8), rng.integers(0, 10, PER_BATCH))
        for _ in range(6)
    ]


def write_binary(root: Path, parts) -> None:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    for name, (x, y) in zip(names, parts, strict=True):
        np.concatenate([y[:, None].astype(np.uint8), x], axis=1).tofile(folder / name)


def write_python(root: Path, parts) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    for name, (x, y) in zip(names, parts, strict=True):
        (folder / name).write_bytes(python2_batch(x, {b"labels": y.tolist()}))


def load(monkeypatch, root, module=cifar10):
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(root))
    module.load.cache_clear()
    data = datasets.load(module.__name__.rpartition(".")[2])
    module.load.cache_clear()
    return data


def test_the_fake_is_what_numpy_itself_would_read(parts):
    batch = pickle.loads(python2_batch(parts[0][0], {b"labels": [1, 2]}), encoding="bytes")
    assert np.array_equal(batch[b"data"], parts[0][0])


def test_both_layouts_give_the_same_rows(tmp_path, monkeypatch, parts):
    write_binary(tmp_path / "one", parts)
    write_python(tmp_path / "two" / "cifar10", parts)
    one, two = (load(monkeypatch, tmp_path / name) for name in ("one", "two"))
    for split in ("train", "select", "final"):
        ours, theirs = getattr(one, split), getattr(two, split)
        assert torch.equal(ours.x, theirs.x)
        assert torch.equal(ours.y, theirs.y)
    assert [len(s) for s in (one.train, one.select, one.final)] == [150, 50, 40]
    assert one.train.x.dtype == torch.uint8
    assert torch.equal(one.final.y, torch.from_numpy(parts[5][1]))
    assert np.array_equal(one.final.x[7].numpy().reshape(-1), parts[5][0][7])
    rows = {row.numpy().tobytes() for split in (one.train, one.select) for row in split.x}
    assert rows == {row.tobytes() for x, _ in parts[:5] for row in x}


def test_bytes_are_standardised_by_the_training_images(tmp_path, monkeypatch, parts):
    write_binary(tmp_path, parts)
    data = load(monkeypatch, tmp_path)
    x = data.prepare(data.train.x)
    assert x.dtype == torch.float32
    assert torch.allclose(x.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-3)
    assert torch.allclose(x.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-2)
    assert data.prepare(x) is x


def test_cifar100_takes_the_fine_labels_of_either_layout(tmp_path, monkeypatch, parts):
    x = parts[0][0]
    coarse, fine = [3] * PER_BATCH, [(n * 7) % 100 for n in range(PER_BATCH)]
    folder = tmp_path / "python" / "cifar-100-python"
    folder.mkdir(parents=True)
    labels = {b"coarse_labels": coarse, b"fine_labels": fine}
    for name in ("train", "test"):
        (folder / name).write_bytes(python2_batch(x, labels))
    folder = tmp_path / "binary" / "cifar-100-binary"
    folder.mkdir(parents=True)
    head = np.array([coarse, fine], np.uint8).T
    for name in ("train.bin", "test.bin"):
        np.concatenate([head, x], axis=1).tofile(folder / name)
    for layout in ("python", "binary"):
        data = load(monkeypatch, tmp_path / layout, cifar100)
        assert data.num_classes == 100
        assert data.final.y.tolist() == fine


class Bomb:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (pickle.dumps({"data": Bomb()}, 2), "__builtin__.print"),
        (b"\x80\x02cos\nsystem\n(U\x02lstR.", "os.system"),
        (b"\x80\x02cnumpy.core.multiarray\nscalar\n.", "numpy.core.multiarray.scalar"),
        (pickle.dumps([1, 2]), "a list"),
        (b"\x80\x02}(U\x04data", "Error"),
        (b"", "EOFError"),
        (python2_batch(np.zeros((2, 3072), np.uint8), {}).replace(b"U\x02u1", b"U\x02O8"), "O8"),
    ],
)
def test_foreign_names_and_broken_files_are_refused(tmp_path, capfd, content, part):
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_batch(path)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""


def test_missing_and_broken_files_say_which(tmp_path, monkeypatch, parts):
    with pytest.raises(ConfigError, match=r"data_batch_1\.bin.*evosearch data fetch cifar10"):
        load(monkeypatch, tmp_path)
    write_binary(tmp_path, parts)
    broken = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    broken.write_bytes(broken.read_bytes()[:-5])
    with pytest.raises(ConfigError, match=r"data_batch_2\.bin.*records of 3073 bytes"):
        load(monkeypatch, tmp_path)
