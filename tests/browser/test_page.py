"""The chat page, used as a person uses it: by role, label and keyboard."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from playwright.sync_api import Browser, Error, Locator, Page, expect
from pydantic import SecretStr

from app.api import create_app
from app.service import ServiceConfig
from store.contract import DEFAULT_ABSTENTION
from store.errors import GenerationFailed
from store.store import Store
from tests.support.service import Scripted, add_document, assistant_over, filled_store, serving

pytestmark = [pytest.mark.browser, pytest.mark.heavy]

OpenPage = Callable[..., Page]
QUESTION = "When does the workshop open on Saturdays?"
WIDTHS = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1280, "height": 800}}


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def ask(page: Page, question: str) -> Locator:
    """Ask with the keyboard; the place of the newest answer."""
    box = page.get_by_role("textbox", name="Question")
    box.fill(question)
    box.press("Enter")
    expect(page.get_by_role("heading", name=question).last).to_be_visible()
    return page.get_by_role("article", name="Answer").last


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_answer_cites_a_source_that_opens_with_the_quote_marked(
    store: Store, open_page: OpenPage, width: str, scheme: str
) -> None:
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(base, viewport=WIDTHS[width], color_scheme=scheme)
        expect(page.get_by_text("3 documents · base")).to_be_visible()
        answer = ask(page, QUESTION)
        expect(answer).to_contain_text("The workshop opens at nine on Saturdays.")
        citation = answer.get_by_role("button", name="Source 1: Opening hours")
        citation.click()
        source = page.get_by_role("dialog", name="Opening hours")
        expect(source.locator("mark")).to_have_text("The workshop opens at nine on Saturdays")
        expect(source).to_contain_text("/handbook/hours.md")
        source.get_by_role("button", name="Next source").click()
        expect(page.get_by_role("dialog")).to_contain_text("Source 2")
        page.get_by_role("button", name="Close").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        overflow = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not overflow


def test_everything_can_be_done_with_the_keyboard_alone(store: Store, open_page: OpenPage) -> None:
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(base)
        expect(page.get_by_role("textbox", name="Question")).to_be_focused()
        page.keyboard.type(QUESTION)
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("I mean the workshop.")
        page.keyboard.press("Enter")
        answer = page.get_by_role("article", name="Answer")
        citation = answer.get_by_role("button", name="Source 1")
        expect(citation).to_be_visible()
        expect(page.get_by_role("textbox", name="Question")).to_be_focused()
        expect(page.get_by_role("textbox", name="Question")).to_have_value("")
        for _ in range(20):
            if citation.evaluate("node => node === document.activeElement"):
                break
            page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(citation).to_be_focused()


def test_what_the_documents_do_not_answer_is_shown_as_such(
    store: Store, open_page: OpenPage
) -> None:
    generator = Scripted(pieces=[DEFAULT_ABSTENTION])
    with serving(create_app(assistant_over(store, generator))) as base:
        answer = ask(open_page(base), "Who painted the workshop's ceiling?")
        expect(answer).to_contain_text("Not answered by the documents")
        expect(answer.get_by_role("button", name="Source")).to_have_count(0)
        answer.get_by_text("3 passages looked at").click()
        expect(answer.get_by_role("list", name="3 passages looked at")).to_be_visible()


def test_a_running_answer_is_stopped_with_what_was_said_kept(
    store: Store, open_page: OpenPage
) -> None:
    generator = Scripted(pieces=["First words"] + [" and more"] * 1_000, pace_s=0.02)
    with serving(create_app(assistant_over(store, generator))) as base:
        page = open_page(base)
        answer = ask(page, QUESTION)
        expect(answer).to_contain_text("First words and more")
        page.get_by_role("button", name="Stop").click()
        expect(answer).to_contain_text("Stopped")
        expect(page.get_by_role("button", name="Ask")).to_be_visible()
        assert generator.cancelled.wait(10)
        expect(answer).to_contain_text("First words")
        # And with the keyboard.
        second = ask(page, "When does the kiln fire?")
        expect(second).to_contain_text("First words")
        page.keyboard.press("Escape")
        expect(second).to_contain_text("Stopped")


def test_it_says_that_it_searches_until_the_first_words_come(
    store: Store, open_page: OpenPage
) -> None:
    generator = Scripted(hold=threading.Event())
    with serving(create_app(assistant_over(store, generator))) as base:
        answer = ask(open_page(base), QUESTION)
        expect(answer).to_contain_text("Reading the passages…")
        generator.hold.set()
        expect(answer).to_contain_text("At nine on Saturdays")
        expect(answer).not_to_contain_text("Reading")


def test_a_follow_up_carries_the_conversation_and_a_new_one_forgets_it(
    store: Store, open_page: OpenPage
) -> None:
    generator = Scripted()
    with serving(create_app(assistant_over(store, generator))) as base:
        page = open_page(base)
        expect(ask(page, QUESTION)).to_contain_text("At nine")
        expect(page.get_by_role("button", name="Ask")).to_be_visible()
        expect(ask(page, "And on Mondays?")).to_contain_text("At nine")
        expect(page.get_by_role("button", name="Ask")).to_be_visible()
        asked = [m.content for m in generator.requests[-1].messages if m.role == "user"]
        assert any(QUESTION in content for content in asked[:-1])
        page.get_by_role("button", name="New conversation").click()
        expect(page.get_by_role("article")).to_have_count(0)
        expect(page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
        expect(ask(page, "When is the kiln fired?")).to_contain_text("At nine")
        expect(page.get_by_role("button", name="Ask")).to_be_visible()
        asked = [m for m in generator.requests[-1].messages if m.role == "user"]
        assert len(asked) == 1


def test_a_service_that_went_away_is_said_and_the_question_can_be_tried_again(
    store: Store, open_page: OpenPage
) -> None:
    generator = Scripted(fails=GenerationFailed("The model broke off."))
    with serving(create_app(assistant_over(store, generator))) as base:
        page = open_page(base)
        broken = ask(page, QUESTION)
        expect(broken).to_contain_text("The model broke off.")
        expect(broken).to_contain_text("At nine")
        generator.fails = None
        broken.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("button", name="Source 1: Opening hours")).to_be_visible()
        expect(page.get_by_role("article")).to_have_count(1)
    answer = ask(page, QUESTION)
    expect(answer).to_contain_text("The service cannot be reached.")
    expect(page.get_by_text("The service cannot be reached.").first).to_be_visible()


HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


def test_text_of_documents_and_questions_never_becomes_html(
    store: Store, open_page: OpenPage
) -> None:
    add_document(
        store,
        "/handbook/<b>shed</b>.md",
        f"Shed {HOSTILE}",
        f"The bicycle shed {HOSTILE} is turquoise.",
    )
    generator = Scripted(pieces=[f"The shed {HOSTILE} is turquoise [1]"])
    with serving(create_app(assistant_over(store, generator))) as base:
        page = open_page(base)
        answer = ask(page, f"Which colour has the bicycle shed {HOSTILE}?")
        expect(answer).to_contain_text(HOSTILE)
        answer.get_by_role("button", name="Source 1").first.click()
        source = page.get_by_role("dialog")
        expect(source).to_contain_text(f"The bicycle shed {HOSTILE} is turquoise.")
        expect(source).to_contain_text("/handbook/<b>shed</b>.md")
        expect(page.locator("main img, dialog img, main script, dialog script, b")).to_have_count(0)
        assert page.title() == "Ask your documents"


def test_the_policy_of_the_page_refuses_html_and_inline_code(
    store: Store, browser: Browser
) -> None:
    attempts = {
        "HTML": "document.body.innerHTML = '<i>x</i>'",
        "a handler": "document.body.setAttribute('onclick', 'document.title = 1')",
        "a script": "document.createElement('script').textContent = 'document.title = 1'",
    }
    with serving(create_app(assistant_over(store))) as base, browser.new_page() as page:
        page.goto(base)
        for what, code in attempts.items():
            with pytest.raises(Error, match="requires 'Trusted"):
                page.evaluate(code)
            assert page.title() == "Ask your documents", what
        # And nothing is fetched from elsewhere: this waits for the refusal.
        page.evaluate(
            """() => new Promise(resolve => {
                addEventListener("securitypolicyviolation", resolve, { once: true });
                const image = document.createElement("img");
                image.src = "https://elsewhere.example/pixel.png";
                document.body.append(image);
            })"""
        )


def test_a_page_opened_on_an_empty_store_comes_alive_with_the_first_documents(
    tmp_path: Path, open_page: OpenPage
) -> None:
    serving_store = Store(tmp_path / "store", read_consistency_s=0.1)
    with serving(create_app(assistant_over(serving_store))) as base:
        page = open_page(base)
        expect(page.get_by_role("main")).to_contain_text("fti ingest FOLDER")
        filled_store(tmp_path / "store")
        expect(page.get_by_text("3 documents · base")).to_be_visible()
        expect(page.get_by_role("main")).to_contain_text("name the passages they rest on")
        expect(ask(page, QUESTION)).to_contain_text("nine on Saturdays")


def test_a_verdict_on_an_answer_is_kept(store: Store, open_page: OpenPage) -> None:
    with serving(create_app(assistant_over(store))) as base:
        answer = ask(open_page(base), QUESTION)
        answer.get_by_role("button", name="Not helpful").click()
        pressed = answer.get_by_role("button", name="Not helpful", pressed=True)
        expect(pressed).to_be_visible()
    assert [f.rating for f in store.answers.all_feedback()] == ["down"]


def test_a_service_with_keys_asks_for_one(store: Store, open_page: OpenPage) -> None:
    config = ServiceConfig(api_keys=(SecretStr("a-key"),))
    with serving(create_app(assistant_over(store), config)) as base:
        page = open_page(base)
        asking = page.get_by_role("dialog", name="This service asks for a key")
        asking.get_by_label("API key").fill("a-key")
        asking.get_by_role("button", name="Continue").click()
        expect(page.get_by_text("3 documents · base")).to_be_visible()
        expect(ask(page, QUESTION)).to_contain_text("nine on Saturdays")


def test_characters_beyond_the_basic_plane_do_not_shift_citations(
    store: Store, open_page: OpenPage
) -> None:
    generator = Scripted(pieces=["🙂🙂 At nine 🕘 [1]", " and no earlier."])
    with serving(create_app(assistant_over(store, generator))) as base:
        answer = ask(open_page(base), QUESTION)
        citation: Any = answer.get_by_role("button", name="Source 1").first
        expect(citation).to_have_text("1")
        expect(answer.locator(".text")).to_have_text("🙂🙂 At nine 🕘 1 and no earlier.")
