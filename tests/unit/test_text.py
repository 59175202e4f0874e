"""What people write, made safe: nothing of what it says is lost, nothing that harms is kept."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.language import Language, language_of
from core.text import COMBINING_LIMIT, NotText, clean

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
HEAPS = st.text(st.sampled_from("a我 \n\x00\u0301\u0327\u0488\u0d3e\u302e\u1100\u1161\u202e\u200d\U0001d165"))


@given(TEXT | HEAPS)
@example("a" + "\u0301" * 8 + "\x00" + "\U0001d165" + "\u0301" * 8)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once = clean(text)
    assert clean(once) == once


@given(TEXT | HEAPS)
def test_what_is_clean_can_be_stored_and_shown(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert cleaned == cleaned.strip() and unicodedata.is_normalized("NFC", cleaned)
    assert not any(
        unicodedata.category(character) == "Cc" and character not in "\n\t" for character in cleaned
    )
    marks = longest = 0
    for character in cleaned:
        marks = marks + 1 if unicodedata.combining(character) else 0
        longest = max(longest, marks)
    assert longest <= COMBINING_LIMIT


@given(st.text(st.sampled_from("今天好累，abc é?！😀👨‍👩‍👧 नमस्ते \n\t")))
def test_ordinary_writing_is_left_as_it_is(text: str) -> None:
    assert clean(text) == unicodedata.normalize("NFC", text).strip()


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("  你好  ", "你好"),
        ("一\r\n二\r三", "一\n二\n三"),
        ("a\x00b\x1b[31mc\x7f", "ab[31mc"),
        ("\u202eevil\u202c", "evil"),
        ("e\u0301", "é"),
        ("z" + "\u0335" * 300, "z" + "\u0335" * COMBINING_LIMIT),
        ("👨‍👩‍👧‍👦🏳️‍🌈", "👨‍👩‍👧‍👦🏳️‍🌈"),
        ("\u2066\u2069\x07 \n", ""),
        ("", ""),
    ],
)
def test_examples(written: str, kept: str) -> None:
    assert clean(written) == kept


@pytest.mark.parametrize("broken", ["\ud800", "你好\udfff", "\ud83d\ude00"])
def test_half_characters_are_no_text(broken: str) -> None:
    with pytest.raises(NotText):
        clean(broken)


# --- which language -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hint", "language"),
    [
        ("今天好累", "en", Language.ZH),
        ("so tired today", "zh-hans", Language.EN),
        ("今天 so tired", None, Language.ZH),
        ("㐀", "en", Language.ZH),
        ("😔", "en-GB", Language.EN),
        ("😔", "fr", Language.EN),
        ("😔", "ZH-TW", Language.ZH),
        ("...", None, Language.ZH),
        ("", None, Language.ZH),
    ],
)
def test_the_language_to_answer_in(text: str, hint: str | None, language: Language) -> None:
    assert language_of(text, hint) is language


@given(
    st.text(),
    st.none() | st.text(max_size=8),
    st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1),
)
def test_one_han_character_anywhere_makes_it_chinese(text: str, hint: str | None, han: str) -> None:
    assert language_of(text + han, hint) is language_of(han + text, hint) is Language.ZH


@given(st.text(st.characters(exclude_categories=["L"])))
def test_without_letters_the_platform_decides(text: str) -> None:
    assert language_of(text, "en") is Language.EN
    assert language_of(text, "zh-Hant") is Language.ZH
    assert language_of(text) is Language.ZH
