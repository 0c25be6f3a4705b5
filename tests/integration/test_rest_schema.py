"""schemathesis over the whole OpenAPI document: no 500, no undocumented status, no wrong shape.

Event streams are left out; they never end and have tests of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from db.sql_store import SqlStore
from db.tokens import Tokens
from tests.support.service import fill, running

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

CI_CASES = 1000
SOAK_CASES = 20_000


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address of a service that asks for tokens, and one that writes."""
    folder: Path = tmp_path_factory.mktemp("schema")
    store = SqlStore(f"{folder}/store.db")
    fill(store, 60)
    token = Tokens(store).create("all", "write")[1]
    store.close()
    flags = {"rate_per_minute": 10**8, "rate_burst": 10**8, "require_token": True}
    with running(folder, **flags) as made:
        yield made.url, token


def run(url: str, token: str, cases: int, *, signed_in: bool = True) -> int:
    """Sends about so many generated requests; returns how many were sent."""
    from schemathesis.checks import CHECKS

    bearer = {"Authorization": f"Bearer {token}"}
    headers = bearer if signed_in else {}
    document = httpx.get(url + "/api/v1/openapi.json", headers=bearer, timeout=60).json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    wanted = (
        "not_a_server_error", "status_code_conformance", "content_type_conformance",
        "response_schema_conformance",
    )  # fmt: skip
    checks = [CHECKS.get_one(name) for name in wanted]
    operations = [
        found.ok() for found in schema.get_all_operations()
        if "/stream" not in found.ok().path
    ]  # fmt: skip
    sent = 0
    for operation in operations:
        strategy = operation.as_strategy()

        @settings(
            max_examples=max(1, cases // len(operations)), deadline=None, database=None,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck), derandomize=True,
        )  # fmt: skip
        @given(case=strategy)
        def send(case: object) -> None:
            nonlocal sent
            sent += 1
            case.call_and_validate(headers=headers, checks=checks, timeout=60)  # type: ignore[attr-defined]

        send()
    return sent


def test_generated_requests_meet_no_surprise(service: tuple[str, str]) -> None:
    url, token = service
    cases = int(os.environ.get("EVOSEARCH_SCHEMA_CASES", CI_CASES))
    assert run(url, token, cases) >= cases * 0.5


def test_strangers_meet_no_surprise_either(service: tuple[str, str]) -> None:
    url, token = service
    assert run(url, token, CI_CASES // 5, signed_in=False) >= CI_CASES // 10


@pytest.mark.soak
def test_twenty_thousand_requests_meet_no_surprise(service: tuple[str, str]) -> None:
    url, token = service
    assert run(url, token, SOAK_CASES) >= SOAK_CASES * 0.5
