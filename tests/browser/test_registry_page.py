"""The page of models, datasets and runs, as a person looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import structlog.testing
from playwright.sync_api import Page, expect

from fti.app.service.api import create_app
from fti.pipelines.inference.evaluating.evaluation import evaluate
from fti.store.answer_types import Feedback
from fti.store.store import Store
from fti.store.types import Case
from tests.browser.test_page import HOSTILE, QUESTION, WIDTHS
from tests.support.service import HANDBOOK, add_document, assistant_over, filled_store, serving
from tests.support.values import a_contract, publish_files

pytestmark = [pytest.mark.browser, pytest.mark.heavy]

OpenPage = Callable[..., Page]
CASES = [
    Case(id="1", question=QUESTION, answers=("nine",), document="/handbook/hours.md"),
    Case(id="2", question="How hot is the kiln?", answers=("1240",), document="/handbook/kiln.md"),
    Case(id="3", question="Who sings?", document="/handbook/fees.md"),
]


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with something of everything; names and reasons are hostile."""
    store = filled_store(tmp_path_factory.mktemp("registry") / "store")
    for _ in range(2):
        publish_files(store, a_contract())
    store.models.promote("reader", 1, "champion", reason="the first")
    store.models.promote("reader", 2, "champion", reason=HOSTILE)
    evaluate(assistant_over(store), CASES, store=store, system="extractive+rag")
    return store


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_the_store_holds_is_shown_on_every_screen(
    full: Store, open_page: OpenPage, width: str, scheme: str
) -> None:
    with serving(create_app(assistant_over(full))) as base:
        page = open_page(f"{base}/registry", viewport=WIDTHS[width], color_scheme=scheme)
        models = page.get_by_role("region", name="version, aliases")
        expect(models.get_by_role("row", name="reader/2")).to_contain_text("champion")
        expect(page.get_by_role("cell", name=HOSTILE)).to_be_visible()
        plot = page.get_by_role("img", name="Scores of extractive+rag")
        expect(plot).to_be_visible()
        expect(plot.get_by_text("exact match")).to_be_visible()
        expect(page.get_by_text("extractive+rag: 3 cases")).to_be_visible()
        expect(page.get_by_text("No dataset was built yet")).to_be_visible()
        assert page.title() == "Models, datasets and runs"
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_an_answers_lineage_is_a_picture_that_leads_to_its_sources(
    full: Store, open_page: OpenPage
) -> None:
    add_document(full, "/handbook/hours.md", *HANDBOOK["/handbook/hours.md"])
    with serving(create_app(assistant_over(full))) as base:
        asked = {"messages": [{"role": "user", "content": QUESTION}]}
        answer = httpx.post(f"{base}/v1/chat/completions", json=asked, timeout=30).json()
        page = open_page(f"{base}/registry")
        page.get_by_label("Id of an answer").fill(answer["id"])
        page.keyboard.press("Enter")
        picture = page.get_by_role("img", name=f"Answer {answer['id']} by base")
        expect(picture).to_contain_text("[1] Opening hours")
        expect(picture).to_contain_text("model base")
        expect(picture.locator("rect.main")).to_have_count(1)
        assert picture.locator("rect.cited").count() >= 2
        page.reload()  # the address names the answer
        expect(picture).to_contain_text("hours.md")
        picture.locator("a").filter(has_text="[1]").click()
        expect(page.locator("mark")).to_have_text("nine")
        page.goto(f"{base}/registry?answer=a-20260101-000000000000")
        expect(page.get_by_text("There is no answer 'a-20260101-000000000000'")).to_be_visible()


def test_a_service_with_keys_asks_for_one(tmp_path: Path, open_page: OpenPage) -> None:
    store = filled_store(tmp_path / "store")
    _, key = store.keys.create("reader", read_only=True)
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(f"{base}/registry")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_text("No model is registered yet")).to_be_visible()
        expect(page.get_by_label("API key")).to_be_hidden()


def test_a_correction_is_looked_at_and_decided_on(tmp_path: Path, open_page: OpenPage) -> None:
    store = filled_store(tmp_path / "store")
    assistant = assistant_over(store)
    for correction in ("At ten.", HOSTILE):
        answer = assistant.answer(QUESTION)
        store.answers.feedback(
            Feedback(answer_id=answer.id, rating="down", correction=correction, comment="No!")
        )
    with serving(create_app(assistant)) as base:
        page = open_page(f"{base}/registry")
        section = page.get_by_role("region", name="Corrections")
        items = section.get_by_role("list", name="Corrections").get_by_role("listitem")
        expect(items).to_have_count(2)
        first = items.first
        expect(first).to_contain_text(QUESTION)
        expect(first).to_contain_text("“No!”")
        box = first.get_by_label("It should have been")
        expect(box).to_have_value("At ten.")
        box.fill("At ten sharp.")
        first.get_by_label("Reason").fill("as the sign says")
        first.get_by_role("button", name="Accept").click()
        expect(section.get_by_role("status")).to_contain_text("Accepted")
        expect(items).to_have_count(1)
        expect(items.get_by_label("It should have been")).to_have_value(HOSTILE)
        items.get_by_role("button", name="Reject").click()
        expect(items).to_have_count(0)
        section.get_by_label("Show").select_option("accepted")
        expect(items).to_have_count(1)
        expect(items.get_by_label("Reason")).to_have_value("as the sign says")
    accepted, rejected = store.answers.corrections()
    assert (accepted.state, accepted.text) == ("accepted", "At ten sharp.")
    assert rejected.state == "rejected"
