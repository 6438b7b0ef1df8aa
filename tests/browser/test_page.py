"""The chat page, used as a person uses it: by role, label and keyboard."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog.testing
from playwright.sync_api import Browser, Error, Locator, Page, expect
from pydantic import SecretStr

from fti.app.service.api import create_app
from fti.app.service.service_config import ServiceConfig
from fti.store.contracts.prompt_contract import DEFAULT_ABSTENTION
from fti.store.errors import GenerationFailed
from fti.store.store import Store
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
        expect(source.locator("mark")).to_have_text("nine")
        expect(source.locator(".sentence")).to_have_text("The workshop opens at nine on Saturdays.")
        expect(source).to_contain_text("handbook/hours.md")
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
        nearest = answer.get_by_role("list", name="What came nearest in the documents")
        expect(nearest.get_by_role("blockquote")).to_have_text(
            "The workshop opens at nine on Saturdays."
        )
        expect(nearest.locator("mark")).to_have_text("workshop")
        others = answer.get_by_role("list", name="2 other passages read")
        expect(others).not_to_be_visible()
        answer.get_by_text("2 other passages read").click()
        expect(others).to_be_visible()
        nearest.get_by_role("button", name="Opening hours").click()
        expect(answer.page.get_by_role("dialog").locator("mark")).to_have_text("workshop")


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
        expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
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
        expect(source).to_contain_text("<b>shed</b>.md")
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
        expect(page.get_by_role("main")).to_contain_text("show the sentences they rest on")
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


def documents(page: Page) -> Locator:
    """The dialog with the store's documents, opened."""
    page.get_by_role("link", name="Documents").click()
    return page.get_by_role("dialog", name="Documents")


def a_file(name: str, text: str) -> Any:
    return {"name": name, "mimeType": "text/plain", "buffer": text.encode()}


SHED = a_file("shed.md", "# Shed\n\nThe new bicycle shed behind the kiln is turquoise.\n")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_document_is_added_answered_from_and_removed(
    store: Store, open_page: OpenPage, width: str
) -> None:
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(base, viewport=WIDTHS[width])
        dialog = documents(page)
        listed = dialog.get_by_role("list", name="Documents in the store").get_by_role("listitem")
        expect(listed).to_have_count(3)
        dialog.get_by_label("Add documents").set_input_files([SHED])
        expect(dialog.get_by_text("Added, 1 passage")).to_be_visible(timeout=60_000)
        expect(listed).to_have_count(4)
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
        page.keyboard.press("Escape")
        expect(page.get_by_text("4 documents · base")).to_be_visible()
        expect(ask(page, "Which colour has the bicycle shed?")).to_contain_text("turquoise")
        dialog = documents(page)
        remove = dialog.get_by_role("button", name="Remove Shed")
        remove.click()
        expect(remove).to_have_text("Really remove?")
        remove.click()
        expect(listed).to_have_count(3)
    assert store.features.stats().documents == 3


def test_a_file_that_cannot_be_read_says_why(store: Store, open_page: OpenPage) -> None:
    with serving(create_app(assistant_over(store))) as base:
        dialog = documents(open_page(base))
        files = [a_file("tool.exe", "x"), a_file("nothing.txt", "")]
        dialog.get_by_label("Add documents").set_input_files(files)
        expect(dialog.get_by_text("Files ending in '.exe' are not read.")).to_be_visible()
        expect(dialog.get_by_text("the file is empty").first).to_be_visible(timeout=60_000)


def test_an_empty_store_can_be_filled_from_the_page(tmp_path: Path, open_page: OpenPage) -> None:
    with serving(create_app(assistant_over(Store(tmp_path / "store")))) as base:
        page = open_page(base)
        page.get_by_role("button", name="Add documents").click()
        dialog = page.get_by_role("dialog", name="Documents")
        expect(dialog).to_contain_text("There are no documents yet.")
        dialog.get_by_label("Add documents").set_input_files([SHED])
        expect(dialog.get_by_text("Added, 1 passage")).to_be_visible(timeout=60_000)
        page.keyboard.press("Escape")
        expect(page.get_by_text("1 document · base")).to_be_visible()


