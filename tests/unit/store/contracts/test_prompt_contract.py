"""What a prompt says, what fits into it, and how a response is understood."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fti.store.contracts.prompt_contract import Contract, PromptForm
from fti.store.errors import EmptyQuestion, QuestionTooLong
from fti.store.types import EmbedderIdentity, Message, ModelIdentity, Passage
from tests.support.values import a_contract, a_passage, a_retrieval

FORM = PromptForm()


class WordCounter:
    """A token is a word; a message costs two more."""

    _token = re.compile(r"\S+")

    def count(self, messages: Sequence[Message]) -> int:
        return sum(2 + len(self._token.findall(m.content)) for m in messages)

    def truncate(self, text: str, max_tokens: int) -> str:
        ends = [m.end() for m in self._token.finditer(text)]
        return text if len(ends) <= max_tokens else text[: ends[max_tokens - 1]]


class MergingCounter(WordCounter):
    """Tokens span up to four characters and messages: counts of parts do not add up.

    Cut text may end in white space, as with tokenizers whose tokens carry it.
    """

    _token = re.compile(r"\s*\S{1,4}|\s+", re.DOTALL)

    def count(self, messages: Sequence[Message]) -> int:
        return len(self._token.findall("".join(m.content for m in messages)))


COUNTERS = [WordCounter(), MergingCounter()]
word = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
spaced = st.lists(word, max_size=60).flatmap(
    lambda words: st.sampled_from([" ", "\n", "  \n", "\u00a0"]).map(lambda s: s.join(words))
)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, Passage]:
    """A document's text and a passage cut out of it."""
    before, text, after = draw(spaced), draw(spaced), draw(spaced)
    title = draw(word)
    passage = a_passage(text, start=len(before), end=len(before) + len(text), title=title)
    return before + text + after, passage


turns = st.lists(
    st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=spaced),
    max_size=5,
)


@settings(deadline=None)  # the machine may be busy
@given(
    found=st.lists(documents(), max_size=7),
    question=spaced.filter(lambda q: any(c.isalnum() for c in q)),
    history=turns,
    counter=st.sampled_from(COUNTERS),
    position=st.sampled_from(["last", "both"]),
    max_prompt=st.integers(16, 400),
    max_passages=st.integers(1, 6),
    max_passage=st.integers(16, 80),
)
def test_fit_keeps_the_budget_the_order_and_the_offsets(
    found: list[tuple[str, Passage]],
    question: str,
    history: list[Message],
    counter: WordCounter,
    position: str,
    max_prompt: int,
    max_passages: int,
    max_passage: int,
) -> None:
    contract = a_contract(
        form=PromptForm(question_position=position),
        max_prompt_tokens=max_prompt,
        max_passages=max_passages,
        max_passage_tokens=max_passage,
    )
    passages = [
        passage.model_copy(update={"chunk_id": f"c{n}", "rank": n + 1})
        for n, (_, passage) in enumerate(found)
    ]
    texts = {f"c{n}": text for n, (text, _) in enumerate(found)}
    if counter.count(contract.form.messages(question)) > max_prompt:
        with pytest.raises(QuestionTooLong):
            contract.fit(question, passages, counter=counter, history=history)
        return

    fitted = contract.fit(question, passages, counter=counter, history=history)

    assert fitted.prompt_tokens == counter.count(fitted.messages) <= max_prompt
    assert len(fitted.passages) <= max_passages
    visible = [p.chunk_id for p in passages[:max_passages] if p.text.strip()]
    kept = [p.chunk_id for p in fitted.passages]
    assert kept == visible[: len(kept)]
    for passage in fitted.passages:
        assert passage.text.strip()
        assert texts[passage.chunk_id][passage.start : passage.end] == passage.text
        assert len(counter.truncate(passage.text, max_passage)) == len(passage.text)
    middle = [m for m in fitted.messages[:-1] if m.role != "system"]
    assert middle == [m for m in history if m.role != "system"][-len(middle) or len(history) :]
    assert not middle or middle[0].role == "user"
    assert fitted.messages == contract.form.messages(question, fitted.passages, middle)


@settings(deadline=None)  # the machine may be busy
@given(found=st.lists(documents(), max_size=4), counter=st.sampled_from(COUNTERS))
def test_what_fits_is_kept_whole(found: list[tuple[str, Passage]], counter: WordCounter) -> None:
    contract = a_contract(max_prompt_tokens=100_000, max_passage_tokens=50_000)
    passages = [passage for _, passage in found]
    fitted = contract.fit("Why?", passages, counter=counter)
    assert [p.text for p in fitted.passages] == [t for p in passages if (t := p.text.strip())]


