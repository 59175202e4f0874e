"""The estimate of tokens: rather too many than too few, and never far off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model.tokens import estimate_tokens


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("word", 1), ("words", 2), ("你好", 2), ("你好 ok", 3), ("😀", 1)]
)
def test_examples(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


@given(st.text(), st.text())
def test_parts_never_take_fewer_than_the_whole(one: str, other: str) -> None:
    whole = estimate_tokens(one + other)
    assert max(estimate_tokens(one), estimate_tokens(other)) <= whole
    assert whole <= estimate_tokens(one) + estimate_tokens(other) <= whole + 1


@given(st.text(min_size=1))
def test_a_character_is_a_token_at_most_and_a_quarter_at_least(text: str) -> None:
    assert len(text) / 4 <= estimate_tokens(text) <= len(text)
