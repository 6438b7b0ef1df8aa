"""The page of monitoring, as a person looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog.testing
from playwright.sync_api import Page, expect

from fti.app.operations.observing.monitor_run import run_monitor
from fti.app.service.api import create_app
from fti.app.settings import load_settings
from fti.pipelines.feature.validating.expectations import Expectations, ExpectationsConfig
from fti.pipelines.feature.validating.validate_features import validate_features
from fti.store.store import Store
from tests.browser.test_page import HOSTILE, WIDTHS
from tests.support.service import add_document, assistant_over, filled_store, serving

pytestmark = [pytest.mark.browser, pytest.mark.heavy]

OpenPage = Callable[..., Page]


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that was monitored three times and validated once; a title is hostile."""
    store = filled_store(tmp_path_factory.mktemp("monitored") / "store")
    add_document(store, "/handbook/odd.md", HOSTILE, "An odd page about nothing at all.")
    assistant = assistant_over(store)
    for _ in range(2):
        assistant.answer("When does the workshop open?")
    overrides = ("embedder.engine=hashing", "promises.answer.latency_p95_s=0",
                 "promises.min_answers=1")  # fmt: skip
    settings = load_settings(store=store.layout.root, overrides=overrides, environment={})
    for _ in range(3):
        run_monitor(settings, store)
    short = {"columns": {"title": {"checks": {"str_length": {"max_value": 8}}}}}
    validate_features(
        store=store, config=ExpectationsConfig(collections={"*": Expectations(documents=short)})
    )
    return store


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_alerts_promises_history_and_findings_are_shown_on_every_screen(
    watched: Store, open_page: OpenPage, width: str, scheme: str
) -> None:
    with serving(create_app(assistant_over(watched))) as base:
        page = open_page(f"{base}/monitoring", viewport=WIDTHS[width], color_scheme=scheme)
        alerts = page.get_by_role("region", name="what, why")
        expect(alerts).to_contain_text("promise answer.latency_p95_s")
        promises = page.get_by_role("region", name="pipeline, promise")
        broken = promises.get_by_role("row").filter(has_text="broken")
        expect(broken).to_have_count(1)
        expect(broken).to_contain_text("at most 0 s")
        expect(page.get_by_role("img", name="Shares of answers over 3 runs")).to_be_visible()
        findings = page.get_by_role("region", name="collection, frame")
        expect(findings).to_contain_text("str_length(None, 8)")
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_an_unwatched_store_says_how_to_begin(open_page: OpenPage, tmp_path: Path) -> None:
    store = filled_store(tmp_path / "store")
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(f"{base}/monitoring")
        expect(page.get_by_text("Nothing was monitored yet: fti monitor")).to_be_visible()
        expect(page.get_by_text("Nothing was validated yet: fti validate")).to_be_visible()