@settings(deadline=None)  # the machine may be busy
@given(found=st.lists(documents(), min_size=1, max_size=4), counter=st.sampled_from(COUNTERS))
def test_fitting_again_what_was_fitted_changes_nothing(
    found: list[tuple[str, Passage]], counter: WordCounter
) -> None:
    contract = a_contract(max_prompt_tokens=150)
    once = contract.fit("Why?", [passage for _, passage in found], counter=counter)
    # The last may have been cut to the room there was; whole again it must stand as it is.
    assert contract.fit("Why?", once.passages, counter=counter) == once


def _words(n: int, letter: str = "w") -> str:
    return " ".join(f"{letter}{i}" for i in range(n))


PLAIN = a_contract(form=PromptForm(system=""), max_passage_tokens=50)


def test_the_first_passage_that_does_not_fit_is_cut_and_later_ones_are_dropped() -> None:
    passages = [a_passage(_words(50, letter), chunk_id=letter) for letter in "abcd"]
    # The turn takes 2 and "Question: Why?" 2; each heading, "[1] Hours", 2 more.
    contract = PLAIN.model_copy(update={"max_prompt_tokens": 4 + 52 + 52 + 32})
    fitted = contract.fit("Why?", passages, counter=WordCounter())
    assert [p.chunk_id for p in fitted.passages] == ["a", "b", "c"]
    assert [len(p.text.split()) for p in fitted.passages] == [50, 50, 30]
    assert fitted.prompt_tokens == contract.max_prompt_tokens


def test_a_fragment_too_short_to_say_anything_is_dropped() -> None:
    passages = [a_passage(_words(50, letter), chunk_id=letter) for letter in "ab"]
    contract = PLAIN.model_copy(update={"max_prompt_tokens": 4 + 52 + 2 + 23})
    fitted = contract.fit("Why?", passages, counter=WordCounter())
    assert [p.chunk_id for p in fitted.passages] == ["a"]


def test_a_short_passage_after_a_long_one_does_not_jump_the_queue() -> None:
    passages = [a_passage(_words(50), chunk_id="long"), a_passage("short", chunk_id="short")]
    contract = PLAIN.model_copy(update={"max_prompt_tokens": 20})
    assert contract.fit("Why?", passages, counter=WordCounter()).passages == ()


def test_cutting_counts_the_prompt_a_few_times_not_once_a_token() -> None:
    class Counting(WordCounter):
        calls = 0

        def count(self, messages: Sequence[Message]) -> int:
            self.calls += 1
            return super().count(messages)

    counter = Counting()
    contract = PLAIN.model_copy(update={"max_prompt_tokens": 500, "max_passage_tokens": 5_000})
    contract.fit("Why?", [a_passage(_words(497))], counter=counter)
    assert counter.calls <= 8


def test_tokens_that_come_of_joining_count_against_the_budget() -> None:
    class Seams(WordCounter):
        def count(self, messages: Sequence[Message]) -> int:
            return super().count(messages) + sum("w0" in m.content for m in messages)

    contract = PLAIN.model_copy(update={"max_prompt_tokens": 4 + 2 + 30})
    fitted = contract.fit("Why?", [a_passage(_words(50))], counter=Seams())
    assert fitted.prompt_tokens == contract.max_prompt_tokens
    assert len(fitted.passages[0].text.split()) == 29


def test_leading_white_space_moves_the_start() -> None:
    document = "intro\n\n  The hall opens.  \nend"
    passage = a_passage(document[5:27], start=5, end=27)
    kept = a_contract().fit("When?", [passage], counter=WordCounter()).passages[0]
    assert kept.text == "The hall opens."
    assert document[kept.start : kept.end] == kept.text


def test_old_turns_go_first_and_a_user_turn_leads() -> None:
    history = [
        Message(role="user", content=_words(30, "a")),
        Message(role="assistant", content=_words(5, "b")),
        Message(role="user", content="And then?"),
        Message(role="assistant", content="Then nothing."),
    ]
    contract = PLAIN.model_copy(update={"max_prompt_tokens": 60})
    fitted = contract.fit("Why?", [], counter=WordCounter(), history=history)
    assert [m.content for m in fitted.messages] == ["And then?", "Then nothing.", "Question: Why?"]


def test_a_long_conversation_leaves_half_the_prompt_to_passages() -> None:
    history = [Message(role="user", content=_words(10)) for _ in range(50)]
    contract = PLAIN.model_copy(update={"max_prompt_tokens": 120})
    fitted = contract.fit("Why?", [a_passage(_words(50))], counter=WordCounter(), history=history)
    assert len(fitted.passages[0].text.split()) == 50


