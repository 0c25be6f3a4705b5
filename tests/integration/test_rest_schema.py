"""schemathesis over the whole OpenAPI document: no 500, no undocumented status, no wrong shape.

Event streams are left out; they never end and have tests of their own.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from db.sql_store import SqlStore
from db.tokens import Tokens
from tests.benchmarks.record import write_result
from tests.support.service import SEARCH, fill, running

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

CI_CASES = 1000
SOAK_CASES = 20_000
STEPS = 8
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_schema_conformance",
)  # fmt: skip


NO_ID = {"type": "string", "pattern": "^[A-Za-z0-9_-]{9,64}$"}
"""Names no search: what comes back must not depend on what earlier chains have made."""
REF = "[A-Za-z0-9_-]{1,64}"
MALFORMED = {"type": "string", "minLength": 2, "maxLength": 90, "pattern": "[^A-Za-z0-9_/.-]"}
"""No name of a search; the document forbids it, and so must the service."""
BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/searches": {
        "preset": {"enum": ["quickstart", "cifar10-cpu"]}, "seed": {"enum": [0, 1, 2]},
        "overrides": {"enum": [{"task.dataset": "polarity-digits"}, {"budget.evaluations": 3}]},
    },
    "/api/v1/searches/{ref}/clone": {"at_event": {"enum": [1, 2, 20]}},
    "/api/v1/searches/{ref}/enqueue": {"formula": {"enum": ["x / rms_batch(x)", "tanh(x)"]}},
}  # fmt: skip
"""Bodies that succeed, offered beside what the document allows: few random ones would."""


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


class Sent:
    """What was sent, and what came back."""

    def __init__(
        self, url: str, token: str, *, signed_in: bool = True, repeatable: bool = True
    ) -> None:
        from schemathesis.checks import CHECKS as KNOWN

        bearer = {"Authorization": f"Bearer {token}"}
        document = httpx.get(url + "/api/v1/openapi.json", headers=bearer, timeout=60).json()
        self.schema: Any = schemathesis.openapi.from_dict(meet_what_exists(document))
        self.schema.config.update(base_url=url)
        self.checks = [KNOWN.get_one(name) for name in CHECKS]
        self.headers = bearer if signed_in else {}
        self.statuses: Counter[int] = Counter()
        self.malformed = self.draws = 0
        self.repeatable = repeatable

    @property
    def count(self) -> int:
        return sum(self.statuses.values())

    def one_by_one(self, cases: int) -> None:
        """So many requests or more, which know nothing of each other, over all operations.

        Operations without parameters have few cases; what they leave goes to the others.
        """
        operations = [found.ok() for found in self.schema.get_all_operations()]
        goal = self.count + cases
        while self.count < goal:
            left = -(-(goal - self.count) // len(operations))
            for operation in operations:
                self.send(operation, left)

    def send(self, operation: Any, cases: int) -> None:
        """That many requests to one operation, at most."""

        @self.drawn(cases)
        @given(case=operation.as_strategy())
        def send(case: Any) -> None:
            response = case.call(headers=self.headers, timeout=60)
            self.note(case, response)
            case.validate_response(response, checks=self.checks)

        send()

    def note(self, case: Any, response: Any) -> None:
        self.statuses[response.status_code] += 1
        ref = (case.path_parameters or {}).get("ref")
        self.malformed += isinstance(ref, str) and re.fullmatch(REF, ref) is None

    def drawn(self, cases: int, **more: Any) -> Any:
        """What makes a test of so many cases, others each time but the same at the next run."""
        self.draws += 1
        number = self.draws if self.repeatable else random.getrandbits(60)
        limits = some(max(1, cases), **more)
        return lambda test: seed(number)(limits(test))

    def in_chains(self, cases: int) -> None:
        """So many requests or more in chains along the document's links: create, look, steer."""
        sent = self
        # A key that comes again would be answered by what an earlier chain has done.
        keyed = self.schema["/api/v1/searches"]["post"].definition.raw["parameters"]
        keyed[:] = [one for one in keyed if one["name"] != "Idempotency-Key"]

        class Machine(self.schema.as_state_machine()):  # type: ignore[misc, name-defined]
            def get_call_kwargs(self, case: Any) -> dict[str, Any]:
                return {"headers": sent.headers, "timeout": 60}

            def after_call(self, response: Any, case: Any) -> None:
                sent.note(case, response)
                super().after_call(response, case)

            def validate_response(self, response: Any, case: Any, **more: Any) -> None:
                case.validate_response(response, checks=sent.checks)

        goal = self.count + cases
        while self.count < goal:
            self.draws += 1
            number = self.draws if self.repeatable else random.getrandbits(60)
            examples = max(1, (goal - self.count) // STEPS)
            seed(number)(Machine).run(settings=some(examples, stateful_step_count=STEPS))


def some(examples: int, **more: Any) -> Any:
    return settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), **more,
    )  # fmt: skip


