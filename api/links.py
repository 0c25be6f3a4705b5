"""OpenAPI links: which answer's field goes into which request, for generated clients and tests.

They are derived from the paths alone; a route need not know that it is linked to.
"""

from __future__ import annotations

from typing import Any

NEW_SEARCH = (("/api/v1/searches", "post", "201"), ("/api/v1/searches/{ref}/clone", "post", "201"))
"""Answers whose field ``id`` is a search's."""
CANDIDATES = (("/api/v1/searches/{ref}/candidates", "get", "200"),)
"""Answers with a list ``candidates`` of the search in the path."""


def add_links(document: dict[str, Any]) -> None:
    """Link every operation on a search, or on a candidate, to the answers that name one."""
    of_search = {"ref": "$response.body#/id"}
    of_candidate = {
        "ref": "$request.path.ref", "birth": "$response.body#/candidates/0/birth",
    }  # fmt: skip
    for path, operations in document["paths"].items():
        for operation in operations.values():
            name = operation["operationId"]
            if "{birth}" in path:
                _link(document, CANDIDATES, name, of_candidate)
            elif "{ref}" in path:
                _link(document, NEW_SEARCH, name, of_search)


def _link(
    document: dict[str, Any], sources: tuple[tuple[str, str, str], ...], target: str,
    parameters: dict[str, str],
) -> None:  # fmt: skip
    for path, method, status in sources:
        answer = document["paths"][path][method]["responses"][status]
        link = {"operationId": target, "parameters": parameters}
        answer.setdefault("links", {})[target.partition("_api_")[0]] = link
