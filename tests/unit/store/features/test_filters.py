"""Filters: what is written, what it means, and that no text of anybody's becomes a filter."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fti.store.errors import InvalidFilter
from fti.store.features.feature_store import FeatureStore
from fti.store.features.filters import Condition, conditions, parse
from fti.store.files.layout import Layout
from fti.store.plain_text import utf8
from tests.support.features import IDENTITY, an_update, axis

INJECTIONS = [
    "x' OR '1'='1", "') OR true --", '"] OR ["', '\n["a","b"]\n', "\\", "%", "_", "a\0b", "\ud800",
    "'; DROP TABLE chunks; --", "1 in (select 1)",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tag=news", [("tag", "=", ("news",))]),
        ("tag = two words ", [("tag", "=", ("two words",))]),
        ('tag=" kept "', [("tag", "=", (" kept ",))]),
        ("tag=", [("tag", "=", ("",))]),
        ("tag=a=b<c", [("tag", "=", ("a=b<c",))]),
        ("tag!=news", [("tag", "!=", ("news",))]),
        ("page>=3", [("page", ">=", ("3",))]),
        ("price < -9.5e1", [("price", "<", ("-9.5e1",))]),
        ("date<2026-04-01", [("date", "<", ("2026-04-01",))]),
        ("two words=x", [("two words", "=", ("x",))]),
        ("tag in a, b", [("tag", "in", ("a", "b"))]),
        ('tag in "a, b", c', [("tag", "in", ("a, b", "c"))]),
        ("tag in only", [("tag", "in", ("only",))]),
        ("page in 3..7", [("page", ">=", ("3",)), ("page", "<=", ("7",))]),
        ("date in 2026-01-01 .. 2026-02-01",
         [("date", ">=", ("2026-01-01",)), ("date", "<=", ("2026-02-01",))]),
        ("source in ../a.md, b.md", [("source", "in", ("../a.md", "b.md"))]),
        ("source in ../a.md", [("source", "in", ("../a.md",))]),
        ("title=come in here", [("title", "=", ("come in here",))]),
    ],
)  # fmt: skip
def test_what_is_written_is_what_is_meant(text: str, expected: list[tuple[str, ...]]) -> None:
    assert [(c.key, c.operator, c.values) for c in parse([text])] == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no key and operator"),
        ("news", "no key and operator"),
        ("=news", "no key and operator"),
        ("tag in a,", "list .* cannot be read"),
        ("tag in a,,b", "list .* cannot be read"),
        ('tag in "a" b', "list .* cannot be read"),
        ("page>three", "'three' after page > is neither a number nor a date"),
        ("page>nan", "neither a number nor a date"),
        ("page>1e999", "neither a number nor a date"),
        ("date<0001-01-01T00:00:00+14:00", "neither a number nor a date"),
        ("date>9999-12-31T23:59:59-01:00", "neither a number nor a date"),
        ("page in 3..x", "'x' after page <= is neither a number nor a date"),
        ("page>", "'' after page > is neither"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidFilter, match=why) as refused:
        parse([text])
    assert refused.value.hint


@given(st.text(min_size=1), st.lists(st.text(), min_size=2, max_size=4))
def test_every_text_can_be_written_as_a_json_string(value: str, items: list[str]) -> None:
    (one,) = parse(["key=" + json.dumps(value)])
    assert one.values == (utf8(value),)
    (listed,) = parse(["key in " + ", ".join(map(json.dumps, items))])
    assert listed.values == tuple(map(utf8, items))


# Against a table

VALUES = [
    "3",
    "07",
    "12.5",
    "-4",
    "2026-03-01",
    "2026-03-01T12:00:00+02:00",
    "news",
    "",
    *INJECTIONS,
]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """A passage for each value of ``tag``, and one without a tag."""
    store = FeatureStore(Layout(tmp_path_factory.mktemp("filters") / "store"))
    store.create(IDENTITY)
    store.replace(
        [
            an_update(f"/{n}.md", {f"text {n}": axis(1, n)}, metadata={"tag": value, "n": str(n)})
            for n, value in enumerate(VALUES)
        ]
        + [an_update("/none.md", {"no tag": axis(1)}, metadata={"n": "none"})]
    )
    return store


def found(features: FeatureStore, where: list[Condition]) -> set[str]:
    return {p.text for p in features.search_vector(axis(1), 99, where)}


def model(where: list[Condition]) -> set[str]:
    """What the conditions mean, without a database."""
    rows: dict[str, dict[str, str]] = {
        f"text {n}": {"tag": utf8(value), "n": str(n)} for n, value in enumerate(VALUES)
    }
    rows["no tag"] = {"n": "none"}
    return {text for text, facts in rows.items() if all(c.matches(facts.get(c.key)) for c in where)}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["tag>=3"], {"3", "07", "12.5"}),
        (["tag<3"], {"-4"}),
        (["tag in 3..7"], {"3", "07"}),
        (["tag>2026-03-01"], {"2026-03-01T12:00:00+02:00"}),
        (["tag<=2026-03-01T10:00Z"], {"2026-03-01", "2026-03-01T12:00:00+02:00"}),
        (["tag in news, 3"], {"news", "3"}),
        (["tag=news", "n>=0"], {"news"}),
        (["tag=news", "n<0"], set()),
        (["tag=0003"], set()),
    ],
)
def test_numbers_dates_lists_and_ranges_select(
    features: FeatureStore, texts: list[str], expected: set[str]
) -> None:
    assert found(features, list(parse(texts))) == {f"text {VALUES.index(v)}" for v in expected}


def test_not_equal_includes_passages_without_the_key(features: FeatureStore) -> None:
    assert found(features, list(parse(["tag!=news"]))) == model([Condition("tag", "!=", ("news",))])
    assert "no tag" in found(features, list(parse(["tag!=nothing has this"])))


_conditions = st.builds(
    Condition,
    key=st.sampled_from(["tag", "n"]),
    operator=st.sampled_from(["=", "!=", "in"]),
    values=st.tuples(st.sampled_from(VALUES) | st.text(max_size=12)),
) | st.builds(
    Condition,
    key=st.sampled_from(["tag", "n"]),
    operator=st.sampled_from(["<", "<=", ">", ">="]),
    values=st.tuples(st.integers(-20, 20).map(str) | st.dates().map(str)),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=st.lists(_conditions, min_size=1, max_size=3))
@example(where=[Condition("tag", "=", ("x' OR '1'='1",))])
@example(where=[Condition("tag", "!=", ("') OR true --",))])
def test_no_text_selects_more_or_less_than_it_says(
    features: FeatureStore, where: list[Condition]
) -> None:
    assert found(features, where) == model(where)


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize("key", ["source", "title", "media_type", "document"])
def test_columns_take_hostile_texts_as_texts(features: FeatureStore, key: str, text: str) -> None:
    assert found(features, [Condition(key, "=", (text,))]) == set()
    assert found(features, [Condition(key, "in", (text, "x"))]) == set()
    assert len(found(features, [Condition(key, "!=", (text,))])) == len(VALUES) + 1


def test_documents_are_selected_by_when_they_were_taken(features: FeatureStore) -> None:
    assert len(found(features, list(parse(["ingested_at>=2020-01-01"])))) == len(VALUES) + 1
    assert found(features, list(parse(["ingested_at<2020-01-01"]))) == set()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("colour=red", "no 'colour' to filter by"),
        ("title>3", "'title' is not compared by >"),
        ("document<3", "'document' is not compared by <"),
        ("ingested_at=2026-01-01", "'ingested_at' is compared with a date"),
        ("ingested_at>3", "'ingested_at' is compared with a date"),
    ],
)
def test_what_passages_cannot_be_asked_is_refused(
    features: FeatureStore, text: str, why: str
) -> None:
    with pytest.raises(InvalidFilter, match=why) as refused:
        found(features, list(parse([text])))
    assert refused.value.hint


def test_a_range_over_many_values_selects_as_one_over_few(features: FeatureStore) -> None:
    features.replace(
        [an_update(f"/many/{n}.md", [f"page {n}"], metadata={"page": str(n)}) for n in range(100)]
    )
    assert found(features, list(parse(["page in 10..89"]))) == {f"page {n}" for n in range(10, 90)}
    features.delete([r.id for r in features.records() if r.source.startswith("/many/")])


@pytest.mark.parametrize(
    ("text", "holds"),
    [("page>=4", True), ("page>4", False), ("page<=3", True), ("page<3", False)],
)
def test_a_passage_over_two_pages_is_on_both(text: str, holds: bool) -> None:
    (condition,) = parse([text])
    assert condition.matches("3-4") is holds
    assert not condition.matches("4-3")


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-01:00"])
def test_a_date_that_no_calendar_holds_is_no_date_of_a_passage(value: str) -> None:
    for condition in parse(["date<2026-01-01", "date>2026-01-01", "date>3"]):
        assert not condition.matches(value)
    assert Condition("date", "=", (value,)).matches(value), "it is still a text"


def test_one_document_with_such_a_date_hides_no_other(features: FeatureStore) -> None:
    strange = an_update("/dated/1.md", ["strange"], metadata={"date": "0001-01-01T00:00:00+14:00"})
    dated = an_update("/dated/2.md", ["dated"], metadata={"date": "2026-03-01"})
    features.replace([strange, dated])
    assert found(features, list(parse(["date<2026-04-01"]))) == {"dated"}
    features.delete([r.id for r in features.records() if r.source.startswith("/dated/")])


def test_pairs_are_conditions_too() -> None:
    assert conditions({"a": "b"}) == (Condition("a", "=", ("b",)),)
    assert conditions(None) == ()
