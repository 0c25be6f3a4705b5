"""Serves the dashboard's files: the page at every address of its own, and what it loads.

Files are read once and kept small by gzip. Their address holds a digest of them all, so that a
browser may keep them for good, and gets new ones the moment they change. Nothing here reads data.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import re
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.problems import Refused

PAGES = ("/", "/new", "/search/{rest:path}", "/compare", "/layer")
"""Addresses at which the page stands; it reads the rest of the address itself."""
FOREVER = "public, max-age=31536000, immutable"
MEDIA = {
    "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml", "html": "text/html; charset=utf-8",
}  # fmt: skip
COMPRESSED_FROM = 1000


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent: its bytes, those bytes compressed, and its media type."""

    data: bytes
    packed: bytes | None
    media: str

    def response(self, request: Request, cache: str) -> Response:
        """The answer; compressed where the client takes that."""
        headers = {"Cache-Control": cache, "Vary": "Accept-Encoding"}
        packs = "gzip" in request.headers.get("accept-encoding", "")
        if self.packed is not None and packs:
            headers["Content-Encoding"] = "gzip"
            return Response(self.packed, media_type=self.media, headers=headers)
        return Response(self.data, media_type=self.media, headers=headers)


def asset(data: bytes, name: str, level: int = 9) -> Asset:
    """The file of that name."""
    packed = gzip.compress(data, level, mtime=0) if len(data) > COMPRESSED_FROM else None
    return Asset(data, packed, MEDIA[name.rpartition(".")[2]])


class Dashboard:
    """All files of the page, for a service behind that path prefix."""

    def __init__(self, root_path: str) -> None:
        found = sorted(_files().items())
        self._files = {name: asset(data, name) for name, data in found if name != "index.html"}
        self.version = _digest(self._files)
        self.plotly_version = metadata.version("plotly")
        self._page = asset(self._html(root_path + "/").encode(), "index.html")

    @cached_property
    def _plotly(self) -> Asset:
        """plotly.js, as the installed package of that name has it; read when first asked for."""
        # The file is looked up, not imported: the web process has no use for the package's code.
        file = metadata.distribution("plotly").locate_file("plotly/package_data/plotly.min.js")
        return asset(Path(str(file)).read_bytes(), "plotly.js", level=6)

    def routes(self) -> list[Route]:
        """Every route, none of them in the API's description."""
        made = [Route(path, self.page, include_in_schema=False) for path in PAGES]
        made.append(Route(f"/assets/plotly-{self.plotly_version}.min.js", self.plotly))
        made.append(Route("/assets/{version}/{name:path}", self.file))
        made.append(Route("/favicon.svg", self.favicon))
        return made

    async def page(self, request: Request) -> Response:
        """The page; which one is shown is up to its script."""
        return self._page.response(request, "no-cache")

    async def file(self, request: Request) -> Response:
        """A file of the page; one of an older version is gone."""
        found = self._files.get(request.path_params["name"])
        if found is None or request.path_params["version"] != self.version:
            raise Refused(404, "no such file; the page has changed, load it again")
        return found.response(request, FOREVER)

    def plotly(self, request: Request) -> Response:
        """plotly.js; compressed in a thread when first asked for."""
        return self._plotly.response(request, FOREVER)

    async def favicon(self, request: Request) -> Response:
        """The page's sign."""
        return self._files["favicon.svg"].response(request, "public, max-age=86400")

    def _html(self, root: str) -> str:
        """The page with its addresses filled in; the prefix has no characters to be escaped."""
        assets = f"{root}assets/{self.version}/"
        links = [
            f'<link rel="stylesheet" href="{assets}{name}">'
            for name in self._files if name.startswith("css/")
        ]  # fmt: skip
        links += [
            f'<link rel="modulepreload" href="{assets}{name}">'
            for name in self._files
            if name.startswith("js/") and name.count("/") == 1 and name != "js/boot.js"
        ]
        text = _files()["index.html"].decode()
        words = _files()["js/strings.js"].decode()
        values = {"root": root, "assets": assets, "plotly": self.plotly_version,
                  "links": "\n".join(links), "description": _word(words, "description"),
                  "no_script": _word(words, "noScript")}  # fmt: skip
        for key, value in values.items():
            text = text.replace("{{" + key + "}}", value)
        return text


def mount(app: FastAPI, root_path: str) -> None:
    """Adds the dashboard to the app, behind all other routes."""
    app.router.routes.extend(Dashboard(root_path).routes())


def _files() -> dict[str, bytes]:
    """Path below ``static`` -> content."""
    found: dict[str, bytes] = {}

    def walk(folder: Any, prefix: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                walk(entry, f"{prefix}{entry.name}/")
            elif entry.name.rpartition(".")[2] in MEDIA:
                found[prefix + entry.name] = entry.read_bytes()

    walk(resources.files("api.dashboard") / "static", "")
    return found


def _word(words: str, key: str) -> str:
    """A sentence of ``strings.js``, for what stands where no script runs."""
    found = re.search(rf'^  page: {{.*?\b{key}: "([^"]+)"', words, re.MULTILINE | re.DOTALL)
    assert found is not None, key
    return html.escape(found[1], quote=False)


def _digest(files: dict[str, Asset]) -> str:
    made = hashlib.sha256()
    for name, file in files.items():
        made.update(f"{name}\x00{len(file.data)}\x00".encode() + file.data)
    return made.hexdigest()[:16]
