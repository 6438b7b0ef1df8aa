"""What stands under an answer: the sentences that it rests on, the words that carry it marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import structlog.testing
from playwright.sync_api import Page, expect

from fti.app.service.api import create_app
from fti.store.page_starts import PAGE_STARTS
from fti.store.store import Store
from tests.browser.test_page import HOSTILE, QUESTION, WIDTHS, ask
from tests.support.service import Scripted, add_document, assistant_over, serving

pytestmark = [pytest.mark.browser, pytest.mark.heavy]

OpenPage = Callable[..., Page]
FERRY = "Members come early.\n\nThe ferry leaves at noon 🕛 from the old pier. Dogs swim."


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.mark.parametrize("width", WIDTHS)
def test_an_answer_shows_the_sentence_it_rests_on_with_its_words_marked(
    store: Store, open_page: OpenPage, width: str
) -> None:
    add_document(
        store, "/handbook/ferry.pdf", "Ferry", FERRY,
        section=("Ferry", "Timetable"), metadata={PAGE_STARTS: "0 21"},
    )  # fmt: skip
    # As a language model answers: the words alone.
    generator = Scripted(pieces=["at noon", " [1]"])
    with serving(create_app(assistant_over(store, generator))) as base:
        page = open_page(base, viewport=WIDTHS[width])
        answer = ask(page, "When does the ferry leave?")
        source = answer.get_by_role("list", name="Sources").get_by_role("listitem")
        expect(source).to_have_count(1)
        expect(source.get_by_role("blockquote")).to_have_text(
            "The ferry leaves at noon 🕛 from the old pier."
        )
        expect(source.locator("mark")).to_have_text("at noon")
        place = source.get_by_role("button", name="Ferry › Timetable page 2 · ferry.pdf")
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
        others = answer.get_by_role("list", name="2 other passages read")
        expect(others).not_to_be_visible()
        place.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Ferry")
        expect(dialog).to_contain_text("Timetable · page 2")
        expect(dialog.locator("mark")).to_have_text("at noon")
        expect(dialog).to_contain_text("Members come early.")
        page.keyboard.press("Escape")
        expect(place).to_be_focused()
        # And by a click on the sentence.
        source.get_by_role("blockquote").click()
        dialog.get_by_role("link", name="Open as a page of its own").click()
        expect(page.get_by_role("heading", name="Ferry", exact=True)).to_be_visible()
        expect(page.locator("mark")).to_have_text("at noon")


def test_a_row_of_a_table_stands_under_the_names_of_its_columns(
    store: Store, open_page: OpenPage
) -> None:
    table = "| Laser | Ruby | Moth |\n|---|---|---|\n| Tube power | 90 W | 40 W |"
    add_document(store, "/handbook/lasers.md", "Lasers", table)
    generator = Scripted(pieces=["90 W [1]"])
    with serving(create_app(assistant_over(store, generator))) as base:
        answer = ask(open_page(base), "What is the tube power of the laser Ruby?")
        shown = answer.get_by_role("list", name="Sources").get_by_role("table")
        expect(shown.get_by_role("columnheader")).to_have_text(["Laser", "Ruby", "Moth"])
        expect(shown.get_by_role("cell")).to_have_text(["Tube power", "90 W", "40 W"])
        expect(shown.locator("mark")).to_have_text("90 W")


def test_marked_text_of_documents_never_becomes_html(store: Store, open_page: OpenPage) -> None:
    add_document(
        store, "/handbook/<b>.md", f"Shed {HOSTILE}", f"The shed is {HOSTILE} turquoise.",
        section=(f"Part {HOSTILE}",),
    )  # fmt: skip
    generator = Scripted(pieces=[f"{HOSTILE} turquoise [1]"])
    with serving(create_app(assistant_over(store, generator))) as base:
        page = open_page(base)
        answer = ask(page, "Which colour has the shed?")
        source = answer.get_by_role("list", name="Sources")
        expect(source.get_by_role("blockquote")).to_have_text(f"The shed is {HOSTILE} turquoise.")
        expect(source.locator("mark").last).to_contain_text("turquoise")
        expect(source).to_contain_text(f"Part {HOSTILE}")
        expect(page.locator("main img, main script, main b")).to_have_count(0)
        assert page.title() == "Ask your documents"


def test_of_a_long_sentence_what_stands_around_the_marks_is_shown(
    store: Store, open_page: OpenPage
) -> None:
    other = "When does the ferry leave, they ask; " * 20
    text = f"{other}the ferry leaves at noon, {other}they ask."
    add_document(store, "/handbook/ferry.md", "Ferry", text)
    generator = Scripted(pieces=["at noon [1]"])
    assistant = assistant_over(store, generator)
    assistant.contract = assistant.contract.model_copy(
        update={"max_prompt_tokens": 2000, "max_passage_tokens": 1500}
    )
    with serving(create_app(assistant)) as base:
        answer = ask(open_page(base), "When does the ferry leave?")
        quote = answer.get_by_role("list", name="Sources").get_by_role("blockquote").first
        expect(quote.locator("mark")).to_have_text("at noon")
        shown = quote.inner_text()
        assert shown.startswith("… ")
        assert shown.endswith(" …")
        assert len(shown) < 900


def test_an_answer_that_cites_nothing_says_so(store: Store, open_page: OpenPage) -> None:
    generator = Scripted(pieces=["Probably in the evening."])
    with serving(create_app(assistant_over(store, generator))) as base:
        answer = ask(open_page(base), QUESTION)
        expect(answer).to_contain_text("This answer names no passage that it rests on.")
        answer.get_by_text("3 passages read").click()
        expect(answer.get_by_role("list", name="3 passages read")).to_be_visible()
