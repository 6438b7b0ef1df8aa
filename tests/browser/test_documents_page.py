"""Documents given to the page, the links between the pages, and which model answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from playwright.sync_api import Page, Route, expect

from fti.app.service.api import create_app
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.feature.feature_config import FeatureConfig
from fti.pipelines.feature.ingesting.ingest import ingest
from fti.store.store import Store
from tests.browser.test_page import QUESTION, SHED, WIDTHS, a_file, ask, documents
from tests.support.service import Scripted, assistant_over, serving
from tests.support.values import a_contract, publish_files

pytestmark = [pytest.mark.browser, pytest.mark.heavy]

OpenPage = Callable[..., Page]


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def drop(page: Page, files: Sequence[Any]) -> None:
    """Drop files somewhere on the page."""
    dropped = page.evaluate_handle(
        """(files) => {
            const data = new DataTransfer();
            for (const [name, text] of files) data.items.add(new File([text], name));
            return data;
        }""",
        [[f["name"], f["buffer"].decode()] for f in files],
    )
    for kind in ("dragover", "drop"):
        page.dispatch_event("main", kind, {"dataTransfer": dropped})


@pytest.mark.parametrize("width", WIDTHS)
def test_files_dropped_on_the_page_are_added_or_say_why_not(
    store: Store, open_page: OpenPage, width: str
) -> None:
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(base, viewport=WIDTHS[width])
        drop(page, [SHED, a_file("tool.exe", "x"), a_file("nothing.txt", "")])
        dialog = page.get_by_role("dialog", name="Documents")
        rows = dialog.get_by_role("list", name="Uploads").get_by_role("listitem")
        expect(rows.filter(has_text="shed.md")).to_contain_text("Added, 1 passage", timeout=60_000)
        expect(rows.filter(has_text="tool.exe")).to_contain_text(
            "Files ending in '.exe' are not read."
        )
        expect(rows.filter(has_text="nothing.txt")).to_contain_text(
            "the file is empty", timeout=60_000
        )
        expect(dialog.get_by_role("button", name="Try tool.exe again")).to_be_visible()
        expect(page.get_by_text("1 document added, 2 failed.")).to_be_attached()
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
        page.keyboard.press("Escape")
        expect(ask(page, "Which colour has the bicycle shed?")).to_contain_text("turquoise")


def test_a_busy_service_is_asked_again_and_a_lost_file_can_be_sent_again(
    store: Store, open_page: OpenPage
) -> None:
    tries = []

    def flaky(route: Route) -> None:
        if route.request.method != "POST":
            route.fallback()
            return
        tries.append(route)
        if len(tries) == 1:
            route.fulfill(status=429, json={"error": {"message": "Busy.", "code": "overloaded"}})
        elif len(tries) == 2:
            route.abort()
        else:
            route.fallback()

    with serving(create_app(assistant_over(store))) as base:
        page = open_page(base)
        page.route("**/v1/documents", flaky)
        dialog = documents(page)
        dialog.get_by_label("Add documents").set_input_files([SHED])
        rows = dialog.get_by_role("list", name="Uploads").get_by_role("listitem")
        expect(rows).to_contain_text("The service is busy; it is asked again…")
        expect(rows).to_contain_text("The service cannot be reached.")
        rows.get_by_role("button", name="Try shed.md again").click()
        expect(rows).to_contain_text("Added, 1 passage", timeout=60_000)
        expect(rows).to_have_count(1)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_leads_to_every_other(store: Store, open_page: OpenPage, width: str) -> None:
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(base, viewport=WIDTHS[width])
        answer = ask(page, QUESTION)
        source = answer.get_by_role("list", name="Sources").get_by_role("button")
        expect(source).to_be_visible()
        source.click()
        own_page = page.get_by_role("link", name="Open as a page of its own")
        address = base + (own_page.get_attribute("href") or "")
        names = ["Chat", "Documents", "Models and runs", "Monitoring", "API"]
        for path, here in (
            (base, "Chat"), (f"{base}/registry", "Models and runs"),
            (f"{base}/monitoring", "Monitoring"), (f"{base}/docs", "API"),
            (address, None),
        ):  # fmt: skip
            page.goto(path)
            pages = page.get_by_role("navigation", name="Pages")
            expect(pages.get_by_role("link")).to_have_text(names)
            current = pages.locator("[aria-current=page]")
            expect(current).to_have_text([here] if here else [])
            assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), path
        page.get_by_role("link", name="Documents").click()
        dialog = page.get_by_role("dialog", name="Documents")
        expect(dialog.get_by_role("list", name="Documents in the store")).to_contain_text("Kiln")
        page.keyboard.press("Escape")
        expect(page).to_have_url(f"{base}/")


def test_an_answer_leads_to_how_it_came_to_be(store: Store, open_page: OpenPage) -> None:
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(base)
        ask(page, QUESTION).get_by_role("link", name="base").click()
        expect(page.get_by_role("heading", name="How an answer came to be")).to_be_visible()
        expect(page.get_by_text("model base · stop")).to_be_visible()


def test_colours_chosen_on_one_page_hold_on_the_others(store: Store, open_page: OpenPage) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(f"{base}/docs", color_scheme="light")
        light = page.evaluate(ground)
        page.get_by_role("button", name="Dark colours").click()
        page.goto(base)
        expect(page.get_by_role("button", name="Dark colours", pressed=True)).to_be_visible()
        assert page.evaluate(ground) != light


def test_the_model_chooser_says_what_an_alias_a_version_and_the_base_are(
    store: Store, open_page: OpenPage
) -> None:
    for _ in range(2):
        publish_files(store, a_contract())
    store.models.promote("reader", 2, "champion", reason="the first")

    def build(ref: str) -> Any:
        made = assistant_over(store, Scripted(pieces=[f"I am {ref}"]))
        made.model = ref
        return made

    with serving(create_app(assistant_over(store), build=build)) as base:
        page = open_page(base)
        picker = page.get_by_role("combobox", name="Model")
        groups = picker.locator("optgroup")
        expect(groups).to_have_count(3)
        labels = [group.get_attribute("label") for group in groups.all()]
        assert labels == [
            "Aliases: follow what is promoted",
            "Versions: stay as they are",
            "Without fine-tuning on your documents",
        ]
        expect(picker.locator("option")).to_have_text(
            [
                "reader@champion (now reader/2)",
                "reader/1",
                "reader/2",
                "base (not fine-tuned)",
                "extractive (no language model)",
            ]
        )
        expect(picker).to_have_value("base")
        for name, meaning in {
            "reader@champion": "an alias: it means reader/2 now",
            "reader/1": "it never changes",
            "extractive": "repeats the sentence nearest to the question",
        }.items():
            picker.select_option(name)
            expect(picker).to_have_accessible_description(re.compile(meaning))
        picker.select_option("reader@champion")
        expect(ask(page, QUESTION)).to_contain_text("I am reader/2")


def test_an_upload_goes_into_the_collection_that_is_named(
    store: Store, open_page: OpenPage
) -> None:
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(base)
        dialog = documents(page)
        dialog.get_by_label("Into the collection").fill("staff")
        dialog.get_by_label("Add documents").set_input_files([SHED])
        expect(dialog.get_by_text("Added, 1 passage")).to_be_visible(timeout=60_000)
        listed = dialog.get_by_role("list", name="Documents in the store").get_by_role("listitem")
        expect(listed.filter(has_text="Shed")).to_contain_text("in staff")
        expect(dialog.locator("#collections option")).to_have_attribute("value", "staff")
    assert store.features.collections() == {"staff": (1, 1)}


def test_a_document_that_failed_is_tried_again(
    store: Store, open_page: OpenPage, tmp_path: Path
) -> None:
    bad = tmp_path / "notes.json"
    bad.write_text("{", "utf-8")
    embedder = HashingEmbedder()
    ingest([str(bad)], store=store, embedder=embedder, config=FeatureConfig())
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(base)
        dialog = documents(page)
        listed = dialog.get_by_role("list", name="Documents in the store").get_by_role("listitem")
        expect(listed.filter(has_text="could not be read")).to_have_count(1)
        again = dialog.get_by_role("button", name=re.compile("Try .* again"))
        again.click()
        expect(page.get_by_text(re.compile("failed again"))).to_be_attached(timeout=60_000)
        bad.write_text('{"title": "Notes", "text": "The notes are whole now."}', "utf-8")
        again.click()
        expect(listed.filter(has_text="Notes")).to_contain_text("1 passage", timeout=60_000)
        expect(again).to_have_count(0)


def test_what_came_of_a_document_is_shown(store: Store, open_page: OpenPage) -> None:
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(base)
        answer = ask(page, QUESTION)
        expect(answer.get_by_role("list", name="Sources")).to_be_visible()
        dialog = documents(page)
        dialog.get_by_label("What came of Opening hours").click()
        expect(dialog.get_by_text("Cited in")).to_contain_text(QUESTION)
        dialog.get_by_role("link", name=QUESTION).click()
        expect(page.get_by_text("model base · stop")).to_be_visible()
