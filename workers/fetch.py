"""Downloads the public data sets from their official addresses, resumable and checked.

A file counts as fetched only when its checksum is right; what arrived before a broken connection
stays beside it as ``NAME.part`` and is continued. This file must not read a data set's content.
"""

from __future__ import annotations

import hashlib
import http.client
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from evosearch.errors import ConfigError, WorkerError
from workers.registry import not_found

CHUNK = 1 << 16
TIMEOUT_SECONDS = 30.0

Progress = Callable[[str, int, int | None], None]
"""File name, bytes so far, bytes in all where the server says so."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a data set: where it is, its MD5, and where it goes below the data folder.

    ``members``: of an archive, the folder in it and the files that are taken out of it.
    """

    url: str
    md5: str
    path: str
    members: tuple[str, tuple[str, ...]] | None = None

    @property
    def name(self) -> str:
        """The file's name as it is downloaded."""
        return self.path.rpartition("/")[2]

    def made(self, root: Path) -> list[Path]:
        """The files that must be there in the end."""
        if self.members is None:
            return [root / self.path]
        folder, names = self.members
        return [root / folder / name for name in names]


def _idx(folder: str, base: str, sums: Mapping[str, str]) -> tuple[Source, ...]:
    return tuple(Source(f"{base}/{name}", md5, f"{folder}/{name}") for name, md5 in sums.items())


SOURCES: dict[str, tuple[Source, ...]] = {
    "cifar10": (
        Source(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
            "cifar-10-binary.tar.gz",
            (
                "cifar-10-batches-bin",
                (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"),
            ),
        ),
    ),
    "cifar100": (
        Source(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
            "cifar-100-binary.tar.gz",
            ("cifar-100-binary", ("train.bin", "test.bin")),
        ),
    ),
    "mnist": _idx(
        "mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion-mnist": _idx(
        "fashion-mnist",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        {
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
    "tinyshakespeare": (
        Source(
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            "6fb458f1232090904fb40fe944165e91",
            "tinyshakespeare/input.txt",
        ),
    ),
}
"""Official addresses (MNIST's own page refuses downloads; its mirror is PyTorch's) and MD5s."""


def fetch(name: str, root: Path, progress: Progress | None = None) -> list[Path]:
    """Download what is missing of a data set; returns all its files.

    Raises:
        NotFound: there is no such data set to fetch.
        ConfigError: the folder cannot be written.
        WorkerError: no connection, or a wrong checksum; the error says which file goes where.
    """
    name = name.removesuffix("-full")  # the same files as the micro size
    if name not in SOURCES:
        raise not_found("data set to fetch", name, sorted(SOURCES))
    made: list[Path] = []
    for source in SOURCES[name]:
        files = source.made(root)
        if not all(file.is_file() for file in files):
            try:
                _get(source, root, progress or (lambda *_: None))
            except PermissionError as err:
                raise ConfigError("cannot write the data folder", got=str(err)) from err
        made += files
    return made


def _get(source: Source, root: Path, progress: Progress) -> None:
    target = root / source.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_file():
        part = target.with_name(target.name + ".part")
        try:
            _download(source, part, progress)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError,
                ConnectionError) as err:  # fmt: skip
            raise WorkerError(
                f"cannot download {source.url}",
                got=f"{type(err).__name__}: {err}"[:120],
                hint=_by_hand(source, root),
            ) from err
        found = _md5(part)
        if found != source.md5:
            part.unlink()
            raise WorkerError(
                f"{source.name} from {source.url} is not the published file",
                expected=f"MD5 {source.md5}", got=f"MD5 {found}", hint=_by_hand(source, root),
            )  # fmt: skip
        part.replace(target)
    if source.members is not None:
        _unpack(source, target, root)


def _by_hand(source: Source, root: Path) -> str:
    """Which file to put where."""
    return (
        f"on a machine with a network get {source.url} (MD5 {source.md5}), put it at "
        f"{root / source.path}, and run the command again; what came so far is kept"
    )


def _download(source: Source, part: Path, progress: Progress) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(source.url, headers={"User-Agent": "evosearch"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as err:
        err.close()
        if err.code == 416:  # the part holds everything already
            return
        raise
    with answer:
        if answer.status != 206:  # the server does not continue: from the beginning
            done = 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        with part.open("ab" if done else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(source.name, done, total)
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _unpack(source: Source, archive: Path, root: Path) -> None:
    """Take the wanted files out of the archive, and nothing else, whatever it holds."""
    assert source.members is not None
    folder, names = source.members
    (root / folder).mkdir(exist_ok=True)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for name in names:
                member = tar.extractfile(f"{folder}/{name}")
                if member is None:
                    raise LookupError(f"{folder}/{name} is no file")
                part = root / folder / f"{name}.part"
                with member, part.open("wb") as file:
                    while chunk := member.read(CHUNK):
                        file.write(chunk)
                part.replace(root / folder / name)
    except (tarfile.TarError, LookupError, EOFError, zlib.error) as err:
        raise WorkerError(
            f"cannot unpack {archive}", expected=f"{folder}/ with {', '.join(names)}",
            got=f"{type(err).__name__}: {err}"[:120], hint="delete it and fetch it again",
        ) from err  # fmt: skip
