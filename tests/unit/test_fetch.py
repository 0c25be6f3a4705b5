"""Fetching data from a local server: resume, checksum, archives, and no network at all."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from api.cli import run
from evosearch.errors import NotFound, WorkerError
from workers import fetch as fetching
from workers.data_dir import DATA_DIR_VARIABLE
from workers.fetch import Source, fetch

BODY = bytes(range(256)) * 800


class Server(http.server.BaseHTTPRequestHandler):
    """Serves ``files``; breaks off after ``cut`` bytes; notes the ranges that were asked for."""

    files: dict[str, bytes] = {}
    ranges: list[str | None] = []
    cut: int | None = None
    resumes = True

    def do_GET(self):
        body = self.files.get(self.path)
        wanted = self.headers.get("Range")
        type(self).ranges.append(wanted)
        if body is None:
            self.send_error(404)
            return
        start = int(wanted[6:-1]) if wanted and self.resumes else 0
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = len(body) if self.cut is None else self.cut
        type(self).cut = None
        self.wfile.write(body[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(Server, "files", {"/data.bin": BODY})
    monkeypatch.setattr(Server, "ranges", [])
    monkeypatch.setattr(Server, "cut", None)
    monkeypatch.setattr(Server, "resumes", True)
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    thread.join()
    made.server_close()


def use(monkeypatch, url, body=BODY, **more):
    md5 = hashlib.md5(body).hexdigest()
    settings = {"path": "own/data.bin", **more}
    monkeypatch.setitem(fetching.SOURCES, "own", (Source(url, md5, **settings),))


def test_a_file_comes_whole_with_progress_and_only_once(server, tmp_path, monkeypatch):
    use(monkeypatch, f"{server}/data.bin")
    told = []
    made = fetch("own", tmp_path, lambda *args: told.append(args))
    assert made == [tmp_path / "own" / "data.bin"]
    assert made[0].read_bytes() == BODY
    assert told[-1] == ("data.bin", len(BODY), len(BODY))
    assert len(told) > 1
    fetch("own", tmp_path)
    assert Server.ranges == [None]


@pytest.mark.parametrize("resumes", [True, False])
def test_a_broken_connection_is_continued(server, tmp_path, monkeypatch, resumes):
    use(monkeypatch, f"{server}/data.bin")
    monkeypatch.setattr(Server, "cut", 70_000)
    monkeypatch.setattr(Server, "resumes", resumes)
    with pytest.raises(WorkerError, match="what came so far is kept"):
        fetch("own", tmp_path)
    assert (tmp_path / "own" / "data.bin.part").stat().st_size == 70_000
    assert fetch("own", tmp_path)[0].read_bytes() == BODY
    assert Server.ranges == [None, "bytes=70000-"]
    assert not (tmp_path / "own" / "data.bin.part").exists()


def test_a_part_that_is_whole_needs_no_more_bytes(server, tmp_path, monkeypatch):
    use(monkeypatch, f"{server}/data.bin")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "data.bin.part").write_bytes(BODY)
    assert fetch("own", tmp_path)[0].read_bytes() == BODY


def test_a_wrong_checksum_is_refused_and_the_file_not_kept(server, tmp_path, monkeypatch):
    use(monkeypatch, f"{server}/data.bin", body=b"other")
    with pytest.raises(WorkerError, match="not the published file"):
        fetch("own", tmp_path)
    assert list((tmp_path / "own").iterdir()) == []


def test_an_archive_gives_the_wanted_files_and_no_others(server, tmp_path, monkeypatch):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name in ("box/a.bin", "../evil.bin", "box/other.txt"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    Server.files["/box.tar.gz"] = made.getvalue()
    use(monkeypatch, f"{server}/box.tar.gz", made.getvalue(), path="box.tar.gz",
        members=("box", ("a.bin",)))  # fmt: skip
    root = tmp_path / "root"
    root.mkdir()
    assert fetch("own", root) == [root / "box" / "a.bin"]
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.bin", "box.tar.gz"]
    use(monkeypatch, f"{server}/box.tar.gz", made.getvalue(), path="box.tar.gz",
        members=("box", ("missing.bin",)))  # fmt: skip
    with pytest.raises(WorkerError, match=r"cannot unpack.*missing\.bin"):
        fetch("own", root)


def test_without_a_network_the_error_says_which_file_goes_where(tmp_path, monkeypatch, capsys):
    use(monkeypatch, "http://127.0.0.1:9/data.bin")
    assert run(["data", "fetch", "own", "--data-dir", str(tmp_path)]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    for part in ("http://127.0.0.1:9/data.bin", str(tmp_path / "own" / "data.bin"),
                 hashlib.md5(BODY).hexdigest()):  # fmt: skip
        assert part in line


def test_the_command_fetches_and_refuses(server, tmp_path, monkeypatch, capsys):
    use(monkeypatch, f"{server}/data.bin")
    assert run(["data", "fetch", "own", "--data-dir", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/new/own/data.bin\n"
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
    assert run(["data", "fetch", "own"]) == 2
    assert "--data-dir" in capsys.readouterr().err
    with pytest.raises(NotFound, match="did you mean cifar10"):
        fetch("cifar", tmp_path)


def test_a_missing_page_is_told(server, tmp_path, monkeypatch):
    use(monkeypatch, f"{server}/gone.bin")
    with pytest.raises(WorkerError, match="404"):
        fetch("own", tmp_path)