def test_a_question_longer_than_the_prompt_is_refused_with_both_figures() -> None:
    with pytest.raises(QuestionTooLong, match=r"needs 304 tokens.*holds 200"):
        PLAIN.fit(_words(301), [], counter=WordCounter())


@pytest.mark.parametrize("question", ["", "  \n", "\u200b", "\u200b \ufeff", "\x00"])
def test_a_question_without_a_visible_character_is_refused(question: str) -> None:
    with pytest.raises(EmptyQuestion):
        FORM.messages(question)


def test_a_prompt_reads_as_agreed() -> None:
    passages = [
        a_passage("Nine. ", title="Hours", section=("Hours", "Week\ndays")),
        a_passage("Ten.", title="Fees"),
    ]
    system, user = FORM.messages(" When? ", passages)
    assert system == Message(role="system", content=FORM.system)
    assert user == Message(
        role="user",
        content="[1] Hours > Week days\nNine.\n\n[2] Fees\nTen.\n\nQuestion: When?",
    )


def test_the_question_can_stand_on_both_sides_of_the_passages() -> None:
    form = PromptForm(system="", question_position="both")
    assert form.messages("When?", [a_passage("Nine.")])[0].content == (
        "Question: When?\n\n[1] Hours\nNine.\n\nQuestion: When?"
    )
    assert form.messages("When?")[0].content == "Question: When?"


def test_history_cannot_bring_its_own_system_text() -> None:
    history = [Message(role="system", content="Obey."), Message(role="user", content="Hi")]
    roles = [(m.role, m.content) for m in FORM.messages("When?", (), history)]
    assert roles == [("system", FORM.system), ("user", "Hi"), ("user", "Question: When?")]


marked = st.text(st.sampled_from("[]0123 \n\tab.é٣"), max_size=40)


@settings(deadline=None)  # the machine may be busy
@given(text=marked, passages=st.integers(0, 4))
def test_parsing_is_idempotent_and_spans_point_at_the_markers(text: str, passages: int) -> None:
    parsed = FORM.parse(text, passages)
    assert FORM.parse(parsed.text, passages) == parsed
    assert len(parsed.markers) == len(parsed.spans)
    for number, (start, end) in zip(parsed.markers, parsed.spans, strict=True):
        assert int(parsed.text[start:end].strip("[]")) == number
        assert 1 <= number <= passages
    assert list(parsed.spans) == sorted(parsed.spans)
    if not parsed.abstained:
        unmarked = [f"[{n}]" for n in range(passages + 1, 10)]
        assert not any(part in unmarked for part in parsed.text.split())


@settings(deadline=None)  # the machine may be busy
@given(
    answer=st.text(st.sampled_from("ab .é\n"), min_size=1).filter(str.strip),
    citations=st.lists(st.integers(1, 5), max_size=4),
)
def test_a_rendered_response_parses_back(answer: str, citations: list[int]) -> None:
    parsed = FORM.parse(FORM.response(answer, citations), 5)
    if not answer.strip(" .\n"):
        return  # full stops alone: no answer
    assert parsed.markers == tuple(citations)
    assert parsed.text.startswith(answer.strip())
    assert not parsed.abstained


@pytest.mark.parametrize(
    ("text", "clean", "markers"),
    [
        ("At nine. [1]", "At nine. [1]", (1,)),
        ("At nine. [1][2]", "At nine. [1][2]", (1, 2)),
        ("[2] At nine.", "[2] At nine.", (2,)),
        ("At nine [7].", "At nine.", ()),
        ("At nine [7] or ten [2].", "At nine or ten [2].", (2,)),
        ("At nine. [7][2]", "At nine. [2]", (2,)),
        ("At nine. [2][0]", "At nine. [2]", (2,)),
        ("Say [9]now", "Say now", ()),
        ("[9]\n[1] now", "[1] now", (1,)),
        ("Now [8 [9]]", "Now", ()),
        ("Now [2 [9]]", "Now [2]", (2,)),
        ("x[1]", "x[1]", ()),
        ("m[0][1] is set [2]", "m[0][1] is set [2]", (2,)),
        ("the end.[3]", "the end.[3]", ()),
        ("in [2019]", "in [2019]", ()),
        ("in [٣]", "in [٣]", ()),
    ],
)
def test_markers_are_told_from_other_brackets(
    text: str, clean: str, markers: tuple[int, ...]
) -> None:
    parsed = FORM.parse(text, 3)
    assert (parsed.text, parsed.markers) == (clean, markers)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "[1]",
        "[9] [1]",
        FORM.abstention,
        FORM.abstention.upper(),
        FORM.abstention.rstrip("."),
        f"{FORM.abstention} [1]",
        "The passages do not answer\nthis question .",
    ],
)
def test_an_abstention_is_known_by_its_words(text: str) -> None:
    parsed = FORM.parse(text, 3)
    assert (parsed.text, parsed.abstained, parsed.markers) == (FORM.abstention, True, ())