def test_an_empty_store_is_not_asked_after_for_ever(tmp_path: Path, open_page: OpenPage) -> None:
    with serving(create_app(assistant_over(Store(tmp_path / "store")))) as base:
        page = open_page("about:blank")
        asked: list[str] = []
        page.on("request", lambda r: asked.append(r.url) if "/readyz" in r.url else None)
        page.clock.install()
        page.goto(base)
        again = page.get_by_role("button", name="Check again")
        # The page's clock runs ahead, but an answer of the service takes real time.
        deadline = time.monotonic() + 60
        while not again.is_visible() and time.monotonic() < deadline:
            expect(page.get_by_role("main")).to_contain_text("fti ingest FOLDER")
            page.clock.run_for(10_000)
            time.sleep(0.2)
        expect(again).to_be_visible()
        most = len(asked)
        assert 3 < most <= 10
        page.clock.run_for(3_600_000)
        assert len(asked) == most
        filled_store(tmp_path / "store")
        expect(again).to_be_visible()
        page.wait_for_timeout(1_100)  # how old the service's view may be
        again.click()
        expect(page.get_by_text("3 documents · base")).to_be_visible()


def test_the_model_that_answers_can_be_chosen(store: Store, open_page: OpenPage) -> None:
    def build(ref: str) -> Any:
        made = assistant_over(store, Scripted(pieces=[f"I am {ref}"]))
        made.model = ref
        return made

    app = create_app(assistant_over(store), name="reader@champion", build=build)
    with serving(app) as base:
        page = open_page(base)
        picker = page.get_by_role("combobox", name="Model")
        expect(picker).to_have_value("reader@champion")
        expect(picker.locator("option").first).to_have_text("reader@champion (now base)")
        picker.select_option("extractive")
        expect(ask(page, QUESTION)).to_contain_text("I am extractive")
        page.reload()
        expect(picker).to_have_value("extractive")


def test_a_person_says_what_the_answer_should_have_been(store: Store, open_page: OpenPage) -> None:
    with serving(create_app(assistant_over(store))) as base:
        answer = ask(open_page(base), QUESTION)
        answer.get_by_role("button", name="Not helpful").click()
        answer.get_by_label("What should it have said?").fill("At ten, since May.")
        answer.get_by_role("button", name="Send").click()
        expect(answer).to_contain_text("Thank you, noted.")
    assert [f.correction for f in store.answers.all_feedback()] == ["", "At ten, since May."]


def test_colours_can_be_chosen_against_the_systems(store: Store, open_page: OpenPage) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(base, color_scheme="light")
        light = page.evaluate(ground)
        page.get_by_role("button", name="Dark colours", pressed=False).click()
        expect(page.get_by_role("button", name="Dark colours", pressed=True)).to_be_visible()
        dark = page.evaluate(ground)
        page.reload()
        assert page.evaluate(ground) == dark != light


def test_a_page_without_a_network_says_so_and_comes_back(store: Store, open_page: OpenPage) -> None:
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(base)
        expect(page.get_by_text("3 documents")).to_be_visible()
        page.context.set_offline(True)
        expect(page.get_by_text("You are offline.").first).to_be_visible()
        expect(ask(page, QUESTION)).to_contain_text("You are offline.")
        page.context.set_offline(False)
        expect(page.get_by_text("3 documents")).to_be_visible()


def test_a_source_shows_what_stands_around_it_and_that_its_document_changed(
    store: Store, open_page: OpenPage
) -> None:
    text = "Members come early.\n\nThe ferry leaves at noon 🕛 they say.\n\nNobody waits."
    add_document(store, "/handbook/ferry.md", "Ferry", text)
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(base)
        answer = ask(page, "When does the ferry leave?")
        answer.get_by_role("button", name="Source 1").first.click()
        source = page.get_by_role("dialog", name="Ferry")
        expect(source).to_contain_text("Members come early.")
        expect(source.locator("mark")).to_contain_text("noon")
        page.keyboard.press("Escape")
        add_document(store, "/handbook/ferry.md", "Ferry", "The ferry was sold.")
        answer.get_by_role("button", name="Source 1").first.click()
        expect(source).to_contain_text("The document has changed since")
        expect(source.locator("mark")).to_contain_text("noon")


def test_a_citations_link_opens_as_a_page_and_the_api_describes_itself(
    store: Store, open_page: OpenPage
) -> None:
    with serving(create_app(assistant_over(store))) as base:
        asked = {"messages": [{"role": "user", "content": QUESTION}]}
        answer = httpx.post(f"{base}/v1/chat/completions", json=asked, timeout=30).json()
        note = answer["choices"][0]["message"]["annotations"][0]["url_citation"]
        page = open_page(note["url"])
        expect(page.get_by_role("heading", name="Opening hours")).to_be_visible()
        expect(page.locator("mark")).to_have_text("nine")
        page.goto(f"{base}/docs")
        page.get_by_text("/v1/chat/completions").click()
        expect(page.get_by_role("cell", name="temperature", exact=True)).to_be_visible()
