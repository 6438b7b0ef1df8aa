"""Conditions come as values, as texts and as pairs, and mean the same."""

from __future__ import annotations

import pytest

from fti.store.errors import InvalidFilter
from fti.store.tabular.where import Condition, Where, conditions

PAGE = Condition("page", ">=", ("3",))


@pytest.mark.parametrize("where", [[PAGE], ["page>=3"], "page>=3", (PAGE,)])
def test_every_form_is_the_same_condition(where: Where) -> None:
    assert conditions(where) == (PAGE,)


def test_texts_and_values_can_be_mixed() -> None:
    assert conditions([PAGE, "tag in a, b"]) == (PAGE, Condition("tag", "in", ("a", "b")))
    assert conditions(None) == conditions([]) == conditions({}) == ()


def test_a_text_that_is_no_condition_is_refused() -> None:
    with pytest.raises(InvalidFilter, match="no key and operator"):
        conditions("news")
