"""Conversations that outlive a reload: kept in the browser, renamed, exported, deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog.testing
from playwright.sync_api import Locator, Page, expect

from fti.app.service.api import create_app
from fti.store.contracts.prompt_contract import DEFAULT_ABSTENTION
from fti.store.store import Store
from tests.browser.test_page import HOSTILE, QUESTION, WIDTHS, ask
from tests.support.service import Scripted, assistant_over, serving

pytestmark = [pytest.mark.browser, pytest.mark.heavy]

OpenPage = Callable[..., Page]
KILN = "When is the kiln fired?"


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def answered(page: Page, question: str) -> Locator:
    """Ask, and wait until the answer is whole."""
    answer = ask(page, question)
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    return answer


def kept(page: Page) -> Locator:
    """The list of kept conversations, opened."""
    page.get_by_role("button", name="Conversations").click()
    return page.get_by_role("dialog", name="Conversations")


def test_a_conversation_and_its_verdicts_outlive_a_reload(
    store: Store, open_page: OpenPage
) -> None:
    generator = Scripted()
    with serving(create_app(assistant_over(store, generator))) as base:
        page = open_page(base)
        answer = ask(page, QUESTION)
        answer.get_by_role("button", name="Helpful", exact=True).click()
        expect(answer.get_by_role("button", name="Helpful", pressed=True)).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name=QUESTION)).to_be_visible()
        restored = page.get_by_role("article", name="Answer")
        expect(restored).to_contain_text("At nine on Saturdays")
        expect(restored.get_by_role("list", name="Sources").locator("mark")).to_be_visible()
        expect(restored.get_by_role("button", name="Helpful", pressed=True)).to_be_visible()
        restored.get_by_role("button", name="Source 1").first.click()
        expect(page.get_by_role("dialog").locator("mark")).to_be_visible()
        page.keyboard.press("Escape")
        expect(ask(page, "And on Mondays?")).to_contain_text("At nine")
        asked = [m.content for m in generator.requests[-1].messages if m.role == "user"]
        assert any(QUESTION in content for content in asked[:-1])


def test_another_tab_begins_anew_and_can_go_on_with_it(store: Store, open_page: OpenPage) -> None:
    with serving(create_app(assistant_over(store, Scripted()))) as base:
        page = open_page(base)
        answered(page, QUESTION)
        other = page.context.new_page()
        other.goto(base)
        expect(other.get_by_role("heading", name="What would you like")).to_be_visible()
        expect(other.get_by_role("article")).to_have_count(0)
        recent = other.get_by_role("navigation", name="Go on with")
        recent.get_by_role("button", name=QUESTION).click()
        expect(other.get_by_role("article")).to_contain_text("At nine on Saturdays")
        # What is said in one tab is seen in the other.
        answered(other, "And on Mondays?")
        expect(page.get_by_role("heading", name="And on Mondays?")).to_be_visible()
    stranger = open_page("about:blank")
    assert stranger.context.storage_state()["origins"] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_conversation_is_renamed_exported_and_deleted(
    store: Store, open_page: OpenPage, width: str
) -> None:
    with serving(create_app(assistant_over(store))) as base:
        page = open_page(base, viewport=WIDTHS[width])
        answered(page, QUESTION)
        page.get_by_role("button", name="New conversation").click()
        expect(page.get_by_role("article")).to_have_count(0)
        answered(page, KILN)
        dialog = kept(page)
        listed = dialog.get_by_role("list", name="Kept conversations").get_by_role("listitem")
        expect(listed).to_have_count(2)
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")

        dialog.get_by_role("button", name=f"Rename {QUESTION}").click()
        name = dialog.get_by_label("New name")
        expect(name).to_be_focused()
        name.fill("Opening *hours*")
        name.press("Enter")
        opened = dialog.get_by_role("button", name="Opening *hours*", exact=True)
        expect(opened).to_be_visible()
        # Renaming makes it no newer; Escape ends a renaming and nothing else.
        expect(listed.first).to_contain_text(KILN)
        dialog.get_by_role("button", name="Rename Opening *hours*").click()
        dialog.get_by_label("New name").press("Escape")
        expect(opened).to_be_visible()

        with page.expect_download() as downloading:
            dialog.get_by_role("button", name="Export Opening *hours*").click()
        assert downloading.value.suggested_filename == "Opening hours.md"
        exported = Path(downloading.value.path()).read_text(encoding="utf-8")
        assert exported.startswith("# Opening \\*hours\\*\n")
        assert f"## {QUESTION}" in exported
        assert "The workshop opens at nine on Saturdays. \\[1\\]" in exported
        assert "[1] Opening hours, handbook/hours.md" in exported
        assert "> The workshop opens at **nine** on Saturdays." in exported

        opened.click()
        expect(page.get_by_role("heading", name=QUESTION)).to_be_visible()
        expect(page.get_by_role("heading", name=KILN)).to_have_count(0)
        dialog = kept(page)
        delete = dialog.get_by_role("button", name="Delete Opening *hours*")
        delete.click()
        expect(delete).to_have_text("Really delete?")
        delete.click()
        expect(listed).to_have_count(1)
        page.keyboard.press("Escape")
        expect(page.get_by_role("article")).to_have_count(0)
        page.reload()
        recent = page.get_by_role("navigation", name="Go on with").get_by_role("button")
        expect(recent).to_have_text([KILN])


def test_all_conversations_are_deleted_at_once(store: Store, open_page: OpenPage) -> None:
    with serving(create_app(assistant_over(store, Scripted()))) as base:
        page = open_page(base)
        for question in (QUESTION, KILN):
            answered(page, question)
            page.get_by_role("button", name="New conversation").click()
        dialog = kept(page)
        delete = dialog.get_by_role("button", name="Delete all conversations")
        delete.click()
        delete.click()
        expect(dialog).to_contain_text("There are no conversations yet.")
        left = page.evaluate("Object.keys(localStorage).filter(k => k.includes('conversation'))")
        assert left == []


def test_an_export_holds_refusals_corrections_and_no_markup_of_others(
    store: Store, open_page: OpenPage
) -> None:
    with serving(create_app(assistant_over(store, Scripted(pieces=[DEFAULT_ABSTENTION])))) as base:
        page = open_page(base)
        answer = answered(page, f"Who painted the workshop {HOSTILE}?")
        answer.get_by_role("button", name="Not helpful").click()
        answer.get_by_label("What should it have said?").fill("- [Ann](javascript:alert(1))")
        answer.get_by_role("button", name="Send").click()
        expect(answer).to_contain_text("Thank you, noted.")
        dialog = kept(page)
        expect(page.locator("dialog img, dialog script")).to_have_count(0)
        with page.expect_download() as downloading:
            dialog.get_by_role("button", name="Export").click()
        exported = Path(downloading.value.path()).read_text(encoding="utf-8")
    assert "*Not answered by the documents.*" in exported
    assert "> The **workshop** opens at nine on Saturdays." in exported
    assert "> \\- \\[Ann\\](javascript:alert(1))" in exported
    assert "<img" not in exported.replace("\\<", "")
    assert "\\<img src=x" in exported


def test_a_stopped_answer_is_kept_with_what_was_said_and_can_be_asked_again(
    store: Store, open_page: OpenPage
) -> None:
    generator = Scripted(pieces=["First words"] + [" and more"] * 1_000, pace_s=0.02)
    with serving(create_app(assistant_over(store, generator))) as base:
        page = open_page(base)
        answer = ask(page, QUESTION)
        expect(answer).to_contain_text("First words and more")
        page.get_by_role("button", name="Stop").click()
        expect(answer).to_contain_text("Stopped")
        page.reload()
        expect(answer).to_contain_text("First words and more")
        expect(answer).to_contain_text("Stopped")
        generator.pieces, generator.pace_s = ["At nine [1]"], 0.0
        answer.get_by_role("button", name="Ask again").click()
        expect(page.get_by_role("article")).to_have_count(1)
        expect(page.get_by_role("button", name="Source 1: Opening hours")).to_be_visible()
        # What was broken off is no part of what the model is told.
        asked = [m for m in generator.requests[-1].messages if m.role != "system"]
        assert len(asked) == 1


def test_a_reload_on_the_way_keeps_the_question_and_stops_the_answer(
    store: Store, open_page: OpenPage
) -> None:
    generator = Scripted(pieces=["Slowly"] + [" now"] * 5_000, pace_s=0.02)
    with serving(create_app(assistant_over(store, generator))) as base:
        page = open_page(base)
        expect(ask(page, QUESTION)).to_contain_text("Slowly now")
        page.reload()
        assert generator.cancelled.wait(20)
        expect(page.get_by_role("heading", name=QUESTION)).to_be_visible()
        expect(page.get_by_role("button", name="Ask again")).to_be_visible()


FILL = """(n) => { for (let i = 0; i < n; i += 1) {
    const turn = { question: `Old ${i}`, content: "x".repeat(400_000), annotations: [],
                   event: null, state: "stopped" };
    localStorage.setItem(`fti.conversation.old-${i}`, JSON.stringify(
        { id: `old-${i}`, title: `Old ${i}`, named: true, updated: i + 1, turns: [turn] }));
} }"""


def test_where_the_browser_has_no_room_the_oldest_conversations_go(
    store: Store, open_page: OpenPage
) -> None:
    with serving(create_app(assistant_over(store, Scripted()))) as base:
        page = open_page(base)
        page.evaluate(FILL, 6)
        # As much again, of something else: the quota itself is met, not only our own bound.
        page.evaluate(
            """() => { for (let size = 2_000_000; size > 100; size = Math.floor(size / 2)) {
                try { for (let i = 0; ; i += 1) {
                    localStorage.setItem(`ballast-${size}-${i}`, "y".repeat(size));
                } } catch { /* full */ }
            } }"""
        )
        expect(answered(page, QUESTION)).to_contain_text("At nine")
        page.reload()
        expect(page.get_by_role("heading", name=QUESTION)).to_be_visible()
        left = page.evaluate(
            "Object.keys(localStorage).filter(k => k.startsWith('fti.conversation.old')).sort()"
        )
        assert left
        assert "fti.conversation.old-0" not in left
        assert left[-1] == "fti.conversation.old-5"


def test_what_lies_damaged_in_the_browser_does_no_harm(store: Store, open_page: OpenPage) -> None:
    with serving(create_app(assistant_over(store, Scripted()))) as base:
        page = open_page(base)
        page.evaluate(
            """() => { for (const [i, text] of ["{", "null", "7", '{"turns": 1}', '[]'].entries())
                localStorage.setItem(`fti.conversation.${i}`, text); }"""
        )
        page.reload()
        expect(answered(page, QUESTION)).to_contain_text("At nine")
        listed = kept(page).get_by_role("list", name="Kept conversations")
        expect(listed.get_by_role("listitem")).to_have_count(1)


def test_a_browser_that_keeps_nothing_still_asks(store: Store, open_page: OpenPage) -> None:
    with serving(create_app(assistant_over(store, Scripted()))) as base:
        page = open_page("about:blank")
        page.add_init_script(
            """for (const name of ["localStorage", "sessionStorage"])
                Object.defineProperty(window, name, {
                    get() { throw new DOMException("no", "SecurityError"); } });"""
        )
        page.goto(base)
        expect(answered(page, QUESTION)).to_contain_text("At nine")
        expect(page.get_by_role("status").first).to_contain_text("At nine")
