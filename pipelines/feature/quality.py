"""What makes a question worth training on, and which documents say nearly the same.

Near-duplicates are found by MinHash over word shingles with banded locality-sensitive hashing
(Broder 1997, "On the resemblance and containment of documents"), so that copies of one text never
stand on both sides of a split. Everything here is a pure function of its arguments.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from store.squad import normalised

_WORD = re.compile(r"\w+", re.UNICODE)
_SHINGLE = 5
_BANDS, _ROWS = 32, 4  # 128 permutations; a pair of resemblance 0.5 shares a band with p = 0.87
_BLOCK = 4096


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Function words of English: they carry grammar, not content.
STOP_WORDS = _set("""
    a about above after again against all also although always am an and any are as at be because
    been before being below between both but by can cannot could did do does doing down during each
    either else ever every few for from further had has have having he her here hers him his how
    however i if in into is it its itself just least less let many may me might more most much must
    my neither never no nobody none nor not nothing now of off often on once one only onto or other
    others our out over own per perhaps please quite rather same shall she should since so some
    soon still such than that the their them then there therefore these they this those though
    through thus to too under unless until up upon us very was we well were what when where whether
    which while who whom whose why will with within without would yet you your yours
    """)

_PRONOUNS = _set(
    "i you he she it we they me him her us them this that these those one ones itself themselves "
    "himself herself yourself ourselves everything anything something nothing everybody anybody "
    "somebody nobody everyone anyone someone here there so then which who what"
)

# Lines that a site or a licence puts on every page; what they say is about no document.
_BOILERPLATE = re.compile(
    r"all rights reserved|copyright|©|\(c\) \d{4}|cookie|privacy policy|terms of (use|service)"
    r"|skip to (main )?content|subscribe to|click here|read more|log in to|sign up|newsletter"
    r"|as is\b.{0,40}without warrant|table of contents|page \d+ of \d+|last (updated|modified)"
    r"|lorem ipsum|back to top|share (this|on)|follow us",
    re.IGNORECASE,
)


def words(text: str) -> list[str]:
    """The words and numbers of a text, case folded."""
    return _WORD.findall(text.casefold())


def content_words(text: str) -> list[str]:
    """The words of a text that carry content, case folded."""
    return [w for w in words(text) if w not in STOP_WORDS]


def folded(text: str) -> str:
    """Text with every run of white space as one space: how passages and answers compare."""
    return " ".join(text.split())


def holds(text: str, answer: str) -> bool:
    """Whether ``text`` contains ``answer`` as whole words after SQuAD normalisation.

    An answer that normalises to nothing (an article, a symbol) is looked for as it is written.
    """
    needle = normalised(answer)
    if not needle:
        return folded(answer) in folded(text)
    return f" {needle} " in f" {normalised(text)} "


def located(text: str, answers: Sequence[str]) -> str:
    """The shortest accepted answer as ``text`` spells it, white space folded; "" for none.

    First looked for as it is written, then under SQuAD normalisation.
    """
    flat = folded(text)
    for answer in sorted((folded(a) for a in answers), key=lambda a: (len(a), a)):
        if not answer:
            continue
        exact = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", flat)
        if exact is None:
            exact = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", flat, re.IGNORECASE)
        if exact is not None:
            return exact.group()
    for answer in sorted(answers, key=lambda a: (len(a), a)):
        found = _located_normalised(flat, answer)
        if found:
            return found
    return ""


def _located_normalised(flat: str, answer: str) -> str:
    wanted = normalised(answer).split()
    if not wanted:
        return ""
    spans = [(m.start(), m.end(), normalised(m.group())) for m in re.finditer(r"\S+", flat)]
    spans = [span for span in spans if span[2]]
    for first in range(len(spans) - len(wanted) + 1):
        window = spans[first : first + len(wanted)]
        if [piece for _, _, piece in window] == wanted:
            return flat[window[0][0] : window[-1][1]].strip(" .,;:!?\"'()[]")
    return ""


def rejection(question: str, answer: str, evidence: str) -> str:
    """Why a question with its answer should not be trained on; "" when it is good.

    Args:
        question: as a person would ask.
        answer: the stretch of ``evidence`` that answers it.
        evidence: the sentence or line it was made from.
    """
    reply = words(answer)
    asked = words(question)
    if not reply:
        return "answer_empty"
    if len(answer.split()) > 15:
        return "answer_long"
    if all(w in _PRONOUNS for w in reply):
        return "answer_pronoun"
    if all(w in STOP_WORDS for w in reply) and not any(c.isdigit() for c in answer):
        return "answer_empty"
    if not 4 <= len(question.split()) <= 30:
        return "question_length"
    if len(content_words(question)) < 2:
        return "question_vague"
    if f" {' '.join(reply)} " in f" {' '.join(asked)} ":
        return "answer_in_question"
    heavy = [w for w in reply if w not in STOP_WORDS]
    if heavy and sum(w in asked for w in heavy) / len(heavy) > 0.6:
        return "answer_in_question"
    if not balanced(answer) or not balanced(question):
        return "unbalanced"
    if len(content_words(evidence)) < 3:
        return "evidence_thin"
    if is_boilerplate(evidence):
        return "boilerplate"
    return ""


def is_boilerplate(sentence: str) -> bool:
    """Whether a sentence is page furniture: navigation, copyright, cookies, generated lines."""
    letters = sum(c.isalpha() for c in sentence)
    if letters < 0.5 * len(sentence.replace(" ", "")):
        return True
    return _BOILERPLATE.search(sentence) is not None


def balanced(text: str) -> bool:
    """Whether brackets and double quotes in ``text`` come in pairs."""
    for left, right in ("()", "[]", "{}", "“”"):
        if text.count(left) != text.count(right):
            return False
    return text.count('"') % 2 == 0


def question_key(question: str) -> str:
    """Two questions with one key ask the same, small words and order of writing aside."""
    return " ".join(content_words(question))


def reads_as_english(text: str) -> bool:
    """Whether a text holds enough English function words for English templates to fit it."""
    found = words(text[:20_000])
    return len(found) >= 8 and sum(w in STOP_WORDS for w in found) / len(found) > 0.22


def near_duplicate_groups(texts: Sequence[str], *, threshold: float) -> list[list[int]]:
    """Group texts that resemble one another, transitively.

    Args:
        texts: whole documents.
        threshold: estimated Jaccard resemblance of word 5-grams from which two texts are one.

    Returns:
        Indices into ``texts``, every index once, groups and members in ascending order.
    """
    signatures = [_signature(text) for text in texts]
    parent = list(range(len(texts)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    buckets: dict[tuple[int, bytes], list[int]] = {}
    for index, signature in enumerate(signatures):
        for band in range(_BANDS):
            key = (band, signature[band * _ROWS : (band + 1) * _ROWS].tobytes())
            bucket = buckets.setdefault(key, [])
            # A bucket's members of one group need one comparison, not one each.
            for other in {root(member): member for member in bucket}.values():
                if root(other) != root(index) and (
                    float(np.mean(signature == signatures[other])) >= threshold
                ):
                    low, high = sorted((root(other), root(index)))
                    parent[high] = low
            bucket.append(index)
    groups: dict[int, list[int]] = {}
    for index in range(len(texts)):
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())


def _signature(text: str) -> NDArray[np.uint32]:
    """The least value of each hash function over the text's shingles."""
    found = words(text)
    last = max(1, len(found) - _SHINGLE + 1)
    shingles = {" ".join(found[i : i + _SHINGLE]) for i in range(last)}
    hashes = np.array(
        sorted(
            int.from_bytes(hashlib.blake2b(s.encode("utf-8"), digest_size=8).digest(), "big")
            for s in shingles
        ),
        dtype=np.uint64,
    )
    factors, terms = _hash_family()
    least = np.full(len(factors), np.iinfo(np.uint32).max, dtype=np.uint32)
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK, None]
        # Multiply-shift hashing (Dietzfelbinger et al. 1997): overflow is the modulus.
        values = ((block * factors + terms) >> np.uint64(32)).astype(np.uint32)
        least = np.minimum(least, values.min(axis=0))
    return least


def _hash_family() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    generator = np.random.default_rng(1997)
    count = _BANDS * _ROWS
    factors = generator.integers(1, 2**63, size=count, dtype=np.uint64) * np.uint64(2) + np.uint64(
        1
    )
    terms = generator.integers(0, 2**63, size=count, dtype=np.uint64)
    return factors, terms
