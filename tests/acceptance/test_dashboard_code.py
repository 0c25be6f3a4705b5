"""The page asks before a search goes on with other code of its plug-ins."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from evosearch.events import StatusChanged
from tests.acceptance.test_dashboard import FREE
from tests.integration.test_changed_code import changed_search, two_texts
from tests.support.browser import TIMEOUT, browser, visit
from tests.support.service import running

expect.set_options(timeout=TIMEOUT)
CONFLICT = "status of 409"


def test_changed_code_is_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = changed_search(tmp_path, *two_texts(tmp_path, monkeypatch))
    lease = store.acquire("aaaaaaaa", "me", 60)
    store.append(lease, [StatusChanged(status="paused", reason="asked to")])
    with running(tmp_path, **FREE) as service, browser() as chrome, visit(chrome) as seen:
        page = seen.page
        page.goto(f"{service.url}/search/aaaaaaaa")
        page.locator("#resume").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("own.py or what it imports has changed")
        dialog.get_by_role("button", name="Cancel").click()
        expect(dialog).to_have_count(0)
        assert store.commands(lease) == []
        page.locator("#resume").click()
        dialog.get_by_role("button", name="Go on with the changed code").click()
        expect(page.get_by_text("Resuming.")).to_be_visible()
        kinds = [one.command.kind for one in store.commands(lease)]
        assert kinds == ["change_code", "resume"]
        assert len(seen.complaints) == 2  # each refusal is one line of the console
        assert all(CONFLICT in one for one in seen.complaints)
    store.close()