def meet_what_exists(document: dict[str, Any]) -> dict[str, Any]:
    """The document without streams; half of what it asks for by id exists, save for deletions."""
    for path in [path for path in document["paths"] if path.endswith("/stream")]:
        names = {one["operationId"] for one in document["paths"].pop(path).values()}
        forget_links(document, names)
    for operations in document["paths"].values():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "ref" and method != "delete":
                    parameter["schema"] = {"anyOf": [{"enum": [SEARCH]}, NO_ID, MALFORMED]}
                if parameter["name"] == "birth":
                    numbers = {"enum": [*range(60)]}
                    parameter["schema"] = {"anyOf": [numbers, parameter["schema"]]}
    for path, properties in BODIES.items():
        media = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        likely = {"type": "object", "properties": properties, "required": [*properties][:1],
                  "additionalProperties": False}  # fmt: skip
        media["schema"] = {"anyOf": [likely, media["schema"]]}
    return document


def forget_links(document: dict[str, Any], names: set[str]) -> None:
    for operations in document["paths"].values():
        for operation in operations.values():
            for answer in operation["responses"].values():
                for key, link in list(answer.get("links", {}).items()):
                    if link["operationId"] in names:
                        del answer["links"][key]


def wanted() -> int:
    return int(os.environ.get("EVOSEARCH_SCHEMA_CASES", CI_CASES))


def test_a_thousand_signed_in_requests_meet_no_surprise(
    service: tuple[str, str], record_property: Callable[[str, Any], None]
) -> None:
    sent = Sent(*service)
    sent.one_by_one(wanted() // 2)
    apart = sent.count
    assert sent.statuses[200] > apart // 20, sent.statuses
    assert sent.malformed > apart // 20
    sent.in_chains(wanted() - apart)
    assert sent.count >= wanted()
    for status in (200, 201, 202, 404, 422):
        assert sent.statuses[status], sent.statuses
    record_property("requests", sent.count)
    print(f"{sent.count} requests, {sent.malformed} with no possible id: {dict(sent.statuses)}")


def test_strangers_meet_no_surprise_either(service: tuple[str, str]) -> None:
    sent = Sent(*service, signed_in=False)
    sent.one_by_one(CI_CASES // 5)
    sent.in_chains(CI_CASES // 10)
    assert sent.count >= CI_CASES * 3 // 10
    assert sent.statuses[401] > sent.count // 2


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_twenty_thousand_requests_meet_no_surprise(service: tuple[str, str]) -> None:
    runs: dict[str, Any] = {}
    for name, signed_in, cases in (("signed_in", True, 15_000), ("strangers", False, 5_000)):
        begin = time.monotonic()
        sent = Sent(*service, signed_in=signed_in, repeatable=False)
        sent.one_by_one(cases // 2)
        sent.in_chains(cases - sent.count)
        assert sent.count >= cases
        runs[name] = {
            "requests": sent.count, "malformed_ids": sent.malformed,
            "statuses": {str(status): sent.statuses[status] for status in sorted(sent.statuses)},
            "seconds": round(time.monotonic() - begin),
        }  # fmt: skip
    assert sum(run["requests"] for run in runs.values()) >= SOAK_CASES
    print(write_result("rest_schema", {"operations_without_streams": True, **runs}))
