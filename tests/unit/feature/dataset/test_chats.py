"""Conversations from files and from the Hub, as rows with the turns before them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fti.pipelines.feature.dataset.asked import Tally
from fti.pipelines.feature.dataset.dataset_config import DatasetConfig
from fti.pipelines.feature.dataset.sources.chats import Conversation, from_chats, load_chats
from fti.store.errors import FtiError, InvalidCases, SourceNotFound
from fti.store.types import Message

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def lines(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def turns(*contents: str, system: str = "") -> tuple[Message, ...]:
    before = (Message(role="system", content=system),) if system else ()
    roles = ("user", "assistant")
    spoken = (Message(role=roles[n % 2], content=c) for n, c in enumerate(contents))  # type: ignore[arg-type]
    return (*before, *spoken)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"messages": [{"role": "system", "content": "Be brief."},
                          {"role": "user", "content": "Open?"},
                          {"role": "assistant", "content": "At nine."}]},
            turns("Open?", "At nine.", system="Be brief."),
        ),
        (
            {"conversations": [{"from": "human", "value": "Open?"},
                               {"from": "gpt", "value": "At nine."},
                               {"from": "human", "value": "And on Mondays?"},
                               {"from": "gpt", "value": "Closed."}]},
            turns("Open?", "At nine.", "And on Mondays?", "Closed."),
        ),
        ({"prompt": "Open?", "completion": "At nine."}, turns("Open?", "At nine.")),
        (
            {"prompt": [{"role": "user", "content": "Open?"}],
             "completion": [{"role": "assistant", "content": "At nine."}]},
            turns("Open?", "At nine."),
        ),
        (
            {"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"},
            turns("Translate.\n\nGuten Tag", "Good day"),
        ),
        ({"instruction": "Say hello.", "input": "", "output": "Hello"},
         turns("Say hello.", "Hello")),
    ],
    ids=["messages", "sharegpt", "prompt", "prompt-messages", "alpaca", "alpaca-no-input"],
)  # fmt: skip
def test_each_form_is_told_by_its_columns(tmp_path: Path, row: Any, expected: Any) -> None:
    (found,) = load_chats(lines(tmp_path / "chats.jsonl", [row]), Tally())

    assert found == Conversation(expected, "chats.jsonl#1")


def test_rows_that_are_no_conversation_are_counted(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Open?"}, {"role": "assistant", "content": "At nine."}]
    tally = Tally()
    rows = [
        {"messages": said},
        {"messages": [said[0]]},
        {"messages": [said[1]]},
        {"messages": [{"role": "tool", "content": "42"}, *said]},
        {"messages": [{"role": "user", "content": " "}, said[1]]},
    ]

    assert len(load_chats(lines(tmp_path / "chats.jsonl", rows), tally)) == 1
    assert tally.imported == {
        "rows": 5, "conversations": 1,
        "no_answer": 1, "no_question": 1, "only_with_tools": 1, "empty_turn": 1,
    }  # fmt: skip


def test_other_files_and_saved_folders_are_read(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    data = Dataset.from_list([{"prompt": "Open?", "completion": "At nine."}])
    data.to_parquet(str(tmp_path / "chats.parquet"))
    data.to_csv(str(tmp_path / "chats.csv"))
    (tmp_path / "chats.json").write_text(json.dumps(data.to_list()), "utf-8")
    data.save_to_disk(str(tmp_path / "one"))
    DatasetDict({"a": data, "b": data}).save_to_disk(str(tmp_path / "two"))
    expected = turns("Open?", "At nine.")

    for name in ("chats.parquet", "chats.csv", "chats.json", "one"):
        assert [c.turns for c in load_chats(str(tmp_path / name), Tally())] == [expected]
    assert len(load_chats(str(tmp_path / "two"), Tally())) == 2


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ('{"prompt": "a", "completion": "b"}\n{"prompt": \n', InvalidCases, "Row 2 .* is not JSON"),
        ("[1]\n", InvalidCases, "Row 1 .* is list, not an object"),
        ('{"text": "a"}\n', InvalidCases, r"have the columns \['text'\]"),
        ('{"prompt": "a", "completion": ""}\n', InvalidCases, "left out: empty_turn 1"),
        ('{"prompt": "a", "completion": 5}\n', InvalidCases, "left out: not_text 1"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    tmp_path: Path, content: str, error: type[FtiError], message: str
) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(content, "utf-8")

    with pytest.raises(error, match=message) as caught:
        load_chats(str(path), Tally())
    assert caught.value.hint


def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "chats.parquet").write_bytes(b"PAR1 and then nothing")

    with pytest.raises(InvalidCases, match=r"chats\.parquet' cannot be read as parquet: Arrow"):
        load_chats(str(tmp_path / "chats.parquet"), Tally())


def test_a_source_that_is_not_there_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "chats.txt").write_text("hello", "utf-8")

    with pytest.raises(SourceNotFound, match=r"no file or folder '\./chats\.jsonl'"):
        load_chats("./chats.jsonl", Tally())
    with pytest.raises(InvalidCases, match=r"no file that conversations are read from"):
        load_chats(str(tmp_path / "chats.txt"), Tally())
    with pytest.raises(InvalidCases, match="save_to_disk did not write"):
        load_chats(str(tmp_path), Tally())


@pytest.mark.parametrize("source", ["acme/chats", "acme/chats@main", "acme/chats@0123abc"])
def test_a_hub_dataset_must_be_pinned(source: str) -> None:
    with pytest.raises(InvalidCases, match="'acme/chats' is not pinned to a commit") as caught:
        load_chats(source, Tally())
    assert "40 hex digits" in caught.value.hint


def test_a_hub_dataset_offline_is_refused_at_once() -> None:
    with pytest.raises(
        SourceNotFound,
        match=r"'acme/chats' at 0123456789ab \(split 'test'\) is not on this machine",
    ) as caught:
        load_chats(f"acme/chats@{COMMIT}#test", Tally())
    assert "HF_HUB_OFFLINE" in caught.value.hint


def test_every_answer_becomes_a_row_with_the_turns_before_it() -> None:
    chat = Conversation(
        turns("Open?", "At nine.", "And on Mondays?", "Closed.", system="Be brief."), "c#1"
    )
    tally = Tally()

    first, second = from_chats([chat], DatasetConfig(), tally)

    assert (first.question, first.answer, first.history) == ("Open?", "At nine.", ())
    assert (second.question, second.answer) == ("And on Mondays?", "Closed.")
    assert second.history == turns("Open?", "At nine.")
    assert (second.kind, second.shown, second.document) == ("chat", (), "")
    assert tally.imported["system_turns_left_out"] == 1


def test_near_duplicate_conversations_are_in_one_split_and_all_splits_are_filled() -> None:
    words = [f"w{n}" for n in range(80)]
    chats = [
        Conversation(turns(" ".join(f"{w}x{n}" for w in words), f"answer {copy}"), f"{n}#{copy}")
        for n in range(10)
        for copy in range(2)
    ]

    asked = from_chats(chats, DatasetConfig(), Tally())

    by_text = {a.question: {b.split for b in asked if b.question == a.question} for a in asked}
    assert all(len(splits) == 1 for splits in by_text.values())
    assert {a.split for a in asked} == {"train", "validation", "test"}
    assert [a.split for a in asked] == [
        a.split for a in from_chats(chats, DatasetConfig(), Tally())
    ]


SAID = [{"role": "user", "content": "Open?"}, {"role": "assistant", "content": "At nine."}]
USED = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
LEAD = {"role": "user", "content": "How many?"}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([{"role": "system", "content": ""}, *SAID], turns("Open?", "At nine.")),
        ([{"role": "system", "content": None}, *SAID], turns("Open?", "At nine.")),
        ([{"role": "developer", "content": "Be brief."}, *SAID],
         turns("Open?", "At nine.", system="Be brief.")),
        ([{"role": "user", "content": [{"type": "text", "text": "Op"}, {"text": "en?"}]}, SAID[1]],
         turns("Open?", "At nine.")),
        ([SAID[0], {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}],
         turns("Open?", "No.")),
        ([SAID[0], {"role": "assistant", "content": None, "refusal": "No."}],
         turns("Open?", "No.")),
        ([*SAID, LEAD, USED, {"role": "tool", "content": "42"},
          {"role": "assistant", "content": "It is 42."}], turns("Open?", "At nine.")),
    ],
    ids=["empty-system", "no-system", "developer", "parts", "refusal-part", "refusal", "tools"],
)  # fmt: skip
def test_turns_mean_what_their_makers_mean(tmp_path: Path, said: Any, expected: Any) -> None:
    # Rows of several shapes in one file, as they come: text here, parts there.
    path = lines(tmp_path / "chats.jsonl", [{"messages": SAID}, {"messages": said}])

    _, found = load_chats(path, Tally())

    assert found.turns == expected


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([LEAD, USED, {"role": "tool", "content": "42"}], "only_with_tools"),
        ([{"from": "human", "value": "How?"}, {"from": "function_call", "value": "f()"},
          {"from": "observation", "value": "42"}, {"from": "gpt", "value": "42"}],
         "only_with_tools"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, SAID[1]],
         "not_text"),
        ([{"role": "moderator", "content": "Hm."}, *SAID], "unknown_role"),
        ([SAID[0], {**SAID[1], "weight": "much"}], "no_such_weight"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_counted_by_reason(tmp_path: Path, said: Any, reason: str) -> None:
    tally = Tally()

    load_chats(lines(tmp_path / "c.jsonl", [{"messages": SAID}, {"conversations": said}]), tally)

    assert tally.imported == {"rows": 2, "conversations": 1, reason: 1}


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}])
def test_an_answer_of_weight_0_is_read_and_not_learned(tmp_path: Path, mark: Any) -> None:
    wrong = {"role": "assistant", "content": "WRONG", **mark}
    rows = [{"messages": [SAID[0], wrong, {"role": "user", "content": "Look again."}, SAID[1]]}]
    tally = Tally()

    chats = load_chats(lines(tmp_path / "chats.jsonl", rows), tally)
    (one,) = from_chats(chats, DatasetConfig(), tally)

    assert (one.question, one.answer) == ("Look again.", "At nine.")
    assert one.history == turns("Open?", "WRONG")
    assert (tally.imported["answers"], tally.imported["answers_of_weight_0"]) == (1, 1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "Export of May\n\nprompt;completion\nOpen?;At nine.\n"),
        ("b.tsv", "instruction\toutput\nOpen?\tAt nine.\n"),
        ("c.csv", 'messages\n"' + json.dumps(SAID).replace('"', '""') + '"\n'),
        ("d.json", json.dumps({"version": 1, "data": [{"messages": SAID}]})),
        ("e.json", json.dumps({"messages": SAID})),
        ("f.json", json.dumps({"messages": SAID}) + "\n"),
        ("g.jsonl", "\ufeff" + json.dumps({"messages": SAID}) + "\n"),
    ],
)
def test_files_are_read_however_they_were_written(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, "utf-8")

    (found,) = load_chats(str(tmp_path / name), Tally())

    assert found.turns == turns("Open?", "At nine.")