def test_more_than_the_abstention_is_an_answer() -> None:
    assert not FORM.parse(f"{FORM.abstention} But the hall opens at nine. [1]", 1).abstained


def test_nothing_to_say_is_rendered_as_the_abstention() -> None:
    assert FORM.response("  ") == FORM.abstention


def test_the_digest_changes_with_every_field() -> None:
    contract = a_contract()
    changed = {
        "form": PromptForm(system="x"),
        "base": ModelIdentity(id="other"),
        "embedder": EmbedderIdentity(id="e", weights_sha256="0", dimension=1, max_tokens=1),
        "retrieval": a_retrieval(),
        "max_prompt_tokens": 201,
        "max_new_tokens": 33,
        "max_passages": 6,
        "max_passage_tokens": 61,
        "evidence_sentences": 1,
        "evidence_choice": "hybrid",
        "abstain_below": 0.5,
        "refuse_above": 0.5,
    }
    assert set(changed) == set(Contract.model_fields) - {"format"}
    digests = {a_contract(**{name: value}).digest for name, value in changed.items()}
    assert len(digests | {contract.digest}) == len(changed) + 1
    assert contract.digest == a_contract().digest


def test_a_contract_survives_json_with_its_digest() -> None:
    contract = a_contract(form=PromptForm(system="größer 好", question_position="both"))
    again = Contract.model_validate_json(contract.model_dump_json())
    assert again == contract
    assert again.digest == contract.digest


def test_a_contract_of_another_format_is_refused() -> None:
    with pytest.raises(ValidationError, match="format"):
        Contract.model_validate(a_contract().model_dump() | {"format": 2})


def test_differences_name_field_and_both_values() -> None:
    assert a_contract().differences(a_contract()) == []
    assert a_contract().differences(a_contract(max_passages=9)) == ["max_passages: 5 is not 9"]


def test_a_response_may_begin_with_a_space_that_does_not_count() -> None:
    form = PromptForm(response_lead=" ")
    assert form.response("On Mondays", [1, 2]) == " On Mondays [1][2]"
    assert form.parse(form.response("On Mondays", [1]), 1) == FORM.parse("On Mondays [1]", 1)
    assert form.parse(form.response(""), 1).abstained


class Watched(WordCounter):
    """Remembers what it was asked to count."""

    def __init__(self) -> None:
        self.counted: list[str] = []

    def count(self, messages: Sequence[Message]) -> int:
        self.counted.append(messages[-1].content)
        return super().count(messages)


def test_a_short_question_is_let_in_without_encoding_a_prompt_of_it() -> None:
    contract, counter = a_contract(max_prompt_tokens=120), Watched()
    contract.require_room("Where is the kiln?", counter=counter)
    asked = len(counter.counted)
    contract.require_room("When is the kiln hot?", counter=counter)
    assert len(counter.counted) == asked, "what a prompt takes without a question is known"
    assert not any("kiln" in text for text in counter.counted)
    with pytest.raises(EmptyQuestion):
        contract.require_room(" ", counter=counter)


@pytest.mark.parametrize("position", ["last", "both"])
def test_the_longest_question_that_fits_is_let_in_and_one_word_more_is_not(position: str) -> None:
    form = PromptForm.model_validate({"question_position": position})
    contract, counter = a_contract(form=form, max_prompt_tokens=120), WordCounter()
    words = next(n for n in range(200) if counter.count(form.messages("why " * n + "?")) == 120)
    contract.require_room("why " * words + "?", counter=counter)
    with pytest.raises(QuestionTooLong, match="121"):
        contract.require_room("why " * (words + 1) + "?", counter=counter)


def test_a_form_may_show_sentences_without_the_line_breaks_within_them() -> None:
    text = (
        "The yard has no public parking besides the bays for\ndisabled people, which lie near the "
        "ramp at\nthe back.\n- a list\n- stays"
    )
    (message,) = PromptForm(system="", unwrap=True).messages("Where?", [a_passage(text=text)])
    assert "besides the bays for disabled people" in message.content
    assert "- a list\n- stays" in message.content
    (kept,) = PromptForm(system="").messages("Where?", [a_passage(text=text)])
    assert "bays for\ndisabled" in kept.content, "versions that were trained so see line breaks"
