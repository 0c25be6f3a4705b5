"""What the service refuses: other hosts and origins, missing tokens, bombs; and what it hides."""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.cli import run
from api.serving import refuse_open_address
from api.settings import load_settings
from db.sql_store import SqlStore
from db.tokens import Tokens
from evosearch.errors import ConfigError
from tests.support.hostile import hostile
from tests.support.service import SEARCH, Running, fill, running
from tests.support.web_process import WebProcess

ROUNDS = 4
GROWTH = 5.0
"""MiB that three thousand refused layers may leave behind; each body is up to 200 kB."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("secure")
    store = SqlStore(f"{made}/store.db")
    fill(store, 10)
    store.close()
    return made


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Running]:
    """A service on loopback that asks for no token."""
    with running(folder, rate_per_minute=10**6, rate_burst=10**6, helper_seconds=120) as made:
        yield made


@pytest.fixture(scope="module")
def locked(folder: Path) -> Iterator[tuple[Running, str, str]]:
    """A service that asks for a token; a token that reads, and one that writes."""
    store = SqlStore(f"{folder}/store.db")
    tokens = Tokens(store)
    reads, writes = tokens.create("r", "read")[1], tokens.create("w", "write")[1]
    with running(folder, require_token=True) as made:
        yield made, reads, writes
    store.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_scopes(locked: tuple[Running, str, str]) -> None:
    service, reads, writes = locked
    url = f"{service.url}/api/v1/searches"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url).headers["www-authenticate"] == "Bearer"
    assert httpx.get(url, headers=bearer(reads[:-1])).status_code == 401
    assert httpx.get(url, headers=bearer("evs_x_y")).status_code == 401
    assert httpx.get(url, headers=bearer(reads)).status_code == 200
    body = {"preset": "quickstart"}
    assert httpx.post(url, json=body, headers=bearer(reads)).status_code == 403
    assert httpx.post(url, json=body, headers=bearer(writes)).status_code == 201
    dry = httpx.post(f"{url}/dry-run", json=body, headers=bearer(reads), timeout=60)
    assert dry.status_code == 200, "it writes nothing"
    assert httpx.post(f"{url}/dry-run", json=body).status_code == 401
    assert httpx.get(service.url + "/healthz").status_code == 200
    assert httpx.get(service.url + "/metrics").status_code == 401
    stream = f"{url}/{SEARCH}/events/stream?token={reads}"
    assert httpx.get(stream).status_code == 401, "no token in a URL"


def test_a_token_is_kept_as_a_hash_and_can_be_revoked(folder: Path) -> None:
    store = SqlStore(f"{folder}/store.db")
    tokens = Tokens(store)
    token, text = tokens.create("soon gone", "read")
    data = b"".join(path.read_bytes() for path in folder.glob("store.db*"))
    assert text.rpartition("_")[2].encode() not in data
    assert tokens.check(text) is not None
    tokens.revoke(token.id)
    assert tokens.check(text) is None
    with pytest.raises(ConfigError, match="scope"):
        tokens.create("x", "admin")
    store.close()


def test_the_page_signs_in_with_a_cookie(locked: tuple[Running, str, str]) -> None:
    service, reads, _ = locked
    with httpx.Client(base_url=service.url + "/api/v1") as page:
        assert page.get("/session").json()["signed_in"] is False
        assert page.post("/session", json={"token": "wrong"}).status_code == 401
        answer = page.post("/session", json={"token": reads})
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert page.get("/searches").status_code == 200
        with page.stream("GET", f"/searches/{SEARCH}/events/stream") as stream:
            assert stream.status_code == 200
        assert page.delete("/session").status_code == 204
        assert page.get("/searches").status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::2]"])
def test_other_hosts_are_refused(service: Running, host: str) -> None:
    assert httpx.get(service.url + "/healthz", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8888", "[::1]:22", "LOCALHOST:1"])
def test_a_forwarded_port_on_this_machine_is_served(service: Running, host: str) -> None:
    assert httpx.get(service.url + "/healthz", headers={"Host": host}).status_code == 200


def test_allowed_hosts_and_a_path_prefix_of_a_notebook_proxy(folder: Path) -> None:
    flags = {"allowed_hosts": "hub.example", "root_path": "/user/me/proxy/8642"}
    with running(folder, **flags) as service:
        headers = {"Host": "hub.example"}
        answer = httpx.get(service.url + "/api/v1/openapi.json", headers=headers, timeout=60)
        assert answer.json()["servers"] == [{"url": "/user/me/proxy/8642"}]


def test_other_sites_are_refused(service: Running) -> None:
    url = f"{service.url}/api/v1/searches/{SEARCH}/pause"
    assert httpx.post(url, headers={"Origin": "https://evil.example"}).status_code == 403
    assert httpx.post(url, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert httpx.post(url, headers={"Origin": "null"}).status_code == 403
    assert httpx.post(url, headers={"Origin": service.url}).status_code == 202
    form = httpx.post(f"{service.url}/api/v1/searches", data={"preset": "quickstart"})
    assert form.status_code == 415


def test_every_answer_carries_the_security_headers(service: Running) -> None:
    for path in ("/healthz", "/api/v1/searches", "/nothing"):
        headers = httpx.get(service.url + path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers


def test_limits_of_size_and_rate(folder: Path, service: Running) -> None:
    url = f"{service.url}/api/v1/layers/check"
    big = b'{"formula": "' + b"x" * 300_000 + b'"}'
    headers = {"Content-Type": "application/json"}
    assert httpx.post(url, content=big, headers=headers).status_code == 413

    def drip() -> Iterator[bytes]:
        for _ in range(400):
            yield b" " * 1000

    assert httpx.post(url, content=drip(), headers=headers).status_code == 413
    with running(folder, rate_per_minute=1, rate_burst=5) as slow:
        codes = [httpx.get(slow.url + "/api/v1/catalog").status_code for _ in range(8)]
    assert codes[:5] == [200] * 5
    assert 429 in codes


def test_an_unexpected_error_hides_its_trace(
    service: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret path /home/x")

    monkeypatch.setattr(service.app.service.queries, "searches_page", broken)
    answer = httpx.get(service.url + "/api/v1/searches")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    error_id = answer.json()["error_id"]
    (record,) = [one for one in caplog.records if getattr(one, "error_id", "") == error_id]
    assert record.exc_info is not None


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "example.org"])
def test_an_open_address_needs_a_token(tmp_path: Path, host: str) -> None:
    store = SqlStore(f"{tmp_path}/store.db")
    tokens = Tokens(store)
    settings = load_settings({"host": host, "db": f"{tmp_path}/store.db"})
    with pytest.raises(ConfigError, match="token"):
        refuse_open_address(settings, tokens)
    tokens.create("me", "read")
    refuse_open_address(settings, tokens)
    with pytest.raises(ConfigError, match="token"):
        refuse_open_address(load_settings({"host": host, "require_token": False}), tokens)
    refuse_open_address(load_settings({"host": "127.0.0.1", "require_token": False}), tokens)
    store.close()


def test_tokens_are_made_listed_and_revoked_where_there_is_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed, close = list[SqlStore](), SqlStore.close

    def counted(store: SqlStore) -> None:
        closed.append(store)
        close(store)

    monkeypatch.setattr(SqlStore, "close", counted)
    there = ["--db", f"{tmp_path}/store.db"]
    for words in (["list"], ["revoke", "abcd"]):
        assert run(["token", *words, *there]) == 2
        assert "there is no database" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []
    assert run(["token", "list", "--db", "memory:"]) == 2
    assert "keeps nothing" in capsys.readouterr().err
    assert run(["token", "create", "mine", *there]) == 0
    name = capsys.readouterr().out.split("_")[1]
    assert run(["token", "revoke", name, *there]) == 0
    assert run(["token", "list", *there]) == 0
    assert f"{name}  revoked" in capsys.readouterr().out
    assert len(closed) == 3


FORMULAS = (
    "(" * 3000 + "x" + ")" * 3000, "-" * 3900 + "x", "x" * 3999, "x +", "x / (", "\u202ex * 2",
    "ｘ + x", "x\u0000", "__import__('os')", "x; x", "1e309 * x", "9" * 3000 + " * x",
    "std_batch(x, x)", "tanh()", "foo(x)", "x ** x", "lambda: x", "x\n\n)", "v9 * x", "\ud7ff",
    "max(" * 800 + "x", "x if x else x", "{x}", "$x", "x[0]", "std_colour(x)", "𝐱",
)  # fmt: skip
NODE = {"op": "add", "inputs": [0, 0]}
GRAPHS: tuple[Any, ...] = (
    {}, {"version": 1}, {"version": 1, "nodes": []}, {"version": 2, "nodes": [NODE]},
    {"version": 1, "nodes": [{"op": "add", "inputs": [0, 4]}]},
    {"version": 1, "nodes": [{"op": "add", "inputs": [0, 5]}, NODE]},
    {"version": 1, "nodes": [{"op": "add", "inputs": [0, -1]}]},
    {"version": 1, "nodes": [{"op": "add", "inputs": [0, 10**18]}]},
    {"version": 1, "nodes": [{"op": "add", "inputs": [0, 0.0]}]},
    {"version": 1, "nodes": [{"op": "add", "inputs": [True, False]}]},
    {"version": 1, "nodes": [{"op": "add", "inputs": "00"}]},
    {"version": 1, "nodes": [{"op": ["add"], "inputs": [0, 0]}]},
    {"version": 1, "nodes": [NODE | {"extra": 1}]}, {"version": 1, "nodes": [NODE], "x": 1},
    {"version": 1, "nodes": [{"op": "std", "inputs": [0], "over": "colour"}]},
    {"version": 1, "nodes": [{"op": "tanh", "inputs": [0], "over": "batch"}]},
    {"version": 1, "nodes": [NODE] * 3000}, {"version": None, "nodes": [NODE]},
    {"version": 1, "nodes": {"0": NODE}}, {"version": 1, "nodes": [None]},
)  # fmt: skip
BODIES = (
    b"[" * 200_000,
    b'{"graph":' * 60 + b"1" + b"}" * 60,
    b'{"graph": NaN}',
    b"\xff\xfe",
    b'{"formula": "x", "formula": "x"}',
    b'{"graph": {"nodes": 1' + b"0" * 5000 + b"}}",
    b"{",
    b'{"formula": "\\ud800"}',
    b'{"formula": "\\u0000"}',
    b"null",
    b'"x"',
    b"1e999",
    b"",
)


def by_hand() -> Iterator[bytes]:
    """The requests above."""
    yield from (json.dumps({"formula": text}).encode() for text in FORMULAS)
    yield from (json.dumps({"graph": graph}).encode() for graph in GRAPHS)
    yield from BODIES


def refused(http: httpx.Client, url: str, body: bytes) -> float:
    """Asks what must be refused with place and reason; returns the seconds by the wall clock."""
    begin = time.perf_counter()
    answer = http.post(url, content=body, headers={"Content-Type": "application/json"})
    seconds = time.perf_counter() - begin
    assert 400 <= answer.status_code < 500, (body[:300], answer.text)
    told = answer.json()
    assert told["detail"], body[:300]
    assert told.get("position", -1) >= 0 or told["errors"][0]["where"], (body[:300], told)
    assert "Traceback" not in answer.text
    return seconds


def test_hostile_layers_of_every_known_kind_are_refused(service: Running) -> None:
    with httpx.Client(timeout=60) as http:
        for body in by_hand():
            refused(http, f"{service.url}/api/v1/layers/check", body)


@pytest.fixture
def web(folder: Path) -> Iterator[WebProcess]:
    """The web process itself, so that the memory measured is its own and nobody else's."""
    made = WebProcess(folder / "store.db")
    made.start()
    yield made
    made.close()


def test_a_thousand_hostile_layers_are_refused_quickly_and_leave_nothing(web: WebProcess) -> None:
    """Over rounds of a thousand, none like another, the process's resident memory stays flat."""
    url, held, seen = f"{web.url}/api/v1/layers/check", [], set[bytes]()
    with httpx.Client(timeout=60) as http:
        for round_ in range(ROUNDS):
            bodies = [*hostile(1000, seed=4 + round_)]
            assert Counter(kind for kind, _ in bodies).most_common()[-1][1] >= 60
            seen |= {body for _, body in bodies}
            seconds = [refused(http, url, body) for _, body in bodies]
            assert statistics.median(seconds) < 0.05
            held.append(web.memory())
    assert len(seen) > 1000 * ROUNDS * 0.8
    assert web.loaded("torch", "ray") == []
    # What the first round leaves behind is loaded code and warm caches.
    assert max(held[1:]) - held[0] < GROWTH, f"MiB after each round: {held}"
