"""Personal data in rows, masked where it can be told by its form.

Best effort, on purpose narrow: card numbers and IBANs must pass their checksums (ISO/IEC 7812's
Luhn, ISO 13616's mod 97), IP addresses must parse, telephone numbers must be written as such. Names
and addresses of people are not looked for.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from fti.pipelines.feature.asking.quality import folded
from fti.pipelines.feature.dataset.asked import Tally
from fti.pipelines.feature.dataset.dataset_config import Personal
from fti.store.contracts.prompt_contract import PromptForm
from fti.store.types import InstructionExample, Message, Passage, PreferenceExample, Split

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.)+[^\W\d_]{2,24}(?![\w@])")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){11,18}(?![\d-]|[.,]\d)")
_IP4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IP6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:)[0-9A-Fa-f:.]{2,45}(?![\w:])")
# International with a plus; or national, begun by 0 or an area code in brackets, in groups.
_PHONE = re.compile(
    r"(?<![\w.,+/-])(?:\+\d{1,3}[ .-]?(?:\(0?\d{1,5}\)[ .-]?)?\d(?:[ .-]?\d){5,12}"
    r"|\(0?\d{1,5}\)[ .-]?\d(?:[ .-]?\d){4,10}|00\d{1,3}[ .-]?\d(?:[ .-]?\d){6,12}"
    r"|0\d{1,5}[ ./-]\d{2,}(?:[ .-]?\d{2,}){0,4}|\d{3}[ .-]\d{3}[ .-]\d{4})(?![\w-]|[.,]\d)"
)


def _luhn(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [d if n % 2 == 0 else (d * 2 - 9 if d > 4 else d * 2)
               for n, d in enumerate(reversed(digits))]  # fmt: skip
    return len(set(digits)) > 1 and sum(doubled) % 10 == 0


def _iban_end(text: str) -> int:
    """Length of the longest beginning of ``text`` that is an IBAN; 0 for none.

    Words in capitals after a number look like more of it, so the end is found by the checksum.
    """
    for end in range(len(text), 14, -1):
        bare = text[:end].replace(" ", "")
        if text[end - 1] == " " or not 15 <= len(bare) <= 34:
            continue
        turned = bare[4:] + bare[:4]
        if int("".join(str(int(c, 36)) for c in turned)) % 97 == 1:
            return end
    return 0


def _address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.rstrip("."))
    except ValueError:
        return False
    return True


def _ip6_end(text: str) -> int:
    """Length of an IPv6 address; 0 for what only could be one, such as C++'s ``a::b``."""
    said = text.count(":") > 2 and any(c.isdigit() for c in text)
    return len(text) if said and _address(text) else 0


def _digits(text: str) -> int:
    return sum(c.isdigit() for c in text)


#: In the order in which they are looked for: what an earlier one took, a later one does not see.
_FINDERS: Mapping[Personal, tuple[tuple[re.Pattern[str], Callable[[str], int]], ...]] = {
    "email": ((_EMAIL, len),),
    "iban": ((_IBAN, _iban_end),),
    "card": ((_CARD, lambda t: len(t) if _luhn(t) else 0),),
    "ip": (
        (_IP4, lambda t: len(t) if _address(t) else 0),
        (_IP6, lambda t: _ip6_end(t.rstrip(".:"))),
    ),
    "phone": ((_PHONE, lambda t: len(t) if 7 <= _digits(t) <= 15 else 0),),
}


def masked(text: str, kinds: Sequence[Personal], counts: Counter[str] | None = None) -> str:
    """``text`` with personal data replaced by its kind in brackets, such as ``[EMAIL]``.

    Args:
        text: anything.
        kinds: what to look for.
        counts: told how often each kind was found.
    """
    for kind, finders in _FINDERS.items():
        if kind not in kinds:
            continue
        for pattern, length in finders:

            def replace(
                match: re.Match[str],
                kind: Personal = kind,
                length: Callable[[str], int] = length,
            ) -> str:
                found = match.group()
                end = length(found)
                if not end:
                    return found
                if counts is not None:
                    counts[kind] += 1
                return f"[{kind.upper()}]{found[end:]}"

            text = pattern.sub(replace, text)
    return text


def masked_rows(
    rows: Mapping[Split, Sequence[InstructionExample]],
    kinds: Sequence[Personal],
    form: PromptForm,
    tally: Tally,
) -> dict[Split, list[InstructionExample]]:
    """Rows without personal data. A row that asks for it, or whose answer it held, is left out.

    Offsets of passages remain those of the document, whose text is not changed.
    """
    kept: dict[Split, list[InstructionExample]] = {split: [] for split in rows}
    for split, part in rows.items():
        for row in part:
            new = _masked_row(row, kinds, form, tally.masked)
            if new is not None:
                kept[split].append(new)
    tally.filtered(
        "asks_nothing_personal", sum(map(len, rows.values())), sum(map(len, kept.values()))
    )
    return kept


def _masked_row(
    row: InstructionExample, kinds: Sequence[Personal], form: PromptForm, counts: Counter[str]
) -> InstructionExample | None:
    found: Counter[str] = Counter()
    answer = masked(row.answer, kinds, found)
    if found and row.kind != "chat":
        return None  # "[EMAIL]" is no answer to learn
    passages = tuple(_masked_passage(p, kinds, found) for p in row.passages)
    for number in row.citations:
        was, now = folded(row.passages[number - 1].text), folded(passages[number - 1].text)
        if row.answer in was and answer not in now:
            return None  # a part of what was masked there
    question = masked(row.question, kinds, found)
    history = masked_turns(row.history, kinds, found)
    evidence = masked(row.evidence, kinds)
    counts.update(found)
    if not found:
        return row
    return row.model_copy(
        update={
            "question": question,
            "answer": answer,
            "evidence": evidence,
            "history": history,
            "passages": passages,
            "response": form.response(answer, row.citations),
            "messages": form.messages(question, passages, history),
        }
    )


def masked_pair(
    pair: PreferenceExample, kinds: Sequence[Personal], form: PromptForm, counts: Counter[str]
) -> PreferenceExample:
    """A pair without personal data."""
    passages = tuple(_masked_passage(p, kinds, counts) for p in pair.passages)
    question = masked(pair.question, kinds, counts)
    history = masked_turns(pair.history, kinds, counts)
    chosen, rejected = (masked(text, kinds, counts) for text in (pair.chosen, pair.rejected))
    return pair.model_copy(
        update={
            "question": question,
            "history": history,
            "passages": passages,
            "chosen": chosen,
            "rejected": rejected,
            "chosen_response": form.response(chosen, pair.chosen_citations),
            "rejected_response": form.response(rejected, pair.rejected_citations),
            "messages": form.messages(question, passages, history),
        }
    )


def masked_turns(
    turns: Sequence[Message], kinds: Sequence[Personal], counts: Counter[str]
) -> tuple[Message, ...]:
    """Turns of a conversation without personal data."""
    return tuple(m.model_copy(update={"content": masked(m.content, kinds, counts)}) for m in turns)


def _masked_passage(passage: Passage, kinds: Sequence[Personal], counts: Counter[str]) -> Passage:
    return passage.model_copy(
        update={
            "text": masked(passage.text, kinds, counts),
            "title": masked(passage.title, kinds, counts),
            "source": masked(passage.source, kinds, counts),
            "section": tuple(masked(part, kinds, counts) for part in passage.section),
            "metadata": {k: masked(v, kinds, counts) for k, v in passage.metadata.items()},
        }
    )
