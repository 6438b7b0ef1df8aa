"""Evidence selection: which sentences a small reader is shown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fti.pipelines.engines.embedders.embedding import Vectors
from fti.pipelines.engines.embedders.hashing_embedder import HashingEmbedder
from fti.pipelines.engines.evidence import Remembering, nearest_sentences
from fti.pipelines.engines.sentences import sentence_spans, split_sentences
from fti.store.types import Passage

EMBEDDER = HashingEmbedder(256)
POOL = "The pool opens at nine. It is closed on Mondays. Towels cost two euros."
KILN = "The kiln is fired on Thursdays. Ask the warden for the key."


def passage(number: int, text: str, start: int = 0) -> Passage:
    return Passage(
        rank=number, chunk_id=f"c{number}", document_id="d", source="a.md", title="A", text=text,
        start=start, end=start + len(text),
    )  # fmt: skip


def test_the_nearest_sentence_is_shown_with_its_place_in_the_document() -> None:
    document = f"# Handbook\n\n{KILN}"
    shown = passage(2, KILN, start=document.index("The kiln"))
    found = nearest_sentences(
        "When is the kiln fired?", [passage(1, POOL), shown], EMBEDDER, count=1
    )
    assert [p.text for p in found] == ["The kiln is fired on Thursdays."]
    assert found[0].chunk_id == "c2"
    assert document[found[0].start : found[0].end] == found[0].text


def test_sentences_of_one_passage_stay_one_stretch_of_it() -> None:
    found = nearest_sentences(
        "pool opens at nine, towels cost two euros", [passage(1, POOL)], EMBEDDER, count=2
    )
    assert [p.text for p in found] == [POOL]


def test_the_passage_with_the_nearest_sentence_comes_first() -> None:
    found = nearest_sentences(
        "When is the kiln fired, on Thursdays or Mondays?",
        [passage(1, POOL), passage(2, KILN)],
        EMBEDDER,
        count=2,
    )
    assert [p.chunk_id for p in found] == ["c2", "c1"]


class Alike(HashingEmbedder):
    """Every text lies as near to a question as any other."""

    def __init__(self) -> None:
        super().__init__(8)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return np.ones((len(texts), 8), np.float32)

    def embed_query(self, text: str) -> Vectors:
        return np.ones(8, np.float32)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return np.ones((len(texts), 8), np.float32)


def test_rare_words_of_the_question_choose_where_similarity_cannot() -> None:
    passages = [passage(1, POOL), passage(2, KILN)]
    for question, sentence in (
        ("Who has the KEYS of the kiln?", "Ask the warden for the key."),
        ("What do towels cost?", "Towels cost two euros."),
    ):
        found = nearest_sentences(question, passages, Alike(), count=1, choice="hybrid")
        assert [p.text for p in found] == [sentence]


def test_the_rank_chooses_where_neither_words_nor_similarity_can() -> None:
    passages = [passage(1, KILN), passage(2, POOL)]
    found = nearest_sentences("And then?", passages, Alike(), count=2, choice="hybrid")
    assert [p.chunk_id for p in found] == ["c1"]
    japanese = [passage(1, POOL), passage(2, "窯は木曜。\n\n鍵は受付。")]
    found = nearest_sentences("窯の鍵は？", japanese, Alike(), count=1, choice="hybrid")
    assert "鍵" in found[0].text, "words are found in scripts that set none apart"


def test_similarity_alone_is_what_versions_were_trained_with_that_name_nothing() -> None:
    """A version's contract from before ``evidence_choice`` shows it what it was trained on."""
    passages = [passage(1, POOL), passage(2, KILN)]
    question = "Who has the key of the kiln?"
    by_default = nearest_sentences(question, passages, EMBEDDER, count=2)
    assert by_default == nearest_sentences(question, passages, EMBEDDER, count=2,
                                           choice="similarity")  # fmt: skip


def test_passages_without_a_sentence_come_back_as_they_are() -> None:
    bare = [passage(1, "---")]
    assert nearest_sentences("What?", bare, EMBEDDER, count=2) == tuple(bare)
    assert nearest_sentences("What?", [], EMBEDDER, count=2) == ()


@given(st.text(alphabet="ab. !?\n#-*1)\t"))
def test_spans_are_where_the_sentences_stand(text: str) -> None:
    spans = sentence_spans(text)
    assert [" ".join(text[a:b].split("\n")) for a, b in spans] == split_sentences(text)
    assert all(a < b for a, b in spans)
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    assert all(text[a:b] == text[a:b].strip() for a, b in spans)


WRAPPED = """\
Please don't, if you can help it. The yard has no public parking besides the bays for
disabled people. The Weir Lane car park is 300 metres away and costs 1.20 an hour, or
nothing after 18:00. Vans may stop in the loading bay.

If you find a fire
\u2022 Shout "fire" and break the nearest glass, which rings the bell of the whole house and
of the neighbours'.
\u2022 Leave by the nearest exit.

name: The long name of a record that is written in lines of about one and the same width
place: The yard behind the house, where the bins are, beside the bays for the bicycles
"""


def test_a_sentence_goes_on_where_its_paragraph_is_broken_into_lines() -> None:
    assert split_sentences(WRAPPED) == [
        "Please don't, if you can help it.",
        "The yard has no public parking besides the bays for disabled people.",
        "The Weir Lane car park is 300 metres away and costs 1.20 an hour, or nothing after 18:00.",
        "Vans may stop in the loading bay.",
        "If you find a fire",
        'Shout "fire" and break the nearest glass, which rings the bell of the whole house and '
        "of the neighbours'.",
        "Leave by the nearest exit.",
        "name: The long name of a record that is written in lines of about one and the same width",
        "place: The yard behind the house, where the bins are, beside the bays for the bicycles",
    ]


def test_lines_that_were_broken_on_purpose_stay_apart() -> None:
    text = "Monday nine to five in the small hall upstairs\nTuesday closed\nFriday ten to four"
    assert split_sentences(text) == text.split("\n")
    table = "| kiln | a long description of what it is used for here | 40 |\n| wheel | clay | 5 |"
    assert len(split_sentences(table)) == 2


class Counting(HashingEmbedder):
    """Notes which texts it was asked to embed."""

    def __init__(self) -> None:
        super().__init__(256)
        self.asked: list[str] = []

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        return super().embed_documents(texts)


@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=6),
    st.integers(min_value=1, max_value=9),
)
def test_a_remembered_vector_is_the_embedders(calls: list[list[str]], most: int) -> None:
    remembering = Remembering(EMBEDDER, most=most)
    for texts in calls:
        found = remembering.embed_documents(texts)
        assert np.array_equal(found, EMBEDDER.embed_documents(texts))


def test_a_sentence_is_embedded_once_until_too_many_are_known() -> None:
    counting = Counting()
    remembering = Remembering(counting, most=3)
    for texts in (["one", "two", "one"], ["two", "three"], ["four"], ["four"], ["one"]):
        remembering.embed_documents(texts)
    assert counting.asked == ["one", "two", "three", "four", "one"]
